"""Calls in a child process, so that a library that crashes on a damaged file takes only the child with it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

IN_CHILD = False  # whether this process is such a child, which may crash

_CHILD = "import sys; sys.path[:] = {path!r}; from recon.eds.child_process import serve; serve()"


class CrashedError(Exception):
    """The child process ended without an answer."""


class Apart:
    """A child process that is kept for several calls; use it as a context manager.

    Functions go by name, arguments and results by `pickle`. The child imports no `__main__`, so scripts need no guard.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *args: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """``function(*args)``; what it raises is raised here.

        Raises:
            CrashedError: the process ended on it.
        """
        if self._child is None:
            # a session of its own: Ctrl-C in the terminal is the parent's to handle
            self._child = subprocess.Popen(
                [sys.executable, "-c", _CHILD.format(path=sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump((function, args), self._child.stdin)
            self._child.stdin.flush()
            done, result = pickle.load(self._child.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as exc:
            raise CrashedError(f"the process ended with status {self._child.wait()}") from exc
        if not done:
            raise result
        return result  # type: ignore[no-any-return]


def serve() -> None:
    """What the child does: answer calls until its input ends."""
    global IN_CHILD
    IN_CHILD = True
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while True:
        try:
            function, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, function(*args))
        except Exception as exc:  # it is the caller's
            answer = (False, exc)
        pickle.dump(answer, answers)
        answers.flush()
