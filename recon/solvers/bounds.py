"""What the certificate of the primal-dual methods is made of, on arrays of the whole volume or of a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from recon.backend import Array, kernels, namespace, to_host
from recon.operators import Operator
from recon.parallel import Slab
from recon.solvers.data_terms import DataTerm

BLIND = 1e-6  # of the largest sensitivity, below which the total of the data says nothing of a voxel
AT_ONCE = 1 << 18  # voxels whose vectors are measured at a time
Sums = tuple[float, float, float]
TANGENTS, CLOSE = 30, 1e-6  # at most, in the search for the best price, and how close to the least value is enough


@dataclass(frozen=True, eq=False)
class Box:
    """Densities among which the least is looked for: at least 0, at most `above` more than u, and at most `most`.

    Attributes:
        u: ``(z, x, y)``.
        above, most: may be infinite.
    """

    u: Array
    above: float = np.inf
    most: float = np.inf

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(min(self.above, self.most)))


@dataclass(frozen=True)
class Priced:
    """The least of ``price total + excess`` over prices, and the price at which it was found."""

    least: float
    price: float


def largest_gain(g: Array, sensitivity: Array, theta: float, box: Box, total: float, slab: Slab | None = None) -> float:
    """Upper bound on ``max <d, u>`` over u of a box with ``<sensitivity, u> <= total``, with ``d = -theta g``.

    By linear programming duality it is the least of ``price total + sum highest max(d - price a, 0)`` over prices
    of the total, where the box allows u to be `highest`; every price gives a bound. Sums are float64, in place:
    no array of the volume's size is made, but of a rank's slices that lie apart.

    Args:
        g, sensitivity: ``(z, x, y)`` float32; a voxel with next to no sensitivity is bounded by the box alone.
        slab: of the ranks that `g` and `sensitivity` are spread over.
    """
    return least_over_prices(excess_of(g, sensitivity, box, theta, slab), total).least


def excess_of(
    g: Array, sensitivity: Array, box: Box, theta: float = 1.0, slab: Slab | None = None
) -> Callable[[float], Sums]:
    """`sums_at` as a function of the price, over all ranks; arguments as of `largest_gain`."""
    spread = slab is not None and not slab.whole
    if slab is not None:
        g, sensitivity, box = slab.compact(g), slab.compact(sensitivity), replace(box, u=slab.compact(box.u))
    largest = float(namespace(g).max(sensitivity))
    least = BLIND * (slab.max(largest) if slab is not None else largest)
    sums = namespace(g).empty((g.shape[0], 3), dtype=np.float64)

    def at(price: float) -> Sums:
        found = sums_at(price, g, sensitivity, box, theta, least, sums)
        if slab is not None and spread:
            return slab.sum(found[0]), slab.sum(found[1]), slab.max(found[2])
        return found

    return at


def sums_at(price: float, g: Array, sensitivity: Array, box: Box, theta: float, least: float, sums: Array) -> Sums:
    """``(sum highest max(d - price a, 0), sum highest a where d > price a, max d / a)``; `sums` is scratch, ``(z, 3)``
    float64."""
    kernels(g).excess_sums(g, sensitivity, box.u, float(theta), price, least, box.above, box.most, sums)
    of_plane = to_host(sums)  # one transfer, where each number would be one
    excess, reached = (float(v) for v in of_plane[:, :2].sum(axis=0))
    return excess, reached, float(of_plane[:, 2].max())


def least_over_prices(at: Callable[[float], Sums], total: float) -> Priced:
    """The least of ``price total + excess`` over prices, from `sums_at` of the whole volume.

    It is convex and piecewise linear, so tangents at two prices meet between them, below it: the next price is there.
    """

    def bound(price: float) -> tuple[float, float]:
        """Its value at a price, and its slope."""
        excess, reached, _ = at(price)
        if excess == 0:
            return price * total, total
        return price * total + excess, total - reached

    excess, reached, highest = at(0.0)
    if excess == 0:
        return Priced(0.0, 0.0)
    if not np.isfinite(excess):
        return Priced(bound(highest * (1 + 1e-6))[0], highest * (1 + 1e-6))
    best = Priced(excess, 0.0)
    if reached <= total:
        return best
    low, high = (0.0, best.least, total - reached), (highest * (1 + 1e-6), *bound(highest * (1 + 1e-6)))
    best = min(best, Priced(high[1], high[0]), key=_least)
    for _ in range(TANGENTS):
        price = (high[1] - low[1] + low[2] * low[0] - high[2] * high[0]) / (low[2] - high[2])
        if best.least - (low[1] + low[2] * (price - low[0])) <= CLOSE * best.least:
            break
        value, slope = bound(price)
        best = min(best, Priced(value, price), key=_least)
        low, high = ((price, value, slope), high) if slope < 0 else (low, (price, value, slope))
    return best


def _least(found: Priced) -> float:
    return found.least


def raised(
    operator: Operator,
    data: DataTerm,
    y: Array,
    g: Array,
    box: Box,
    brightest: float,
    work: tuple[Array, Array],
    slab: Slab | None = None,
) -> Array:
    """y raised where that lets the bound grow (`DataTerm.lift`); ``g = s A^T y + ...`` follows in place.

    Args:
        operator, data: of whose dual y is a `feasible` point.
        box: of u.
        brightest: `DataTerm.brightest`, of all ranks.
        work: scratch, a stack and a volume.
        slab: of the ranks.
    """
    lift = data.lift(y, brightest) if box.bounded else None
    if lift is None:
        return y

    def total(number: float) -> float:
        return number if slab is None else slab.sum(number)

    stack, by = work
    namespace(y).multiply(data.scale, lift.direction, out=stack)
    excess = excess_of(g, operator.adjoint(stack, by), box, slab=slab)
    step = min(least_over_prices(excess, total(lift.cost)).price, lift.most)
    if step > 0:
        ahead = y + np.float32(step) * lift.direction
        costs = total(data.conjugate(ahead)) - total(data.conjugate(y))
        if costs < excess(0.0)[0] - excess(step)[0]:
            by *= np.float32(step)
            g += by
            return ahead
    return y


Within = tuple[int, int] | None  # slices that count, by default all


def regulariser_sums(u: Array, w: Array, within: Within = None) -> tuple[float, float]:
    """``(sum |grad u - w|, sum |E w|)``."""
    sums = namespace(u).empty((u.shape[0], 2))
    kernels(u).tgv_value(u, w, sums, **({} if within is None else {"within": within}))
    first, second = (float(s) for s in to_host(sums).sum(axis=0))
    return first, second


def regulariser_dual(
    p: Array, q: Array, a0: np.float32, unit: float, scratch: Array, g: Array, within: Within = None
) -> tuple[float, float]:
    """Add ``grad* p`` to `g`, and tell what of the duals is not feasible.

    Args:
        p, q, a0: duals of the solver; q has no components for TV.
        unit: what 1 stands for in p.
        scratch: takes ``E* q``, ``(3, z, x, y)``; of TGV alone.
        g: ``(z, x, y)``.
        within: slices that count.

    Returns:
        The largest ``|p|``, and ``|p - E* q|^2``, 0 for TV.
    """
    k, apart = kernels(g), 0.0
    k.gradient_adjoint(p, np.float32(unit), g)
    if len(q):
        k.tgv_divergence(q, a0, scratch, namespace(g).empty(g.shape[0], dtype=np.float64))
        for part, there in zip(_few_planes(scratch), _few_planes(p), strict=True):
            part -= there if unit == 1.0 else np.float32(unit) * there
            apart += squares(part, within)
    return unit * largest_length(p, within), apart


def largest_length(vectors: Array, within: Within = None) -> float:
    """The largest of vectors ``(component, z, x, y)``; 0 without components."""
    parts = _few_planes(vectors if within is None else vectors[..., slice(*within)])
    return max((float(namespace(vectors).max(lengths(part))) for part in parts if len(part)), default=0.0)


def squares(vectors: Array, within: Within = None) -> float:
    """The sum of the squares of vectors ``(component, z, x, y)``, in float64."""
    xp, parts = namespace(vectors), _few_planes(vectors if within is None else vectors[..., slice(*within)])
    return math.fsum(float(xp.sum(xp.square(part, dtype=np.float32), dtype=np.float64)) for part in parts)


def lengths(vectors: Array) -> Array:
    """Euclidean lengths, float32."""
    xp = namespace(vectors)
    square = xp.square(vectors[0], dtype=np.float32)
    for component in vectors[1:]:
        square += xp.square(component, dtype=np.float32)
    out: Array = xp.sqrt(square, out=square)
    return out


def _few_planes(vectors: Array) -> Iterator[Array]:
    """A field in pieces of few planes, so that what is made of one is small."""
    planes = max(1, AT_ONCE // max(1, math.prod(vectors.shape[2:])))
    for z in range(0, vectors.shape[1], planes):
        yield vectors[:, z : z + planes]
