"""The whole job: from a job file to a folder of results, in the order of the stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from recon import backend
from recon.analysis.composition import analyse, spread_densities
from recon.analysis.mask import apply_mask, mask
from recon.analysis.pair_estimates import pair_estimates
from recon.analysis.resolution import correlations
from recon.errors import JobError, OutputError
from recon.io import check_target
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.file import Job
from recon.job.inputs import input_hashes, read_job
from recon.job.interrupts import Interrupts
from recon.job.locks import Lock
from recon.job.progress import Watcher
from recon.job.resources import Plan, check_options, check_resources, gib, left_out, plan
from recon.job.results import Result, finished, state_of, write_result
from recon.job.stages import Stages, compile_ahead
from recon.model.resampling import resample
from recon.parallel import ALONE, Ranks, check_ranks, local_ranks
from recon.preparation.isolation import locate
from recon.series.tilt_series import TiltSeries
from recon.solvers import Status


def process(
    series: TiltSeries,
    job: Job | None = None,
    *,
    device: str = "auto",
    watch: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
    budget: int | None = None,
) -> Result:
    """All stages after `read`, with a job's options or the defaults.

    With `checkpoints`, what they hold is taken from there, and a stop by Ctrl-C during a reconstruction gives
    the result as far as it came; see `Result.interrupted`. `budget` is the most memory that a reconstruction may take,
    by default what the job says.

    Raises:
        StoppedError: Ctrl-C during a reconstruction, without `checkpoints`.
    """
    job = job or Job.model_construct()
    budget = job.reconstruct.memory if budget is None else budget
    stages = Stages(job, backend.resolve_device(device), watch or Watcher(), checkpoints, ranks, budget=budget)
    read = series
    series, record = stages.aligned(read)
    if job.align.resample:
        with stages.timed("resample"):
            series = resample(series)
    volumes = stages.reconstruct(series)
    record, agreed = stages.agree(read, series, volumes, record)
    with stages.timed("analyse"):
        inside = mask(volumes, job.mask.method)
    composition = stages.ask(series, volumes)
    halved = stages.halve(series, volumes)
    resolution = {} if halved is None else correlations(halved)  # before a mask, which both halves would share
    uncertainties = stages.sure(series, volumes, inside)
    with stages.timed("analyse"):
        if job.mask.apply:
            volumes = apply_mask(volumes, inside)
            if halved is not None:
                halved = halved.masked(inside)
            uncertainties = {n: u.within(inside) for n, u in uncertainties.items()}
        analysis = analyse(volumes, inside, uncertainties=uncertainties)
        pairs = pair_estimates(volumes, inside, halved)
    for line in spread_densities(analysis):
        stages.watch.log(f"warning: {line}")
    return Result(
        series, volumes, inside, analysis, stages.timings, stages.device, record, uncertainties,
        job.reconstruct.uncertainty, agreed, composition, resolution, pairs,
    )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The part of a job that one process does; what it makes lies in ``OUT.partial`` for the others.

    Attributes:
        align: normalise and align, no more.
        elements: reconstruct these, no more; where neither is set, everything, which ends with the folder of results.
        aligned: file of the aligned series, by default in ``OUT.partial``; jobs that differ only after their alignment
            share one.
        waits: whether an alignment that is not there yet is an error: it is another process's part.
    """

    align: bool = False
    elements: tuple[str, ...] = ()
    aligned: Path | None = None
    waits: bool = False

    @property
    def whole(self) -> bool:
        return not self.align and not self.elements


def run_job(
    job: Job,
    *,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    part: Part | None = None,
    admit: Callable[[Plan], None] | None = None,
    ranks: Ranks = ALONE,
    watch: Watcher | None = None,
) -> Path:
    """Run a job and write its folder, whole or not at all.

    A run of more than seconds leaves checkpoints in ``OUT.partial`` on its way, removed when it has finished
    (see `recon.job.checkpoint`). With `resume` it goes on from there, and a folder that the same job has finished
    is left as it is. Ctrl-C during a reconstruction writes what there is, marked as not converged; SIGTERM and
    SIGUSR1 save a checkpoint.

    Args:
        part: what this process does of the job, by default all.
        admit: called with memory and time before the work begins; returns when it may.
        ranks: that share each volume; this is rank 0 of them, the others are in `recon.job.together.serve`.

    Raises:
        StoppedError: Ctrl-C; its `kept` says whether there is a result.
        SuspendedError: SIGTERM or SIGUSR1, in the main thread.
        ReconError: whatever else is wrong, in one line; then nothing was written.
    """
    watch, part = watch or Watcher(), part or Part()
    for name in part.elements:
        if name not in job.elements:
            raise JobError(f"element {name!r} is not of this job; it has {', '.join(job.elements)}")
    if part.elements and job.reconstruct.coupling != "none":
        raise JobError(
            f"coupling = {job.reconstruct.coupling!r} reconstructs all elements together; leave --element out, or "
            "couple none"
        )
    device = backend.resolve_device(device)  # before minutes of reading
    backend.use_threads()
    target = Path(out) if out is not None else job.output_dir
    hashes = input_hashes(job)
    if resume and target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        state = finished(target, job, hashes)
        if state == "done":
            watch.log(f"{target}: finished before, left as it is")
            return target
        if state is None and not overwrite:
            raise OutputError(f"{target} exists but is of another job or input; use --overwrite or another --out")
    replacing = overwrite or (resume and target.exists())
    check_target(target, overwrite=replacing)
    checkpoints = Checkpoints(
        target,
        Identity(job.resolved(), hashes),
        on=job.output.checkpoints,
        log=watch.log,
        interrupts=Interrupts(watch.log),
        staged=not part.whole or part.waits,
        aligned=part.aligned,
    )
    with checkpoints.interrupts, _locked(checkpoints, part):
        go_on = resume or bool(part.elements) or part.waits
        checkpoints.open(resume=go_on, overwrite=overwrite, element=part.elements[0] if part.elements else None)
        try:
            clock = time.perf_counter()
            _check_earlier(job, part, checkpoints)
            compile_ahead(job, device, watch.log)
            series = read_job(job, watch.log)
            watch.log(series.history[-1])
            series, lines = locate(series), len(series.history)
            for line in series.history[lines:]:
                watch.log(line)
            check_options(job, series)  # what is wrong with them is told before the work
            needs = plan(job, series, device, shared=ranks.size)
            check_ranks(ranks, series.frame[0])
            # the uncertainty is rank 0's work alone
            share = (1, 1) if job.reconstruct.uncertainty else (local_ranks(), ranks.size)
            of_ranks = replace(needs, memory_bytes=needs.memory_bytes * share[0] // share[1])
            check_resources(of_ranks, target, job.reconstruct.memory)
            for line in left_out(needs, ranks.size):
                watch.log(line)
            if needs.streaming is not None:
                watch.log(_in_slabs(needs))
            if admit is not None:
                admit(needs)
            reading = round(time.perf_counter() - clock, 3)
            if not part.whole:
                stages = Stages(job, device, watch, checkpoints, ranks, budget=needs.budget)
                return _do_part(series, job, part, stages)
            result = process(
                series, job, device=device, watch=watch, checkpoints=checkpoints, ranks=ranks, budget=needs.budget
            )
            result.timings["read"] = reading
            write_result(result, target, job=job, hashes=hashes, overwrite=replacing)
        except KeyboardInterrupt as exc:
            raise checkpoints.stopped("nothing of this job was written") from exc
        if result.interrupted:
            raise checkpoints.stopped(f"{target} holds what there was: {state_of(result)}", kept=True)
        checkpoints.clear()
    return target


def _in_slabs(needs: Plan) -> str:
    how = needs.streaming
    assert how is not None
    return (
        f"the volume is worked on in {how.windows} slabs, {how.block} iterations on each at a time; as a whole it "
        f"needs more memory than {gib(needs.budget or 0)}"
    )


def _check_earlier(job: Job, part: Part, checkpoints: Checkpoints) -> None:
    """Raise OutputError if what other processes were to make for this part is not there."""
    if part.waits and not part.align:
        wanted = [("the alignment", "series", "")]
        wanted += [(name, "volume", name) for name in job.elements if part.whole]
        for said, what, element in wanted:
            if not checkpoints.has(what, element):
                raise OutputError(f"{said} of {job.path.name} is not there, since its own task has failed; see its log")


def _do_part(series: TiltSeries, job: Job, part: Part, stages: Stages) -> Path:
    """One part of a job, kept among its checkpoints, whose folder is returned."""
    checkpoints = stages.keeper
    assert checkpoints is not None
    series, _ = stages.aligned(series)
    missing = "" if checkpoints.has("series") else "the aligned series"
    if part.elements:
        series = resample(series) if job.align.resample else series
        volumes = stages.reconstruct(series, part.elements)
        if any(v.made.status is Status.INTERRUPTED for v in volumes.values()) or len(volumes) < len(part.elements):
            raise checkpoints.stopped("the element was not finished")
        missing = ", ".join(e for e in part.elements if not checkpoints.has("volume", e))
    if missing:
        raise OutputError(
            f"{missing} could not be kept in {checkpoints.folder}; free some space, or choose another --out"
        )
    return checkpoints.folder


@contextmanager
def _locked(checkpoints: Checkpoints, part: Part) -> Iterator[None]:
    """Nobody else writes to the same folder meanwhile, but for the other elements of the same job."""
    folder, target = checkpoints.folder, str(checkpoints.target)
    with ExitStack() as locks:
        locks.enter_context(Lock(folder / "run.lock", target, shared=bool(part.elements)))
        for name in sorted(part.elements):
            locks.enter_context(Lock(folder / f"{name}.lock", f"{name} in {target}"))
        yield


__all__ = ["Part", "process", "run_job"]
