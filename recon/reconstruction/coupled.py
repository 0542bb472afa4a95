"""Elements reconstructed together, maybe with the image that was recorded with them.

Each element is a `Problem` of its own, with its own data term, unit and strength, which its own search finds; what is
coupled are gradients in units of these strengths (`recon.solvers.coupled`). A strength is the noise in the gradient of
the data term times a factor, so a gradient in its unit says by how much an edge stands out from the noise, and so
elements with few counts take their edges from those with many, not the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon import backend
from recon.alignment.on_image import image_series
from recon.errors import JobError
from recon.files import from_json, to_json
from recon.reconstruction.coupling_choice import choose_coupling
from recon.reconstruction.problem import COARSE_ITERATIONS, SMALLEST_FRAME, Problem
from recon.reconstruction.run import Run, chosen
from recon.reconstruction.strength import A0_PER_A1
from recon.series.combine import combine
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, strength_in, unit_of, volume_in
from recon.series.volume import Coupling, StrengthChoice, Volume
from recon.solvers import Record, Solution, Status
from recon.solvers.coupled import COUPLINGS, Channel, CoupledPrimalDual
from recon.solvers.sirt import sirt

IMAGE = "image"  # the channel that is no element


@dataclass(frozen=True)
class Part:
    """One channel of what is reconstructed together.

    Attributes:
        name: the element's, or `IMAGE`.
        problem: in a unit of its own.
        unit: that unit, see `recon.series.units`.
        settings: as asked for, the strength in that unit.
    """

    name: str
    problem: Problem
    unit: float
    settings: Settings

    @classmethod
    def of(cls, series: TiltSeries, name: str, settings: Settings, strength: float | None, device: str) -> Part:
        """An element of a series, or its image."""
        if name == IMAGE:
            series, settings = image_channel(series), replace(settings, data_term="least-squares")
        element = series.elements[0] if name == IMAGE else name
        unit = unit_of(series, element)
        settings = replace(settings, strength=None if strength is None else strength_in(strength, unit))
        return cls(name, Problem.of(series_in(series, unit), element, settings, device), unit, settings)


def image_channel(series: TiltSeries) -> TiltSeries:
    """The image as a series of one element, at all tilts that it has, where the alignment found it to lie."""
    if series.image_tilts_deg is None:
        return combine(series)
    own = image_series(series)
    shifts = np.zeros((own.n_tilts, 2)) if series.image_shifts is None else series.image_shifts
    there = np.asarray(np.isfinite(shifts).all(axis=1))
    if not there.all():
        own = own.evolve(weights=own.seen * there[:, None, None].astype(np.float32))
    shifts = np.where(there[:, None], shifts, 0.0)
    return combine(own.evolve(alignment=replace(series.alignment, shifts=shifts, errors=None, residual=None)))


def reconstruct_coupled(
    series: TiltSeries,
    settings: Settings,
    strengths: Mapping[str, float | None],
    elements: Sequence[str],
    run: Run,
    report: Callable[[Record], None] | None,
) -> dict[str, Volume]:
    """`recon.reconstruct` of several elements together.

    Raises:
        JobError: there is nothing to couple, or it is asked for with what does not go with it.
    """
    check(series, settings, elements, run)
    kept = {name: run.keeper.volume(name) for name in elements}
    if all(volume is not None for volume in kept.values()):
        return {name: volume for name, volume in kept.items() if volume is not None}
    names = (*elements, *([IMAGE] if settings.couple_image else []))
    parts = [Part.of(series, name, settings, strengths.get(name), run.device) for name in names]
    _check_grids(parts)
    with run.keeper.patience():
        choices = [None if p.settings.strength is not None else chosen(p.problem, run) for p in parts]
        a1 = [_strength(p, choice) for p, choice in zip(parts, choices, strict=True)]
        coupling = _coupling(parts, a1, settings, run)
        volumes: dict[str, Volume] = {}
        for group in _groups(parts, coupling):
            mine, strengths_of = [parts[k] for k in group], [a1[k] for k in group]
            solver = _solver(mine, strengths_of, coupling.norm, settings, run)
            control = run.keeper.control(_together(mine))
            solution = solver.run(settings.tolerance, settings.iterations, callback=report, control=control)
            for k, part in enumerate(mine):
                if part.name != IMAGE:
                    volumes[part.name] = _volume(part, k, solver, solution, choices[group[k]], coupling)
            if solution.status is Status.INTERRUPTED:
                return volumes
    for volume in volumes.values():
        run.keeper.keep_volume(volume)
    return volumes


def _coupling(parts: Sequence[Part], a1: Sequence[float], settings: Settings, run: Run) -> Coupling:
    """What was asked for, or found from the data, now or before the run was stopped."""
    names = tuple(part.name for part in parts)
    if settings.coupling != "auto":
        return Coupling(settings.coupling, names, {})
    kept = run.keeper.fetch("coupling", _together(parts))
    if kept is not None:
        return from_json(Coupling, kept[0], "the checkpoint's coupling", "start anew with --overwrite")
    counted = [name != IMAGE for name in names]
    found = choose_coupling([p.problem for p in parts], a1, counted, lambda: run.keeper.stop_wanted, run.log)
    if found is None:
        run.keeper.stop_asked("coupling-search", _together(parts), {}, {})  # leaves, if that was the wish
        return Coupling("none", names, {})
    coupling = Coupling(found[0], names, found[1])
    values = to_json(coupling)
    assert isinstance(values, dict)
    run.keeper.stash("coupling", _together(parts), values, {}, always=True)
    return coupling


def _groups(parts: Sequence[Part], coupling: Coupling) -> list[list[int]]:
    """What is solved for at a time: all, or each element."""
    if coupling.norm != "none":
        return [list(range(len(parts)))]
    return [[k] for k, part in enumerate(parts) if part.name != IMAGE]


def _volume(
    part: Part, k: int, solver: CoupledPrimalDual, solution: Solution, choice: StrengthChoice | None, coupling: Coupling
) -> Volume:
    """Channel k, cut to the part of the grid that is the result, in the unit of its maps."""
    assert solution.value is not None
    where, full = part.problem.where, backend.to_host(solution.value[k])
    made = replace(
        solution,
        value=np.ascontiguousarray(full) if any(where.margin) else None,
        parameters=solver.parameters_of(k),
        settings=part.settings,
        choice=choice,
        coupling=coupling,
    )
    volume = Volume(where.cut(full), part.problem.series.pixel_size_nm, part.name, made)
    return volume_in(volume, 1 / part.unit)


def check(series: TiltSeries, settings: Settings, elements: Sequence[str], run: Run) -> None:
    """JobError unless there is something to couple, by one process."""
    said = f"coupling = {settings.coupling!r}"
    if settings.couple_image and series.image is None:
        raise JobError("couple_image is given, but no image was recorded with the maps; name one, or leave it out")
    if len(elements) + settings.couple_image < 2:
        raise JobError(
            f"{said} needs two channels or more, and there is only {elements[0]}; name more elements, or leave it out"
        )
    if run.ranks.size > 1:
        raise JobError(f"{said} is for one process, not for {run.ranks.size} ranks; start this job without mpirun")


def _check_grids(parts: Sequence[Part]) -> None:
    """JobError unless all channels ask for the same volume; before hours of searching for their strengths."""
    first, *others = ((part.name, part.problem.where.shape) for part in parts)
    for name, shape in others:
        if shape != first[1]:
            one, other = (" x ".join(map(str, s)) for s in (first[1], shape))
            raise JobError(
                f"{first[0]} asks for a volume of {one} voxels, {name} for {other}: coupled channels share one grid; "
                f"leave {'couple_image' if name == IMAGE else name} out, or couple none"
            )


def _strength(part: Part, choice: StrengthChoice | None) -> float:
    if choice is not None:
        return choice.strength
    assert part.settings.strength is not None
    return part.settings.strength


def _together(parts: Sequence[Part]) -> str:
    return "+".join(part.name for part in parts)


def _solver(parts: Sequence[Part], a1: Sequence[float], norm: str, settings: Settings, run: Run) -> CoupledPrimalDual:
    """The solver, from where an earlier run was stopped if it was."""
    problems, name = [part.problem for part in parts], _together(parts)
    norm = COUPLINGS[0] if norm == "none" else norm  # of one channel they are the same
    if run.keeper.has_state(name):
        solver = CoupledPrimalDual(channels(problems, a1), norm, regulariser=settings.method, ratio=A0_PER_A1)
        run.keeper.restore(name, solver)
        return solver
    return coarse_to_fine(problems, a1, norm, settings.tolerance)


def channels(problems: Sequence[Problem], a1: Sequence[float]) -> list[Channel]:
    """Each problem as a channel of its strength."""
    return [Channel(p.operator, p.data, a) for p, a in zip(problems, a1, strict=True)]


def coarse_to_fine(
    problems: Sequence[Problem], a1: Sequence[float], coupling: str, tolerance: float, ratio: float = A0_PER_A1
) -> CoupledPrimalDual:
    """A solver that starts from the solution at half the size, as `Problem.coarse_to_fine` does."""
    regulariser, own = problems[0].settings.method, channels(problems, a1)
    if min(problems[0].series.frame) < 2 * SMALLEST_FRAME:
        start = [v for p in problems if (v := sirt(p.operator, p.data, iterations=10).value) is not None]
        return CoupledPrimalDual(own, coupling, regulariser=regulariser, ratio=ratio, start=start)
    smaller = [p.coarser(2) for p in problems]
    coarse = coarse_to_fine(smaller, [a / 2 for a in a1], coupling, tolerance, ratio / 2)
    coarse.run(tolerance, COARSE_ITERATIONS)
    solver = CoupledPrimalDual(own, coupling, regulariser=regulariser, ratio=ratio)
    solver.continue_from(coarse, 2)
    return solver


__all__ = ["IMAGE", "check", "coarse_to_fine", "reconstruct_coupled"]
