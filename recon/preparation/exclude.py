"""Tilts and pixels that the user leaves out: they keep their counts and lose their weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.series.channels import check_each, without
from recon.series.checks import remaining
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NEAR = 0.5  # degrees within which a number means a tilt
Tilts = Sequence[float] | Mapping[str, Sequence[int]]


def exclude(
    series: TiltSeries,
    tilts: Tilts = (),
    *,
    pixels: ArrayLike | None = None,
    elements: Sequence[str] | str | None = None,
    why: str = "as the user says",
) -> TiltSeries:
    """Give tilts or pixels no weight: they take no part in exposures, alignment or reconstruction.

    The series keeps them, so that what is listed by tilt (an alignment, exposures) has one entry for each map still.

    Args:
        series: at any stage.
        tilts: to leave out, in degrees, each within half a degree of the tilt it means; or ``{"number": [..]}``,
            counted from 1 in the order of the maps.
        pixels: ``(y, x)`` for all tilts or ``(tilt, y, x)``, in the frame of the series; other than 0 is a bad pixel.
        elements: whose maps are left out; all elements' by default.
        why: for the history.

    Raises:
        InputError: a tilt or an element that the series has not, a frame that does not fit, fewer than three tilts
            left, or these too close together.
    """
    if elements is not None:
        return _of_elements(series, tilts, pixels, series.named(elements), why)
    weights = series.seen.copy()
    notes = []
    out = _find(series.tilts_deg, tilts)
    if out.any():
        weights[out] = 0
        notes.append(f"tilts {', '.join(f'{t:g}' for t in series.tilts_deg[out])}")
    if pixels is not None:
        bad = _marked(series, pixels)
        weights[bad] = 0
        notes.append(f"{bad.mean():.2%} of the pixels")
    if not notes:
        return series
    used = np.asarray(weights.any(axis=(1, 2)))
    told = remaining(series.tilts_deg, used, series.scheme is None, "(leave out fewer)")
    remarks = tuple(dict.fromkeys((*series.remarks, *told)))
    kept = series.evolve(f"left out {why}: {' and '.join(notes)}", weights=weights, remarks=remarks)
    return kept if series.element_weights is None else check_each(kept)


def _of_elements(
    series: TiltSeries, tilts: Tilts, pixels: ArrayLike | None, names: tuple[str, ...], why: str
) -> TiltSeries:
    """Maps or pixels of some elements without weight."""
    out = _find(series.tilts_deg, tilts)
    mask = out[:, None, None]
    notes = [f"tilts {', '.join(f'{t:g}' for t in series.tilts_deg[out])}"] if out.any() else []
    if pixels is not None:
        bad = _marked(series, pixels)
        mask = mask | bad
        notes.append(f"{bad.mean():.2%} of the pixels")
    if not notes:
        return series
    note = f"left out {why}, of {', '.join(names)}: {' and '.join(notes)}"
    return check_each(series.evolve(note, element_weights=without(series, names, mask)))


def _marked(series: TiltSeries, pixels: ArrayLike) -> NDArray[np.bool_]:
    """Bad pixels ``(tilt, y, x)``."""
    bad, shape = np.asarray(pixels) != 0, series.counts.shape[1:]
    if bad.shape not in (shape, shape[1:], (1, *shape[1:])):
        raise InputError(
            f"bad pixels have shape {bad.shape}, the maps {shape}; give one image (y, x) for all tilts, or one for each"
        )
    return np.broadcast_to(bad, shape)


def _find(tilts_deg: NDArray[np.float64], wanted: Tilts) -> NDArray[np.bool_]:
    """Which tilts are meant ``(tilt,)``."""
    out = np.zeros(tilts_deg.size, bool)
    if isinstance(wanted, Mapping):
        if set(wanted) != {"number"}:
            raise InputError(f"tilts to leave out are degrees or a table {{ number = [..] }}, not {', '.join(wanted)}")
        for number in wanted["number"]:
            if not 1 <= number <= tilts_deg.size:
                raise InputError(f"there is no tilt number {number} to leave out; they run from 1 to {tilts_deg.size}")
            out[int(number) - 1] = True
        return out
    for tilt in wanted:
        nearest = int(np.argmin(np.abs(tilts_deg - tilt)))
        if not abs(tilts_deg[nearest] - tilt) <= NEAR:
            raise InputError(
                f"there is no tilt {tilt:g} to leave out; the nearest is {tilts_deg[nearest]:g} degrees "
                f"(number {nearest + 1})"
            )
        out[nearest] = True
    return out
