"""The strength of the regulariser from the data: which one predicts counts that it has not seen.

The counts are split in two halves by binomial thinning: each recorded count goes to one half or the other with
probability 1/2, so both are Poisson data of the same object at half the exposure, independent of each other at
every tilt. One half is reconstructed at several strengths, the other says which of them predicts it best
(by its deviance), and then with the halves exchanged. Maps that are no counts are split by tilts instead, odd
against even.

Strengths are multiples of the noise in the gradient of the data term (`automatic_strength`): the best multiple
depends on the object and little on the dose (about its fourth root, on simulated particles), so that of the halves
serves the whole. With many counts this ends: what the model itself gets wrong (edges inside voxels, above all) no
longer hides in the noise, both halves share it, and a search would fit it. Beyond 50 counts in a bright pixel the
counts are therefore thinned to 50 for the search, and the strength found there is kept: relative to the signal it falls
no further.

Held-out data see the object through its projections, in which much of what a weak strength lets in averages out; so
where the search and the rule (multiple 1) disagree, the search errs more often, and mostly to the weak side. Of its
multiple the power 0.6 is taken. These constants were set on the simulated particles of benchmarks/strength.py, which
says how far each is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recon.backend import Array, namespace, to_device, to_host
from recon.problem import Problem, noise_weights
from recon.prox import DataTerm, Poisson
from recon.tiltseries import TiltSeries

Stop = Callable[[], bool]

STRENGTH_PER_NOISE = 1.0  # of the rule; calibrated on simulated particles, see benchmarks/strength.py
A0_PER_A1 = 2.0
FIRST_FACTORS = (2.0, 1.0, 0.5)
FACTOR_LIMITS = (1 / 16, 16.0)
EVERY = 25  # iterations after which the held-out deviance is looked at
SETTLED = 2e-3  # relative change of it at which the next strength is tried
MAX_ITERATIONS = 500
THINNED, BY_TILTS = "thinned counts", "odd and even tilts"
WITH_DOSE = 2**0.25  # by which the best multiple of the noise grows from half the counts to all
TRUST = 0.6  # in the search, against the rule: the power of its multiple that is taken
MOST_COUNTS = 50.0  # a bright pixel's mean, above which the model's own errors count more than noise
ABSENT = 0.01  # of the mean count: what a pixel is given at least where a reconstruction has nothing


def automatic_strength(series: TiltSeries, element: str) -> float:
    """The a1 of ``strength = "auto"``: a constant times the noise in the gradient of the data term.

    At a good fit the gradient ``A^T s y`` of the data term is noise with variance
    ``sum_t s_t^2 w_t`` per voxel, w_t the inverse variance of a bright pixel; the regulariser must
    just outweigh it. So a1 scales with dose^-1/2, as the noise does, and with the root of the number of
    tilts.
    """
    weights = noise_weights(series, element)
    s = series.exposures[series.index(element)]
    return float(STRENGTH_PER_NOISE * np.sqrt(np.sum(s**2 * weights)))


@dataclass(frozen=True)
class StrengthChoice:
    """A strength, and how it was found.

    Attributes:
        strength: a1; between the least of the deviance and the rule.
        interval: one standard error of where the deviance is least; what the split adds, not what bias does.
        unit: a1 of factor 1: the noise in the gradient of the data term, that of a bright pixel of 50 counts at least.
        factors: tried, ascending.
        deviance: of the held-out data at each factor, both halves added up.
        split: ``"thinned counts"``, ``"odd and even tilts"``, or ``"rule"`` where there was no search.
        iterations: spent, in iterations of the whole problem.
    """

    strength: float
    interval: tuple[float, float]
    unit: float
    factors: tuple[float, ...]
    deviance: tuple[float, ...]
    split: str
    iterations: float

    @classmethod
    def by_rule(cls, problem: Problem) -> StrengthChoice:
        """`automatic_strength`, without a search."""
        unit = automatic_strength(problem.series, problem.element)
        return cls(unit, (unit, unit), unit, (), (), "rule", 0.0)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> StrengthChoice:
        """From what `dataclasses.asdict` and JSON made of one."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**values)


def choose(
    problem: Problem,
    regulariser: str,
    stop: Stop | None = None,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> StrengthChoice | None:
    """Find the strength for a problem, as the module says.

    Args:
        problem: of one element.
        regulariser: ``"tgv"`` or ``"tv"``.
        stop: asked now and then; True ends the search.
        seed: of the thinning; the same seed gives the same strength.
        log: called with a line for each strength tried.

    Returns:
        What was chosen, or None if `stop` said so.
    """
    bright = float(np.median(1 / noise_weights(problem.series, problem.element)))
    data, kept = _thinned(problem.data, min(1.0, MOST_COUNTS / bright), seed)
    unit = automatic_strength(problem.series, problem.element) / kept**0.5
    halves, split = _split(data, seed)
    part = unit * kept * 0.5**0.5 / (WITH_DOSE if split == THINNED else 1.0)
    paths = [_Path(problem, half, held, regulariser, part, stop) for half, held in halves]
    terms: dict[float, Array] = {}
    ahead = list(FIRST_FACTORS)
    while ahead:
        factor = ahead.pop(0)
        predicted = []
        for path in paths:
            deviances = path.predict(factor)
            if deviances is None:
                return None
            predicted.append(deviances.ravel())
        terms[factor] = np.concatenate(predicted)
        if log is not None:
            deviance = 2 * float(terms[factor].sum())
            log(f"{problem.element}: strength {unit * factor:.3g} leaves held-out data a deviance of {deviance:.0f}")
        if not ahead:
            best = min(terms, key=lambda f: float(terms[f].sum()))
            further = best * 2 if best == max(terms) else best / 2
            if best in (min(terms), max(terms)) and FACTOR_LIMITS[0] <= further <= FACTOR_LIMITS[1]:
                ahead.append(further)
    factors = np.array(sorted(terms))
    factor, interval = _least(factors, np.stack([terms[f] for f in factors]))
    return StrengthChoice(
        strength=unit * factor**TRUST,
        interval=(unit * interval[0] ** TRUST, unit * interval[1] ** TRUST),
        unit=unit,
        factors=tuple(float(f) for f in factors),
        deviance=tuple(2 * float(terms[f].sum()) for f in factors),
        split=split,
        iterations=float(sum(path.solver.iteration + path.solver.coarse_iterations for path in paths)),
    )


class _Path:
    """Reconstructions of one half along the strengths, each from the last, judged by the other half."""

    def __init__(
        self, problem: Problem, kept: DataTerm, held: DataTerm, regulariser: str, unit: float, stop: Stop | None
    ) -> None:
        self.problem, self.unit, self.stop = problem, unit, stop
        xp = namespace(held.counts)
        if isinstance(held, Poisson):
            used = held.scale > 0
            floor = ABSENT * float(xp.sum(held.counts)) / max(float(used.sum()), 1.0)
            held = replace(held, offset=xp.where(used, xp.maximum(held.offset, np.float32(floor)), np.float32(0)))
        self.held = held
        first = unit * FIRST_FACTORS[0]
        self.solver = replace(problem, data=kept).solver(regulariser, first, A0_PER_A1 * first)
        self._projection = xp.empty_like(held.counts)

    def predict(self, factor: float) -> Array | None:
        """Half the deviance of each held-out pixel at a strength, on the host; None if stopped."""
        a1 = self.unit * factor
        self.solver.change_strength(a1, A0_PER_A1 * a1)
        before, terms = np.inf, None
        for _ in range(0, MAX_ITERATIONS, EVERY):
            if self.stop is not None and self.stop():
                return None
            self.solver.advance(EVERY)
            self.problem.operator(self.solver.u, self._projection)
            terms = self.held.terms(self._projection)
            deviance = float(terms.sum())
            if abs(deviance - before) <= SETTLED * deviance:
                break
            before = deviance
        return to_host(terms)


def _is_counts(data: DataTerm, counts: np.ndarray) -> bool:
    return isinstance(data, Poisson) and bool((counts == np.round(counts)).all())


def _thinned(data: DataTerm, keep: float, seed: int) -> tuple[DataTerm, float]:
    """The data with each count kept with probability `keep`, and `keep`; 1 where they are no counts."""
    counts = to_host(data.counts)
    if keep == 1 or not _is_counts(data, counts):
        return data, 1.0
    fewer = np.random.default_rng([seed, 1]).binomial(counts.astype(np.int64), keep).astype(np.float32)
    part = np.float32(keep)
    return replace(data, counts=_beside(fewer, data), scale=data.scale * part, offset=data.offset * part), keep


def _beside(a: np.ndarray, data: DataTerm) -> Array:
    """An array where the data are."""
    return to_device(a, "cuda" if namespace(data.counts) is not np else "cpu")


def _split(data: DataTerm, seed: int) -> tuple[list[tuple[DataTerm, DataTerm]], str]:
    """Pairs (kept, held out), each half of the data, and what they are."""
    counts = to_host(data.counts)
    if _is_counts(data, counts):
        first = _beside(np.random.default_rng(seed).binomial(counts.astype(np.int64), 0.5).astype(np.float32), data)
        half = np.float32(0.5)
        a = replace(data, counts=first, scale=data.scale * half, offset=data.offset * half)
        b = replace(a, counts=data.counts - first)
        return [(a, b), (b, a)], THINNED
    xp = namespace(data.counts)
    odd = xp.asarray(np.arange(len(counts)) % 2, dtype=np.float32)[:, None, None]

    def of(keep: Array) -> DataTerm:
        return replace(data, counts=data.counts * keep, scale=data.scale * keep, offset=data.offset * keep)

    return [(of(odd), of(1 - odd)), (of(1 - odd), of(odd))], BY_TILTS


def _least(factors: np.ndarray, terms: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The factor of least deviance by a parabola in its logarithm, and where that is within one standard error."""
    total = terms.sum(axis=1)
    i = int(np.argmin(total))
    if i in (0, len(factors) - 1):
        return float(factors[i]), (float(factors[i]), float(factors[i]))
    x = np.log(factors)
    a, b, _ = np.polyfit(x[i - 1 : i + 2] - x[i], total[i - 1 : i + 2], 2)
    shift = float(np.clip(-b / (2 * a), x[i - 1] - x[i], x[i + 1] - x[i]))
    # the slope of the deviance at the least is uncertain by the scatter of the pixels' slopes
    slopes = (terms[i + 1] - terms[i - 1]) / (x[i + 1] - x[i - 1])
    error = float(np.sqrt(np.sum(np.square(slopes - slopes.mean())))) / (2 * a)
    return float(np.exp(x[i] + shift)), (float(np.exp(x[i] + shift - error)), float(np.exp(x[i] + shift + error)))
