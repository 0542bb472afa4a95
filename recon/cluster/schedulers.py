"""Slurm, PBS and LSF: one batch script with other headers, and how each is asked to run it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recon.cluster.settings import Settings, minutes, size
from recon.errors import ResourceError, SchedulerError


@dataclass(frozen=True)
class Array:
    """Tasks of one stage that are submitted together.

    Attributes:
        name: of the job.
        first, last: rows of the manifest.
        folder: with the manifest; logs go to its ``logs``.
        minutes, memory_mb: of a task.
        settings: the rest of what a task asks for.
    """

    name: str
    first: int
    last: int
    folder: Path
    minutes: int
    memory_mb: int
    settings: Settings

    @property
    def warning(self) -> int:
        """Seconds before the time limit; not all of it, where it is short."""
        return min(self.settings.warning, self.minutes * 45)


class Scheduler(ABC):
    """One of them.

    Attributes:
        name: of the scheduler.
        submits: its command.
        ends: the command that ends a job.
        index: variable of the shell that holds a task's row.
    """

    name: str
    submits: str
    ends: str
    index: str

    @abstractmethod
    def header(self, array: Array) -> Iterator[str]:
        """Lines of the script that the scheduler reads."""

    @abstractmethod
    def command(self, script: Path, after: str | None) -> list[str]:
        """What submits a script, to start when the job `after` has ended."""

    @abstractmethod
    def job_id(self, said: str) -> str:
        """Of a submission's answer."""

    @abstractmethod
    def listing(self, jobs: Sequence[str]) -> str:
        """The command that lists jobs."""

    def limited(self, task: str, array: Array) -> str:
        """The program's line, where the script itself has to warn it of the time limit."""
        return task

    def again(self) -> list[str]:
        """Lines after the program, where the script itself has to ask for another start."""
        return []

    def script(self, array: Array) -> str:
        """The batch script."""
        python = shlex.quote(sys.executable)
        task = f'{python} -m recon task {shlex.quote(str(array.folder / "manifest.csv"))} "${self.index}"'
        task, again = self.limited(task, array), self.again()
        lines = [
            "#!/bin/bash",
            *self.header(array),
            "",
            "# written by `recon submit`; a task saves its state before the time limit and on preemption, ends with",
            "# status 75, starts again and goes on where it was",
            *array.settings.setup,
            "trap '' USR1 TERM  # until the program listens, they must not kill it",
            *([task, *again] if again else [f"exec {task}"]),
        ]
        return "\n".join(lines) + "\n"

    def submit(self, script: Path, after: str | None = None) -> str:
        """Submit it; returns the job's number.

        Raises:
            SchedulerError: there is no such scheduler here, or it refuses.
        """
        said = _ask(self.command(script, after), f"{self.name} refused {script.name}")
        try:
            return self.job_id(said)
        except (ValueError, IndexError, TypeError) as exc:
            raise SchedulerError(f"{self.submits} answered {said.strip()!r}, in which no job number is found") from exc

    def check(self, array: Array) -> None:  # noqa: B027
        """Raise ResourceError if a task asks for more than the partition allows; where nobody can tell, nothing."""

    def cancel(self, job: str) -> list[str]:
        """The command that ends a job."""
        return [self.ends, job]

    def follow(self, jobs: Sequence[str]) -> list[str]:
        """How a user sees and ends what was submitted."""
        return [self.listing(jobs), f"{self.ends} {' '.join(jobs)}"]


class Slurm(Scheduler):
    name, submits, ends, index = "Slurm", "sbatch", "scancel", "SLURM_ARRAY_TASK_ID"

    def header(self, array: Array) -> Iterator[str]:
        s = array.settings
        throttle = f"%{s.at_once}" if s.at_once else ""
        yield f"#SBATCH --job-name={array.name}"
        yield f"#SBATCH --array={array.first}-{array.last}{throttle}"
        if s.partition:
            yield f"#SBATCH --partition={s.partition}"
        if s.account:
            yield f"#SBATCH --account={s.account}"
        yield f"#SBATCH --time={clock(array.minutes)}"
        yield f"#SBATCH --mem={array.memory_mb}M"
        yield "#SBATCH --ntasks=1"
        yield f"#SBATCH --cpus-per-task={s.cores}"
        if s.gpus:
            yield f"#SBATCH --gres=gpu:{s.gpus}"
        yield f"#SBATCH --output={array.folder}/logs/%a.log"
        yield "#SBATCH --open-mode=append"
        yield "#SBATCH --requeue"
        yield f"#SBATCH --signal=B:USR1@{array.warning}"
        for line in s.options:
            yield f"#SBATCH {line}"

    def command(self, script: Path, after: str | None) -> list[str]:
        return ["sbatch", "--parsable", *([f"--dependency=afterany:{after}"] if after else []), str(script)]

    def job_id(self, said: str) -> str:
        return str(int(said.strip().splitlines()[-1].split(";")[0]))

    def listing(self, jobs: Sequence[str]) -> str:
        return f"squeue --jobs={','.join(jobs)}"

    def check(self, array: Array) -> None:
        s = array.settings
        words = [
            "sinfo",
            "--noheader",
            "--format=%P|%l|%m|%c",
            *([f"--partition={s.partition}"] if s.partition else []),
        ]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.SubprocessError):
            return
        found = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 3]
        if not s.partition:
            found = [f for f in found if f[0].endswith("*")]
        if not found:
            if done.returncode == 0 and s.partition:
                raise SchedulerError(f"Slurm has no partition {s.partition!r}; `sinfo` lists them")
            return
        where = f"partition {found[0][0].rstrip('*')}"
        limits = [minutes(f[1]) for f in found if re.fullmatch(r"[\d:-]+", f[1])]
        limit = max((m for m in limits if isinstance(m, int)), default=None)
        if limit is not None and array.minutes > limit:
            raise ResourceError(
                f"{array.name}: a task is forecast to take {clock(array.minutes)}, {where} allows {clock(limit)}; "
                "choose another partition, or set time in [cluster]: a task that runs out of it goes on in the next"
            )
        most = max((int(re.sub(r"\D", "", f[2]) or 0) for f in found), default=0)
        if most and array.memory_mb > most:
            raise ResourceError(
                f"{array.name}: a task is forecast to need {array.memory_mb} MB, nodes of {where} have {most}; choose "
                "another partition, bin the maps, or set reconstruct.half_precision"
            )
        cores = max((int(re.sub(r"\D", "", f[3]) or 0) for f in found), default=0)
        if cores and s.cores > cores:
            raise ResourceError(
                f"{array.name}: a task asks for {s.cores} cores, nodes of {where} have {cores}; ask for fewer"
            )


class Pbs(Scheduler):
    name, submits, ends, index = "PBS", "qsub", "qdel", "row"

    def header(self, array: Array) -> Iterator[str]:
        s = array.settings
        gpus = f":ngpus={s.gpus}" if s.gpus else ""
        yield f"#PBS -N {array.name[:15]}"
        # an array of one task is refused
        yield f"#PBS -J {array.first}-{array.last}" if array.last > array.first else f"#PBS -v RECON_ROW={array.first}"
        if s.partition:
            yield f"#PBS -q {s.partition}"
        if s.account:
            yield f"#PBS -A {s.account}"
        yield f"#PBS -l select=1:ncpus={s.cores}:mem={array.memory_mb}mb{gpus}"
        yield f"#PBS -l walltime={clock(array.minutes)}"
        yield "#PBS -j oe"
        yield f"#PBS -o {array.folder}/logs/"
        yield "#PBS -r y"
        for line in s.options:
            yield f"#PBS {line}"
        yield ""
        yield "row=${PBS_ARRAY_INDEX:-$RECON_ROW}"

    def limited(self, task: str, array: Array) -> str:
        # PBS kills a few seconds after its signal, so the warning comes from the script
        return f"timeout --preserve-status -s USR1 {array.minutes * 60 - array.warning} {task}"

    def again(self) -> list[str]:
        return ["status=$?", '[ "$status" = 75 ] && qsub -v RECON_ROW="$row" "$0"', 'exit "$status"']

    def command(self, script: Path, after: str | None) -> list[str]:
        return ["qsub", *(["-W", f"depend=afterany:{after}"] if after else []), str(script)]

    def job_id(self, said: str) -> str:
        return said.strip().splitlines()[-1]

    def listing(self, jobs: Sequence[str]) -> str:
        return f"qstat -t {' '.join(jobs)}"


class Lsf(Scheduler):
    name, submits, ends, index = "LSF", "bsub", "bkill", "LSB_JOBINDEX"

    def header(self, array: Array) -> Iterator[str]:
        s = array.settings
        throttle = f"%{s.at_once}" if s.at_once else ""
        yield f"#BSUB -J {array.name}[{array.first}-{array.last}]{throttle}"
        if s.partition:
            yield f"#BSUB -q {s.partition}"
        if s.account:
            yield f"#BSUB -P {s.account}"
        yield f"#BSUB -W {array.minutes // 60}:{array.minutes % 60:02d}"
        yield f"#BSUB -n {s.cores}"
        yield '#BSUB -R "span[hosts=1]"'
        yield f"#BSUB -M {array.memory_mb}MB"
        if s.gpus:
            yield f'#BSUB -gpu "num={s.gpus}"'
        yield f"#BSUB -o {array.folder}/logs/%I.log"
        yield "#BSUB -r"
        yield '#BSUB -Q "75"'
        yield f"#BSUB -wt {max(1, array.settings.warning // 60)} -wa USR1"
        for line in s.options:
            yield f"#BSUB {line}"

    def command(self, script: Path, after: str | None) -> list[str]:
        words = ["bsub", *(["-w", f"ended({after})"] if after else [])]
        return ["bash", "-c", f"{shlex.join(words)} < {shlex.quote(str(script))}"]

    def job_id(self, said: str) -> str:
        return str(re.findall(r"<(\d+)>", said)[0])

    def listing(self, jobs: Sequence[str]) -> str:
        return f"bjobs -A {' '.join(jobs)}"


SCHEDULERS: dict[str, Scheduler] = {"slurm": Slurm(), "pbs": Pbs(), "lsf": Lsf()}


def clock(total: int) -> str:
    """Minutes as hours, minutes and seconds."""
    return f"{total // 60}:{total % 60:02d}:00"


def _ask(words: Sequence[str], refused: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as exc:
        raise SchedulerError(
            f"{words[0]} is not found; submit from a login node, name another --scheduler, or only write with --dry-run"
        ) from exc
    except (OSError, subprocess.SubprocessError) as exc:
        raise SchedulerError(f"{words[0]} does not answer ({exc}); try again later") from exc
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        raise SchedulerError(f"{refused}: {said}")
    return done.stdout


def memory_of(settings: Settings) -> int | None:
    """MB that were asked for, if they were."""
    value = size(settings.memory) if isinstance(settings.memory, str) else settings.memory
    return None if isinstance(value, str) else -(-value // 2**20)


__all__ = ["SCHEDULERS", "Array", "Lsf", "Pbs", "Scheduler", "Slurm", "clock", "memory_of"]
