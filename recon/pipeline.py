"""The whole job: from a job file to a folder of results, in the order of the stages."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from recon import backend
from recon._version import __version__
from recon.align import align, resample
from recon.analyse import analyse, apply_mask, mask
from recon.errors import JobError, OutputError, ResourceError, StoppedError
from recon.io import OutputFolder, check_disk, check_target, read, write_volumes
from recon.io.alignment import alignment_record, load_alignment
from recon.io.spectra import find_spectra
from recon.io.volumes import write_stacks
from recon.job import Job
from recon.maps import LineMaps, Options, line_maps
from recon.normalise import find_outside, normalise
from recon.reconstruct import MAX_ITERATIONS, grid, reconstruct
from recon.solvers import Record, Status
from recon.tiltseries import TiltSeries, Volume

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
        memory_bytes: peak of the solver's arrays.
        available_bytes: memory there is.
        disk_bytes: results.
        seconds: forecast for all elements, from the benchmark's rate.
        device: ``"cpu"`` or ``"cuda"``.
    """

    volume: tuple[int, int, int]
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    seconds: float
    device: str


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
    pixels = n_tilts * math.prod(frame)
    # 32 arrays of the volume's size while it iterates, and what a certificate takes meanwhile: measured
    # with benchmarks/iteration.py --memory
    words = {"tgv": 37, "tv": 20, "none": 8, "sirt": 6, "fbp": 3}[job.reconstruct.method]
    results = (1 + n_elements) * math.prod(frame) * shape[0] * 4
    memory = voxels * words * 4 + pixels * 4 * (12 + 2 * n_elements) + 2 * results
    iterations = min(job.reconstruct.max_iterations, TYPICAL_ITERATIONS)
    seconds = voxels * iterations * n_elements * NANOSECONDS_PER_VOXEL * 1e-9
    return Plan(shape, memory, available_memory(device), results * len(job.output.formats), seconds, device)


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
        f"memory: {gib(needs.memory_bytes)} needed, {gib(needs.available_bytes)} free",
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
) -> Result:
    """All stages after `read`, with a job's options or the defaults.

    Raises:
        StoppedError: Ctrl-C during a reconstruction.
    """
    job = job or Job.model_construct()
    watch = watch or Watcher()
    device = backend.resolve_device(device)
    timings: dict[str, float] = {}

    def timed(stage: str, started: float) -> None:
        timings[stage] = round(time.perf_counter() - started, 3)

    background = job.input.background if getattr(job, "input", None) is not None else "auto"
    clock = time.perf_counter()
    series = normalise(series, job.normalise.method, background)
    watch.log(series.history[-1])
    timed("normalise", clock)

    clock = time.perf_counter()
    if job.align.file is not None:
        found = load_alignment(job.align.file, series.tilts_deg)
        series = series.evolve(f"align: {found.method}", alignment=found)
    else:
        series = align(series, job.align.method, reference=job.align.reference or None, log=watch.log)
    watch.log(series.history[-1])
    aligned = alignment_record(series)  # before resampling takes it out of the series
    if job.align.resample:
        series = resample(series)
    timed("align", clock)

    clock = time.perf_counter()
    options = job.reconstruct
    watch.tolerance = options.tolerance
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
    )
    for name, volume in volumes.items():
        solution = volume.solution
        watch.log(f"{name}: {solution.iterations} iterations; {solution.status.value}")
        if solution.status is Status.INTERRUPTED:
            raise StoppedError(f"stopped by Ctrl-C while reconstructing {name}; nothing of this job was written")
    timed("reconstruct", clock)

    clock = time.perf_counter()
    inside = mask(volumes, job.mask.method)
    if job.mask.apply:
        volumes = apply_mask(volumes, inside)
    analysis = analyse(volumes, inside, regions)
    timed("analyse", clock)
    return Result(series, volumes, inside, analysis, timings, device, aligned)


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

    With `resume`, a folder that the same job has finished is left as it is.

    Raises:
        ReconError: whatever is wrong, in one line; then nothing was written.
    """
    watch = watch or Watcher()
    target = Path(out) if out is not None else job.output_dir
    hashes = input_hashes(job)
    if resume and target.exists():
        if finished(target, job, hashes):
            watch.log(f"{target}: finished before, left as it is")
            return target
        if not overwrite:
            raise OutputError(f"{target} exists but is of another job or input; use --overwrite or another --out")
    check_target(target, overwrite=overwrite)
    clock = time.perf_counter()
    series = read_job(job, watch.log)
    watch.log(series.history[-1])
    needs = plan(job, series, device)
    check_resources(needs, target)
    reading = round(time.perf_counter() - clock, 3)
    result = process(series, job, device=device, watch=watch)
    result.timings["read"] = reading
    write_result(result, target, job=job, hashes=hashes, overwrite=overwrite)
    return target


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


def finished(target: Path, job: Job, hashes: Mapping[str, str]) -> bool:
    """Whether `target` holds the results of this job on these inputs by this version."""
    try:
        record = json.loads((target / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = json.loads(json.dumps(job.resolved()))
    return bool(
        record.get("job") == same and record.get("inputs") == dict(hashes) and record.get("version") == __version__
    )


__all__ = ["MAX_ITERATIONS", "Plan", "Result", "Watcher", "plan", "process", "read_job", "run_job", "write_result"]
