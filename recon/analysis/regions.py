"""`recon.composition`: what regions hold, with intervals and verdicts.

The volume that is nearest to the truth as a whole does not answer a question about a place: the regulariser that makes
it so fills small holes and flattens small peaks. So regions are asked about by themselves (`recon.analysis.asking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.analysis.answers import Composition, ElementAnswer, Ratio, RegionAnswer
from recon.analysis.asking import Asked, Asking, Fields
from recon.analysis.features import Feature, features
from recon.analysis.mask import mask
from recon.analysis.phases import core, domains
from recon.analysis.places import Place, Regions, places
from recon.errors import InputError, JobError
from recon.reconstruction.problem import Problem
from recon.series.settings import PRIMAL_DUAL
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, unit_of, volume_in
from recon.series.volume import Volume, by_element

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPLICATES = 10
MOST_FOUND = 4  # places that are asked about if none are named
WITHIN = 0.8  # of a region's weight in a place that was found, from which its border is not its own
APART = 0.4  # of a place that was found, in a region that was asked for, from which it is no place beside it
# Standard errors that simulations of the fit do not show, by benchmarks/regions.py: of the pure phase, and of the
# answer itself, since a border that is drawn wrong presses what is inside together or apart.
UNSEEN, PRESSED = 0.04, 0.06
DETECTION = 3.29  # standard errors: 5 % to see what is not there, 5 % to miss what is


def composition(
    series: TiltSeries,
    volumes: Mapping[str, Volume],
    regions: Regions | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    likelihood: bool = True,
    device: str = "auto",
    log: Callable[[str], None] | None = None,
) -> Composition:
    """What each region holds of each element: mean density, part of the pure phase, intervals, verdict.

    Each element is fitted once more to its maps with the steps of the regions against their surroundings free of the
    regulariser; the mean over a region, divided by that of the element's pure phase from the same fit, is the answer.
    Its interval comes from simulated recordings of that fit.

    Args:
        series: what `volumes` were reconstructed from.
        volumes: from `reconstruct` by ``tgv``, ``tv`` or ``none``.
        regions: see `recon.analysis.places.places`; by default the first few of `recon.features`.
        replicates: simulated recordings behind each interval, 4 at least.
        seed: of the random numbers.
        likelihood: also compare the likelihoods of none and some of an element in each region.
        device: as `reconstruct`.
        log: called with a line for each element.

    Returns:
        A `Composition`; without regions if none were given and none found.

    Raises:
        JobError: too few replicates.
        InputError: one line: a region that is empty, outside, of another shape, overlapping, unseen or twice there;
            volumes of another method or series.
    """
    volumes = by_element(volumes)
    if replicates < 4:
        raise JobError(f"replicates is {replicates}; an interval needs 4 at least")
    if not volumes:
        raise InputError("there are no volumes to ask about")
    shape = next(iter(volumes.values())).values.shape
    inside = mask(volumes)
    found = features(volumes, inside)
    asked = _first(found) if regions is None else places(regions, shape)
    labels = np.zeros(shape, np.uint16)
    for k, place in enumerate(asked, 1):
        labels[place.weight > 0.5] = k
    if not asked:
        return Composition({}, labels, replicates, seed, True)
    for place in asked:
        if not (place.fraction > 0.5)[inside].any():
            continue
        if (place.fraction > 0.5)[inside].mean() > 0.9:
            raise InputError(f"region {place.name!r} covers the whole particle; nothing is left to compare it with")
    own = domains(volumes, inside)
    fields = Fields(_free(asked, found), list(own.values()))
    taken = np.minimum(sum((f for f, _ in fields.free), start=np.zeros(shape, np.float32)), 1)
    results: dict[str, Asked] = {}
    for element, volume in volumes.items():
        unit = unit_of(series, element)
        small = volume_in(volume, unit)
        problem, method, a1, start = _problem(series_in(series, unit), small, backend.resolve_device(device))
        _check_seen(problem, asked)
        pure = core(own[element] * (1 - taken), small.values, [p.weight for p in asked])
        asking = Asking(problem, method, a1, start, fields, [*(p.weight for p in asked), pure])
        found_here = asking.ask(replicates, seed, likelihood=lambda k: likelihood)
        results[element] = replace(found_here, means=found_here.means * unit, drawn=found_here.drawn * unit)
        if log is not None:
            log(f"{element}: {len(asked)} regions asked about in {asking.iterations} iterations")
    answers = {p.name: _answer(k, p, results, volumes) for k, p in enumerate(asked)}
    spent = {n: r.iterations for n, r in results.items()}
    return Composition(answers, labels, replicates, seed, regions is None, spent)


def _first(found: Mapping[str, Feature]) -> list[Place]:
    """The largest few of the places that were found."""
    few = list(found.values())[:MOST_FOUND]
    return places(few, few[0].fraction.shape) if few else []


def _free(asked: Sequence[Place], found: Mapping[str, Feature]) -> list[tuple[NDArray[np.float32], float]]:
    """What may stand out, and how well its border is known.

    A region inside a place that was found has no border of its own: it is the place that stands out.
    """
    used: list[Feature] = []
    own: list[tuple[NDArray[np.float32], float]] = []
    for place in asked:
        total = float(place.weight.sum())
        around = [f for f in found.values() if float((place.weight * f.fraction).sum()) >= WITHIN * total]
        if not around:
            own.append((place.fraction, place.outline))
        elif around[0] not in used:
            used.append(around[0])
    out = [(f.fraction, f.outline) for f in used]
    taken = sum((f for f, _ in [*own, *out]), start=np.zeros(asked[0].fraction.shape, np.float32))
    beside = [f for f in found.values() if f not in used and float((f.fraction * taken).sum()) < APART * f.size]
    return [*own, *out, *((f.fraction, f.outline) for f in beside)]


def _problem(series: TiltSeries, volume: Volume, device: str) -> tuple[Problem, str, float, backend.Array]:
    """The element's problem as it was solved, its regulariser, its strength and the solved volume."""
    made = volume.solution
    if made is None or made.settings is None or made.parameters is None:
        raise InputError(
            f"the volume of {volume.element} was not made by reconstruct with one of {', '.join(PRIMAL_DUAL)}; only "
            "these can be asked about regions"
        )
    problem, full = Problem.of(series, volume.element, made.settings, device), volume.solved
    nz, ny, nx = problem.where.shape
    if full.shape != (nz, nx, ny):
        raise InputError(
            f"the volume of {volume.element} has shape {volume.values.shape}, the series gives {problem.where.shape}; "
            "pass the series that it was reconstructed from"
        )
    return problem, made.settings.method, made.parameters.a1, backend.to_device(full, device)


def _check_seen(problem: Problem, asked: Sequence[Place]) -> None:
    """Every region is met by rays of some tilt."""
    xp = backend.namespace(problem.data.counts)
    sensitivity = problem.operator.adjoint(problem.data.scale, xp.empty(problem.operator.domain_shape, np.float32))
    my, mx = problem.where.margin
    seen = backend.to_host(sensitivity).swapaxes(1, 2)
    seen = seen[:, my : seen.shape[1] - my, mx : seen.shape[2] - mx]
    for place in asked:
        if not (seen * place.fraction).any():
            raise InputError(f"region {place.name!r} is not seen at any tilt; no ray meets it")


def _answer(k: int, place: Place, results: Mapping[str, Asked], volumes: Mapping[str, Volume]) -> RegionAnswer:
    elements, errors = {}, {}
    for name, r in results.items():
        shown = float(np.average(volumes[name].values, weights=place.weight))
        elements[name], errors[name] = _of_element(name, k, r, shown)
    ratios = tuple(_ratio(elements[a], elements[b], errors[a], errors[b]) for a, b in combinations(elements, 2))
    return RegionAnswer(place.name, float(place.fraction.sum()), place.outline, elements, ratios)


def _of_element(element: str, k: int, asked: Asked, shown: float) -> tuple[ElementAnswer, float]:
    """The answer for the place at position k, and its standard error."""
    pure = asked.means[:, -1]
    fraction, half, twice = asked.means[:, k] / np.maximum(pure, 1e-30)
    drawn = asked.drawn[:, k] / np.maximum(asked.drawn[:, -1], 1e-30)
    n, sd, bias = len(drawn), float(drawn.std(ddof=1)), float(drawn.mean() - fraction)
    pull = max(abs(half - fraction), abs(twice - fraction))
    at68, at95 = (reach(level, n, sd, bias, pull, float(fraction)) for level in (0.68, 0.95))
    error = float(np.hypot(sd, _rest(bias, pull, float(fraction))))
    ratio = asked.log_ratios[k]
    answer = ElementAnswer(
        element=element,
        density=float(asked.means[0, k]),
        pure=float(pure[0]),
        fraction=float(fraction),
        low68=max(0.0, float(fraction) - at68),
        high68=float(fraction) + at68,
        low95=max(0.0, float(fraction) - at95),
        high95=float(fraction) + at95,
        smallest=DETECTION * float(np.hypot(sd, _rest(bias, pull, 0.0))),
        shown=shown / max(float(pure[0]), 1e-30),
        half_strength=float(half),
        twice_strength=float(twice),
        log_ratio=float(ratio) if np.isfinite(ratio) else None,
        repeatability=sd,
        bias=bias,
    )
    return answer, error


def reach(level: float, replicates: int, sd: float, bias: float, pull: float, fraction: float) -> float:
    """Half the width of an answer's interval, of the pure phase.

    Args:
        level: 0 to 1.
        replicates, sd: simulated recordings, and how far they scatter.
        bias: by how much their mean differs from what they were simulated from.
        pull: what half or twice the strength of the regulariser changes.
        fraction: the answer.
    """
    from scipy.special import ndtri, stdtrit

    tail = 0.5 + level / 2
    noise = stdtrit(replicates - 1, tail) * sd * (1 + 1 / replicates) ** 0.5
    return float(np.hypot(noise, ndtri(tail) * _rest(bias, pull, fraction)))


def _rest(bias: float, pull: float, fraction: float) -> float:
    """The standard error that is no noise."""
    return float(np.sqrt(UNSEEN**2 + (PRESSED * fraction) ** 2 + bias**2 + pull**2))


def _ratio(a: ElementAnswer, b: ElementAnswer, of_a: float, of_b: float) -> Ratio:
    """By E. C. Fieller's theorem (J. R. Stat. Soc. B 16, 175 (1954)) for two independent normal estimates."""
    z2 = 1.96**2
    value = a.fraction / b.fraction if b.fraction > 0 else np.inf
    lead = b.fraction**2 - z2 * of_b**2
    if lead <= 0:  # the second may be none
        return Ratio(a.element, b.element, float(value), a.low95 / b.high95 if b.high95 else 0.0, np.inf)
    middle = a.fraction * b.fraction
    root = np.sqrt(max(middle**2 - lead * (a.fraction**2 - z2 * of_a**2), 0.0))
    return Ratio(a.element, b.element, float(value), max(0.0, float(middle - root) / lead), float(middle + root) / lead)


__all__ = ["composition"]
