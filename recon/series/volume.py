"""One element in three dimensions, and how it was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.backend import Array
from recon.errors import InputError
from recon.files import Number
from recon.series.pictures import in_a_row

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from recon.series.settings import Settings


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
        objective: ``D + R`` of the current value. NaN if none.
        gap: certified relative gap: no value is better by more than ``gap * objective``. NaN if none.
        seconds: since the start.
    """

    iteration: int
    objective: Number
    gap: Number
    seconds: float


@dataclass(frozen=True)
class StrengthChoice:
    """A strength that was found from the data, and how.

    Where the held-out error is least is weighed against what holds in general, `unit`, and so is its standard error:
    strength and interval lie nearer to `unit` than the least of `error`, and may not hold it.

    Attributes:
        strength: a1.
        interval: one standard error to each side, of what the split adds, not of bias.
        unit: a1 of factor 1: the noise in the gradient of the data term and, of counts, what the model adds to it.
        factors: tried, ascending.
        error: held-out error at each factor, with the noise in it, a constant.
        split: ``"thinned counts"``, ``"odd and even tilts"``, or ``"rule"`` where there was no search.
        iterations: spent, in iterations of the whole problem.
    """

    strength: float
    interval: tuple[float, float]
    unit: float
    factors: tuple[float, ...]
    error: tuple[float, ...]
    split: str
    iterations: float


@dataclass(frozen=True)
class Parameters:
    """The numbers a primal-dual run ended with.

    Attributes:
        a1, a0: strengths of the regulariser.
        scheme: ``"relaxed"`` or ``"plain"``.
        upper: bound on u in the certificate.
        operator_norm: ``|s A|``, of PDHG in the metric of its steps (`recon.solvers.ramp`).
        primal_weight, share: see `recon.solvers.PrimalDual`.
        coarse_iterations: what the start cost on coarser grids, in iterations on this one.
        windows, block: slabs that the volume was worked on in, and iterations on each at a time, where memory did not
            hold it as a whole.
    """

    a1: float
    a0: float
    scheme: str
    upper: Number
    operator_norm: float
    primal_weight: float
    share: float
    coarse_iterations: float
    windows: int = 1
    block: int = 1


@dataclass(frozen=True)
class Coupling:
    """How elements were reconstructed together.

    Attributes:
        norm: ``"frobenius"`` or ``"nuclear"``; ``"none"`` where each alone was found best.
        channels: names, of elements and of the image that was recorded with them.
        tried: where it was chosen from the data, norms to the change of each element's held-out error by coupling, in
            its standard error.
    """

    norm: str
    channels: tuple[str, ...]
    tried: dict[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of a solver.

    Attributes:
        value: ``(z, x, y)`` float32, the solver's layout; in a `Volume` None where its values are all of it.
        status: see `Status`.
        iterations: done.
        history: one `Record` per check.
        parameters: of a primal-dual run, else None.
        settings: what was asked for; None of a bare solver.
        choice: how the strength was found; None where it was given.
        coupling: of elements that were reconstructed together: then `history` is that of all of them.
    """

    value: Array | None
    status: Status
    iterations: int
    history: Sequence[Record]
    parameters: Parameters | None = None
    settings: Settings | None = None
    choice: StrengthChoice | None = None
    coupling: Coupling | None = None

    @property
    def together(self) -> bool:
        """Whether other channels had a part in it."""
        return self.coupling is not None and self.coupling.norm != "none"

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
        solution: how it was computed and why it stopped; None of a volume that was read or made otherwise.
        notes: what else to tell with it, by subject: the alignment, and what was done to the series.

    ``numpy.asarray(volume)`` is its values.
    """

    values: NDArray[np.float32]
    voxel_size_nm: float
    element: str
    solution: Solution | None = field(default=None, repr=False)
    notes: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(z, y, x)`` voxels."""
        return self.values.shape

    @property
    def made(self) -> Solution:
        """`solution` of a volume that `recon.reconstruct` made.

        Raises:
            InputError: it was not made here.
        """
        if self.solution is None:
            raise InputError(f"the volume of {self.element} was not reconstructed here, so nothing is known of how")
        return self.solution

    @property
    def solved(self) -> NDArray[np.float32]:
        """The volume that was solved for ``(z, x, y)``, of which `values` may be a part."""
        full = None if self.solution is None else self.solution.value
        return np.ascontiguousarray(self.values.swapaxes(1, 2) if full is None else full, dtype=np.float32)

    def masked(self, inside: NDArray[np.bool_]) -> Volume:
        """The same with 0 outside `inside` ``(z, y, x)``."""
        return replace(self, values=np.where(inside, self.values, np.float32(0)))

    @property
    def provenance(self) -> dict[str, str]:
        """How it was made, in words, for the metadata of a file: method, strength, gap, alignment, version."""
        out = {"program": f"recon {__version__}", "element": self.element, "unit": UNIT}
        s = self.solution
        if s is not None:
            if s.settings is not None:
                out["method"] = s.settings.method + (f", {s.settings.data_term}" if s.settings.certified else "")
            if s.parameters is not None:
                how = "as given" if s.choice is None else s.choice.split
                out["strength"] = f"a1 {s.parameters.a1:.6g}, a0 {s.parameters.a0:.6g} ({how})"
            if s.coupling is not None and s.together:
                out["coupling"] = f"{s.coupling.norm} norm, with {', '.join(s.coupling.channels)}"
            out["status"] = s.status.value
            out["iterations"] = str(s.iterations)
            out["certified relative gap"] = f"{s.gap:.3g}" if np.isfinite(s.gap) else "none"
        return {**out, **self.notes}

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.values.dtype:
            raise ValueError(f"values of type {self.values.dtype} cannot be had as {np.dtype(dtype)} without a copy")
        return np.array(self.values, dtype=dtype, copy=True) if copy else np.asarray(self.values, dtype=dtype)

    def __repr__(self) -> str:
        said = ""
        if self.solution is not None:
            gap = f", gap {self.solution.gap:.2g}" if np.isfinite(self.solution.gap) else ""
            said = f"; {_SHORT[self.solution.status]} after {self.solution.iterations} iterations{gap}"
        return f"Volume({self.element}, {self.values.shape} voxels of {self.voxel_size_nm:g} nm{said})"

    def _repr_html_(self) -> str:
        """For notebooks: planes across z, y and x through the middle."""
        middle = [n // 2 for n in self.values.shape]
        planes = [self.values[middle[0]], self.values[:, middle[1]], self.values[:, :, middle[2]].T]
        return in_a_row(repr(self), planes)


def by_element(volumes: Mapping[str, Volume] | Volume) -> Mapping[str, Volume]:
    """Volumes by the name of their element; one volume by itself serves, too.

    Raises:
        InputError: it is neither.
    """
    if isinstance(volumes, Volume):
        return {volumes.element: volumes}
    if not isinstance(volumes, Mapping) or not all(isinstance(v, Volume) for v in volumes.values()):
        raise InputError(
            f"volumes are a Volume or a table of these by element, as recon.reconstruct returns them, not a "
            f"{type(volumes).__name__}"
        )
    return volumes


UNIT = "counts per voxel length per unit exposure"
_SHORT = {
    Status.CONVERGED: "converged",
    Status.MAX_ITERATIONS: "NOT converged",
    Status.INTERRUPTED: "NOT converged, stopped",
    Status.FIXED: "done",
}
