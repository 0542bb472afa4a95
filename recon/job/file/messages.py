"""What is wrong in a job file, in one line: ``FILE:LINE: KEY: what is wrong; what to do``."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from typing import Any

from pydantic import BaseModel, ValidationError

from recon.job.file.sections import Job
from recon.job.file.values import describe, nearest


def one_line(shown: str, line: int | None, loc: tuple[Any, ...], message: str) -> str:
    """What is wrong with the key at `loc`."""
    where = shown if line is None else f"{shown}:{line}"
    return " ".join(f"{where}: {'.'.join(map(str, loc))}: {message}".split())


def syntax(shown: str, text: str, message: str) -> str:
    """What tomllib says of a file that is not TOML."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: found.start()] if found else message
    line = found[1] if found and found[1] else str(len(text.rstrip("\n").split("\n")))
    column = f" at column {found[2]}" if found and found[2] else ""
    written = text.split("\n")[int(line) - 1] if int(line) <= text.count("\n") + 1 else ""
    windows = re.search(r'"([^"\\]*\\[^"]*)"', written)
    if windows and ("hex" in what or "escape" in what):
        path = windows[1].replace("\\\\", "\\")
        return (
            f"{shown}:{line}: a backslash in double quotes has another meaning; put the path in single quotes: '{path}'"
        )
    hint = next((f"; {remedy}" for pattern, remedy in _HINTS if re.search(pattern, written)), "")
    return " ".join(f"{shown}:{line}: not valid TOML{column}: {what[:1].lower()}{what[1:]}".split()) + hint


_HINTS = (  # what stands in a line that the parser does not take, and what to write instead
    ("[\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb]", "put text between straight quotes, \" or '"),
    ("[\u00a0\u2007\u202f\u200b]", "it holds a character that only looks like a blank; type the line anew"),
    (r"=\s*[+-]?\d+,\d+\s*(#.*)?$", "write a decimal point, not a comma"),
    (r"=\s*(True|False|TRUE|FALSE|yes|no|on|off)\b", "write true or false, in small letters"),
    (r"=\s*[+-]?[\d.]+\s*[A-Za-z\u00b5\u03bc%\u00b0]+\s*(#.*)?$", "write the number alone, without a unit"),
    (r"=\s*[A-Za-z~./][^\"'=]*$", "put text between double quotes"),
    (r"^\s*[\w\"']+\s*:", "write key = value, under a heading in [ ]"),
)


def line_of(text: str, loc: tuple[Any, ...]) -> int | None:
    """Line on which a key is given, or else the table around it.

    The parser itself looks: of the beginnings of the file that are valid TOML, the first that holds the key
    ends with the statement that gives it.
    """
    lines = text.split("\n")
    if len(lines) > 2000:
        return None
    keys = [part for part in loc if isinstance(part, str)]
    found: dict[int, int] = {}
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            table: Any = tomllib.loads("\n".join(lines[:end]))
        except ValueError:
            continue  # inside a value of several lines
        for depth, key in enumerate(keys, start=1):
            if not isinstance(table, dict) or key not in table:
                break
            table = table[key]
            found.setdefault(depth, start)
        start = end + 1
    return found[max(found)] if found else None


def worst(error: ValidationError, text: str) -> tuple[tuple[Any, ...], str]:
    """The error to report: an unknown key, which explains others, or else the first in the file; missing ones last."""
    found, order = [], {"extra_forbidden": 0, "missing": 2}
    for item in error.errors():
        loc = tuple(part for part in item["loc"] if part != "[key]")
        found.append((order.get(item["type"], 1), line_of(text, loc) or math.inf, loc, _say(item, loc)))
    _, _, loc, message = min(found, key=lambda entry: entry[:2])
    return loc, message


def _say(item: Any, loc: tuple[Any, ...]) -> str:
    """One of pydantic's errors in plain words."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_where_to(str(loc[-1]), loc[:-1])}"
    if kind == "missing":
        return "is missing; " + REMEDY.get(loc, "give it")
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = _choices(loc)
        hint = nearest(value, choices) if isinstance(value, str) else f"use {', '.join(choices)}"
        return f"{describe(value)} is not one of its values; {hint}"
    if loc in _LIMITS and not kind.endswith("_type"):
        return f"is {describe(value)}; it must be {_LIMITS[loc]}"
    wanted = _TYPES.get(kind)
    return f"must be {wanted}, not {describe(value)}" if wanted else str(item["msg"])


_TYPES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "tuple_type": "a list in [ ]",
    "dict_type": 'a table, such as { Co = "Co.tif" }',
    "model_type": "a table, with its keys below [name]",
    "model_attributes_type": "a table, with its keys below [name]",
}
_LIMITS = {
    ("reconstruct", "tolerance"): "above 0 and below 1, such as 1e-2",
    ("reconstruct", "max_iterations"): "from 1 to 1000000",
    ("maps", "window"): "from 0.2 to 5, in units of the line's FWHM",
    ("maps", "bin"): "from 1 to 64 pixels",
    ("maps", "resolution_ev"): "above 20 and below 1000 eV",
}
REMEDY = {
    ("input",): "begin the file with [input], maps and tilts",
    ("input", "maps"): 'add maps = { Co = "Co.tif" }, or spectra = "tilt_*.bcf" and lines = ["Co_Ka"]',
    ("input", "tilts"): 'add tilts = "tilts.rawtlt", a list, or { start = -70, stop = 70, step = 10 }',
}


def _model(loc: tuple[Any, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Job
    for part in loc:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    return model


def _tables() -> dict[str, type[BaseModel]]:
    """The tables of a job file whose keys are known: not those that the user names."""
    found = {name: field.annotation for name, field in Job.model_fields.items()}
    return {name: a for name, a in found.items() if isinstance(a, type) and issubclass(a, BaseModel)}


def _choices(loc: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']+)'", repr(_model(loc[:-1]).model_fields[loc[-1]].annotation)))


def _where_to(key: str, section: tuple[Any, ...]) -> str:
    """The nearest key of the same section, or the section that has this key."""
    here = tuple(_model(section).model_fields)
    if not difflib.get_close_matches(key.casefold(), here, n=1, cutoff=0.5):
        for name, model in _tables().items():
            if (name,) != section and key in model.model_fields:
                return f"it belongs in [{name}]"
    return nearest(key, here)
