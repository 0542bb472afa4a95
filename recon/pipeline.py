"""The whole job: from a job file to a folder of results, in the order of the stages."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from recon import backend
from recon._version import __version__
from recon.align import align, resample
from recon.analyse import analyse, apply_mask, figures, mask
from recon.checkpoint import Checkpoints, Identity
from recon.errors import JobError, OutputError, ResourceError, StoppedError
from recon.interrupts import Interrupts
from recon.io import OutputFolder, check_disk, check_target, read, write_volumes
from recon.io.alignment import alignment_record, load_alignment
from recon.io.spectra import find_spectra
from recon.io.volumes import write_stacks
from recon.job import Job
from recon.maps import LineMaps, Options, line_maps
from recon.memory import needed
from recon.normalise import find_outside, normalise
from recon.problem import grid
from recon.reconstruct import MAX_ITERATIONS, reconstruct
from recon.solvers import Record, Status
from recon.tiltseries import TiltSeries, Volume
from recon.uncertainty import Uncertainty, uncertainty

Log = Callable[[str], None]

# Measured: benchmarks/iteration.py. Nanoseconds per voxel and iteration on two cores.
NANOSECONDS_PER_VOXEL = 18.0
TYPICAL_ITERATIONS = 800


@dataclass
class Watcher:
    """Where progress goes: `log` gets a line per stage, `step` every check of a solver.

    `tolerance` is the gap that the solver is heading for.
    """

    log: Log = field(default=lambda line: None)
    step: Callable[[str, Record], None] = field(default=lambda element, record: None)
    tolerance: float = 1e-2


@dataclass(frozen=True)
class Plan:
    """What a run will need, known before it starts.

    Attributes:
        volume: ``(nz, ny, nx)`` that is solved for.
        memory_bytes: peak of a reconstruction on the device that it runs on, see `recon.memory`.
        available_bytes: memory there is.
        disk_bytes: results.
        seconds: forecast for all elements, from the benchmark's rate.
        device: ``"cpu"`` or ``"cuda"``.
        host_bytes: peak on the host; on the CPU the same as `memory_bytes`.
    """

    volume: tuple[int, int, int]
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    seconds: float
    device: str
    host_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """Everything a run made; what `write_result` writes."""

    series: TiltSeries
    volumes: dict[str, Volume]
    inside: np.ndarray
    analysis: dict[str, Any]
    timings: dict[str, float]
    device: str
    aligned: dict[str, Any]
    uncertainties: dict[str, Uncertainty] = field(default_factory=dict)
    replicates: int = 0  # that were asked for

    @property
    def missing(self) -> tuple[str, ...]:
        """Elements that had not begun when the user stopped."""
        return tuple(e for e in self.series.elements if e not in self.volumes)

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run before everything had been done."""
        return (
            bool(self.missing)
            or any(v.solution.status is Status.INTERRUPTED for v in self.volumes.values())
            or not self.sure
        )

    @property
    def sure(self) -> bool:
        """Whether every element has all the replicates that were asked for."""
        return not self.replicates or all(
            e in self.uncertainties and self.uncertainties[e].replicates == self.replicates for e in self.volumes
        )


def read_job(job: Job, log: Log | None = None) -> TiltSeries:
    """The series that a job file names."""
    if job.input.maps is None:
        if job.maps.detectors == "each":
            raise JobError("maps.detectors = 'each' keeps detectors apart for `recon maps`; use 'sum' to reconstruct")
        maps = read_spectra_job(job, log)
        if log is not None:
            for warning in maps.warnings:
                log(f"warning: {warning}")
        return maps.series(tilt_axis=job.input.tilt_axis, pixel_size_nm=job.input.pixel_size_nm)
    assert job.input.tilts is not None
    return read(
        {name: str(path) for name, path in job.input.maps.items()},
        job.input.tilts,
        job.input.pixel_size_nm,
        tilt_axis=job.input.tilt_axis,
        scaled=job.input.scaled,
        base_dir=job.path.parent,
    )


def read_spectra_job(job: Job, log: Log | None = None) -> LineMaps:
    """Maps of the lines that a job file names, from its spectrum images."""
    source, options = job.input.spectra, job.maps
    assert source is not None
    return line_maps(
        list(source) if isinstance(source, tuple) else source,
        job.input.lines or (),
        tilts=job.input.tilts,
        options=Options(**options.model_dump()),
        base=job.path.parent,
        log=log,
    )


def plan(job: Job, series: TiltSeries, device: str = "auto") -> Plan:
    """Memory, disk and time of a run, before it starts."""
    device = backend.resolve_device(device)
    # where the object is not isolated, the volume is wider than the frame
    series = series.evolve(isolated=find_outside(series)[1])
    shape = grid(series, job.reconstruct.thickness).shape
    return forecast(shape, series.n_tilts, series.frame, len(series.elements), job, device)


def forecast(
    shape: tuple[int, int, int], n_tilts: int, frame: tuple[int, int], n_elements: int, job: Job, device: str
) -> Plan:
    """The plan for a volume of a shape ``(z, y, x)``."""
    voxels = math.prod(shape)
    memory = needed(shape, n_tilts, frame, n_elements, job.reconstruct.method, device)
    # an uncertainty adds a volume of results, and two sums while it is found
    sure = bool(job.reconstruct.uncertainty)
    results = (1 + n_elements * (1 + sure)) * math.prod(frame) * shape[0] * 4
    more = voxels * 8 * sure + 2 * sure * n_elements * math.prod(frame) * shape[0] * 4
    iterations = min(job.reconstruct.max_iterations, TYPICAL_ITERATIONS)
    seconds = voxels * iterations * n_elements * NANOSECONDS_PER_VOXEL * 1e-9
    seconds *= 1 + job.reconstruct.uncertainty
    return Plan(
        shape,
        memory.device if device == "cuda" else memory.host + more,
        available_memory(device),
        results * len(job.output.formats),
        seconds,
        device,
        memory.host + more,
    )


def available_memory(device: str = "cpu") -> int:
    """Bytes free on the host (a cgroup's limit counts), or on the CUDA device."""
    if device == "cuda":
        import cupy

        return int(cupy.cuda.Device().mem_info[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    return max(free, 0)


def check_resources(needs: Plan, out: Path) -> None:
    """Raise ResourceError, saying how much is needed, if memory or disk will not do."""
    if needs.memory_bytes > needs.available_bytes:
        what = "device memory" if needs.device == "cuda" else "memory"
        raise ResourceError(
            f"a volume of {' x '.join(map(str, needs.volume))} voxels needs {gib(needs.memory_bytes)} of {what}, "
            f"{gib(needs.available_bytes)} are free; bin the maps, set reconstruct.thickness, or use a larger machine"
        )
    check_disk(out, needs.disk_bytes)


def describe(job: Job, series: TiltSeries, needs: Plan, out: Path) -> list[str]:
    """What `recon check` shows: the series as it was read, the plan, memory, disk and time."""
    order = np.argsort(series.tilts_deg)
    lines = [
        f"{job.path.name}: {', '.join(series.elements)}; {series.n_tilts} tilts of {series.frame[0]} x "
        f"{series.frame[1]} pixels, {series.pixel_size_nm:g} nm each",
        "  tilt (deg)  " + "".join(f"{n + ' counts':>16}{'brightest':>11}" for n in series.elements),
    ]
    for i in order:
        cells = "".join(
            f"{series.counts[e, i].sum():16.0f}{series.counts[e, i].max():11.0f}" for e in range(len(series.elements))
        )
        lines.append(f"  {series.tilts_deg[i]:10.2f}  {cells}")
    options = job.reconstruct
    lines += [
        f"plan: normalise {job.normalise.method}, align {job.align.method} on {' + '.join(job.align.reference)}, "
        f"{options.method} with {options.data_term}, strength {options.strength}, tolerance {options.tolerance:g}",
        f"object: {'isolated' if find_outside(series)[1] else 'not isolated; the volume is wider than the frame'}",
        f"volume: {' x '.join(map(str, needs.volume))} voxels (z, y, x) on {needs.device}",
        f"memory: {gib(needs.memory_bytes)} needed, {gib(needs.available_bytes)} free"
        + (f" on the GPU; {gib(needs.host_bytes)} on the host" if needs.device == "cuda" else ""),
        f"disk: {gib(needs.disk_bytes)} in {out}",
        f"time: about {max(needs.seconds / 60, 0.1):.1f} min at {NANOSECONDS_PER_VOXEL:g} ns per voxel and iteration "
        "(two CPU cores), compilation and alignment aside",
    ]
    return lines


def gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**28 else f"{n / 2**20:.0f} MiB"


def process(
    series: TiltSeries,
    job: Job | None = None,
    *,
    device: str = "auto",
    watch: Watcher | None = None,
    regions: Mapping[str, np.ndarray] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """All stages after `read`, with a job's options or the defaults.

    With `checkpoints`, what they hold is taken from there, and a stop by Ctrl-C during a reconstruction gives
    the result as far as it came; see `Result.interrupted`.

    Raises:
        StoppedError: Ctrl-C during a reconstruction, without `checkpoints`.
    """
    job = job or Job.model_construct()
    watch = watch or Watcher()
    device = backend.resolve_device(device)
    timings: dict[str, float] = {}

    def timed(stage: str, started: float) -> None:
        timings[stage] = round(time.perf_counter() - started, 3)

    read_series = series
    kept = checkpoints.series(series) if checkpoints is not None else None
    clock = time.perf_counter()
    if kept is not None:
        series, extra = kept
        aligned = extra["aligned"]
        timings |= extra["timings"]
    else:
        background = job.input.background if getattr(job, "input", None) is not None else "auto"
        series = normalise(series, job.normalise.method, background)
        for line in series.history[len(read_series.history) :]:
            watch.log(line)
        timed("normalise", clock)

        clock = time.perf_counter()
        if job.align.file is not None:
            found = load_alignment(job.align.file, series.tilts_deg)
            series = series.evolve(f"align: {found.method}", alignment=found)
        else:
            series = align(series, job.align.method, reference=job.align.reference or None, log=watch.log)
        watch.log(series.history[-1])
        aligned = alignment_record(series)  # before resampling takes it out of the series
        timed("align", clock)
        if checkpoints is not None:
            checkpoints.keep_series(read_series, series, {"aligned": aligned, "timings": timings})
    clock = time.perf_counter()
    if job.align.resample:
        series = resample(series)
        timed("resample", clock)

    clock = time.perf_counter()
    options = job.reconstruct
    watch.tolerance = options.tolerance
    with backend.device_errors():
        volumes = reconstruct(
            series,
            options.method,
            data_term=options.data_term,
            strength=options.strength,
            tolerance=options.tolerance,
            max_iterations=options.max_iterations if "max_iterations" in options.model_fields_set else None,
            projector=options.projector,
            thickness=options.thickness,
            device=device,
            progress=watch.step,
            checkpoints=checkpoints,
        )
    for name, volume in volumes.items():
        solution = volume.solution
        watch.log(f"{name}: {solution.iterations} iterations; {solution.status.value}")
        if solution.status is Status.INTERRUPTED and checkpoints is None:
            raise StoppedError(f"stopped by Ctrl-C while reconstructing {name}; nothing of this job was written")
    timed("reconstruct", clock)

    clock = time.perf_counter()
    inside = mask(volumes, job.mask.method)
    timed("analyse", clock)

    clock = time.perf_counter()
    uncertainties = {}
    if options.uncertainty:
        uncertainties = uncertainty(
            series,
            volumes,
            options.uncertainty,
            figures=lambda element, values: figures(values, inside, regions),
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
            device=device,
            progress=watch.step,
            checkpoints=checkpoints,
        )
        for name, spread in uncertainties.items():
            watch.log(f"{name}: uncertainty from {spread.replicates} replicates")
        timed("uncertainty", clock)

    clock = time.perf_counter()
    if job.mask.apply:
        volumes = apply_mask(volumes, inside)
        uncertainties = {n: replace(u, sd=np.where(inside, u.sd, np.float32(0))) for n, u in uncertainties.items()}
    analysis = analyse(volumes, inside, regions, uncertainties)
    timings["analyse"] = round(timings["analyse"] + time.perf_counter() - clock, 3)
    return Result(series, volumes, inside, analysis, timings, device, aligned, uncertainties, options.uncertainty)


def run_job(
    job: Job,
    *,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    watch: Watcher | None = None,
) -> Path:
    """Run a job and write its folder, whole or not at all.

    A run of more than seconds leaves checkpoints in ``OUT.partial`` on its way, removed when it has finished
    (see `recon.checkpoint`). With `resume` it goes on from there, and a folder that the same job has finished
    is left as it is. Ctrl-C during a reconstruction writes what there is, marked as not converged; SIGTERM and
    SIGUSR1 save a checkpoint.

    Raises:
        StoppedError: Ctrl-C; its `kept` says whether there is a result.
        SuspendedError: SIGTERM or SIGUSR1, in the main thread.
        ReconError: whatever else is wrong, in one line; then nothing was written.
    """
    watch = watch or Watcher()
    target = Path(out) if out is not None else job.output_dir
    hashes = input_hashes(job)
    if resume and target.exists():
        state = finished(target, job, hashes)
        if state == "done":
            watch.log(f"{target}: finished before, left as it is")
            return target
        if state is None and not overwrite:
            raise OutputError(f"{target} exists but is of another job or input; use --overwrite or another --out")
    replacing = overwrite or (resume and target.exists())
    check_target(target, overwrite=replacing)
    with Interrupts(watch.log) as interrupts:
        checkpoints = Checkpoints(
            target, Identity(job.resolved(), hashes), on=job.output.checkpoints, log=watch.log, interrupts=interrupts
        )
        checkpoints.open(resume=resume, overwrite=overwrite)
        try:
            clock = time.perf_counter()
            series = read_job(job, watch.log)
            watch.log(series.history[-1])
            needs = plan(job, series, device)
            check_resources(needs, target)
            reading = round(time.perf_counter() - clock, 3)
            result = process(series, job, device=device, watch=watch, checkpoints=checkpoints)
            result.timings["read"] = reading
            write_result(result, target, job=job, hashes=hashes, overwrite=replacing)
        except KeyboardInterrupt as exc:
            raise checkpoints.stopped("nothing of this job was written") from exc
        if result.interrupted:
            raise checkpoints.stopped(f"{target} holds what there was: {state_of(result)}", kept=True)
        checkpoints.clear()
    return target


def state_of(result: Result) -> str:
    """How far each element came, in words."""
    said = []
    for name, volume in result.volumes.items():
        s = volume.solution
        stopped = s.status is Status.INTERRUPTED
        said.append(f"{name} not converged (certified gap {s.gap:.2g})" if stopped else f"{name} finished")
    said += [f"{name} not begun" for name in result.missing]
    if not result.sure:
        done = ", ".join(f"{n} {u.replicates}" for n, u in result.uncertainties.items()) or "none"
        said.append(f"replicates of the uncertainty done: {done} of {result.replicates}")
    return ", ".join(said)


def write_result(
    result: Result,
    target: Path,
    *,
    job: Job | None = None,
    hashes: Mapping[str, str] | None = None,
    overwrite: bool = False,
    truth: Mapping[str, Volume] | None = None,
) -> None:
    """Volumes, mask, ``alignment.json``, ``job.json`` and ``report.html`` as one folder."""
    from recon.report import write_report

    formats = job.output.formats if job is not None else ("tiff",)
    with OutputFolder(target, overwrite=overwrite) as folder:
        write_volumes(result.volumes, folder, formats=formats, mask=result.inside)
        if result.uncertainties:
            write_volumes({u.volume.element: u.volume for u in result.uncertainties.values()}, folder, formats=formats)
        if job is not None and job.output.aligned:
            aligned = result.series if result.series.scaled else resample(result.series)
            write_stacks(aligned, folder, formats)
        if truth is not None:
            write_volumes({f"truth-{n}": v for n, v in truth.items()}, folder)
        dump(folder / "alignment.json", result.aligned)
        dump(folder / "job.json", job_record(result, job, hashes or {}))
        write_report(folder, name=target.name)


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def job_record(result: Result, job: Job | None, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What ``job.json`` holds: enough to repeat the run and to judge it."""
    elements = {}
    for name, volume in result.volumes.items():
        s = volume.solution
        elements[name] = {
            "status": s.status.name.lower(),
            "why": s.status.value,
            "iterations": s.iterations,
            "parameters": {k: finite(v) for k, v in s.parameters.items()},
            "history": [{k: finite(v) for k, v in asdict(r).items()} for r in s.history],
        }
    return {
        "program": "recon",
        "version": __version__,
        "status": "interrupted" if result.interrupted else "done",
        "missing": list(result.missing),
        "job": job.resolved() if job is not None else None,
        "inputs": dict(hashes),
        "device": result.device,
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "versions": {n: installed(n) for n in ("numpy", "numba", "scipy", "scikit-image", "astra-toolbox")},
        "voxel_size_nm": result.series.pixel_size_nm,
        "unit": "counts per voxel length per unit exposure",
        "elements": elements,
        "analysis": result.analysis,
        "stages": list(result.series.history),
        "timings_s": result.timings,
    }


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def input_hashes(job: Job) -> dict[str, str]:
    """SHA-256 of every file that the job reads."""
    files: dict[str, Any] = {**(job.input.maps or {}), "tilts": job.input.tilts, "alignment": job.align.file}
    if job.input.spectra is not None:
        source = job.input.spectra
        files |= {p.name: p for p in (source if isinstance(source, tuple) else find_spectra(source))}
    out = {}
    for name, path in files.items():
        if isinstance(path, Path):
            if path.is_dir():  # a .zspy is a folder
                out[name] = folder_hash(path)
                continue
            try:
                with path.open("rb") as stream:
                    out[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as exc:
                raise JobError(f"{path} cannot be read ({exc.strerror})") from exc
    return out


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def finished(target: Path, job: Job, hashes: Mapping[str, str]) -> str | None:
    """``"done"`` or ``"interrupted"`` if `target` holds results of this job on these inputs by this version."""
    try:
        record = json.loads((target / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = json.loads(json.dumps(job.resolved()))
    if record.get("job") != same or record.get("inputs") != dict(hashes) or record.get("version") != __version__:
        return None
    return str(record.get("status", "done"))


__all__ = ["MAX_ITERATIONS", "Plan", "Result", "Watcher", "plan", "process", "read_job", "run_job", "write_result"]
