"""Projections that the reference does not show: aligned by what maps there are, against elements known by then.

A series is aligned on one object, the sum of its reference elements or an image. A projection that lacks one of them
shows another object. It is matched with the re-projections of its own elements, each reconstructed from the projections
that are aligned already (projection matching); where several elements have a map, one displacement serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.joint import at_all_displacements
from recon.alignment.reprojection import Matcher
from recon.alignment.start import FINE, Log
from recon.backend import to_host
from recon.errors import InputError
from recon.model.assembly import make_operator, some
from recon.series.alignment import Alignment
from recon.series.binning import Binning, binned_to
from recon.series.checks import MIN_TILTS
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ITERATIONS = 60  # of the reconstruction of an element
STEPS = 8  # of Gauss and Newton for a displacement
LEAST = 0.05  # of the brightest expected pixel: least variance that a dark one is given


@dataclass(frozen=True, eq=False)
class _Known:
    """An element, reconstructed from the projections that are aligned.

    Attributes:
        series: of this element, binned.
        image: ``(z, x, y)``, per unit exposure.
    """

    series: TiltSeries
    image: NDArray[np.float32]

    def foretold(self, i: int, alignment: Alignment) -> Array:
        """What a map at projection i shows per unit exposure, ``(u, y)``."""
        nz, nx, ny = self.image.shape
        one = some(self.series.evolve(alignment=alignment), np.array([i]))
        operator = make_operator(one, (nz, ny, nx), self.image)
        return np.asarray(operator(self.image, np.empty(operator.range_shape, np.float32))[0], dtype=np.float64)


def align_rest(
    series: TiltSeries, aligned: NDArray[np.bool_], say: Log, cut: bool = False, device: str = "cpu"
) -> TiltSeries:
    """The series with the projections aligned that have maps and were not.

    Args:
        series: with the alignment of the others.
        aligned: ``(tilt,)`` those whose alignment is known.
        say: called with a line for each round.
        cut: the frame cuts the object in the others: what exposes them is matched, too.
        device: where elements are reconstructed.

    Raises:
        InputError: a projection has no element that three others which are aligned show.
    """
    aligned = aligned.copy()
    fine, bins = binned_to(series, FINE)
    while (rest := np.flatnonzero(series.present.any(axis=0) & ~aligned)).size:
        known = _reconstructed(series, fine, bins, aligned, device)
        within = [i for i in rest if any(series.present[e, i] for e in known)]
        if not within:
            names = ", ".join(n for n, there in zip(series.elements, series.present[:, rest[0]], strict=True) if there)
            raise InputError(
                f"tilt {series.tilts_deg[rest[0]]:g} shows {names} only, which fewer than {MIN_TILTS} tilts that are "
                "aligned show, so that nothing says how it lies to the others; name another align reference, give an "
                "image that has all tilts, or use [align] file for shifts that are known"
            )
        for i in within:
            series = _matched(series, fine, bins, known, int(i), cut)
        aligned[within] = True
        told = ", ".join(f"{t:g}" for t in series.tilts_deg[within])
        why = "in which the frame cuts the object" if cut else "which the reference does not show"
        say(f"align: tilts {told}, {why}, by {', '.join(series.elements[e] for e in known)}")
    return series


def _reconstructed(
    series: TiltSeries, fine: TiltSeries, bins: Binning, aligned: NDArray[np.bool_], device: str
) -> dict[int, _Known]:
    """The elements, by position, of which enough projections are aligned."""
    out = {}
    for e, name in enumerate(series.elements):
        there = series.present[e] & aligned
        if there.sum() < MIN_TILTS:
            continue
        one = combine(fine, [name])
        kept = one.evolve(weights=one.seen * there[:, None, None].astype(np.float32))
        index = np.flatnonzero(there)
        at = bins.down(series.alignment)
        part = some(kept.evolve(alignment=at), index)
        matcher = Matcher(part, part.alignment, device=device)
        matcher.reconstruct(ITERATIONS)
        assert matcher.image is not None
        out[e] = _Known(one, to_host(matcher.image))
    return out


def _matched(
    series: TiltSeries, fine: TiltSeries, bins: Binning, known: dict[int, _Known], i: int, cut: bool
) -> TiltSeries:
    """The series with projection i where it fits the re-projections best, and exposed as it was if that is open."""
    free = cut or series.exposures_from in ("open", "re-projections")
    mine = {e: k for e, k in known.items() if series.present[e, i]}
    at = bins.down(series.alignment)
    moved = np.array([0.0, at.axis_offset])
    first = True
    normal = np.eye(2)
    for _ in range(STEPS):
        trial = replace(at, shifts=np.tile(moved - [0.0, at.axis_offset], (series.n_tilts, 1)))
        parts = [_compared(fine, e, k.foretold(i, trial), i, free, cut) for e, k in mine.items()]
        if first:  # anywhere in the frame
            first, step = False, _offset(parts)
            if np.abs(step).max() > 0.5:
                moved = moved + step
                continue
        normal = sum((p[2] for p in parts), np.zeros((2, 2)))
        right = sum((p[3] for p in parts), np.zeros(2))
        normal = normal + (1e-6 * np.trace(normal) + 1e-9) * np.eye(2)
        step = np.clip(np.linalg.solve(normal, right), -2, 2)
        moved = moved + step
        if np.abs(step).max() < 0.01:
            break
    found = bins.up(replace(at, shifts=np.tile(moved - [0.0, at.axis_offset], (series.n_tilts, 1))))
    a = series.alignment
    shifts = a.shifts.copy()
    shifts[i] = found.displacements[i] - [0.0, a.axis_offset]
    errors = None if a.errors is None else a.errors.copy()
    if errors is not None:
        errors[i] = np.sqrt(np.diag(np.linalg.inv(normal))) * bins.factor
    series = series.evolve(alignment=replace(a, shifts=shifts, errors=errors))
    if not free:
        return series
    exposures = series.exposures.copy()
    for e, part in zip(mine, parts, strict=True):
        exposures[e, i] *= part[4]
    return series.evolve(exposures=exposures, exposures_from=series.exposures_from if cut else "re-projections")


def _compared(
    fine: TiltSeries, e: int, foretold: Array, i: int, free: bool, cut: bool
) -> tuple[Array, Array, Array, Array, float]:
    """An element's map at projection i against what is foretold: both, Gauss-Newton's equations, and a factor."""
    seen = fine.seen_by(e)[i].T.astype(np.float64)
    offset = np.broadcast_to(fine.offset(e), fine.counts[e].shape)[i].T
    signal = np.where(seen > 0, fine.counts[e, i].T - offset, 0)
    model = foretold * fine.exposures[e, i]
    factor = 1.0
    if free:
        like = np.ones_like(model) if cut else model  # the others are exposed by their totals: so is this one
        factor = max(float(np.sum(seen * signal * like)) / max(float(np.sum(seen * model * like)), 1e-30), 1e-3)
        model = model * factor
    mean = model + offset
    weight = seen / np.maximum(mean, max(LEAST * float(mean.max()), 1e-12))
    slope = np.stack([-np.gradient(model, axis=1), -np.gradient(model, axis=0)])  # d/dv, d/du
    normal = np.einsum("aij,bij,ij->ab", slope, slope, weight)
    right = np.einsum("aij,ij,ij->a", slope, signal - model, weight)
    return signal * seen, model * seen, normal, right, factor


def _offset(parts: list[tuple[Array, Array, Array, Array, float]]) -> Array:
    """Displacement (v, u), whole pixels, at which maps and what is foretold correlate best, all elements together."""
    match: Array = np.zeros(2 * np.array(parts[0][0].shape) - 1)
    for a, b, *_ in parts:
        match += at_all_displacements(a, b) / max(float(b.max()), 1e-12)
    found = np.array(np.unravel_index(int(match.argmax()), match.shape)) - (np.array(parts[0][0].shape) - 1)
    return np.asarray(found[::-1], dtype=np.float64)
