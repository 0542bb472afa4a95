"""Many jobs side by side: every one as if alone, none stops the others, what is done is not done again."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, ROOT, contents, fails, invoke, job, recon_
from commands import folder as folder  # a fixture
from commands import stacks as stacks

from recon.cluster.batch import Batch, Options
from recon.cluster.machine import shares
from recon.cluster.units import expand, parse_changes
from recon.errors import JobError, OutputError
from recon.io import read_volume
from recon.job.locks import Lock

TGV = '[align]\nmethod = "none"\n[reconstruct]\nstrength = 1.0\nmax_iterations = 60\ntolerance = 1e-9\n'
posix = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


def rows(path="recon-summary.csv"):
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def volumes(folder):
    return {n: read_volume(folder / f"{n}.tif")[0] for n in ("Co", "Zn", "mask")}


def same(first, second):
    a, b = volumes(first), volumes(second)
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert (first / "alignment.json").read_text() == (second / "alignment.json").read_text()


@posix
def test_parts_side_by_side_equal_one_run_bit_for_bit(folder):
    """Alignment, both elements and the results in processes of their own; then nothing is left to do."""
    job("a.toml", TGV)
    assert invoke("run", "a.toml", "--out", "whole").exit_code == 0
    done = recon_("run", "a.toml", "--workers", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    for said in ("a.toml alignment: kept in", "a.toml Co: 60 iterations", "a.toml Zn: 60 iterations", "1 of 1 jobs"):
        assert said in done.stderr
    same(folder / "whole", folder / "a-recon")
    assert [(r["job"], r["element"], r["state"], r["iterations"]) for r in rows()] == [
        ("a.toml", "Co", "done", "60"),
        ("a.toml", "Zn", "done", "60"),
    ]
    assert not any(".partial" in name or ".lock" in name for name in contents(folder))
    stamp = (folder / "a-recon" / "job.json").stat().st_mtime_ns
    again = invoke("run", "a.toml", "--workers", 1, "--resume")
    assert again.exit_code == 0
    assert "finished before, left as it is" in again.stderr
    assert (folder / "a-recon" / "job.json").stat().st_mtime_ns == stamp


@posix
def test_a_bad_job_and_a_killed_one_do_not_stop_the_others(folder):
    """One names a file that is gone, one is killed in mid-run: both say so, the third is done; again does the rest."""
    job("a.toml")
    job("gone.toml", co="nowhere.npy")
    job("long.toml", TGV.replace("60", "1000000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "recon", "run", "*.toml", "--workers", "2"], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "long.toml Co: iteration" in line or "long.toml: Co: iteration" in line or "long.toml Zn: iteration" in line:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in children:
                if "long.toml" in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(int(child), signal.SIGKILL)
            break
    lines += process.stderr.readlines()
    assert process.wait(timeout=120) == 2
    said = "".join(lines)
    assert "error: gone.toml" in said
    assert "its process was killed (SIGKILL)" in said
    assert said.rstrip().endswith("1 of 3 jobs finished")
    assert {r["job"]: r["state"] for r in rows()} == {"a.toml": "done", "gone.toml": "failed", "long.toml": "failed"}
    job("long.toml", TGV)
    done = invoke("run", "a.toml", "long.toml", "--resume", "--overwrite")
    assert done.exit_code == 0, done.stderr
    assert {r["state"] for r in rows()} == {"done"}


@posix
def test_when_the_batch_is_killed_its_processes_leave(folder):
    """kill -9 of the parent: the children save and go, and no lock stays."""
    job("a.toml", TGV.replace("60", "1000000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "recon", "run", "a.toml", "--workers", "2"], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    for line in process.stderr:
        if "iteration" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{c}").exists() for c in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{c}").exists() for c in children)
    left = sorted(p.name for p in (folder / "a-recon.partial").iterdir())
    assert "series.npz" in left
    assert not [name for name in left if name.endswith(".lock")]
    job("a.toml", TGV)
    assert invoke("run", "a.toml", "--resume", "--overwrite").exit_code == 0


def test_two_runs_on_one_folder(folder):
    """The second is told who is at work; the lock ends with its holder."""
    job("a.toml")
    with Lock(folder / "a-recon.partial" / "run.lock", "a-recon"):
        before = contents(folder)
        done = recon_("run", "a.toml", cwd=folder)
        assert done.returncode == 2
        assert "is being written by another run (process" in done.stderr.splitlines()[-1]
        assert contents(folder) == before
        shared = Lock(folder / "a-recon.partial" / "run.lock", "a-recon", shared=True, wait=0.1)
        with pytest.raises(OutputError, match="another run"):
            shared.__enter__()
    assert not (folder / "a-recon.partial").exists()
    with Lock(folder / "x" / "run.lock", "x", shared=True), Lock(folder / "x" / "run.lock", "x", shared=True):
        pass
    assert not (folder / "x").exists()


@pytest.mark.parametrize(("jobs", "workers", "split"), [(1, 2, "s"), (2, 2, "ww"), (3, 2, "wws"), (3, 1, "www")])
def test_only_the_last_few_jobs_are_run_in_parts(folder, jobs, workers, split):
    """Those that would leave processes idle."""
    names = [str(job(f"{k}.toml")) for k in range(jobs)]
    batch = Batch(names, Options(device="cpu"), workers)
    assert ["s" if task.split else "w" for task in batch.tasks] == list(split)
    assert ["s" if task.waiting[0].stage == "align" else "w" for task in batch.tasks] == list(split)


def test_memory_is_shared_out():
    """A process waits until what it needs is free beside what the others were promised; one always goes on."""

    class Child:
        def __init__(self, needs, free, share):
            self.needs, self.free, self.share, self.admitted, self.said = needs, free, share, False, []

    batch = Batch([], Options())
    batch.shares = [{"RECON_THREADS": "1"}]
    batch._tell = lambda child, line: child.said.append(line)
    batch.children = [Child(600, 1000, 0), Child(600, 1000, 1), Child(300, 1000, 2), Child(None, 0, 3)]
    batch._admit()
    assert [c.admitted for c in batch.children] == [True, False, True, False]
    batch.children = batch.children[1:2]
    batch._admit()
    assert batch.children[0].said == ["go"]
    batch.children = [Child(5000, 1000, 0)]
    batch._admit()  # it will say itself that there is not enough
    assert batch.children[0].admitted


def test_shares_of_a_machine(monkeypatch):
    monkeypatch.setattr("recon.cluster.machine.cores", lambda: 8)
    monkeypatch.setattr("recon.cluster.machine.gpus", lambda device: ("0", "1") if device != "cpu" else ())
    assert [s["RECON_THREADS"] for s in shares(None, "cpu", 3)] == ["2", "2", "2"]
    assert len(shares(None, "cpu", 100)) == 8
    assert [s["CUDA_VISIBLE_DEVICES"] for s in shares(None, "auto", 100)] == ["0", "1"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in shares(4, "auto", 100)] == ["0", "1", "0", "1"]
    assert shares(None, "cpu", 0)[0]["OMP_NUM_THREADS"] == "8"


def test_patterns_and_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.toml", "a.toml", "x/c.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert expand(["b.toml", "*.toml", "**/*.toml", "missing.toml"]) == ["b.toml", "a.toml", "x/c.toml", "missing.toml"]
    with pytest.raises(JobError, match="fits no file"):
        expand(["z*.toml"])
    assert parse_changes(["reconstruct.strength=2", "align.method=none", "input.background = {Co = 1}"]) == {
        "reconstruct.strength": 2,
        "align.method": "none",
        "input.background": {"Co": 1},
    }
    for wrong in ("strength=2", "reconstruct.strength"):
        with pytest.raises(JobError, match="it takes TABLE"):
            parse_changes([wrong])


def test_changes_are_checked_like_the_file(folder):
    job("a.toml", QUICK)
    assert "iteratons" in fails(folder, "run", "a.toml", "--set", "reconstruct.iteratons=3")
    assert "for one job" in fails(folder, "run", "a.toml", "b.toml", "--stage", "align")
    assert "'Xx' is not of this job" in fails(folder, "run", "a.toml", "--element", "Xx")
    assert "is not there" in fails(folder, "run", "a.toml", "--stage", "finish")
    assert invoke("run", "a.toml", "--set", "reconstruct.max_iterations=2").exit_code == 0
    assert json.loads(Path("a-recon/job.json").read_text())["job"]["reconstruct"]["max_iterations"] == 2
