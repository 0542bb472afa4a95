"""Where progress goes: log lines for files and batch jobs, a live line on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from recon.solvers import Record


@dataclass
class Watcher:
    """Where progress goes: `log` gets a line per stage, `step` every check of a solver.

    `tolerance` is the gap that the solver is heading for.
    """

    log: Callable[[str], None] = field(default=lambda line: None)
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
    """The live line of a command, see `recon.solvers.progress`; lines of the log go above it."""

    def __enter__(self) -> Watcher:
        from recon.solvers.progress import LiveLine

        self.line = LiveLine().__enter__()
        self.watch = Watcher(self.line.log, self.step)
        return self.watch

    def __exit__(self, *exc: object) -> None:
        self.line.__exit__(*exc)

    def step(self, element: str, record: Record) -> None:
        self.line.tolerance = self.watch.tolerance
        self.line.step(element, record)
