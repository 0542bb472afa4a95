"""Parallel-beam acquisition geometry, one set of vectors per projection.

Conventions (DESIGN section 3, tested in ``tests/test_conventions.py``)
    Volume axes are ``(z, y, x)``; z is the beam at zero tilt, y the tilt axis. Voxel ``i`` of ``n``
    sits at ``i - (n - 1) / 2``, a detector pixel likewise; the unit of length is one voxel, and a
    detector pixel is as wide as a voxel. At tilt ``t`` the point ``(z, y, x)`` lands on detector
    column ``u = x cos t + z sin t`` and row ``v = y``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import GeometryError
from recon.geometry.angles import cos, directions, rotation, sin
from recon.geometry.checks import check_angles, check_azimuths, check_vectors
from recon.geometry.parts import Part, described, parts
from recon.geometry.projections import Projections, Shape2, Shape3

__all__ = ["Shape2", "Shape3", "TiltGeometry"]

CLOSE = 1e-5  # voxels, and of a unit vector: what rounding leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, repr=False)
class TiltGeometry(Projections):
    """A sequence of parallel projections of one volume: a value.

    ``a + b`` takes the projections of both, ``a[::2]`` some of them, `moved` and `turned` disturb them. Its vectors are
    those of `recon.geometry.projections.Projections`.
    """

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

        Examples:
            >>> geometry = TiltGeometry.single_axis([-60, 0, 60], detector=(32, 24))
            >>> geometry.volume, geometry.stack_shape
            ((24, 32, 24), (3, 32, 24))
            >>> geometry[1:].tilts_deg.round(6).tolist()
            [0.0, 60.0]
        """
        try:
            tilts = np.asarray(tilts_deg, dtype=np.float64).ravel()
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
        check_angles("tilt", tilts)
        ray, across, along = directions(tilts, np.zeros_like(tilts))
        centre = away[:, None] * across
        # drift may carry a map out of the volume: such offsets are no fault of the scheme
        return cls.from_vectors(ray, centre, across / fineness, along, (ny, nu), shape, all_meet=False)

    @classmethod
    def from_angles(
        cls,
        tilts_deg: ArrayLike,
        axes_deg: ArrayLike,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
    ) -> TiltGeometry:
        """Each projection with a tilt and a tilt axis of its own, the axis being the detector's v.

        The specimen lies in its holder turned about z, so that the axis goes through it at `axes_deg` from y towards
        x; then the holder tilts about the axis. Single-axis, dual-axis and conical schemes are of this kind.

        Args:
            tilts_deg: tilt angles in degrees, shape ``(tilt,)`` or one number.
            axes_deg: direction of the axis in the specimen, degrees from y towards x, ``(tilt,)`` or one number.
            detector: ``(ny, nu)``, rows and columns of a projection.
            volume: ``(nz, ny, nx)``; by default a cube as wide as the detector.

        Raises:
            GeometryError: no tilts, not numbers, degrees that look like radians, or a size below 1.
        """
        try:
            tilts, axes = np.broadcast_arrays(
                np.asarray(tilts_deg, dtype=np.float64).ravel(), np.asarray(axes_deg, dtype=np.float64).ravel()
            )
        except (TypeError, ValueError) as exc:
            raise GeometryError(
                "tilts_deg and axes_deg must be numbers in degrees, as many of the one as of the other; got shapes "
                f"{np.shape(tilts_deg)} and {np.shape(axes_deg)}"
            ) from exc
        check_angles("tilt", tilts)
        check_angles("axis", axes, most=360.0)
        ray, across, along = directions(tilts, axes)
        shape = _cube(detector) if volume is None else volume
        return cls.from_vectors(ray, np.zeros_like(ray), across, along, detector, shape)

    @classmethod
    def dual_axis(
        cls,
        tilts_deg: ArrayLike,
        second_tilts_deg: ArrayLike | None = None,
        *,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
        axis_deg: float = 90.0,
    ) -> TiltGeometry:
        """Two single-axis series of one specimen (Penczek et al., Ultramicroscopy 60, 393 (1995)), one after the other.

        Args:
            tilts_deg: of the first, about y.
            second_tilts_deg: of the second, about an axis at `axis_deg` from y towards x; by default the same tilts.
            detector, volume: as `from_angles`.
            axis_deg: angle between the axes; at 90 degrees both halves are as fast as a single axis.
        """
        second = tilts_deg if second_tilts_deg is None else second_tilts_deg
        return cls.from_angles(tilts_deg, 0.0, detector, volume) + cls.from_angles(second, axis_deg, detector, volume)

    @classmethod
    def conical(
        cls,
        tilt_deg: float,
        azimuths_deg: ArrayLike,
        *,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
    ) -> TiltGeometry:
        """One tilt, the specimen turned about z between the maps.

        See Radermacher, J. Electron Microsc. Tech. 9, 359 (1988).

        Args:
            tilt_deg: of all projections, degrees.
            azimuths_deg: directions of the tilt axis in the specimen, degrees from y towards x, ``(tilt,)``.
            detector, volume: as `from_angles`.
        """
        made = cls.from_angles(tilt_deg, azimuths_deg, detector, volume)
        check_azimuths(np.ravel(np.asarray(azimuths_deg, dtype=np.float64)))
        return made

    @classmethod
    def golden_angle(
        cls,
        n: int,
        *,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
        most_deg: float = 70.0,
    ) -> TiltGeometry:
        """`n` tilts about y by the golden ratio: however many have been taken, they fill the range evenly.

        The tilts are those of Kohler (IEEE Symp. Conf. Rec. Nucl. Sci. 2004, 3961), within +-`most_deg` degrees.
        """
        if n < 1 or not 0 < most_deg <= 90:
            raise GeometryError(
                f"golden-angle scheme of {n} tilts within +-{most_deg:g}; need n >= 1 and 0 < range <= 90"
            )
        fraction = np.arange(n) * (np.sqrt(5) - 1) / 2 % 1
        return cls.from_angles((2 * fraction - 1) * most_deg, 0.0, detector, volume)

    @classmethod
    def random(
        cls,
        n: int,
        *,
        detector: Sequence[int],
        volume: Sequence[int] | None = None,
        most_deg: float = 70.0,
        seed: int = 0,
    ) -> TiltGeometry:
        """`n` directions spread evenly, at random, over the cone within `most_deg` degrees of z."""
        if n < 1 or not 0 < most_deg <= 90:
            raise GeometryError(f"random scheme of {n} tilts within {most_deg:g}; need n >= 1 and 0 < range <= 90")
        rng = np.random.default_rng(seed)
        cos = rng.uniform(np.cos(np.radians(most_deg)), 1.0, n)  # evenly over the sphere
        return cls.from_angles(np.degrees(np.arccos(cos)), rng.uniform(0, 360, n), detector, volume)

    @classmethod
    def from_vectors(
        cls,
        ray: ArrayLike,
        centre: ArrayLike,
        u: ArrayLike,
        v: ArrayLike,
        detector: Sequence[int],
        volume: Sequence[int],
        *,
        all_meet: bool = True,
    ) -> TiltGeometry:
        """Any parallel-beam scheme; see the class for the arguments, each vector ``(z, y, x)``.

        Args:
            ray, centre, u, v, detector, volume: see the class.
            all_meet: whether some ray of each projection must meet the volume.

        Raises:
            GeometryError: shapes differ, a value is not finite, a ray is zero, or a projection misses the volume.
        """
        vectors = [np.array(a, dtype=np.float64, ndmin=2) for a in (ray, centre, u, v)]
        det, vol = tuple(int(k) for k in detector), tuple(int(k) for k in volume)
        check_vectors(vectors, det, vol, all_meet=all_meet)
        unit, at, du, dv = vectors
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        for a in vectors:
            a.setflags(write=False)
        return cls(unit, at, du, dv, (det[0], det[1]), (vol[0], vol[1], vol[2]))

    @classmethod
    def from_astra(cls, vectors: ArrayLike, detector: Sequence[int], volume: Sequence[int]) -> TiltGeometry:
        """From the vectors of an ASTRA ``parallel3d_vec`` geometry, ``(tilt, 12)``: ray, centre, u, v as (X, Y, Z).

        ASTRA's axes are ours: ``X = x``, ``Y = y``, ``Z = z``, and a volume that ASTRA calls ``(Z, Y, X)`` is our
        ``(z, y, x)``; the unit is a voxel's edge.

        Args:
            vectors: ``(tilt, 12)``.
            detector: ``(rows, columns)``.
            volume: ``(nz, ny, nx)``.
        """
        a = np.array(vectors, dtype=np.float64, ndmin=2)
        if a.ndim != 2 or a.shape[1] != 12:
            raise GeometryError(f"vectors have shape {a.shape}; ASTRA's parallel3d_vec has 12 numbers a projection")
        ray, centre, u, v = (a[:, k : k + 3][:, ::-1] for k in (0, 3, 6, 9))
        return cls.from_vectors(ray, centre, u, v, detector, volume)

    def to_astra(self) -> NDArray[np.float64]:
        """The vectors of ASTRA's ``parallel3d_vec``, ``(tilt, 12)``; see `from_astra`."""
        return np.concatenate([a[:, ::-1] for a in (self.ray, self.centre, self.u, self.v)], axis=1)

    @property
    def stack_shape(self) -> Shape3:
        """Shape ``(tilt, ny, nu)`` of a stack of projections."""
        return (self.n_tilts, *self.detector)

    @cached_property
    def is_single_axis(self) -> bool:
        """True if every projection turns about the volume's y axis, rows matching slices.

        The detector may lie beside the axis, and have a whole number of columns on a voxel's edge.
        """
        if self.detector[0] != self.volume[1]:
            return False
        across = self.u * self.fineness
        spin = np.stack([across[:, 2], across[:, 1], -across[:, 0]], axis=1)  # u turned by 90 degrees
        off = (
            self.v - (0, 1, 0),
            np.sum(across * across, axis=1) - 1,
            self.ray - spin,
            self.centre - self.offsets[:, None] * across,
        )
        return all(bool((np.abs(a) <= CLOSE).all()) for a in off)

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

    # ---------------------------------------------------------------- algebra

    def on(self, volume: Sequence[int], detector: Sequence[int] | None = None) -> TiltGeometry:
        """The same projections of another volume ``(nz, ny, nx)``, on a detector of another size."""
        return self._with(detector=self.detector if detector is None else detector, volume=volume)

    def binned(self, factor: int, volume: Sequence[int], detector: Sequence[int]) -> TiltGeometry:
        """The same projections with voxels and pixels `factor` times as large."""
        return self._with(centre=self.centre / factor, detector=detector, volume=volume)

    def turned(self, degrees: float, axis: str = "z") -> TiltGeometry:
        """The scheme for a specimen that lies turned: every vector by `degrees` about a volume axis.

        About z the turn goes from y towards x, about y from x towards z, about x from z towards y.
        """
        return self.transformed(rotation(degrees, axis))

    def transformed(self, matrix: ArrayLike, shift: ArrayLike = (0.0, 0.0, 0.0)) -> TiltGeometry:
        """Every vector ``a`` as ``matrix a``, centres moved by `shift` as well; components ``(z, y, x)``, voxels.

        Moving the geometry so and moving the volume in it the same way gives the same projections.
        """
        m, away = np.asarray(matrix, dtype=np.float64), np.asarray(shift, dtype=np.float64)
        if m.shape != (3, 3) or away.shape != (3,):
            raise GeometryError(f"matrix has shape {m.shape} and shift {away.shape}; they must be (3, 3) and (3,)")
        return self._with(ray=self.ray @ m.T, centre=self.centre @ m.T + away, u=self.u @ m.T, v=self.v @ m.T)

    def moved(self, shifts: ArrayLike, rotation_deg: ArrayLike = 0.0) -> TiltGeometry:
        """The scheme with its detectors where an alignment found them (`recon.Alignment` states the signs).

        Args:
            shifts: ``(tilt, 2)``, displacement ``(v, u)`` in pixels of what each map shows.
            rotation_deg: by which the axis is turned in the maps, degrees, one number or ``(tilt,)``.
        """
        by, turn = np.asarray(shifts, dtype=np.float64), np.asarray(rotation_deg, dtype=np.float64)
        if by.shape != (self.n_tilts, 2) or turn.shape not in ((), (self.n_tilts,)):
            raise GeometryError(
                f"shifts have shape {by.shape}, rotations {turn.shape}; there are {self.n_tilts} projections, so they "
                f"must be ({self.n_tilts}, 2) and ({self.n_tilts},)"
            )
        c, s = (np.broadcast_to(f(turn), self.n_tilts)[:, None] for f in (cos, sin))
        u, v = c * self.u - s * self.v, c * self.v + s * self.u
        return self._with(centre=self.centre - by[:, :1] * v - by[:, 1:] * u, u=u, v=v)

    def parts(self) -> tuple[Part, ...]:
        """The projections in groups that one projector serves: single-axis ones about each axis, and the others."""
        return parts(self)

    def plot(self) -> Figure:
        """The scheme in 3D, what it covers of Fourier space, and the missing wedge; needs matplotlib."""
        from recon.geometry.coverage import plot

        return plot(self)

    def _repr_html_(self) -> str:
        """For notebooks: where the beam comes from, and what was measured of Fourier space."""
        from recon.geometry.coverage import sketch

        return sketch(self, repr(self))

    def _with(self, **changes: ArrayLike) -> TiltGeometry:
        fields = ("ray", "centre", "u", "v", "detector", "volume")
        return TiltGeometry.from_vectors(**{k: changes.get(k, getattr(self, k)) for k in fields}, all_meet=False)

    def __len__(self) -> int:
        return self.n_tilts

    def __add__(self, other: object) -> TiltGeometry:
        """The projections of both, in this order; detector and volume must be the same."""
        if not isinstance(other, TiltGeometry):
            return NotImplemented
        if (self.detector, self.volume) != (other.detector, other.volume):
            raise GeometryError(
                f"geometries with detector {self.detector}, volume {self.volume} and detector {other.detector}, volume "
                f"{other.volume} do not add; give both the same (see TiltGeometry.on)"
            )
        names = ("ray", "centre", "u", "v")
        return self._with(**{k: np.concatenate([getattr(self, k), getattr(other, k)]) for k in names})

    def __getitem__(self, index: int | slice | NDArray[np.integer] | Sequence[int]) -> TiltGeometry:
        """The geometry of some of the projections."""
        pick = np.atleast_1d(np.arange(self.n_tilts)[index])
        if pick.size == 0:
            raise GeometryError(f"no projection is left of {self.n_tilts}; the slice is empty")
        return self._with(**{k: getattr(self, k)[pick] for k in ("ray", "centre", "u", "v")})

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
        return f"TiltGeometry({described(self)}, detector={self.detector}, volume={self.volume})"


def _cube(detector: Sequence[int]) -> tuple[int, ...]:
    if len(detector) != 2:
        raise GeometryError(f"detector {detector} must be (rows, columns)")
    rows, columns = detector
    return (int(columns), int(rows), int(columns))
