"""Results appear whole or not at all, whatever ends the program."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from commands import HANGS
from files import RNG, STACK, fails, two_volumes
from files import silent as silent  # a fixture

import recon
from recon.errors import InputError, JobError, OutputError, ReconError, ResourceError
from recon.io import OutputFolder, check_disk, check_target, whole_file

ROOT = Path(recon.__file__).parents[1]


def fill(folder: Path, text: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_text(text)
    (folder / "job.json").write_text(text)


def content(folder: Path) -> str:
    """What `fill` wrote; both files are there and agree."""
    a, b = (folder / "sub" / "a").read_text(), (folder / "job.json").read_text()
    assert a == b
    return a


def test_a_folder_appears_when_it_is_done(tmp_path):
    out = tmp_path / "out"
    with OutputFolder(out) as folder:
        assert folder.parent == out.parent
        assert folder.name.startswith(".out.partial-")
        fill(folder, "1")
        assert not out.exists()
    assert content(out) == "1"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_has_changed(tmp_path, error):
    with pytest.raises(error):
        enter(tmp_path / "new" / "deep" / "out", error)
    assert os.listdir(tmp_path) == []
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
    with pytest.raises(error):
        enter(tmp_path / "out", error, overwrite=True)
    assert content(tmp_path / "out") == "old"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_if_the_new_one_cannot_be_put(tmp_path, monkeypatch, error):
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
    rename = Path.rename

    def stumble(self, target):
        if ".partial-" in self.name:
            raise error
        return rename(self, target)

    def overwrite():
        with OutputFolder(tmp_path / "out", overwrite=True) as folder:
            fill(folder, "new")
            monkeypatch.setattr(Path, "rename", stumble)

    if isinstance(error, OSError):
        fails(OutputError, overwrite, says=("out", "broken disk"))
    else:
        with pytest.raises(KeyboardInterrupt):
            overwrite()
    assert content(tmp_path / "out") == "old"
    assert os.listdir(tmp_path) == ["out"]


def enter(path, error=AssertionError, **kwargs):
    """Open the folder, put something in it, then fail."""
    with OutputFolder(path, **kwargs) as folder:
        fill(folder, "new")
        raise error


def test_wrong_targets(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for call in (check_target, enter):
        for overwrite in (False, True):
            fails(OutputError, call, tmp_path / "file", overwrite=overwrite, says="is a file")
            fails(OutputError, call, tmp_path / "file" / "out", overwrite=overwrite, says="is a file")
            fails(OutputError, call, "/", overwrite=overwrite)
        fails(OutputError, call, tmp_path / "mine", says="exists")
        fails(OutputError, call, tmp_path / "mine", overwrite=True, says=("job.json", "not a result"))
        fails(OutputError, call, tmp_path / ("n" * 300))
        fails(OutputError, call, "a\0")
        fails(OutputError, call, "~no_such_user_here/out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    # a folder that was made for the results, as Snakemake makes it
    for name, overwrite in (("empty", False), ("empty as well", True)):
        (tmp_path / name).mkdir(exist_ok=True)
        check_target(tmp_path / name, overwrite=overwrite)
        with OutputFolder(tmp_path / name, overwrite=overwrite) as folder:
            fill(folder, "1")
        assert content(tmp_path / name) == "1"


def test_one_folder_twice_at_a_time(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        fails(OutputError, enter, tmp_path / "out", says="already")
        fill(folder, "1")
    assert content(tmp_path / "out") == "1"


def test_a_folder_that_someone_else_made_meanwhile_is_kept(tmp_path):
    def late():
        with OutputFolder(tmp_path / "out") as folder:
            fill(folder, "mine")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()

    fails(OutputError, late, says="exists")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["theirs"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    with OutputFolder(tmp_path / "real") as folder:
        fill(folder, "old")
    (tmp_path / "link").symlink_to("real")
    with OutputFolder(tmp_path / "link", overwrite=True) as folder:
        fill(folder, "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"


def child(code: str, *args, **kwargs) -> subprocess.Popen:
    head = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom recon.io import *\nfrom recon.errors import *\n"
    )
    # what runs in a shell's background inherits that Ctrl-C is ignored
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


HALF = """
with OutputFolder(sys.argv[1], overwrite=True) as folder:
    (folder / "job.json").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_half_folder(tmp_path, how, there):
    out = tmp_path / "out"
    if there:
        with OutputFolder(out) as folder:
            fill(folder, "old")
    with child(HALF, out) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(os.listdir(tmp_path)) == 1 + there
        process.send_signal(how)
        process.communicate(timeout=HANGS)
    assert process.returncode != 0
    assert out.exists() == there
    left = [name for name in os.listdir(tmp_path) if name != "out"]
    assert len(left) == (0 if how == signal.SIGINT else 1)  # a killed process cannot clean up
    check_target(out, overwrite=True)  # the next run does
    assert os.listdir(tmp_path) == (["out"] if there else [])
    if there:
        assert content(out) == "old"


def test_what_live_processes_and_other_machines_write_is_left_alone(tmp_path):
    (tmp_path / ".out.partial-another_machine-1").mkdir()
    (tmp_path / ".out2.partial-x").mkdir()
    with child(HALF, tmp_path / "out") as process:
        process.stdout.readline()
        before = sorted(os.listdir(tmp_path))
        assert len(before) == 3
        with OutputFolder(tmp_path / "out") as folder:
            fill(folder, "1")
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
        process.kill()
        process.communicate()


AGAIN = """
for i in range(100000):
    with OutputFolder(sys.argv[1], overwrite=True) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text(str(i))
        (folder / "job.json").write_text(str(i))
    if i == 0:
        print("ready", flush=True)
"""


def test_killed_at_any_moment_of_an_overwrite(tmp_path):
    """Under its name there is the old folder or the new one, whole; one put aside comes back."""
    out = tmp_path / "out"
    for _ in range(8):
        with child(AGAIN, out) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(RNG.uniform(0, 0.05))
            process.kill()
            process.communicate()
        if out.exists():
            content(out)
        check_target(out, overwrite=True)
        content(out)
        assert os.listdir(tmp_path) == ["out"]


def test_a_folder_put_aside_by_a_dead_process_comes_back(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
        name = folder.name
    with child("") as process:
        process.communicate()
    aside = name.replace("partial", "old").replace(str(os.getpid()), str(process.pid))
    (tmp_path / "out").rename(tmp_path / aside)
    fails(OutputError, check_target, tmp_path / "out", says="exists")
    assert content(tmp_path / "out") == "old"


def run_child(code: str, *args) -> str:
    with child(code, *args) as process:
        out, err = process.communicate(timeout=HANGS)
    assert err == ""
    assert process.returncode == 0
    return out


# nobody may not read root's libraries either, so they are used once before
NOT_ROOT = """
import tempfile
with tempfile.TemporaryDirectory() as warm:
    for kind, name in (("tiff", "a.tif"), ("mrc", "a.mrc")):
        write_volume(Path(warm, name), [[[1.0, 1.0]] * 2], 1.0, kind)
os.getuid() or os.setuid(65534)
"""


def test_without_permission():
    """Also where the tests run as root: the child gives that up."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to the child
        os.chmod(folder, 0o755)
        _try_without_permission(Path(folder))


def _try_without_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    with OutputFolder(closed / "out") as folder:
        fill(folder, "old")
    np.save(tmp_path / "a.npy", STACK)
    (tmp_path / "a.npy").chmod(0)
    (tmp_path / "a.tlt").write_text("1\n20\n30\n")
    (tmp_path / "a.tlt").chmod(0)
    closed.chmod(0o555)
    code = NOT_ROOT + (
        "here = Path(sys.argv[1])\n"
        "def enter(path, **k):\n"
        "    with OutputFolder(path, **k): pass\n"
        "for call in (lambda: read_stack(here / 'a.npy'), lambda: read_tilts(here / 'a.tlt'),\n"
        "             lambda: enter(here / 'closed/new'), lambda: enter(here / 'closed/deep/new'),\n"
        "             lambda: enter(here / 'closed/out', overwrite=True),\n"
        "             lambda: write_volume(here / 'closed/a.tif', [[[1.0]]], 1.0),\n"
        "             lambda: write_volume(here / 'closed/a.mrc', [[[1.0]]], 1.0, 'mrc')):\n"
        "    try:\n"
        "        call()\n"
        "    except ReconError as exc:\n"
        "        print(type(exc).__name__, exc)\n"
    )
    lines = run_child(code, tmp_path).splitlines()
    closed.chmod(0o755)
    assert [line.split()[0] for line in lines] == ["InputError"] * 2 + ["OutputError"] * 5
    assert all("may not be" in line for line in lines[:5])
    assert content(closed / "out") == "old"
    assert os.listdir(closed) == ["out"]


FULL = """
import resource
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for kind, name in (("tiff", "a.tif"), ("mrc", "a.mrc")):
    try:
        with OutputFolder(Path(sys.argv[1], "out")) as folder:
            write_volume(folder / name, np.ones((40, 40, 40)), 1.0, kind)
    except ReconError as exc:
        print(type(exc).__name__, exc)
"""


def test_a_disk_that_fills_up(tmp_path):
    """A limit on the size of files stands in for it; the kernel fails the write half way."""
    lines = run_child(FULL, tmp_path).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("ResourceError") and "full" in line for line in lines)
    assert os.listdir(tmp_path) == []


def test_check_disk(tmp_path, monkeypatch):
    check_disk(tmp_path / "not" / "yet", 1)
    free = shutil.disk_usage(tmp_path).free
    fails(ResourceError, check_disk, tmp_path / "out", free * 3, says=("need", "free", "out"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 1_500_000))
    fails(ResourceError, check_disk, tmp_path, 3_210_000_000, says=("3.21 GB", "1.5 MB"))
    check_disk(tmp_path, 1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 500))
    fails(ResourceError, recon.write, two_volumes(), tmp_path / "out", says="free")
    assert os.listdir(tmp_path) == []


def test_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with whole_file(path) as aside:
            aside.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    with whole_file(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_importing_reads_no_library():
    code = (
        "import recon.io\nprint([m for m in ('tifffile', 'mrcfile', 'scipy', 'skimage', 'cupy') if m in sys.modules])"
    )
    assert run_child(code) == "[]\n"


def test_errors_share_a_base():
    assert all(issubclass(kind, ReconError) for kind in (InputError, JobError, OutputError, ResourceError))
