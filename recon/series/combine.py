"""The maps of several elements added up to one series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon.errors import InputError
from recon.series.tilt_series import TiltSeries

COMBINED = "reference"


def combine(series: TiltSeries, reference: Sequence[str] | None = None) -> TiltSeries:
    """The sum of some elements' maps as a series of one element, for alignment only."""
    pick = [series.index(name) for name in (reference or series.elements)]
    counts = series.counts[pick]
    signal = np.abs(counts).sum(axis=(1, 2, 3), dtype=np.float64)
    if not counts.any():
        raise InputError("the reference maps are zero everywhere; choose another align reference")
    exposures = (signal[:, None] * series.exposures[pick]).sum(axis=0) / signal.sum()
    of_pixels = series.background_maps
    return series.evolve(
        elements=(COMBINED,),
        counts=counts.sum(axis=0, keepdims=True),
        exposures=exposures[None],
        exposures_from=series.exposures_from,
        exposure_errors=None,
        scene=series.scene,
        background=series.background[pick].sum(axis=0, keepdims=True),
        background_maps=None if of_pixels is None else of_pixels[pick].sum(axis=0, keepdims=True),
    )
