"""Calls in a child process: answers, errors, and a library that takes its process down."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recon.eds import child_process
from recon.eds.child_process import Apart, CrashedError
from recon.eds.read import check_hdf5
from recon.errors import InputError
from recon.io.formats.common import check_file


def test_answers_come_back_and_one_child_serves_all():
    with Apart() as apart:
        np.testing.assert_array_equal(apart.call(np.arange, 5), np.arange(5))
        child = apart.call(os.getpid)
        assert child != os.getpid()
        assert apart.call(os.getpid) == child


def test_an_error_is_the_callers():
    with Apart() as apart:
        with pytest.raises(InputError, match="nowhere"):
            apart.call(check_file, Path("nowhere"), "a map")
        assert apart.call(len, "abc") == 3


def test_what_a_library_prints_is_no_answer():
    with Apart() as apart:
        apart.call(os.system, "echo printed")
        assert apart.call(len, "abc") == 3


def test_a_crash_is_an_error():
    with Apart() as apart, pytest.raises(CrashedError, match=f"status -{int(signal.SIGABRT)}"):
        apart.call(os.abort)


def test_a_child_that_may_crash_needs_none_of_its_own(tmp_path, monkeypatch):
    """HDF5 files are looked through by a process that may crash; once, not by each of two."""
    path, started = tmp_path / "a.hspy", []
    path.write_bytes(b"no HDF5")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: started.append(a) or subprocess.CompletedProcess(a, 0))
    check_hdf5(path)
    assert len(started) == 1
    with Apart() as apart:
        assert apart.call(eval, "__import__('recon.eds.child_process', fromlist=['']).IN_CHILD") is True
    monkeypatch.setattr(child_process, "IN_CHILD", True)
    check_hdf5(path)
    assert len(started) == 1


def test_a_script_needs_no_guard(tmp_path):
    """Nothing of the caller's script runs again in the child."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nprint('once')\nfrom recon.eds.child_process import Apart\n"
        "with Apart() as apart:\n    print(apart.call(len, 'abc'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["once", "3"]
