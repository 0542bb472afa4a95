"""How far what rays see best and what differences see best overlap, on which step sizes depend, see `Weights`.

It is the largest eigenvalue of ``A* A / |A|^2 + grad* grad / |grad|^2``, the gradient within slices: 1 to 2. Rays see
the mean along them best, differences see it least, so for rays of many directions it is little above 1. It is found by
power iteration, from a start that is the same in all slices; 5 % come on top, since it climbs from below. In the metric
of a ramp, where A is `recon.solvers.ramp.Ramped`, rays see high frequencies as well as others. There it climbs more
slowly, and is up to a tenth more on finer grids than on coarse ones (measured on 16^3 to 96^3, 7 to 71 tilts; on slices
that are one voxel thick up to 30 %, where the shares of the blocks leave room): 15 % on top.
"""

from __future__ import annotations

import math

import numpy as np

from recon.backend import Array, namespace
from recon.operators import Operator, norm2
from recon.operators.windows import Window, WindowedProjector, sum_of_squares
from recon.parallel import slab_of
from recon.solvers.ramp import Ramp, Ramped
from recon.solvers.resident import WindowedState

ITERATIONS, ON_TOP, ON_TOP_OF_RAMP = 30, 1.05, 1.15


def overlap_of(operator: Operator, norm_a: float, work: tuple[Array, Array], y: Array) -> float:
    """That of A in memory.

    Args:
        operator: A.
        norm_a: |A|, or a little more.
        work: two arrays of the domain's shape that it may overwrite.
        y: one of the range's, likewise.
    """
    x, g = work
    slab = slab_of(operator, operator.domain_shape[-1])
    plane = operator.domain_shape[:2]
    if max(plane) == 1 or norm_a == 0:
        return 2.0
    x[...] = _start(x, plane)
    found = 0.0
    for _ in range(ITERATIONS):
        x /= np.float32(max(norm2(x, g, slab), 1e-30))
        operator.adjoint(operator(x, y), g)
        g *= np.float32(1 / norm_a**2)
        _add_differences(x, g)
        x, g = g, x
        found = norm2(x, g, slab)
    return _with_reserve(found, ramped=isinstance(operator, Ramped))


def overlap_in_windows(
    operator: WindowedProjector, scale: Array, norm_a: float, kept: WindowedState, y: Array, ramp: Ramp | None = None
) -> float:
    """That of ``s A`` of a volume in windows; `kept` has room in its store, `y` is overwritten."""
    nz, _, nx = operator.volume
    if max(nz, nx) == 1 or norm_a == 0:
        return 2.0
    size = 1.0

    def scaled(w: Window, name: str) -> Array:
        part = kept.own_room(w, name)
        kept.store.get(("g", w.number), part)
        part /= np.float32(size)
        return part

    squares = []
    for w in operator.windows:
        part = kept.own_room(w)
        part[...] = _start(part, (nz, nx))
        squares.append(sum_of_squares(part))
        kept.store.put(("g", w.number), part)
    found = 0.0
    for _ in range(ITERATIONS):
        size = max(math.fsum(squares) ** 0.5, 1e-30)
        operator.forward(lambda w: scaled(w, "u_bar"), y)
        if ramp is not None:
            ramp.filter(y, namespace(y).empty_like(y))
        y *= scale
        y *= scale
        squares = []
        for w, part in operator.backward(y, kept.own_room):
            part *= np.float32(1 / norm_a**2)
            _add_differences(scaled(w, "g"), part)
            squares.append(sum_of_squares(part))
            kept.store.put(("g", w.number), part)
        found = math.fsum(squares) ** 0.5
    return _with_reserve(found, ramped=ramp is not None)


def _with_reserve(found: float, *, ramped: bool) -> float:
    return min(max((ON_TOP_OF_RAMP if ramped else ON_TOP) * found, 1.0), 2.0)


def _start(like: Array, plane: tuple[int, ...]) -> Array:
    """Of one slice, for all."""
    start: Array = namespace(like).asarray(np.random.default_rng(0).normal(size=(*plane, 1)).astype(np.float32))
    return start


def _add_differences(x: Array, g: Array) -> None:
    """``g += grad* grad x / |grad|^2`` within slices."""
    part = np.float32(1 / (4 * sum(n > 1 for n in x.shape[:2])))
    for of_x, of_g in ((x, g), (x.swapaxes(0, 1), g.swapaxes(0, 1))):
        step = of_x[1:] - of_x[:-1]
        step *= part
        of_g[1:] += step
        of_g[:-1] -= step


__all__ = ["overlap_in_windows", "overlap_of"]
