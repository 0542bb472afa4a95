"""Where the object is in the maps, and whether it is wholly in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEAR = 0.75  # share of the tilts at which an isolated object must be clear of the border
FEW = 500  # counts of a map, below which it does not show by itself where the object is


def find_outside(series: TiltSeries) -> tuple[NDArray[np.bool_], bool]:
    """Pixels away from the object ``(tilt, y, x)``, and whether the object is isolated (see `objects`)."""
    outside, reach = objects(series)
    return outside, is_isolated(reach[series.used])


def is_isolated(reach: NDArray[np.intp]) -> bool:
    """Whether an object that reaches so far (see `objects`) is a particle, out of the frame at few tilts only."""
    return bool(reach.size and (reach == 0).mean() >= CLEAR and not (reach == 2).any())


def objects(series: TiltSeries) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Pixels away from the object ``(tilt, y, x)``, and how far it reaches ``(tilt,)``.

    That is 0 where it is clear of the frame's border, 1 where it touches it, 2 where it spans the frame.

    All elements are added and smoothed until a bright pixel holds a few hundred counts; the object is
    what exceeds a tenth of the way from the darkest parts to the bright ones. Maps of too few counts for that are
    added up, and what is away from the object in all of them is told.
    """
    from scipy import ndimage

    total = series.counts.sum(axis=0)
    if not series.scaled and np.median(total.sum(axis=(1, 2))) < FEW:
        total = np.broadcast_to(total.sum(axis=0), total.shape)
    ny, nx = series.frame
    outside = np.zeros(total.shape, bool)
    reach = np.zeros(len(total), np.intp)
    for i, image in enumerate(total):
        seen = series.seen[i] > 0
        if not seen.any():
            continue
        image = np.where(seen, image, np.median(image[seen]))
        bright = float(np.percentile(image, 98)) + 1e-6
        sigma = float(np.clip(np.sqrt(300 / bright) / 3.5, 1.0, min(ny, nx) / 24))
        smooth = ndimage.gaussian_filter(image, sigma, mode="nearest")
        dark, top = np.percentile(smooth, [2, 98])
        inside = smooth > dark + 0.1 * (top - dark)
        if series.scaled:
            inside |= smooth < dark - 0.1 * (top - dark)
        rim = max(1, round(0.03 * min(ny, nx)))
        border = np.ones_like(inside)
        border[rim:-rim, rim:-rim] = False
        if inside[border].mean() >= 0.05 or inside.mean() >= 0.8:
            top, bottom, left, right = (
                bool(side.mean() >= 0.05) for side in (inside[:rim], inside[-rim:], inside[:, :rim], inside[:, -rim:])
            )
            reach[i] = 2 if (top and bottom) or (left and right) or inside.mean() >= 0.8 else 1
        grown = ndimage.binary_dilation(inside, iterations=max(1, round(sigma)) + 1)
        outside[i] = ~grown
    if series.weights is not None:
        outside &= series.weights > 0
    return outside, reach
