"""The floor plan: every file lies in a room, imports point down, nothing goes round in a circle, files stay short."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# highest first: a room imports from itself and from what stands below it
ROOMS = (
    "__main__", "cli", "__init__", "cluster", "job", "report", "analysis", "reconstruction", "alignment",
    "preparation", "model", "eds", "solvers", "operators", "simulate", "io", "series", "geometry", "parallel",
    "kernels", "backend", "files", "errors", "_version",
)  # fmt: skip
TOP = ("benchmarks", "docs", "examples", "kernels", "recon", "tests", "bootstrap.py")  # of the root, code and texts
MOST_ROOMS = 25
LONGEST = 420  # lines of a source file


def module_name(path: Path) -> str:
    """``recon/io/read.py`` -> ``recon.io.read``; the device code under its installed name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("recon", *parts) if parts[0] == "kernels" else parts
    return ".".join(parts)


@cache
def sources() -> dict[str, Path]:
    """Every module of the program by its name."""
    own = [p for p in (ROOT / "recon").rglob("*.py") if p.relative_to(ROOT).parts[1] != "kernels"]
    return {module_name(p): p for p in sorted([*own, *(ROOT / "kernels").glob("*.py")])}


def imported(tree: ast.AST, package: str, known: set[str]) -> Iterator[tuple[str, int]]:
    """The modules of recon that an import statement names, wherever it stands, and the lines."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            full = [f"{source}.{alias.name}" for alias in node.names]
            # a name may be a module of the package, or something that the module defines
            names = [n if n in known or f"{n}.__init__" in known else source for n in full]
        for name in names:
            if name.split(".")[0] == "recon":
                yield (f"{name}.__init__" if f"{name}.__init__" in known else name), node.lineno


def room(module: str) -> str:
    return module.split(".")[1]


@cache
def names_imported(module: str) -> tuple[tuple[str, int], ...]:
    code = sources()[module].read_text("utf-8")
    return tuple(imported(ast.parse(code), module.rpartition(".")[0], set(sources())))


def test_every_file_lies_in_a_room():
    for module, path in sources().items():
        assert room(module) in ROOMS, f"{path} lies in no room of the plan"


@pytest.mark.parametrize("module", [m for m in sources() if m != "recon.__init__"])
def test_imports_point_down(module):
    path = sources()[module]
    for other, line in names_imported(module):
        if other == "recon.__init__":
            continue  # its names are imported when they are asked for
        assert ROOMS.index(room(other)) >= ROOMS.index(room(module)), f"{path}:{line}: {module} imports {other} above"


def test_no_circle_of_imports():
    graph = {
        module: {other for other, _ in names_imported(module) if other not in (module, "recon.__init__")}
        for module in sources()
        if module != "recon.__init__"
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_rule_sees_every_form():
    code = (
        "import recon.cli\nfrom recon import backend, __version__\nfrom ..io import read\nfrom . import sirt\n"
        "def later():\n    from recon.io.read import read\n    import numpy"
    )
    seen = [name for name, _ in imported(ast.parse(code), "recon.solvers", set(sources()))]
    assert sorted(seen) == [
        "recon.__init__", "recon.backend", "recon.cli", "recon.io.read", "recon.io.read", "recon.solvers.sirt"
    ]  # fmt: skip


def test_few_rooms_at_the_top():
    code = {p.name.removesuffix(".py") for p in (ROOT / "recon").iterdir() if p.suffix in ("", ".py")}
    assert len(code - {"__pycache__", "__init__", "__main__", "_version"}) <= MOST_ROOMS
    texts = {p.name for p in ROOT.iterdir() if p.is_dir() or p.suffix == ".py"}
    hidden = {n for n in texts if n.startswith(".") or n.endswith((".egg-info", "-out")) or n in ("build", "dist")}
    assert texts - hidden - {"__pycache__"} <= set(TOP)


def test_no_long_file():
    folders = ("recon", "kernels", "tests", "benchmarks", "docs", "examples")
    found = [p for f in folders for s in ("*.py", "*.cu", "*.cuh") for p in (ROOT / f).rglob(s)]
    long = {str(p.relative_to(ROOT)): n for p in found if (n := len(p.read_text("utf-8").splitlines())) > LONGEST}
    assert not long
