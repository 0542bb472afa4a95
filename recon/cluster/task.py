"""One task of an array: a row of the manifest, and what it asks of the scheduler when it has to leave early."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from recon.cluster.manifest import read_manifest
from recon.errors import JobError, SuspendedError

if TYPE_CHECKING:
    from recon.job.progress import Watcher

RESTARTS = 100  # of a task; one that comes no further with so many will not with more
RESTARTS_OF_ALIGNMENT = 3  # which begins anew each time


def run_task(manifest: Path, number: int, *, device: str = "auto", watch: Watcher) -> None:
    """Run one row of a manifest, going on where an earlier start of it was stopped.

    Raises:
        SuspendedError: a signal came; the state is saved, and another start was asked for.
        JobError: no such row, or it has been started too often.
    """
    from recon.job.interrupts import Interrupts

    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0)
    unit = None
    try:
        with Interrupts(watch.log):  # from the start: a signal before the run has its own must not kill
            from recon.job.file import load_job
            from recon.job.pipeline import run_job

            rows = {row.row: row for row in read_manifest(manifest)}
            if number not in rows:
                raise JobError(f"{manifest} has no row {number}; its rows are {min(rows)} to {max(rows)}")
            unit = rows[number].unit
            watch.log(
                f"row {number}, {rows[number].dataset}: {unit.name}" + (f", start {restarts + 1}" if restarts else "")
            )
            job = load_job(unit.job, changes=unit.changes)
            written = run_job(job, out=unit.out, device=device, resume=True, part=unit.part(), watch=watch)
            watch.log(f"done: {written}")
    except SuspendedError as exc:
        most = RESTARTS_OF_ALIGNMENT if unit is not None and unit.stage == "align" else RESTARTS
        if restarts >= most:
            raise JobError(
                f"stopped by {exc} for the {restarts + 1}th time; give it more time in [cluster], or another partition"
            ) from exc
        watch.log(again())
        raise


def again() -> str:
    """Ask the scheduler for another start of this task; returns what to tell the user."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else os.environ.get("SLURM_JOB_ID")
    if not name:
        return "saved; start it again to go on"  # PBS's script and LSF see to it by the exit status
    try:
        done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as exc:
        return f"saved; asking Slurm for another start failed ({exc}): scontrol requeue {name}"
    said = " ".join(done.stderr.split())
    if done.returncode:
        return f"saved; Slurm did not take it back ({said}); it does so after preemption: scontrol requeue {name}"
    return "saved; Slurm starts it again"


__all__ = ["again", "run_task"]
