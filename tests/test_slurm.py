"""Arrays on a real Slurm: preempted, out of time, a bad input, no home; all but the bad one end with the same bits."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, fails, invoke, job, recon_
from commands import folder as folder  # a fixture
from commands import stacks as stacks
from slurm import missing, slurm

from recon.io import read_volume

ONE = '[align]\nmethod = "none"\n[reconstruct]\nstrength = 1.0\ntolerance = 1e-9\nmax_iterations = 250\n'
# the first start of a task that is to be interrupted sleeps in every iteration, so that it cannot be done before
SLOW = """
import importlib.abc, importlib.util, os, sys, time

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "recon.job.checkpoint":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            control = module.Checkpoints.control
            def slow(self, element):
                asked, times = control(self, element), []
                def sleepy(solver):
                    times.append(1)
                    if len(times) == 4:
                        print("sleeping between iterations", file=sys.stderr, flush=True)
                    return time.sleep(1.0) or asked(solver)
                return sleepy
            module.Checkpoints.control = slow
        spec.loader.exec_module = exec_module
        return spec

if os.environ.get("RECON_TEST_SLOW") and not os.environ.get("SLURM_RESTART_COUNT"):
    sys.meta_path.insert(0, Slow())
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Skips, saying why, where Slurm cannot be had."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    try:
        with slurm(tmp_path_factory.mktemp("slurm")) as running:
            yield running
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"Slurm does not start here: {exc}")


def ask(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout


def wait(done, limit=240.0):
    until = time.monotonic() + limit
    while not done():
        assert time.monotonic() < until, ask("squeue", "--array") + "".join(
            f"{p}: {p.read_text()[-600:]}\n" for p in Path("sub/logs").glob("*.log")
        )
        time.sleep(0.25)


def log(row):
    path = Path(f"sub/logs/{row}.log")
    return path.read_text() if path.exists() else ""


@pytest.fixture
def nothing_left(cluster):
    """Whatever a test leaves to Slurm is cancelled."""
    yield
    ask("scancel", "--user=root")


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_an_array_of_six(folder):
    """Rows in the order of names: of 1 and 2 one is preempted, one runs out of time; 3 has a bad input, 4 no home."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SLOW)
    names = ("a-long", "b-long", "c-bad", "d-homeless", "e", "f")
    for name in names:
        job(f"{name}.toml", ONE, top="", co="Co.npy")
        text = Path(f"{name}.toml").read_text().replace(', Zn = "Zn.npy"', "")
        Path(f"{name}.toml").write_text(text)
    np.save("negative.npy", -1 - np.load("Co.npy"))
    Path("c-bad.toml").write_text(Path("c-bad.toml").read_text().replace("Co.npy", "negative.npy"))
    assert recon_("run", "e.toml", "--out", "reference", cwd=folder).returncode == 0
    setup = [
        f"export PYTHONPATH={folder}/site:{ROOT} NUMBA_NUM_THREADS=1",
        "case $SLURM_ARRAY_TASK_ID in 1|2) export RECON_TEST_SLOW=1;; esac",
        'if [ "$SLURM_ARRAY_TASK_ID" = 4 ]; then export HOME=/nowhere XDG_CACHE_HOME=/nowhere; fi',
    ]
    options = [word for line in setup for word in ("--setup", line)]
    submitted = invoke(
        "submit", *(f"{n}.toml" for n in names), "--folder", "sub", "--gpus", 1, "--cores", 1, "--memory", "1 GB",
        "--time", "10", *options,
    )  # fmt: skip
    assert submitted.exit_code == 0, submitted.output
    assert "warning: c-bad.toml" in submitted.output
    number = re.search(r"submitted as (\d+)", submitted.output)[1]
    assert "recon status sub" in submitted.output
    wait(lambda: all("sleeping between iterations" in log(row) for row in (1, 2)))
    assert re.search(r"[12] running", invoke("status", "sub").output)
    # one GPU and one core for something urgent: Slurm takes those of one of the two
    urgent = ["sbatch", "-p", "urgent", "--gres=gpu:1", "--cpus-per-task=1", "--mem=100M", "-o", "/dev/null"]
    assert ask(*urgent, "--wrap", "true")
    again = "s  saved; Slurm starts it again"
    wait(lambda: any(again in log(row) for row in (1, 2)))
    other = 1 if again in log(2) else 2
    ask("scontrol", "update", f"jobid={number}_{other}", "TimeLimit=1")  # the warning comes with Slurm's next look
    wait(lambda: again in log(other))
    ask("scontrol", "update", f"jobid={number}_{other}", "TimeLimit=10")
    wait(lambda: not ask("squeue", "-h", "-j", number).strip())
    for name in ("a-long", "b-long", "d-homeless", "e", "f"):
        for what in ("Co", "mask"):
            ours, whole = (read_volume(p / f"{what}.tif")[0] for p in (folder / f"{name}-recon", folder / "reference"))
            assert np.array_equal(ours, whole), name
    for row in (1, 2):
        assert re.search(r"(SIGUSR1|SIGTERM): saving a checkpoint", log(row))
        assert re.search(r"going on from iteration [1-9]\d*, saved in", log(row))
        assert re.search(r"start [2-9]", log(row))
        assert "Traceback" not in log(row)
    assert not (folder / "c-bad-recon").exists()
    assert "negative" in log(3).splitlines()[-1]
    assert log(3).splitlines()[-1].startswith("error: ")
    left = invoke("status", "sub")
    assert left.exit_code == 1
    assert "5 done, 1 failed" in left.output
    assert "negative" in left.output
    gathered = invoke("gather", "sub")
    assert gathered.exit_code == 0, gathered.output
    assert len(list(Path("sub/gathered/volumes").glob("*-Co.tif"))) == 5
    assert "c-bad" in Path("sub/gathered/summary.csv").read_text()
    assert Path("sub/gathered/report.html").read_text().count('href="../../') == 5
    assert not list(folder.rglob("*.lock"))
    assert not list(folder.glob("*.partial"))


def test_what_slurm_refuses(folder, cluster):
    """One line, nothing written, nothing submitted."""
    job("a.toml", ONE)
    assert "no partition 'nowhere'" in fails(folder, "submit", "a.toml", "--partition", "nowhere")
    assert "allows 1:00:00" in fails(folder, "submit", "a.toml", "--time", "2:00")
    assert "nodes of partition normal have" in fails(folder, "submit", "a.toml", "--memory", "100 TB")
    assert "ask for fewer" in fails(folder, "submit", "a.toml", "--cores", 10 * os.cpu_count())
    done = invoke("submit", "a.toml", "--gpus", 9, "--cores", 1)
    assert done.exit_code == 2
    assert "Slurm refused 1-align.sh" in done.stderr
    assert not ask("squeue", "-h", "--name=recon-align").strip()


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and an MPI: the extra mpi")
@pytest.mark.usefixtures("nothing_left")
def test_srun_shares_a_volume(folder):
    """As the docs have it; the pmi2 of Slurm and the MPICH of PyPI."""
    if "pmi2" not in ask("srun", "--mpi=list"):
        pytest.skip("this Slurm has no pmi2")
    job("a.toml", ONE.replace("250", "40") + "[output]\nreport = false\n", top="", co="Co.npy")
    Path("a.toml").write_text(Path("a.toml").read_text().replace(', Zn = "Zn.npy"', ""))
    assert recon_("run", "a.toml", "--out", "one", cwd=folder).returncode == 0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    words = ["srun", "--mpi=pmi2", "-n", "2", sys.executable, "-m", "recon", "run", "a.toml", "--out", "two"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("results in") == 1
    one, two = (read_volume(folder / name / "Co.tif")[0] for name in ("one", "two"))
    assert np.abs(one - two).max() < 2e-4 * one.max()
