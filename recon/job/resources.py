"""Memory, disk and time that a run will take, known before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recon import backend
from recon.alignment.start import check_alignable
from recon.errors import ResourceError
from recon.io import check_disk
from recon.job.duration import Duration, asked_about, duration, searched, usable_cores
from recon.job.file import Job
from recon.job.overrides import given_alignment, known_exposures, read_regions
from recon.model.grid import grid
from recon.operators.composed import scratch_words
from recon.preparation.isolation import locate
from recon.preparation.normalise import normalise
from recon.preparation.screening import screen
from recon.reconstruction.reconstruct import resolve_strengths
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.solvers.memory import Memory, available, needed, needed_for_regions


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


def plan(
    job: Job, series: TiltSeries, device: str = "auto", *, here: bool = True, reading: float | None = None
) -> Plan:
    """Memory, disk and time of a run, before it starts.

    With `here` false it will run on another machine, ``"cpu"`` or ``"cuda"``, which need not be in this one. `reading`
    are the seconds that it took to read the series, if known: those of spectra are many, and depend on the detector.
    """
    device = backend.resolve_device(device) if here else device
    if job.align.method == "auto" and job.align.file is None:
        check_alignable(series.frame)
    # where the object is not isolated, the volume is wider than the frame
    shape = grid(locate(series), job.reconstruct.thickness).shape
    free = None if here else 0
    words = 0 if series.scheme is None else scratch_words(series.aligned_geometry(shape))
    found = forecast(shape, series.n_tilts, series.frame, len(series.elements), job, device, free, words)
    if reading is None or found.duration is None:
        return found
    took = replace(found.duration, reading=reading)
    return replace(found, duration=took, seconds=took.total)


def forecast(
    shape: tuple[int, int, int],
    n_tilts: int,
    frame: tuple[int, int],
    n_elements: int,
    job: Job,
    device: str,
    free: int | None = None,
    projector_words: int = 0,
) -> Plan:
    """The plan for a volume of a shape ``(z, y, x)`` with `free` bytes of memory, by default this machine's.

    `projector_words` are what the projector holds beside the arrays of a single axis.
    """
    voxels = math.prod(shape)
    options = job.reconstruct
    sizes = (shape, n_tilts, frame, n_elements, options.method, device, options.half_precision)
    memory = needed(*sizes, searched(options, n_elements) > 0)
    held = 4 * projector_words
    memory = Memory(memory.host + held * (device == "cpu"), memory.device + held * (device == "cuda"))
    # an uncertainty adds a volume of results, and two sums while it is found
    sure = bool(job.reconstruct.uncertainty)
    results = (1 + n_elements * (1 + sure)) * math.prod(frame) * shape[0] * 4
    more = voxels * 8 * sure + 2 * sure * n_elements * math.prod(frame) * shape[0] * 4
    places = asked_about(job, n_elements)
    fields = places + (places and n_elements)
    asking = needed_for_regions(shape, n_tilts, frame, fields, options.method, device) if places else 0
    took = duration(shape, n_tilts, frame, n_elements, job, device, cores=None if free is None else 2)
    return Plan(
        shape,
        memory.device if device == "cuda" else memory.host + more,
        available(device) if free is None else free,
        results * len(job.output.formats),
        took.total,
        device,
        memory.host + more,
        took,
        asking,
    )


def check_resources(needs: Plan, out: Path) -> None:
    """Raise ResourceError, saying how much is needed, if memory or disk will not do."""
    if needs.memory_bytes > needs.available_bytes:
        what = "device memory" if needs.device == "cuda" else "memory"
        raise ResourceError(
            f"a volume of {' x '.join(map(str, needs.volume))} voxels needs {gib(needs.memory_bytes)} of {what}, "
            f"{gib(needs.available_bytes)} are free; bin the maps, set reconstruct.thickness, "
            "set reconstruct.half_precision, or use a larger machine"
        )
    check_disk(out, needs.disk_bytes)


def check_options(job: Job, series: TiltSeries) -> None:
    """Raise what a run would raise of its options only after it has aligned.

    Raises:
        ReconError: one line, as the run would.
    """
    known_exposures(job, series)
    combine(series, job.align.elements)
    if job.align.file is not None:
        given_alignment(job, series)
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
    series = normalise(series, job.normalise.method, job.input.background, exposures)
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
            f"{series.counts[e, i].sum():16.0f}{series.counts[e, i].max():11.0f}" for e in range(len(series.elements))
        )
        names = dict.fromkeys(o[i] for o in series.origins)
        lines.append(
            f"  {series.tilts_deg[i]:10.2f}  {cells}   {'; '.join(names)}" + ("" if series.used[i] else "   left out")
        )
    lines += [f"left out: {series.tilts_deg[i]:g} degrees, {why}" for i, why in series.left_out]
    lines += [f"warning: {remark}" for remark in series.remarks]
    if series.exposures_from != "assumed":
        lines.append(series.history[-1])  # what normalising found
    options = job.reconstruct
    how = job.normalise.method if known_exposures(job, series)[0] is None else "by known exposures"
    alignment = f"{job.align.method} on {' + '.join(job.align.elements or (Path(str(job.align.reference)).name,))}"
    if job.align.file is not None:
        alignment = given_alignment(job, series).alignment.method
    lines += [
        f"plan: normalise {how}, align {alignment}, "
        f"{options.method} with {options.data_term}, strength {options.strength}, tolerance {options.tolerance:g}",
        f"object: {'isolated' if series.isolated else 'not isolated; the volume is wider than the frame'}",
        f"geometry: {series.geometry if series.scheme is not None else 'tilts about one axis, y of the series'}",
        f"volume: {' x '.join(map(str, needs.volume))} voxels (z, y, x) on {needs.device}",
        f"memory: {gib(needs.memory_bytes)} needed, {gib(needs.available_bytes)} free"
        + (f" on the GPU; {gib(needs.host_bytes)} on the host" if needs.device == "cuda" else "")
        + (f"; {gib(needs.regions_bytes)} to ask about regions" if needs.regions_bytes else "")
        + (", which is left out" if needs.regions_bytes > needs.available_bytes else ""),
        f"disk: {gib(needs.disk_bytes)} in {out}",
        f"time: {needs.duration or _minutes(needs.seconds)}; on {_where(needs.device)}, compilation aside",
    ]
    return lines


def _minutes(seconds: float) -> str:
    return f"about {max(seconds / 60, 0.1):.1f} min"


def _where(device: str) -> str:
    cores = usable_cores()
    return "a GPU like an H100" if device == "cuda" else f"{cores} CPU core{'s' if cores > 1 else ''}"


def gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**28 else f"{n / 2**20:.0f} MiB"
