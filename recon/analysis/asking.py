"""Regions of one element, asked about by themselves: the fits, and simulated recordings for their intervals.

What stands out is free of the regulariser (`recon.solvers.regions`): the places that are asked about, other places that
were found, and the domains of the elements, since a domain that the regulariser shrinks takes what is next to it along.
Intervals come from recordings simulated from that fit, each with its own noise, an alignment and exposures drawn from
their standard errors, and regions whose borders are moved by theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.analysis.places import moved
from recon.model.assembly import make_operator
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1
from recon.series.tilt_series import TiltSeries
from recon.solvers.data_terms import LeastSquares
from recon.solvers.regions import RegionSolver

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array
    from recon.operators import Operator

EVERY = 25  # iterations after which means are looked at
SETTLED = 3e-3  # of the pure phase: a change of every mean at which a fit is done
FIRST, NEXT = 300, 150  # iterations at most, of the first fit and of each other
REPLICATE = 100  # iterations of a simulated recording, which starts where the fit stands
HELD = 75  # iterations of a fit in which a region is held at a density
STRENGTHS = (1.0, 0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Fields:
    """What may stand out of its surroundings, ``(z, y, x)`` fractions of a voxel each.

    Attributes:
        free: the fields of places, asked about or only found, with the standard errors of their borders.
        domains: of the elements, before places are taken out.
    """

    free: Sequence[tuple[NDArray[np.float32], float]]
    domains: Sequence[NDArray[np.float32]]

    def drawn(self, rng: np.random.Generator | None = None) -> list[NDArray[np.float32]]:
        """All fields, disjoint; with a generator each border is moved by its error."""
        out: list[NDArray[np.float32]] = []
        left = np.ones_like(self.domains[0]) if self.domains else np.ones_like(self.free[0][0])
        for fraction, error in self.free:
            shift = 0.0 if rng is None else error * float(rng.standard_normal())
            field = np.minimum(moved(fraction, shift), left)
            out.append(field)
            left = left - field
        out += [domain * left for domain in self.domains]
        return out


@dataclass(frozen=True, eq=False)
class Asked:
    """What one element's fits and simulated recordings gave.

    Attributes:
        means: ``(strength, place)`` densities at `STRENGTHS`; the last place is the pure phase.
        drawn: ``(replicate, place)``, of the simulated recordings.
        log_ratios: ``(place,)`` of "present" over "absent", without the last; nan where not asked for.
        iterations: spent.
    """

    means: NDArray[np.float64]
    drawn: NDArray[np.float64]
    log_ratios: NDArray[np.float64]
    iterations: int


class Asking:
    """One element's regions.

    Args:
        problem: of the element, as it was reconstructed.
        regulariser, a1: as well.
        start: the solved volume, ``(z, x, y)``.
        fields: what may stand out.
        weights: ``(z, y, x)`` of each place, over which its mean is taken; the last is the pure phase.
    """

    def __init__(
        self, problem: Problem, regulariser: str, a1: float, start: Array, fields: Fields,
        weights: Sequence[NDArray[np.float32]],
    ) -> None:  # fmt: skip
        self.problem, self.a1, self.fields = problem, a1, fields
        self._xp = backend.namespace(problem.data.counts)
        self.solver = RegionSolver(
            problem.operator,
            problem.data,
            self._placed(fields.drawn()),
            regulariser=regulariser,
            a1=a1,
            a0=A0_PER_A1 * a1,
            start=start,
        )
        self._weights = []
        for weight in self._placed(weights):
            at = self._xp.flatnonzero(weight)
            part = weight.reshape(-1)[at].astype(np.float64)
            self._weights.append((at, part / part.sum()))
        self.iterations = 0

    def means(self) -> NDArray[np.float64]:
        """Density of each place in the present u."""
        u = self.solver.u.reshape(-1)
        return np.array([float((u[at] * part).sum()) for at, part in self._weights])

    def ask(self, replicates: int, seed: int, *, likelihood: Callable[[int], bool] = lambda k: True) -> Asked:
        """Fit, fit at other strengths, hold regions at none and at some, and simulate.

        Args:
            replicates: simulated recordings.
            seed: of the random numbers.
            likelihood: whether the place at a position is to be held.
        """
        found = [self._settle(FIRST)]
        fitted, weights = self.solver.snapshot(), self.solver.weights
        for factor in STRENGTHS[1:]:
            self._at(factor)
            found.append(self._settle(NEXT))
        self._at(1.0)
        means = np.array(found)
        data, solver = self.problem.data, self.solver
        model = fitted[0]
        drawn = []
        for r in range(replicates):
            rng = np.random.default_rng([seed, self.problem.series.index(self.problem.element), r])
            counts = _recorded(self.problem, model, rng, np.random.default_rng([seed, r]))
            solver.weights = weights
            solver.anew(replace(data, counts=counts), self._placed(self.fields.drawn(rng)), fitted)
            self._advance(REPLICATE)
            drawn.append(self.means())
        solver.weights = weights
        ratios = np.full(len(self._weights) - 1, np.nan)
        for k in range(len(ratios)):
            if likelihood(k):
                ratios[k] = self._log_ratio(k, means[0, k], means[0, -1], fitted)
        return Asked(means, np.array(drawn), ratios, self.iterations)

    def _placed(self, fields: Sequence[NDArray[np.float32]]) -> list[Array]:
        """``(z, y, x)`` of the result as ``(z, x, y)`` of the grid that is solved for, on the device."""
        my, mx = self.problem.where.margin
        wide = (np.pad(f, ((0, 0), (my, my), (mx, mx))) if my or mx else f for f in fields)
        return [self._xp.asarray(np.ascontiguousarray(f.swapaxes(1, 2), dtype=np.float32)) for f in wide]

    def _at(self, factor: float) -> None:
        self.solver.change_strength(self.a1 * factor, A0_PER_A1 * self.a1 * factor)

    def _advance(self, iterations: int) -> None:
        self.solver.advance(iterations)
        self.iterations += iterations

    def _settle(self, most: int) -> NDArray[np.float64]:
        """The means, once they have settled."""
        before = self.means()
        for _ in range(0, most, EVERY):
            self._advance(EVERY)
            now = self.means()
            if np.abs(now - before).max() <= SETTLED * max(now[-1], 1e-30):
                break
            before = now
        return now

    def _log_ratio(self, k: int, density: float, pure: float, fitted: Sequence[Array]) -> float:
        """log likelihood of "some" minus that of "none", each with the rest fitted anew."""
        from recon.analysis.answers import ABSENT

        none, some = (self._held(k, t, fitted) for t in (0.0, max(density, ABSENT * pure)))
        return none - some

    def _held(self, k: int, density: float, fitted: Sequence[Array]) -> float:
        """D at the best fit in which a place holds one density; there u is nothing but the regulariser's choice."""
        at, part = self._weights[k]
        fraction = self._xp.zeros(self.solver.u.size, np.float32)
        fraction[at] = part / part.max()
        fraction = fraction.reshape(self.solver.u.shape)
        operator = _Without(self.problem.operator, fraction)
        data = self.problem.data
        of_place = self.problem.operator(fraction, self._xp.empty_like(data.counts))
        held = replace(data, offset=data.offset + np.float32(density) * data.scale * of_place)
        solver = self.solver
        solver.operator, before = operator, solver.operator
        try:
            solver.anew(held, solver.fractions, fitted)
            self._advance(HELD)
            return held.value(operator(solver.u, self._xp.empty_like(data.counts)))
        finally:
            solver.operator = before


class _Without:
    """``A`` of a volume without what lies in a region."""

    def __init__(self, operator: Operator, fraction: Array) -> None:
        self.operator, self._rest = operator, 1 - fraction
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape

    def __call__(self, x: Array, out: Array) -> Array:
        return self.operator(x * self._rest, out)

    def adjoint(self, y: Array, out: Array) -> Array:
        self.operator.adjoint(y, out)
        out *= self._rest
        return out


def _recorded(problem: Problem, u: Array, rng: np.random.Generator, common: np.random.Generator) -> Array:
    """Counts of a recording of u, ``(tilt, u, y)``: noise, and an alignment and exposures as far off as they may be.

    Args:
        rng: of the element's own noise.
        common: of what all elements share.
    """
    data, series = problem.data, problem.series
    xp = backend.namespace(data.counts)
    other, exposures = _as_far_off(series, problem.element, common)
    operator = problem.operator if other is series else make_operator(other, problem.where.shape, u)
    expected = data.scale * operator(u, xp.empty_like(data.counts)) * xp.asarray(exposures) + data.offset
    mean, used = np.maximum(backend.to_host(expected).astype(np.float64), 0), backend.to_host(data.scale) > 0
    if isinstance(data, LeastSquares):
        weight = backend.to_host(data.weight)
        drawn = mean + rng.standard_normal(mean.shape) / np.sqrt(np.where(used, weight, 1))
    else:
        seen = np.ones(1) if series.weights is None else series.weights.swapaxes(1, 2)
        part = np.where(used, seen, 1)  # a pixel of weight f holds the fraction f of what was counted
        drawn = part * rng.poisson(mean / part)
    counts: Array = xp.asarray(np.where(used, drawn, 0), dtype=np.float32)
    return counts


def _as_far_off(series: TiltSeries, element: str, rng: np.random.Generator) -> tuple[TiltSeries, NDArray[np.float32]]:
    """The series with an alignment drawn about its own, and factors of the exposures ``(tilt, 1, 1)``."""
    a = series.alignment
    shifts = rng.standard_normal(a.shifts.shape)
    turn, bright = float(rng.standard_normal()), rng.standard_normal(series.n_tilts)
    if a.errors is not None or a.rotation_error:
        off = 0.0 if a.errors is None else shifts * np.nan_to_num(a.errors)
        changed = replace(a, shifts=a.shifts + off, rotation_deg=a.rotation_deg + turn * float(a.rotation_error or 0.0))
        series = series.evolve(alignment=changed)
    factors = np.ones(series.n_tilts)
    if series.exposure_errors is not None:
        e = series.index(element)
        relative = np.nan_to_num(series.exposure_errors[e]) / np.maximum(series.exposures[e], 1e-30)
        factors = np.maximum(1 + bright * relative, 0)
    return series, factors.astype(np.float32)[:, None, None]


__all__ = ["Asked", "Asking", "Fields"]
