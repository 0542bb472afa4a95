"""Background and exposure of each map, from the maps themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError, JobError, teller
from recon.preparation.isolation import doubtful_film, locate
from recon.preparation.screening import BORDER, leave_out
from recon.series.scene import Scene
from recon.series.tilt_series import ExposureSource, TiltSeries
from recon.series.units import series_in, unit_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("auto", "constant-total", "none")
Background = str | float | Mapping[str, float]
Exposures = Sequence[float] | Mapping[str, Sequence[float]]
SHADOWED = 0.25  # relative error of an exposure beyond which a tilt may be left out
ASYMMETRY = 0.2  # difference of the logarithms at +t and -t that is worth a word


def normalise(
    series: TiltSeries,
    method: str = "auto",
    background: Background = "auto",
    exposures: Exposures | None = None,
    log: Callable[[str], None] | None = None,
) -> TiltSeries:
    """Estimate background and exposures; the counts stay as they are.

    The background of a map is the mean of its pixels away from the object, beyond what its
    `background_maps` tell. Where the whole object is in view at every tilt, its total is constant, so the
    total above background is the exposure (Longley et al., Nat. Commun. 9:2135 (2018)), which takes detector
    shadowing out. Maps that cannot take part (see `screening`) are left out: weight 0, the reason in
    `left_out`.

    Args:
        series: raw counts.
        method: ``"constant-total"`` as above, each element on its own; ``"none"`` leaves all exposures 1; ``"auto"``
            is constant-total where the object is isolated (tested on the data), each element's exposures drawn
            towards what the elements share as far as their noise asks for it, and none elsewhere, where
            `recon.align` finds them.
        background: ``"auto"``, or counts per pixel for all elements, or a table by element.
        exposures: known ones, such as live times, in place of an estimate: one number for each tilt, or a table of
            these by element. Only their ratios matter.
        log: called with a line for whatever is found; by default the logger ``recon`` gets them, and doubts, such as
            maps or pixels left out, are a `recon.ReconWarning` each.

    Returns:
        The series with `exposures` (mean 1 per element over the tilts that take part), `exposure_errors` if they were
        estimated (0 where exposures were given), `exposures_from`, `background`, `isolated` and maybe `weights` and
        `left_out` set.

    Raises:
        JobError: an unknown method.
        InputError: a map is empty, so that it has no exposure; the background exceeds the data; exposures that do not
            fit the series; fewer than three tilts can be used.
    """
    series = TiltSeries.of(series, "normalise")
    if method not in METHODS:
        raise JobError(f"normalise method {method!r} is unknown; use one of {', '.join(METHODS)}")
    unit = unit_of(series)
    told_before = len(series.history)
    recorded = locate(series)
    series = series_in(recorded, unit)
    scene = series.scene
    assert scene is not None
    outside, isolated = scene.empty, scene.isolated(series.used)
    gone = np.flatnonzero(series.used & (scene.reach > 0))
    if isolated and gone.size:
        series = leave_out(series, dict.fromkeys(map(int, gone), BORDER))
    level = _background(series, background, scene, isolated, unit)
    if isinstance(background, str) and background == "auto" and (told := doubtful_film(scene.film)):
        history = (*series.history, *(f"warning: {line}" for line in told))
        series = series.evolve(remarks=tuple(dict.fromkeys((*series.remarks, *told))), history=history)
    found, errors = np.ones_like(series.exposures), None
    source: ExposureSource = "assumed"
    if exposures is not None:
        found, method, source = given_exposures(series, exposures), "exposures given", "given"
        errors = np.zeros_like(found)
    elif method == "auto":
        method, source = ("constant-total", "totals") if isolated else ("none", "open")
        if isolated:
            series, found, errors = _shared_totals(series, level, outside)
    elif method == "constant-total":
        source = "totals"
        found, errors = _totals(series, level, outside)
        for e, name in enumerate(series.elements):
            if found[e, series.present[e]].min(initial=1) <= 0:
                tilt = int(np.flatnonzero(series.present[e])[found[e, series.present[e]].argmin()])
                raise InputError(
                    f"{name} at tilt {series.tilts_deg[tilt]:g} has no counts above background "
                    f"({found[e, tilt]:.0f}); leave this tilt out, or use normalise method 'none'"
                )
    taken, present = series.used, series.present
    mean = found.mean(axis=1, keepdims=True, where=present)
    found = np.where(present, found / mean, 1.0)
    errors = None if errors is None else np.where(present, errors / mean, np.nan)
    note = f"normalise: {method}, object {'isolated' if isolated else 'not isolated'}, background " + ", ".join(
        f"{n} {b[p].mean() * unit:.3g}" for n, b, p in zip(series.elements, level, present, strict=True)
    )
    if source == "open":
        note += "; exposures are left to the alignment"
    note += asymmetry(series.tilts_deg[taken], np.where(present, found, np.nan)[:, taken])
    found_out = recorded.evolve(
        note,
        history=series.history,
        weights=series.weights,
        left_out=series.left_out,
        remarks=series.remarks,
        exposures=found,
        exposure_errors=errors,
        exposures_from=source,
        background=level * unit,
        isolated=isolated,
    )
    say = teller(log)
    for line in found_out.history[told_before:]:
        say(line)
    return found_out


def given_exposures(series: TiltSeries, given: Exposures) -> NDArray[np.float64]:
    """Exposures ``(element, tilt)`` that the user knows, with mean 1 over the tilts in use.

    Raises:
        InputError: an element without any, a wrong number of them, or one that is not positive.
    """
    table = given if isinstance(given, Mapping) else dict.fromkeys(series.elements, given)
    out = np.empty_like(series.exposures)
    for name, used in zip(series.elements, series.present, strict=True):
        if name not in table:
            raise InputError(f"no exposures were given for {name}; give one for each of {', '.join(series.elements)}")
        try:
            values = np.array(table[name], dtype=np.float64)
        except (TypeError, ValueError) as exc:
            raise InputError(f"exposures of {name} must be numbers, one for each tilt") from exc
        if values.shape == (int(used.sum()),) and series.element_weights is not None:  # of its own maps
            own, values = values, np.ones(series.n_tilts)
            values[used] = own
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


def _totals(
    series: TiltSeries, level: NDArray[np.float64], outside: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts above background ``(element, tilt)`` and their standard errors."""
    above, area, total, counts = _above_maps(series), *(np.empty_like(level) for _ in range(3))
    for e in range(len(level)):
        seen = series.seen_by(e)
        area[e] = seen.sum(axis=(1, 2), dtype=np.float64)
        total[e] = np.sum(above[e] * seen, axis=(1, 2), dtype=np.float64) - level[e] * area[e]
        counts[e] = np.sum(series.counts[e] * seen, axis=(1, 2), dtype=np.float64)
    away = np.maximum(outside.sum(axis=(1, 2)), 1)
    return total, np.sqrt(np.maximum(counts, 1.0) + area**2 * level / away)


def _shared_totals(
    series: TiltSeries, level: NDArray[np.float64], outside: NDArray[np.bool_]
) -> tuple[TiltSeries, NDArray[np.float64], NDArray[np.float64]]:
    """Exposures and their errors from totals, each element's as near to the common one as its noise allows.

    The detectors shadow all elements alike; how far elements differ beyond their noise is estimated from the maps
    (an empirical Bayes estimate: Efron, Morris, JASA 70, 311 (1975)). A tilt that lacks what it should show is left
    out, and so is one whose exposure cannot be told.
    """
    total, sigma = _totals(series, level, outside)
    taken, present = series.used, series.present
    total, sigma = np.where(present, total, 0), np.where(present, sigma, 0)
    typical, together = _shares(total, taken, present)
    error = np.sqrt((sigma**2).sum(axis=0)) / np.maximum(total.sum(axis=0), 1e-9)
    usual = float(np.median(error[taken]))
    reasons: dict[int, str] = {}
    for i in np.flatnonzero(taken):
        if together[i] <= 0 or (error[i] > SHADOWED and error[i] > 3 * usual):
            reasons[int(i)] = f"shadowed or empty, {max(together[i], 0):.0f} counts above background are too few"
            continue
        for e, name in enumerate(series.elements):
            expected = typical[e] * together[i]
            if present[e, i] and expected > 100 and total[e, i] < expected / 4:
                reasons[int(i)] = f"{name} has {total[e, i]:.0f} counts where {expected:.0f} are expected"
    series = leave_out(series, reasons)
    taken, present = series.used, series.present
    relative = np.where(total > sigma, sigma / np.maximum(total, 1e-9), np.inf)
    scale = np.array([max(float(np.median(t[p])), 1e-9) for t, p in zip(total, present, strict=True)])[:, None]
    logs = np.log(np.where(np.isfinite(relative), total, scale) / scale)
    precision = 1 / relative**2
    if (precision.sum(axis=0)[taken] <= 0).any() or not taken.any():
        bare = np.where(together > 0, together, 1.0)
        return series, np.broadcast_to(bare, total.shape).copy(), np.broadcast_to(bare * error, total.shape).copy()
    whole = np.maximum(precision.sum(axis=0), 1e-30)
    shared = (precision * logs).sum(axis=0) / whole
    apart = logs - shared
    apart -= _mean(apart[:, taken], precision[:, taken])
    noise = np.maximum(relative**2 - 1 / whole, 0)
    known = np.isfinite(relative) & taken
    tau = 0.0
    if len(total) > 1 and known.any():
        weight = 1 / (noise[known] + 1e-4) ** 2  # what is well known says how far elements differ
        tau = max(0.0, float((weight * (apart[known] ** 2 - noise[known])).sum() / weight.sum()))
    with np.errstate(invalid="ignore"):
        keep = np.where(np.isfinite(noise), tau / np.maximum(tau + noise, 1e-30), 0.0) if len(total) > 1 else 0.0
        spread = np.where(np.isfinite(noise), keep * noise, tau) + 1 / whole
    found = np.exp(shared + keep * apart)
    return series, found, found * np.sqrt(spread)


def _shares(
    total: NDArray[np.float64], taken: NDArray[np.bool_], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What share of a tilt's counts is typical of each element, and the counts of all elements of each tilt.

    Where an element has no map, the others' counts tell what all would have had.
    """
    together = total.sum(axis=0)
    whole = taken & present.all(axis=0)
    if whole.any():
        typical = np.median(total[:, whole] / np.maximum(together[whole], 1e-9), axis=1)
    else:
        level = np.array([np.median(t[p]) if p.any() else 0.0 for t, p in zip(total, present & taken, strict=True)])
        typical = level / max(float(level.sum()), 1e-9)
    part = (typical[:, None] * present).sum(axis=0) / max(float(typical.sum()), 1e-9)
    return typical, np.where(present.all(axis=0), together, together / np.maximum(part, 1e-9))


def _mean(values: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
    return np.asarray((values * weight).sum(axis=1, keepdims=True) / whole)


def asymmetry(tilts_deg: NDArray[np.float64], exposures: NDArray[np.float64]) -> str:
    """What to say of exposures ``(element, tilt)`` that differ between +t and -t, or an empty string; nan if no map."""
    order = np.argsort(tilts_deg)
    tilts, curve = tilts_deg[order], np.log(np.maximum(np.nanmean(exposures, axis=0)[order], 1e-9))
    both = tilts[(tilts > 0) & (tilts <= -tilts[0] + 0.5)]
    if not both.size:
        return ""
    difference = np.interp(both, tilts, curve) - np.interp(-both, tilts, curve)
    k = int(np.argmax(np.abs(difference)))
    if abs(difference[k]) < ASYMMETRY:
        return ""
    return (
        f"; exposures are asymmetric: {np.exp(np.interp(both[k], tilts, curve)):.2f} at {both[k]:g} degrees, "
        f"{np.exp(np.interp(-both[k], tilts, curve)):.2f} at {-both[k]:g}"
    )


def _above_maps(series: TiltSeries) -> NDArray[np.float32]:
    """Counts above the background that the spectra tell, ``(element, tilt, y, x)``."""
    return series.counts if series.background_maps is None else series.counts - series.background_maps


def _found_background(series: TiltSeries, scene: Scene, isolated: bool) -> NDArray[np.float64]:
    """Mean counts of the pixels away from the object ``(element, tilt)``, beyond what the spectra tell.

    A tilt whose pixels do not tell it gets that of its neighbours, if most tilts do tell it; else all is 0. So it is
    where an object leaves the frame and the spectra tell the background.
    """
    told = scene.grounded & series.used & (scene.empty.sum(axis=(1, 2)) >= 16)
    level = np.zeros_like(series.background)
    if told.sum() < 0.5 * series.used.sum() or not (isolated or series.background_maps is None):
        return level
    above, order = _above_maps(series), np.argsort(series.tilts_deg)
    for e, there in enumerate(series.present):
        empty = scene.empty if series.element_weights is None else scene.empty & (series.seen_by(e) > 0)
        own = told & there & empty.any(axis=(1, 2))
        if not own.any():
            continue
        found = [above[e, i, empty[i]].mean(dtype=np.float64) if own[i] else 0.0 for i in range(series.n_tilts)]
        known = order[own[order]]
        level[e] = np.interp(series.tilts_deg, series.tilts_deg[known], np.array(found)[known])
    return np.maximum(level, 0)


def _background(
    series: TiltSeries, background: Background, scene: Scene, isolated: bool, unit: float
) -> NDArray[np.float64]:
    level = np.zeros_like(series.background)
    if isinstance(background, str) and background == "auto":
        return _found_background(series, scene, isolated)
    table = background if isinstance(background, Mapping) else dict.fromkeys(series.elements, background)
    for name, value in table.items():
        e = series.index(name)
        try:
            number = float(value)
        except (TypeError, ValueError) as exc:
            raise InputError(
                f"background of {name} is {value!r}; give 'auto' for all elements, or counts per pixel, 0 for none"
            ) from exc
        mean = np.where(series.present[e], series.counts[e].mean(axis=(1, 2), dtype=np.float64) * unit, np.inf)
        if not number >= 0:
            raise InputError(f"background of {name} is {number:g} counts per pixel; it cannot be negative")
        if number >= mean.min():
            tilt = int(mean.argmin())
            raise InputError(
                f"background of {name} is {number:g} counts per pixel, but the map at tilt "
                f"{series.tilts_deg[tilt]:g} has only {mean[tilt]:.3g} on average; lower it or use 'auto'"
            )
        level[e] = number / unit
    return level
