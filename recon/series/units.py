"""Scaled maps in units of their own: every stage computes with values near 1, whatever unit the maps came in.

Maps that are not counts have no unit that the program knows: 1e-12 or 1e30 are as good as 1. What is computed with them
meets thresholds, squares and float32's range, so each stage divides by a power of two first and multiplies what it
returns. A power of two changes no digit, so that a result does not depend on the unit at all. Counts are counts, their
noise follows from their number, so they stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.series.tilt_series import TiltSeries
from recon.series.volume import Solution, StrengthChoice, Volume

if TYPE_CHECKING:
    from recon.backend import Array

BRIGHTEST = 64  # the largest value lies between this and twice this, in these units


def unit_of(series: TiltSeries, element: str | None = None) -> float:
    """A power of two by which scaled maps are divided, all of them or an element's; 1 for counts."""
    if not series.scaled:
        return 1.0
    which = range(len(series.elements)) if element is None else (series.index(element),)
    largest = max(float(np.abs(series.counts[e] * (series.seen_by(e) > 0)).max()) for e in which)
    if largest == 0:
        return 1.0
    return float(2.0 ** (int(np.frexp(largest)[1]) - int(np.frexp(BRIGHTEST)[1])))


def series_in(series: TiltSeries, unit: float) -> TiltSeries:
    """The series with its maps and their background divided by a power of two."""
    if unit == 1:
        return series
    below = series.background_maps
    return series.evolve(
        counts=_divided(series.counts, unit),
        background=series.background / unit,
        background_maps=None if below is None else _divided(below, unit),
        scene=series.scene,
    )


def volume_in(volume: Volume, unit: float) -> Volume:
    """The volume, and the least-squares solution behind it, divided by a power of two."""
    if unit == 1:
        return volume
    made = volume.solution
    return replace(
        volume, values=_divided(volume.values, unit), solution=None if made is None else _solution_in(made, unit)
    )


def strength_in(a1: float, unit: float) -> float:
    """The strength that does to a volume divided by `unit` what `a1` does to the volume itself."""
    return a1 * unit


def _solution_in(made: Solution, unit: float) -> Solution:
    # D has no unit, so that what multiplies a density is divided where the density is multiplied
    numbers, settings, choice = made.parameters, made.settings, made.choice
    if numbers is not None:
        numbers = replace(
            numbers,
            a1=strength_in(numbers.a1, unit),
            a0=strength_in(numbers.a0, unit),
            upper=numbers.upper / unit,
        )
    if settings is not None and settings.strength is not None:
        settings = replace(settings, strength=strength_in(settings.strength, unit))
    if choice is not None:
        choice = _choice_in(choice, unit)
    value = None if made.value is None else _divided(made.value, unit)
    return replace(made, value=value, parameters=numbers, settings=settings, choice=choice)


def _choice_in(choice: StrengthChoice, unit: float) -> StrengthChoice:
    low, high = (strength_in(a, unit) for a in choice.interval)
    return replace(
        choice, strength=strength_in(choice.strength, unit), interval=(low, high), unit=strength_in(choice.unit, unit)
    )


def _divided(a: Array, unit: float) -> Array:
    """In two steps, since 1 / unit may lie outside float32."""
    half = int(np.frexp(unit)[1] - 1) // 2
    return (a / np.float32(2.0**half)) / np.float32(unit / 2.0**half)
