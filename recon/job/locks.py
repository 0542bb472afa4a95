"""Two runs on one folder: the second is told, and no lock outlives its process."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from recon.errors import OutputError

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]

WAIT = 5.0  # seconds: what a run that is just leaving takes to save its state
EVERY = 0.1


class Lock:
    """A lock of the operating system on a small file; it ends with the process, kill -9 included.

    The file says who holds it. Where the disk knows no locks (some parallel file systems are mounted so) or cannot be
    written, nothing is locked.

    Args:
        path: of the file; its folder is made.
        what: that is locked, for the message.
        shared: several may hold it together, and nobody alone meanwhile.
    """

    def __init__(self, path: Path, what: str, *, shared: bool = False, wait: float = WAIT) -> None:
        self.path, self.what, self.shared, self.wait = path, what, shared, wait
        self._handle: int | None = None

    def __enter__(self) -> Lock:
        fcntl: Any = _fcntl
        if fcntl is None:
            return self
        mode = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        until = time.monotonic() + self.wait
        while self._handle is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError:
                return self
            try:
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
                if _same(handle, self.path):
                    self._handle = handle
                    break
            except BlockingIOError:
                if time.monotonic() > until:
                    holder = self.path.read_text(encoding="utf-8").strip() if self.path.exists() else ""
                    raise OutputError(
                        f"{self.what} is being written by another run{f' ({holder})' if holder else ''}; wait for its "
                        f"end, or choose another --out{_apart()}"
                    ) from None
            except OSError:  # the disk knows no locks
                return self
            finally:
                if self._handle is None:
                    os.close(handle)
            time.sleep(EVERY)
        if not self.shared:
            with contextlib.suppress(OSError):  # it holds, whatever the file says
                os.ftruncate(self._handle, 0)
                os.write(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._handle is None:
            return
        fcntl: Any = _fcntl
        with contextlib.suppress(OSError):
            if self.shared:  # the last one out removes the file
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(self._handle, self.path):
                self.path.unlink()
        os.close(self._handle)
        self._handle = None
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # unless something lies in it


def _same(handle: int, path: Path) -> bool:
    """Whether the file that is open is still the one of that name: another run may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _apart() -> str:
    """What to do where ``srun`` started several processes that MPI does not join."""
    several = os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "PMI_SIZE" not in os.environ
    return "; or, if srun is to share this job between its processes, add --mpi=pmi2" if several else ""


__all__ = ["Lock"]
