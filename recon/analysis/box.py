"""The part of the volume in which regions are asked about; what lies outside of it stays as it was reconstructed.

A particle fills a part of its frame only, often a third, and fits and simulated recordings cost what they work on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.analysis.mask import extent
from recon.model.assembly import make_operator, reachable
from recon.model.grid import Grid
from recon.reconstruction.problem import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array

AROUND = 3  # voxels around what is looked at: a domain's outer border may lie so far out
LINE = 16  # slices of a cache line: kernels are faster on rows that fill them
WORTH = 0.9  # of the volume: from here on a box saves nothing


@dataclass(frozen=True, eq=False)
class Box:
    """A box about the centre of a grid.

    Attributes:
        shape: ``(z, y, x)``, of the result.
        cut: ``(z, y, x)`` voxels of the result on each side that are left out; below 0 where the grid is wider than
            the result.
    """

    shape: tuple[int, int, int]
    cut: tuple[int, int, int]

    @classmethod
    def around(cls, looked_at: NDArray[np.bool_], margin: tuple[int, int]) -> Box:
        """The least that holds what is looked at.

        Args:
            looked_at: ``(z, y, x)`` of the result.
            margin: of the grid, see `Grid`; matter that leaves the frame takes all of the grid.
        """
        nz, ny, nx = looked_at.shape
        if margin != (0, 0):
            return cls((nz, ny, nx), (0, -margin[0], -margin[1]))
        z, y, x = (
            max(0, min(at.start, n - at.stop)) for at, n in zip(extent(looked_at, AROUND), (nz, ny, nx), strict=True)
        )
        if ny % 2 == 0:
            y = max(0, (ny - -(-(ny - 2 * y) // LINE) * LINE) // 2)
        if (nz - 2 * z) * (ny - 2 * y) * (nx - 2 * x) > WORTH * looked_at.size:
            z = y = x = 0
        return cls((nz, ny, nx), (z, y, x))

    @property
    def _inner(self) -> tuple[slice, slice, slice]:
        """Of the result, or of the box where that is wider, ``(z, y, x)``."""
        z, y, x = (slice(abs(c), n + abs(c) - 2 * max(c, 0)) for c, n in zip(self.cut, self.shape, strict=True))
        return z, y, x

    def of(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """The box ``(z, x, y)``, in the solver's layout, of a field ``(z, y, x)`` of the result."""
        wide = min(self.cut) < 0
        inside = np.pad(field, [(max(-c, 0),) * 2 for c in self.cut]) if wide else field[self._inner]
        return np.ascontiguousarray(inside.swapaxes(1, 2), dtype=np.float32)

    def into(self, whole: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A result ``(z, y, x)`` with other values ``(z, x, y)`` in the box."""
        inside = values.swapaxes(1, 2)
        if min(self.cut) < 0:
            return np.ascontiguousarray(inside[self._inner], dtype=np.float32)
        out = whole.astype(np.float32)
        out[self._inner] = inside
        return out

    def part(self, full: Array) -> Array:
        """The box of a grid's volume ``(z, x, y)``."""
        if min(self.cut) < 0:
            return full
        z, y, x = self._inner
        found: Array = backend.namespace(full).ascontiguousarray(full[z, x, y])
        return found

    def problem(self, whole: Problem, volume: Array) -> Problem:
        """The problem of the box: what lies outside of it is part of what each pixel would show without it.

        Args:
            whole: of the grid.
            volume: ``(z, x, y)``, the solution of it.
        """
        if max(self.cut) <= 0:
            return whole
        xp, data = backend.namespace(volume), whole.data
        z, y, x = self._inner
        outside = volume.copy()
        outside[z, x, y] = 0
        beside = whole.operator(outside, xp.empty_like(data.counts))
        shape = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
        operator = make_operator(whole.series, shape, data.counts, whole.settings.projector, element=whole.element)
        held = reachable(replace(data, offset=data.offset + data.scale * beside), operator)
        return replace(whole, where=Grid(shape, (0, 0)), operator=operator, data=held, streaming=None)


def looked_at(inside: NDArray[np.bool_], fields: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """The particle, and all that fields reach ``(z, y, x)``."""
    out = inside.copy()
    for field in fields:
        out |= field > 0
    return out


__all__ = ["Box", "looked_at"]
