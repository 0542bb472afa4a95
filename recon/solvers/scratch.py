"""Where the slabs of a volume wait that is larger than memory: a file on the CPU, pinned memory beside a GPU.

A `Store` keeps arrays by name; a `Lane` is where they travel: at once, in a thread beside the computation, or on a
stream of a GPU.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import tempfile
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recon.backend import Array
from recon.errors import ResourceError

SCRATCH = "RECON_SCRATCH"  # the folder; by default that of temporary files
_PAGE = 4096
_AT_ONCE = 1 << 30  # bytes of one call of the system


class Store(Protocol):
    """Keeps arrays by name; what was never put is zero."""

    def put(self, name: Hashable, a: Array) -> None:
        """Keep the values of an array in C order."""

    def get(self, name: Hashable, out: Array) -> None:
        """Its values into an array of the same size, in C order."""

    def soon(self, name: Hashable) -> None:
        """It will be asked for."""


def scratch_folder() -> Path:
    """Where large temporary files go: ``RECON_SCRATCH``, else TMPDIR."""
    return Path(os.environ.get(SCRATCH) or tempfile.gettempdir())


class FileStore:
    """One file without a name, which the system removes with the process, however that ends.

    Args:
        folder: on a disk with room for `size` bytes.
        size: of all that will be put, taken at once, so that a full disk is told before the work.

    Raises:
        ResourceError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._at: dict[Hashable, tuple[int, int]] = {}
        self._end = 0
        with self._explained(size):
            self._file = tempfile.TemporaryFile(prefix="recon-", dir=folder)  # noqa: SIM115  # as long as the store
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(self._file.fileno(), 0, max(size, 1))
                except OSError as exc:
                    if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of a file system that cannot
                        raise

    @contextlib.contextmanager
    def _explained(self, size: int):  # type: ignore[no-untyped-def]
        try:
            yield
        except OSError as exc:
            raise ResourceError(
                f"{self.folder} does not take {size / 2**30:.1f} GiB of slabs ({exc.strerror}); free some space, or "
                f"set {SCRATCH} to a folder on another disk"
            ) from exc

    def put(self, name: Hashable, a: Array) -> None:
        if name not in self._at:
            self._at[name] = (self._end, a.nbytes)
            self._end += -(-a.nbytes // _PAGE) * _PAGE
        begin, size = self._at[name]
        assert size == a.nbytes
        rest = _bytes_of(a)
        with self._explained(self._end):
            while rest.nbytes:
                done = os.pwrite(self._file.fileno(), rest[:_AT_ONCE], begin)
                begin, rest = begin + done, rest[done:]

    def get(self, name: Hashable, out: Array) -> None:
        if name not in self._at:
            out[...] = 0
            return
        begin, size = self._at[name]
        assert size == out.nbytes
        rest = _bytes_of(out)
        with self._explained(self._end):
            while rest.nbytes:
                done = os.preadv(self._file.fileno(), [rest[:_AT_ONCE]], begin)
                if not done:
                    raise OSError(errno.EIO, "the file is shorter than it was")
                begin, rest = begin + done, rest[done:]

    def soon(self, name: Hashable) -> None:
        if name in self._at and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), *self._at[name], os.POSIX_FADV_WILLNEED)


def _bytes_of(a: Array) -> memoryview:
    flat: Any = a.reshape(-1)
    return memoryview(flat).cast("B") if a.size else memoryview(b"")


class PinnedStore:
    """Page-locked memory of the host, which a GPU reads and writes by itself. Has not run on a GPU so far."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Array] = {}

    def put(self, name: Hashable, a: Array) -> None:
        import cupy
        import cupyx

        if name not in self._kept:
            self._kept[name] = cupyx.empty_pinned(a.shape, a.dtype)
        a.get(stream=cupy.cuda.get_current_stream(), out=self._kept[name], blocking=False)  # type: ignore[attr-defined]

    def get(self, name: Hashable, out: Array) -> None:
        import cupy

        if name not in self._kept:
            out[...] = 0
            return
        stream = cupy.cuda.get_current_stream()
        out.set(self._kept[name].reshape(out.shape), stream=stream)  # type: ignore[attr-defined]

    def soon(self, name: Hashable) -> None:
        return None


# ---------------------------------------------------------------- lanes

Wait = Callable[[], None]


class Lane(Protocol):
    """Where slabs travel."""

    def run(self, work: Callable[[], None]) -> Wait:
        """Begin some work; what it gives is called before its results are used."""


class AtOnce:
    """Work is done when it is asked for: one slab in memory is enough."""

    def run(self, work: Callable[[], None]) -> Wait:
        work()
        return lambda: None


class Beside:
    """A thread, in which slabs travel while another is worked on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="recon-slabs")

    def run(self, work: Callable[[], None]) -> Wait:
        future: Future[None] = self._pool.submit(work)
        return lambda: future.result()


class OnStream:
    """A stream of the GPU beside the one that computes. Has not run on a GPU so far."""

    def __init__(self) -> None:
        import cupy

        self._cupy: Any = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def run(self, work: Callable[[], None]) -> Wait:
        before = self._cupy.cuda.get_current_stream()
        self._stream.wait_event(before.record())
        with self._stream:
            work()
        event = self._stream.record()
        return lambda: self._cupy.cuda.get_current_stream().wait_event(event)


def words_of(*arrays: Array) -> int:
    """Bytes of arrays in a store, pages filled up."""
    return sum(-(-math.prod(a.shape) * np.dtype(a.dtype).itemsize // _PAGE) * _PAGE for a in arrays)


__all__ = ["SCRATCH", "AtOnce", "Beside", "FileStore", "Lane", "OnStream", "PinnedStore", "Store", "scratch_folder"]
