"""What the elements of a series have in common where each has its own maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.series.checks import MIN_TILTS
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray


def together(series: TiltSeries) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Counts of all elements that have a map ``(tilt, y, x)``, and where all of these have weight."""
    if series.element_weights is None:
        return series.counts.sum(axis=0, dtype=np.float64), series.seen > 0
    total = np.zeros(series.counts.shape[1:])
    seen: NDArray[np.bool_] = np.ones(total.shape, bool)
    for e, there in enumerate(series.present):
        own = series.seen_by(e)
        total += np.where(own > 0, series.counts[e], 0)
        seen &= (own > 0) | ~there[:, None, None]
    seen &= series.used[:, None, None]
    return total, seen


def share_of_all(series: TiltSeries) -> NDArray[np.float64]:
    """What part of all elements' counts is typical of those that have a map, ``(tilt,)``; 1 where all have one."""
    present = series.present
    if present[:, series.used].all():
        return np.ones(series.n_tilts)
    level = np.array([
        np.median((maps[there] * series.seen_by(e)[there]).mean(axis=(1, 2), dtype=np.float64)) if there.any() else 0.0
        for e, (maps, there) in enumerate(zip(np.abs(series.counts), present, strict=True))
    ])  # fmt: skip
    part = (level[:, None] * present).sum(axis=0) / max(float(level.sum()), 1e-30)
    return np.asarray(np.where(part > 0, part, 1.0))


def without(series: TiltSeries, elements: tuple[str, ...], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The weights of single elements with 0 where `mask`, ``(tilt, 1, 1)`` or ``(tilt, y, x)``, is True of some."""
    table = series.element_weights
    if table is None:
        table = np.ones((len(series.elements), series.n_tilts, 1, 1), np.float32)
    out = np.array(np.broadcast_to(table, np.broadcast_shapes(table.shape, mask.shape)))
    for name in elements:
        out[series.index(name)][np.broadcast_to(mask, out.shape[1:])] = 0
    return out


def check_each(series: TiltSeries, advice: str = "(leave out fewer)") -> TiltSeries:
    """The series, if enough maps of every element are left in it.

    Raises:
        InputError: of an element, fewer than tomography needs.
    """
    for name, there in zip(series.elements, series.present, strict=True):
        if there.sum() < MIN_TILTS:
            raise InputError(
                f"only {there.sum()} maps of {name} can be used, tomography needs at least {MIN_TILTS} {advice}"
            )
    return series


def common_elements(series: TiltSeries) -> tuple[str, ...]:
    """The elements to add up so that as many tilts as can be have all of them, and of such as many counts as can be."""
    present = series.present[:, series.used]
    if present.all():
        return series.elements
    counts = np.array([float(np.abs(series.counts[e] * (series.seen_by(e) > 0)).sum(dtype=np.float64))
                       for e in range(len(series.elements))])  # fmt: skip
    patterns = {tuple(column) for column in present.T.tolist()}
    # elements that are together at some tilt, and what several such groups have in common
    for _ in range(len(series.elements)):
        patterns |= {tuple(p and q for p, q in zip(a, b, strict=True)) for a in patterns for b in patterns}
    scored = [
        (int(present[np.array(p)].all(axis=0).sum()), float(counts[np.array(p)].sum()), p) for p in patterns if any(p)
    ]
    best = max(scored)[2]
    return tuple(name for name, taken in zip(series.elements, best, strict=True) if taken)
