"""Errors and warnings that a user can act on.

Every message names the value, the limit and the remedy in one line. The command line prints it and
exits with status 2; from Python it is an exception of one of the types below.

What is no error but ought to be known (an unconverged result, a doubt) is a line of the log on the command line. From
Python it is a `ReconWarning`, and what merely happened goes to the logger ``recon``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable


class ReconError(Exception):
    """Base of every error that `recon` raises on purpose."""


class InputError(ReconError, ValueError):
    """The data, or a file that holds them, cannot be used as they are."""


class JobError(ReconError, ValueError):
    """A job file or an option is wrong."""


class GeometryError(ReconError, ValueError):
    """Arrays and geometry do not fit each other, or a projector does not serve a geometry."""


class BackendError(ReconError, RuntimeError):
    """An array is of the wrong kind, or a device or library that was asked for is missing."""


class OutputError(ReconError, OSError):
    """Results cannot be written where they should go."""


class ResourceError(ReconError, MemoryError):
    """The job needs more memory or disk than there is."""


class SchedulerError(ReconError, RuntimeError):
    """The scheduler of a cluster is missing, or refuses what it was asked for."""


class StoppedError(ReconError):
    """The user stopped the run (Ctrl-C) at a point where nothing was half written.

    Attributes:
        kept: whether what there was has been written as a result, marked as not converged.
    """

    def __init__(self, message: str, *, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


class SuspendedError(BaseException):
    """SIGTERM or SIGUSR1: the run ends now, to go on later. Not an `Exception`: nothing may swallow it."""


class ReconWarning(UserWarning):
    """A result, or data, that a person should look at before trusting it."""


MARK = "warning: "  # how a line of the log begins that is a warning
_here = os.path.dirname(__file__) + os.sep


def teller(log: Callable[[str], None] | None) -> Callable[[str], None]:
    """`log`; where there is none, warnings become a `ReconWarning` and other lines go to the logger ``recon``."""
    return _tell if log is None else log


def _tell(line: str) -> None:
    if not line.startswith(MARK):
        import logging  # not before it is needed: `recon --help` does without

        logging.getLogger("recon").info(line)
        return
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_here):  # the caller's own line
        frame, depth = frame.f_back, depth + 1
    warnings.warn(line.removeprefix(MARK), ReconWarning, stacklevel=depth)
