"""Pages that are made from other files while the site is built: figures, the reference of job files.

The pages themselves are no part of the repository.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent.parent
RESULTS = HERE.parent / "benchmarks" / "results"


def figures() -> str:
    """``figures.md`` from its template and the results of the benchmarks."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["f"] = lambda value, digits=2: f"{value:.{digits}f}"
    environment.filters["g"] = lambda value, digits=2: f"{value:.{digits}g}"
    environment.filters["percent"] = lambda value, digits=0: f"{100 * value:.{digits}f} %"

    def result(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))

    def cells(name: str, **wanted: Any) -> list[dict[str, Any]]:
        """Cells of a table of kernels whose values are these, or among these."""
        return [
            cell
            for cell in result(name)["cells"]
            if all(cell[k] in v if isinstance(v, list) else cell[k] == v for k, v in wanted.items())
        ]

    def span(values: list[float], digits: int = 0) -> str:
        """``45 to 57``."""
        low, high = (f"{v:.{digits}f}" for v in (min(values), max(values)))
        return low if low == high else f"{low} to {high}"

    source = (HERE / "figures.md.jinja").read_text("utf-8")
    return environment.from_string(source).render(result=result, cells=cells, span=span, min=min, max=max)


def job_file() -> str:
    """The reference of job files from the models that check them: every table, key, default and choice."""
    from recon.job.file.sections import Job, Section

    lines = [
        "# Job file",
        "",
        "Every key, made from the definition that checks job files. Paths are relative to the job file. A key that",
        "does not exist is an error that names the nearest one.",
        "",
    ]
    for name, field in Job.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            lines += [f"`{name}`", f": {_said(field)}", ""]
            continue
        about = " ".join((section.__doc__ or "").split()).removeprefix(f"``[{name}]``").lstrip(":;, ")
        lines += [f"## `[{name}]`", "", f"{about[:1].upper()}{about[1:]}" if about else "", ""]
        for key, inner in section.model_fields.items():
            lines += [f"`{key}`", f": {_said(inner)}", ""]
    return "\n".join(lines) + "\n"


def _said(field: Any) -> str:
    """What there is to say of a key: its description, its choices and its default."""
    parts = [field.description] if field.description else []
    choices = [repr(v).replace("'", '"') for v in _literals(field.annotation)]
    if choices and field.description and len(choices) > 1:
        parts.append("One of " + ", ".join(f"`{c}`" for c in choices) + ".")
    if field.is_required():
        parts.append("Must be given.")
    elif field.default is None:
        parts.append("No default.")
    else:
        parts.append(f"Default: `{_toml(field.default)}`.")
    return " ".join(parts)


def _literals(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in (typing.Union, typing.Annotated):
        return [v for part in typing.get_args(annotation) for v in _literals(part)]
    return []


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{}" if not value else "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def write_pages(app: Sphinx) -> None:
    """Write them where the builder finds them."""
    for page, text in (("figures.md", figures()), ("reference/job-file.md", job_file())):
        target = HERE / page
        if not target.exists() or target.read_text("utf-8") != text:
            target.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
