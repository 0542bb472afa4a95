"""Some of the maps of a series, as a series of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.tilt_geometry import TiltGeometry


def select(
    series: TiltSeries, index: NDArray[np.intp], tilts_deg: NDArray[np.float64], scheme: TiltGeometry | None = None
) -> TiltSeries:
    """The maps `index`, not aligned, taken at `tilts_deg` about y, or as `scheme` says."""
    i = np.asarray(index)
    places = {int(k): new for new, k in enumerate(i)}
    scene = series.scene
    if scene is not None:
        scene = replace(scene, empty=scene.empty[i], reach=scene.reach[i], grounded=scene.grounded[i])
    below, errors = series.background_maps, series.exposure_errors
    return replace(
        series,
        counts=np.ascontiguousarray(series.counts[:, i]),
        tilts_deg=np.asarray(tilts_deg, dtype=np.float64),
        exposures=series.exposures[:, i],
        background=series.background[:, i],
        alignment=Alignment.identity(i.size),
        weights=None if series.weights is None else series.weights[i],
        background_maps=None if below is None else np.ascontiguousarray(below[:, i]),
        exposure_errors=None if errors is None else errors[:, i],
        left_out=tuple((places[k], why) for k, why in series.left_out if k in places),
        scene=scene,
        origins=tuple(tuple(o[k] for k in i) if o else o for o in series.origins),
        scheme=scheme,
        image=series.image if series.image is None or series.image_tilts_deg is not None else series.image[i],
        element_weights=None if series.element_weights is None else series.element_weights[:, i],
    )
