"""The whole job: from a job file to a folder of results, in the order of the stages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from recon import backend
from recon.alignment.align import align
from recon.analysis.agreement import agreement
from recon.analysis.composition import analyse, figures
from recon.analysis.mask import apply_mask, mask
from recon.errors import OutputError, StoppedError
from recon.io import check_target
from recon.io.alignment import alignment_record
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.file import Job
from recon.job.inputs import input_hashes, read_job
from recon.job.interrupts import Interrupts
from recon.job.overrides import given_alignment, known_exposures
from recon.job.progress import Watcher
from recon.job.resources import check_resources, plan
from recon.job.results import Result, finished, state_of, write_result
from recon.model.resampling import resample
from recon.preparation.normalise import normalise
from recon.reconstruction.reconstruct import reconstruct
from recon.reconstruction.uncertainty import uncertainty
from recon.report.alignment import doubts
from recon.series.tilt_series import TiltSeries
from recon.solvers import Status


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
        exposures, errors = known_exposures(job, series)
        before = len(series.history)
        series = normalise(series, job.normalise.method, background, exposures)
        if errors is not None:
            series = series.evolve(exposure_errors=errors)
        for line in series.history[before:]:
            watch.log(line)
        timed("normalise", clock)

        clock = time.perf_counter()
        if job.align.file is not None:
            series = given_alignment(job, series)
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
            half_precision=options.half_precision,
            device=device,
            progress=watch.step,
            log=watch.log,
            checkpoints=checkpoints,
        )
    for name, volume in volumes.items():
        solution = volume.solution
        watch.log(f"{name}: {solution.iterations} iterations; {solution.status.value}")
        if solution.status is Status.INTERRUPTED and checkpoints is None:
            raise StoppedError(f"stopped by Ctrl-C while reconstructing {name}; nothing of this job was written")
    timed("reconstruct", clock)

    clock = time.perf_counter()
    agreed = agreement(read_series, series, volumes, job.align.reference or None)
    if agreed is not None:
        aligned = {**aligned, "agreement": agreed.record}
    for doubt in doubts(aligned):
        watch.log(f"warning: alignment: {doubt}")
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
    replicates = options.uncertainty
    return Result(series, volumes, inside, analysis, timings, device, aligned, uncertainties, replicates, agreed)


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
    (see `recon.job.checkpoint`). With `resume` it goes on from there, and a folder that the same job has finished
    is left as it is. Ctrl-C during a reconstruction writes what there is, marked as not converged; SIGTERM and
    SIGUSR1 save a checkpoint.

    Raises:
        StoppedError: Ctrl-C; its `kept` says whether there is a result.
        SuspendedError: SIGTERM or SIGUSR1, in the main thread.
        ReconError: whatever else is wrong, in one line; then nothing was written.
    """
    watch = watch or Watcher()
    device = backend.resolve_device(device)  # before minutes of reading
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
