"""Parallel-beam acquisition geometry, one set of vectors per projection.

Conventions (DESIGN section 3, tested in ``tests/test_conventions.py``)
    Volume axes are ``(z, y, x)``; z is the beam at zero tilt, y the tilt axis. Voxel ``i`` of ``n``
    sits at ``i - (n - 1) / 2``, a detector pixel likewise; the unit of length is one voxel, and a
    detector pixel is as wide as a voxel. At tilt ``t`` the point ``(z, y, x)`` lands on detector
    column ``u = x cos t + z sin t`` and row ``v = y``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Shape2 = tuple[int, int]
Shape3 = tuple[int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class TiltGeometry:
    """A sequence of parallel projections of one volume.

    Attributes:
        ray: ``(tilt, 3)`` float64, unit vectors along the beam, components ``(z, y, x)``.
        centre: ``(tilt, 3)`` float64, centre of the detector, in voxels.
        u: ``(tilt, 3)`` float64, step from one detector column to the next, in voxels.
        v: ``(tilt, 3)`` float64, step from one detector row to the next, in voxels.
        detector: ``(rows, columns)`` = ``(ny, nu)`` of every projection.
        volume: ``(nz, ny, nx)`` of the volume.
    """

    ray: NDArray[np.float64]
    centre: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    detector: Shape2
    volume: Shape3

    @classmethod
    def single_axis(
        cls,
        tilts_deg: ArrayLike,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
        *,
        offsets: ArrayLike = 0.0,
        fineness: int = 1,
    ) -> TiltGeometry:
        """Rotation about the volume's y axis.

        Args:
            tilts_deg: tilt angles in degrees, shape ``(tilt,)``.
            detector: ``(ny, nu)``, rows and columns of a projection.
            volume: ``(nz, ny, nx)``; by default ``(nu, ny, nu)``.
            offsets: of the detector's centre from the tilt axis along u, voxels, shape ``(tilt,)`` or one number.
            fineness: detector columns on a voxel's edge.

        Raises:
            GeometryError: no tilts, a size below 1, or ``ny`` of volume and detector differ.
        """
        try:
            tilts = np.radians(np.asarray(tilts_deg, dtype=np.float64).ravel())
            ny, nu = (int(n) for n in detector)
            shape = (nu, ny, nu) if volume is None else tuple(int(n) for n in volume)
            away = np.broadcast_to(np.asarray(offsets, dtype=np.float64), tilts.shape)
        except (TypeError, ValueError) as exc:
            raise GeometryError(
                "tilts must be numbers in degrees, detector (rows, columns), volume (z, y, x), offsets one number for "
                f"each tilt; got detector {detector}"
            ) from exc
        if fineness < 1:
            raise GeometryError(f"fineness is {fineness}; a voxel's edge holds at least one detector column")
        if len(shape) != 3 or shape[1] != ny:
            raise GeometryError(
                f"volume {shape} has {shape[1] if len(shape) == 3 else len(shape)} slices along the "
                f"tilt axis, the detector has {ny} rows; a single-axis geometry needs the same number"
            )
        zero, one = np.zeros_like(tilts), np.ones_like(tilts)
        cos, sin = np.cos(tilts), np.sin(tilts)
        across = np.stack([sin, zero, cos], axis=1)
        return cls.from_vectors(
            ray=np.stack([cos, zero, -sin], axis=1),
            centre=away[:, None] * across,
            u=across / fineness,
            v=np.stack([zero, one, zero], axis=1),
            detector=(ny, nu),
            volume=(shape[0], shape[1], shape[2]),
        )

    @classmethod
    def from_vectors(
        cls,
        ray: ArrayLike,
        centre: ArrayLike,
        u: ArrayLike,
        v: ArrayLike,
        detector: Sequence[int],
        volume: Sequence[int],
    ) -> TiltGeometry:
        """Any parallel-beam scheme; see the class for the arguments, each vector ``(z, y, x)``.

        Raises:
            GeometryError: shapes differ, a value is not finite, or a ray is zero.
        """
        vectors = [np.array(a, dtype=np.float64, ndmin=2) for a in (ray, centre, u, v)]
        n = len(vectors[0])
        for name, a in zip(("ray", "centre", "u", "v"), vectors, strict=True):
            if a.shape != (n, 3) or n == 0:
                raise GeometryError(f"{name} has shape {a.shape}; every vector array must be ({max(n, 1)}, 3)")
            if not np.isfinite(a).all():
                raise GeometryError(f"{name} holds values that are not finite")
            a.setflags(write=False)
        length = np.linalg.norm(vectors[0], axis=1, keepdims=True)
        if not length.all():
            raise GeometryError("a ray has length 0; give the beam direction of every projection")
        det, vol = tuple(int(k) for k in detector), tuple(int(k) for k in volume)
        if len(det) != 2 or len(vol) != 3 or min(*det, *vol) < 1:
            raise GeometryError(f"detector {det} must be (rows, columns) and volume {vol} (z, y, x), each at least 1")
        unit = vectors[0] / length
        unit.setflags(write=False)
        _, at, du, dv = vectors
        return cls(unit, at, du, dv, (det[0], det[1]), (vol[0], vol[1], vol[2]))

    @property
    def n_tilts(self) -> int:
        return len(self.ray)

    @property
    def stack_shape(self) -> Shape3:
        """Shape ``(tilt, ny, nu)`` of a stack of projections."""
        return (self.n_tilts, *self.detector)

    @property
    def is_single_axis(self) -> bool:
        """True if every projection turns about the volume's y axis, rows matching slices.

        The detector may lie beside the axis, and have a whole number of columns on a voxel's edge.
        """
        across = self.u * self.fineness
        spin = np.stack([across[:, 2], across[:, 1], -across[:, 0]], axis=1)  # u turned by 90 degrees
        return bool(
            np.allclose(self.v, (0, 1, 0))
            and np.allclose(np.linalg.norm(across, axis=1), 1)
            and np.allclose(self.ray, spin)
            and np.allclose(self.centre, self.offsets[:, None] * across)
            and self.detector[0] == self.volume[1]
        )

    @property
    def fineness(self) -> int:
        """Detector columns on a voxel's edge, rounded to a whole number."""
        return max(1, round(1 / max(float(np.linalg.norm(self.u[0])), 1e-9)))

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Distance of the detector's centre from the tilt axis along u, voxels, shape ``(tilt,)``."""
        return np.asarray(np.sum(self.centre * self.u, axis=1) / np.linalg.norm(self.u, axis=1))

    @property
    def tilts_deg(self) -> NDArray[np.float64]:
        """Tilts of a single-axis geometry in degrees, shape ``(tilt,)``."""
        if not self.is_single_axis:
            raise GeometryError("only a single-axis geometry has tilts; use its vectors ray, centre, u and v")
        return np.degrees(np.arctan2(self.u[:, 0], self.u[:, 2]))

    def __len__(self) -> int:
        return self.n_tilts

    def __getitem__(self, index: slice | NDArray[np.integer] | Sequence[int]) -> TiltGeometry:
        """The geometry of some of the projections."""
        pick = np.arange(self.n_tilts)[index]
        return TiltGeometry.from_vectors(
            self.ray[pick], self.centre[pick], self.u[pick], self.v[pick], self.detector, self.volume
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TiltGeometry):
            return NotImplemented
        return (self.detector, self.volume) == (other.detector, other.volume) and all(
            np.array_equal(a, b)
            for a, b in (
                (self.ray, other.ray),
                (self.centre, other.centre),
                (self.u, other.u),
                (self.v, other.v),
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        what = (
            f"tilts {self.tilts_deg.min():g} to {self.tilts_deg.max():g} deg"
            if self.is_single_axis
            else "general vectors"
        )
        return f"TiltGeometry({self.n_tilts} projections, {what}, detector={self.detector}, volume={self.volume})"
