"""The part of an array that a rank holds, and its halo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recon.backend import Array, namespace
from recon.parallel.messages import Finish, Message
from recon.parallel.ranks import ALONE, Range, Ranks, contiguous


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
        return a if self.whole else contiguous(self.inner(a))

    def cut(self, a: Array, *, halo: bool = True) -> Array:
        """What it holds of a whole array."""
        if self.whole:
            return a
        begin, end = self.held() if halo else self.own()
        return contiguous(a[..., begin:end])

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
        self.start_refresh(*arrays)()

    def start_refresh(self, *arrays: Array) -> Finish:
        """Begin to; the arrays' own slices may change meanwhile, their halos are right after the end."""
        if self.ranks.comm is None or self.ranks.size == 1:
            return _nothing
        (first, end), rank, width = self.within, self.ranks.rank, self.halo
        messages, received = [], []
        for other, mine, theirs in (
            (rank - 1, slice(first, first + width), slice(first - width, first)),
            (rank + 1, slice(end - width, end), slice(end, end + width)),
        ):
            if not 0 <= other < self.ranks.size:
                continue
            for a in _rows(arrays):
                got = namespace(a).empty((len(a), width), dtype=a.dtype)
                messages += [Message(other, sent=contiguous(a[:, mine])), Message(other, got=got)]
                received.append((a, theirs, got))
        finish = self.ranks.start(messages)

        def put() -> None:
            finish()
            for a, theirs, got in received:
                a[:, theirs] = got

        return put

    def sum(self, value: float) -> float:
        return self.ranks.sum(value)

    def max(self, value: float) -> float:
        return self.ranks.max(value)


def _nothing() -> None:
    """Nothing is on its way."""


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


__all__ = ["Slab", "rows_of", "slab_of"]
