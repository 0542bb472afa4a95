"""What several ranks leave on the disk: each its own slices, which any number of ranks goes on from."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ROOT, job, recon_
from commands import folder as folder  # a fixture
from commands import stacks as stacks
from test_ranks import MPIRUN, mpi, started

from recon.errors import OutputError
from recon.io import read_volume
from recon.job.checkpoint_file import write_checkpoint
from recon.job.checkpoint_parts import SavedArrays, discard_parts, part_path, write_parts
from recon.parallel import ALONE, Slab
from recon.reconstruction.keeper import Parts
from recon.reconstruction.spread import SharedFolder
from recon.simulate import simulate

EAGER = (
    "from recon import cli; from recon.job import checkpoint; checkpoint.Schedule.__init__.__defaults__ = (1e9, 0.0); "
    "cli.main()"
)
TEXT = (
    '[align]\nmethod = "none"\n[reconstruct]\nstrength = 1.0\ntolerance = 1e-9\nhalves = false\nmax_iterations = 400\n'
)


def killed(folder, name):
    """A run of two ranks that was killed once it had saved its state."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    words = [MPIRUN, "-n", "2", sys.executable, "-c", EAGER, "run", "a.toml", "--out", name]
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    main, until = folder / f"{name}.partial" / "Co.state.npz", time.monotonic() + 600
    while not main.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert main.exists()
    return main.parent


@mpi
@pytest.mark.skipif(os.name != "posix", reason="kills a group of processes")
def test_one_and_two_go_on_where_two_were_killed(folder):
    job("a.toml", TEXT)
    assert recon_("run", "a.toml", "--out", "whole", cwd=folder).returncode == 0
    left = killed(folder, "two")
    sizes = sorted(p.stat().st_size for p in left.glob("Co.state.*.part"))[-2:]
    assert sizes[0] > 0.8 * sizes[1]  # nobody wrote the other's
    shutil.copytree(left, folder / "one.partial")
    by_two = started(2, "-m", "recon", "run", "a.toml", "--out", "two", "--resume", cwd=folder)
    by_one = recon_("run", "a.toml", "--out", "one", "--resume", cwd=folder)
    for name, done in (("two", by_two), ("one", by_one)):
        assert done.returncode == 0, done.stderr
        assert "Co: going on from iteration" in done.stderr
        for element in ("Co", "Zn"):
            whole, again = (read_volume(folder / where / f"{element}.tif")[0] for where in ("whole", name))
            assert np.abs(whole - again).max() < 1e-3 * whole.max()
        assert not (folder / f"{name}.partial").exists()


# ---------------------------------------------------------------- the files by themselves


class Rank:
    """One rank of two that write one after the other."""

    def __init__(self, rank):
        self.rank = rank

    def Get_rank(self):  # noqa: N802
        return self.rank

    def Get_size(self):  # noqa: N802
        return 2


def ranks(rank):
    from recon.parallel import Ranks

    class Alternating(Ranks):
        def everyone(self, value):
            return [value]

        def tell(self, value):
            return value

    return Alternating(Rank(rank))


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    return {"u": rng.random((5, 4, 7)).astype(np.float32), "q": rng.integers(-9, 9, (6, 5, 4, 7)).astype(np.int16)}


def saved(path, whole, monkeypatch):
    monkeypatch.setattr("recon.job.checkpoint_parts.secrets.token_hex", lambda n: "abcd")
    for rank in (1, 0):
        slab = Slab(ranks(rank), 7, 2)
        header = {"parts": write_parts(path, Parts(slab.ranks, {n: (slab.cut(a), slab) for n, a in whole.items()}))}
    write_checkpoint(path, header, {})
    return header


@pytest.mark.parametrize(("begin", "end"), [(0, 7), (2, 5), (0, 2), (6, 7), (3, 4)])
def test_slices_come_from_whoever_wrote_them(tmp_path, whole, monkeypatch, begin, end):
    path = tmp_path / "Co.state.npz"
    found = SavedArrays(path, saved(path, whole, monkeypatch))
    write_checkpoint(tmp_path / "one.npz", {}, whole)
    alone = SavedArrays(tmp_path / "one.npz", {})
    for name, a in whole.items():
        for arrays in (found, alone):
            assert arrays[name].shape == a.shape
            assert arrays[name].dtype == a.dtype
            np.testing.assert_array_equal(arrays[name][..., begin:end], a[..., begin:end])
            np.testing.assert_array_equal(np.asarray(arrays[name]), a)


def test_parts_that_no_checkpoint_names_go(tmp_path, whole, monkeypatch):
    path = tmp_path / "Co.state.npz"
    header = saved(path, whole, monkeypatch)
    part_path(path, "0123", 0).write_bytes(b"of a write that was killed")
    other = part_path(tmp_path / "Zn.state.npz", "0123", 0)
    other.write_bytes(b"another element's")
    discard_parts(path, header["parts"])
    assert sorted(p.name for p in tmp_path.glob("Co*.part")) == ["Co.state.abcd-0.part", "Co.state.abcd-1.part"]
    discard_parts(path)
    assert [p.name for p in tmp_path.glob("*.part")] == [other.name]


def test_a_volume_is_mapped_and_its_file_goes(tmp_path):
    a = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    shared = SharedFolder(ALONE, tmp_path / "out.partial", "mark")
    found = shared.volume("Co.values", a, (0, 4), 4)
    np.testing.assert_array_equal(found, a)
    found[0] = 1  # as with any array
    if os.name == "posix":
        assert not list(shared.path.iterdir())


def test_a_full_disk_and_a_folder_that_others_do_not_see(tmp_path, monkeypatch):
    def full(*what):
        raise OSError(errno.ENOSPC, "No space left on device")

    shared = SharedFolder(ALONE, tmp_path / "out.partial", "mark")
    if hasattr(os, "posix_fallocate"):
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OutputError, match="the disk or quota is full"):
            shared.volume("Co.values", np.zeros((3, 4, 5), np.float32), (0, 4), 4)
    series = simulate(size=16, seed=0)[0]
    light = shared.put_maps(series)
    assert light.counts.size == 0
    np.testing.assert_array_equal(shared.get_maps(light).counts, series.counts)
    shared.discard_maps()
    assert not list(shared.path.iterdir())
    with pytest.raises(OutputError, match="choose an --out on a disk that all nodes share"):
        shared.get_maps(light)
