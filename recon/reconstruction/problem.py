"""One element of a series as a problem for a solver: grid, operator, data term, and the same on coarser grids."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from recon.model.assembly import make_data_term, make_operator, reachable
from recon.model.grid import Grid, grid
from recon.operators import Operator
from recon.series.binning import binned
from recon.series.tilt_series import TiltSeries
from recon.solvers.data_terms import DataTerm
from recon.solvers.pdhg import PrimalDual
from recon.solvers.sirt import sirt

if TYPE_CHECKING:
    from recon.backend import Array

SMALLEST_FRAME = 16  # pixels, of the coarsest grid
COARSE_ITERATIONS = 150


@dataclass(frozen=True)
class Options:
    """How a problem is to be solved; the names are those of `recon.reconstruct`'s arguments."""

    data_term: str = "poisson"
    thickness: int | str = "auto"
    projector: str = "auto"
    device: str = "cpu"
    half_precision: bool = False


@dataclass(frozen=True)
class Problem:
    """One element of a series on its grid: what a solver gets, and how to make it coarser.

    Attributes:
        series: aligned and normalised.
        element: its name.
        where: the grid.
        operator, data: ``A``, and the data term without pixels that no voxel reaches.
    """

    series: TiltSeries
    element: str
    where: Grid
    operator: Operator
    data: DataTerm
    options: Options

    @classmethod
    def of(cls, series: TiltSeries, element: str, **how: Any) -> Problem:
        """The problem of one element; `how` holds fields of `Options`."""
        options = Options(**how)
        where = grid(series, options.thickness)
        data = make_data_term(series, element, options.data_term, options.device)
        operator = make_operator(series, where.shape, data.counts, options.projector)
        return cls(series, element, where, operator, reachable(data, operator), options)

    def coarser(self, factor: int) -> Problem:
        """The same problem with maps and volume binned by `factor`."""
        small, bins = binned(self.series, factor)
        small = small.evolve(alignment=bins.down(self.series.alignment))
        options = self.options
        if options.thickness != "auto":
            options = replace(options, thickness=max(1, round(int(options.thickness) / factor)))
        return replace(self, options=options).on(small)

    def on(self, series: TiltSeries) -> Problem:
        """The same problem for another series of the element."""
        return Problem.of(series, self.element, **asdict(self.options))

    def solver_from(self, start: Array | None, regulariser: str, a1: float, a0: float) -> PrimalDual:
        """A solver that starts from a volume ``(z, x, y)``, or from nothing."""
        return PrimalDual(
            self.operator,
            self.data,
            regulariser=regulariser,
            a1=a1,
            a0=a0,
            start=start,
            half_precision=self.options.half_precision,
        )

    def solver(self, regulariser: str, a1: float, a0: float) -> PrimalDual:
        """A solver that starts from a few iterations of SIRT."""
        guess = sirt(self.operator, self.data, iterations=10).value
        return self.solver_from(guess, regulariser, a1, a0)

    def coarse_to_fine(self, regulariser: str, a1: float, a0: float, tolerance: float) -> PrimalDual:
        """A solver that starts from the solution at half the size, which starts likewise.

        The coarse grid gives the large parts of the object at an eighth of the cost; the fine one adds the
        rest. There, ``a1 / 2`` and ``a0 / 4`` weigh the same object alike.
        """
        if min(self.series.frame) < 2 * SMALLEST_FRAME:
            return self.solver(regulariser, a1, a0)
        coarse = self.coarser(2).coarse_to_fine(regulariser, a1 / 2, a0 / 4, tolerance)
        coarse.run(tolerance, COARSE_ITERATIONS)
        coarse.release()
        solver = self.solver_from(None, regulariser, a1, a0)
        solver.continue_from(coarse, 2)
        return solver
