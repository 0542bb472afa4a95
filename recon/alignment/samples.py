"""What the joint fit compares: smoothed and sampled maps, and blobs that stand for the object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.overlaps import Overlaps
from recon.errors import InputError
from recon.model.grid import grid
from recon.model.noise import noise_weights
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.alignment.pose import Pose

    Array = NDArray[np.float64]

PITCH = 1.5  # of the samples of a smoothed map, in standard deviations of its kernel
SECTION = 1 / 8  # thickness of what leaves the frame, in widths of the frame, where nothing else is known
COARSE_CELLS = 8000  # of the lattice that tells how large the object is
REACH = 2.6  # standard deviations of a kernel that hold `COVERED` of it along both sides
COVERED = 0.98  # of a sample's kernel must lie on pixels with weight: those near a border are left out


@dataclass(frozen=True, eq=False)
class Samples:
    """Maps smoothed with a Gaussian and sampled: ``K_v image K_u^T`` for each tilt.

    Attributes:
        places: (v, u) of the samples, pixels from the frame's centre.
        kernels: ``K_v`` ``(p, v)`` and ``K_u`` ``(q, u)``.
        area: pixels that a sample stands for.
        sigma: of the kernel, pixels.
        seen: ``(tilt, v, u)`` weight of each pixel.
        cover: ``(tilt, p, q)`` one over the part of the kernel on pixels with weight; 0 for samples left out.
        maps: ``(tilt, p, q)`` above background.
        offset: ``(tilt, p, q)`` background.
        variance: ``(tilt,)`` of a pixel of scaled maps; None of counts.
    """

    places: tuple[Array, Array]
    kernels: tuple[Array, Array]
    area: float
    sigma: float
    seen: Array
    cover: Array
    maps: Array
    offset: Array
    variance: Array | None

    @classmethod
    def of(cls, series: TiltSeries, used: NDArray[np.bool_], sigma: float) -> Samples:
        """Samples of a series of one element; `used` ``(tilt,)`` are the tilts that take part."""
        places, kernels = zip(*(_kernel(n, sigma) for n in series.frame), strict=True)
        counts = series.counts[0].astype(np.float64)
        offset = np.broadcast_to(series.offset(0), counts.shape)
        seen = series.seen.astype(np.float64)

        def smooth(images: Array) -> Array:
            return np.stack([kernels[0] @ image @ kernels[1].T for image in images])

        part = smooth(seen)
        cover = np.where(part > COVERED, 1 / np.maximum(part, 1e-9), 0.0)
        cover[~used] = 0
        if not cover.any():
            raise InputError(
                f"the maps hold no place {2 * REACH * sigma:.0f} pixels across whose pixels all have weight, at least "
                f"one of which is needed to align them (binned to {series.frame[0]} x {series.frame[1]} pixels); use "
                "[align] method = 'none', or [align] file for shifts that are known"
            )
        return cls(
            places=(places[0], places[1]),
            kernels=(kernels[0], kernels[1]),
            area=(PITCH * sigma) ** 2,
            sigma=sigma,
            seen=seen,
            cover=cover,
            maps=smooth((counts - offset) * seen) * cover,
            offset=smooth(offset * seen) * cover,
            variance=1 / noise_weights(series, series.elements[0]) if series.scaled else None,
        )

    def weight(self, mean: Array, floor: float) -> Array:
        """Inverse variance of the samples ``(tilt, p, q)`` at an expected mean; a dark one counts as `floor` bright."""
        if self.variance is not None:
            return np.where(self.cover > 0, self.area / self.variance[:, None, None], 0)
        least = floor * float(np.percentile(mean[self.cover > 0], 99.5))
        return np.where(self.cover > 0, self.area / np.maximum(mean, max(least, 1e-9)), 0)

    @property
    def noise(self) -> float:
        """Variance of a smoothed sample over that of a pixel, times its area."""
        return float(self.area / (4 * np.pi * self.sigma**2))


def _kernel(n: int, sigma: float) -> tuple[Array, Array]:
    """Where samples along `n` pixels lie, and the smoothing onto them ``(sample, pixel)``."""
    count = max(4, int((n - 1) / (PITCH * sigma)) + 1)
    at = (np.arange(count) - (count - 1) / 2) * PITCH * sigma
    pixel = np.arange(n) - (n - 1) / 2
    kernel = np.exp(-((at[:, None] - pixel) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return at.astype(np.float64), kernel


@dataclass(frozen=True, eq=False)
class Blobs:
    """Round Gaussian blobs on a cubic lattice.

    Attributes:
        points: ``(blob, 3)`` (z, y, x), in the order of y, then z, then x.
        spacing: of the lattice, pixels.
        device: ``"cpu"`` or ``"cuda"``, where a fit to them is solved.
    """

    points: Array
    spacing: float
    device: str = "cpu"

    @cached_property
    def overlaps(self) -> Overlaps:
        """Pairs of them."""
        return Overlaps.of(self.points, self.spacing).on(self.device)

    @classmethod
    def of(
        cls, series: TiltSeries, pose: Pose, used: NDArray[np.bool_], most: int, finest: float, section: float = SECTION
    ) -> Blobs:
        """Blobs where some map shows them, and every map that does leaves room for the object.

        Args:
            series: of one element, its empty pixels known.
            pose: of its maps, as far as it is known.
            used: ``(tilt,)`` tilts that take part.
            most: blobs, about.
            finest: spacing at least, pixels.
            section: thickness of an object that leaves the frame, in widths of the frame.
        """
        from scipy import ndimage

        from recon.preparation.isolation import look

        size = np.array(grid(series.evolve(alignment=pose.alignment)).shape, float)
        ny, nx = series.frame
        if not series.isolated:
            size[0] = max(section * nx, 2 * finest)
        room = np.where((series.scene or look(series)).empty, 0.0, 1.0)

        def lattice(h: float) -> Array:
            axes = [(np.arange(n) - (n - 1) / 2) * h for n in np.ceil(size / h).astype(int)]
            y, z, x = (a.ravel() for a in np.meshgrid(axes[1], axes[0], axes[2], indexing="ij"))
            points = np.stack([z, y, x], axis=1)
            keep, shown = np.ones(len(points), bool), np.zeros(len(points), bool)
            for i in np.flatnonzero(used):
                v, u = pose.land(points, i)
                shown |= (np.abs(v) < ny / 2 + h) & (np.abs(u) < nx / 2 + h)
                at = [v + (ny - 1) / 2, u + (nx - 1) / 2]
                keep &= ndimage.map_coordinates(room[i], at, order=1, cval=1.0) > 0.5  # beyond the frame is room
            return points[keep & shown]

        coarse = lattice(float(np.cbrt(size.prod() / COARSE_CELLS)))
        volume = len(coarse) * size.prod() / COARSE_CELLS
        spacing = max(finest, float(np.cbrt(volume / most)))
        return cls(lattice(spacing), spacing)


def with_maps(samples: Samples, maps: Array) -> Samples:
    """The same samples of other maps ``(tilt, p, q)``."""
    return replace(samples, maps=maps)


def with_scene(series: TiltSeries) -> TiltSeries:
    """The series with its empty pixels known, so that they are not looked for wherever blobs are placed anew."""
    from recon.preparation.isolation import look

    return series if series.scene is not None else series.evolve(scene=look(series))
