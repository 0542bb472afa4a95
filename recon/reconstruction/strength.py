"""The strength of the regulariser from the data: the one whose volume is least wrong, told by counts not seen.

The counts are split by binomial thinning: each recorded count goes to one part or the other by chance, so both are
Poisson data of the same object at a part of the exposure, independent of each other at every tilt. One part is
reconstructed at several strengths, the other says which of them is best. It is half of the counts where they are few.
Where fewer than half tell strengths apart, `HELD_COUNTS`, more are reconstructed, so that less is left to extrapolate,
but `KEPT_COUNTS` at most. Maps that are no counts are split by tilts instead, odd against even.

What counts is the error of the volume, not how well counts are predicted: much of what a weak strength lets in
averages out in projections. By the Fourier slice theorem the square of a volume is that of its projections with the
ramp filter of filtered back projection between them (A. C. Kak, M. Slaney, "Principles of Computerized Tomographic
Imaging", 1988, chapter 3). So held-out residuals are judged with it, `held_out_error`: but for a constant, the noise,
that is the squared error of the volume, in all directions that were recorded.

A voxel is the mean of what is in it, but the detector sees the object itself, whose edges lie inside voxels. Averaging
over a voxel and drawing the voxel as a box again blurs by a quadratic B-spline, whose samples are 1/8, 3/4, 1/8
(M. Unser, IEEE Signal Process. Mag. 16(6), 22 (1999)). Without it the search would take for the best a volume
that is sharper than the truth, the more so the more counts there are; so what was held out is blurred likewise
(`as_voxels_show`). To sharpen the prediction instead blows up its noise: strengths came out twice too strong where a
large body has small inclusions.

Strengths are multiples of the noise in the gradient of the data term (`automatic_strength`). The best multiple depends
on the object and, on simulated particles, on the dose like this: it stays the same up to some ten counts, and grows
with their root from some hundred on, where what voxels cannot hold is wrong by more than the noise, and by as much at
any dose. So it goes with the root of 1 + counts / `MODEL_COUNTS`, of a bright pixel (`noise_and_model`), and what is
best for a part of the counts tells what is best for all.

Of a tall volume the slices in its middle are enough, `SLICES`: all have the same noise and hardly depend on each other.

Which counts happen to be kept moves the least: of few counts, each way by a fifth. So what is found is weighed against
the rule, factor 1, as two measurements of one thing are, by how far each is from the best in general (`weighed`).
benchmarks/strength.py says how good the choice is, benchmarks/strength_rivals.py how good others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from recon.backend import Array, namespace, to_host
from recon.model.noise import automatic_strength, noise_weights
from recon.reconstruction.problem import Problem
from recon.series.tilt_series import TiltSeries
from recon.series.volume import StrengthChoice
from recon.solvers.data_terms import DataTerm

Stop = Callable[[], bool]

A0_PER_A1 = 2.0
FIRST_FACTOR = 1.0
FACTOR_LIMITS = (1 / 16, 16.0)
EVERY = 25  # iterations after which a volume is compared with what it was
SETTLED = 5e-3  # relative change of the volume at which the next strength is tried
FIRST_ITERATIONS, MAX_ITERATIONS = 100, 200  # at most, of the first strength and of each other
COARSE_TOLERANCE = 1e-2  # certified gap on the coarse grids that the first strength starts from
THINNED, BY_TILTS = "thinned counts", "odd and even tilts"
# means of a bright pixel
MODEL_COUNTS = 50.0  # at which the model's errors do as much as noise
HELD_COUNTS = 50.0  # that tell strengths apart: as many are held out, or half of all where these are fewer
KEPT_COUNTS = 200.0  # at most as many are reconstructed: with more, what the model gets wrong of both parts would sway
# standard deviations of logarithms, simulated: of the best factor among objects, of what few counts find about it
OBJECTS, SEARCH = 0.4, 0.2
# Slices in which the strength is looked for, where there are twice as many. Strengths that 16 of 32 slices gave left
# 60 volumes with 0.947 to 1.064 times the error, 1.000 in the median (benchmarks/strength.py --slices 16).
SLICES = 64
BLUR = np.float32(1 / 8)  # outer samples of the quadratic B-spline


def by_rule(problem: Problem) -> StrengthChoice:
    """`automatic_strength`, without a search."""
    unit = automatic_strength(problem.series, problem.element)
    return StrengthChoice(unit, (unit, unit), unit, (), (), "rule", 0.0)


def choose(
    problem: Problem,
    stop: Stop | None = None,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> StrengthChoice | None:
    """Find the strength for a problem, as the module says.

    Args:
        problem: of one element, by TGV or TV.
        stop: asked now and then; True ends the search.
        seed: of the thinning; the same seed gives the same strength.
        log: called with a line for each strength tried.

    Returns:
        What was chosen, or None if `stop` said so.
    """
    element, parts = problem.element, split(problem, seed)
    path, judge, unit = StrengthPath(parts.kept, parts.part, stop), parts.held, parts.unit
    terms: dict[float, np.ndarray] = {}
    factor: float | None = FIRST_FACTOR
    while factor is not None:
        projection = path.projection(factor)
        if projection is None:
            return None
        whole = problem.rows.gather(projection, everywhere=True)
        terms[factor] = held_out_error(judge, whole).ravel()
        if log is not None:
            error = float(terms[factor].sum())
            log(f"{element}: strength {unit * factor:.3g} leaves a held-out error of {error:.6g}")
        factor = _next({f: float(t.sum()) for f, t in terms.items()})
    factors = np.array(sorted(terms))
    least, (low, high) = _least(factors, np.stack([terms[f] for f in factors]))
    best, *interval = (weighed(f, parts.bright) for f in (least, low, high))
    return StrengthChoice(
        strength=unit * best,
        interval=(unit * interval[0], unit * interval[1]),
        unit=unit,
        factors=tuple(float(f) for f in factors),
        error=tuple(float(terms[f].sum()) for f in factors),
        split=parts.how,
        iterations=float(path.solver.iteration + path.solver.coarse_iterations)
        * parts.kept.where.shape[1]
        / problem.where.shape[1],
    )


@dataclass(frozen=True, eq=False)
class Split:
    """The data of one element in two parts that are independent.

    Attributes:
        kept: the problem of what is reconstructed.
        held: what tells how good that is, all rows of it.
        unit, part: a1 of factor 1, of all data and of what is kept.
        how: ``"thinned counts"`` or ``"odd and even tilts"``.
        bright: `bright_counts` of all data; infinite of maps that are no counts.
    """

    kept: Problem
    held: DataTerm
    unit: float
    part: float
    how: str
    bright: float


def split(problem: Problem, seed: int = 0) -> Split:
    """The data in two parts, as the module says; the same seed divides counts alike."""
    series, element = problem.series, problem.element
    unit = part = automatic_strength(series, element)
    bright = bright_counts(series, element)
    problem = few_slices(problem)
    series = problem.series
    if is_counts(series, element):
        share = kept_share(bright)
        kept, held = thinned(series, element, share, seed)
        unit, part = (noise_and_model(unit, bright, x) for x in (1.0, share))
        how = THINNED
    else:
        kept, held = by_tilts(series, element)
        part, how, bright = unit * 0.5**0.5, BY_TILTS, np.inf
    return Split(problem.on(kept), _of_all_rows(problem.on(held)), unit, part, how, bright)


def few_slices(problem: Problem) -> Problem:
    """The problem of `SLICES` in the middle, where there are twice as many, and their share of the element there."""
    series, tall = problem.series, problem.where.shape[1]
    shared = problem.ranks.size > 1 or series.scheme is not None or any(f is not None for f in series.footprints)
    if shared or tall < 2 * SLICES:
        return problem
    few = problem.in_the_middle(SLICES)
    e = series.index(problem.element)
    own = series.counts[e] - series.offset(e)
    there, all_of_it = (float((own * s.seen_by(e)).sum(dtype=np.float64)) for s in (few.series, series))
    return few if there * tall >= 0.5 * SLICES * all_of_it > 0 else problem


def _of_all_rows(problem: Problem) -> DataTerm:
    """Its data, with those of other ranks."""
    data = problem.data
    if problem.ranks.size == 1:
        return data
    arrays = {f.name: problem.rows.gather(getattr(data, f.name), everywhere=True) for f in fields(data)}
    return replace(data, **arrays)


class StrengthPath:
    """Reconstructions along the strengths, each from the last, on to where they settle.

    Args:
        problem: of one element, of the data that are reconstructed.
        regulariser: ``"tgv"`` or ``"tv"``.
        unit: a1 of factor 1.
        stop: asked now and then; True ends the search.
    """

    def __init__(self, problem: Problem, unit: float, stop: Stop | None = None) -> None:
        self.problem, self.unit, self.stop = problem, unit, stop
        first = unit * FIRST_FACTOR
        self.solver = problem.coarse_to_fine(first, A0_PER_A1 * first, COARSE_TOLERANCE)
        self._projection = namespace(self.solver.y).empty_like(self.solver.y)

    def projection(self, factor: float) -> Array | None:
        """``A u`` ``(tilt, u, y)`` at a strength, overwritten by the next; None if stopped."""
        a1, solver = self.unit * factor, self.solver
        solver.change_strength(a1, A0_PER_A1 * a1)
        most = MAX_ITERATIONS if solver.iteration else FIRST_ITERATIONS
        for _ in range(0, most, EVERY):
            if self.stop is not None and self.stop():
                return None
            moved, size = solver.travel(EVERY)
            if moved <= SETTLED * size:
                break
        return solver.projection(self._projection)


def as_voxels_show(recorded: Array) -> Array:
    """Line integrals ``(tilt, u, y)`` of the object as those of its means over voxels: a little blurred.

    The filter 1/8, 3/4, 1/8 along u and y; at a border half of it stays.
    """
    out = recorded.copy()
    for axis in (1, 2):
        step = BLUR * namespace(out).diff(out, axis=axis)
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        out[lower] += step
        out[upper] -= step
    return out


def held_out_error(held: DataTerm, projection: Array) -> np.ndarray:
    """Squared error of a volume by data that it has not seen, but for the noise, ``(tilt, y)`` float64 on the host.

    ``sum_k |k| |F r|^2 / n`` for the residual ``r = s^1/2 (B (c - b) / s - A u)`` of each detector line across
    the tilt axis, k its frequency, cycles per pixel, B the blur of voxels. The root of s gives the noise of all tilts
    the same weight.

    Args:
        held: counts, exposures and background.
        projection: ``A u``, ``(tilt, u, y)``.
    """
    xp = namespace(projection)
    used = held.scale > 0
    scale = xp.where(used, held.scale, np.float32(1))
    # where nothing was recorded, the prediction stands in, or its absence would spread
    recorded = as_voxels_show(xp.where(used, (held.counts - held.offset) / scale, projection))
    # transformed on the host: CuPy's transforms need a library that its wheels do not bring
    residual = to_host(xp.where(used, (recorded - projection) * xp.sqrt(scale), np.float32(0)))
    n = 2 * residual.shape[1]  # or the filter would reach around
    spectrum = np.fft.rfft(residual, n, axis=1)
    ramp = np.fft.rfftfreq(n)[None, :, None]
    squares = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.asarray(np.sum(ramp * squares, axis=1, dtype=np.float64) / n)


def _next(errors: Mapping[float, float]) -> float | None:
    """Half or double of the best factor so far, until the best has a neighbour on each side."""
    best = min(errors, key=lambda factor: errors[factor])
    for factor in (best / 2, best * 2):
        if factor not in errors and FACTOR_LIMITS[0] <= factor <= FACTOR_LIMITS[1]:
            return factor
    return None


def is_counts(series: TiltSeries, element: str) -> bool:
    e = series.index(element)
    counts = series.counts[e]
    return not series.scaled and bool(((counts == np.round(counts)) | (series.seen_by(e) == 0)).all())


def bright_counts(series: TiltSeries, element: str) -> float:
    """Mean of a bright pixel of the maps."""
    return float(np.median(1 / noise_weights(series, element)[series.present[series.index(element)]]))


def noise_and_model(noise: float, bright: float, share: float) -> float:
    """a1 of factor 1 for a share of the counts.

    Noise in the gradient grows with the root of the counts, errors of the model with the counts.

    Args:
        noise: of all counts, `automatic_strength`.
        bright: `bright_counts`, of all.
        share: 0 to 1.
    """
    return float(noise * np.sqrt(share * (1 + share * bright / MODEL_COUNTS)))


def weighed(factor: float, bright: float) -> float:
    """A factor that was found, weighed with the rule's, 1, by inverse variances of their logarithms.

    Args:
        factor: of least held-out error.
        bright: `bright_counts`, of all; the variance of what is found falls as the weight of the model's errors grows.
    """
    search = SEARCH**2 / (1 + bright / MODEL_COUNTS)
    return float(factor ** (OBJECTS**2 / (OBJECTS**2 + search)))


def kept_share(bright: float) -> float:
    """The part of the counts that is reconstructed, for `bright_counts` in all; the rest is held out."""
    return min(max(0.5, 1 - HELD_COUNTS / bright), KEPT_COUNTS / bright)


def thinned(series: TiltSeries, element: str, share: float, seed: int) -> tuple[TiltSeries, TiltSeries]:
    """What is reconstructed and what is held out of an element: each count is kept with probability `share`."""
    e = series.index(element)
    counts = np.where(series.seen_by(e) > 0, series.counts[e], 0).astype(np.int64)
    kept = np.random.default_rng(seed).binomial(counts, share)
    return _thinned(series, element, kept, share), _thinned(series, element, counts - kept, 1 - share)


def by_tilts(series: TiltSeries, element: str) -> tuple[TiltSeries, TiltSeries]:
    """Odd tilts and even ones, of those that are used of an element."""
    seen = series.seen
    odd = ((np.cumsum(series.present[series.index(element)]) - 1) % 2).astype(np.float32)[:, None, None]
    return series.evolve(weights=seen * odd), series.evolve(weights=seen * (1 - odd))


def _thinned(series: TiltSeries, element: str, counts: np.ndarray, share: float) -> TiltSeries:
    """The series with the counts of an element that were kept with probability `share`."""
    all_counts, maps = series.counts.copy(), series.background_maps
    all_counts[series.index(element)] = counts
    return series.evolve(
        counts=all_counts,
        exposures=series.exposures * share,
        background=series.background * share,
        background_maps=None if maps is None else maps * np.float32(share),
    )


def _least(factors: np.ndarray, terms: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The factor of least error by a parabola in its logarithm, and where that is within one standard error."""
    total = terms.sum(axis=1)
    i = int(np.argmin(total))
    if i in (0, len(factors) - 1):
        return float(factors[i]), (float(factors[i]), float(factors[i]))
    x = np.log(factors)
    a, b, _ = np.polyfit(x[i - 1 : i + 2] - x[i], total[i - 1 : i + 2], 2)
    shift = float(np.clip(-b / (2 * a), x[i - 1] - x[i], x[i + 1] - x[i]))
    # the slope at the least is uncertain by the scatter of the lines' slopes
    slopes = (terms[i + 1] - terms[i - 1]) / (x[i + 1] - x[i - 1])
    error = float(np.sqrt(np.sum(np.square(slopes - slopes.mean())))) / (2 * a)
    return float(np.exp(x[i] + shift)), (float(np.exp(x[i] + shift - error)), float(np.exp(x[i] + shift + error)))
