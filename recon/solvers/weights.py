"""Step sizes of the primal-dual iteration, and how they are balanced while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recon.backend import Array, namespace

BALANCED_EVERY = 0.15  # of the iterations done so far, between two balances, and 10 at least
SETTLED_BY = 100  # iterations after which a balance moves the weights half as far, so that they settle
SAMPLED = 8  # of so many planes one stands for its neighbours when travel is measured
FEW_TILTS = 2  # whose rays a coarser grid may see otherwise: a drift of a pixel is half of one there, and blurs
# Dual travel of data over regulariser at which both get the same step: best of 1, 1.5, 2, 3, 4 tried. Where the data's
# share is large, of weak regularisation, more is better (a true 1e-3 after 0.87 of the iterations at a tenth of the
# usual strength): this much times the root of the share, within limits.
TRAVEL, TRAVEL_LIMITS = 3.0, (2.0, 4.0)
LIMITS = (0.02, 10.0)  # of the share
NOTICED = 1e-3  # of |u|, travelled between balances, below which rounding would decide the primal weight


@dataclass(frozen=True)
class Weights:
    """Primal weight and share, and the step sizes that follow from them and from the norms of the blocks of K.

    K has the blocks s A, grad and E. With ``n_a = |s A| / share^(1/4)`` and ``n_d = |grad| share^(1/4)``, which serves
    E as well, the steps are ``tau = eta / omega``, ``sigma_y = eta omega / n_a^2`` and
    ``sigma_p = sigma_q = eta omega / n_d^2``, where ``eta |K / n| = 0.99``, less what is reserved. What rays see best,
    the mean along them, is what differences see least, so |K / n| is little more than the larger of its blocks' norms.
    The textbook's (`plain`) have ``tau = sigma = 0.99 / |K|``.

    Attributes:
        norm_a: ``|s A|``, in the metric of the step of y, see `recon.solvers.ramp`.
        norm_d: ``|grad|``.
        order: of the regulariser: 0 none, 1 TV, 2 TGV.
        omega: primal weight.
        share: step of the dual of the data over that of the regulariser's, in norms of their blocks.
        plain: whether the steps are the textbook's.
        reserved: part of the squared norm that is left to further blocks of K.
        overlap: of rays and differences, see `recon.solvers.overlap`; None where it is not known, then nothing is
            made of it.
        across: part of |grad|^2 that differences between slices have.
    """

    norm_a: float
    norm_d: float
    order: int
    omega: float = 1.0
    share: float = 1.0
    plain: bool = False
    reserved: float = 0.0
    overlap: float | None = None
    across: float = 1.0

    def with_share(self, share: float) -> Weights:
        """The same with another share, within limits; without a regulariser there is nothing to share."""
        return replace(self, share=float(np.clip(share, *LIMITS)) if self.order else 1.0)

    @cached_property
    def n_a(self) -> float:
        return 1.0 if self.plain else self.norm_a / self.share**0.25

    @cached_property
    def n_d(self) -> float:
        return 1.0 if self.plain else self.norm_d * self.share**0.25

    @cached_property
    def eta(self) -> float:
        whole = 0.99 * float((1 - self.reserved) ** 0.5)
        if self.plain:
            return whole / self._block_norm(self.norm_a, self.norm_d, self.norm_d)
        c = self.share**0.25
        bound = self._block_norm(c, 1 / c, 1 / c)
        if self.order and self.overlap is not None:
            bound = min(bound, self._joint_norm(c, self.overlap))
        return whole / bound

    @property
    def tau(self) -> float:
        """Step of u and w."""
        return self.eta / self.omega

    @property
    def sigma_y(self) -> float:
        """Step of y, the dual of the data."""
        return self.eta * self.omega / self.n_a**2

    @property
    def sigma_p(self) -> float:
        """Step of p, the dual of ``grad u - w``."""
        return self.eta * self.omega / self.n_d**2

    @property
    def sigma_q(self) -> float:
        """Step of q, the dual of ``E w``."""
        return self.sigma_p

    def _block_norm(self, a: float, d: float, e: float) -> float:
        """Norm of K from those of its blocks A, grad and E."""
        one = d / self.norm_d  # of w in ``grad u - w``
        rows = [[a, 0.0]] + [[d, one]] * (self.order >= 1) + [[0.0, e]] * (self.order == 2)
        return float(np.linalg.norm(np.array(rows), 2))

    def _joint_norm(self, c: float, overlap: float) -> float:
        """A bound on the norm of the blocks ``c A / |A|`` and those of the differences over ``c |grad|``.

        w raises what stands beside u by the same factor whatever u is: the norm of [[1, 1 / |grad|], [0, 1]]. Then
        with ``S = A* A / |A|^2`` and gradients G within slices and H between them, ``a S + b (G* G + H* H) / |grad|^2``
        is looked for, in which the parts of G and H are at most ``within`` and ``across`` of 1, and S and G's part over
        ``within`` together at most the overlap.
        """
        beside = float(np.linalg.norm(np.array([[1.0, 1 / self.norm_d], [0.0, 1.0]]), 2)) if self.order == 2 else 1.0
        a, b, within = c**2, (beside / c) ** 2, 1 - self.across
        return float((max(a + self.across * b, b) + (overlap - 1) * min(a, within * b)) ** 0.5)

    def balanced(self, travel: Travel, pace: float, size: float) -> Weights:
        """Primal weight and share moved by a `pace`, 1 for all the way, to where primal and dual travel alike.

        Args:
            travel: since the last balance.
            pace: 0 to 1.
            size: norm of u.
        """
        new = self
        if travel.y > 0 and travel.p > 0:
            wanted = float(np.clip(TRAVEL * self.share**0.5, *TRAVEL_LIMITS))
            new = self.with_share(self.share * (travel.y / travel.p / wanted / self.share) ** pace)
        dual = float(np.hypot(travel.y * new.n_a / self.norm_a, travel.p * new.n_d / self.norm_d))
        if travel.u > NOTICED * size and dual > 0:
            return replace(new, omega=new.omega * float(np.clip(dual / travel.u / new.omega, 1 / 4, 4)) ** pace)
        return new


@dataclass(frozen=True)
class Travel:
    """How far u and w, y, and p and q have gone, in units in which their blocks of K have norm 1."""

    u: float
    y: float
    p: float


class Balance:
    """Measures travel since the last balance on a sample of planes, and says when the next one is due.

    Args:
        watched: the part of the state that is measured: u, w, p and q on sampled planes, and y.

    Attributes:
        begun: iteration of the last new start, from which the pace counts.
        last: iteration of the last balance.
    """

    def __init__(self, watched: list[Array]) -> None:
        self.before = [a.copy() for a in watched]
        self.begun = self.last = 0

    def due(self, iteration: int) -> bool:
        """Whether it is time for a balance."""
        return iteration - self.last >= max(10, BALANCED_EVERY * (iteration - self.begun))

    def pace(self, iteration: int) -> float:
        """How far a balance moves the weights: ever less, so that they settle."""
        return 0.5 / (1 + (iteration - self.begun) / SETTLED_BY)

    def begin(self, iteration: int, watched: list[Array]) -> None:
        """Measure from here; earlier travel no longer counts, and the pace is that of a new start."""
        self.begun = iteration
        self.measure_from(iteration, watched)

    def measure_from(self, iteration: int, watched: list[Array]) -> None:
        """Measure from here."""
        self.last = iteration
        for a, b in zip(self.before, watched, strict=bool(self.before)):
            a[...] = b

    def travelled(
        self,
        watched: list[Array],
        units: tuple[float, float],
        part: float,
        weights: Weights,
        total: Callable[[float], float] = float,
        of_y: Callable[[Array, Array], float] | None = None,
    ) -> Travel:
        """Travel since the last balance.

        Args:
            watched: as given at first.
            units: what 1 stands for in p and q.
            part: of all planes that are sampled.
            weights: whose norms are those of the blocks.
            total: sums over the ranks that have other slices.
            of_y: `squared_change` of y, in the metric of its step.
        """
        sums = [
            total(sum(squared_change(row, row0) for row, row0 in zip(a, b, strict=True)))
            for a, b in zip(watched[:-1], self.before[:-1], strict=True)
        ]
        sums.append(total((of_y or squared_change)(watched[-1], self.before[-1])))
        return travel_of(tuple(sums), units, part, weights)


def squared_change(now: Array, before: Array) -> float:
    """``|now - before|^2``, summed in float64."""
    xp = namespace(now)
    return float(xp.sum(xp.square(xp.subtract(now, before, dtype=np.float32)), dtype=np.float64))


def travel_of(changes: tuple[float, ...], units: tuple[float, float], part: float, weights: Weights) -> Travel:
    """Travel from `squared_change` of u, w, p, q and y, of the first four on a `part` of the planes."""
    u, w, p, q, y = (unit**2 * c for unit, c in zip((1.0, 1.0, *units, 1.0), changes, strict=True))
    return Travel(((u + w) / part) ** 0.5, y**0.5 * weights.norm_a, ((p + q) / part) ** 0.5 * weights.norm_d)
