"""Memory, disk and time that a run will take, known before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recon import backend
from recon.alignment.start import check_alignable
from recon.analysis.regions import REPLICATES
from recon.errors import JobError, ResourceError
from recon.io import check_disk
from recon.job.duration import Duration, asked_about, duration, searched, usable_cores
from recon.job.file import Job
from recon.job.overrides import align_reference, given_alignment, known_exposures, read_regions
from recon.model.grid import grid
from recon.operators.composed import scratch_words
from recon.parallel import at_once
from recon.preparation.isolation import locate
from recon.preparation.normalise import normalise
from recon.preparation.screening import screen
from recon.reconstruction.reconstruct import resolve_strengths
from recon.series.channels import common_elements
from recon.series.combine import combine
from recon.series.settings import PRIMAL_DUAL
from recon.series.tilt_series import TiltSeries
from recon.solvers.memory import Memory, Streaming, available, needed, needed_for_regions, streaming
from recon.solvers.scratch import scratch_folder

COUPLED = 1.5  # time of an iteration of coupled elements over that of each alone; benchmarks/coupled.py
AUTOMATIC = 0.8  # of the free memory that is taken where a volume does not fit and no budget is given


@dataclass(frozen=True)
class Plan:
    """What a run will need, known before it starts.

    Attributes:
        volume: ``(nz, ny, nx)`` that is solved for.
        memory_bytes: peak of a reconstruction on the device that it runs on, see `recon.solvers.memory`.
        available_bytes: memory there is.
        disk_bytes: results.
        seconds: forecast of the whole run, see `recon.job.duration`.
        device: ``"cpu"`` or ``"cuda"``.
        host_bytes: peak on the host; on the CPU the same as `memory_bytes`.
        duration: the seconds by stage.
        regions_bytes: peak on the device of asking about places, which a run leaves out where memory is short.
        halves_bytes: the same of the halves of the counts, which tell the resolution. Like the others, of as many
            pieces of work as are done side by side.
        streaming: how the volume is worked on where memory does not hold it; it is in the other numbers.
        budget: bytes that the reconstruction may take then.
    """

    volume: tuple[int, int, int]
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    seconds: float
    device: str
    host_bytes: int = 0
    duration: Duration | None = None
    regions_bytes: int = 0
    halves_bytes: int = 0
    streaming: Streaming | None = None
    budget: int | None = None


def plan(
    job: Job,
    series: TiltSeries,
    device: str = "auto",
    *,
    here: bool = True,
    reading: float | None = None,
    shared: int = 1,
) -> Plan:
    """Memory, disk and time of a run, before it starts.

    With `here` false it will run on another machine, ``"cpu"`` or ``"cuda"``, which need not be in this one. `reading`
    are the seconds that it took to read the series, if known: those of spectra are many, and depend on the detector.
    Where ranks share the volumes, `shared` is how many; the numbers are those of all.
    """
    device = backend.resolve_device(device) if here else device
    if shared > 1:
        series.check_pixels("a run of several ranks", "start this job without mpirun")
    if job.align.method == "auto" and job.align.file is None:
        check_alignable(series.frame)
    _check_projector(job, series, device)
    # where the object is not isolated, the volume is wider than the frame
    series = locate(series)
    shape = grid(series, job.reconstruct.thickness).shape
    free = None if here else 0
    words = None if series.scheme is None else scratch_words(series.aligned_geometry(shape))
    sizes = (shape, series.n_tilts, series.frame, len(series.elements))
    found = forecast(
        *sizes,
        job,
        device,
        free,
        words,
        in_memory=shared > 1 or bool(series.footprints),
        isolated=bool(series.isolated),
    )
    if reading is None or found.duration is None:
        return found
    took = replace(found.duration, reading=reading)
    return replace(found, duration=took, seconds=took.total)


def _check_projector(job: Job, series: TiltSeries, device: str) -> None:
    """Raise if ASTRA is asked for beams that it cannot project, or that an alignment will ask it for."""
    if series.scheme is None or job.reconstruct.projector != "astra" or device != "cpu":
        return
    moved = job.align.method != "none" or job.align.file is not None
    if moved or any(part.axis is None for part in series.scheme.parts()):
        why = "which an alignment of it has" if moved else "which it has"
        raise JobError(
            f"reconstruct.projector = 'astra' does not serve {series.scheme} on a CPU: beams about none of the "
            f"volume's axes, {why}, ASTRA projects on a GPU only; use 'native'"
        )


def forecast(
    shape: tuple[int, int, int],
    n_tilts: int,
    frame: tuple[int, int],
    n_elements: int,
    job: Job,
    device: str,
    free: int | None = None,
    projector_words: int | None = None,
    in_memory: bool = False,
    isolated: bool = True,
) -> Plan:
    """The plan for a volume of a shape ``(z, y, x)`` with `free` bytes of memory, by default this machine's.

    `projector_words` are what the projector holds of a geometry that is none of a single axis; then a volume that does
    not fit is not streamed, nor is one that is to be `in_memory`. What is not `isolated` takes longer to align.

    Raises:
        ResourceError: the memory that the job may take does not even do for slabs.
    """
    voxels = math.prod(shape)
    options = job.reconstruct
    searching = searched(options, n_elements) > 0
    together = 0 if options.coupling == "none" else n_elements + options.couple_image
    how_much = (options.method, device, options.half_precision, searching)
    memory = needed(shape, n_tilts, frame, n_elements, *how_much, channels=together)
    own = needed(shape, n_tilts, frame, 1, *how_much).host
    held = 4 * (projector_words or 0)
    memory = Memory(memory.host + held * (device == "cpu"), memory.device + held * (device == "cuda"))
    # an uncertainty adds two volumes of results, and two sums while it is found
    sure = bool(job.reconstruct.uncertainty)
    results = (1 + n_elements * (1 + 2 * sure)) * math.prod(frame) * shape[0] * 4
    more = voxels * 8 * sure + 3 * sure * n_elements * math.prod(frame) * shape[0] * 4
    places = asked_about(job, n_elements)
    fields = places + (places and n_elements)
    sizes = (shape, n_tilts, frame, fields, options.method, device, n_elements, REPLICATES)
    asking = needed_for_regions(*sizes) if places else 0
    coupled = n_elements if together else 0
    twice = needed(shape, n_tilts, frame, 2 * n_elements, options.method, device, channels=coupled)
    halves = (twice.device if device == "cuda" else twice.host) if options.halves else 0
    took = duration(
        shape, n_tilts, frame, n_elements, job, device, cores=None if free is None else 2, isolated=isolated
    )
    took = took.slower(COUPLED) if together else took
    cores = usable_cores() if free is None else 2
    free = available(device) if free is None else free

    def beside(pieces: int, need: int) -> int:
        """How many of them run besides the first."""
        return at_once(pieces, cores, voxels, need, free, device) - 1 if options.memory is None else 0

    if not together and options.method in PRIMAL_DUAL:
        memory = replace(memory, host=memory.host + beside(n_elements, own) * own)
    if asking:  # what is kept of the recordings is that of all elements already
        one, without = (needed_for_regions(*sizes[:-2], 1, kept) for kept in (REPLICATES, 0))
        asking += beside(n_elements, one) * without
    if halves:
        one = needed(shape, n_tilts, frame, max(coupled, 1), options.method, channels=coupled).host
        halves += beside(2 if coupled else 2 * n_elements, one) * one
    solving = memory.device if device == "cuda" else memory.host + more
    budget = None if in_memory or projector_words is not None else _budget(job, solving, free)
    slabs = None
    if budget is not None:
        # results of the others are there meanwhile
        others = 0 if device == "cuda" else 4 * voxels * (n_elements - 1)
        how = (options.method, device, lambda k: k + 1, options.half_precision)
        slabs = streaming(max(budget - others - more * (device == "cpu"), 1), shape, n_tilts, frame, *how)
        solving = slabs.memory + others + more * (device == "cpu")
        halves = min(halves, solving + 2 * n_elements * 4 * voxels)  # in slabs, too
        took = took.slower(slabs.cost)
        memory = Memory(memory.host + slabs.store if device == "cuda" else solving - more, solving)
    disk = results * len(job.output.formats)
    host = memory.host + more
    return Plan(shape, solving, free, disk, took.total, device, host, took, asking, halves, slabs, budget)


def _budget(job: Job, needed_bytes: int, free: int) -> int | None:
    """Bytes that a reconstruction in slabs may take; None where it is done in memory."""
    options = job.reconstruct
    if options.method not in PRIMAL_DUAL or options.uncertainty or options.coupling != "none":
        return None
    if options.memory is not None:
        return options.memory if needed_bytes > options.memory else None
    return int(AUTOMATIC * free) if needed_bytes > free > 0 else None


def check_resources(needs: Plan, out: Path, job_memory: int | None = None) -> None:
    """Raise ResourceError, saying how much is needed, if memory or disk will not do.

    `job_memory` is what the job allows.
    """
    if needs.memory_bytes > needs.available_bytes:
        what = "device memory" if needs.device == "cuda" else "memory"
        raise ResourceError(
            f"a volume of {' x '.join(map(str, needs.volume))} voxels needs {gib(needs.memory_bytes)} of {what}, "
            f"{gib(needs.available_bytes)} are free; bin the maps, set reconstruct.thickness, "
            "set reconstruct.half_precision, or use a larger machine"
        )
    if needs.budget is None and job_memory is not None and needs.memory_bytes > job_memory:
        raise ResourceError(
            f"a volume of {' x '.join(map(str, needs.volume))} voxels needs {gib(needs.memory_bytes)} of memory, "
            f"reconstruct.memory allows {gib(job_memory)}, and slabs are for tgv, tv and none on series with one tilt "
            "axis and one pixel size, without uncertainty; raise it, or leave it out"
        )
    if needs.streaming is not None and needs.device == "cpu":
        check_disk(scratch_folder() / "recon", needs.streaming.store)
    if needs.streaming is not None and needs.device == "cuda" and needs.host_bytes > available("cpu"):
        raise ResourceError(
            f"the slabs that wait beside the GPU take {gib(needs.host_bytes)} of the host's memory, "
            f"{gib(available('cpu'))} are free; bin the maps, or use a larger machine"
        )
    check_disk(out, needs.disk_bytes)


def left_out(needs: Plan, ranks: int = 1) -> list[str]:
    """What a run will leave out for want of memory, a line each, known before it; `ranks` share the volumes."""
    free = needs.available_bytes
    said = []
    if needs.regions_bytes > min(free, needs.budget or free):
        said.append(f"regions will not be asked about: that needs {gib(needs.regions_bytes)} of memory in one process")
    if needs.halves_bytes // ranks > free:
        said.append(f"the resolution will not be measured: that needs {gib(needs.halves_bytes // ranks)} of memory")
    return [f"warning: {line}, {gib(min(free, needs.budget or free))} may be taken" for line in said]


def check_options(job: Job, series: TiltSeries) -> None:
    """Raise what a run would raise of its options only after it has aligned.

    Raises:
        ReconError: one line, as the run would.
    """
    known_exposures(job, series)
    combine(series, align_reference(job, series))
    if job.align.file is not None:
        given_alignment(job, series)
    if job.align.resample:
        series.check_pixels("align.resample", "leave it out, the alignment goes into the model")
    job.reconstruct.settings.check()
    resolve_strengths(series, job.reconstruct.strength)
    read_regions(job, series)


def admit(job: Job, series: TiltSeries) -> TiltSeries:
    """The series as a run will align it; what a run would refuse later is refused here.

    Raises:
        ReconError: as the run would.
    """
    check_options(job, series)
    exposures, _ = known_exposures(job, series)
    series = normalise(series, job.normalise.method, job.input.background, exposures, log=lambda line: None)
    if job.align.file is None and job.align.method == "auto":
        screen(series)
    return series


def describe(job: Job, series: TiltSeries, needs: Plan, out: Path) -> list[str]:
    """What `recon check` shows: the series as it was read, the plan, memory, disk and time."""
    series = locate(series)
    order = np.argsort(series.tilts_deg)
    lines = [
        f"{job.path.name}: {', '.join(series.elements)}; {series.n_tilts} tilts of {series.frame[0]} x "
        f"{series.frame[1]} pixels, {series.pixel_size_nm:g} nm each",
        "  tilt (deg)  "
        + "".join(f"{n + ' counts':>16}{'brightest':>11}" for n in series.elements)
        + ("   from" if series.origins else ""),
    ]
    for i in order:
        cells = "".join(
            f"{maps[i].sum():16.0f}{maps[i].max():11.0f}"
            if there[i] or not series.used[i]
            else f"{'no map':>16}{'':11}"
            for maps, there in zip(series.counts, series.present, strict=True)
        )
        names = dict.fromkeys(o[i] for o in series.origins if o[i])
        lines.append(
            f"  {series.tilts_deg[i]:10.2f}  {cells}   {'; '.join(names)}" + ("" if series.used[i] else "   left out")
        )
    lines += [f"left out: {series.tilts_deg[i]:g} degrees, {why}" for i, why in series.left_out]
    lines += [f"warning: {remark}" for remark in series.remarks]
    if series.exposures_from != "assumed":
        lines.append(series.history[-1])  # what normalising found
    options = job.reconstruct
    how = job.normalise.method if known_exposures(job, series)[0] is None else "by known exposures"
    image = job.align.image
    on = (Path(image.image).name,) if image else align_reference(job, series) or common_elements(series)
    alignment = f"{job.align.method} on {' + '.join(on)}"
    if image and series.image_tilts_deg is not None:
        alignment += f" at {series.image_tilts_deg.size} tilts of its own"
    if job.align.file is not None:
        alignment = given_alignment(job, series).alignment.method
    lines += [
        f"plan: normalise {how}, align {alignment}, "
        f"{options.method} with {options.data_term}, strength {options.strength}, tolerance {options.tolerance:g}",
        f"object: {'isolated' if series.isolated else 'not isolated; the volume is wider than the frame'}",
        *_channels(series),
        f"geometry: {series.geometry if series.scheme is not None else 'tilts about one axis, y of the series'}",
        f"volume: {' x '.join(map(str, needs.volume))} voxels (z, y, x) on {needs.device}",
        f"memory: {gib(needs.memory_bytes)} needed, {gib(needs.available_bytes)} free"
        + (f" on the GPU; {gib(needs.host_bytes)} on the host" if needs.device == "cuda" else "")
        + (f"; {gib(needs.regions_bytes)} to ask about regions" if needs.regions_bytes else "")
        + (f"; {gib(needs.halves_bytes)} to measure the resolution" if needs.halves_bytes else ""),
        *left_out(needs),
        *_slabs(needs),
        f"disk: {gib(needs.disk_bytes)} in {out}",
        f"time: {needs.duration or _minutes(needs.seconds)}; on {_where(needs.device)}, compilation aside",
    ]
    return lines


def _channels(series: TiltSeries) -> list[str]:
    """What elements have of their own."""
    out = []
    for e, (name, there) in enumerate(zip(series.elements, series.present, strict=True)):
        where = series.footprint(e)
        said = [] if there[series.used].all() else [f"maps at {there.sum()} of {series.used.sum()} tilts"]
        if where is not None:
            ny, nx = where.shape
            said.append(f"{ny} x {nx} pixels of {where.pitch * series.pixel_size_nm:g} nm")
        out += [f"{name}: {', '.join(said)}"] if said else []
    return out


def _slabs(needs: Plan) -> list[str]:
    """How the volume is worked on if memory does not hold it."""
    how = needs.streaming
    if how is None:
        return []
    where = f"on the host, {gib(how.store)}" if needs.device == "cuda" else f"{gib(how.store)} in {scratch_folder()}"
    return [
        f"slabs: {how.windows} along the tilt axis, {how.block} iterations on each at a time; the others wait {where}; "
        f"about {how.cost:.1f} times the time"
    ]


def _minutes(seconds: float) -> str:
    return f"about {max(seconds / 60, 0.1):.1f} min"


def _where(device: str) -> str:
    cores = usable_cores()
    return "a GPU like an H100" if device == "cuda" else f"{cores} CPU core{'s' if cores > 1 else ''}"


def gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**28 else f"{n / 2**20:.0f} MiB"
