"""From a tilt series to one volume per element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from recon import backend
from recon.errors import MARK as WARNING
from recon.errors import InputError, JobError, teller
from recon.model.grid import grid
from recon.model.noise import automatic_strength
from recon.operators.own import LinearOperator
from recon.parallel import ALONE, Ranks, side_by_side
from recon.reconstruction.coupled import reconstruct_coupled
from recon.reconstruction.keeper import Ended, Keeper, Shared
from recon.reconstruction.own import UNUSABLE, MakeDataTerm, OwnParts, reconstruct_own
from recon.reconstruction.problem import Problem
from recon.reconstruction.run import Run, chosen
from recon.reconstruction.strength import A0_PER_A1
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, strength_in, unit_of, volume_in
from recon.series.volume import Volume
from recon.solvers import Record, Solution, Status
from recon.solvers.fbp import fbp
from recon.solvers.memory import needed
from recon.solvers.own import Regulariser
from recon.solvers.progress import watching
from recon.solvers.sirt import sirt

Strength = str | float | Mapping[str, float]
Progress = Callable[[str, Record], None]  # or True for a live line
Log = Callable[[str], None]

FAR = 1e5  # times more or less than the noise asks for, a strength leaves nothing of the object, or has no effect


def reconstruct(
    series: TiltSeries,
    method: str | Regulariser = "tgv",
    *,
    elements: Sequence[str] | str | None = None,
    data_term: str | MakeDataTerm = "poisson",
    strength: Strength = "auto",
    tolerance: float = 1e-2,
    max_iterations: int | None = None,
    projector: str | LinearOperator = "auto",
    thickness: int | str = "auto",
    half_precision: bool = False,
    memory: int | None = None,
    coupling: str | None = None,
    couple_image: bool = False,
    device: str = "auto",
    progress: Progress | bool | None = None,
    log: Log | None = None,
    checkpoints: Keeper | None = None,
) -> dict[str, Volume]:
    """Reconstruct each element, on its own unless `coupling` says otherwise.

    Args:
        series: aligned and normalised as far as it needs to be.
        method: ``"tgv"``, ``"tv"`` or ``"none"`` (no regulariser) by PDHG; ``"sirt"``, ``"fbp"``; or a
            `recon.Regulariser` of your own, which holds its strength.
        elements: which of the series; all by default. Each is the same whichever others there are.
        data_term: ``"poisson"`` for counts, ``"least-squares"`` else; for the PDHG methods. Or what makes a
            `recon.OwnDataTerm` of counts, scale and offset, its class for instance.
        strength: a1 of the regulariser, or ``"auto"`` (see `recon.reconstruction.strength`), or a table by element.
        tolerance: certified relative gap at which a PDHG method stops.
        max_iterations: safety net of the PDHG methods (5000), number of iterations of SIRT (30).
        projector: ``"auto"``, ``"native"`` or ``"astra"``, or a `recon.LinearOperator`.
        thickness: extent along the beam in voxels; the frame's width by default.
        half_precision: keep the duals of the regulariser in 16 bits: a fifth less memory, see `PrimalDual`.
        memory: bytes that it may take where it computes, by default all that are free; with less than it needs, a PDHG
            method works on slabs, which wait in a file (``RECON_SCRATCH``, else TMPDIR) or on the host of a GPU.
        coupling: ``"frobenius"`` or ``"nuclear"``: all elements together, their edges sought in the same places (TGV
            and TV), see `recon.solvers.coupled`; ``"auto"``: where held-out counts gain by it. Volumes then depend on
            each other: what it does, and where it biases, is in the documentation.
        couple_image: the series' image, such as HAADF, is one more channel that is coupled; no volume of it is
            returned.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: True for a live line on a terminal or in a notebook; or what is called with the element's name and a
            `Record` at every check, where volumes are small by a thread for each element; an error that it raises ends
            the call.
        log: called with a line for each strength that a search has tried, by the same threads as `progress`; by default
            the logger ``recon`` gets it, and what did not converge is a `recon.ReconWarning`.
        checkpoints: where finished elements and the state of the PDHG methods are kept and found.

    Returns:
        Element to `Volume`, values ``(z, y, x)`` in counts per voxel length per unit exposure. A PDHG run
        that did not converge, or was stopped with Ctrl-C, says so in ``volume.solution.status``; after
        Ctrl-C the elements that had not begun are missing.

    Raises:
        JobError: an option out of range, or a part of your own that is not what it must be (tried before the run).
        InputError: an element that does not exist, or Poisson statistics asked of scaled maps.

    What is your own is solved from SIRT on, with ``strength = "auto"`` as the noise asks for, without checkpoints.
    """
    series = TiltSeries.of(series, "reconstruct")
    own = OwnParts(method, data_term, projector)
    if own.any:
        if half_precision or memory is not None or checkpoints is not None or coupling not in (None, "none"):
            raise JobError(f"half_precision, memory, coupling and checkpoints do not go {UNUSABLE}; leave them out")
        names = series.named(elements)
        ours = Settings(tolerance=tolerance, max_iterations=max_iterations, thickness=thickness)
        with watching(progress, tolerance) as step:
            made = reconstruct_own(
                series, own, ours, resolve_strengths(series, strength), elements=names,
                device=backend.resolve_device(device), report=lambda n: None if step is None else named(step, n),
            )  # fmt: skip
        _tell_unconverged(made, teller(log))
        return made
    assert isinstance(method, str)
    assert isinstance(data_term, str)
    assert isinstance(projector, str)
    how = (tolerance, max_iterations, projector, thickness, half_precision, memory, coupling or "none", couple_image)
    settings = Settings(method, data_term, None, *how)
    return reconstruct_with(
        series,
        settings,
        strength,
        elements=elements,
        device=device,
        progress=progress,
        log=log,
        checkpoints=checkpoints,
    )


def reconstruct_with(
    series: TiltSeries,
    settings: Settings,
    strength: Strength = "auto",
    *,
    elements: Sequence[str] | str | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
    log: Log | None = None,
    checkpoints: Keeper | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Volume]:
    """`reconstruct` with its options as one value; `strength` may differ between elements.

    Where several `ranks` share each volume, all call it with the same arguments, `checkpoints` being a `Shared` one;
    rank 0 gets the volumes, the others empty ones.
    """
    settings.check()
    if series.scaled and settings.data_term == "poisson" and settings.certified:
        raise InputError("the maps are scaled, so they are not Poisson counts; use data_term = 'least-squares'")
    if settings.method == "fbp" and series.scheme is not None:
        raise JobError(f"method 'fbp' serves a single axis, not {series.scheme}; use 'tgv', 'tv' or 'sirt'")
    run = Run(backend.resolve_device(device), teller(log), checkpoints or Ended(), ranks)
    end = run.keeper.end if isinstance(run.keeper, Ended) else None  # a job hears of Ctrl-C by itself
    strengths = resolve_strengths(series, strength)
    notes = {"alignment": str(series.alignment), "history": "; then ".join(series.history)}
    if settings.method == "fbp":
        from recon.model.resampling import resample

        series = resample(series, grid(series, settings.thickness).shape[1:])
    if settings.coupling != "none":
        with watching(progress, settings.tolerance) as step:
            names = series.named(elements)
            tell = None if step is None else named(step, " + ".join(names))
            volumes = reconstruct_coupled(series, settings, strengths, names, run, tell)
        return _finished(volumes, notes, run, log)
    memory, shape = settings.memory, grid(series, settings.thickness).shape
    if memory is not None and run.device == "cpu":  # the volumes of the other elements are there as well
        memory = max(1, memory - 4 * math.prod(shape) * (len(series.elements) - 1))
    with watching(progress, settings.tolerance) as step:

        def one(element: str) -> Volume | None:
            if run.keeper.stopping:
                return None
            kept = run.keeper.volume(element)
            if kept is not None:
                return kept
            of_element = replace(settings, strength=strengths[element], memory=memory)
            report = None if step is None else named(step, element)
            volume = _volume(series, element, of_element, run, report)
            if volume.made.status is not Status.INTERRUPTED:
                run.keeper.keep_volume(volume)
            elif end is not None:
                end()
            return volume

        names = series.named(elements)
        pieces = [partial(one, name) for name in names]
        alone = memory is not None or ranks.size > 1 or not settings.certified
        need = needed(shape, series.n_tilts, series.frame, 1, settings.method, search=True).host
        how = (math.prod(shape), need, run.device)
        found = [piece() for piece in pieces] if alone else side_by_side(pieces, *how, end=end)
    volumes = {name: volume for name, volume in zip(names, found, strict=True) if volume is not None}
    return _finished(volumes, notes, run, log)


def _finished(volumes: Mapping[str, Volume], notes: Mapping[str, str], run: Run, log: Log | None) -> dict[str, Volume]:
    if log is None:  # a log is told by whoever keeps it
        _tell_unconverged(volumes, run.log)
    return {element: replace(volume, notes=notes) for element, volume in volumes.items()}


def _tell_unconverged(volumes: Mapping[str, Volume], log: Log) -> None:
    for element, volume in volumes.items():
        if volume.made.status is Status.MAX_ITERATIONS:
            log(f"{WARNING}{element} is {volume.made.status.value}; its gap is {volume.made.gap:.2g}")


def resolve_strengths(series: TiltSeries, strength: Strength) -> dict[str, float | None]:
    """a1 for each element, None where it is to be found."""
    table = strength if isinstance(strength, Mapping) else dict.fromkeys(series.elements, strength)
    for name in table:
        series.index(name)
    out: dict[str, float | None] = {}
    for element in series.elements:
        value = table.get(element, "auto")
        try:
            if isinstance(value, bool):
                raise TypeError
            number = None if isinstance(value, str) and value == "auto" else float(value)
        except (TypeError, ValueError) as exc:
            raise JobError(f"strength of {element} is {value!r}; it must be a positive number, or 'auto'") from exc
        if number is not None and not (np.isfinite(number) and number > 0):
            raise JobError(f"strength of {element} is {number:g}; it must be positive, or 'auto'")
        if number is not None:
            _check_useful(series, element, number)
        out[element] = number
    return out


def _check_useful(series: TiltSeries, element: str, a1: float) -> None:
    """JobError for a strength so far from what the noise asks for that nothing of the object, or of it, is left."""
    unit = unit_of(series, element)
    usual = strength_in(automatic_strength(series_in(series, unit), element), 1 / unit)
    if not usual / FAR < a1 < usual * FAR:
        remedy = "use method = 'none' for no regulariser" if a1 < usual else "lower it"
        raise JobError(
            f"strength of {element} is {a1:g}, and the noise of these maps asks for about {usual:.2g}; {remedy}, or "
            "use 'auto'"
        )


def named(progress: Progress, name: str) -> Callable[[Record], None]:
    """A solver's callback that tells `progress` whose record it is."""
    return lambda record: progress(name, record)


def _volume(
    series: TiltSeries, element: str, settings: Settings, run: Run, report: Callable[[Record], None] | None
) -> Volume:
    """One element, reconstructed and cut to the part of the grid that is the result."""
    unit = unit_of(series, element)
    series = series_in(series, unit)
    if settings.strength is not None:
        settings = replace(settings, strength=strength_in(settings.strength, unit))
    data_term = settings.data_term if settings.certified else "least-squares"
    problem = Problem.of(series, element, settings, run.device, run.ranks, data_term=data_term)
    choice = None
    if settings.method == "fbp":
        solution = _filtered(problem, report)
    elif settings.method == "sirt":
        solution = sirt(problem.operator, problem.data, iterations=settings.iterations, callback=report)
    else:
        with run.keeper.patience():
            strength = settings.strength if settings.method != "none" else 1.0  # of nothing
            if strength is None:
                choice = chosen(problem, run)
                strength = choice.strength
            solution = _certified(problem, strength, run, report)
    assert solution.value is not None
    own, where = backend.to_host(problem.slab.inner(solution.value)), problem.where
    value = own if any(where.margin) else None
    solution = replace(solution, value=value, settings=settings, choice=choice)
    begin = 0 if problem.slab.whole else problem.slab.own()[0]
    volume = volume_in(Volume(where.cut(own, begin), series.pixel_size_nm, element, solution), 1 / unit)
    return volume if problem.slab.whole else _of_all(volume, problem, run)


def _of_all(part: Volume, problem: Problem, run: Run) -> Volume:
    """A volume of which each rank has a part, on rank 0; on the others one without voxels."""
    assert isinstance(run.keeper, Shared)
    folder, slab, margin = run.keeper.folder, problem.slab, problem.where.margin[0]
    n, (first, end), full = slab.n - 2 * margin, slab.own(), part.made.value
    rows = (min(max(first - margin, 0), n), min(max(end - margin, 0), n))
    values = folder.volume(f"{part.element}.values", part.values, rows, n)
    if full is not None:
        full = folder.volume(f"{part.element}.full", full.swapaxes(1, 2), (first, end), slab.n).swapaxes(1, 2)
    return replace(part, values=values, solution=replace(part.made, value=None if run.ranks.rank else full))


def _filtered(problem: Problem, report: Callable[[Record], None] | None) -> Solution:
    """Filtered back projection of the maps per unit exposure, without background."""
    data, xp = problem.data, backend.namespace(problem.data.counts)
    used = data.scale > 0
    aligned = xp.where(used, (data.counts - data.offset) / xp.where(used, data.scale, 1), 0)
    series, element = problem.series, problem.element
    there = None if series.element_weights is None else series.present[series.index(element)]
    return fbp(problem.operator, aligned, series.tilts_deg, there, callback=report)


def _certified(problem: Problem, a1: float, run: Run, report: Callable[[Record], None] | None) -> Solution:
    """The primal-dual solution, from where an earlier run was stopped if it was."""
    settings, element = problem.settings, problem.element
    if run.keeper.has_state(element):
        solver = problem.fresh_solver(a1, A0_PER_A1 * a1)
        run.keeper.restore(element, solver)
    else:
        solver = problem.coarse_to_fine(a1, A0_PER_A1 * a1, settings.tolerance)
    return solver.run(settings.tolerance, settings.iterations, callback=report, control=run.keeper.control(element))
