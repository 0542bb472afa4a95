"""First displacements of a series, from nothing: the centre of mass, or cross-correlation of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray


def centre_of_mass(series: TiltSeries) -> NDArray[np.float64]:
    """Displacements ``(tilt, 2)`` (v, u) that put an isolated object's centre of mass on the axis.

    The centre of mass of a projection is the projection of the centre of mass, so it fixes the offset
    of the axis too; the choice of the object's own centre as the volume's is free.
    """
    ny, nx = series.frame
    v, u = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    maps = series.counts[0].astype(np.float64) - series.offset(0)
    if series.weights is not None:
        maps *= series.weights
    out = np.zeros((series.n_tilts, 2))
    for _ in range(3):  # a window that follows the object keeps the far background's noise out
        for i, image in enumerate(maps):
            total = max(float(image.sum()), 1e-12)
            size = np.sqrt(
                [
                    max(float((image.sum(axis=1) * (v - out[i, 0]) ** 2).sum() / total), 4.0),
                    max(float((image.sum(axis=0) * (u - out[i, 1]) ** 2).sum() / total), 4.0),
                ]
            )
            window = (np.abs(v - out[i, 0]) < 3.5 * size[0] + 2)[:, None] & (np.abs(u - out[i, 1]) < 3.5 * size[1] + 2)
            inside = image * window
            total = max(float(inside.sum()), 1e-12)
            out[i] = (inside.sum(axis=1) @ v) / total, (inside.sum(axis=0) @ u) / total
    limit = np.array([ny, nx]) / 2
    return np.clip(out, -limit, limit)


def cross_correlation(series: TiltSeries) -> NDArray[np.float64]:
    """Displacements ``(tilt, 2)`` (v, u) by matching each map with its neighbour, from zero tilt outwards.

    The neighbour is stretched along u by the ratio of cosines, as a slab would look; sub-pixel shifts
    come from scikit-image's up-sampled cross-correlation (Guizar-Sicairos et al., Opt. Lett. 33, 156
    (2008)).

    Raises:
        InputError: a map is displaced by more than the frame, so that there is nothing to match.
    """
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    ny, nx = series.frame
    maps = (series.counts[0] - series.offset(0)) / series.exposures[0][:, None, None]
    sigma = max(1.0, min(ny, nx) / 64)
    smooth = np.stack([ndimage.gaussian_filter(m, sigma) for m in maps])
    window = np.ones((ny, nx))
    if not series.isolated:  # what enters and leaves at the border would dominate
        window = np.hanning(ny + 2)[1:-1, None] * np.hanning(nx + 2)[None, 1:-1]
    order = np.argsort(series.tilts_deg)
    order = order[series.used[order]]
    cos = np.maximum(np.cos(np.radians(series.tilts_deg)), 0.1)
    middle = int(np.argmin(np.abs(series.tilts_deg[order])))
    out = np.zeros((series.n_tilts, 2))

    def match(fixed: int, moving: int) -> None:
        ratio = cos[moving] / cos[fixed]
        centre = (nx - 1) / 2
        about = centre + out[fixed, 1]
        stretched = ndimage.affine_transform(
            smooth[fixed], (1.0, 1 / ratio), (0.0, about - about / ratio), order=1, mode="nearest"
        )
        total = np.zeros(2)
        for _ in range(4):  # the window stays on the same part of the object, or it would pull towards zero
            back = ndimage.shift(smooth[moving], total, order=1, mode="nearest")
            a, b = (m - m.mean() for m in (stretched, back))
            step, _, _ = phase_cross_correlation(a * window, b * window, upsample_factor=20, normalization=None)
            total += step
            if np.abs(step).max() < 0.06:
                break
        out[moving] = out[fixed] - total

    for k in range(middle + 1, len(order)):
        match(order[k - 1], order[k])
    for k in range(middle - 1, -1, -1):
        match(order[k + 1], order[k])
    far = np.flatnonzero(series.used & ((np.abs(out) > [ny, nx]).any(axis=1) | ~np.isfinite(out).all(axis=1)))
    if far.size:
        raise InputError(
            "the maps have nothing in common: neighbours match best where the one at tilt "
            f"{series.tilts_deg[far[0]]:g} lies outside the frame; check that they show the object, that they are "
            "positive where it is, and their order"
        )
    return out
