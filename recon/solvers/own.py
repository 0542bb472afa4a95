"""Regularisers and data terms of a user's own: what they have to be, the check that they are, and their solver."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from recon.backend import Array, namespace
from recon.errors import JobError
from recon.operators import Operator
from recon.operators.own import ALIKE, check_adjoint, inner, random, shaped
from recon.solvers.bounds import largest_gain
from recon.solvers.data_terms import DataTerm
from recon.solvers.pdhg import PrimalDual
from recon.solvers.steps import dual_step
from recon.solvers.weights import Weights

NORM_ITERATIONS = 30  # of the power method
STEEP = 100.0  # step of the proximal map from which a derivative is read

# ---------------------------------------------------------------- what a user writes


class Regulariser(Protocol):
    """``R(u) = J(K u)`` with a linear K and a J that is a norm or like one: ``J(t v) = t J(v)`` for t >= 0, convex.

    Such a J is the largest ``<v, p>`` over p of a convex set, the dual ball. Of anisotropic total variation, say, K is
    the gradient, J the sum of absolute values times a strength, and the dual ball all p of at most that in each
    component. Volumes are ``(z, y, x)`` float32; K u may have any shape. On a GPU arrays are CuPy's. What is handed in
    must not be changed.
    """

    def __call__(self, volume: Array, /) -> Array:
        """``K u``, float32."""

    def adjoint(self, dual: Array, /) -> Array:
        """``K* p``, ``(z, y, x)``."""

    def value(self, field: Array, /) -> float:
        """``J(v)``."""

    def project(self, dual: Array, /) -> Array:
        """The point of the dual ball that is nearest to p."""


@dataclass(frozen=True, eq=False)
class OwnDataTerm(DataTerm):
    """A data term of one's own, pixel by pixel: a convex ``D(v)`` of the counts above background, ``v = s A u``.

    A subclass has `counts`, `scale` (s) and `offset` (b), arrays of one shape with the pixels in no particular order,
    and defines `terms`, `conjugate` and `prox_conjugate`. Pixels with ``scale`` 0 carry no data and must add nothing.
    """

    takes_any_dual: ClassVar[bool] = False

    @abstractmethod
    def prox_conjugate(self, dual: Array, sigma: float) -> Array:
        """The y that minimises ``D*(y) + |y - dual|^2 / (2 sigma)``, 0 where `scale` is 0."""

    def dual_step(self, y: Array, projection: Array, sigma: float, rho: np.float32) -> None:
        ahead = self.prox_conjugate(y + np.float32(sigma) * self.scale * projection, sigma)
        y += rho * (ahead * (self.scale > 0) - y)

    def derivative(self, projection: Array) -> Array:
        # by Moreau's identity a steep step of the conjugate ends at the derivative of a slightly smoothed D
        out: Array = self.prox_conjugate(np.float32(STEEP) * self.scale * projection, STEEP) * (self.scale > 0)
        return out

    def total_bound(self, total: Callable[[float], float] = float) -> float:
        """Nothing is known of the total; what bounds u is the box alone."""
        return np.inf


# ---------------------------------------------------------------- whether it is what it must be


def check_regulariser(own: Regulariser, volume: tuple[int, ...], xp: Any) -> None:
    """JobError, with the numbers, unless `own` is a `Regulariser` of volumes of this shape, tried on normal numbers."""
    u = random(xp, volume, 1)
    field = own(u)
    shape = tuple(field.shape)
    check_adjoint("the regulariser's operator", own, own.adjoint, (volume, shape), xp)
    once, twice = float(own.value(field)), float(own.value(2 * field))
    if not (np.isfinite(once) and once >= 0 and abs(twice - 2 * once) <= ALIKE * max(twice, 1e-30)):
        raise JobError(
            f"the regulariser's value is {once:.6g}, and {twice:.6g} of twice the field; it must be finite, not "
            "negative, and twice as large"
        )
    for k, size in enumerate((0.1, 1.0, 10.0)):
        v = np.float32(size * (once / max(inner(field, field), 1e-30))) * random(xp, shape, 10 + k)
        nearest = shaped("the regulariser's projection", own.project(v), shape)
        again = own.project(nearest) - nearest
        if inner(again, again) ** 0.5 > ALIKE * max(inner(nearest, nearest) ** 0.5, 1e-30):
            raise JobError("the regulariser's projection is none: applied twice it gives something else than once")
        # v less its projection is normal to the dual ball there, so J of it is reached there (Moreau)
        rest = v - nearest
        said, reached = float(own.value(rest)), inner(rest, nearest)
        if abs(said - reached) > ALIKE * max(abs(said), abs(reached), inner(v, v) ** 0.5 * 1e-3):
            raise JobError(
                "the regulariser's value and projection do not belong together: of v less its projection P v the value "
                f"is {said:.6g}, and <v - P v, P v> is {reached:.6g}; they must be equal"
            )


def check_data_term(term: DataTerm) -> None:
    """JobError, with the numbers, unless conjugate and proximal map belong to the data term (Fenchel's equality)."""
    if not isinstance(term, OwnDataTerm):
        return
    xp = namespace(term.counts)
    used = term.scale > 0
    safe = xp.where(used, term.scale, np.float32(1))
    start = (xp.abs(random(xp, term.counts.shape, 5)) + np.float32(0.5)) * (term.counts + 1) * used
    for sigma in (0.1, 1.0):
        v = np.float32(sigma) * start
        y = shaped("prox_conjugate", term.prox_conjugate(v, sigma), term.counts.shape) * used
        w = (v - y) / np.float32(sigma) * used  # the point whose derivative y is
        left, right = term.value(w / safe) + term.conjugate(y), inner(w, y)
        if not abs(left - right) <= 10 * ALIKE * max(abs(left), abs(right), float(used.sum())):
            raise JobError(
                "the data term, its conjugate and its proximal map do not belong together: where y is the proximal "
                f"point of v + y, D(v) + D*(y) is {left:.6g} and <v, y> is {right:.6g}; they must be equal"
            )


# ---------------------------------------------------------------- the solver


class OwnPrimalDual(PrimalDual):
    """`PrimalDual` with a regulariser of the user's own: ``D(s A u + b; c) + J(K u)`` over u >= 0.

    The same iteration, with the dual d of K u projected by the regulariser, and the same certificate: d lies in the
    dual ball, so ``-D*(y) - max <-(A^T s y + K* d), u>`` is a lower bound.

    Args:
        operator, data: A and D.
        own: checked by `check_regulariser`.
        start: ``(z, x, y)``, first u.
    """

    def __init__(self, operator: Operator, data: DataTerm, own: Regulariser, start: Array | None = None) -> None:
        self.own = own
        z, x, y = operator.domain_shape
        xp = namespace(data.counts)
        self.d = xp.zeros_like(own(xp.zeros((z, y, x), dtype=np.float32)))
        super().__init__(operator, data, regulariser="none", start=start)
        first = self.weights.omega
        # as of total variation: its second block leaves out w, which stands for nothing here and is on the safe side
        self.weights = replace(Weights(self.weights.norm_a, self._norm(), 1, overlap=2.0), omega=first)
        self._begin_to_balance()

    def _norm(self) -> float:
        """|K|, with 5 % on top: the power method comes from below, of total variation to 1.5 %."""
        z, x, y = self.operator.domain_shape
        u, size = random(self._xp, (z, y, x), 7), 0.0
        for _ in range(NORM_ITERATIONS):
            u = u / np.float32(max(inner(u, u) ** 0.5, 1e-30))
            u = self.own.adjoint(self.own(u))
            size = inner(u, u) ** 0.25
        return 1.05 * size or 1.0

    def step(self, rho: float = 1.0) -> None:
        """One iteration, over-relaxed by `rho`."""
        xp, s, relax = self._xp, self.weights, np.float32(rho)
        xp.multiply(self.data.scale, self.y, out=self._stack)
        self.operator.adjoint(self._stack, self.g)
        self.g += self.own.adjoint(self.d).swapaxes(1, 2)
        ahead = xp.maximum(self.u - np.float32(s.tau) * self.g, 0)
        self.u_bar[...] = 2 * ahead - self.u
        self.u += relax * (ahead - self.u)
        moved = self.own.project(self.d + np.float32(s.sigma_p) * self.own(self.u_bar.swapaxes(1, 2)))
        self.d += relax * (moved - self.d)
        self.operator(self.u_bar, self._stack)
        dual_step(self.y, self.v, self._ahead, self._stack, self.data, s.sigma_y, relax, self.ramp)
        self.iteration += 1

    def _watched(self) -> list[Array]:
        u, w, _, q, y = super()._watched()
        part = len(u) / len(self.u)  # d is watched whole, and counts as the planes that stand for all
        return [u, w, np.float32(part**0.5) * self.d[None], q, y]

    def _regularised(self, v: Array) -> float:
        return float(self.own.value(self.own(v.swapaxes(1, 2))))

    def lower_bound(self) -> float:
        """Value of the dual problem at (y, d); never above the minimum."""
        y = self.data.feasible(self.y)
        self._xp.multiply(self.data.scale, y, out=self._stack)
        g = self.operator.adjoint(self._stack, self.u_bar)
        g += self.own.adjoint(self.own.project(self.d)).swapaxes(1, 2)
        y = self._raised(y, g)
        gain = largest_gain(g, self._sensitivity, 1.0, self.box(self.u), self.data.total_bound())
        return -self.data.conjugate(y) - gain


__all__ = ["OwnDataTerm", "OwnPrimalDual", "Regulariser", "check_data_term", "check_regulariser"]
