"""One volume over several ranks of MPI equals that of one rank to rounding, whatever their number."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, job, recon_
from commands import folder as folder  # a fixture
from commands import stacks as stacks

from recon.errors import BackendError, JobError, OutputError
from recon.io import read_volume
from recon.job.locks import Lock
from recon.parallel import ALONE, Ranks, check_ranks, launched

MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and an mpirun: the extra mpi"
)


def started(n, *args, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    words = [MPIRUN, "-n", str(n), sys.executable, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=600, check=False)


@mpi
@pytest.mark.parametrize("n", [2, 3])
def test_equal_to_one_rank(tmp_path, n):
    """Uneven slabs, with a rotated axis and without: operators, volumes, certificates, a search, a checkpoint."""
    done = started(n, ROOT / "tests" / "ranks.py", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"ranks-{n}.json").read_text())
    assert found["ranks"] == n
    assert found["arrays"] == 0
    assert found["operators"] < 1e-6
    for name, (values, objective, gap, *more) in found["volumes"].items():
        assert values < 2e-4, name
        assert objective < 1e-6, name
        assert gap < 1e-3, name
        assert all(m < 1e-3 for m in more), name
    assert found["going on"] < 2e-4


@mpi
def test_a_job_over_two_ranks(folder):
    """The command: one folder of results, with the volumes of one rank; a wrong number of ranks is one line."""
    job("a.toml", '[align]\nmethod = "none"\n[reconstruct]\nstrength = 1.0\ntolerance = 0.05\n')
    assert recon_("run", "a.toml", "--out", "one", cwd=folder).returncode == 0
    done = started(2, "-m", "recon", "run", "a.toml", "--out", "two", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("results in") == 1
    for name in ("Co", "Zn"):
        one, two = (read_volume(folder / where / f"{name}.tif")[0] for where in ("one", "two"))
        assert np.abs(one - two).max() < 2e-4 * one.max()
    bad = started(9, "-m", "recon", "run", "a.toml", "--out", "nine", cwd=folder)
    assert bad.returncode == 2
    assert "9 ranks are too many for 16 slices; each needs 2: start at most 8" in bad.stderr
    assert not (folder / "nine").exists()


def test_one_rank_where_there_is_no_mpi(monkeypatch):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is ALONE
    assert ALONE.size == 1
    assert ALONE.sum(2.5) == ALONE.tell(2.5) == 2.5
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(BackendError, match="install the extra mpi"):
        launched()


def test_too_many_ranks():
    class Comm:
        def Get_size(self):  # noqa: N802
            return 4

    check_ranks(Ranks(Comm()), 8)
    with pytest.raises(JobError, match="4 ranks are too many for 7 slices"):
        check_ranks(Ranks(Comm()), 7)


def test_srun_without_mpi(tmp_path, monkeypatch):
    """Two whole runs on one folder: the second says how they would have shared the job."""
    monkeypatch.delenv("PMI_SIZE", raising=False)
    with Lock(tmp_path / "run.lock", "out"):
        with pytest.raises(OutputError, match=r"choose another --out$"), Lock(tmp_path / "run.lock", "out", wait=0.0):
            pass
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
        with pytest.raises(OutputError, match="add --mpi=pmi2"), Lock(tmp_path / "run.lock", "out", wait=0.0):
            pass
