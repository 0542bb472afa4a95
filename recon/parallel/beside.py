"""Pieces of work that do not need each other, side by side on the cores of one process.

Where arrays fit a cache, two kernels at a time on a core each are faster than one after the other on two: what lies
between kernels runs beside, too, and no core waits for another. Results are the same to the last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from recon.backend import free_memory
from recon.errors import SuspendedError

T = TypeVar("T")

SMALL = 1 << 22  # voxels of a volume: kernels on larger ones use all cores well, and wait for memory
LOOK = 0.1  # seconds after which this thread hears of a signal that another one was given
PART = 0.5  # of the free memory, at most, for all of them together

_own = threading.local()


def at_once(pieces: int, cores: int, voxels: int, need: int, free: int, device: str) -> int:
    """How many of some pieces of work are done at a time; the arguments are those of `side_by_side`."""
    many = min(pieces, cores)
    return many if device == "cpu" and voxels <= SMALL and many * need <= PART * free else 1


def side_by_side(
    pieces: Sequence[Callable[[], T]], voxels: int, need: int, device: str, *, end: Callable[[], None] | None = None
) -> list[T]:
    """What the pieces return, in their order; each thread has its share of the cores.

    One after the other where there is one core, a GPU, a larger volume than `SMALL`, little memory, or where Numba's
    threads cannot be entered twice (its layer "workqueue"). After an error of one, none is begun, and the others end
    where they ask `stop_if_unwanted`: a primal-dual solver does before every iteration; what it needs first (data,
    norms, a start by SIRT) is finished before. Those at work when one raises a `SuspendedError` are left to
    save their state and to raise their own.

    Args:
        pieces: that share nothing they write to.
        voxels: of each one's volume.
        need: bytes of memory that each takes.
        device: ``"cpu"`` or ``"cuda"``.
        end: called at the first Ctrl-C that raises in this thread while others work: asks the pieces to return soon
            with what they have, which is then what is returned. A second one, or the first without it, ends all.
    """
    if len(pieces) < 2 or device != "cpu" or hasattr(_own, "unwanted"):
        return [piece() for piece in pieces]
    cores = _cores()
    workers = at_once(len(pieces), cores, voxels, need, free_memory(), device)
    if workers == 1:
        return [piece() for piece in pieces]
    unwanted, over = threading.Event(), threading.Event()

    def work(piece: Callable[[], T]) -> T:
        if over.is_set():
            raise UnwantedError
        try:
            return piece()
        except BaseException:
            over.set()
            raise

    def begin() -> None:
        import numba

        _own.unwanted = unwanted
        numba.set_num_threads(max(1, cores // workers))  # of this thread

    with ThreadPoolExecutor(workers, "recon", begin) as pool:
        found: list[Future[T]] = [pool.submit(work, piece) for piece in pieces]
        try:
            _wait(found, end)
            for piece in found:  # of a piece that was not begun the error is another's
                if isinstance(wrong := piece.exception(), SuspendedError):
                    raise wrong
            return [piece.result() for piece in found]
        except BaseException:  # a signal to this thread, too
            unwanted.set()
            pool.shutdown(cancel_futures=True)
            raise


def _wait(found: Sequence[Future[T]], end: Callable[[], None] | None) -> None:
    """Until all are done, or one raises what ends the others."""
    try:
        while not all(piece.done() for piece in found):
            wait(found, LOOK)
            for piece in found:
                wrong = piece.exception() if piece.done() else None
                if wrong is not None and not isinstance(wrong, (SuspendedError, UnwantedError)):
                    raise wrong
    except KeyboardInterrupt as exc:
        if end is None or any(piece.done() and piece.exception() is exc for piece in found):
            raise
        end()
        _wait(found, None)


def stop_if_unwanted() -> None:
    """Ends a piece of work, for which nobody waits any more; for loops of long ones."""
    unwanted: threading.Event | None = getattr(_own, "unwanted", None)
    if unwanted is not None and unwanted.is_set():
        raise UnwantedError


class UnwantedError(Exception):
    """Raised in a piece of work that has no use left, and seen by nobody."""


def _cores() -> int:
    """How many this thread may use for kernels, 1 where only one thread at a time may start them."""
    import numba

    own = int(numba.get_num_threads())  # starts Numba's threads, and so chooses their layer
    return 1 if numba.threading_layer() == "workqueue" else own


__all__ = ["SMALL", "UnwantedError", "at_once", "side_by_side", "stop_if_unwanted"]
