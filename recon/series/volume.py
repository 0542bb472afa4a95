"""One element in three dimensions, and how it was computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from enum import Enum

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
class Volume:
    """One element's density.

    Attributes:
        values: ``(z, y, x)`` float32, counts per voxel length per unit exposure.
        voxel_size_nm: edge of a voxel, nm.
        element: name.
        solution: how it was computed and why it stopped (see `recon.solvers.Solution`), or None.
    """

    values: NDArray[np.float32]
    voxel_size_nm: float
    element: str
    solution: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Volume({self.element}, {self.values.shape} voxels of {self.voxel_size_nm:g} nm)"
