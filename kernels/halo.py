"""What one step of TGV or TV needs of the slices beside a slab, in buffers of their own.

A rank holds its own slices, `first` to before `end` of those in its arrays, and some of its neighbours. A step needs
p and q of the slice before its own: p is in ``grad* p``, and with q in the wbar of ``E wbar``, a backward difference.
Of the one after it needs p, which is in the ubar of ``grad ubar``, and the components of q along the axis, which are in
``E* q``. The w before and the u after follow from these in the same step as the neighbour's own.

A buffer is ``(component, z, x)`` of the type of p and q: before the own slices p and all of q, after them p and the
q of `AFTER`; without components where there is no neighbour, and no q for TV.
"""

from __future__ import annotations

from typing import NamedTuple

from recon.backend import Array

AFTER = (2, 4, 5)  # yy, zy, xy


class Halo(NamedTuple):
    """Buffers, and where the own slices lie.

    Attributes:
        from_before, from_after: what neighbours have sent.
        to_before, to_after: what they are to get.
        first, end: own slices among those in the arrays.
    """

    from_before: Array
    from_after: Array
    to_before: Array
    to_after: Array
    first: int
    end: int


def unpack(p: Array, q: Array, halo: Halo) -> None:
    """Put what has come from the neighbours into p and q."""
    if len(halo.from_before):
        p[..., halo.first - 1], q[..., halo.first - 1] = halo.from_before[:3], halo.from_before[3:]
    if len(halo.from_after):
        p[..., halo.end] = halo.from_after[:3]
        for k, of_q in zip(AFTER, halo.from_after[3:], strict=False):
            q[k, ..., halo.end] = of_q


def pack(p: Array, q: Array, halo: Halo) -> None:
    """Take what the neighbours are to get from p and q."""
    if len(halo.to_before):
        halo.to_before[:3] = p[..., halo.first]
        for k, of_q in zip(AFTER, halo.to_before[3:], strict=False):
            of_q[...] = q[k, ..., halo.first]
    if len(halo.to_after):
        halo.to_after[:3], halo.to_after[3:] = p[..., halo.end - 1], q[..., halo.end - 1]


__all__ = ["AFTER", "Halo", "pack", "unpack"]
