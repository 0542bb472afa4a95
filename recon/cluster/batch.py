"""Many jobs on one machine: processes side by side, one a GPU or with a share of the cores each.

Each job is one process. The last ones, which are fewer than processes and would leave some idle, are run in parts: the
alignment, then the elements side by side, then the folder of results. Processes tell how much memory they will take and
start when that is free.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import click

from recon.cluster.leash import GO
from recon.cluster.machine import shares
from recon.cluster.show import Show, show
from recon.cluster.summary import Row, rows_of, table, write_csv
from recon.cluster.units import State, Task, Unit, names_of, recon_command
from recon.errors import ReconError

FAILED, KEPT, SUSPENDED, STOPPED = 2, 3, 75, 130  # exit statuses of `recon run`


@dataclass(frozen=True)
class Options:
    """How the jobs of a batch are run; the names are those of ``recon run``."""

    out: Path | None = None
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Child:
    """A process at work."""

    unit: Unit
    task: Task
    share: int
    process: subprocess.Popen[str]
    needs: int | None = None  # bytes, once it has said so
    free: int = 0
    admitted: bool = False


class Batch:
    """The jobs of one call and the processes that run them.

    Args:
        jobs: job files.
        options: see `Options`.
        workers: processes side by side; by default one for each GPU, or where there is none for each core.

    Raises:
        JobError: results would have the same name.
    """

    def __init__(self, jobs: Sequence[str], options: Options, workers: int | None = None) -> None:
        self.options = options
        self.tasks = [Task(job) for job in jobs]
        self.names = names_of(jobs)
        self._plan(workers)
        self.idle = list(range(len(self.shares)))
        self.children: list[Child] = []
        self.events: queue.Queue[tuple[Child, str, str]] = queue.Queue()
        self.wish: int | None = None  # the signal that asked to end

    def _plan(self, workers: int | None) -> None:
        """Read the job files, and decide what is run in parts."""
        from recon.job.file import load_job

        for task, name in zip(self.tasks, self.names, strict=True):
            try:
                job = load_job(task.job, changes=self.options.changes)
                out = self.options.out
                task.out = job.output_dir if out is None else (out / f"{name}-recon" if len(self.tasks) > 1 else out)
                task.elements, task.together = job.elements, job.reconstruct.coupling != "none"
            except ReconError as exc:
                self._failed(task, FAILED, str(exc))
        able = [t for t in self.tasks if t.state is State.WAITING]
        self.shares = shares(workers, self.options.device, sum(len(t.elements) for t in able))
        whole = len(able) - len(able) % len(self.shares)
        for k, task in enumerate(able):
            task.split = k >= whole and len(task.elements) > 1 and not task.together
            unit = Unit(task.job, out=task.out, changes=self.options.changes)
            task.waiting = [replace(unit, stage="align") if task.split else unit]

    # ------------------------------------------------------------ processes

    def run(self, view: Show) -> int:
        """Run all; returns the exit status, the worst of theirs."""
        self.view = view
        for task in self.tasks:
            if task.said:
                view.log(f"error: {task.said}")
        with _signals(self):
            while self.children or (self.wish is None and any(t.waiting for t in self.tasks)):
                if self.wish is None:
                    self._start()
                self._admit()
                view.update(self.tasks)
                try:
                    child, kind, line = self.events.get(timeout=0.5)
                except queue.Empty:
                    continue
                self._heard(child, kind, line)
        if self.wish is not None:
            for task in self.tasks:
                if task.waiting:
                    task.state = State.STOPPED if task.state is State.RUNNING else task.state
                    task.status = max(task.status, STOPPED if self.wish == signal.SIGINT else SUSPENDED)
        view.update(self.tasks)
        worst = [t.status for t in self.tasks]
        # what Ctrl-C kept is told before what it did not begin
        return KEPT if KEPT in worst and FAILED not in worst else max(worst, default=0)

    def _start(self) -> None:
        """Give every idle share the next unit: of jobs under way first, so that they end early."""
        while self.idle:
            ready = [t for t in self.tasks if t.waiting]
            if not ready:
                return
            task = max(ready, key=lambda t: t.state is not State.WAITING)
            unit = task.waiting.pop(0)
            share = self.idle.pop(0)
            if task.state is State.WAITING:
                task.state, task.began = State.RUNNING, time.monotonic()
            task.running += 1
            self.children.append(self._child(unit, task, share))

    def _child(self, unit: Unit, task: Task, share: int) -> Child:
        o = self.options
        words = [*recon_command(), *unit.arguments(), "--device", o.device, "--leash"]
        words += ["--resume"] * o.resume + ["--overwrite"] * o.overwrite
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=os.environ | self.shares[share], start_new_session=True,
        )  # fmt: skip
        child = Child(unit, task, share, process)
        threading.Thread(target=self._listen, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: Child) -> None:
        """Pass on what a process says, until it ends."""

        def read_asked() -> None:
            for line in child.process.stdout or ():
                self.events.put((child, "asked", line))

        asked = threading.Thread(target=read_asked, daemon=True)
        asked.start()
        for line in child.process.stderr or ():
            self.events.put((child, "said", line.rstrip("\n")))
        asked.join()
        child.process.wait()
        self.events.put((child, "ended", ""))

    def _admit(self) -> None:
        """Let those go on whose memory is free beside what the others were promised; one at least."""
        on_host = self.shares and "CUDA_VISIBLE_DEVICES" not in self.shares[0]
        for child in self.children:
            if child.needs is None or child.admitted:
                continue
            beside = [c for c in self.children if c.admitted and (on_host or c.share == child.share)]
            promised = sum(c.needs or 0 for c in beside)
            # what those beside it have taken already is not free any more, so this is on the safe side
            if not beside or promised + child.needs <= max(child.free, promised):
                child.admitted = True
                self._tell(child, GO)

    def _tell(self, child: Child, line: str) -> None:
        try:
            assert child.process.stdin is not None
            child.process.stdin.write(line + "\n")
            child.process.stdin.flush()
        except OSError:
            pass  # it has ended, and is heard of soon

    def _heard(self, child: Child, kind: str, line: str) -> None:
        task = child.task
        if kind == "asked":
            try:
                asked = json.loads(line)
                child.needs, child.free = int(asked["needs"]), int(asked["free"])
            except (ValueError, KeyError, TypeError):
                self.view.log(line.rstrip("\n"))
        elif kind == "said":
            if line.startswith("error: "):
                task.said = line.removeprefix("error: ")
            self.view.said(child.unit, line)
        else:
            self._ended(child)

    def _ended(self, child: Child) -> None:
        self.children.remove(child)
        self.idle.append(child.share)
        self.idle.sort()
        task, status = child.task, child.process.returncode
        for pipe in (child.process.stdin, child.process.stdout, child.process.stderr):
            if pipe is not None:
                pipe.close()
        task.running -= 1
        task.seconds = time.monotonic() - task.began
        if status < 0:
            name = signal.Signals(-status).name
            task.said = (
                f"{child.unit.name}: its process was killed ({name}), perhaps for want of memory; see the log of "
            )
            task.said += "the system, and run it again with --resume"
            self.view.log(f"error: {task.said}")
            status = FAILED
        if status:
            task.status = max(task.status, status)
            task.waiting.clear()
            task.state = State.FAILED if status == FAILED else State.STOPPED
        elif task.status == 0:
            self._next(child.unit, task)

    def _next(self, unit: Unit, task: Task) -> None:
        """What comes after a part that was done."""
        if unit.stage == "align":
            task.waiting = [replace(unit, stage="element", element=name) for name in task.elements]
        elif unit.stage == "element" and task.over:
            task.waiting = [replace(unit, stage="finish", element="")]
        elif task.over:
            task.state = State.DONE

    def _failed(self, task: Task, status: int, said: str) -> None:
        task.status, task.state = status, State.FAILED
        task.said = said if said.startswith(task.job) else f"{task.job}: {said}"

    # ------------------------------------------------------------ the end

    def stop(self, number: int, frame: FrameType | None = None) -> None:
        """Pass a signal on to all processes, and begin nothing new."""
        self.wish = number
        for child in list(self.children):
            try:
                child.process.send_signal(number)
            except OSError:
                continue

    def rows(self) -> list[Row]:
        """The table of the batch: one line for each element of each job."""
        out: list[Row] = []
        for task in self.tasks:
            out += rows_of(
                task.job,
                task.out,
                task.elements,
                state=task.state.value,
                changes=self.options.changes,
                message=task.said,
            )
        return out


@contextlib.contextmanager
def _signals(batch: Batch) -> Iterator[None]:
    """Signals of this process go to its children."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                number = getattr(signal, name)
                before[number] = signal.signal(number, batch.stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def run_batch(jobs: Sequence[str], options: Options, workers: int | None = None, summary: Path | None = None) -> int:
    """Run jobs side by side, with a live table on a terminal and log lines elsewhere, and write their table.

    Args:
        jobs: job files.
        options: see `Options`.
        workers: see `Batch`.
        summary: CSV file; by default ``recon-summary.csv``, in the folder for all results if one was named.

    Returns:
        The exit status: the worst of the jobs'.
    """
    try:
        batch = Batch(jobs, options, workers)
    except ReconError as exc:
        click.echo(f"error: {exc}", err=True)
        return FAILED
    with show() as view:
        status = batch.run(view)
    rows = batch.rows()
    path = summary or (options.out or Path()) / "recon-summary.csv"
    for line in table(rows):
        click.echo(line, err=True)
    try:
        write_csv(rows, path)
        click.echo(f"table: {path}", err=True)
    except ReconError as exc:
        click.echo(f"error: {exc}", err=True)
        status = max(status, FAILED)
    done = sum(t.state is State.DONE for t in batch.tasks)
    click.echo(f"{done} of {len(batch.tasks)} jobs finished", err=True)
    return status


__all__ = ["Batch", "Options", "run_batch"]
