"""Maps interpolated into the aligned frame."""

from __future__ import annotations

import numpy as np

from recon.operators import affine
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries


def resample(series: TiltSeries, frame: tuple[int, int] | None = None) -> TiltSeries:
    """Maps in the aligned frame, per unit exposure and without background: no counts any more.

    Args:
        series: aligned.
        frame: ``(ny, nx)`` of the aligned frame; the recorded one by default.

    Returns:
        A scaled series with identity alignment, exposures 1 and background 0 (cubic splines).
    """
    from scipy import ndimage

    ideal = frame or series.frame
    # recorded = A^-1 (ideal - b), indices (u, y); ndimage wants (y, u)
    a = affine(series.alignment, series.frame, ideal)
    counts = np.empty((len(series.elements), series.n_tilts, *ideal), np.float32)
    seen, own = series.seen, series.element_weights
    weights = np.empty((series.n_tilts, *ideal), np.float32)
    masks = own if own is None or own.shape[2:] == (1, 1) else np.empty((len(own), series.n_tilts, *ideal), np.float32)
    for t, (a0, a1, b0, a3, a4, b1) in enumerate(a):
        inverse = np.linalg.inv([[a4, a3], [a1, a0]])
        shift = -inverse @ [b1, b0]
        # pixels that no map covers, or that are next to one left out, are left out
        weights[t] = ndimage.affine_transform(seen[t], inverse, shift, ideal, order=1, mode="constant") > 0.999
        for e in range(len(series.elements)):
            if own is not None and masks is not own:
                assert masks is not None
                masks[e, t] = ndimage.affine_transform(own[e, t], inverse, shift, ideal, order=1, cval=1.0) > 0.999
            image = (series.counts[e, t] - series.offset(e)[t]) / series.exposures[e, t]
            counts[e, t] = ndimage.affine_transform(image, inverse, shift, ideal, order=3, mode="constant")
    return series.evolve(
        "resampled into the aligned frame",
        counts=counts,
        exposures=np.ones_like(series.exposures),
        exposures_from=series.exposures_from,
        background=np.zeros_like(series.background),
        background_maps=None,
        alignment=Alignment.identity(series.n_tilts),
        weights=None if weights.all() else weights,
        element_weights=masks,
        footprints=(),
        scaled=True,
    )
