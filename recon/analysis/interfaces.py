"""Borders between phases: how large they are, and how sharp.

Areas by Crofton's formula from counts of changes along the 13 directions of a cubic lattice, with the weights of
G. Lehmann and D. Legland, "Efficient N-dimensional surface estimation using Crofton formula and run-length encoding",
Insight Journal (2012); J. Ohser and F. Muecklich, "Statistical Analysis of Microstructures in Materials Science"
(2000). A width is that from 10 to 90 % of a profile along the border's normal; the median over the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.pair_phases import EMPTY, MATTER, Phases

if TYPE_CHECKING:
    from numpy.typing import NDArray

# of lines along an edge of a voxel, the diagonal of a face, the diagonal of a voxel; each for both directions
WEIGHTS = {1: 2 * 0.04577789120476, 2: 2 * 0.03698062787608, 3: 2 * 0.03519563978232}
SPREAD = 2.5631  # from 10 to 90 % of an error function, in its standard deviations
REACH, STEP = 7.0, 0.25  # voxels on either side of a border, and between samples
NEAREST = 3.0  # voxels on either side that a profile needs
LEVELS = 0.6  # between the two sides; less is the border of a mixed phase
MOST = 4000  # profiles that are taken


@dataclass(frozen=True)
class Width:
    """How sharp a border is.

    Attributes:
        width: 10 to 90 %, voxels; nan where too few profiles cross the whole border.
        error: its standard error, voxels, from the scatter between parts of the border.
        profiles: that cross it whole.
    """

    width: float
    error: float
    profiles: int


def directions() -> list[tuple[int, int, int]]:
    """The 13 directions from a voxel to its 26 neighbours, one of each pair."""
    steps = (-1, 0, 1)
    return [d for d in product(steps, steps, steps) if d > (0, 0, 0)]


def area(labels: NDArray[np.uint8], one: int, other: int) -> float:
    """Area between two phases, in faces of a voxel.

    Args:
        labels: ``(z, y, x)``.
        one, other: values of the two phases.
    """
    total = 0.0
    for d in directions():
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(d, labels.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(d, labels.shape, strict=True))
        a, b = labels[here], labels[there]
        changes = np.count_nonzero((a == one) & (b == other)) + np.count_nonzero((a == other) & (b == one))
        steps = sum(map(abs, d))
        total += WEIGHTS[steps] * changes / np.sqrt(steps)
    return 2 * total


def border_width(found: Phases) -> Width:
    """Width of the border between the two pure phases, from the share: where it passes one half."""
    matter = found.labels != EMPTY
    share = np.nan_to_num(found.share, nan=0.5)
    return _width(share, matter & (share > 0.5), matter & (share <= 0.5), matter)


def edge_width(first: NDArray[np.float32], second: NDArray[np.float32], pure: tuple[float, float]) -> Width:
    """Width of the particle's own surface: what a border that is sharp in truth looks like, so the resolution there.

    Args:
        first, second: ``(z, y, x)`` densities.
        pure: densities of their pure phases.
    """
    total = np.clip(first / np.float32(pure[0]) + second / np.float32(pure[1]), 0, 1.2).astype(np.float32)
    return _width(np.minimum(total, 1), total > MATTER, total <= MATTER, np.ones(total.shape, bool))


def slopes(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """How fast values change along each axis, per voxel; along an axis of one voxel, not at all."""
    return [np.gradient(values, axis=a) if n > 1 else np.zeros_like(values) for a, n in enumerate(values.shape)]


def _width(
    values: NDArray[np.float32], one: NDArray[np.bool_], other: NDArray[np.bool_], trusted: NDArray[np.bool_]
) -> Width:
    """Width of the border where `values` fall from 1 in `one` to 0 in `other`, of profiles that stay in `trusted`."""
    from scipy import ndimage

    touching = ndimage.binary_dilation(other, ndimage.generate_binary_structure(3, 1)) & one
    start = np.argwhere(touching).astype(np.float64)
    if len(start) > MOST:
        start = start[np.linspace(0, len(start) - 1, MOST).round().astype(int)]
    if len(start) < 8:
        return Width(float("nan"), float("nan"), 0)
    smooth = ndimage.gaussian_filter(values, 1.5)
    slope = np.stack([ndimage.map_coordinates(g, start.T, order=1) for g in slopes(smooth)], axis=1)
    steep = np.linalg.norm(slope, axis=1)
    start, normal = start[steep > 1e-3], slope[steep > 1e-3] / steep[steep > 1e-3, None]
    along = np.arange(-REACH, REACH + STEP / 2, STEP)
    points = start[:, None, :] - normal[:, None, :] * along[None, :, None]  # from one to the other
    profile = ndimage.map_coordinates(values, points.reshape(-1, 3).T, order=1, mode="nearest")
    profile = profile.reshape(len(start), along.size)
    safe = ndimage.map_coordinates(trusted.astype(np.float32), points.reshape(-1, 3).T, order=0, mode="nearest")
    safe = safe.reshape(profile.shape) > 0.5
    widths = _widths(along, profile, safe)
    found = widths[np.isfinite(widths)]
    if len(found) < 8:
        return Width(float("nan"), float("nan"), len(found))
    parts = [np.median(part) for part in np.array_split(found, 8)]
    return Width(float(np.median(found)), float(np.std(parts, ddof=1) / np.sqrt(8)), len(found))


def _widths(along: NDArray[np.float64], profile: NDArray[np.float32], safe: NDArray[np.bool_]) -> NDArray[np.float64]:
    """From 90 to 10 % between the levels on either side of the border, ``(line,)``; nan where there are no two levels.

    Args:
        along: ``(place,)``, voxels from the border, from one side to the other.
        profile, safe: ``(line, place)``, values there, and which of them are trusted.
    """
    middle, n = int(np.argmin(np.abs(along))), len(along)
    # the stretch about the middle without a gap
    low = middle - np.cumprod(safe[:, middle - 1 :: -1], axis=1).sum(axis=1)
    high = middle + np.cumprod(safe[:, middle + 1 :], axis=1).sum(axis=1)
    at = np.arange(n)
    top = _percentile(profile, (at >= low[:, None]) & (at < middle), 0.9)
    bottom = _percentile(profile, (at >= middle) & (at < high[:, None]), 0.1)
    step = np.maximum(top - bottom, 1e-9)
    part = (profile - bottom[:, None]) / step[:, None]
    inside = (at >= low[:, None]) & (at <= high[:, None])
    part = np.minimum.accumulate(np.where(inside, part, np.where(at < middle, np.inf, -np.inf)), axis=1)
    # the last place above 90 % and the first below 10 %: neighbours of the border's middle, not of another border
    start, stop = (part >= 0.9).sum(axis=1) - 1, n - (part <= 0.1).sum(axis=1)
    lines = np.arange(len(part))
    good = (np.minimum(middle - low, high - middle) * STEP >= NEAREST) & (top - bottom >= LEVELS)
    good &= (start >= low) & (stop <= high)

    def crossing(level: float, first: NDArray[np.integer]) -> NDArray[np.float64]:
        first = np.clip(first, 0, n - 2)
        above, below = part[lines, first], part[lines, first + 1]
        with np.errstate(invalid="ignore", divide="ignore"):  # of lines that are not good
            share = np.where(above > below, (above - level) / (above - below), 0)
        return np.asarray(along[first] + share * (along[first + 1] - along[first]))

    return np.where(good, crossing(0.1, stop - 1) - crossing(0.9, start), np.nan)


def _percentile(values: NDArray[np.float32], there: NDArray[np.bool_], share: float) -> NDArray[np.float64]:
    """Percentile of each row's values where they count, by straight lines between ranks; nan where there are none."""
    ranked = np.sort(np.where(there, values, np.inf), axis=1)
    count = there.sum(axis=1)
    at = share * np.maximum(count - 1, 0)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    lines = np.arange(len(values))
    below, above = ranked[lines, low], ranked[lines, high]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, below + (at - low) * (above - below), np.nan)


def surface(found: Phases) -> float:
    """Area of the particle's surface, in faces of a voxel."""
    matter = (found.labels != EMPTY).astype(np.uint8)
    return area(np.pad(matter, 1), 0, 1)
