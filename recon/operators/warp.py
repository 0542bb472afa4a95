"""The detector warp of an alignment: where the ideal projection lies in each recorded frame.

As little as possible is interpolated, since interpolation blurs, and by a different amount at each fraction of a pixel.
Shifts along u and the axis's offset go into the projector, whose rays then pass where the pixels are
(`ideal_geometry`). Shifts along v are left, where linear interpolation is what a pixel that straddles two slices
records, and a rotation of the axis: for this one the projector's detector has two columns on a voxel's edge, which
leaves a quarter of the blur.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recon.backend import Array, is_device_array, kernels, namespace
from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry
from recon.operators.base import Operator, check_array
from recon.series.alignment import Alignment

ROTATED = 2  # detector columns on a voxel's edge where the axis is rotated


def ideal_geometry(tilts_deg: ArrayLike, alignment: Alignment, recorded: Shape2, volume: Shape3) -> TiltGeometry:
    """The projections of a volume that `DetectorWarp` takes into the recorded frames.

    Their columns are those of the frames where the axis lies along them, shifts and all; with a rotated axis they cover
    the frames, `ROTATED` on a voxel's edge.
    """
    my, mu = recorded
    turn = np.radians(alignment.rotation_deg)
    c, s = np.cos(turn), np.sin(turn)
    dv, du = alignment.displacements.T
    fineness = 1 if s == 0 else ROTATED
    half = ((mu - 1) * abs(c) + (my - 1) * abs(s)) / 2
    columns = mu if s == 0 else 2 * int(np.ceil(half * fineness)) + 1
    return TiltGeometry.single_axis(
        tilts_deg, (volume[1], columns), volume, offsets=-(c * du + s * dv), fineness=fineness
    )


def affine(
    alignment: Alignment, recorded: Shape2, ideal: Shape2, offsets: ArrayLike = 0.0, fineness: int = 1
) -> NDArray[np.float64]:
    """Index maps of `Alignment` for the kernels, ``(tilt, 6)``.

    Recorded pixel ``(i, j)``, column and row, shows the ideal projection at column
    ``a0 i + a1 j + a2`` and row ``a3 i + a4 j + a5``. `recorded` and `ideal` are ``(rows, columns)``; `offsets` and
    `fineness` are those of `TiltGeometry`.
    """
    (my, mu), (ny, nu) = recorded, ideal
    dv, du = alignment.displacements.T
    c, s = np.cos(np.radians(alignment.rotation_deg)), np.sin(np.radians(alignment.rotation_deg))
    i0, j0 = (mu - 1) / 2 + du, (my - 1) / 2 + dv
    one = np.ones_like(du)
    f = fineness
    # rounding must not make an interpolation between two columns of what is one
    first = np.round((nu - 1) / 2 - f * (c * i0 + s * j0 + offsets), 9)
    columns = [f * c * one, f * s * one, first, -s * one, c * one, (ny - 1) / 2 + s * i0 - c * j0]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def tilts_of(alignment: Alignment, n_tilts: int) -> int:
    """`recon.operators.base.tilts_across` of recorded frames."""
    return n_tilts if abs(np.sin(np.radians(alignment.rotation_deg))) < 0.5**0.5 else 0


class DetectorWarp:
    """Ideal projections ``(tilt, u, y)`` to recorded frames ``(tilt, u, y)`` by bilinear interpolation.

    What lies outside the ideal detector is empty. `adjoint` is exact.
    """

    def __init__(self, alignment: Alignment, recorded: Shape2, ideal: TiltGeometry, like: Array) -> None:
        rows, columns = ideal.detector
        self.domain_shape = (ideal.n_tilts, columns, rows)
        self.range_shape = (ideal.n_tilts, recorded[1], recorded[0])
        self.tilts_across = tilts_of(alignment, ideal.n_tilts)
        maps = affine(alignment, recorded, ideal.detector, ideal.offsets, ideal.fineness)
        self._affine = namespace(like).asarray(maps)
        self._kernels, self._on_device = kernels(like), is_device_array(like)

    def __call__(self, x: Array, out: Array) -> Array:
        check_array("ideal stack (tilt, u, y)", x, self.domain_shape, on_device=self._on_device)
        check_array("recorded stack (tilt, u, y)", out, self.range_shape, on_device=self._on_device)
        self._kernels.warp(x, out, self._affine)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        check_array("recorded stack (tilt, u, y)", y, self.range_shape, on_device=self._on_device)
        check_array("ideal stack (tilt, u, y)", out, self.domain_shape, on_device=self._on_device)
        self._kernels.warp_adjoint(y, out, self._affine)
        return out


class AlignedProjector:
    """``A = W P``: a projector followed by the warp into the recorded frames."""

    def __init__(self, projector: Operator, warp: DetectorWarp, like: Array) -> None:
        self.domain_shape, self.range_shape = projector.domain_shape, warp.range_shape
        self.projector, self.warp, self.tilts_across = projector, warp, warp.tilts_across
        self._ideal = kernels(like).zeros(projector.range_shape)

    def __call__(self, x: Array, out: Array) -> Array:
        return self.warp(self.projector(x, self._ideal), out)

    def adjoint(self, y: Array, out: Array) -> Array:
        return self.projector.adjoint(self.warp.adjoint(y, self._ideal), out)
