"""What wrong input gets from the commands: one line, status 2, nothing written."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import N, contents, fails, invoke, job, recon_
from commands import folder as folder  # a fixture
from commands import stacks as stacks

import recon.job.pipeline
import recon.job.resources
from recon.io import folder as output


def test_a_job_file_that_is_missing(folder):
    assert "no.toml does not exist" in fails(folder, "run", "no.toml")
    assert "no.toml does not exist" in fails(folder, "check", "no.toml")


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_map_that_is_missing(folder, command):
    job(co="Cu.npy")
    said = fails(folder, command, "job.toml")
    assert "job.toml:3" in said
    assert "Cu.npy does not exist" in said


def spoil(change):
    """A change to Co's stack, as an array."""
    np.save("Co.npy", change(np.load("Co.npy")))


def put(value):
    def change(a):
        a[3, 5, 7] = value
        return a

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:14], ["Co", "14 maps", "15 tilts"]),
        (put(np.nan), ["Co", "not finite", "tilt 4", "(5, 7)"]),
        (put(np.inf), ["Co", "not finite", "tilt 4"]),
        (put(-2), ["Co", "negative", "-2", "tilt 4", "(5, 7)"]),
        (lambda a: a * 0, ["Co", "zero everywhere"]),
        (lambda a: a * 1j, ["Co", "complex"]),
        (lambda a: a.astype("U8"), ["Co", "text"]),
        (lambda a: a[:, :, 1:], ["Zn", "(15, 16, 16)", "Co", "(15, 16, 15)"]),
        (lambda a: a[0], ["Co.npy", "(16, 16)", "(tilt, y, x)"]),
        (lambda a: a[:, :3, :3], ["Co", "3 x 3", "4 x 4"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_stack_that_cannot_be(folder, command, change, words):
    job()
    spoil(change)
    said = fails(folder, command, "job.toml")
    assert all(w in said for w in ["job.toml", *words]), said


def test_python_objects_and_damaged_files(folder):
    job()
    np.save("Co.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    assert "Co.npy" in fails(folder, "run", "job.toml")
    Path("Co.npy").write_bytes(b"\x93NUMPY")
    assert "Co.npy" in fails(folder, "run", "job.toml")
    Path("Co.npy").write_bytes(b"")
    assert "Co.npy is empty" in fails(folder, "run", "job.toml")
    shutil.copy("Zn.npy", "Co.txt")
    job(co="Co.txt")
    assert "Co.txt holds no rows of numbers" in fails(folder, "run", "job.toml")


def test_a_tiff_of_pictures(folder):
    tifffile.imwrite("Co.tif", np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    job(co="Co.tif")
    assert "colour picture" in fails(folder, "run", "job.toml")


@pytest.mark.parametrize(
    ("tilts", "words"),
    [
        (np.radians(np.arange(-70, 71, 10.0)), ["radians", "degrees", "-70.0 to 70.0"]),
        ([0.0, 0, *range(10, 140, 10)], ["tilt 0 appears more than once"]),
        ([0.0, 10.0], ["2 tilts", "at least 3"]),
        ([0.0, 10.0, 400.0], ["400", "180"]),
        ([0.0, 10.0, 20.0], ["15 maps", "3 tilts"]),
    ],
)
def test_tilts_that_cannot_be(folder, tilts, words):
    np.savetxt("tilts.rawtlt", tilts)
    job()
    from_file = fails(folder, "run", "job.toml")
    assert all(w in from_file for w in words), from_file
    job(tilts=str([float(t) for t in tilts]))
    from_list = fails(folder, "run", "job.toml")
    assert all(w in from_list for w in words), from_list


def test_tilts_that_are_words(folder):
    Path("tilts.rawtlt").write_text("angle\n1\n2\n")
    job()
    assert "tilts.rawtlt:1: 'angle' is not one number" in fails(folder, "run", "job.toml")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[reconstruct]\nstrenght = 1\n", ["job.toml:7", "reconstruct.strenght", "did you mean 'strength'"]),
        ("[reconstuct]\nmethod = 'tv'\n", ["job.toml:6", "reconstuct", "did you mean 'reconstruct'"]),
        ("[align]\nreference = ['Fe']\n", ["job.toml:7", "'Fe'", "input.maps"]),
        ("[reconstruct]\nstrength = { Co = 1, Fe = 2 }\n", ["'Fe'"]),
        ("[reconstruct]\nmethod = 'art'\n", ["job.toml:7", "'art'", "sirt"]),
        ("[reconstruct]\nthickness = 65\n", ["thickness is 65", "64"]),
        ("[reconstruct\n", ["job.toml:6", "TOML"]),
    ],
)
def test_a_job_file_that_is_wrong(folder, extra, words):
    job(extra=extra)
    said = fails(folder, "run", "job.toml")
    assert all(w in said for w in words), said


def test_scaled_maps_need_least_squares(folder):
    job(extra="scaled = true\n")
    said = fails(folder, "run", "job.toml")
    assert "least-squares" in said


def test_no_room_on_the_disk(folder, monkeypatch):
    job()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    monkeypatch.setattr(recon.job.pipeline, "process", lambda *a, **k: pytest.fail("it started"))
    for command in ("run", "check"):
        said = fails(folder, command, "job.toml")
        assert "need 49.2 kB, the disk has 1 kB free" in said  # 3 volumes of 16^3 float32


def test_a_disk_that_fills_up_while_writing(folder, monkeypatch):
    job()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "_flush", full)
    assert "full" in fails(folder, "run", "job.toml")


def test_more_memory_than_there_is(folder, monkeypatch):
    job(extra="")
    monkeypatch.setattr(recon.job.resources, "available", lambda device="cpu": 2**19)
    monkeypatch.setattr(recon.job.pipeline, "process", lambda *a, **k: pytest.fail("it started"))
    for command in ("run", "check"):
        said = fails(folder, command, "job.toml")
        assert re.search(r"0\.4 MiB of memory do not do for a volume of 16 x 16 x \d+ voxels, not even in slabs", said)
        assert re.search(r"which take \d+\.\d MiB; .*bin the maps", said)


def test_memory_that_runs_out_after_all(folder, monkeypatch):
    job()

    def run_out(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(recon.job.pipeline, "process", run_out)
    assert "out of memory" in fails(folder, "run", "job.toml")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that may not be written")
def test_a_folder_that_may_not_be_written(folder):
    job()
    (folder / "locked").mkdir(mode=0o500)
    assert "may not be written" in fails(folder, "run", "job.toml", "--out", "locked/out")


def test_no_cuda_device(folder, monkeypatch):
    from recon import backend

    job()
    if backend.resolve_device("auto") == "cuda":
        pytest.skip("there is one")
    (folder / "Co.npy").write_bytes(b"no array")  # told before anything is read
    assert "device 'cuda' cannot be used" in fails(folder, "run", "job.toml", "--device", "cuda")


def test_a_demo_too_small(tmp_path):
    assert "size is 8" in fails(tmp_path, "demo", "--size", 8, "--out", tmp_path / "out")


def test_a_demo_with_a_negative_seed(tmp_path):
    done = invoke("demo", "--size", N, "--seed", -1, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)


def test_a_demo_that_needs_more_memory_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(recon.job.resources, "available", lambda device="cpu": 2**19)
    monkeypatch.setattr("recon.job.demo.process", lambda *a, **k: pytest.fail("it started"))
    assert "memory" in fails(tmp_path, "demo", "--size", N, "--out", tmp_path / "out")


def test_wrong_input_from_the_shell(folder):
    """Once as a user would: one line, status 2, no traceback, nothing on stdout."""
    job()
    spoil(put(np.nan))
    before = contents(folder)
    done = recon_("run", "job.toml", cwd=folder)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: job.toml: Co (")
    assert contents(folder) == before
