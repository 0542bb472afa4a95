"""A bound of a linear function of u, which the certificate of the primal-dual methods needs."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, kernels, namespace, to_host
from recon.parallel import Slab

BLIND = 1e-6  # of the largest sensitivity, below which the total of the data says nothing of a voxel
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
    xp, k = namespace(g), kernels(g)
    sums = xp.empty((g.shape[0], 3), dtype=np.float64)
    largest = float(xp.max(sensitivity))
    least = BLIND * (slab.max(largest) if slab is not None else largest)

    def at(price: float) -> tuple[float, float, float]:
        k.excess_sums(g, sensitivity, float(theta), price, least, sums)
        of_plane = to_host(sums)  # one transfer, where each number would be one
        excess, reached = (float(v) for v in of_plane[:, :2].sum(axis=0))
        highest = float(of_plane[:, 2].max())
        if slab is not None and spread:
            return slab.sum(excess), slab.sum(reached), slab.max(highest)
        return excess, reached, highest

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
