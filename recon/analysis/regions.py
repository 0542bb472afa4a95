"""`recon.composition`: what regions hold, with intervals and verdicts.

The volume that is nearest to the truth as a whole does not answer a question about a place: the regulariser that makes
it so fills small holes and flattens small peaks. So regions are asked about by themselves (`recon.analysis.asking`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recon import backend
from recon.analysis.answers import Composition
from recon.analysis.asking import Asked, Asking, peak
from recon.analysis.box import Box, looked_at
from recon.analysis.coarser import Question
from recon.analysis.features import Feature, features
from recon.analysis.intervals import Errors, answer
from recon.analysis.layout import Layout, lay_out, lay_out_anew
from recon.analysis.mask import mask
from recon.analysis.places import Place, Regions, places
from recon.errors import InputError, JobError
from recon.parallel import side_by_side
from recon.reconstruction.problem import Problem
from recon.series.settings import PRIMAL_DUAL
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, unit_of, volume_in
from recon.series.volume import Volume, by_element
from recon.solvers.memory import needed_for_regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

REPLICATES = 10
MOST_FOUND = 4  # places that are asked about if none are named


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
    q = Question(series, volumes, asked).on_larger_voxels
    if q.factor > 1:
        if log is not None:
            log(f"regions are deep enough to be asked about on voxels {q.factor} times as large")
        inside = mask(q.volumes)
        found = features(q.volumes, inside)
    results, off, again, spent = _asked(
        q.series, q.volumes, q.places, lay_out(q.volumes, inside, q.places, found), inside, regions is None, replicates,
        seed, likelihood, backend.resolve_device(device), log,
    )  # fmt: skip
    results = {n: replace(r, means=r.means / q.factor**3) for n, r in results.items()}
    answers, aligned = {}, series.alignment.errors is not None
    for k, place in enumerate(asked):
        errors = {n: Errors.of(r.fractions[:, k], off[n][:, k], aligned) for n, r in results.items()}
        shown = {n: float(np.average(v.values, weights=place.weight)) for n, v in volumes.items()}
        answers[place.name] = answer(k, place, results, errors, shown, None if again is None else float(again[k]))
    return Composition(answers, labels, replicates, seed, regions is None, spent, q.factor)


def _asked(
    series: TiltSeries, volumes: Mapping[str, Volume], asked: Sequence[Place], laid: Layout,
    inside: NDArray[np.bool_], were_found: bool, replicates: int, seed: int, likelihood: bool, device: str,
    log: Callable[[str], None] | None,
) -> tuple[dict[str, Asked], dict[str, NDArray[np.float64]], NDArray[np.float64] | None, dict[str, int]]:  # fmt: skip
    """Element to its fits, to ``(recording, place)`` errors of simulated recordings, to iterations; shares found again.

    The third is of each place, None where they were given. An element's solver is made twice, since those of all
    elements together might not fit into memory; of small volumes elements are asked about side by side, unless the
    memory was limited.
    """
    fields = [f.full for f in laid.fields]
    looked = looked_at(inside, [*fields, *(w.full for w in laid.weights)])

    def ask(element: str) -> _Fits:
        asking, start = _asking(series, volumes, element, device, looked, fields)
        _check_seen(asking, asked)
        found = asking.ask(laid.weights_of(element), likelihood=likelihood)
        recorded = asking.reconstructed(found.model, start, replicates, seed)
        found = replace(found, means=found.means * unit_of(series, element))
        return _Fits(found, recorded, np.float32(peak(start)), asking.box, asking.iterations)

    def ask_recordings(element: str) -> tuple[NDArray[np.float64], int]:
        fits = of[element]
        asking, start = _asking(series, volumes, element, device, looked, fields, fits.found.model)
        moved = (backend.to_device(u.astype(np.float32) * fits.height, device) - start for u in fits.recorded)
        off = _errors(asking, fits.found.model, laid.cores[element].full, again, moved, seed)
        return off, fits.iterations + asking.iterations

    names = list(volumes)
    need = needed_for_regions(inside.shape, series.n_tilts, series.frame, len(fields), "tgv", "cpu", 1, replicates)
    made = [None if v.solution is None else v.solution.settings for v in volumes.values()]
    limited = any(settings is not None and settings.memory is not None for settings in made)

    def done(pieces: list[Callable[[], T]]) -> list[T]:
        return [piece() for piece in pieces] if limited else side_by_side(pieces, inside.size, need, device)

    of = dict(zip(names, done([partial(ask, n) for n in names]), strict=True))
    again = done([partial(_anew, series, volumes, of, r, asked, were_found) for r in range(replicates)])
    errors = done([partial(ask_recordings, n) for n in names])
    if log is not None:
        for name, (_, spent) in zip(names, errors, strict=True):
            log(f"{name}: {len(asked)} regions asked about in {spent} iterations")
    return (
        {n: fits.found for n, fits in of.items()},
        {n: off for n, (off, _) in zip(names, errors, strict=True)},
        np.mean([a.found for a in again], axis=0) if were_found else None,
        {n: spent for n, (_, spent) in zip(names, errors, strict=True)},
    )


@dataclass(frozen=True, eq=False)
class _Fits:
    """What one element's own data gave.

    Attributes:
        found: the answers, in the unit of the series.
        recorded: volumes ``(z, x, y)`` of simulated recordings, in `height`.
        height: the largest value of the data's volume.
        box: in which all this is.
        iterations: spent.
    """

    found: Asked
    recorded: list[NDArray[np.float16]]
    height: np.float32
    box: Box
    iterations: int


def _anew(
    series: TiltSeries, volumes: Mapping[str, Volume], of: Mapping[str, _Fits], r: int, asked: Sequence[Place],
    were_found: bool,
) -> Layout:  # fmt: skip
    """What to ask in simulated recording r, from the volumes that were reconstructed of it."""
    new = {}
    for name, volume in volumes.items():
        fits = of[name]
        values = fits.recorded[r].astype(np.float32) * (fits.height * np.float32(unit_of(series, name)))
        new[name] = replace(volume, values=fits.box.into(volume.values, values))
    return lay_out_anew(new, asked, were_found)


def _first(found: Mapping[str, Feature]) -> list[Place]:
    """The largest few of the places that were found."""
    few = list(found.values())[:MOST_FOUND]
    return places(few, few[0].fraction.shape) if few else []


def _asking(
    series: TiltSeries, volumes: Mapping[str, Volume], element: str, device: str, looked: NDArray[np.bool_],
    fields: Sequence[NDArray[np.float32]], start: NDArray[np.float32] | None = None,
) -> tuple[Asking, backend.Array]:  # fmt: skip
    """The element's problem in a box, from its solved volume or from another start there; and the solved volume."""
    unit = unit_of(series, element)
    series, volume = series_in(series, unit), volume_in(volumes[element], unit)
    made = volume.solution
    if made is None or made.settings is None or made.parameters is None:
        raise InputError(
            f"the volume of {volume.element} was not made by reconstruct with one of {', '.join(PRIMAL_DUAL)}; only "
            "these can be asked about regions"
        )
    whole, full = Problem.of(series, volume.element, made.settings, device), volume.solved
    nz, ny, nx = whole.where.shape
    if full.shape != (nz, nx, ny):
        raise InputError(
            f"the volume of {volume.element} has shape {volume.values.shape}, the series gives {whole.where.shape}; "
            "pass the series that it was reconstructed from"
        )
    box, solved = Box.around(looked, whole.where.margin), backend.to_device(full, device)
    inside = box.part(solved)
    first = inside if start is None else backend.to_device(start, device)
    problem = box.problem(whole, solved)
    return Asking(problem, box, made.settings.method, made.parameters.a1, first, fields), inside


def _check_seen(asking: Asking, asked: Sequence[Place]) -> None:
    """Every region is met by rays of some tilt."""
    problem = asking.problem
    xp = backend.namespace(problem.data.counts)
    sensitivity = problem.operator.adjoint(problem.data.scale, xp.empty(problem.operator.domain_shape, np.float32))
    seen = backend.to_host(sensitivity)
    for place in asked:
        if not (seen * asking.box.of(place.fraction)).any():
            raise InputError(f"region {place.name!r} is not seen at any tilt; no ray meets it")


def _errors(
    asking: Asking, model: NDArray[np.float32], pure: NDArray[np.float32], recordings: Sequence[Layout],
    moved: Iterable[backend.Array], seed: int,
) -> NDArray[np.float64]:  # fmt: skip
    """``(recording, place)``: by how much the answer of each simulated recording is off, of the pure phase.

    Args:
        asking: an element, its solver at the model.
        model: ``(z, x, y)`` of the box, of which they were simulated.
        pure: ``(z, y, x)``, the weights of its pure phase.
        recordings: what is asked in each.
        moved: ``(z, x, y)``, how far the reconstruction of each lies from the data's.
        seed: of the random numbers.
    """
    element = asking.problem.element
    fitted, box = asking.settle_again(), asking.box
    full = max(float(np.average(model, weights=box.of(pure))), 1e-30)
    out = []
    for r, (laid, far) in enumerate(zip(recordings, moved, strict=True)):
        weights = laid.weights_of(element)
        *found, own = asking.answers(
            backend.to_device(model, asking.problem.device),
            fitted,
            far,
            r,
            seed,
            [f.full for f in laid.fields],
            weights,
        )
        expected = [float(np.average(model, weights=box.of(w))) / full for w in weights[:-1]]
        out.append(np.array(found) / max(float(own), 1e-30) - expected)
    return np.array(out)


__all__ = ["composition"]
