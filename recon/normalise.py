"""Background and exposure of each map, from the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError, JobError
from recon.tiltseries import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("auto", "constant-total", "none")
Background = str | float | dict[str, float]
Exposures = Sequence[float] | Mapping[str, Sequence[float]]


def normalise(
    series: TiltSeries,
    method: str = "auto",
    background: Background = "auto",
    exposures: Exposures | None = None,
) -> TiltSeries:
    """Estimate background and exposures; the counts stay as they are.

    The background of a map is the mean of its pixels away from the object, beyond what its
    `background_maps` tell. Where the whole object is in view at every tilt, its total is constant, so the
    total above background is the exposure (Longley et al., Nat. Commun. 9:2135 (2018)), which takes detector
    shadowing out.

    Args:
        series: raw counts.
        method: ``"constant-total"`` as above; ``"none"`` leaves all exposures 1; ``"auto"`` is
            constant-total where the object is isolated (tested on the data) and none elsewhere.
        background: ``"auto"``, or counts per pixel for all elements, or a table by element.
        exposures: known ones, such as live times, in place of an estimate: one number for each tilt, or a table of
            these by element. Only their ratios matter.

    Returns:
        The series with `exposures` (mean 1 per element), `background` and `isolated` set; `exposure_errors` are 0
        where exposures were given.

    Raises:
        JobError: an unknown method.
        InputError: a map is empty, so that it has no exposure, or the background exceeds the data.
    """
    if method not in METHODS:
        raise JobError(f"normalise method {method!r} is unknown; use one of {', '.join(METHODS)}")
    outside, isolated = find_outside(series)
    level = _background(series, background, outside, isolated)
    if method == "auto":
        method = "constant-total" if isolated else "none"
    if exposures is not None:
        known = given_exposures(series, exposures)
        note = _note("exposures given", isolated, series, level)
        return series.evolve(
            note, exposures=known, exposure_errors=np.zeros_like(known), background=level, isolated=isolated
        )
    found = np.ones_like(series.exposures)
    if method == "constant-total":
        seen = np.ones(series.counts.shape[1:], np.float32) if series.weights is None else series.weights
        total = np.sum(_above_maps(series) * seen, axis=(2, 3), dtype=np.float64) - level * seen.sum(axis=(1, 2))
        used = series.used
        for e, name in enumerate(series.elements):
            if total[e, used].min() <= 0:
                tilt = int(np.where(used, total[e], np.inf).argmin())
                raise InputError(
                    f"{name} at tilt {series.tilts_deg[tilt]:g} has no counts above background "
                    f"({total[e, tilt]:.0f}); leave this tilt out, or use normalise method 'none'"
                )
        found = np.where(used, total / total[:, used].mean(axis=1, keepdims=True), 1.0)
    note = _note(method, isolated, series, level)
    return series.evolve(note, exposures=found, background=level, isolated=isolated)


def _note(how: str, isolated: bool, series: TiltSeries, level: NDArray[np.float64]) -> str:
    return f"normalise: {how}, object {'isolated' if isolated else 'not isolated'}, background " + ", ".join(
        f"{n} {b.mean():.3g}" for n, b in zip(series.elements, level, strict=True)
    )


def given_exposures(series: TiltSeries, given: Exposures) -> NDArray[np.float64]:
    """Exposures ``(element, tilt)`` that the user knows, with mean 1 over the tilts in use.

    Raises:
        InputError: an element without any, a wrong number of them, or one that is not positive.
    """
    table = given if isinstance(given, Mapping) else dict.fromkeys(series.elements, given)
    out = np.empty_like(series.exposures)
    used = series.used
    for name in series.elements:
        if name not in table:
            raise InputError(f"no exposures were given for {name}; give one for each of {', '.join(series.elements)}")
        try:
            values = np.array(table[name], dtype=np.float64)
        except (TypeError, ValueError) as exc:
            raise InputError(f"exposures of {name} must be numbers, one for each tilt") from exc
        if values.shape != (series.n_tilts,):
            raise InputError(
                f"{values.size} exposures were given for {name}, the series has {series.n_tilts} tilts; the numbers "
                "must agree"
            )
        bad = used & ~(np.isfinite(values) & (values > 0))
        if bad.any():
            tilt = int(bad.argmax())
            raise InputError(
                f"the exposure of {name} at tilt {series.tilts_deg[tilt]:g} is {values[tilt]:g}; it must be positive, "
                "or leave this tilt out"
            )
        out[series.index(name)] = np.where(used, values / values[used].mean(), 1.0)
    return out


def _above_maps(series: TiltSeries) -> NDArray[np.float32]:
    """Counts above the background that the spectra tell, ``(element, tilt, y, x)``."""
    return series.counts if series.background_maps is None else series.counts - series.background_maps


def find_outside(series: TiltSeries) -> tuple[NDArray[np.bool_], bool]:
    """Pixels away from the object ``(tilt, y, x)``, and whether the object is isolated at every tilt.

    All elements are added and smoothed until a bright pixel holds a few hundred counts; the object is
    what exceeds a tenth of the way from the darkest parts to the bright ones. It is isolated if it
    keeps clear of the frame's border.
    """
    from scipy import ndimage

    total = series.counts.sum(axis=0)
    ny, nx = series.frame
    outside = np.zeros(total.shape, bool)
    clear = True
    for i, image in enumerate(total):
        seen = np.ones(image.shape, bool) if series.weights is None else series.weights[i] > 0
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
        border = np.ones_like(inside)
        rim = max(1, round(0.03 * min(ny, nx)))
        border[rim:-rim, rim:-rim] = False
        clear &= bool(inside[border].mean() < 0.05) and bool(inside.mean() < 0.8)
        grown = ndimage.binary_dilation(inside, iterations=max(1, round(sigma)) + 1)
        outside[i] = ~grown
    if series.weights is not None:
        outside &= series.weights > 0
    return outside, clear


def _background(
    series: TiltSeries, background: Background, outside: NDArray[np.bool_], isolated: bool
) -> NDArray[np.float64]:
    level = np.zeros_like(series.background)
    if background == "auto":
        if isolated:
            for i in range(series.n_tilts):
                if outside[i].sum() >= 16:
                    level[:, i] = _above_maps(series)[:, i, outside[i]].mean(axis=1, dtype=np.float64)
        return np.maximum(level, 0)
    table = background if isinstance(background, dict) else dict.fromkeys(series.elements, background)
    for name, value in table.items():
        e = series.index(name)
        number = float(value)
        mean = series.counts[e].mean(axis=(1, 2), dtype=np.float64)
        if not number >= 0:
            raise InputError(f"background of {name} is {number:g} counts per pixel; it cannot be negative")
        if number >= mean.min():
            tilt = int(mean.argmin())
            raise InputError(
                f"background of {name} is {number:g} counts per pixel, but the map at tilt "
                f"{series.tilts_deg[tilt]:g} has only {mean[tilt]:.3g} on average; lower it or use 'auto'"
            )
        level[e] = number
    return level
