"""Sweeps from Python: the same results and the same table whoever runs them."""

from __future__ import annotations

import csv
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import folder as folder  # a fixture
from commands import invoke, job
from commands import stacks as stacks

import recon
from recon.errors import JobError
from recon.io import read_volume

GRID = {"reconstruct.max_iterations": [2, 3]}


class Here(Executor):
    """Calls at once, and counts."""

    def __init__(self):
        self.calls = []

    def submit(self, function, /, *args, **kwargs):
        self.calls.append((function, args))
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


def plain(rows):
    return [(Path(r.job).name, r.element, dict(r.parameters), r.state, r.iterations, r.objective) for r in rows]


def test_every_executor_gives_the_same(folder):
    """In this process, in its threads and in other processes: rows and volumes; each job is aligned once."""
    job("a.toml")
    here = Here()
    rows = recon.sweep("a.toml", GRID, out="here", executor=here)
    assert len(here.calls) == 1 + 2
    assert [(r.element, r.parameters["reconstruct.max_iterations"], r.iterations) for r in rows] == [
        ("Co", 2, 2), ("Zn", 2, 2), ("Co", 3, 3), ("Zn", 3, 3)
    ]  # fmt: skip
    with ThreadPoolExecutor(2) as threads:
        assert plain(recon.sweep("a.toml", GRID, out="threads", executor=threads)) == plain(rows)
    assert plain(recon.sweep("a.toml", GRID, out="processes")) == plain(rows)
    for name in ("a-0-recon/Co.tif", "a-1-recon/Zn.tif"):
        first = read_volume(Path("here") / name)[0]
        for other in ("threads", "processes"):
            assert np.array_equal(first, read_volume(Path(other) / name)[0])
    # the same as a job of its own
    assert invoke("run", "a.toml", "--set", "reconstruct.max_iterations=2", "--out", "own").exit_code == 0
    assert np.array_equal(read_volume(Path("own/Co.tif"))[0], read_volume(Path("here/a-0-recon/Co.tif"))[0])
    with Path("here/summary.csv").open(newline="") as stream:
        assert [r["reconstruct.max_iterations"] for r in csv.DictReader(stream)] == ["2", "2", "3", "3"]
    stamp = Path("here/a-0-recon/job.json").stat().st_mtime_ns
    assert plain(recon.sweep("a.toml", GRID, out="here", executor=Here())) == plain(rows)
    assert Path("here/a-0-recon/job.json").stat().st_mtime_ns == stamp


def test_one_that_fails_says_so_in_its_rows(folder):
    job("a.toml")
    job("b.toml")
    np.save("short.npy", np.load("Co.npy")[:3])
    Path("b.toml").write_text(Path("b.toml").read_text().replace("Co.npy", "short.npy"))
    rows = recon.sweep(["a.toml", "b.toml"], out="all", executor=Here())
    assert [(r.state, bool(r.message)) for r in rows] == [("done", False)] * 2 + [("failed", True)] * 2
    assert "tilts" in rows[-1].message


def test_wrong_input(folder):
    job("a.toml")
    with pytest.raises(JobError, match="iteratons"):
        recon.sweep("a.toml", {"reconstruct.iteratons": [1]}, out="x", executor=Here())
    with pytest.raises(JobError, match="no list of values"):
        recon.sweep("a.toml", {"reconstruct.strength": []}, out="x", executor=Here())
    with pytest.raises(JobError, match="fits no file"):
        recon.sweep("z*.toml", out="x", executor=Here())
    assert not Path("x").exists()


def test_submitit(folder):
    """Its local executor pickles the calls into files and runs them in processes, as on Slurm."""
    submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")
    job("a.toml")
    executor = submitit.AutoExecutor(folder="log", cluster="local")
    executor.update_parameters(timeout_min=5)
    rows = recon.sweep("a.toml", out="here", executor=executor)
    assert [(r.element, r.state, r.iterations) for r in rows] == [("Co", "done", 3), ("Zn", "done", 3)]


def test_dask(folder):
    distributed = pytest.importorskip("dask.distributed", reason="the extra dask is not installed")
    job("a.toml")
    with distributed.Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        rows = recon.sweep("a.toml", out="here", executor=client)
    assert [(r.element, r.state, r.iterations) for r in rows] == [("Co", "done", 3), ("Zn", "done", 3)]
