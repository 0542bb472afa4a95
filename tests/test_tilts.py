"""Tilts from files, lists and ranges, and every wrong one in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from files import fails
from files import silent as silent  # a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import InputError
from recon.io import read_tilts


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(-60, 60),
    step=st.sampled_from([0.1, 0.3, 1 / 3, 1, 1.1, -0.7, -1.3]),
    n=st.integers(40, 90),
)
def test_a_range_holds_both_ends(start, step, n):
    stop = start + step * n
    tilts = read_tilts({"start": start, "stop": stop, "step": step})
    assert tilts.size == n + 1
    assert (tilts[0], tilts[-1]) == (start, stop)
    np.testing.assert_allclose(np.diff(tilts), step)


def test_the_papers_range():
    assert read_tilts({"start": -70, "stop": 70, "step": 10}).tolist() == list(range(-70, 71, 10))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"start": -70, "stop": 75, "step": 10}, ("75", "stop = 70")),
        ({"start": -70, "stop": 70, "step": -10}, "change its sign"),
        ({"start": -70, "stop": 70, "step": 0}, "step"),
        ({"start": -70, "stop": 70, "step": 1e-9}, "more than"),
        ({"start": -70, "stop": 70}, "start, stop and step"),
        ({"start": -70, "stop": 70, "step": 10, "n": 3}, "start, stop and step"),
        ({"start": -70, "stop": "70", "step": 10}, "stop"),
        ({"start": -70, "stop": float("inf"), "step": 10}, "stop"),
        ({"start": -70, "stop": True, "step": 10}, "stop"),
        ({"start": 10, "stop": 20, "step": 10}, "2 tilts"),
        ([1, 2], "2 tilts"),
        ([1, 2, 2, 3], "2 appears more than once"),
        ([-1.2, -0.6, 0, 0.6, 0.7], "radians"),
        ([0, 10, float("nan")], "finite"),
        (["a", "b", "c"], "list"),
        ([[1, 2], [3, 4]], "flat list"),
        ([True, False, True], "list"),
        (3, "list"),
    ],
)
def test_wrong_tilts(spec, says):
    fails(InputError, read_tilts, spec, says=says)


@settings(max_examples=40, deadline=None)
@given(
    tilts=st.lists(st.integers(-9000, 9000), min_size=3, max_size=30, unique=True).filter(lambda t: np.ptp(t) > 400),
    newline=st.sampled_from(["\n", "\r\n"]),
    suffix=st.sampled_from([".rawtlt", ".tlt", ".txt", ".csv", ".TLT"]),
    bom=st.booleans(),
)
def test_tilt_files(tilts, newline, suffix, bom):
    lines = [f"  {t / 100:.2f}" + ("  # good" if t % 3 == 0 else "") for t in tilts]
    text = newline.join(["# tilts", "", *lines, "", ""])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"a{suffix}").write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        np.testing.assert_allclose(read_tilts(f"a{suffix}", folder), np.array(tilts) / 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\n2\n\nx\n", ":4: 'x'"),
        ("1\n2,5\n3\n", ":2: '2,5'"),
        ("1\n2 3\n", ":2: '2 3'"),
        ("1\n1_0\n30\n", ":2: '1_0'"),
        ("1\nnan\n30\n", ":2: 'nan'"),
        ("angle\n1\n", ":1: 'angle'"),
        ("1e999\n2\n3\n", "finite"),
        ("", "no tilts"),
        ("# none\n", "no tilts"),
        ("1\n2\n", "2 tilts"),
        ("1\n2\n1\n", "more than once"),
        ("\udcff", "not text"),
    ],
)
def test_wrong_tilt_files(tmp_path, text, says):
    path = tmp_path / "a.rawtlt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    fails(InputError, read_tilts, path, says=(str(path), says))


def test_wrong_tilt_paths(tmp_path):
    fails(InputError, read_tilts, "no.tlt", tmp_path, says="does not exist")
    (tmp_path / "d.tlt").mkdir()
    fails(InputError, read_tilts, "d.tlt", tmp_path, says="is a folder")
    (tmp_path / "a.xlsx").write_text("1\n")
    fails(InputError, read_tilts, "a.xlsx", tmp_path, says=("'.xlsx'", ".rawtlt"))
    fails(InputError, read_tilts, "a\0.tlt", tmp_path)
