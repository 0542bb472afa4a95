"""`recon report` on a folder that was changed or damaged: one line, or a report that says what is missing.

Each value of both records is replaced by something else, a sample of all such cases; ``RECON_SWEEP=1`` in the
environment takes every value by every replacement, which needs some twenty minutes.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from runs import write_run
from tifffile import imwrite

from recon.errors import ReconError
from recon.io import find_volume
from recon.report.page import rebuild_report
from recon.report.run_folder import read_run

OTHERS = [None, True, 0, 7, -1.5, 1e308, 10**30, "text", "", [], {}, [1], {"a": 1}, 1e400, [[1, 2], [3]]]
DELETED = object()
SWEEP = bool(os.environ.get("RECON_SWEEP"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("whole") / "run", size=12)


@pytest.fixture
def run(whole, tmp_path, monkeypatch):
    """A copy of a run; figures are made and not drawn, which takes most of a report's time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, target, *a, **k: target.write(b"<svg></svg>"))
    return Path(shutil.copytree(whole, tmp_path / "run"))


def paths(value, at=()):
    """Every key of a JSON value, and the first entry of each list."""
    if at:
        yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inside:
        yield from paths(item, (*at, key))


def kind(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def changed(record, at, new):
    record = copy.deepcopy(record)
    place = record
    for key in at[:-1]:
        place = place[key]
    if new is DELETED:
        del place[at[-1]]
    else:
        place[at[-1]] = new
    return record


def outcome(folder):
    """The page, or the one line that was said instead; anything else fails."""
    try:
        rebuild_report(folder)
    except ReconError as exc:
        said = str(exc)
        assert said
        assert "\n" not in said
        assert len(said) < 400, said
        return said
    return (folder / "report.html").read_text()


def told(folder):
    """What the page would say is missing, or the one line instead of it; without the page, which takes far longer."""
    try:
        return "\n".join(read_run(folder, "run").missing)
    except ReconError as exc:
        return str(exc)


def cases(record):
    """Each value replaced by another, most of them of another type, or left out: in turn, or by all of them."""
    for k, at in enumerate(paths(record)):
        was = record
        for key in at:
            was = was[key]
        others = [v for v in OTHERS if v != was or kind(v) != kind(was)]
        others += [was[:-1], was * 2] if isinstance(was, list) and was else [-was] if kind(was) == "number" else []
        every = (*others, DELETED)
        yield from ((at, new) for new in (every if SWEEP else every[k % len(every) :][:1]))


@pytest.mark.parametrize("name", ["alignment.json", "job.json"])
def test_each_value_of_another_type(run, name):
    record = json.loads((run / name).read_text())
    outcomes = {}
    every = 1 if SWEEP else max(1, len(list(cases(record))) // 8)
    for at, new in list(cases(record))[::every]:
        (run / name).write_text(json.dumps(changed(record, at, new)))
        try:
            outcomes[at, repr(new)] = outcome(run)
        except Exception as exc:
            raise AssertionError(f"{name}: {'.'.join(map(str, at))} = {new!r}: {exc!r}") from exc
    assert len(outcomes) >= 8
    assert any(name in said for said in outcomes.values())


@pytest.mark.parametrize("name", ["alignment.json", "job.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"text"', "{}", "NaN", "\x00", "[" * 5000, "\xff"])
def test_a_file_that_is_no_record(run, name, text):
    (run / name).write_bytes(text.encode("latin-1"))
    assert name in told(run)
    assert text != "{" or name in outcome(run)


FILES = (
    "Co.tif", "mask.tif", "regions.tif", "Co-uncertainty.tif", "truth-Co.tif", "alignment-frames.npz", "alignment.json",
    "job.json",
)  # fmt: skip
HOW = ("gone", "empty", "cut", "other", "folder")


# the page itself once for each file; that of the alignment's frames alone is read where its figure is made
GONE_OR_DAMAGED = [
    (name, HOW[(i + k) % 5], outcome if k == 0 or name.endswith(".npz") else told)
    for i, name in enumerate(FILES)
    for k in (0, 2)
]


@pytest.mark.parametrize(("name", "how", "says"), GONE_OR_DAMAGED)
def test_a_file_that_is_gone_or_damaged(run, name, how, says):
    path = run / name
    data = path.read_bytes() if path.exists() else b"x" * 64
    path.unlink(missing_ok=True)
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "other": b"not what it was" * 20}[how])
    page = says(run)
    stem = name.split(".")[0]
    optional = name == "alignment-frames.npz" and how == "gone"  # older runs have none
    assert optional or stem in page or stem.split("-")[-1] in page


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_that_holds_no_numbers_is_told(run, value):
    values, _ = find_volume(run, "Co")
    values = np.array(values)
    values[2, 3, 4] = value
    imwrite(run / "Co.tif", values.astype(np.float32), imagej=True, metadata={"axes": "ZYX", "unit": "nm"})
    assert "Missing: Co holds values that are not finite; it is not shown" in outcome(run)


def test_a_folder_that_is_no_run(tmp_path):
    for folder in (tmp_path, tmp_path / "not there"):
        assert str(folder) in outcome(folder)
    (tmp_path / "file").write_text("")
    assert "file" in outcome(tmp_path / "file")
