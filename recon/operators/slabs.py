"""The projector of a single-axis series on one rank's slab of slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recon.backend import Array, is_device_array, kernels, namespace
from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry
from recon.operators.single_axis import single_axis_projector
from recon.operators.warp import affine, ideal_geometry, tilts_of
from recon.parallel import HALO, Range, Ranks, Slab, check_ranks
from recon.series.alignment import Alignment

LANES = 16  # rows of whole vectors are summed faster, and lie on whole cache lines


class SlabProjector:
    """``A = W P`` on the slices that a rank holds; its maps are the rank's own rows.

    The volume has a halo, and `adjoint` fills it, too. Rows that the warp mixes are fetched from the ranks that have
    them: of the ideal projections forward, of the recorded maps back.

    Args:
        tilts_deg, alignment, frame, volume, like, projector: as `aligned_projector`, of the whole.
        ranks: that share the volume.

    Attributes:
        slab: of the volume.
        rows: of the maps.
        row_lengths: slices that a volume to project, and one to project back to, may also have: the own ones alone, and
            those that are held with some beyond them, which are left 0.
    """

    def __init__(
        self,
        tilts_deg: ArrayLike,
        alignment: Alignment,
        frame: Shape2,
        volume: Shape3,
        like: Array,
        projector: str,
        ranks: Ranks,
    ) -> None:
        nz, ny, nx = volume
        check_ranks(ranks, min(ny, frame[0]))
        self.slab, self.rows = Slab(ranks, ny, HALO), Slab(ranks, frame[0])
        whole = ideal_geometry(tilts_deg, alignment, frame, volume)
        columns, own, held = whole.detector[1], self.slab.own(), self.slab.size
        self.row_lengths = held, held
        if projector != "astra" and not is_device_array(like):
            self.row_lengths = own[1] - own[0], -(-held // LANES) * LANES
        self._kernels, xp = kernels(like), namespace(like)
        self._projectors, self._ideal = {}, {}
        for slices in {held, *self.row_lengths}:
            geometry = TiltGeometry.single_axis(
                whole.tilts_deg, (slices, columns), (nz, slices, nx), offsets=whole.offsets, fineness=whole.fineness
            )
            self._projectors[slices] = single_axis_projector(geometry, like, projector)
            self._ideal[slices] = self._kernels.zeros(self._projectors[slices].range_shape)
        self.domain_shape = self._projectors[held].domain_shape
        first, end = self.rows.own()
        self.range_shape = (whole.n_tilts, frame[1], end - first)
        self.tilts_across = tilts_of(alignment, whole.n_tilts)
        straight = alignment.rotation_deg == 0 and not alignment.shifts[:, 0].any() and whole.detector == frame
        self._maps = None if straight else affine(alignment, frame, whole.detector, whole.offsets, whole.fineness)
        self._frame = frame
        everyone = range(ranks.size)
        if self._maps is None:
            self._ideal_wanted = [self.rows.own(rank) for rank in everyone]
            self._rows_wanted = [self.slab.held(rank) for rank in everyone]
            return
        self._ideal_wanted = [self._ideal_of(*self.rows.own(rank)) for rank in everyone]
        self._rows_wanted = [self._rows_of(*self.slab.held(rank)) for rank in everyone]
        self._forward = xp.asarray(self._shifted(first, self._ideal_wanted[ranks.rank][0]))
        self._backward = xp.asarray(self._shifted(self._rows_wanted[ranks.rank][0], self.slab.held()[0]))

    def __call__(self, x: Array, out: Array) -> Array:
        projector, ideal = self._projectors[x.shape[-1]], self._ideal[x.shape[-1]]
        if self._maps is None and ideal.shape == out.shape:
            return projector(x, out)
        wanted = self.slab.fetch(projector(x, ideal), self._ideal_wanted)
        if self._maps is None:
            out[...] = wanted
        else:
            self._kernels.warp(wanted, out, self._forward)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        held, ideal = self._ideal[self.slab.size], self._ideal[out.shape[-1]]
        wanted = self.rows.fetch(y, self._rows_wanted)
        if self._maps is not None:
            self._kernels.warp_adjoint(wanted, held, self._backward)
            wanted = held
        if wanted is not ideal:
            ideal[..., : self.slab.size] = wanted
        return self._projectors[out.shape[-1]].adjoint(ideal, out)

    def _places(self) -> np.ndarray:
        """Lowest and highest ideal row that each recorded row shows, ``(2, row)``."""
        assert self._maps is not None
        my, mu = self._frame
        j = np.arange(my)
        ends = [self._maps[:, 3, None] * i + self._maps[:, 4, None] * j + self._maps[:, 5, None] for i in (0, mu - 1)]
        return np.stack([np.floor(np.min(ends, axis=(0, 1))), np.ceil(np.max(ends, axis=(0, 1)))])

    def _ideal_of(self, first: int, end: int) -> Range:
        """Ideal rows that recorded ones show."""
        low, high = self._places()
        begin = int(np.clip(low[first:end].min() - 1, 0, self.slab.n - 1))
        return begin, int(np.clip(high[first:end].max() + 2, begin + 1, self.slab.n))

    def _rows_of(self, first: int, end: int) -> Range:
        """Recorded rows that show ideal ones; one at least."""
        low, high = self._places()
        showing = np.flatnonzero((high + 1 >= first) & (low - 1 < end))
        return (int(showing[0]), int(showing[-1]) + 1) if showing.size else (0, 1)

    def _shifted(self, recorded: int, ideal: int) -> np.ndarray:
        """The maps between parts of the frames that begin at these rows."""
        assert self._maps is not None
        maps = self._maps.copy()
        maps[:, 2] += maps[:, 1] * recorded
        maps[:, 5] += maps[:, 4] * recorded - ideal
        return maps


__all__ = ["SlabProjector"]
