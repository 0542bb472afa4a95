"""Regions of one element, asked about by themselves: the fits, and recordings simulated from them.

What stands out is free of the regulariser (`recon.solvers.regions`): the places that are asked about, other places that
were found, and the domains of the elements, since a domain that the regulariser shrinks takes what is next to it along.

A simulated recording has its own noise, and an alignment and exposures drawn from their standard errors. It goes the
way of the data: it is reconstructed, its places and domains are found in what comes out
(`recon.analysis.replicates`), and it is asked about these. What it answers can be compared with what it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.analysis.box import Box
from recon.model.assembly import make_operator
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1
from recon.series.tilt_series import TiltSeries
from recon.solvers.data_terms import DataTerm, LeastSquares
from recon.solvers.regions import RegionSolver

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array
    from recon.operators import Operator

EVERY, LOOK = 25, 5  # iterations over which means are compared, and after which they are looked at
SETTLED = 3e-3  # of the pure phase: a change of every mean at which a fit is done
FIRST, NEXT = 400, 150  # iterations at most, of the first fit and of each other
# Iterations before the first look at means. What is freed of the regulariser may stand still at first: of 18 first fits
# at 300 counts 4 changed by less than `SETTLED` in 25 iterations, 2 of them six times over, and by up to 0.1 later.
STARTING, RESTARTING = 200, 25
WARM = 100  # iterations that bring the duals to where a volume stands
RECONSTRUCTED = 55  # iterations of a simulated recording's reconstruction, from where the data's own stands
# Of its fit at most, and a change of every mean at which it is done: some places at 5 counts take 120 iterations, most
# take 50 to 75. With as many for all, the slow ones would scatter by up to a third less than they should.
ASKED, SETTLED_AGAIN = 150, 1e-2
NONE, SOME = 60, 30  # iterations of a fit in which a region is held at none; at some, which is near where it stands
SHARPER = 2.0  # how much faster the part of a voxel rises across a border that is sharp, than across one that was found
STRENGTHS = (1.0, 0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Asked:
    """What one element's fits gave.

    Attributes:
        means: ``(strength, place)`` densities at `STRENGTHS`; the last place is the pure phase.
        log_ratios: ``(place,)`` of "present" over "absent", without the last; nan where not asked for.
        model: ``(z, x, y)`` on the host, the volume of the first fit, of which recordings are simulated.
    """

    means: NDArray[np.float64]
    log_ratios: NDArray[np.float64]
    model: NDArray[np.float32]

    @property
    def fractions(self) -> NDArray[np.float64]:
        """``(strength, place)``: densities over that of the pure phase."""
        return np.asarray(self.means[:, :-1] / np.maximum(self.means[:, -1:], 1e-30))


class Asking:
    """One element's regions.

    Args:
        problem: of the element in a box.
        box: which, of the volume that was reconstructed.
        regulariser, a1: as it was reconstructed.
        start: a volume of the box, ``(z, x, y)``, as all volumes here.
        fields: disjoint fields of what may stand out, ``(z, y, x)`` of the result, fractions of a voxel each.

    Attributes:
        iterations: spent.
    """

    def __init__(
        self, problem: Problem, box: Box, regulariser: str, a1: float, start: Array,
        fields: Sequence[NDArray[np.float32]],
    ) -> None:  # fmt: skip
        self.problem, self.box, self.a1, self.iterations = problem, box, a1, 0
        self._xp = backend.namespace(problem.data.counts)
        self.solver = RegionSolver(
            problem.operator,
            problem.data,
            self._placed(fields),
            regulariser=regulariser,
            a1=a1,
            a0=A0_PER_A1 * a1,
            start=start,
        )

    # ------------------------------------------------------------------ the data

    def ask(self, weights: Sequence[NDArray[np.float32]], *, likelihood: bool = True) -> Asked:
        """Fit, fit at other strengths, and hold regions at none and at some.

        Args:
            weights: ``(z, y, x)`` of each place, over which its mean is taken; the last is the pure phase.
            likelihood: whether places are held.
        """
        parts = self._parts(weights)
        found = [self._settle(parts, STARTING, FIRST)]
        fitted, balanced = self.solver.snapshot(), self.solver.weights
        model = self._sharp()
        for factor in STRENGTHS[1:]:
            self._at(factor)
            found.append(self._settle(parts, RESTARTING, NEXT))
        self._at(1.0)
        means = np.array(found)
        self.solver.weights = balanced
        ratios = np.full(len(parts) - 1, np.nan)
        if likelihood:
            ratios[:] = [
                self._log_ratio(p, m, means[0, -1], fitted) for p, m in zip(parts, means[0, :-1], strict=False)
            ]
        return Asked(means, ratios, model)

    def _sharp(self) -> NDArray[np.float32]:
        """The volume of the fit, its borders as sharp as those of an object are: blurred ones would blur once more."""
        model = backend.to_host(self.solver.u).copy()
        for c, f in zip(backend.to_host(self.solver.c), map(backend.to_host, self.solver.fractions), strict=True):
            model += np.float32(c) * (np.clip(0.5 + (f - 0.5) * np.float32(SHARPER), 0, 1) - f)
        return np.asarray(np.maximum(model, np.float32(0)))

    def _parts(self, weights: Sequence[NDArray[np.float32]]) -> list[tuple[Array, Array]]:
        """Where each weight is not zero, and its parts there, of sum 1."""
        out = []
        for weight in self._placed(weights):
            at = self._xp.flatnonzero(weight)
            part = weight.reshape(-1)[at].astype(np.float64)
            out.append((at, part / part.sum()))
        return out

    def _means(self, parts: Sequence[tuple[Array, Array]]) -> NDArray[np.float64]:
        """Density of each place in the present u."""
        u = self.solver.u.reshape(-1)
        return np.array([float((u[at] * part).sum()) for at, part in parts])

    def _placed(self, fields: Sequence[NDArray[np.float32]]) -> list[Array]:
        """``(z, y, x)`` of the result as ``(z, x, y)`` of the box, on the device."""
        return [self._xp.asarray(self.box.of(f)) for f in fields]

    def _at(self, factor: float) -> None:
        self.solver.change_strength(self.a1 * factor, A0_PER_A1 * self.a1 * factor)

    def _advance(self, iterations: int) -> None:
        self.solver.advance(iterations)
        self.iterations += iterations

    def _settle(
        self, parts: Sequence[tuple[Array, Array]], least: int, most: int, settled: float = SETTLED
    ) -> NDArray[np.float64]:
        """The means, once they have settled, after at least and at most so many iterations."""
        self._advance(least)
        looks = [self._means(parts)]
        for _ in range(least, most, LOOK):
            for _ in range(LOOK):  # `advance` would leave the last one unrelaxed
                self.solver.go_on(self.solver.iteration + most, check=False)
            self.iterations += LOOK
            looks.append(self._means(parts))
            if len(looks) <= EVERY // LOOK:
                continue
            now, before = looks[-1], looks[-1 - EVERY // LOOK]
            if np.abs(now - before).max() <= settled * max(now[-1], 1e-30):
                break
        return looks[-1]

    def _log_ratio(self, part: tuple[Array, Array], density: float, pure: float, fitted: Sequence[Array]) -> float:
        """log likelihood of "some" minus that of "none", each with the rest fitted anew."""
        from recon.analysis.answers import ABSENT

        none, some = (
            self._held(part, t, fitted, n) for t, n in ((0.0, NONE), (max(density, ABSENT * pure), SOME))
        )  # fmt: skip
        return none - some

    def _held(self, part: tuple[Array, Array], density: float, fitted: Sequence[Array], iterations: int) -> float:
        """D at the best fit in which a place holds one density; there u is nothing but the regulariser's choice."""
        at, share = part
        fraction = self._xp.zeros(self.solver.u.size, np.float32)
        fraction[at] = share / share.max()
        fraction = fraction.reshape(self.solver.u.shape)
        operator = _Without(self.problem.operator, fraction)
        data = self.problem.data
        of_place = self.problem.operator(fraction, self._xp.empty_like(data.counts))
        held = replace(data, offset=data.offset + np.float32(density) * data.scale * of_place)
        solver = self.solver
        solver.operator, before = operator, solver.operator
        try:
            solver.anew(held, fitted)
            self._advance(iterations)
            return held.value(operator(solver.u, self._xp.empty_like(data.counts)))
        finally:
            solver.operator = before

    # ------------------------------------------------------------------ simulated recordings

    def reconstructed(self, model: Array, volume: Array, n: int, seed: int) -> list[NDArray[np.float16]]:
        """Simulated recordings of a model, reconstructed as the data were, over `peak` of the data's volume.

        Args:
            model: ``(z, x, y)``.
            volume: the data's own reconstruction, from which they start.
            n, seed: how many; of the random numbers.
        """
        solver, xp = self.solver, self._xp
        solver.free([])
        solver.u[...] = xp.asarray(volume)
        for dual in (solver.w, solver.p, solver.q):
            dual[...] = 0
        solver.anew(self.problem.data, [solver.u, solver.w, solver.p, solver.q, solver.y, solver.v, solver.c])
        self._advance(WARM)
        stands, balanced = solver.snapshot(), solver.weights
        out = []
        for r in range(n):
            solver.weights = balanced
            solver.anew(self._recording(model, seed, r), stands)
            self._advance(RECONSTRUCTED)
            out.append((backend.to_host(solver.u) / np.float32(peak(volume))).astype(np.float16))
        return out

    def settle_again(self) -> list[Array]:
        """The state at the fit, of a solver that starts from it."""
        self.solver.c[...] = self._levels(self.solver.fractions)
        self._advance(WARM)
        self._balanced = self.solver.weights
        return self.solver.snapshot()

    def answers(
        self, model: Array, fitted: Sequence[Array], moved: Array, r: int, seed: int,
        fields: Sequence[NDArray[np.float32]], weights: Sequence[NDArray[np.float32]],
    ) -> NDArray[np.float64]:  # fmt: skip
        """What a simulated recording answers about its own places: densities, the pure phase's last.

        Args:
            model: ``(z, x, y)``.
            fitted: from `settle_again`.
            moved: how far the recording's own reconstruction lies from the data's, from which the fit starts.
            r, seed: which, of which random numbers.
            fields, weights: as of the data.
        """
        solver = self.solver
        solver.weights = self._balanced  # each other recording's end is a worse place to begin
        solver.u[...] = self._xp.maximum(fitted[0] + moved, np.float32(0))
        solver.free(self._placed(fields))
        steps = self._levels(solver.fractions)
        solver.anew(self._recording(model, seed, r), [solver.u, *fitted[1:-1], steps])
        return self._settle(self._parts(weights), RESTARTING, ASKED, SETTLED_AGAIN)

    def _levels(self, fractions: Sequence[Array]) -> Array:
        """The mean of u over each field: what stands out of nothing by so much."""
        u = self.solver.u
        levels: Array = self._xp.asarray([float((u * f).sum()) / max(float(f.sum()), 1e-30) for f in fractions])
        return levels

    def _recording(self, model: Array, seed: int, r: int) -> DataTerm:
        element = self.problem.series.index(self.problem.element)
        rng, common = np.random.default_rng([seed, element, r]), np.random.default_rng([seed, r])
        return replace(self.problem.data, counts=_recorded(self.problem, model, rng, common))


def peak(volume: Array) -> float:
    """Its largest value, a unit in which 16 bits hold volumes like it."""
    return max(float(volume.max()), 1e-30)


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
    operator = problem.operator
    if other is not series:
        operator = make_operator(other, problem.where.shape, u, element=problem.element)
    expected = data.scale * operator(u, xp.empty_like(data.counts)) * xp.asarray(exposures) + data.offset
    mean, used = np.maximum(backend.to_host(expected).astype(np.float64), 0), backend.to_host(data.scale) > 0
    if isinstance(data, LeastSquares):
        weight = backend.to_host(data.weight)
        drawn = mean + rng.standard_normal(mean.shape) / np.sqrt(np.where(used, weight, 1))
    else:
        seen = series.seen_by(series.index(problem.element)).swapaxes(1, 2)
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


__all__ = ["Asked", "Asking", "peak"]
