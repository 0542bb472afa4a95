"""Compiled kernels: all of them ahead of a job, once, and kept where a folder can be written."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import HANGS, ROOT
from numba import config
from numba.core.dispatcher import Dispatcher

from recon import backend
from recon.backend import compile_kernels
from recon.kernels import compiling, warm
from recon.kernels.cpu_parallel import all_of, in_parallel

JOB = """
import json
from recon.job.file import Job
from recon.job.file.sections import Reconstruct
from recon.job.pipeline import process
from recon.kernels import warm
from recon.simulate import simulate
series, _ = simulate(size=16, seed=0)
process(series, Job.model_construct(reconstruct=Reconstruct(strength=1.0, max_iterations=20)), device="cpu")
kernels = {name: kernel for name, (kernel, _, _) in warm.CALLS.items()}
print(json.dumps([
    [name for name, kernel in kernels.items() if kernel.stats.cache_misses],
    [name for name, kernel in kernels.items() if kernel.stats.cache_hits],
]))
"""


def kernels():
    for path in (ROOT / "kernels").glob("cpu*.py"):
        module = importlib.import_module(f"recon.kernels.{path.stem}")
        for found in vars(module).values():
            if isinstance(found, Dispatcher) and found.stats.cache_path is not None:
                yield found


def test_every_kernel_can_be_compiled_ahead():
    assert set(kernels()) == {kernel for kernel, _, _ in warm.CALLS.values()}


def test_a_job_compiles_nothing_itself():
    """Its first run gives the bits of all later ones, since it takes its kernels from where they take them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=environment, capture_output=True, text=True, check=True, timeout=HANGS
    )
    compiled, taken = json.loads(done.stdout.splitlines()[-1])
    assert compiled == []
    assert {"project_kept", "backproject_kept", "tgv_step", "tgv_divergence"} <= set(taken)


@pytest.mark.skipif(os.name != "posix", reason="files are locked as on POSIX")
def test_processes_that_begin_together_compile_once(tmp_path):
    """As the tasks of an array do on a node that has compiled nothing yet."""
    script = (
        "from recon.kernels import warm; warm._compile(['excess_sums']); "
        "print(sum(warm.CALLS['excess_sums'][0].stats.cache_misses.values()))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=HANGS)[0] for process in both) == ["0\n", "1\n"]


def test_a_run_goes_on_until_it_needs_a_kernel(monkeypatch):
    said, happened = [], []

    class Helpers:
        def __init__(self, names):
            happened.append(("begun", set(names)))

        def wait(self):
            happened.append("waited")

    monkeypatch.setattr(warm, "missing", lambda names: [n for n in names if n == "tgv_step"])
    monkeypatch.setattr(warm, "Helpers", Helpers)
    compile_kernels(said.append, solver=False)  # nothing is missing of these
    assert happened == said == []
    for _ in range(2):
        compile_kernels(said.append)
    assert happened == [("begun", {*warm.PROJECTION, *warm.SOLVER})]
    assert len(said) == 1
    for _ in range(2):
        backend.kernels(np.zeros(1))
    assert happened[1:] == ["waited"]


def test_helpers_end_with_the_run(monkeypatch):
    start = subprocess.Popen
    monkeypatch.setattr(warm, "missing", lambda names: ["project", "warp"])
    sleep = [sys.executable, "-c", "import time; time.sleep(10000)"]
    monkeypatch.setattr(warm.subprocess, "Popen", lambda command, **options: start(sleep, **options))
    helpers = warm.Helpers(processes=2)
    assert [p.poll() for p in helpers.processes] == [None, None]
    helpers.end()
    assert None not in [p.poll() for p in helpers.processes]
    helpers.wait()


def test_the_first_folder_that_can_be_used(tmp_path):
    occupied = tmp_path / "occupied"
    occupied.write_text("no folder")
    fine = tmp_path / "fine" / "cache"
    assert compiling.first_usable([occupied, occupied / "below", fine, tmp_path]) == fine
    assert compiling.first_usable([occupied]) is None
    assert list(fine.iterdir()) == []  # what was written to try is gone


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners as on POSIX")
def test_a_folder_of_somebody_else_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    mine = tmp_path.stat().st_uid == 0  # root's are everybody's
    assert compiling.first_usable([tmp_path]) == (tmp_path if mine else None)


def test_where_nothing_can_be_kept_a_line_says_so(monkeypatch):
    monkeypatch.setattr(compiling, "KEPT", None)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("it compiles for nobody"))
    said = []
    compile_kernels(said.append)
    (line,) = said
    assert "compiled kernels cannot be kept" in line
    assert str(Path(compiling.__file__).parent) in line
    assert "NUMBA_CACHE_DIR" in line
    function = compiling.jit(lambda a: a)
    assert function.stats.cache_path is None


def test_shares_are_even_and_whole():
    names = list(warm.CALLS)
    for n in (1, 2, 3, len(names)):
        shares = warm._shares(names, n)
        assert sorted(name for share in shares for name in share) == sorted(names)
        times = [sum(warm.CALLS[name][1] for name in share) for share in shares]
        assert max(times) - min(times) <= max(warm.CALLS[name][1] for name in names)


def test_an_unknown_kernel_is_named():
    with pytest.raises(SystemExit, match=r"no kernel 'tgv'.*tgv_step"):
        warm.main(["tgv"])


@compiling.jit
def _numbered(i, a):
    if i < 0:
        in_parallel(i)
        return
    a[i] += i * np.ones(a.shape[1])


def test_a_kernel_runs_for_each_part_and_tells_what_it_could_not_do():
    for parts in (0, 1, 7):
        a = np.zeros((parts, 2))
        _numbered(all_of(parts), a)
        assert np.array_equal(a, np.arange(parts)[:, None] * np.ones(2))
    with pytest.raises(ValueError, match="negative dimensions"):
        _without_room(all_of(3), np.zeros(3))


@compiling.jit
def _without_room(i, a):
    if i < 0:
        in_parallel(i)
        return
    a[i] = np.empty(-1 - i).size


def test_kernels_that_two_threads_make_at_a_time_leave_numbas_setting_as_it_was(monkeypatch):
    """Each is made while the other is, if nothing keeps them apart; the one that began first ends last."""
    before, inside, let_go = config.CACHE_DIR, threading.Semaphore(0), threading.Event()

    def made(f, **options):
        inside.release()
        let_go.wait(HANGS)
        return f

    monkeypatch.setattr(compiling, "njit", made)
    monkeypatch.setattr(config, "CACHE_DIR", before)  # put back whatever comes
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(compiling.jit, f) for f in (abs, len)]
        inside.acquire()
        together = inside.acquire(timeout=0.2)
        let_go.set()
        assert [each.result(HANGS) for each in found] == [abs, len]
    assert not together
    assert before == config.CACHE_DIR
