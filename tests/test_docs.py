"""The documentation says what is: keys of job files, code that is shown, examples in docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import runpy
import tomllib
from pathlib import Path

import pytest

import recon
from recon.job.file.sections import Job, Section

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [p for p in PAGES if "_build" not in p.parts and "gallery" not in p.parts]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


def blocks(language):
    found = []
    for page in PAGES:
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S):
            found.append(pytest.param(block, id=f"{page.stem}-{len(found)}"))
    return found


def test_every_key_of_a_job_file_is_described():
    for name, field in Job.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            assert section.__doc__, name
            silent = [key for key, inner in section.model_fields.items() if not inner.description]
            assert not silent, f"[{name}] {silent}"
        else:
            assert field.description, name


@pytest.mark.parametrize("block", blocks("toml"))
def test_job_files_that_are_shown_use_keys_that_exist(block):
    for table, values in tomllib.loads(block).items():
        assert table in Job.model_fields, table
        section = Job.model_fields[table].annotation
        if isinstance(values, dict) and isinstance(section, type) and issubclass(section, Section):
            known = set(section.model_fields)
            assert not known or section.model_config.get("extra") != "forbid" or set(values) <= known, values


@pytest.mark.parametrize("block", blocks("python"))
def test_code_that_is_shown_uses_names_that_exist(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "recon":
            assert hasattr(recon, node.attr), node.attr
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recon."):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 130


def modules_with_examples():
    found = [p for p in sorted((ROOT / "recon").rglob("*.py")) if ">>> " in p.read_text("utf-8")]
    return [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in found]


def test_examples_in_docstrings():
    names, tried = modules_with_examples(), 0
    for name in names:
        done = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
        assert done.failed == 0, name
        tried += done.attempted
    assert tried >= 8


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")
def test_examples_run(path, tmp_path, monkeypatch):
    """Each in this process, as a script; its pictures are made and not shown."""
    import matplotlib.pyplot as plt

    monkeypatch.setenv("RECON_EXAMPLE_SIZE", "16")
    monkeypatch.chdir(tmp_path)
    with plt.rc_context({"backend": "Agg"}):
        runpy.run_path(str(path), run_name="__main__")
    assert plt.get_fignums(), "an example ends in a figure"
    plt.close("all")
