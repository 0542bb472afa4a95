"""From a tilt series to one volume per element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.errors import InputError, JobError
from recon.model.grid import grid
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1, StrengthChoice, choose
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.solvers import Record, Solution, Status
from recon.solvers.fbp import fbp
from recon.solvers.sirt import sirt

if TYPE_CHECKING:
    from recon.reconstruction.keeper import Keeper

METHODS = ("tgv", "tv", "none", "sirt", "fbp")
DATA_TERMS = ("poisson", "least-squares")
Strength = str | float | Mapping[str, float]
Progress = Callable[[str, Record], None]

SIRT_ITERATIONS = 30
MAX_ITERATIONS = 5000


def reconstruct(
    series: TiltSeries,
    method: str = "tgv",
    *,
    elements: Sequence[str] | None = None,
    data_term: str = "poisson",
    strength: Strength = "auto",
    tolerance: float = 1e-2,
    max_iterations: int | None = None,
    projector: str = "auto",
    thickness: int | str = "auto",
    half_precision: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    checkpoints: Keeper | None = None,
) -> dict[str, Volume]:
    """Reconstruct each element on its own.

    Args:
        series: aligned and normalised as far as it needs to be.
        method: ``"tgv"``, ``"tv"`` or ``"none"`` (no regulariser) by PDHG; ``"sirt"``, ``"fbp"``.
        elements: which of the series; all by default. Each is the same whichever others there are.
        data_term: ``"poisson"`` for counts, ``"least-squares"`` else; for the PDHG methods.
        strength: a1 of the regulariser, or ``"auto"`` (see `recon.reconstruction.strength`), or a table by element.
        tolerance: certified relative gap at which a PDHG method stops.
        max_iterations: safety net of the PDHG methods (5000), number of iterations of SIRT (30).
        projector: ``"auto"``, ``"native"`` or ``"astra"``.
        thickness: extent along the beam in voxels; the frame's width by default.
        half_precision: keep the duals of the regulariser in 16 bits: a fifth less memory, see `PrimalDual`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: called with the element's name and a `Record` at every check.
        log: called with a line for each strength that a search has tried.
        checkpoints: where finished elements and the state of the PDHG methods are kept and found.

    Returns:
        Element to `Volume`, values ``(z, y, x)`` in counts per voxel length per unit exposure. A PDHG run
        that did not converge, or was stopped with Ctrl-C, says so in ``volume.solution.status``; after
        Ctrl-C the elements that had not begun are missing.

    Raises:
        JobError: an option out of range.
        InputError: an element that does not exist, or Poisson statistics asked of scaled maps.
    """
    if method not in METHODS:
        raise JobError(f"reconstruct method {method!r} is unknown; use one of {', '.join(METHODS)}")
    if data_term not in DATA_TERMS:
        raise JobError(f"data_term {data_term!r} is unknown; use one of {', '.join(DATA_TERMS)}")
    if not 0 < tolerance < 1:
        raise JobError(f"tolerance is {tolerance:g}; a relative gap lies between 0 and 1, such as 1e-2")
    if max_iterations is not None and max_iterations < 1:
        raise JobError(f"max_iterations is {max_iterations}; it must be at least 1")
    if series.scaled and data_term == "poisson" and method in ("tgv", "tv", "none"):
        raise InputError("the maps are scaled, so they are not Poisson counts; use data_term = 'least-squares'")
    device = backend.resolve_device(device)
    strengths = resolve_strengths(series, strength)
    if method == "fbp":
        from recon.model.resampling import resample

        series = resample(series, grid(series, thickness).shape[1:])
    volumes = {}
    for element in series.elements if elements is None else elements:
        series.index(element)
        if checkpoints is not None:
            if checkpoints.stopping:
                break
            kept = checkpoints.volume(element)
            if kept is not None:
                volumes[element] = kept
                continue
        report = None if progress is None else _named(progress, element)
        problem = Problem.of(
            series,
            element,
            data_term="least-squares" if method in ("fbp", "sirt") else data_term,
            thickness=thickness,
            projector=projector,
            device=device,
            half_precision=half_precision,
        )
        solution = _solve(problem, method, strengths[element], tolerance, max_iterations, report, log, checkpoints)
        my, mx = problem.where.margin
        full = backend.to_host(solution.value)
        values = full.swapaxes(1, 2)[:, my : full.shape[2] - my, mx : full.shape[1] - mx]
        values = np.ascontiguousarray(values, dtype=np.float32)
        # what `recon.uncertainty` has to know; the solved volume only where part of it was cut off
        made = {"regulariser": method, "data_term": data_term, "projector": projector, "thickness": thickness}
        made["half_precision"] = half_precision
        solution = replace(solution, value=full if my or mx else None, parameters={**solution.parameters, **made})
        volumes[element] = Volume(values, series.pixel_size_nm, element, solution)
        if solution.status is Status.INTERRUPTED:
            break
        if checkpoints is not None:
            checkpoints.keep_volume(volumes[element])
    return volumes


def resolve_strengths(series: TiltSeries, strength: Strength) -> dict[str, float | None]:
    """a1 for each element, None where it is to be found."""
    table = strength if isinstance(strength, Mapping) else dict.fromkeys(series.elements, strength)
    for name in table:
        series.index(name)
    out: dict[str, float | None] = {}
    for element in series.elements:
        value = table.get(element, "auto")
        try:
            number = None if value == "auto" else float(value)
        except (TypeError, ValueError) as exc:
            raise JobError(f"strength of {element} is {value!r}; it must be a positive number, or 'auto'") from exc
        if number is not None and not (np.isfinite(number) and number > 0):
            raise JobError(f"strength of {element} is {number:g}; it must be positive, or 'auto'")
        out[element] = number
    return out


def _named(progress: Progress, element: str) -> Callable[[Record], None]:
    return lambda record: progress(element, record)


def _solve(
    problem: Problem,
    method: str,
    strength: float | None,
    tolerance: float,
    max_iterations: int | None,
    report: Callable[[Record], None] | None,
    log: Callable[[str], None] | None,
    checkpoints: Keeper | None,
) -> Solution:
    operator, data = problem.operator, problem.data
    if method == "fbp":
        xp = backend.namespace(data.counts)
        used = data.scale > 0
        aligned = xp.where(used, (data.counts - data.offset) / xp.where(used, data.scale, 1), 0)
        return fbp(operator, aligned, problem.series.tilts_deg, callback=report)
    if method == "sirt":
        return sirt(operator, data, iterations=max_iterations or SIRT_ITERATIONS, callback=report)
    most = max_iterations or MAX_ITERATIONS
    if method == "none":
        strength = 1.0  # of nothing
    if checkpoints is None:
        choice = choose(problem, method, log=log) if strength is None else None
        a1 = choice.strength if choice is not None else strength
        assert a1 is not None
        solution = problem.coarse_to_fine(method, a1, A0_PER_A1 * a1, tolerance).run(tolerance, most, callback=report)
        return _with_choice(solution, choice)
    element = problem.element
    with checkpoints.patience():
        choice = _chosen(problem, method, log, checkpoints) if strength is None else None
        a1 = choice.strength if choice is not None else strength
        assert a1 is not None
        if checkpoints.has_state(element):
            solver = problem.solver_from(None, method, a1, A0_PER_A1 * a1)
            checkpoints.restore(element, solver)
        else:
            solver = problem.coarse_to_fine(method, a1, A0_PER_A1 * a1, tolerance)
        solution = solver.run(tolerance, most, callback=report, control=checkpoints.control(element))
    return _with_choice(solution, choice)


def _chosen(problem: Problem, method: str, log: Callable[[str], None] | None, checkpoints: Keeper) -> StrengthChoice:
    """The strength chosen before the run was stopped, or one chosen now; the rule's if the user wants an end."""
    kept = checkpoints.fetch("strength", problem.element)
    if kept is not None:
        return StrengthChoice.of(kept[0])
    choice = choose(problem, method, stop=lambda: checkpoints.stop_wanted, log=log)
    if choice is None:
        checkpoints.stop_asked("search", problem.element, {}, {})  # leaves, if that was the wish
        return StrengthChoice.by_rule(problem)
    checkpoints.stash("strength", problem.element, asdict(choice), {}, always=True)
    return choice


def _with_choice(solution: Solution, choice: StrengthChoice | None) -> Solution:
    if choice is None:
        return solution
    return replace(solution, parameters={**solution.parameters, "strength_choice": asdict(choice)})
