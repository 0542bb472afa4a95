"""Reconstruction in which the steps of regions against their surroundings are free of the regulariser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recon.backend import Array, to_host
from recon.operators import Operator
from recon.solvers.data_terms import DataTerm
from recon.solvers.pdhg import PrimalDual
from recon.solvers.solution import State

SHARE_OF_STEPS = 0.2  # of the squared norm that step sizes allow for; of 0.1 to 0.5 about equally fast


class RegionSolver(PrimalDual):
    r"""The primal-dual hybrid gradient method for regions that stand out from their surroundings at no cost.

        ``min over u >= 0, w, c of  D(s A u + b; counts) + a1 |grad(u - sum_k c_k f_k) - w|_1 + a0 |E w|_1``

    with a field f_k of fractions of a voxel for each region. Beside the iteration of `PrimalDualIteration`, c takes

        c' = c + tau_c <grad f_k, p>        p' = P_a1(p + sigma_p (grad (2u' - u - sum_k (2c' - c)_k f_k) - (2w' - w)))

    where ``tau_c = share / (sigma_p |grad f_k|^2 n)``, n the norm of the matrix of cosines between the grad f_k, and
    eta is smaller by the root of 1 - share, so that the norm of the whole operator still is below 1. Only voxels
    where some grad f_k is not zero differ from an iteration without regions: these p are taken anew after it.

    The bound that the certificate needs is that of u for c as well: ``|c_k| <= upper``.

    Args:
        operator, data: A and D.
        regions: f_k, ``(z, x, y)`` each, 0 to 1. Without one, or with a regulariser that has
            no gradient, it is `PrimalDual`.
        how: the other arguments of `PrimalDual`, but ``half_precision``.

    Attributes:
        c: ``(region,)`` float64 of the backend, the free steps.
    """

    def __init__(self, operator: Operator, data: DataTerm, regions: Sequence[Array], **how: Any) -> None:
        self._free = 0
        super().__init__(operator, data, **how)
        self.free(regions)

    def free(self, regions: Sequence[Array]) -> None:
        """Take other regions, their steps from zero."""
        xp, shape = self._xp, self.operator.domain_shape
        n = len(regions) if len(self.p) else 0
        self.c = xp.zeros(n)
        self.fractions = [xp.asarray(f, dtype=np.float32) for f in regions[:n]]
        gradients = [_gradient(xp, f) for f in self.fractions]
        touched = sum((xp.abs(g).sum(axis=0) for g in gradients), start=xp.zeros(shape, np.float32))
        self._at = xp.flatnonzero(touched)
        self._steps = xp.stack([g.reshape(3, -1)[:, self._at] for g in gradients]) if n else xp.zeros((0, 3, 0))
        # the next voxel along z, x, y, and whether there is one
        z, x, y = xp.unravel_index(self._at, shape)
        ahead = ((z + 1, x, y), (z, x + 1, y), (z, x, y + 1))
        inside = [a[axis] < shape[axis] for axis, a in enumerate(ahead)]
        self._exists = xp.stack(inside).astype(np.float32)
        strides = (shape[1] * shape[2], shape[2], 1)
        self._ahead = xp.stack([self._at + xp.where(i, stride, 0) for i, stride in zip(inside, strides, strict=True)])
        flat = to_host(self._steps).reshape(n, 3 * self._at.size).astype(np.float64)
        gram = flat @ flat.T
        length = np.sqrt(np.diag(gram))
        cosines = gram / np.maximum(np.outer(length, length), 1e-30)
        together = float(np.linalg.norm(cosines, 2)) if n else 1.0
        self._squares = xp.asarray(np.where(length > 0, length**2 * together, np.inf))  # one that is constant stays
        self._free = n
        self.weights = replace(self.weights, reserved=SHARE_OF_STEPS if n else 0.0)

    def anew(self, data: DataTerm, state: Sequence[Array]) -> None:
        """Begin with other counts where an earlier solution stood.

        Args:
            data: as the solver's own but for the counts.
            state: from `snapshot`, with as many steps as there are regions now.
        """
        self.data = data
        for own, there in zip([*self._state(), self.c], state, strict=True):
            own[...] = there
        self.y[...] = data.derivative(self.operator(self.u, self._stack))
        self._begin_to_balance()

    def snapshot(self) -> list[Array]:
        """Copies of u, w, p, q, y and c."""
        return [a.copy() for a in (*self._state(), self.c)]

    def step(self, rho: float = 1.0) -> None:
        """One iteration; the formulas are those of the class."""
        if not self._free:
            super().step(rho)
            return
        sigma, relax = np.float32(self.weights.sigma_p), np.float32(rho)
        tau = SHARE_OF_STEPS / float(sigma) / self._squares
        p, w = (a.reshape(len(a), self.u.size) for a in (self.p, self.w))
        before, w_before = p.take(self._at, axis=1), w.take(self._at, axis=1)
        move = tau * self._pull(before)
        super().step(rho)
        u_bar = self.u_bar.reshape(-1)
        inner = u_bar.take(self._ahead)
        inner -= u_bar.take(self._at)
        inner *= self._exists
        c_bar = (self.c + 2 * move).astype(np.float32)
        inner -= self._xp.sum(c_bar[:, None, None] * self._steps, axis=0)
        self.c += rho * move
        if len(w):
            moved = w.take(self._at, axis=1)
            moved -= w_before
            moved *= np.float32(2) / relax
            moved += w_before
            inner -= moved  # 2 w' - w
        inner *= sigma
        inner += before
        square = inner[0] * inner[0]  # a sum over so short an axis takes ten times as long
        square += inner[1] * inner[1]
        square += inner[2] * inner[2]
        inner /= self._xp.maximum(self._xp.sqrt(square) / self.a1, np.float32(1))
        inner -= before
        inner *= relax
        inner += before
        for row, new in zip(p, inner, strict=True):
            row[self._at] = new

    def _pull(self, p: Array) -> Array:
        """``<grad f_k, p>`` of each region, float64, from p at the borders."""
        parts = (self._steps * p).reshape(len(self._steps), -1)
        pull: Array = parts.sum(axis=1, dtype=np.float64)  # no BLAS: CuPy's wheels bring none
        return pull

    def objective(self) -> float:
        """``D + R`` at (u, w, c), summed in float64."""
        self.operator(self.u, self._stack)
        value = self.data.value(self._stack)
        return value + self._regularised(self.flattened(self.u_bar))

    def flattened(self, out: Array | None = None) -> Array:
        """``u - sum_k c_k f_k``: what the regulariser sees, ``(z, x, y)``."""
        out = self._xp.empty_like(self.u) if out is None else out
        out[...] = self.u
        for c, f in zip(to_host(self.c), self.fractions, strict=True):
            out -= np.float32(c) * f
        return out

    def _not_of_the_dual(self, p: Array, theta: float) -> float:
        """``upper sum |<grad f_k, theta p>|``: what bounded c take off the bound where p does not balance them."""
        if not self._free:
            return 0.0
        pulls = np.abs(to_host(self._pull(p.reshape(3, -1)[:, self._at]))).sum()
        return float(self.upper * theta * pulls) if pulls else 0.0

    def state(self) -> State:
        base = super().state()
        return State({**base.arrays, "c": self.c}, base.numbers, base.history)


def _gradient(xp: Any, f: Array) -> Array:
    """Forward differences along z, x, y, 0 at the last index."""
    out: Array = xp.zeros((3, *f.shape), np.float32)
    out[0, :-1], out[1, :, :-1], out[2, :, :, :-1] = f[1:] - f[:-1], f[:, 1:] - f[:, :-1], f[:, :, 1:] - f[:, :, :-1]
    return out


__all__ = ["RegionSolver"]
