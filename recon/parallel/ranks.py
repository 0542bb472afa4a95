"""The processes that work together, and what they tell each other."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon.backend import Array, is_device_array, namespace, to_host
from recon.errors import JobError
from recon.parallel.messages import Communicator, Finish, Message
from recon.parallel.nccl import nccl_of

HALO = 2  # slices that one iteration of TGV looks at on each side
Range = tuple[int, int]
ORDER = 77  # tag of messages that are no halos
ASLEEP = 0.02  # seconds between two looks for an order


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

    def everyone(self, value: Any) -> list[Any]:
        """The values of all ranks, on every rank."""
        return [value] if self.comm is None else self.comm.allgather(value)

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
            return contiguous(a[..., first - begin : end - begin])
        out: Array = xp.empty((*a.shape[:-1], end - first), a.dtype)
        messages, received = [], []
        for other in range(self.size):
            low, high = max(begin, want[other][0]), min(stop, want[other][1])
            if low < high and other != self.rank:
                messages.append(Message(other, sent=contiguous(a[..., low - begin : high - begin])))
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
        """Send and get arrays, all at once; between two ranks in the order given."""
        self.start(messages)()

    def start(self, messages: Sequence[Message]) -> Finish:
        """Begin to send and to get arrays, which are not to be touched before the end; as `swap`.

        Arrays of a GPU go over NCCL where each rank has a GPU of its own, else through the host. NCCL has not run on a
        GPU so far.
        """
        assert self.comm is not None
        arrays = [m.sent if m.got is None else m.got for m in messages]
        if any(is_device_array(a) for a in arrays):
            wire = nccl_of(self.comm)
            if wire is not None:
                return wire.start(messages)
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

        def finish() -> None:
            for request, room, target in landing:
                request.Wait()
                if room is not target:
                    target[...] = namespace(target).asarray(room)
            for request, _ in waiting:
                request.Wait()

        return finish


def contiguous(a: Array) -> Array:
    """A copy in C order, or the array itself if it is."""
    found: Array = namespace(a).ascontiguousarray(a)
    return found


ALONE = Ranks()


def check_ranks(ranks: Ranks, slices: int) -> None:
    """Raise JobError if a volume has too few slices for so many ranks."""
    if slices < HALO * ranks.size:
        raise JobError(
            f"{ranks.size} ranks are too many for {slices} slices; each needs {HALO}: start at most {slices // HALO}"
        )


__all__ = ["ALONE", "HALO", "Range", "Ranks", "check_ranks"]
