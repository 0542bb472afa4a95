"""What a batch shows while it runs: a live table on a terminal, log lines elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import click

from recon.cluster.units import State, Task, Unit

if TYPE_CHECKING:
    from rich.table import Table


AT_MOST = 30  # rows of the live table
STAMP = re.compile(r"^ *\d+\.\d s  ")  # of a log line


class Show(Protocol):
    """Where a batch tells what happens."""

    def update(self, tasks: Sequence[Task]) -> None:
        """How far every job has come."""

    def said(self, unit: Unit, line: str) -> None:
        """A line of a process."""

    def log(self, line: str) -> None:
        """A line of the batch."""


def show() -> AbstractContextManager[Show]:
    return Live() if sys.stderr.isatty() else Lines()


class Lines:
    """Lines of all processes on stderr, by one clock, each under the name of what it is about."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def update(self, tasks: Sequence[Task]) -> None:
        return None

    def said(self, unit: Unit, line: str) -> None:
        found = STAMP.match(line)
        if found is not None:
            text = line[found.end() :].removeprefix(f"{unit.element}: ")
            line = f"{time.monotonic() - self.start:7.1f} s  {unit.name}: {text}"
        click.echo(line, err=True)

    def log(self, line: str) -> None:
        click.echo(line, err=True)


class Live:
    """A table on a terminal: every job, its state, what its processes said last."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.console = Console(stderr=True)
        self.live = RichLive(console=self.console, transient=True, refresh_per_second=4)
        self.last: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Live:
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.live.stop()

    def update(self, tasks: Sequence[Task]) -> None:
        self.live.update(self._table(tasks))

    def _table(self, tasks: Sequence[Task]) -> Table:
        from rich.table import Table
        from rich.text import Text

        counts = {s: sum(t.state is s for t in tasks) for s in State}
        title = ", ".join(f"{n} {s.value}" for s, n in counts.items() if n)
        out = Table("job", "state", "time", "last said", title=title, title_justify="left", expand=True)
        colour = {State.RUNNING: "cyan", State.DONE: "green", State.FAILED: "red", State.STOPPED: "yellow"}
        order = [State.RUNNING, State.FAILED, State.STOPPED, State.WAITING, State.DONE]
        for task in sorted(tasks, key=lambda t: order.index(t.state))[:AT_MOST]:
            seconds = time.monotonic() - task.began if task.state is State.RUNNING else task.seconds
            said = "\n".join(self.last.get(task.job, {}).values()) if task.state is State.RUNNING else task.said
            clock = f"{seconds / 60:.1f} min" if seconds else ""
            out.add_row(task.job, Text(task.state.value, colour.get(task.state, "")), clock, Text(said))
        if len(tasks) > AT_MOST:
            out.add_row(f"and {len(tasks) - AT_MOST} more", "", "", "")
        return out

    def said(self, unit: Unit, line: str) -> None:
        text = STAMP.sub("", line)
        last = self.last.setdefault(unit.job, {})
        if unit.stage == "element":
            last.pop("", None)
        last[unit.element] = text
        if line.startswith("error: ") or text.startswith("warning: "):
            self.log(line if line.startswith("error: ") else f"{unit.name}: {text}")

    def log(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


__all__ = ["Lines", "Live", "Show", "show"]
