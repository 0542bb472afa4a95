"""One volume over several ranks: slabs along the tilt axis, their halos, and sums over all of them.

Every slice of a single-axis series is projected by itself, so a rank holds a slab of slices and the same rows of the
maps. The regulariser looks at the slices beside: a slab has a halo of two on each side, renewed after each iteration.
Where an alignment mixes rows, they are fetched from whoever has them (`Ranks.fetch`).

Where there is one rank, everything here leaves arrays and numbers as they are.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recon.backend import Array, is_device_array, namespace, to_host
from recon.errors import BackendError, JobError

HALO = 2  # slices that one iteration of TGV looks at on each side
Range = tuple[int, int]
ORDER = 77  # tag of messages that are no halos
ASLEEP = 0.02  # seconds between two looks for an order
# what the launchers of MPI put into the environment of their processes
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS")
_LOCAL = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")

_LOCAL_NUMBER = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


class Communicator(Protocol):
    """What is asked of mpi4py's."""

    def Get_rank(self) -> int: ...  # noqa: N802
    def Get_size(self) -> int: ...  # noqa: N802
    def Abort(self, status: int) -> None: ...  # noqa: N802
    def bcast(self, value: Any, root: int = 0) -> Any: ...
    def allgather(self, value: Any) -> list[Any]: ...
    def send(self, value: Any, dest: int, tag: int) -> None: ...
    def recv(self, buffer: Any, source: int, tag: int) -> Any: ...
    def iprobe(self, source: int, tag: int) -> bool: ...
    def Isend(self, buffer: Any, dest: int, tag: int = 0) -> Any: ...  # noqa: N802
    def Irecv(self, buffer: Any, source: int, tag: int = 0) -> Any: ...  # noqa: N802


@dataclass(frozen=True, eq=False)
class Message:
    """What a rank sends to another one, or room for what it gets from it; contiguous arrays."""

    other: int
    sent: Array | None = None
    got: Array | None = None


@dataclass(frozen=True)
class Ranks:
    """The processes that work together; one where there is no MPI.

    Attributes:
        comm: mpi4py's communicator, or None for one rank.
    """

    comm: Communicator | None = None

    @property
    def rank(self) -> int:
        return 0 if self.comm is None else self.comm.Get_rank()

    @property
    def size(self) -> int:
        return 1 if self.comm is None else self.comm.Get_size()

    def tell(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        return value if self.comm is None else self.comm.bcast(value)

    def order(self, value: Any) -> None:
        """From rank 0 to the others, which wait for it in `next_order`."""
        if self.comm is not None:
            for other in range(1, self.size):
                self.comm.send(value, other, ORDER)

    def next_order(self) -> Any:
        """Wait for rank 0's next order, asleep: MPI's own waiting keeps a core busy, which rank 0 may have use for."""
        assert self.comm is not None
        while not self.comm.iprobe(0, ORDER):
            time.sleep(ASLEEP)
        return self.comm.recv(None, 0, ORDER)

    def sum(self, value: float) -> float:
        """Over all ranks, the same bits on each."""
        return value if self.comm is None else math.fsum(self.comm.allgather(value))

    def max(self, value: float) -> float:
        return value if self.comm is None else max(self.comm.allgather(value))

    def abort(self, status: int) -> None:
        """End all ranks, some of which may wait for this one."""
        if self.comm is not None:
            self.comm.Abort(status)

    def share(self, n: int, rank: int) -> Range:
        """The slices of n that a rank works on."""
        return n * rank // self.size, n * (rank + 1) // self.size

    def fetch(self, a: Array, have: Sequence[Range], want: Sequence[Range]) -> Array:
        """Slices of an array that is spread over its last axis.

        Args:
            a: ``(..., slices)``, those of ``have[rank]``.
            have: slices of each rank, none twice.
            want: slices that each rank is to get.

        Returns:
            ``(..., slices)``, those of ``want[rank]``.
        """
        first, end = want[self.rank]
        begin, stop = have[self.rank]
        xp = namespace(a)
        if self.comm is None or (begin, stop) == (first, end) == (min(h[0] for h in have), max(h[1] for h in have)):
            return _contiguous(a[..., first - begin : end - begin])
        out: Array = xp.empty((*a.shape[:-1], end - first), a.dtype)
        messages, received = [], []
        for other in range(self.size):
            low, high = max(begin, want[other][0]), min(stop, want[other][1])
            if low < high and other != self.rank:
                messages.append(Message(other, sent=_contiguous(a[..., low - begin : high - begin])))
            low, high = max(first, have[other][0]), min(end, have[other][1])
            if low >= high:
                continue
            if other == self.rank:
                out[..., low - first : high - first] = a[..., low - begin : high - begin]
            else:
                buffer = xp.empty((*a.shape[:-1], high - low), a.dtype)
                messages.append(Message(other, got=buffer))
                received.append((buffer, low, high))
        self.swap(messages)
        for buffer, low, high in received:
            out[..., low - first : high - first] = buffer
        return out

    def swap(self, messages: Sequence[Message]) -> None:
        """Send and get arrays, all at once; between two ranks in the order given.

        Arrays of a GPU go over NCCL where each rank has a GPU of its own, else through the host. NCCL has not run on a
        GPU so far.
        """
        assert self.comm is not None
        arrays = [m.sent if m.got is None else m.got for m in messages]
        if any(is_device_array(a) for a in arrays):
            wire = _nccl(self)
            if wire is not None:
                wire.swap(messages)
                return
        tags: dict[tuple[int, bool], int] = {}
        waiting, landing = [], []
        for m in messages:
            tag = tags[m.other, m.got is None] = tags.get((m.other, m.got is None), -1) + 1
            if m.got is None:
                assert m.sent is not None
                part = to_host(m.sent)
                waiting.append((self.comm.Isend(part, m.other, tag), part))
            else:
                room = m.got if not is_device_array(m.got) else np.empty(m.got.shape, m.got.dtype)
                landing.append((self.comm.Irecv(room, m.other, tag), room, m.got))
        for request, room, target in landing:
            request.Wait()
            if room is not target:
                target[...] = namespace(target).asarray(room)
        for request, _ in waiting:
            request.Wait()


def _contiguous(a: Array) -> Array:
    """A copy in C order, or the array itself if it is."""
    found: Array = namespace(a).ascontiguousarray(a)
    return found


class _Nccl:
    """NCCL's communicator of all ranks. Has not run on a GPU so far."""

    def __init__(self, ranks: Ranks, nccl: Any) -> None:
        name = ranks.tell(nccl.get_unique_id() if ranks.rank == 0 else None)
        self._nccl, self._comm = nccl, nccl.NcclCommunicator(ranks.size, name, ranks.rank)

    def swap(self, messages: Sequence[Message]) -> None:
        import cupy

        stream = cupy.cuda.get_current_stream().ptr
        self._nccl.groupStart()
        for m in messages:
            call, a = (self._comm.send, m.sent) if m.got is None else (self._comm.recv, m.got)
            assert a is not None
            call(a.data.ptr, a.nbytes, self._nccl.NCCL_INT8, m.other, stream)  # type: ignore[attr-defined]
        self._nccl.groupEnd()


_WIRES: dict[int, _Nccl | None] = {}  # by communicator, made when first asked for, by all ranks at once


def _nccl(ranks: Ranks) -> _Nccl | None:
    """NCCL, which wants a GPU of its own for each rank; None where that cannot be."""
    key = id(ranks.comm)
    if key not in _WIRES:
        import cupy

        try:
            from cupy.cuda import nccl
        except ImportError:
            nccl = None
        assert ranks.comm is not None
        device = cupy.cuda.Device()
        mine = None if nccl is None else (socket.gethostname(), device.pci_bus_id)
        seen = ranks.comm.allgather(mine)
        _WIRES[key] = _Nccl(ranks, nccl) if None not in seen and len(set(seen)) == ranks.size else None
    return _WIRES[key]


ALONE = Ranks()


@dataclass(frozen=True)
class Slab:
    """The slices of an array's last axis that a rank holds.

    Attributes:
        ranks: that share the array.
        n: slices in all.
        halo: slices of the neighbours that it holds beside its own.
    """

    ranks: Ranks
    n: int
    halo: int = 0

    def own(self, rank: int | None = None) -> Range:
        """First slice and end of those that it works on."""
        return self.ranks.share(self.n, self.ranks.rank if rank is None else rank)

    def held(self, rank: int | None = None) -> Range:
        """The same with the halo."""
        first, end = self.own(rank)
        return max(0, first - self.halo), min(self.n, end + self.halo)

    @property
    def size(self) -> int:
        """Slices that it holds."""
        begin, end = self.held()
        return end - begin

    @property
    def within(self) -> Range:
        """Its own slices among those that it holds."""
        (first, end), (begin, _) = self.own(), self.held()
        return first - begin, end - begin

    @property
    def at_end(self) -> bool:
        """Whether it holds the last slice of all."""
        return self.held()[1] == self.n

    @property
    def whole(self) -> bool:
        return self.ranks.comm is None

    def inner(self, a: Array) -> Array:
        """Its own slices of an array, with or without halo."""
        if self.whole or a.shape[-1] != self.size:
            return a
        first, end = self.within
        return a[..., first:end]

    def compact(self, a: Array) -> Array:
        """The same in C order."""
        return a if self.whole else _contiguous(self.inner(a))

    def cut(self, a: Array, *, halo: bool = True) -> Array:
        """What it holds of a whole array."""
        if self.whole:
            return a
        begin, end = self.held() if halo else self.own()
        return _contiguous(a[..., begin:end])

    def gather(self, a: Array, *, everywhere: bool = False) -> Array:
        """The whole array on rank 0, or on all; on the others an array without slices."""
        if self.whole:
            return a
        sizes = range(self.ranks.size)
        want = [(0, self.n) if everywhere or rank == 0 else (0, 0) for rank in sizes]
        return self.ranks.fetch(self.inner(a), [self.own(rank) for rank in sizes], want)

    def fetch(self, a: Array, want: Sequence[Range]) -> Array:
        """Slices of the whole array; `want` has those of each rank."""
        have = [self.own(rank) for rank in range(self.ranks.size)]
        return self.ranks.fetch(self.inner(a), have, want)

    def refresh(self, *arrays: Array) -> None:
        """Renew the halos of arrays ``(..., slices)`` from the neighbours' own slices."""
        self._renew(arrays, arrays, self.halo)

    def refresh_nearest(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Renew the one slice before its own of some arrays, and the one after them of others."""
        self._renew(before, after, 1)

    def _renew(self, before: Sequence[Array], after: Sequence[Array], width: int) -> None:
        """`before` are the arrays whose halos lie before the slices of a rank, `after` those whose halos lie after."""
        if self.ranks.comm is None or self.ranks.size == 1:
            return
        (first, end), rank = self.within, self.ranks.rank
        messages, received = [], []
        for other, sent_ones, mine, got_ones, theirs in (
            (rank - 1, after, slice(first, first + width), before, slice(first - width, first)),
            (rank + 1, before, slice(end - width, end), after, slice(end, end + width)),
        ):
            if not 0 <= other < self.ranks.size:
                continue
            messages += [Message(other, sent=_contiguous(a[:, mine])) for a in _rows(sent_ones)]
            for a in _rows(got_ones):
                got = namespace(a).empty((len(a), width), dtype=a.dtype)
                messages.append(Message(other, got=got))
                received.append((a, theirs, got))
        self.ranks.swap(messages)
        for a, theirs, got in received:
            a[:, theirs] = got

    def sum(self, value: float) -> float:
        return self.ranks.sum(value)

    def max(self, value: float) -> float:
        return self.ranks.max(value)


def _rows(arrays: Sequence[Array]) -> list[Array]:
    """Arrays ``(..., slices)`` as ``(rows, slices)``, without those that are empty."""
    return [a.reshape(-1, a.shape[-1]) for a in arrays if a.size]


def slab_of(operator: object, n: int) -> Slab:
    """The slab of the volume that an operator works on; of n slices, all, where it does not say."""
    found = getattr(operator, "slab", None)
    return found if isinstance(found, Slab) else Slab(ALONE, n)


def rows_of(operator: object, n: int) -> Slab:
    """The rows of the maps that an operator gives, likewise."""
    found = getattr(operator, "rows", None)
    return found if isinstance(found, Slab) else Slab(ALONE, n)


def check_ranks(ranks: Ranks, slices: int) -> None:
    """Raise JobError if a volume has too few slices for so many ranks."""
    if slices < HALO * ranks.size:
        raise JobError(
            f"{ranks.size} ranks are too many for {slices} slices; each needs {HALO}: start at most {slices // HALO}"
        )


def launched() -> Ranks:
    """The ranks of ``mpirun``, or one.

    Raises:
        BackendError: several were started, but mpi4py is missing, or does not see them.
    """
    size = next((os.environ[name] for name in _LAUNCHED if name in os.environ), "1")
    if size == "1" and "PMIX_RANK" not in os.environ:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as exc:
        raise BackendError(
            f"this is one of several processes of MPI, but mpi4py does not load ({exc}); install the extra mpi"
        ) from exc
    return Ranks(MPI.COMM_WORLD) if MPI.COMM_WORLD.Get_size() > 1 else ALONE


def use_own_gpu() -> None:
    """Of several GPUs of a machine, each of its ranks takes one. Has not run on a GPU so far."""
    import cupy

    number = next((os.environ[n] for n in _LOCAL_NUMBER if os.environ.get(n, "").isdigit()), "0")
    cupy.cuda.Device(int(number) % cupy.cuda.runtime.getDeviceCount()).use()


def local_ranks() -> int:
    """Ranks of ``mpirun`` on this machine."""
    return int(next((os.environ[n] for n in _LOCAL if os.environ.get(n, "").isdigit()), "1"))


__all__ = [
    "ALONE",
    "HALO",
    "Ranks",
    "Slab",
    "check_ranks",
    "launched",
    "local_ranks",
    "rows_of",
    "slab_of",
    "use_own_gpu",
]
