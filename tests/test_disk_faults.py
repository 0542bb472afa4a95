"""A disk that is full, failing, read-only or gone, at every call of a run that writes: one line, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from commands import stacks as stacks

HERE = Path(__file__).parent
JOB = """regions = "none"
[input]
maps = { Co = "Co.npy" }
tilts = "tilts.rawtlt"
pixel_size_nm = 5.0
[align]
method = "none"
[reconstruct]
method = "tv"
strength = 0.5
max_iterations = 5
[output]
alignment = ["xf"]
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, stacks):
    """What came of each fault, see disk_faults.py."""
    if not sys.platform.startswith("linux") or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc, to put itself between the program and the disk")
    folder = tmp_path_factory.mktemp("disk")
    shim = folder / "disk.so"
    done = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", shim, HERE / "disk_shim.c", "-ldl"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the shim does not compile here: {done.stderr[-300:]!r}")
    maps, tilts = stacks
    np.save(folder / "Co.npy", maps["Co"][::3])  # five tilts: some seventy runs are made of them
    np.savetxt(folder / "tilts.rawtlt", tilts[::3])
    (folder / "job.toml").write_text(JOB)
    (folder / "earlier").mkdir()
    (folder / "earlier" / "Co.tif").write_bytes(b"earlier results")
    (folder / "earlier" / "job.json").write_text("{}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "LD_PRELOAD": str(shim)}
    done = subprocess.run(
        [sys.executable, HERE / "disk_faults.py", shim, folder, "quick"], capture_output=True, text=True, check=False,
        env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_kind_of_call_on_each_file_of_a_run_is_made_to_fail(outcomes):
    calls = {o["call"] for o in outcomes}
    for name in ("job.json", "alignment.json", "alignment-frames.npz", "Co.state.npz", "Co.volume.npz", "series.npz"):
        assert any(name in c and c.startswith("write") for c in calls), name
    assert {c.split()[0] for c in calls} >= {"open", "write", "fsync", "rename", "mkdir", "unlink"}
    assert {o["error"] for o in outcomes} == {"ENOSPC", "EIO", "EROFS", "ESTALE"}
    assert len(outcomes) > 40


def test_no_traceback_and_one_line_of_error(outcomes):
    for o in outcomes:
        assert o["raised"] is None, o
        errors = [line for line in o["said"].splitlines() if line.startswith("error: ")]
        assert len(errors) == (o["status"] != 0), o
        assert "Traceback" not in o["said"], o
        assert not errors or o["said"].splitlines()[-1] == errors[0], o


def test_the_line_names_the_results_and_what_the_disk_said(outcomes):
    words = {"ENOSPC": "full", "EIO": "Input/output error", "EROFS": "Read-only", "ESTALE": "network disk"}
    for o in outcomes:
        if o["status"]:
            last = o["said"].splitlines()[-1]
            assert "/disk/out" in last, o
            assert words[o["error"]] in last or "earlier results" in last, o
            assert ".partial-" not in last, o


def test_results_are_the_new_ones_whole_or_the_earlier_ones_whole(outcomes):
    for o in outcomes:
        if o["status"] == 0:
            assert o["found"] == "new", o
        else:
            assert o["status"] == 2, o
            # a disk that fails for good while folders change places keeps the earlier one under a hidden name
            assert o["found"] == "earlier" or o["kept_aside"], o


def test_resume_finishes_bit_for_bit(outcomes):
    tried = [o for o in outcomes if o["again"] is not None]
    assert len(tried) > 15
    for o in tried:
        assert o["again"] == 0, o
        assert o["finished"], o
