"""A live line on a terminal or in a notebook: what a solver works on, its certified gap, and the time left."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.series.volume import Record

Step = Callable[[str, "Record"], None]


class LiveLine:
    """A live line of each element at work: iteration, certified gap and time left; use it as a context manager.

    Attributes:
        tolerance: the gap that the solver is heading for.
    """

    def __init__(self, tolerance: float = 1e-2) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.tolerance = tolerance
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.tasks: dict[str, Any] = {}
        self._thread: dict[str, threading.Thread] = {}  # where an element is at work
        self._lock = threading.Lock()
        self.history: dict[str, list[Record]] = {}

    def __enter__(self) -> LiveLine:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def log(self, line: str) -> None:
        """A line above it."""
        self.bar.console.print(line, highlight=False, markup=False)

    def step(self, element: str, record: Record) -> None:
        """What a solver reports at every check; from several threads, where elements are at work side by side."""
        with self._lock:
            self._step(element, record)

    def _step(self, element: str, record: Record) -> None:
        if element not in self.tasks:
            self._remove_finished()
            self.tasks[element] = self.bar.add_task(element, total=1.0, state="")
        self._thread[element] = threading.current_thread()
        history = self.history.get(element, [])
        if history and record.iteration <= history[-1].iteration:  # another reconstruction of the element
            history = []
        self.history[element] = history = [*history, record]
        done, left = forecast(history, self.tolerance)
        gap = f", gap {record.gap:.1e}" if math.isfinite(record.gap) else ""
        text = f"iteration {record.iteration}{gap}" + ("" if left is None else f", {left:.0f} s left")
        self.bar.update(self.tasks[element], completed=done, state=text)

    def _remove_finished(self) -> None:
        """The lines of elements that have converged, or whose thread works on another one now or has ended."""
        for element in list(self.tasks):
            thread = self._thread[element]
            if (
                thread is threading.current_thread()
                or not thread.is_alive()
                or self.history[element][-1].gap <= self.tolerance
            ):
                self.bar.remove_task(self.tasks.pop(element))


@contextlib.contextmanager
def watching(progress: Step | bool | None, tolerance: float = 1e-2) -> Iterator[Step | None]:
    """What a solver shall report to: a function as it is, True for a live line, None or False for nothing."""
    if progress is True:
        with LiveLine(tolerance) as line:
            yield line.step
    else:
        yield progress or None


def forecast(history: Sequence[Record], tolerance: float) -> tuple[float, float | None]:
    """Part done and seconds left, from the trend of the logarithm of the gap; None while unknown."""
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
