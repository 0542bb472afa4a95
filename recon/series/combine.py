"""The maps of several elements added up to one series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.errors import InputError
from recon.series.channels import common_elements
from recon.series.footprint import Footprint
from recon.series.tilt_series import TiltSeries

COMBINED = "reference"
LEAST_ACROSS = 4  # pixels of an image across the frame of the maps: coarser ones show nothing to align on


def combine(series: TiltSeries, reference: Sequence[str] | str | None = None, *, whole: bool = True) -> TiltSeries:
    """The sum of some elements' maps, or without `reference` the series' image, as one element, for alignment only.

    A tilt at which one of them has no map has no weight, since its sum shows another object; without `whole` it is the
    sum of those that have one. By default they are those that most tilts have in common
    (`recon.series.channels.common_elements`).
    """
    if reference is None and series.image is not None and series.image_tilts_deg is None:
        return _of_image(series, series.image)
    named = series.named(reference) if reference is not None else common_elements(series)
    pick = [series.index(name) for name in named]
    counts = series.counts[pick]
    weights = series.weights
    if series.element_weights is not None:
        own = np.stack([series.seen_by(e) for e in pick])
        counts = np.where(own > 0, counts, 0)
        weights = own.min(axis=0) if whole else own.max(axis=0)
        if not weights.any():
            raise InputError(
                f"no tilt has a map of each of {', '.join(named)}, so they cannot be added up; choose another align "
                "reference"
            )
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
        image=None,
        scene=series.scene,
        background=series.background[pick].sum(axis=0, keepdims=True),
        background_maps=None if of_pixels is None else of_pixels[pick].sum(axis=0, keepdims=True),
        weights=weights,
        element_weights=None,
        footprints=(series.footprint(pick[0]),) if len(pick) == 1 and series.footprint(pick[0]) else (),
    )


def _of_image(series: TiltSeries, image: NDArray[np.float32]) -> TiltSeries:
    """An image that is no counts: black level off, and to a common total where the whole object is in view."""
    if series.isolated:  # the border shows what surrounds the object
        inner = np.zeros(image.shape[1:], bool)
        inner[2:-2, 2:-2] = True
        floor = np.median(image[:, ~inner], axis=1)
    else:
        floor = np.percentile(image, 2, axis=(1, 2))
    lit = image - floor[:, None, None].astype(np.float32)
    totals = lit.sum(axis=(1, 2), dtype=np.float64)
    if not (totals[series.used] > 0).all():
        tilt = series.tilts_deg[series.used][np.argmin(totals[series.used])]
        raise InputError(f"the reference image at tilt {tilt:g} shows nothing; choose another align reference")
    top = float(np.percentile(lit, 99.9))
    curve = totals / totals[series.used].mean() if series.isolated else np.ones(series.n_tilts)
    return series.evolve(
        elements=(COMBINED,),
        counts=(lit * np.float32(100 / top))[None],
        exposures=np.where(curve > 0, curve, 1.0)[None],
        exposures_from="totals" if series.isolated else "assumed",
        exposure_errors=None,
        background=np.zeros((1, series.n_tilts)),
        background_maps=None,
        scaled=True,
        image=None,
        element_weights=None,
        footprints=(),
    )


def fitted(image: NDArray[np.generic], frame: tuple[int, int], pitch: float | None = None) -> NDArray[np.float32]:
    """Images ``(tilt, y, x)`` in the pixels of maps, averaged by area.

    Args:
        image: of the same place, its frame about the same centre.
        frame: ``(ny, nx)`` of the maps.
        pitch: edge of its pixels in those of the maps; by default it shows what the maps show, in pixels as large or a
            whole number of times smaller.

    Raises:
        InputError: without `pitch`, a frame of no whole multiple; with it, one that shows less than the maps do, or
            with too few pixels.
    """
    ny, nx = image.shape[1:]
    if pitch is None:
        factor = max(1, ny // frame[0])
        if (ny, nx) != (factor * frame[0], factor * frame[1]):
            raise InputError(
                f"the reference image has {ny} x {nx} pixels, the maps {frame[0]} x {frame[1]}; say how large its "
                "pixels are (image_pixel_size_nm, in a job file [align] reference = { image = .., pixel_size_nm = .. })"
            )
        pitch = 1 / factor
    if min(ny * pitch - frame[0], nx * pitch - frame[1]) < -1:
        raise InputError(
            f"the reference image shows {ny * pitch:.4g} x {nx * pitch:.4g} pixels of the maps, which have "
            f"{frame[0]} x {frame[1]}; give one that shows all of them, or the right pixel sizes"
        )
    if min(frame) / pitch < LEAST_ACROSS:
        raise InputError(
            f"the reference image's pixels are {pitch:.4g} times as large as those of the maps, whose frame of "
            f"{frame[0]} x {frame[1]} it shows with {frame[0] / pitch:.2g} x {frame[1] / pitch:.2g} of them; check its "
            "pixel size"
        )
    where = Footprint.centred((ny, nx), pitch, frame)
    return where.dealt(np.asarray(image, dtype=np.float32), frame, scaled=True)
