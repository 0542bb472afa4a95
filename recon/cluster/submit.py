"""`recon submit`: a manifest, readable batch scripts, arrays of tasks that start one after the other stage."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.cluster.manifest import NAME, Row, write_manifest
from recon.cluster.schedulers import SCHEDULERS, Array, clock, memory_of
from recon.cluster.settings import Settings, site_settings
from recon.cluster.units import Unit, names_of
from recon.errors import InputError, JobError, OutputError, ReconError

if TYPE_CHECKING:
    from recon.job.file import Job

SAFETY = 2.0  # of the forecast of time: nodes differ
SLACK = 10  # minutes: start, reading, compilation, writing
ALIGNMENT = 30  # minutes at least, since it cannot be stopped half done
OVERHEAD = 1 << 30  # bytes beside the plan: program, libraries, the series
SUBMITTED = "submitted.json"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """One job with one set of parameters.

    Attributes:
        name: short, unique in the submission.
        job: its file, absolute.
        changes: keys of it with other values.
        out: folder of results.
        aligned: file of the aligned series, one for all sets of parameters that share it.
        elements: to reconstruct.
        settings: of its tasks.
        seconds, memory_bytes: forecast of one element.
        together: whether its elements are coupled, so that no task can have one of them.
    """

    name: str
    job: str
    changes: Mapping[str, Any]
    out: Path
    aligned: Path | None
    elements: tuple[str, ...]
    settings: Settings
    seconds: float
    memory_bytes: int
    together: bool


def submit(
    jobs: Sequence[str],
    folder: Path,
    *,
    scheduler: str | None = None,
    given: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    log: Log = lambda line: None,
) -> list[str]:
    """Write manifest and scripts into `folder`, and submit them.

    Args:
        jobs: job files.
        folder: is made; holds the manifest, the scripts, ``logs`` and the aligned series.
        scheduler: ``"slurm"``, ``"pbs"``, ``"lsf"``; by default that of the site file.
        given: settings that win over those of job and site files.
        grid: keys of the job file and the values to try; every combination is a set of parameters.
        out: folder for the folders of results, by default each beside its job file; of a sweep, ``folder/results``.
        dry_run: only write.
        log: gets lines for the user.

    Returns:
        Numbers of the scheduler's jobs.

    Raises:
        SchedulerError: there is no scheduler, or it refuses; then nothing stays submitted, and no folder.
        ResourceError: the forecast is beyond the partition's limits.
        OutputError, ResourceError: the folder exists or cannot be written; then nothing stays submitted either.
        JobError: a job file is wrong.
    """
    datasets = _datasets(jobs, folder, {**(given or {}), "scheduler": scheduler}, grid or {}, out, log)
    rows, arrays = _arrays(datasets, folder.resolve())
    kind = SCHEDULERS[datasets[0].settings.scheduler]
    if not dry_run:
        for array in arrays:
            kind.check(array)
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} exists; choose another --folder, or remove it once its tasks have ended")
    scripts = [folder.resolve() / f"{n}-{a.name.rpartition('-')[2]}.sh" for n, a in enumerate(arrays, 1)]
    from recon.io.folder import OutputFolder

    with OutputFolder(folder) as made:
        (made / "logs").mkdir()
        (made / "aligned").mkdir()
        write_manifest(rows, made / NAME)
        for script, array in zip(scripts, arrays, strict=True):
            text = made / script.name
            text.write_text(kind.script(array), encoding="utf-8")
            text.chmod(0o755)
    for script, array in zip(scripts, arrays, strict=True):
        log(
            f"{script}: {array.last - array.first + 1} tasks of {clock(array.minutes)}, {array.memory_mb} MB, "
            f"{array.settings.cores} cores" + (f", {array.settings.gpus} GPU" if array.settings.gpus else "")
        )
    if dry_run:
        log(f"nothing submitted; to do so, run {kind.submits} for each script in turn")
        return []
    return _submit(scripts, arrays, folder, log)


def _submit(scripts: Sequence[Path], arrays: Sequence[Array], folder: Path, log: Log) -> list[str]:
    kind = SCHEDULERS[arrays[0].settings.scheduler]
    from recon.io.folder import discard, write_text

    numbers: list[str] = []
    try:
        for script in scripts:
            numbers.append(kind.submit(script, numbers[-1] if numbers else None))
        record = {"scheduler": arrays[0].settings.scheduler, "jobs": numbers}
        write_text(folder / SUBMITTED, json.dumps(record) + "\n")
    except ReconError:
        for number in numbers:
            subprocess.run(kind.cancel(number), capture_output=True, check=False)
        discard(folder)  # or the next try would find it taken
        raise
    log(f"submitted as {', '.join(numbers)}; to follow: recon status {folder}")
    for line in kind.follow(numbers):
        log(f"  {line}")
    log(f"then: recon gather {folder}")
    return numbers


# ---------------------------------------------------------------- what is to be done


def _datasets(
    jobs: Sequence[str],
    folder: Path,
    given: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    out: Path | None,
    log: Log,
) -> list[Dataset]:
    from recon.job.file import load_job

    datasets: list[Dataset] = []
    bad: list[InputError] = []
    aligned = folder.resolve() / "aligned"
    for path, stem in zip(jobs, names_of(jobs, plain=True), strict=True):
        job = load_job(path)
        settings = site_settings().over(job.cluster.model_dump(exclude_unset=True), path).over(given, "options")
        try:
            forecast = _forecast(job, settings)
        except InputError as exc:  # the others need not wait for it, and its own task will say so, too
            bad.append(exc)
            forecast = 0.0, 0
            log(f"warning: {path}: {exc}; submitted all the same")
        for number, changes in enumerate(combinations(grid)):
            changed = load_job(path, changes=changes) if changes else job
            name = f"{stem}-{number}" if changes else stem
            place = out if out is not None else (folder / "results" if changes else None)
            results = job.output_dir if place is None else place / f"{name}-recon"
            shares = aligned / f"{stem}.npz" if shares_alignment(changes) else aligned / f"{name}.npz"
            datasets.append(
                Dataset(
                    name,
                    str(job.path),
                    changes,
                    results.resolve(),
                    shares,
                    changed.elements,
                    settings,
                    *forecast,
                    together=changed.reconstruct.coupling != "none",
                )
            )
    if len(bad) == len(jobs):
        raise bad[0]
    first = datasets[0].settings
    for d in datasets:
        if d.settings.scheduler != first.scheduler:
            raise JobError(f"{d.job} asks for {d.settings.scheduler}, {datasets[0].job} for {first.scheduler}")
    return datasets


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of a grid; one without changes for an empty grid."""
    grid = {key: values.tolist() if hasattr(values, "tolist") else values for key, values in grid.items()}
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise JobError(f"grid: {key} has no list of values; give at least one, as in [1.0, 2.0]")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def shares_alignment(changes: Mapping[str, Any]) -> bool:
    """Whether a job with these changes has the alignment of the job without."""
    from recon.job.checkpoint import AFTER_ALIGNMENT

    return all(key.split(".")[0] in AFTER_ALIGNMENT for key in changes)


def _forecast(job: Job, settings: Settings) -> tuple[float, int]:
    """Seconds of an element and bytes of a task, from the model behind `recon check`."""
    from recon.job.inputs import read_job
    from recon.job.resources import plan

    device = "cuda" if settings.gpus else "cpu"
    began = time.perf_counter()
    series = read_job(job)
    needs = plan(job, series, device, here=False, reading=time.perf_counter() - began)
    # the model's rate is that of two cores; memory bandwidth ends the gain
    speed = 1.0 if settings.gpus else min(settings.cores, 16) / 2
    held = OVERHEAD + max(needs.host_bytes if settings.gpus else needs.memory_bytes, needs.regions_bytes)
    return needs.seconds / max(len(job.elements), 1) / speed, held


def _arrays(datasets: Sequence[Dataset], folder: Path) -> tuple[list[Row], list[Array]]:
    """The tasks of the three stages, in the order of the manifest."""
    rows: list[Row] = []
    arrays = []

    def add(stage: str, wanted: Sequence[tuple[Dataset, str, int]], shared: bool = False) -> None:
        first = len(rows)
        seen: set[Path | None] = set()
        members: list[Dataset] = []
        for d, element, minutes in wanted:
            if shared and d.aligned in seen:
                continue
            seen.add(d.aligned)
            memory = memory_of(d.settings) or math.ceil(max(d.memory_bytes, OVERHEAD) / 2**20)
            asked = d.settings.time if isinstance(d.settings.time, int) else minutes
            unit = Unit(d.job, stage, element, d.out, d.changes, d.aligned)
            rows.append(Row(len(rows) + 1, d.name, unit, asked, memory))
            members.append(d)
        # one header serves a whole array, so it asks for the most
        settings = members[0].settings
        for key in ("cores", "gpus", "warning"):
            settings = replace(settings, **{key: max(getattr(d.settings, key) for d in members)})
        if stage == "align" and settings.cpu_partition:
            settings = replace(settings, gpus=0, partition=settings.cpu_partition)
        mine = rows[first:]
        arrays.append(
            Array(
                f"recon-{stage}", first + 1, len(rows), folder,
                max(r.minutes for r in mine), max(r.memory_mb for r in mine), settings,
            )
        )  # fmt: skip

    def needed(d: Dataset) -> int:
        return SLACK + math.ceil(SAFETY * d.seconds * (len(d.elements) if d.together else 1) / 60)

    alone = all(len(d.elements) == 1 for d in datasets) and len({d.aligned for d in datasets}) == len(datasets)
    if alone or any(d.together for d in datasets):
        add("all", [(replace(d, aligned=None), "", ALIGNMENT + needed(d)) for d in datasets])  # nothing to share out
        return rows, arrays
    add("align", [(d, "", max(ALIGNMENT, needed(d))) for d in datasets], shared=True)
    add("element", [(d, name, needed(d)) for d in datasets for name in d.elements])
    add("finish", [(d, "", needed(d)) for d in datasets])
    return rows, arrays


__all__ = ["SUBMITTED", "Dataset", "combinations", "shares_alignment", "submit"]
