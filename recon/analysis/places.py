"""Regions to ask about: shapes, arrays and features as fields of fractions of a voxel, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Union

import numpy as np

from recon.analysis.features import Feature
from recon.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.tilt_geometry import Shape3

Point = tuple[float, float, float]
SAMPLES = 4  # points along a voxel's edge
CORE = 0.9  # fraction from which a voxel counts as inside a place that is too small to have an inside of whole voxels
FEWEST = 8  # voxels of an inside, at least
MOST_SHARED = 0.5  # voxels that two regions may have in common


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the axes, or a sphere.

    Attributes:
        centre: ``(z, y, x)`` voxels, the first voxel's centre is (0, 0, 0).
        semi_axes: ``(z, y, x)`` voxels.
    """

    centre: Point
    semi_axes: Point

    @classmethod
    def sphere(cls, centre: Point, radius: float) -> Ellipsoid:
        return cls(centre, (radius, radius, radius))

    def fraction(self, shape: Shape3) -> NDArray[np.float32]:
        """The part of each voxel that lies in it, from `SAMPLES`^3 points."""
        if not all(np.isfinite(a) and a > 0 for a in self.semi_axes):
            raise InputError(f"semi-axes {_shown(self.semi_axes)} must be positive numbers of voxels")
        n = SAMPLES
        square = [
            np.square(((np.arange(m * n) + 0.5) / n - 0.5 - c) / a)
            for m, c, a in zip(shape, self.centre, self.semi_axes, strict=True)
        ]
        inside = square[0][:, None, None] + square[1][:, None] + square[2] <= 1
        sums = inside.reshape(shape[0], n, shape[1], n, shape[2], n).mean(axis=(1, 3, 5))
        return np.asarray(sums, np.float32)


@dataclass(frozen=True)
class Box:
    """A box along the axes.

    Attributes:
        low, high: ``(z, y, x)`` voxels, opposite corners; voxel i reaches from i - 1/2 to i + 1/2.
    """

    low: Point
    high: Point

    def fraction(self, shape: Shape3) -> NDArray[np.float32]:
        """The part of each voxel that lies in it."""
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise InputError(f"corner {_shown(self.low)} must lie below corner {_shown(self.high)} along each axis")
        z, y, x = (
            np.clip(np.minimum(np.arange(n) + 0.5, b) - np.maximum(np.arange(n) - 0.5, a), 0, 1)
            for n, a, b in zip(shape, self.low, self.high, strict=True)
        )
        return np.asarray(z[:, None, None] * y[:, None] * x, np.float32)


Region = Union[Ellipsoid, Box, Feature, "NDArray[np.generic]"]
Regions = Union[Mapping[str, Region], Sequence[Feature | tuple[str, Region]], "NDArray[np.generic]"]


@dataclass(frozen=True, eq=False)
class Place:
    """A region that is asked about.

    Attributes:
        name: its name.
        fraction: ``(z, y, x)`` float32, the part of each voxel that lies in it.
        weight: over which the mean is taken: `fraction` of a region that was given; the inside of one that was found,
            since its border is not known to a voxel.
        outline: standard error of where its border lies, voxels; 0 where it was given.
    """

    name: str
    fraction: NDArray[np.float32]
    weight: NDArray[np.float32]
    outline: float = 0.0


def places(regions: Regions, shape: Shape3) -> list[Place]:
    """Regions as places on a volume ``(z, y, x)``.

    Args:
        regions: name to a shape, a feature, or an array of the volume's shape (Boolean, or fractions of a voxel, 0 to
            1); or a sequence of features or of pairs of a name and one of these; or a label image, 0 for no region.
        shape: of the volume.

    Raises:
        InputError: one line that names the region: empty, outside the volume, another shape, overlapping, twice there.
    """
    named: list[tuple[str, object]]
    if isinstance(regions, np.ndarray):
        if not np.issubdtype(regions.dtype, np.integer):
            raise InputError(f"a label image holds integers, not {regions.dtype}; give other arrays a name each")
        _check_shape("the label image", regions.shape, shape)
        named = [(str(k), regions == k) for k in np.unique(regions) if k != 0]
    elif isinstance(regions, Mapping):
        named = list(regions.items())
    else:
        named = [(r.name, r) if isinstance(r, Feature) else r for r in regions]
    if not named:
        raise InputError("there are no regions to ask about; name one, or leave them out to ask about what is found")
    out: list[Place] = []
    for name, region in named:
        if any(name == p.name for p in out):
            raise InputError(f"region {name!r} is there twice; give each a name of its own")
        out.append(_place(name, region, shape))
    for a, b in combinations(out, 2):
        shared = float(np.maximum(a.fraction + b.fraction - 1, 0).sum())
        if shared > MOST_SHARED:
            raise InputError(f"regions {a.name!r} and {b.name!r} overlap by {shared:.0f} voxels; keep them apart")
    return out


def _place(name: str, region: object, shape: Shape3) -> Place:
    if isinstance(region, Feature):
        _check_shape(f"region {name!r}", region.fraction.shape, shape)
        return place_of(region, name)
    if isinstance(region, Ellipsoid | Box):
        try:
            fraction = region.fraction(shape)
        except InputError as exc:
            raise InputError(f"region {name!r}: {exc}") from exc
        if not fraction.any():
            raise InputError(
                f"region {name!r} holds no voxel: it lies outside the volume of {_shown(shape)} voxels (z, y, x), or "
                "is far smaller than one"
            )
    elif isinstance(region, np.ndarray):
        _check_shape(f"region {name!r}", region.shape, shape)
        fraction = region.astype(np.float32)
        if not np.isfinite(fraction).all() or fraction.min() < 0 or fraction.max() > 1:
            raise InputError(f"region {name!r} must hold fractions of a voxel, 0 to 1")
    else:
        raise InputError(f"region {name!r} is a {type(region).__name__}; give a shape, a feature or an array")
    if fraction.sum() < 1:
        raise InputError(f"region {name!r} is empty: it holds less than one voxel")
    if (fraction > 0.5).mean() > 0.5:
        raise InputError(f"region {name!r} covers more than half of the volume; nothing is left to tell it from")
    return Place(name, fraction, fraction)


def place_of(feature: Feature, name: str) -> Place:
    """A place that was found, to be asked about over its inside: the voxels all of whose neighbours belong to it.

    Voxels at its border hold a part of what lies beside it, which part nobody knows.
    """
    from scipy import ndimage

    inside = feature.fraction > 0.5
    for weight in (ndimage.binary_erosion(inside), feature.fraction >= CORE):
        if weight.sum() >= FEWEST:
            return Place(name, feature.fraction, weight.astype(np.float32), feature.outline)
    return Place(name, feature.fraction, feature.fraction, feature.outline)


def _check_shape(what: str, found: tuple[int, ...], shape: Shape3) -> None:
    if tuple(found) != tuple(shape):
        raise InputError(f"{what} has shape {_shown(found)}, the volume {_shown(shape)}; they must agree (z, y, x)")


def _shown(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{n:g}' for n in numbers)})"


__all__ = ["Box", "Ellipsoid", "Place", "Regions", "place_of", "places"]
