"""Data terms ``D(s A u + b; counts)``: value, conjugate and the proximal step of the conjugate.

Arrays are stacks ``(tilt, u, y)`` float32; sums are accumulated in float64. A pixel with ``scale`` 0
carries no data and its dual is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recon.backend import Array, kernels, namespace

DIM = 0.03  # of the brightest pixel: raising the dual of one that is darker costs little


@dataclass(frozen=True, eq=False)
class Lift:
    """A direction in which a dual can be raised at little cost.

    Attributes:
        direction: at least 0, a stack; the dual stays in the domain of ``D*`` for steps up to `most`.
        cost: by which ``D*`` grows with a small step, per step; of a rank its part.
        most: the longest step.
    """

    direction: Array
    cost: float
    most: float


@dataclass(frozen=True, eq=False)
class DataTerm(ABC):
    """A convex data term of the line integrals ``A u``.

    Attributes:
        counts: recorded values, 0 where `scale` is 0.
        scale: exposure of each pixel, 0 for pixels left out.
        offset: background, counts per pixel, 0 where `scale` is 0.
        takes_any_dual: whether `feasible` takes any dual into the domain of ``D*``, and not only what rounding made of
            one that was there: steps in the metric of a ramp leave it (`recon.solvers.ramp`).
    """

    takes_any_dual: ClassVar[bool] = True

    counts: Array
    scale: Array
    offset: Array

    @abstractmethod
    def terms(self, projection: Array) -> Array:
        """What each pixel adds to ``D`` at ``A u = projection``, float64; infinite where the model cannot give it."""

    def value(self, projection: Array) -> float:
        """``D`` at ``A u = projection``."""
        return float(namespace(projection).sum(self.terms(projection)))

    @abstractmethod
    def derivative(self, projection: Array) -> Array:
        """Of D with respect to ``s A u``: the dual y that belongs to u, 0 where `scale` is 0.

        For a start, so a count where the model has next to nothing pulls by no more than -5.
        """

    @abstractmethod
    def conjugate(self, dual: Array) -> float:
        """``D*(y)`` as a function of ``s A u``; infinite outside its domain."""

    def feasible(self, dual: Array) -> Array:
        """A point of the domain of ``D*`` near a dual that rounding may have put outside, at least as good."""
        return dual

    def brightest(self) -> float:
        """The most counts above background in a pixel."""
        return float(namespace(self.counts).max(self.counts - self.offset, initial=0.0))

    def lift(self, dual: Array, brightest: float) -> Lift | None:
        """Where a `feasible` dual can be raised at little cost: in dark pixels; None where that is not known.

        A voxel outside the particle is seen by rays that meet next to nothing, so raising their y makes up for a
        ``s A^T y`` that is too low there.

        Args:
            brightest: as `brightest`, of all ranks.
        """
        return None

    def _dark(self, brightest: float) -> Array:
        """1 for a pixel without counts above background, near 0 for bright ones."""
        xp = namespace(self.counts)
        above = xp.maximum(self.counts - self.offset, np.float32(0))
        level = np.float32(DIM * max(brightest, 1e-30))
        found: Array = xp.where(self.scale > 0, level / (level + above), np.float32(0))
        return found

    @abstractmethod
    def dual_step(self, y: Array, projection: Array, sigma: float, rho: np.float32) -> None:
        """y <- y + rho (y' - y) with the prox y' of sigma D* at y + sigma s A u_bar; `projection` is A u_bar."""

    @abstractmethod
    def total_bound(self, total: Callable[[float], float] = float) -> float:
        """A number C with ``<A^T s, u> <= C`` for a minimiser u of D + any positively homogeneous term.

        Along the ray through u the derivative at u is zero, and the second term's is at least 0 there. `total` sums
        over the ranks that have other rows.
        """


class Poisson(DataTerm):
    """Generalised Kullback-Leibler divergence of ``s A u + b`` from the counts, zero at a perfect fit.

    ``D = sum m - c + c log(c / m)``, m = s A u + b;  ``D*(y) = sum -b y - c log(1 - y)``, y <= 1.
    """

    def terms(self, projection: Array) -> Array:
        xp = namespace(projection)
        m = (self.scale * projection + self.offset).astype(np.float64)
        c = self.counts.astype(np.float64)
        used = self.scale > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            log = xp.where(c > 0, c * xp.log(c / m), 0.0)
        out: Array = xp.where(used, m - c + log, 0.0)
        return out

    def derivative(self, projection: Array) -> Array:
        xp = namespace(projection)
        m = xp.maximum(self.scale * projection + self.offset, np.float32(1e-30))
        y = xp.maximum(1 - self.counts / m, np.float32(-5))
        out: Array = xp.where(self.scale > 0, y, np.float32(0))
        return out

    def conjugate(self, dual: Array) -> float:
        xp = namespace(dual)
        y = dual.astype(np.float64)
        c = self.counts.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            log = xp.where(c > 0, c * xp.log1p(-y), xp.where(y > 1, -np.inf, 0.0))
        log = xp.where((c > 0) & (y >= 1), -np.inf, log)
        return float(-xp.sum(self.offset * y + log))

    def feasible(self, dual: Array) -> Array:
        # without a count y = 1 is the best there is: it costs nothing and raises A^T s y most
        xp = namespace(dual)
        out: Array = xp.where(self.counts > 0, xp.minimum(dual, np.float32(1 - 1e-6)), np.float32(1))
        return out

    def lift(self, dual: Array, brightest: float) -> Lift | None:
        dark = self._dark(brightest)
        direction = dark * (1 - dual)  # so that y < 1 after steps below 1
        cost = _sum(dark * self.counts) - _sum(self.offset * direction)
        return Lift(direction, cost, 0.5)

    def dual_step(self, y: Array, projection: Array, sigma: float, rho: np.float32) -> None:
        kernels(y).poisson_dual(y, projection, self.counts, self.offset, self.scale, np.float32(sigma), rho)

    def total_bound(self, total: Callable[[float], float] = float) -> float:
        # <s A u, 1 - c/m> <= 0 and s A u <= m
        return total(float(namespace(self.counts).sum(self.counts, dtype=np.float64)))


@dataclass(frozen=True, eq=False)
class LeastSquares(DataTerm):
    """``D = sum weight/2 (s A u + b - c)^2``;  ``D*(y) = sum y^2 / (2 weight) + y (c - b)``.

    Attributes:
        weight: inverse variance of each pixel, positive wherever `scale` is; an array like `counts`.
    """

    weight: Array

    def terms(self, projection: Array) -> Array:
        xp = namespace(projection)
        r = (self.scale * projection + self.offset - self.counts).astype(np.float64)
        out: Array = xp.where(self.scale > 0, self.weight * r * r / 2, 0.0)
        return out

    def derivative(self, projection: Array) -> Array:
        r = self.scale * projection + self.offset - self.counts
        out: Array = namespace(projection).where(self.scale > 0, self.weight * r, np.float32(0))
        return out

    def conjugate(self, dual: Array) -> float:
        xp = namespace(dual)
        y = dual.astype(np.float64)
        used = self.scale > 0
        quadratic = xp.where(used, y * y / (2 * xp.where(used, self.weight, 1)), 0.0)
        return float(xp.sum(quadratic + y * (self.counts - self.offset)))

    def lift(self, dual: Array, brightest: float) -> Lift | None:
        dark = self._dark(brightest)
        expected = dual / namespace(dual).where(self.scale > 0, self.weight, 1) + self.counts - self.offset  # s A u
        return Lift(dark, _sum(dark * expected), np.inf)

    def dual_step(self, y: Array, projection: Array, sigma: float, rho: np.float32) -> None:
        kernels(y).least_squares_dual(
            y, projection, self.counts, self.offset, self.scale, self.weight, np.float32(sigma), rho
        )

    def total_bound(self, total: Callable[[float], float] = float) -> float:
        # |s A u|_w <= |c - b|_w, then Cauchy-Schwarz against 1
        xp = namespace(self.counts)
        w = xp.where(self.scale > 0, self.weight, 0).astype(np.float64)
        r = (self.counts - self.offset).astype(np.float64)
        inverse = xp.where(w > 0, 1 / xp.where(w > 0, w, 1), 0.0)
        squares, least = total(float(xp.sum(w * r * r))), total(float(xp.sum(inverse)))
        return float(np.sqrt(squares) * np.sqrt(least))


def _sum(a: Array) -> float:
    return float(namespace(a).sum(a, dtype=np.float64))
