r"""A metric for the dual of the data in which all that few tilts see is seen alike.

``A* A`` is about a 1 / |k| filter where the Fourier slices of the projections overlap, and flat beyond: low frequencies
are seen n times as well as high ones, and decide how long steps may be. In the metric of a ramp R along the detector,
the filter of back projection, ``A* R A`` is nearly flat. There the proximal step of D is not one of each pixel by
itself, so ``s A u`` is split off as v: the minimum of ``D(v) + ...`` where ``v = s A u``. Its multiplier y has no
function of its own, and any metric will do for its step:

    Y = prox_{sigma D*}(y + sigma (v + R (s A u_bar - v)))       v' = v + R (s A u_bar - v) + (y - Y) / sigma
    y' = y + sigma R (s A u_bar - v')

This is the iteration of `PrimalDualIteration` with sigma R for sigma, and v beside it in the metric
``sigma (1 - R)``: a proximal point step in ``[[1/tau, -A* s], [-s A, (sigma R)^-1]] + sigma (1 - R)`` (the
preconditioned method of A. Chambolle, T. Pock, JMIV 40, 120 (2011), and the proximal form of the alternating direction
method). It converges for ``0 < R <= 1``, over-relaxed as well, where ``tau sigma |R^(1/2) s A|^2 <= 1`` and the other
blocks take their part of it. With R = 1 it is the iteration without v. What follows from v' = s A u_bar is
``Y = D'(v')``, so y and Y are one in the end, and both give bounds.

R is ``1 - (1 - r) (1 + l^2 D* D)^-1`` with D the differences of neighbouring pixels along u: r at frequency 0, and 1
beyond 1 / (2 pi l). Its inverse has the same form. With n tilts slices are apart beyond about n / (pi d) cycles a
pixel, of an object of d pixels: l is ``width / n``. r is pi / n, what a slice covers of its surroundings near frequency
0, but `LEAST` at least: v follows low frequencies in about 1 / r steps. Where the scale is 0, y and v are 0 and R is
that of the other pixels: still at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, kernels, namespace
from recon.operators import Operator
from recon.operators.base import tilts_across
from recon.operators.windows import Window, WindowedProjector, scaled_norm
from recon.parallel import slab_of

LEAST = 0.2  # of 0.05 to 0.5: below, strong regularisation of many tilts takes longer, above, weak
# of Lanczos' method, at least and at most; a step that hardly climbs ends it, and as much comes on top as it may miss
AT_LEAST, AT_MOST, SETTLED, ON_TOP = 8, 25, 1e-3, 1.01


@dataclass(frozen=True, eq=False)
class Ramp:
    """R of stacks ``(tilt, u, y)`` of a data term.

    Attributes:
        rest: 1 - r.
        factors, inverse: ``(2, u)`` on the device, see `recon.kernels`, of R and of its inverse.
        scale: s; pixels where it is 0 take no part.
    """

    rest: float
    factors: Array
    inverse: Array
    scale: Array

    @classmethod
    def of(cls, operator: Operator, scale: Array) -> Ramp | None:
        """That of an operator, None where tilts are too few, u does not run across their axis, or a volume is one voxel
        thick: there all tilts see the same, and v would be late."""
        tilts, width = tilts_across(operator), operator.range_shape[1]
        r = max(math.pi / max(tilts, 1), LEAST)
        if r >= 1 or width == 1 or operator.domain_shape[0] == 1:
            return None
        xp, length = namespace(scale), width / tilts
        factors, inverse = (xp.asarray(_factors(width, a)) for a in (length, length / r**0.5))
        return cls(1 - r, factors, inverse, scale)

    def filter(self, stack: Array, room: Array) -> Array:
        """R of ``s stack`` over s, in place; `room` is a stack that is overwritten."""
        kernels(stack).ramp_filter(stack, stack, self.scale, room, self.factors, np.float32(self.rest), np.float32(0))
        return stack

    def ahead(self, stack: Array, v: Array, room: Array) -> Array:
        """Of ``A u_bar`` makes ``v + R (s A u_bar - v)`` over s, in place."""
        kernels(stack).ramp_filter(stack, v, self.scale, room, self.factors, np.float32(self.rest), np.float32(1))
        return stack

    def dual_step(self, y: Array, v: Array, ahead: Array, stack: Array, sigma: float, rho: np.float32) -> None:
        """y and v relaxed by rho, from Y in `ahead`, which is overwritten, and what `ahead` made in `stack`."""
        numbers = (np.float32(self.rest), np.float32(sigma), rho)
        kernels(y).ramp_dual(y, v, ahead, stack, self.scale, self.factors, *numbers)

    def squared_change(self, now: Array, before: Array) -> float:
        """``<d, R^-1 d>`` of the change d of a dual."""
        xp = namespace(now)
        change = now - before
        found, room = change / xp.where(self.scale > 0, self.scale, np.float32(1)), xp.empty_like(change)
        r = 1 - self.rest
        kernels(now).ramp_filter(
            found, found, self.scale, room, self.inverse, np.float32(-self.rest / r), np.float32(0)
        )
        found *= self.scale
        found *= change
        return float(xp.sum(found, dtype=np.float64))

    def norm(self, gram: Callable[[Array], Array], total: Callable[[float], float] = float) -> float:
        """``|R^(1/2) s A|`` by Lanczos' method, with a little on top, since it climbs from below.

        The spectrum is nearly flat at its upper end, where a power iteration climbs slowly.

        Args:
            gram: ``A A* s^2`` of a stack, in place.
            total: sums over the ranks.
        """
        xp, scale = namespace(self.scale), self.scale

        def product(a: Array, b: Array) -> float:
            work = a * scale
            work *= scale
            work *= b
            return total(float(xp.sum(work, dtype=np.float64)))

        v, before, room = (xp.zeros_like(scale) for _ in range(3))
        start = np.random.default_rng(0).uniform(0.5, 1.5, size=(*scale.shape[:2], 1))
        v += xp.asarray(start.astype(np.float32))
        g = gram(v.copy())
        size = max(product(v, g), 0.0) ** 0.5
        diagonal: list[float] = []
        beside: list[float] = []
        found = 0.0
        while size > 1e-12 * max(1.0, found) and len(diagonal) < AT_MOST:
            v *= np.float32(1 / size)
            g *= np.float32(1 / size)
            ahead = self.filter(g.copy(), room)
            diagonal.append(product(ahead, g))
            matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
            last, found = found, float(np.linalg.eigvalsh(matrix)[-1])
            if len(diagonal) >= AT_LEAST and found <= (1 + SETTLED) * last:
                break
            ahead -= np.float32(diagonal[-1]) * v
            ahead -= np.float32(beside[-1] if beside else 0.0) * before
            before, v = v, ahead
            g[...] = v
            g = gram(g)
            size = max(product(v, g), 0.0) ** 0.5
            beside.append(size)
        return float(ON_TOP * found**0.5)


class Ramped:
    """``s A`` in the metric: its adjoint is ``A* s R``."""

    def __init__(self, operator: Operator, ramp: Ramp) -> None:
        self.operator, self.ramp = operator, ramp
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape
        self.slab = slab_of(operator, operator.domain_shape[-1])

    def __call__(self, x: Array, out: Array) -> Array:
        return self.operator(x, out)

    def adjoint(self, y: Array, out: Array) -> Array:
        y = self.ramp.filter(y, namespace(y).empty_like(y))
        y *= self.ramp.scale
        y *= self.ramp.scale
        return self.operator.adjoint(y, out)


def norm_in_windows(
    operator: WindowedProjector,
    scale: Array,
    room: Callable[[Window], Array],
    work: tuple[Array, Array],
    ramp: Ramp | None,
) -> float:
    """``|s A|``, with a ramp ``|R^(1/2) s A|``, of a volume in windows; `room` as of `WindowedProjector.backward`."""
    if ramp is None:
        return scaled_norm(operator, scale, room, *work)

    def gram(stack: Array) -> Array:
        stack *= scale
        stack *= scale
        stack[...] = operator.gram(stack, work[0], room)
        return stack

    return ramp.norm(gram)


def _factors(width: int, length: float) -> NDArray[np.float32]:
    """gain and pass of ``(1 + length^2 D* D)^-1``."""
    square, gain, found = length**2, 0.0, np.empty((2, width))
    for i in range(width):
        before, after = float(i > 0), float(i + 1 < width)
        gain = 1 / (1 + square * (before + after) - square**2 * gain * before)
        found[:, i] = gain, square * gain
    return found.astype(np.float32)


__all__ = ["Ramp", "Ramped", "norm_in_windows"]
