"""Threads follow the cores that the process was given, Numba's and BLAS's alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recon import backend

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("SLURM_CPUS_PER_TASK", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RECON_THREADS", "MPI_LOCALNRANKS")
ASK = """
import json, sys
from recon import backend
n = backend.use_threads()
import numba, numpy, scipy.linalg
from threadpoolctl import threadpool_info
blas = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
print(json.dumps([n, numba.get_num_threads(), blas]))
"""


@pytest.fixture
def machine(monkeypatch):
    """A machine of 64 cores without limits."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    files = {}

    class Files:
        def __init__(self, path):
            self.path = path

        def read_text(self):
            if self.path not in files:
                raise FileNotFoundError(self.path)
            return files[self.path]

    monkeypatch.setattr(backend, "Path", Files)
    return files


def test_cores_that_were_given(machine, monkeypatch):
    assert backend.cores() == 64
    machine["/sys/fs/cgroup/cpu.max"] = "max 100000\n"
    assert backend.cores() == 64
    machine["/sys/fs/cgroup/cpu.max"] = "1250000 100000\n"  # twelve cores and a half
    assert backend.cores() == 13
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert backend.cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert backend.cores() == 3
    monkeypatch.setenv("RECON_THREADS", "2")
    assert backend.cores() == 2
    monkeypatch.setenv("RECON_THREADS", "none")
    assert backend.cores() == 3


def test_ranks_of_a_node_share_it_unless_they_are_bound(machine, monkeypatch):
    monkeypatch.setenv("MPI_LOCALNRANKS", "4")
    assert backend.cores() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(10)), raising=False)
    assert backend.cores() == 10


def test_old_cgroups(machine):
    machine["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "-1\n"
    machine["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000\n"
    assert backend.cores() == 64
    machine["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "400000\n"
    assert backend.cores() == 4


def test_cgroups_below_the_root(machine):
    """As systemd and Slurm make them: the process's own may have no quota, and one that it lies in has."""
    machine["/proc/self/cgroup"] = "0::/system.slice/slurmstepd.scope/job_7/step_0\n"
    machine["/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/cpu.max"] = "max 100000\n"
    assert backend.cores() == 64
    machine["/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/cpu.max"] = "600000 100000\n"
    assert backend.cores() == 6
    machine["/sys/fs/cgroup/system.slice/slurmstepd.scope/job_8/cpu.max"] = "100000 100000\n"
    assert backend.cores() == 6
    machine["/proc/self/cgroup"] = "5:memory:/job_9\n4:cpu,cpuacct:/slurm/job_9\n"
    assert backend.cores() == 64
    machine["/sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us"] = "200000\n"
    machine["/sys/fs/cgroup/cpu/slurm/cpu.cfs_period_us"] = "100000\n"
    assert backend.cores() == 2


@pytest.mark.parametrize("variable", ["RECON_THREADS", "SLURM_CPUS_PER_TASK"])
def test_one_setting_for_numba_and_blas(variable):
    environment = {k: v for k, v in os.environ.items() if k not in (*NAMES, "OPENBLAS_NUM_THREADS")}
    environment |= {"PYTHONPATH": str(ROOT), variable: "1"}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=environment, check=True)
    number, numba, blas = json.loads(done.stdout)
    assert number == numba == 1
    assert blas
    assert set(blas) == {1}


def test_cuda_cache_where_the_home_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    backend.place_cuda_cache()
    assert "CUPY_CACHE_DIR" not in os.environ
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # a folder below a file can be made by nobody
    monkeypatch.setenv("CUPY_CACHE_DIR", "")
    backend.place_cuda_cache()
    assert Path(os.environ["CUPY_CACHE_DIR"]).name == "cupy"
    monkeypatch.setenv("CUPY_CACHE_DIR", "mine")
    backend.place_cuda_cache()
    assert os.environ["CUPY_CACHE_DIR"] == "mine"


def test_an_alignment_has_one_thread_of_blas_and_gives_the_others_back(monkeypatch):
    import scipy.linalg  # noqa: F401  its BLAS is another than NumPy's
    from threadpoolctl import threadpool_info, threadpool_limits

    from recon.alignment import align as module

    def blas() -> list[int]:
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    class SeenError(Exception):
        pass

    def seen(*_: object) -> None:
        assert set(blas()) == {1}
        raise SeenError

    monkeypatch.setattr(module, "_consistent", seen)
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas()
        assert 2 in before  # a library that has one thread only may be there, too
        with pytest.raises(SeenError):
            module._automatic(None, None, print)
        assert blas() == before
