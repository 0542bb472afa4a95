"""One element of a series as a problem for a solver: grid, operator, data term, and the same on coarser grids."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recon import backend
from recon.binning import binned
from recon.errors import JobError
from recon.operators import Operator, aligned_projector
from recon.prox import DataTerm, LeastSquares, Poisson
from recon.solvers.baseline import sirt
from recon.solvers.pdhg import PrimalDual
from recon.tiltseries import TiltSeries

if TYPE_CHECKING:
    from recon.backend import Array
    from recon.geometry import Shape3

SMALLEST_FRAME = 16  # pixels, of the coarsest grid
COARSE_ITERATIONS = 150


@dataclass(frozen=True)
class Grid:
    """The volume that is solved for, and the part of it that is the result.

    Attributes:
        shape: ``(nz, ny, nx)``; wider than the frame where material outside it is seen at high tilt.
        margin: ``(y, x)`` voxels on each side that are cut off at the end.
    """

    shape: Shape3
    margin: tuple[int, int]


def grid(series: TiltSeries, thickness: int | str = "auto") -> Grid:
    """The grid for a series; `thickness` is the extent along the beam in voxels."""
    ny, nx = series.frame
    nz = nx if thickness == "auto" else int(thickness)
    if not 1 <= nz <= 4 * nx:
        raise JobError(f"thickness is {nz} voxels; it must be between 1 and {4 * nx} (four times the frame)")
    if series.isolated:
        return Grid((nz, ny, nx), (0, 0))
    t = np.radians(series.tilts_deg)
    dv, du = np.abs(series.alignment.displacements).max(axis=0)
    tilted = abs(np.sin(np.radians(series.alignment.rotation_deg)))
    # a section that leaves the frame is thin, unless the user says how thick; a wider margin would hold
    # voxels that no ray meets
    half = nx / 32 if thickness == "auto" else nz / 2
    reach = (nx / 2 + du + ny / 2 * tilted + half * np.abs(np.sin(t))) / np.maximum(np.abs(np.cos(t)), 0.1)
    my = min(int(np.ceil(dv + nx / 2 * tilted)), ny // 4)
    mx = min(int(np.ceil(reach.max() - nx / 2)), nx // 2)
    return Grid((nz, ny + 2 * my, nx + 2 * mx), (my, mx))


def make_operator(series: TiltSeries, shape: Shape3, like: Array, projector: str = "auto") -> Operator:
    """``A_i = W_i P_i`` of a series onto a volume ``(nz, ny, nx)``, in the solver's layout."""
    return aligned_projector(series.tilts_deg, series.alignment, series.frame, shape, like, projector)


def noise_weights(series: TiltSeries, element: str) -> np.ndarray:
    """Inverse variance of a bright pixel of each map ``(tilt,)``.

    For counts it is one over the mean count, each pixel weighted by its counts; for scaled maps it comes
    from the differences of neighbouring pixels.
    """
    e = series.index(element)
    maps = series.counts[e].astype(np.float64)
    if series.weights is not None:
        maps = np.where(series.weights > 0, maps, 0)
    if series.scaled:
        step = maps[:, 1:, 1:] - maps[:, 1:, :-1] - maps[:, :-1, 1:] + maps[:, :-1, :-1]
        bright = maps[:, 1:, 1:] > np.percentile(maps, 75, axis=(1, 2), keepdims=True)
        size = [np.median(np.abs(s[b])) if b.any() else 0.0 for s, b in zip(step, bright, strict=True)]
        sigma = np.array(size) / 0.6745 / 2
        sigma = np.where(sigma > 0, sigma, max(float(sigma.max()), 1e-3 * float(np.abs(maps).max()), 1e-12))
        return np.asarray(1 / sigma**2)
    first, second = maps.sum(axis=(1, 2)), np.square(maps).sum(axis=(1, 2))
    mean = np.where(first > 0, (second - first) / np.maximum(first, 1), 0)
    return np.asarray(1 / np.maximum(mean, 0.2))


def make_data_term(series: TiltSeries, element: str, data_term: str, device: str = "cpu") -> DataTerm:
    """The data term of one element, arrays ``(tilt, u, y)`` on a device."""
    e = series.index(element)
    counts = series.counts[e]
    seen = np.ones_like(counts) if series.weights is None else series.weights
    scale = seen * series.exposures[e][:, None, None]
    offset = seen * series.offset(e)

    def place(a: np.ndarray) -> Array:
        return backend.to_device(np.ascontiguousarray(a.swapaxes(1, 2), dtype=np.float32), device)

    # a pixel of weight f counts like one that was exposed for the fraction f
    used = place(counts * seen), place(scale), place(offset)
    if data_term == "poisson":
        return Poisson(*used)
    variance = np.broadcast_to(seen / noise_weights(series, element)[:, None, None], counts.shape)
    return LeastSquares(*used, weight=place(np.where(seen > 0, 1 / np.where(seen > 0, variance, 1), 0)))


def reachable(data: DataTerm, operator: Operator) -> DataTerm:
    """The data term without pixels that no voxel reaches: drift carried them out of the volume."""
    xp = backend.namespace(data.counts)
    ones = xp.ones(operator.domain_shape, dtype=np.float32)
    seen = operator(ones, xp.empty(operator.range_shape, dtype=np.float32)) > 0
    if bool(seen.all()):
        return data
    return replace(data, counts=data.counts * seen, scale=data.scale * seen, offset=data.offset * seen)


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
