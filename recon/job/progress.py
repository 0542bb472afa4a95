"""Where progress goes: log lines for files and batch jobs, a live line on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from recon.job.inputs import Log
    from recon.solvers import Record


@dataclass
class Watcher:
    """Where progress goes: `log` gets a line per stage, `step` every check of a solver.

    `tolerance` is the gap that the solver is heading for.
    """

    log: Log = field(default=lambda line: None)
    step: Callable[[str, Record], None] = field(default=lambda element, record: None)
    tolerance: float = 1e-2


def progress() -> AbstractContextManager[Any]:
    return Bar() if sys.stderr.isatty() else Lines()


class Lines:
    """Plain log lines on stderr, for files and batch jobs; a solver reports every few seconds."""

    def __init__(self, every: float = 5.0) -> None:
        self.start, self.last, self.every = time.perf_counter(), 0.0, every

    def __enter__(self) -> Watcher:
        return Watcher(self.log, self.step)

    def __exit__(self, *exc: object) -> None:
        return None

    def log(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a log on a full disk is no reason to end a run
            click.echo(f"{time.perf_counter() - self.start:7.1f} s  {line}", err=True)

    def step(self, element: str, record: Record) -> None:
        if time.perf_counter() - self.last >= self.every:
            self.last = time.perf_counter()
            self.log(f"{element}: iteration {record.iteration}, objective {record.objective:.6g}, gap {record.gap:.2g}")


class Bar:
    """A live line on a terminal: element, iteration, certified gap and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.task: Any = None
        self.element = ""
        self.history: list[Record] = []

    def __enter__(self) -> Watcher:
        self.bar.start()
        self.watch = Watcher(self.log, self.step)
        return self.watch

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.bar.stop()

    def log(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False)

    def step(self, element: str, record: Record) -> None:
        if element != self.element:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(element, total=1.0, state="")
            self.element, self.history = element, []
        self.history.append(record)
        done, left = forecast(self.history, self.watch.tolerance)
        text = f"iteration {record.iteration}, gap {record.gap:.1e}" + ("" if left is None else f", {left:.0f} s left")
        self.bar.update(self.task, completed=done, state=text)


def forecast(history: list[Record], tolerance: float) -> tuple[float, float | None]:
    """Part done and seconds left, from the trend of the logarithm of the gap; None while unknown."""
    import math

    seen = [r for r in history if r.gap > 0]
    if len(seen) < 2 or not math.isfinite(seen[-1].gap):
        return 0.0, None
    first, last = seen[max(0, len(seen) - 6)], seen[-1]
    drop = math.log(first.gap / last.gap)
    done = min(1.0, math.log(max(seen[0].gap / last.gap, 1.0)) / max(math.log(seen[0].gap / tolerance), 1e-9))
    if drop <= 0:
        return max(done, 0.0), None
    rate = drop / max(last.seconds - first.seconds, 1e-9)
    return max(done, 0.0), max(0.0, math.log(last.gap / tolerance) / rate)
