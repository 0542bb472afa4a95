"""Runs of the program in processes of their own that begin with its imports, which take most of a short run's time.

This file runs as a process that has imported what a job needs and has done nothing with it; it forks for each run.
`Run` has the part of `subprocess.Popen` that the tests use. What becomes of a start, and of processes that a run
starts itself, is tested where ``python -m recon`` is started.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELL = "from recon.cli import main; main()"
BENEATH = (
    "psutil",
    "scipy.fft",
    "scipy.ndimage",
    "skimage.filters",
    "skimage.measure",
    "sparse",
    "threadpoolctl",
    "tifffile",
)


class _Parent:
    """The process that forks, one for all runs of these tests; it ends with them."""

    def __init__(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        atexit.register(self.end)

    def end(self):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


_parents: list[_Parent] = []


class Run:
    """A run of the command line with `args` in the folder `cwd`, the leader of a session; `code` starts it."""

    def __init__(self, args, cwd, code=SHELL):
        if not _parents:
            _parents.append(_Parent())
        self._parent, self.returncode = _parents[0], None
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder) / "stderr"
            os.mkfifo(pipe)
            self.pid = self._parent.ask(args=[str(a) for a in args], cwd=str(cwd), stderr=str(pipe), code=code)
            self.stderr = pipe.open(encoding="utf-8")

    def poll(self):
        if self.returncode is None:
            status = self._parent.ask(poll=self.pid)
            self.returncode = None if status is None else os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout):
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("recon", timeout)
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout=900.0):
        rest = self.stderr.read()
        self.stderr.close()
        self.wait(timeout)
        return "", rest

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _prepare():
    """Import what jobs need. Kernels are left alone: to load them starts threads, which do not outlive a fork."""
    from numba.core.registry import cpu_target

    names = ("cli", "cluster.leash", "cluster.units", "job.pipeline", "job.stages", "kernels.warm", "report.page")
    for name in (*(f"recon.{name}" for name in names), *BENEATH):
        importlib.import_module(name)
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def _serve():
    """Answer questions; returns, in a process that was forked, what it is to run."""
    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = status if pid else None
        else:
            answer = os.fork()
            if not answer:
                return question
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()
    os._exit(0)


def _begin(question):
    os.setsid()
    os.chdir(question["cwd"])
    with open(os.devnull, "r+b") as nothing, open(question["stderr"], "wb") as pipe:
        for here, there in ((nothing, 0), (nothing, 1), (pipe, 2)):
            os.dup2(here.fileno(), there)
    sys.argv = ["recon", *question["args"]]


if __name__ == "__main__":
    _prepare()
    asked = _serve()
    _begin(asked)
    exec(compile(asked["code"], "recon", "exec"), {"__name__": "__main__"})
