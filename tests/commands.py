"""What the tests of commands share: a folder with two stacks, a job file, and what wrong input gets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recon.cli import cli
from recon.simulate import simulate

ROOT = Path(__file__).resolve().parent.parent
N = 16
HANGS = 900.0  # seconds after which a process hangs, on the busiest of machines
RECORDS = ["alignment-frames.npz", "alignment.json", "job.json"]
QUICK = '[align]\nmethod = "none"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'


def recon_(*args, cwd=None, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recon", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=HANGS, **options
    )


def invoke(*args):
    return CliRunner().invoke(cli, [str(a) for a in args])


def contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def fails(folder, *args, status=2):
    """Run in this process; one line of error, nothing written. Returns that line without its `error: `."""
    before = contents(folder)
    done = invoke(*args)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == status
    assert "Traceback" not in done.output
    *logged, last = done.stderr.rstrip("\n").split("\n")
    assert last.startswith("error: ")
    assert all(re.match(r" *\d+\.\d s  ", line) for line in logged), logged
    assert contents(folder) == before
    return last.removeprefix("error: ")


def strict(path):
    """JSON without NaN and infinity."""

    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="session")
def stacks():
    series, _ = simulate(size=N, seed=0, drift=1)
    return dict(zip(series.elements, series.counts, strict=True)), series.tilts_deg


def filled(path, stacks):
    """A folder with the two stacks and their tilts in it."""
    maps, tilts = stacks
    for name, counts in maps.items():
        np.save(path / f"{name}.npy", counts)
    np.savetxt(path / "tilts.rawtlt", tilts)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, stacks):
    """A folder with two stacks and tilts; the working directory."""
    monkeypatch.chdir(tmp_path)
    return filled(tmp_path, stacks)


def job(name="job.toml", extra=QUICK, tilts='"tilts.rawtlt"', co="Co.npy", zn="Zn.npy", top="", report=False):
    """A job file that asks about no regions; its report takes most of the time of so small a job."""
    last = "" if report or "[output]" in extra else "[output]\nreport = false\n"
    Path(name).write_text(
        f'{top}regions = "none"\n[input]\nmaps = {{ Co = "{co}", Zn = "{zn}" }}\ntilts = {tilts}\n'
        f"pixel_size_nm = 5.0\n{extra}\n{last}"
    )
    return Path(name)
