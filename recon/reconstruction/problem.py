"""One element of a series as a problem for a solver: grid, operator, data term, and the same on coarser grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recon.errors import ResourceError
from recon.model.assembly import make_data_term, make_operator, reachable, seeing
from recon.model.grid import Grid, grid
from recon.operators import Operator
from recon.operators.windows import WindowedProjector
from recon.parallel import ALONE, HALO, Ranks, Slab, rows_of, slab_of
from recon.series.binning import binned
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.solvers.data_terms import DataTerm
from recon.solvers.memory import Streaming, needed, streaming
from recon.solvers.pdhg import PrimalDual
from recon.solvers.resident import place
from recon.solvers.sirt import sirt
from recon.solvers.streaming import StreamedPrimalDual

if TYPE_CHECKING:
    from recon.backend import Array

SMALLEST_FRAME = 16  # pixels, of the coarsest grid
COARSE_ITERATIONS = 150


@dataclass(frozen=True)
class Problem:
    """One element of a series on its grid: what a solver gets, and how to make it coarser.

    Attributes:
        series: aligned and normalised.
        element: its name.
        where: the grid.
        operator, data: ``A``, and the data term without pixels that no voxel reaches.
        settings: how it is to be solved.
        device: ``"cpu"`` or ``"cuda"``.
        ranks: that share the volume by slices; then operator and data are this rank's part.
        streaming: how it is worked on where the memory that it may take does not hold it.
        slices: of a part in the middle, which is all that is solved for; None for all of them.
    """

    series: TiltSeries
    element: str
    where: Grid
    operator: Operator
    data: DataTerm
    settings: Settings
    device: str
    ranks: Ranks = ALONE
    streaming: Streaming | None = None
    slices: int | None = None

    @classmethod
    def of(
        cls,
        series: TiltSeries,
        element: str,
        settings: Settings | None = None,
        device: str = "cpu",
        ranks: Ranks = ALONE,
        slices: int | None = None,
        **options: Any,
    ) -> Problem:
        """The problem of one element; `options` are fields of `Settings`, in place of them or beside them."""
        settings = replace(settings or Settings(), **options)
        where = grid(series, settings.thickness)
        if slices is not None:
            (nz, _, nx), (_, mx) = where.shape, where.margin
            where, series = Grid((nz, slices, nx), (0, mx)), seeing(series, slices)
        data = make_data_term(series, element, settings.data_term, device, ranks)
        streamed = _streamed(series, where, settings, device, ranks)
        if streamed:
            windows = WindowedProjector(
                series.tilts_deg, series.alignment, series.frame, where.shape, data.counts, settings.projector
            )
            plan = _plan(series, where, settings, device, windows.halo)
            windows.split(plan.windows, plan.halo)
            return cls(series, element, where, windows, reachable(data, windows), settings, device, ranks, plan, slices)
        operator = make_operator(series, where.shape, data.counts, settings.projector, ranks, element)
        return cls(series, element, where, operator, reachable(data, operator), settings, device, ranks, None, slices)

    def coarser(self, factor: int) -> Problem:
        """The same problem with maps and volume binned by `factor`."""
        small, bins = binned(self.series, factor)
        small = small.evolve(alignment=bins.down(self.series.alignment))
        thickness = self.settings.thickness
        if thickness != "auto":
            thickness = max(1, round(int(thickness) / factor))
        # a grid that is too coarse to be shared is solved by every rank for itself
        ranks = self.ranks if small.frame[0] >= 2 * HALO * self.ranks.size else ALONE
        slices = None if self.slices is None else self.slices // factor
        return Problem.of(small, self.element, self.settings, self.device, ranks, slices, thickness=thickness)

    def on(self, series: TiltSeries) -> Problem:
        """The same problem for another series of the element."""
        return Problem.of(series, self.element, self.settings, self.device, self.ranks, self.slices)

    def in_the_middle(self, slices: int) -> Problem:
        """The problem of so many slices in the middle, of the pixels that show these."""
        return Problem.of(self.series, self.element, self.settings, self.device, self.ranks, slices)

    @property
    def rows(self) -> Slab:
        """The rows of the maps that `data` has."""
        return rows_of(self.operator, self.series.frame[0])

    @property
    def slab(self) -> Slab:
        """The slices of the volume that `operator` works on."""
        return slab_of(self.operator, self.where.shape[1])

    def fresh_solver(self, a1: float, a0: float) -> Solver:
        """A solver that starts from nothing."""
        if self.streaming is None:
            return self.solver_from(None, a1, a0)
        assert isinstance(self.operator, WindowedProjector)
        return StreamedPrimalDual(
            self.operator,
            self.data,
            place(self.streaming, self.device),
            regulariser=self.settings.method,
            a1=a1,
            a0=a0,
            half_precision=self.settings.half_precision,
        )

    def solver_from(self, start: Array | None, a1: float, a0: float) -> PrimalDual:
        """A solver in memory that starts from a volume ``(z, x, y)``, or from nothing."""
        return PrimalDual(
            self.operator,
            self.data,
            regulariser=self.settings.method,
            a1=a1,
            a0=a0,
            start=start,
            half_precision=self.settings.half_precision,
        )

    def solver(self, a1: float, a0: float) -> PrimalDual:
        """A solver that starts from a few iterations of SIRT."""
        guess = sirt(self.operator, self.data, iterations=10).value
        return self.solver_from(guess, a1, a0)

    def coarse_to_fine(self, a1: float, a0: float, tolerance: float) -> Solver:
        """A solver that starts from the solution at half the size, which starts likewise.

        The coarse grid gives the large parts of the object at an eighth of the cost; the fine one adds the
        rest. There, ``a1 / 2`` and ``a0 / 4`` weigh the same object alike.
        """
        if min(self.series.frame) < 2 * SMALLEST_FRAME:
            return self.solver(a1, a0)
        half = self.coarser(2)
        if rows_of(half.operator, 0).ranks.max(float(bool((half.data.scale > 0).any()))) == 0:
            return self.fresh_solver(a1, a0)  # each of its pixels holds one that is left out
        coarse = half.coarse_to_fine(a1 / 2, a0 / 4, tolerance)
        coarse.run(tolerance, COARSE_ITERATIONS)
        coarse.release()
        solver = self.fresh_solver(a1, a0)
        solver.continue_from(coarse, 2)
        return solver


Solver = PrimalDual | StreamedPrimalDual


def _streamed(series: TiltSeries, where: Grid, settings: Settings, device: str, ranks: Ranks) -> bool:
    """Whether the volume is worked on in slabs.

    Raises:
        ResourceError: it would have to be, and the series cannot be taken apart into slabs.
    """
    if settings.memory is None or not settings.certified or ranks.size > 1:
        return False
    if min(series.frame) < 2 * SMALLEST_FRAME:  # the coarsest grid
        return False
    search = settings.strength is None and settings.method != "none"
    how = (settings.method, device, settings.half_precision, search)
    need = needed(where.shape, series.n_tilts, series.frame, 1, *how)
    wanted = need.device if device == "cuda" else need.host
    if wanted <= settings.memory:
        return False
    whole = f"{series.scheme}" if series.scheme is not None else "pixels of an element's own" * bool(series.footprints)
    if whole:
        raise ResourceError(
            f"a volume of {' x '.join(map(str, where.shape))} voxels needs {wanted / 1e6:.0f} MB and memory is "
            f"{settings.memory / 1e6:.0f} MB; {whole} cannot be worked on in slabs: allow more memory, or bin the maps"
        )
    return True


def _plan(series: TiltSeries, where: Grid, settings: Settings, device: str, halo: Callable[[int], int]) -> Streaming:
    assert settings.memory is not None
    return streaming(
        settings.memory, where.shape, series.n_tilts, series.frame, settings.method, device, halo,
        settings.half_precision,
    )  # fmt: skip
