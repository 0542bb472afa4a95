"""The strength of the regulariser from the data: which one predicts counts that it has not seen.

The counts are split in two halves by binomial thinning: each recorded count goes to one half or the other with
probability 1/2, so both are Poisson data of the same object at half the exposure, independent of each other at
every tilt. One half is reconstructed at several strengths, the other says which of them predicts it best
(by its deviance), and then with the halves exchanged. Maps that are no counts are split by tilts instead.

A strength is stated as a multiple of the noise in the gradient of the data term, `automatic_strength`; the
best multiple depends on the object and hardly on the dose, so that of the halves serves the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recon.backend import Array, namespace, to_device, to_host
from recon.prox import DataTerm, Poisson
from recon.reconstruct import A0_PER_A1, Problem, automatic_strength
from recon.solvers.pdhg import PrimalDual

FIRST_FACTORS = (2.0, 1.0, 0.5)
FACTOR_LIMITS = (1 / 16, 16.0)
TOLERANCE = 3e-2  # of the halves' reconstructions; tighter ones find the same strengths
MAX_ITERATIONS = 500
ABSENT = 0.01  # of the mean count: what a pixel is given at least where a reconstruction has nothing


@dataclass(frozen=True)
class StrengthSearch:
    """What a search found.

    Attributes:
        strength: a1.
        interval: strengths that predict no worse than by one standard error of the difference.
        unit: a1 of factor 1: the noise in the gradient of the data term.
        factors: tried, ascending.
        deviance: of the held-out data at each factor, both halves added up.
        split: ``"thinned counts"`` or ``"odd and even tilts"``.
        iterations: spent, in iterations of the whole problem.
    """

    strength: float
    interval: tuple[float, float]
    unit: float
    factors: tuple[float, ...]
    deviance: tuple[float, ...]
    split: str
    iterations: float

    def record(self) -> dict[str, Any]:
        """For ``job.json``."""
        return {
            "strength": self.strength,
            "interval": list(self.interval),
            "unit": self.unit,
            "factors": list(self.factors),
            "deviance": list(self.deviance),
            "split": self.split,
            "iterations": self.iterations,
        }


def search(problem: Problem, regulariser: str, seed: int = 0) -> tuple[StrengthSearch, PrimalDual]:
    """Find the strength for a problem.

    Args:
        problem: of one element.
        regulariser: ``"tgv"`` or ``"tv"``.
        seed: of the thinning; the same seed gives the same strength.

    Returns:
        What was found, and a solver of the whole problem at that strength that starts from the best of one half.
    """
    unit = automatic_strength(problem.series, problem.element)
    halves, split, share = _split(problem.data, seed)
    paths = [_Path(problem, kept, held, regulariser, unit * share**0.5) for kept, held in halves]
    terms: dict[float, Array] = {}

    def evaluate(factor: float) -> None:
        terms[factor] = np.concatenate([path.predict(factor).ravel() for path in paths])

    for factor in FIRST_FACTORS:
        evaluate(factor)
    while True:
        best = min(terms, key=lambda f: float(terms[f].sum()))
        further = best * 2 if best == max(terms) else best / 2 if best == min(terms) else None
        if further is None or not FACTOR_LIMITS[0] <= further <= FACTOR_LIMITS[1]:
            break
        evaluate(further)
    factors = np.array(sorted(terms))
    factor, interval = _least(factors, np.stack([terms[f] for f in factors]))
    solver = PrimalDual(
        problem.operator, problem.data, regulariser=regulariser, a1=unit * factor, a0=A0_PER_A1 * unit * factor
    )  # fmt: skip
    spent = sum(path.solver.iteration + path.solver.coarse_iterations for path in paths)
    solver.continue_from(paths[-1].solver)
    solver.coarse_iterations = spent
    found = StrengthSearch(
        strength=unit * factor,
        interval=(unit * interval[0], unit * interval[1]),
        unit=unit,
        factors=tuple(float(f) for f in factors),
        deviance=tuple(2 * float(terms[f].sum()) for f in factors),
        split=split,
        iterations=float(spent),
    )
    return found, solver


class _Path:
    """Reconstructions of one half along the strengths, each from the last, judged by the other half."""

    def __init__(self, problem: Problem, kept: DataTerm, held: DataTerm, regulariser: str, unit: float) -> None:
        self.problem, self.unit = problem, unit
        xp = namespace(held.counts)
        if isinstance(held, Poisson):
            used = held.scale > 0
            floor = ABSENT * float(xp.sum(held.counts)) / max(float(used.sum()), 1.0)
            held = replace(held, offset=xp.where(used, xp.maximum(held.offset, np.float32(floor)), 0))
        self.held = held
        first = unit * FIRST_FACTORS[0]
        guess = replace(problem, data=kept)
        self.solver = guess.solver(regulariser, first, A0_PER_A1 * first)
        self._projection = xp.empty_like(held.counts)

    def predict(self, factor: float) -> Array:
        """Half the deviance of each held-out pixel at a strength, on the host."""
        self.solver.change_strength(self.unit * factor, A0_PER_A1 * self.unit * factor)
        self.solver.run(TOLERANCE, self.solver.iteration + MAX_ITERATIONS, check_every=25)
        self.problem.operator(self.solver.u, self._projection)
        return to_host(self.held.terms(self._projection))


def _split(data: DataTerm, seed: int) -> tuple[list[tuple[DataTerm, DataTerm]], str, float]:
    """Pairs (kept, held out), what they are, and the share of the data that is kept."""
    counts = to_host(data.counts)
    if isinstance(data, Poisson) and bool((counts == np.round(counts)).all()):
        thinned = np.random.default_rng(seed).binomial(counts.astype(np.int64), 0.5).astype(np.float32)
        first = to_device(thinned, "cuda" if namespace(data.counts) is not np else "cpu")
        half = np.float32(0.5)
        a = replace(data, counts=first, scale=data.scale * half, offset=data.offset * half)
        b = replace(a, counts=data.counts - first)
        return [(a, b), (b, a)], "thinned counts", 0.5
    xp = namespace(data.counts)
    odd = xp.asarray(np.arange(len(counts)) % 2, dtype=np.float32)[:, None, None]

    def of(keep: Array) -> DataTerm:
        return replace(data, counts=data.counts * keep, scale=data.scale * keep, offset=data.offset * keep)

    return [(of(odd), of(1 - odd)), (of(1 - odd), of(odd))], "odd and even tilts", 0.5


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
