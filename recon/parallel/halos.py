"""What the slabs of neighbours tell each other from step to step."""

from __future__ import annotations

from collections.abc import Sequence

from recon.backend import Array, namespace
from recon.kernels.halo import AFTER, Halo, unpack
from recon.parallel.messages import Finish, Message
from recon.parallel.slab import Slab


class Halos:
    """Keeps the slices beside a rank's own as its neighbours have them, while it computes.

    After most steps only what the next one needs travels, in buffers that the kernels fill and read (`Halo`); after the
    last one, which somebody is going to look at, all slices of the halo do.

    Args:
        state: u, w, p and q.
    """

    def __init__(self, slab: Slab, state: Sequence[Array]) -> None:
        self.slab, self._state = slab, state
        self._arriving: Finish | None = None
        self._unread = False  # buffers hold what the arrays do not
        _, _, p, q = state
        planes, (first, end), rank = p.shape[1:3], slab.within, slab.ranks.rank
        many, few = len(p) + len(q), len(p) + min(len(q), len(AFTER))

        def room(components: int, there_is: bool) -> Array:
            found: Array = namespace(p).empty((components if there_is else 0, *planes), p.dtype)
            return found

        neighbours = rank > 0, rank + 1 < slab.ranks.size
        self._halo = Halo(*map(room, (many, few, few, many), neighbours * 2), first, end)
        self._others = rank - 1, rank + 1

    def wait(self) -> None:
        """For what is on its way."""
        if self._arriving is not None:
            self._arriving()
        self._arriving = None

    def arrive(self) -> None:
        """Let the arrays have it, too."""
        self.wait()
        if self._unread:
            unpack(self._state[2], self._state[3], self._halo)
        self._unread = False

    def of_step(self, *, last: bool) -> Halo | None:
        """What the kernels are to unpack before a step, and to pack after it but for the last; waits for it."""
        self.wait()
        nothing = self._halo.to_before[:0]
        received, sent = self._halo[:2], self._halo[2:4]
        unread, self._unread = self._unread, False
        if not any(map(len, (*received, *sent))):
            return None
        return Halo(
            *(received if unread else (nothing, nothing)), *((nothing, nothing) if last else sent), *self._halo[4:]
        )

    def leave(self, *, last: bool) -> None:
        """Begin to tell the neighbours what the step has changed; of the last one all slices of the halo."""
        if last:
            self._arriving = self.slab.start_refresh(*self._state)
            return
        pairs = zip(self._others, self._halo[:2], self._halo[2:4], strict=True)
        messages = [
            m for other, got, sent in pairs if len(got) for m in (Message(other, sent), Message(other, None, got))
        ]
        self._arriving = self.slab.ranks.start(messages) if messages else None
        self._unread = bool(messages)


__all__ = ["Halos"]
