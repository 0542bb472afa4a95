"""Reconstruction in which the steps of regions against their surroundings are free of the regulariser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recon.backend import Array, namespace, to_host
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
    eta is smaller by the root of 1 - share, so that the norm of the whole operator still is below 1.

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
        super().__init__(operator, data, **how)
        self.free(regions)

    def free(self, regions: Sequence[Array]) -> None:
        """Take other regions, their steps from zero."""
        xp, shape = self._xp, self.operator.domain_shape
        n = len(regions) if len(self.p) else 0
        self.c = xp.zeros(n)
        self.fractions = [xp.asarray(f, dtype=np.float32) for f in regions[:n]]
        self._supports = _layers(self.fractions)
        self._exempt = xp.zeros(shape, np.float32) if n else None
        self._borders = [_border(xp, f) for f in self.fractions]
        gram, whole = np.zeros((n, n)), xp.zeros(3 * int(np.prod(shape)) if n else 0, np.float32)
        for k, (at, g) in enumerate(self._borders):
            whole[at] = g
            gram[k] = [float((whole.take(there) * h).sum(dtype=np.float64)) for there, h in self._borders]
            whole[at] = 0
        length = np.sqrt(np.diag(gram))
        cosines = gram / np.maximum(np.outer(length, length), 1e-30)
        together = float(np.linalg.norm(cosines, 2)) if n else 1.0
        self._squares = xp.asarray(np.where(length > 0, length**2 * together, np.inf))  # one that is constant stays
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
        self._derive_y()
        self._begin_to_balance()

    def snapshot(self) -> list[Array]:
        """Copies of u, w, p, q, y, v and c."""
        return [a.copy() for a in (*self._state(), self.c)]

    def step(self, rho: float = 1.0) -> None:
        """One iteration; the formulas are those of the class."""
        if self._exempt is None:
            super().step(rho)
            return
        move = SHARE_OF_STEPS / self.weights.sigma_p / self._squares * self._pull(self.p)
        bar = (self.c + 2 * move).astype(np.float32)
        exempt = self._exempt.reshape(-1)
        for first, (at, region, fraction) in enumerate(self._supports):
            part = bar.take(region)
            part *= fraction
            if first:
                part += exempt.take(at)
            exempt[at] = part
        super().step(rho)
        self.c += rho * move

    def _pull(self, p: Array) -> Array:
        """``<grad f_k, p>`` of each region, float64."""
        p = p.reshape(-1)
        # no BLAS: CuPy's wheels bring none
        pulls: Array = self._xp.stack([(p.take(at) * g).sum(dtype=np.float64) for at, g in self._borders])
        return pulls

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
        if self._exempt is None:
            return 0.0
        pulls = np.abs(to_host(self._pull(p))).sum()
        return float(self.upper * theta * pulls) if pulls else 0.0

    def state(self) -> State:
        base = super().state()
        return State({**base.arrays, "c": self.c}, base.numbers, base.history)


def _layers(fractions: Sequence[Array]) -> list[tuple[Array, Array, Array]]:
    """(voxels, region of each, fraction) of all regions; where several share a voxel, a layer for each of them."""
    if not fractions:
        return []
    xp = namespace(fractions[0])
    met = xp.zeros(fractions[0].size, np.uint8)
    parts: list[list[tuple[Array, Array, Array]]] = []
    for k, f in enumerate(fractions):
        f = f.reshape(-1)
        at = xp.flatnonzero(f)
        for layer in range(int(met[at].max()) + 1 if at.size else 0):
            here = at[met[at] == layer]
            parts += [[]] * (layer == len(parts))
            parts[layer] = [*parts[layer], (here, xp.full(here.size, k, np.int32), f[here])]
        met[at] += 1
    return [tuple(xp.concatenate(arrays) for arrays in zip(*layer, strict=True)) for layer in parts]


def _border(xp: Any, f: Array) -> tuple[Array, Array]:
    """Where the gradient of a field is not zero, in the flat ``(component, z, x, y)``, and the gradient there."""
    g = _gradient(xp, f).reshape(-1)
    at = xp.flatnonzero(g)
    return at, g[at]


def _gradient(xp: Any, f: Array) -> Array:
    """Forward differences along z, x, y, 0 at the last index."""
    out: Array = xp.zeros((3, *f.shape), np.float32)
    out[0, :-1], out[1, :, :-1], out[2, :, :, :-1] = f[1:] - f[:-1], f[:, 1:] - f[:, :-1], f[:, :, 1:] - f[:, :, :-1]
    return out


__all__ = ["RegionSolver"]
