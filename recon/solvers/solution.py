"""What a solver returns: the value, why it stopped, and the record of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from recon.backend import Array


class Status(Enum):
    """Why a solver stopped; the text tells the user what it means."""

    CONVERGED = "certified: the relative gap is below the tolerance"
    MAX_ITERATIONS = (
        "not certified: max_iterations was reached first; raise max_iterations or the tolerance, or take it as it is"
    )
    INTERRUPTED = "not converged: stopped by the user"
    FIXED = "done: this method runs a fixed number of iterations and has no certificate"


@dataclass(frozen=True)
class Record:
    """One line of a solver's history.

    Attributes:
        iteration: iterations done.
        objective: ``D + R`` of the current value.
        gap: certified relative gap: no value is better by more than ``gap * objective``. NaN if none.
        seconds: since the start.
    """

    iteration: int
    objective: float
    gap: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of a reconstruction.

    Attributes:
        value: ``(z, x, y)`` float32, the solver's layout.
        status: see `Status`.
        iterations: done.
        history: one `Record` per check.
        parameters: strengths, step sizes, bounds: what determined the result.
    """

    value: Array
    status: Status
    iterations: int
    history: list[Record]
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> float:
        return self.history[-1].objective if self.history else float("nan")

    @property
    def gap(self) -> float:
        return self.history[-1].gap if self.history else float("nan")


@dataclass(frozen=True, eq=False)
class State:
    """What an iterative solver goes on from, to the bit on the same kind of device.

    Attributes:
        arrays: by name, NumPy or CuPy; a mapping may read them from a file one by one.
        numbers: by name; Python numbers or None.
        history: one `Record` per check so far.
    """

    arrays: Mapping[str, Array]
    numbers: Mapping[str, Any]
    history: Sequence[Record]


class Resumable(Protocol):
    """A solver that can be stopped between two iterations and go on from there."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


Callback = Callable[[Record], None]
Control = Callable[[Resumable], bool]  # asked between two iterations; True: stop here
