"""When a checkpoint may be written."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 1 / 60  # of the time may go into checkpoints, see benchmarks/checkpoint.py
SHORTEST = 10.0  # seconds of work that a checkpoint has to save
PROBE = 1 << 22  # bytes that are written to see how fast the disk is


class Schedule:
    """When a checkpoint may be written, so that all of an element take at most `share` of its time.

    How long one will take is judged by the last one, of any element; before the first a few MiB are written to see.
    Elements may be at work side by side, and a write of one saves nothing of another's work.
    """

    def __init__(self, probe: Callable[[], float], share: float = SHARE, shortest: float = SHORTEST) -> None:
        self._probe, self.share, self.shortest = probe, share, shortest
        self._rate: float | None = None  # bytes a second
        self._begun = time.perf_counter()
        self._since: dict[str, float] = {}  # the last write, or where the element began
        self._next: dict[str, float] = {}

    def begin(self, element: str) -> None:
        """Count an element's work from here."""
        self._since[element] = time.perf_counter()
        self._next[element] = self._since[element] + self.shortest

    def early(self, element: str = "") -> bool:
        """True while nothing is due whatever its size; cheap, for every iteration."""
        return time.perf_counter() < self._next.get(element, self._begun + self.shortest)

    def due(self, n_bytes: int, work: float | None = None, element: str = "") -> bool:
        """Whether to write `n_bytes` that save `work` seconds, by default those since the element's last ones."""
        since, since_last = self._since.get(element, self._begun), work is None
        work = time.perf_counter() - since if work is None else work
        if work < self.shortest:
            return False
        if self._rate is None:
            self._rate = self._probe()
        worth = n_bytes / self._rate / self.share
        if since_last:
            self._next[element] = since + max(worth, self.shortest)
        return work >= worth

    def wrote(self, n_bytes: int, seconds: float, element: str = "") -> None:
        """Learn from a write; small ones tell nothing of the disk's speed."""
        if n_bytes >= PROBE:
            self._rate = n_bytes / max(seconds, 1e-6)
        self.begin(element)
