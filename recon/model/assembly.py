"""From a series to operator and data term."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.errors import GeometryError
from recon.model.noise import noise_weights
from recon.operators import Operator, aligned_projector, make_projector
from recon.operators.channel import SomeProjections, Spread
from recon.operators.slabs import SlabProjector
from recon.operators.warp import affine
from recon.operators.windows import WindowedProjector
from recon.parallel import ALONE, Ranks, rows_of
from recon.series.selection import select
from recon.series.tilt_series import TiltSeries
from recon.solvers.data_terms import DataTerm, LeastSquares, Poisson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array
    from recon.geometry.tilt_geometry import Shape3


def make_operator(
    series: TiltSeries,
    shape: Shape3,
    like: Array,
    projector: str = "auto",
    ranks: Ranks = ALONE,
    element: str | None = None,
) -> Operator:
    """``A_i = W_i P_i`` of a series onto a volume ``(nz, ny, nx)``, in the solver's layout; of a rank, its part.

    Of an `element`, projections of which it has no map are 0, and pixels are averaged over those that were recorded.
    """
    e = None if element is None else series.index(element)
    where = None if e is None else series.footprint(e)
    if where is not None and ranks.size == 1:
        plain = make_operator(series.evolve(footprints=()), shape, like, projector, element=element)
        return Spread(plain, *where.spread(series.frame), like)
    there = None if e is None or series.element_weights is None else series.present[e]
    if there is not None and ranks.size == 1 and there.any() and not there.all():
        index = np.flatnonzero(there)
        return SomeProjections(make_operator(some(series, index), shape, like, projector), index, there.size, like)
    if ranks.size > 1:
        series.check_pixels("a run of several ranks", "start this job without mpirun")
        if series.scheme is not None:
            raise GeometryError("several ranks share series with one tilt axis only; start this job without mpirun")
        how = (series.tilts_deg, series.alignment, series.frame, shape)
        return SlabProjector(*how, like, projector, ranks)
    if series.scheme is not None:
        return make_projector(series.aligned_geometry(shape), like, projector)
    return aligned_projector(series.tilts_deg, series.alignment, series.frame, shape, like, projector)


def seeing(series: TiltSeries, slices: int) -> TiltSeries:
    """The series without pixels that show other than so many slices in the middle of the volume."""
    maps = affine(series.alignment, series.frame, (slices, series.frame[1]))
    j, i = np.indices(series.frame)
    row = maps[:, 3, None, None] * i + maps[:, 4, None, None] * j + maps[:, 5, None, None]
    return series.evolve(weights=(series.seen * ((row >= 0) & (row <= slices - 1))).astype(np.float32))


def some(series: TiltSeries, index: NDArray[np.intp]) -> TiltSeries:
    """Some projections of a series, where the alignment has them."""
    scheme = None if series.scheme is None else series.scheme[index]
    aligned = replace(series.alignment, shifts=series.alignment.shifts[index])
    return replace(select(series, index, series.tilts_deg[index], scheme), alignment=aligned)


def make_data_term(
    series: TiltSeries, element: str, data_term: str, device: str = "cpu", ranks: Ranks = ALONE
) -> DataTerm:
    """The data term of one element, arrays ``(tilt, u, y)`` on a device; of a rank, its rows y."""
    rows = slice(*ranks.share(series.frame[0], ranks.rank))
    e = series.index(element)
    seen, counts, below = series.seen_by(e)[:, rows], series.counts[e][:, rows], series.offset(e)
    if series.element_weights is not None:
        counts = np.where(seen > 0, counts, 0)
    scale = seen * series.exposures[e][:, None, None]
    offset = seen * (below if below.shape[1] == 1 else below[:, rows])

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
    room = xp.empty(operator.range_shape, dtype=np.float32)
    if isinstance(operator, WindowedProjector):
        seen = operator.forward(operator.ones, room) > 0
    else:
        seen = operator(xp.ones(operator.domain_shape, dtype=np.float32), room) > 0
    if rows_of(operator, 0).ranks.max(0.0 if bool(seen.all()) else 1.0) == 0.0:
        return data
    return replace(data, counts=data.counts * seen, scale=data.scale * seen, offset=data.offset * seen)
