"""Pixels that show the instrument and not the object: hot ones, dead lines, stripes and tiles without beam.

An object moves from map to map as it turns; a fault of the detector or the scan stays where it is, or is in one map
alone. Only what no object can do is taken for a fault, so that the fine and bright parts of a real particle keep their
pixels: a point away from the axis changes its column, and what lies on the axis must outshine everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.preparation.screening import BLANK
from recon.series.channels import together
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float64]

HOT, HOT_NEAR_AXIS = 2.0, 20.0  # times the brightest pixel around it, away from the axis and near it
CERTAIN = 6.0  # standard deviations
PARTS = 4  # of the tilts, in each of which a hot pixel must be hot
STILL = 1.5  # pixels that a point of the object moves at most where it counts as standing still
NEAR = 0.05  # of the frame's width: how far the axis may be off its middle
MISSING = 40.0  # counts that must be missing from a dead line or a tile: none by chance is e^-40
SURE = 1 / 3  # counts expected of a pixel of a tile: of nine of them none is a chance of 5 %, and tiles hold many nines
ALIKE = 0.7  # share of the counts that the lines on both sides of a dead one have in common, pixel by pixel
CLOSES = 60.0  # degrees of tilt over which no gap of the object stays open in one column
DRIFT = 4  # pixels by which maps may be shifted against their neighbours
FEWEST = 5  # maps in use, below which nothing is told from the others
MOSTLY = 0.75  # share of the maps in which a patch is saturated
ENCLOSED = 0.7  # of what surrounds a tile without counts has some in the same map
FILLED = 0.8  # of its bounding box, that a tile without counts fills
MOST = 0.1  # of all pixels: more is no fault of single pixels, and nothing is left out


@dataclass(frozen=True)
class Fault:
    """Pixels that are left out, and why.

    Attributes:
        pixels: ``(tilt, y, x)`` True where they are.
        why: one line.
    """

    pixels: NDArray[np.bool_]
    why: str


def without_faults(series: TiltSeries) -> TiltSeries:
    """The series with no weight on pixels that show the instrument; each kind is among the `remarks`."""
    found = faults(series)
    if not found:
        return series
    weights = series.seen.copy()
    for fault in found:
        weights[fault.pixels] = 0
    lines = tuple(fault.why for fault in found)
    history = (*series.history, *(f"warning: {line}" for line in lines))
    return series.evolve(weights=weights, remarks=(*series.remarks, *lines), history=history)


def faults(series: TiltSeries) -> list[Fault]:
    """What of the maps shows the instrument, kind by kind; nothing for scaled maps, whose noise is not known."""
    if series.scaled or series.used.sum() < FEWEST:
        return []
    order = np.flatnonzero(series.used)[np.argsort(series.tilts_deg[series.used])]
    total, seen = together(series)
    total, seen = total[order], seen[order]
    out = []

    def everywhere(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """``(y, x)``, or one for each map in use, as ``(tilt, y, x)``."""
        full = np.zeros(series.counts.shape[1:], bool)
        full[order] = mask
        return full & (series.seen > 0)

    tilts = np.radians(series.tilts_deg[order])
    hot = _hot(total, seen, tilts)
    for e, there in enumerate(series.present[:, order] if len(series.elements) > 1 else ()):
        if there.sum() >= FEWEST:
            own = order[there]
            hot |= _hot(series.counts[e, own].astype(np.float64), series.seen_by(e)[own] > 0, tilts[there])
    if hot.any():
        out.append(Fault(everywhere(hot), f"{_pixels(hot)} bright in all maps, where no object stays, left out"))
    clipped = _ceiling(total, seen & ~hot)
    if clipped.any():
        out.append(Fault(everywhere(clipped), f"{_pixels(clipped)} at the largest value in most maps left out"))
    for axis, name in ((2, "row"), (1, "column")):
        gaps_stay = axis == 2 or float(np.ptp(series.tilts_deg[order])) < CLOSES
        lines = _dead_lines(total, seen, axis, gaps_stay=gaps_stay)
        if lines.any():
            mask = np.broadcast_to(lines[:, None] if axis == 2 else lines[None, :], series.frame)
            numbers = _listed([str(i) for i in np.flatnonzero(lines)])
            out.append(Fault(everywhere(mask), f"{name} {numbers} without counts in all maps left out"))
    _, kinds = np.unique(series.present[:, order], axis=1, return_inverse=True)
    blank = _blank(total, seen, kinds.ravel()) | _blank_rows(total, seen, kinds.ravel())
    if blank.any():
        which = np.flatnonzero(blank.any(axis=(1, 2)))
        places = _listed([f"tilt {series.tilts_deg[order[i]]:g} ({int(blank[i].sum())} pixels)" for i in which])
        out.append(Fault(everywhere(blank), f"parts without counts where the other maps have them left out: {places}"))
    return [fault for fault in out if fault.pixels.mean() <= MOST]


def _pixels(mask: NDArray[np.bool_]) -> str:
    places = [f"({y}, {x})" for y, x in np.argwhere(mask)]
    return f"pixel{'s' if len(places) > 1 else ''} {_listed(places)}"


def _listed(places: list[str]) -> str:
    more = len(places) - 5
    return ", ".join(places[:5]) + (f" and {more} more" if more > 0 else "")


def _hot(maps: Image, seen: NDArray[np.bool_], tilts: Image) -> NDArray[np.bool_]:
    """Pixels ``(y, x)`` that outshine what is around them in every part of the tilts."""
    from scipy import ndimage

    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    ny, nx = maps.shape[1:]
    # where a point may stand still: its column is x cos t + z sin t, and its row is the same at all tilts
    turned = max(float(1 - np.cos(np.abs(tilts).max())), 1e-3)
    reach = STILL / turned + NEAR * nx + 1
    middle = np.abs(np.arange(nx) - (nx - 1) / 2) <= reach
    factor = np.where(middle, HOT_NEAR_AXIS, HOT)[None, :]
    hot = np.ones((ny, nx), bool)
    brightest = np.sort((maps * seen).sum(axis=0).ravel())
    for part in np.array_split(np.arange(len(maps)), PARTS):
        here = (maps[part] * seen[part]).sum(axis=0)
        around = ndimage.maximum_filter(here, footprint=ring, mode="constant")
        hot &= here > factor * around + CERTAIN * np.sqrt(here + factor**2 * around)
    whole = (maps * seen).sum(axis=0)
    # near the axis it must be brighter than all else as well
    rival = brightest[max(len(brightest) - 1 - int(hot.sum()), 0)]
    return np.asarray(hot & (~middle[None, :] | (whole > HOT * rival)))


def _ceiling(maps: Image, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A patch ``(y, x)`` that is saturated in most maps, far above everything else."""
    full = np.where(seen, maps, 0.0)
    top = full.max(axis=(1, 2), keepdims=True)
    patch = np.asarray(((full == top) & (top >= 16)).mean(axis=0) > MOSTLY)
    if patch.sum() < 2:
        return np.zeros_like(patch)
    rest = np.where(patch, 0.0, full).max(axis=(1, 2), keepdims=True)
    return patch if np.median(rest / np.maximum(top, 1)) < 1 / HOT else np.zeros_like(patch)


def _dead_lines(maps: Image, seen: NDArray[np.bool_], axis: int, *, gaps_stay: bool) -> NDArray[np.bool_]:
    """Rows (summed over axis 2) or columns without a count in any map, between such as have many.

    With `gaps_stay`, a gap in the object may leave a line empty at all tilts, as it does with rows.
    """
    along = (maps * seen).sum(axis=0)
    along = along if axis == 2 else along.T
    profile = along.sum(axis=1)
    lines = np.zeros(profile.size, bool)
    dead = np.flatnonzero(profile == 0)
    dead = dead[(dead > 0) & (dead < profile.size - 1)]
    usable = np.asarray(seen.any(axis=(0, axis)), dtype=bool)
    for k in dead:
        for width in (1, 2):
            last = k + width - 1
            if last + 1 >= profile.size or profile[k : last + 1].any() or not usable[k : last + 1].all():
                continue
            below, above = along[k - 1], along[last + 1]
            least, most = sorted((below.sum(), above.sum()))
            # a gap in the object parts two things; the neighbours of a dead line are alike
            alike = np.minimum(below, above).sum() > ALIKE * most
            if (least > 5 * MISSING and alike) or (not gaps_stay and least > 2 * MISSING):
                lines[k : last + 1] = True
    return lines


def _blank_rows(maps: Image, seen: NDArray[np.bool_], kinds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Rows ``(tilt, y, x)`` without a count in one map, between such as have many.

    A point of the object keeps its row as it turns, so that a gap between rows is there at all tilts, apart from the
    drift of the maps, or a line was not scanned.
    """
    from scipy import ndimage

    profiles = (maps * seen).sum(axis=2)
    empty = (profiles == 0) & seen.any(axis=2)
    out = np.zeros(maps.shape, bool)
    for i in np.flatnonzero(profiles.sum(axis=1) >= BLANK * np.median(profiles.sum(axis=1))):
        near = _neighbours(int(i), kinds)
        runs, _ = ndimage.label(empty[i])
        for (rows,) in ndimage.find_objects(runs):
            first, after = rows.start, rows.stop
            if not near or first == 0 or after == len(empty[i]):
                continue  # what lies beyond the object may be empty
            around = slice(max(first - 2 * DRIFT, 0), after + 2 * DRIFT)
            expected = (after - first) * min(profiles[i, first - 1], profiles[i, after])
            if expected >= MISSING and not empty[near, around].any():
                out[i, rows] = seen[i, rows]
    return out


def _neighbours(i: int, kinds: NDArray[np.intp]) -> list[int]:
    """Up to two maps on each side of one, of the same kind."""
    return [k for k in (i - 2, i - 1, i + 1, i + 2) if 0 <= k < len(kinds) and kinds[k] == kinds[i]]


def _blank(maps: Image, seen: NDArray[np.bool_], kinds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Stripes and tiles ``(tilt, y, x)`` without counts where the maps of neighbouring tilts have some all around.

    `kinds` ``(tilt,)`` differ where maps are sums of other elements, which are not compared.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(maps, (0, 1.0, 1.0), mode="nearest")
    totals = np.maximum((maps * seen).sum(axis=(1, 2)), 1e-9)
    out = np.zeros(maps.shape, bool)
    for i in range(len(maps)):
        if totals[i] < BLANK * np.median(totals):
            continue  # not a part of it
        near = _neighbours(i, kinds)
        if not near:
            continue
        scale = np.minimum(totals[i] / totals[near], 1.0)[:, None, None]
        expected = np.median(smooth[near] * scale, axis=0)
        expected = ndimage.minimum_filter(expected, 2 * DRIFT + 1, mode="nearest")
        empty = (maps[i] == 0) & seen[i]
        bare = ndimage.binary_opening(empty & (expected > SURE), np.ones((3, 3), bool))
        parts, _ = ndimage.label(bare)
        for k, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
            part = parts[rows, columns] == k
            if part.mean() < FILLED or expected[rows, columns][part].sum() < MISSING:
                continue
            whole = parts == k
            ring = ndimage.binary_dilation(whole, iterations=3) & ~ndimage.binary_dilation(whole) & seen[i]
            if (smooth[i][ring] > SURE).mean() < ENCLOSED:
                continue  # beyond an edge of the object, which lies elsewhere in the other maps
            if empty[rows].all():  # a stripe goes on where little was expected
                columns = slice(None)
            elif empty[:, columns].all():
                rows = slice(None)
            out[i, rows, columns] |= empty[rows, columns]
    return out
