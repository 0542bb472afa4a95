"""Simulated tilt series with a known truth: painted ellipsoids, projected in closed form.

A `Particle` is a list of ellipsoids, each of a uniform composition; where they overlap, the later one
counts. Its line integrals are exact: the chords of a ray through all ellipsoids are sorted, and each
segment gets the composition of the last ellipsoid that holds it. No projector of this project is used,
and drift, rotation and offset move the rays, so nothing is interpolated.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.backend import cores
from recon.errors import JobError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries, nominal_tilts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

MOST = 8  # threads: each has some planes of points to itself


@dataclass(frozen=True)
class Ellipsoid:
    """A uniform ellipsoid; lengths are fractions of the volume's edge.

    Attributes:
        centre: ``(z, y, x)`` from the volume's centre.
        semi_axes: along its own three axes, before rotation ``(z, y, x)``.
        density: one value per element, relative.
        turn_deg: rotation about x, then about y, then about z, degrees.
    """

    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    density: tuple[float, ...]
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def form(self) -> NDArray[np.float64]:
        """The matrix M of the ellipsoid ``(r - c)^T M (r - c) <= 1``, axes ``(z, y, x)``."""
        turn = np.eye(3)
        for axes, angle in zip(((0, 1), (0, 2), (1, 2)), self.turn_deg, strict=True):
            c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            step = np.eye(3)
            step[axes[0], axes[0]] = step[axes[1], axes[1]] = c
            step[axes[0], axes[1]], step[axes[1], axes[0]] = -s, s
            turn = step @ turn
        return turn @ np.diag(1 / np.square(self.semi_axes)) @ turn.T


@dataclass(frozen=True)
class Particle:
    """Ellipsoids in the order in which they are painted, and what to ask of them.

    Attributes:
        elements: names, in the order of `Ellipsoid.density`.
        shapes: later ones replace earlier ones.
        regions: name to an ellipsoid inside which the composition is asked for.
    """

    elements: tuple[str, ...]
    shapes: tuple[Ellipsoid, ...]
    regions: dict[str, Ellipsoid]

    def volume(
        self, size: int, samples: int = 4, *, translation: tuple[float, float, float] = (0, 0, 0), turn_deg: float = 0
    ) -> NDArray[np.float32]:
        """True densities ``(element, z, y, x)``, mean over `samples`^3 points of each voxel.

        Args:
            size: voxels along an edge.
            samples: points along a voxel's edge.
            translation: ``(z, y, x)`` voxels by which the particle lies elsewhere.
            turn_deg: rotation about z by which it is turned before.
        """
        n = size * samples
        axis = ((np.arange(n) - (n - 1) / 2) / samples)[:, None] - np.asarray(translation, dtype=float)
        c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
        y, x = axis[:, 1, None], axis[None, :, 2]
        y, x = ((c * y - s * x) / size, (s * y + c * x) / size) if turn_deg else (y / size, x / size)
        density = np.array([s.density for s in self.shapes] + [(0.0,) * len(self.elements)], dtype=np.float32)
        out = np.zeros((len(self.elements), size, size, size), np.float32)
        # where each ellipsoid may reach: points around its centre, on the grid
        reach = []
        for shape in self.shapes:
            cz, cy, cx = shape.centre
            if turn_deg:
                cy, cx = c * cy + s * cx, c * cx - s * cy
            at = np.array([cz, cy, cx]) * size + np.asarray(translation, dtype=float)
            middle, far = at * samples + (n - 1) / 2, max(shape.semi_axes) * size * samples + 1
            low, high = (np.clip(end, 0, n).astype(int).tolist() for end in (middle - far, middle + far + 1))
            reach.append([slice(*ends) for ends in zip(low, high, strict=True)])
        forms = [s.form() for s in self.shapes]

        def draw(plane: int) -> None:
            """All planes of points in a plane of voxels."""
            for k in range(plane * samples, (plane + 1) * samples):
                z = axis[k, 0] / size
                last = np.full((n, n), -1, np.int8 if len(self.shapes) < 128 else np.int64)
                for i, (shape, form, (planes, rows, columns)) in enumerate(zip(self.shapes, forms, reach, strict=True)):
                    if planes.start <= k < planes.stop and rows.start < rows.stop and columns.start < columns.stop:
                        y_there = y[rows, columns] if turn_deg else y[rows]
                        x_there = x[rows, columns] if turn_deg else x[:, columns]
                        last[rows, columns][_inside(shape, form, z, y_there, x_there)] = i
                if (last >= 0).any():
                    points = np.moveaxis(density[last], -1, 0).reshape(-1, size, samples, size, samples)
                    out[:, plane] += points.mean(axis=(2, 4)) / samples

        with ThreadPoolExecutor(min(cores(), MOST)) as pool:
            list(pool.map(draw, range(size)))
        return out

    def inside(self, region: str, size: int) -> NDArray[np.bool_]:
        """Voxels ``(z, y, x)`` whose centre lies in a named region."""
        axis = (np.arange(size) - (size - 1) / 2) / size
        shape = self.regions[region]
        return _inside(shape, shape.form(), axis[:, None, None], axis[None, :, None], axis[None, None, :])

    def projection(self, tilt_deg: float, v: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Exact line integrals at detector points, fractions of the edge; ``(element, *v.shape)``."""
        t = np.radians(tilt_deg)
        ray = np.array([np.cos(t), 0.0, -np.sin(t)])
        return self.integrals(ray, np.stack([u * np.sin(t), v, u * np.cos(t)]))

    def integrals(self, ray: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Exact integrals along the unit vector `ray` through `points` ``(3, ...)``, both ``(z, y, x)``, edges.

        Returns ``(element, ...)``.
        """
        start = points.reshape(3, -1)
        enter = np.full((len(self.shapes), start.shape[1]), np.inf)
        leave = np.full_like(enter, -np.inf)
        for i, shape in enumerate(self.shapes):
            form = shape.form()
            offset = start - np.array(shape.centre)[:, None]
            a = ray @ form @ ray
            b = (ray @ form) @ offset
            c = np.einsum("ir,ij,jr->r", offset, form, offset) - 1
            disc = b * b - a * c
            hit = disc > 0
            root = np.sqrt(disc[hit])
            enter[i, hit] = (-b[hit] - root) / a
            leave[i, hit] = (-b[hit] + root) / a
        out = np.zeros((len(self.elements), start.shape[1]))
        seen = np.flatnonzero((enter < leave).any(axis=0))
        enter, leave = enter[:, seen], leave[:, seen]
        cuts = np.sort(np.concatenate([enter, leave]), axis=0)
        density = np.array([s.density for s in self.shapes] + [(0.0,) * len(self.elements)])
        for lower, upper in itertools.pairwise(cuts):
            real = np.isfinite(lower) & np.isfinite(upper) & (upper > lower)
            middle = np.where(real, (lower + np.where(real, upper, 0)) / 2, 0)
            last = np.full(middle.shape, -1)
            for i in range(len(self.shapes)):
                last[(enter[i] < middle) & (middle < leave[i])] = i
            length = np.where(real, np.where(real, upper, 0) - np.where(real, lower, 0), 0)
            out[:, seen] += density[last].T * length
        return out.reshape(len(self.elements), *points.shape[1:])


def _inside(shape: Ellipsoid, form: NDArray[np.float64], z: ArrayLike, y: ArrayLike, x: ArrayLike) -> NDArray[np.bool_]:
    r = [np.asarray(a) - c for a, c in zip((z, y, x), shape.centre, strict=True)]
    value = sum(form[i, j] * r[i] * r[j] for i in range(3) for j in range(3))
    return np.asarray(value <= 1)


def two_metal_particle(seed: int = 0) -> Particle:
    """The question of Longley et al. (2018), Fig. 5, with known answers.

    Every seed moves, turns and stretches all parts a little, and from 1 on decides which protrusion is the mixed one.

    A Co-rich and a Zn-rich glass, interlocked. Two protrusions reach from the Co domain into the Zn
    domain: in ``interlocked`` Zn is absent, in ``mixed`` both metals are present. Fine domains of each
    metal lie in the other.
    """
    co, zn, both, none = (1.0, 0.0), (0.0, 0.8), (0.55, 0.45), (0.0, 0.0)
    shapes = (
        Ellipsoid((0.00, 0.02, 0.09), (0.24, 0.29, 0.20), zn, (12, 0, 20)),
        Ellipsoid((0.01, -0.02, -0.11), (0.25, 0.27, 0.17), co, (-8, 15, 0)),
        Ellipsoid((-0.03, 0.20, -0.10), (0.12, 0.11, 0.10), co),
        # protrusions of the Co domain into the Zn domain
        Ellipsoid((0.02, -0.11, 0.09), (0.065, 0.055, 0.13), co, (0, 0, 10)),
        Ellipsoid((-0.01, 0.11, 0.08), (0.065, 0.055, 0.13), both, (0, 0, -8)),
        # fine domains
        Ellipsoid((0.13, -0.05, 0.12), (0.035, 0.035, 0.035), co),
        Ellipsoid((-0.13, 0.02, 0.15), (0.030, 0.040, 0.030), co),
        Ellipsoid((0.10, -0.03, -0.15), (0.035, 0.030, 0.040), zn),
        Ellipsoid((-0.12, -0.10, -0.10), (0.030, 0.045, 0.030), zn),
        Ellipsoid((0.02, 0.02, -0.17), (0.040, 0.030, 0.030), zn),
        # a void
        Ellipsoid((0.12, 0.12, 0.02), (0.045, 0.045, 0.045), none),
    )
    regions = {
        "interlocked": Ellipsoid((0.02, -0.11, 0.115), (0.045, 0.038, 0.075), none, (0, 0, 10)),
        "mixed": Ellipsoid((-0.01, 0.11, 0.105), (0.045, 0.038, 0.075), none, (0, 0, -8)),
    }
    if seed == 0:
        return Particle(("Co", "Zn"), shapes, regions)
    rng = np.random.default_rng(seed)
    mixed = float(rng.uniform(0.35, 0.65))  # part of Zn in the mixed protrusion
    contents = [co, (1 - mixed, 0.8 * mixed)]
    swapped = bool(rng.integers(2))
    varied = [_varied(s, rng, contents[(k - PROTRUSIONS) ^ swapped] if k - PROTRUSIONS in (0, 1) else s.density)
              for k, s in enumerate(shapes)]  # fmt: skip
    names = ("mixed", "interlocked") if swapped else ("interlocked", "mixed")
    regions = {}
    for k, name in enumerate(names):
        place = varied[PROTRUSIONS + k]
        (z, y, x), axes = place.centre, tuple(0.7 * a for a in place.semi_axes)
        regions[name] = Ellipsoid((z, y, x + 0.025), (axes[0], axes[1], axes[2] * 0.85), none, place.turn_deg)
    return Particle(("Co", "Zn"), tuple(varied), regions)


PROTRUSIONS = 3  # position of the first of the two among the shapes of `two_metal_particle`


def _varied(shape: Ellipsoid, rng: np.random.Generator, density: tuple[float, ...]) -> Ellipsoid:
    z, y, x = (c + float(d) for c, d in zip(shape.centre, rng.uniform(-0.012, 0.012, 3), strict=True))
    a, b, c = (s * float(f) for s, f in zip(shape.semi_axes, rng.uniform(0.9, 1.1, 3), strict=True))
    turn = [t + float(d) for t, d in zip(shape.turn_deg, rng.uniform(-8, 8, 3), strict=True)]
    return Ellipsoid((z, y, x), (a, b, c), density, (turn[0], turn[1], turn[2]))


@dataclass(frozen=True)
class Truth:
    """What a simulated series was made from.

    Attributes:
        volumes: element to true density ``(z, y, x)``, counts per voxel length per unit exposure.
        alignment: true `Alignment`.
        exposures: ``(tilt,)``.
        background: counts per pixel at unit exposure.
        particle: the shapes.
    """

    volumes: dict[str, NDArray[np.float32]]
    alignment: Alignment
    exposures: NDArray[np.float64]
    background: float
    particle: Particle


def simulate(
    particle: Particle | None = None,
    *,
    size: int = 64,
    tilts_deg: Sequence[float] | None = None,
    geometry: TiltGeometry | None = None,
    actual: TiltGeometry | None = None,
    dose: float = 40.0,
    drift: float = 3.0,
    rotation_deg: float = 2.0,
    axis_offset: float = 1.5,
    shadowing: float = 0.45,
    background: float = 0.01,
    pixel_size_nm: float = 5.0,
    samples: int = 3,
    seed: int = 0,
) -> tuple[TiltSeries, Truth]:
    """A tilt series as a microscope would record it, and the truth behind it.

    Args:
        particle: by default `two_metal_particle`.
        size: pixels along each edge of a map.
        tilts_deg: by default -70 to 70 degrees in steps of 10.
        geometry: another scheme in place of the tilts, its detector ``(size, size)``.
        actual: what the scheme really was, where the maps were not taken as `geometry` says.
        dose: expected counts in the brightest pixel of all maps at unit exposure.
        drift: each map is shifted by up to this many pixels in both directions.
        rotation_deg: in-plane angle of the tilt axis.
        axis_offset: column of the tilt axis from the frame's centre, pixels.
        shadowing: fraction of the signal that the worst tilt loses to detector shadowing.
        background: counts per pixel as a fraction of `dose`, shadowed like the signal.
        samples: rays per pixel edge.
        seed: of the random numbers; the same seed gives the same series.

    Raises:
        JobError: a size below 16 or a dose that is not positive.
    """
    if size < 16:
        raise JobError(f"size is {size}; the particle's details need at least 16 pixels")
    if not dose > 0:
        raise JobError(f"dose is {dose} counts; it must be positive")
    particle = particle or two_metal_particle()
    tilts = np.arange(-70.0, 71.0, 10.0) if tilts_deg is None else np.asarray(tilts_deg, dtype=np.float64)
    if geometry is not None:
        tilts = nominal_tilts(geometry)
        if (geometry if actual is None else actual).stack_shape != (tilts.size, size, size):
            raise JobError(f"the geometry's maps are not {tilts.size} of {size} x {size} pixels; give its detector so")
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-drift, drift, (tilts.size, 2))
    alignment = Alignment(shifts, rotation_deg, axis_offset, method="truth")
    # the holder hides the detectors on one side more than on the other
    phase = np.radians(1.2 * tilts + 25)
    exposures = 1 - shadowing * (1 - np.cos(phase)) / (1 - np.cos(phase)).max()

    fine = (np.arange(size * samples) - (size * samples - 1) / 2) / samples
    expected = np.empty((len(particle.elements), tilts.size, size, size))
    true = TiltGeometry.from_angles(tilts, 0.0, (size, size)) if geometry is None else actual or geometry
    true = true.moved(alignment.displacements, rotation_deg)
    v, u = np.meshgrid(fine, fine, indexing="ij")

    def expose(i: int) -> None:
        at = true.centre[i][:, None, None] + true.v[i][:, None, None] * v + true.u[i][:, None, None] * u
        ideal = particle.integrals(true.ray[i], at / size)
        expected[:, i] = ideal.reshape(-1, size, samples, size, samples).mean(axis=(2, 4))

    with ThreadPoolExecutor(min(cores(), MOST)) as pool:
        list(pool.map(expose, range(tilts.size)))
    scale = dose / expected.max()  # counts per (edge x unit density)
    offset = background * dose
    mean = exposures[:, None, None] * (expected * scale + offset)
    counts = rng.poisson(mean).astype(np.float32)
    series = TiltSeries.create(
        dict(zip(particle.elements, counts, strict=True)), tilts if geometry is None else geometry, pixel_size_nm
    )
    truth = particle.volume(size) * np.float32(scale / size)
    volumes = dict(zip(particle.elements, truth, strict=True))
    return series, Truth(volumes, alignment, exposures, offset, particle)
