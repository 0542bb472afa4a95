"""What the certificate of the primal-dual methods is made of, on arrays of the whole volume or of a part of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recon.backend import Array, kernels, namespace, to_host
from recon.parallel import Slab

BLIND = 1e-6  # of the largest sensitivity, below which the total of the data says nothing of a voxel
Sums = tuple[float, float, float]
HALVINGS = 30  # of the interval in which the best price lies, in its logarithm


def largest_gain(
    g: Array, sensitivity: Array, theta: float, upper: float, total: float, slab: Slab | None = None
) -> float:
    """Upper bound on ``max <d, u>`` over ``0 <= u <= upper``, ``<sensitivity, u> <= total``, with ``d = -theta g``.

    By linear programming duality it is the least of ``price total + upper sum max(d - price a, 0)`` over prices
    of the total; every price gives a bound. Sums are float64, in place: no array of the volume's size is made.

    Args:
        g, sensitivity: ``(z, x, y)`` float32; a voxel with next to no sensitivity is bounded by `upper` alone.
        upper: may be infinite.
        slab: of the ranks that `g` and `sensitivity` are spread over.
    """
    spread = slab is not None and not slab.whole
    if slab is not None:
        g, sensitivity = slab.compact(g), slab.compact(sensitivity)
    largest = float(namespace(g).max(sensitivity))
    least = BLIND * (slab.max(largest) if slab is not None else largest)
    sums = namespace(g).empty((g.shape[0], 3), dtype=np.float64)

    def at(price: float) -> Sums:
        found = sums_at(price, g, sensitivity, theta, least, sums)
        if slab is not None and spread:
            return slab.sum(found[0]), slab.sum(found[1]), slab.max(found[2])
        return found

    return least_over_prices(at, upper, total)


def sums_at(price: float, g: Array, sensitivity: Array, theta: float, least: float, sums: Array) -> Sums:
    """``(sum max(d - price a, 0), sum a where d > price a, max d / a)``; `sums` is scratch, ``(z, 3)`` float64."""
    kernels(g).excess_sums(g, sensitivity, float(theta), price, least, sums)
    of_plane = to_host(sums)  # one transfer, where each number would be one
    excess, reached = (float(v) for v in of_plane[:, :2].sum(axis=0))
    return excess, reached, float(of_plane[:, 2].max())


def least_over_prices(at: Callable[[float], Sums], upper: float, total: float) -> float:
    """The least of ``price total + upper excess`` over prices, from `sums_at` of the whole volume."""

    def bound(price: float) -> tuple[float, float]:
        """Its value at a price, and its slope."""
        excess, reached, _ = at(price)
        if excess == 0:
            return price * total, total
        return price * total + upper * excess, total - upper * reached

    excess, reached, highest = at(0.0)
    if excess == 0:
        return 0.0
    high = highest * (1 + 1e-6)
    best, _ = bound(high)
    if not np.isfinite(upper):
        return best
    best = min(best, upper * excess)
    low = high * 1e-9
    for _ in range(HALVINGS if upper * reached > total else 0):  # the slope changes sign at the least value
        middle = (low * high) ** 0.5
        value, slope = bound(middle)
        best = min(best, value)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return best


Within = tuple[int, int] | None  # slices that count, by default all


def regulariser_sums(u: Array, w: Array, within: Within = None) -> tuple[float, float]:
    """``(sum |grad u - w|, sum |E w|)``."""
    sums = namespace(u).empty((u.shape[0], 2))
    kernels(u).tgv_value(u, w, sums, **({} if within is None else {"within": within}))
    first, second = (float(s) for s in to_host(sums).sum(axis=0))
    return first, second


def regulariser_dual(
    p: Array, q: Array, a0: np.float32, unit: float, scratch: Array, g: Array, within: Within = None
) -> tuple[Array, float, float]:
    """Add ``grad* p`` to `g`, where p is ``E* q`` with |q| <= a0 for TGV: a point that is feasible in w.

    Args:
        p, q, a0: duals of the solver; q has no components for TV.
        unit: what 1 stands for in p.
        scratch: takes ``E* q``, ``(3, z, x, y)``; may be p itself.
        g: ``(z, x, y)``.
        within: slices that count.

    Returns:
        p, what 1 stands for in it, and its largest vector.
    """
    xp, k = namespace(g), kernels(g)
    if len(q):
        largest = xp.empty(g.shape[0], dtype=np.float64)
        k.tgv_divergence(q, a0, scratch, largest)
        highest = float(xp.max(largest)) if within is None else _largest(scratch[..., slice(*within)])
        p, unit = scratch, 1.0
    else:
        highest = unit * _largest(p if within is None else p[..., slice(*within)])
    k.gradient_adjoint(p, np.float32(unit), g)
    return p, unit, highest


def _largest(p: Array) -> float:
    xp = namespace(p)
    square = xp.square(p[0], dtype=np.float32)
    for component in p[1:]:
        square += xp.square(component, dtype=np.float32)
    return float(xp.sqrt(xp.max(square)))
