"""Primal-dual hybrid gradient for TGV-, TV- and unregularised reconstruction, with a certificate."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from recon.backend import Array, kernels, namespace
from recon.operators import Operator, norm_estimate
from recon.prox import DataTerm, Relax
from recon.solvers.solution import Callback, Record, Solution, Status

_ORDER = {"none": 0, "tv": 1, "tgv": 2}
_CHUNK = 1 << 22


class PrimalDual:
    r"""min over u >= 0, w of  ``D(s A u + b; c) + a1 |grad u - w|_1 + a0 |E w|_1``.

    With duals y of ``s A u``, p of ``grad u - w`` (|p| <= a1) and q of ``E w`` (|q| <= a0), one
    iteration T of the primal-dual hybrid gradient method is

        u' = max(0, u - tau (A^T s y + grad* p))        w' = w - tau (E* q - p)
        y' = prox_{sigma_y D*}(y + sigma_y s A (2u' - u))
        p' = P_a1(p + sigma_p (grad (2u' - u) - (2w' - w)))    q' = P_a0(q + sigma_q E (2w' - w))

    (Chambolle, Pock, JMIV 40, 120 (2011); TGV: Bredies, Kunisch, Pock, SIAM J. Imaging Sci. 3, 492
    (2010)), with ``tau = eta / omega``, ``sigma_k = eta omega / |K_k|^2`` for each block K_k of
    (s A, grad, E), and ``eta^2 <= 1 / |K_hat|^2``, K_hat having blocks of norm 1. It converges for any
    primal weight omega; how fast depends on it.

    ``method="plain"`` is z <- T(z) with fixed omega. ``method="halpern"``, the default, is
    z_{k+1} = (k+1)/(k+2) (2 T(z_k) - z_k) + z_0 / (k+2), restarted from T(z_k) when the fixed-point
    residual |z - T(z)| has dropped, with omega balanced at each restart (Lu, Yang, arXiv:2407.16144;
    Applegate et al., NeurIPS 2021).

    TV leaves w and q out; no regulariser leaves p out as well.

    Args:
        operator: A, ``(z, x, y) -> (tilt, u, y)``.
        data: D, with s, b and the counts.
        regulariser: ``"tgv"``, ``"tv"`` or ``"none"``.
        a1, a0: strengths, counts^-1 voxel; a0 serves TGV only.
        upper: bound on u that the certificate may use; part of the model. It is doubled when u comes within
            half of it, so that it never decides.
        start: ``(z, x, y)``, first u; zero by default.
    """

    def __init__(
        self,
        operator: Operator,
        data: DataTerm,
        *,
        regulariser: str = "tgv",
        a1: float = 1.0,
        a0: float = 2.0,
        method: str = "halpern",
        upper: float = np.inf,
        start: Array | None = None,
        omega: float | None = None,
    ) -> None:
        xp = namespace(data.counts)
        self._xp, self._k = xp, kernels(data.counts)
        self.operator, self.data, self.upper, self.method = operator, data, upper, method
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        order = _ORDER[regulariser]
        shape = operator.domain_shape

        def zeros(*leading: int) -> Array:
            return xp.zeros((*leading, *shape), dtype=np.float32)

        self.u = zeros() if start is None else xp.array(start, dtype=np.float32)
        self.w = zeros(3 if order == 2 else 0)
        self.p = zeros(3 if order >= 1 else 0)
        self.q = zeros(6 if order == 2 else 0)
        self.y = xp.zeros(operator.range_shape, dtype=np.float32)
        self.u_bar, self.w_bar, self.g = zeros(), zeros(3 if order == 2 else 0), zeros()
        self._stack = xp.empty(operator.range_shape, dtype=np.float32)
        self._moved = xp.zeros((shape[0], 4), dtype=np.float64)  # u, w, p, q
        self._moved_y = xp.zeros((operator.range_shape[0], 2), dtype=np.float64)
        # A^T s, and the norms of the blocks
        self._sensitivity = operator.adjoint(data.scale, xp.empty(shape, dtype=np.float32))
        self.norm_a = norm_estimate(_Scaled(operator, data.scale), self.u)
        self.norm_d = float(np.sqrt(4 * sum(n > 1 for n in shape))) or 1.0
        blocks = np.array([[1.0, 0.0]] + [[1.0, 1 / self.norm_d]] * (order >= 1) + [[0.0, 1.0]] * (order == 2))
        self.eta = 0.99 / float(np.linalg.norm(blocks, 2))
        self.omega = self._first_weight() if omega is None else omega
        self.iteration = 0
        self._anchor: list[Array] | None = None
        if method == "halpern":
            self._anchor = [xp.empty_like(a) for a in self._state()]
        self._restart()

    # ------------------------------------------------------------------ one iteration

    def step(self) -> None:
        """One iteration; the formulas are those of the class."""
        tau, sigma = np.float32(self.eta / self.omega), self.eta * self.omega
        sigma_y, sigma_d = sigma / self.norm_a**2, np.float32(sigma / self.norm_d**2)
        relax = self._relaxation()
        u0, w0, p0, q0, y0 = self._anchor or self._state()
        k, xp = self._k, self._xp
        xp.multiply(self.data.scale, self.y, out=self._stack)
        self.operator.adjoint(self._stack, self.g)
        k.tgv_step(
            self.u, self.w, self.u_bar, self.w_bar, self.p, self.q, self.g, u0, w0, p0, q0, tau, tau,
            sigma_d, sigma_d, self.a1, self.a0, relax, self._moved,
        )  # fmt: skip
        self.operator(self.u_bar, self._stack)
        self.data.dual_step(self.y, self._stack, y0, sigma_y, relax, self._moved_y)
        self.iteration += 1
        self._since += 1

    def _state(self) -> list[Array]:
        return [self.u, self.w, self.p, self.q, self.y]

    def _relaxation(self) -> Relax:
        """(keep, move, anchor) of z <- keep z + move (2 T(z) - z) + anchor z_0."""
        f = np.float32
        if self._anchor is None or self._plain:
            return f(0.5), f(0.5), f(0)
        k = self._since
        return f(0), f((k + 1) / (k + 2)), f(1 / (k + 2))

    # ------------------------------------------------------------------ restarts

    def _first_weight(self) -> float:
        """omega = |y| / |u| (blocks of norm 1), by the size of the data.

        u is a uniform density that gives the total of the counts; for y, half a count in each was best
        of the constants tried on simulated particles. Balancing takes it from there.
        """
        c = self._xp.asarray(self.data.counts, dtype=np.float64)
        total, pixels = max(float(c.sum()), 1.0), float((self.data.scale > 0).sum())
        volume = float(self._xp.sum(self._sensitivity > 0))
        sensitivity = float(self._xp.sum(self._sensitivity, dtype=np.float64)) / max(volume, 1)
        density = total / max(sensitivity * volume, 1e-30)
        return float(self.norm_a * pixels**0.5 * 0.5 / max(density * volume**0.5, 1e-30))

    def _residual(self) -> tuple[float, float]:
        """|x - T(x)| and |y - T(y)| of the last step, in units in which every block has norm 1."""
        u, w, p, q = (float(v) for v in self._xp.sum(self._moved, axis=0))
        y = float(self._xp.sum(self._moved_y[:, 0]))
        dual = y * self.norm_a**2 + (p + q) * self.norm_d**2
        return 0.5 * (u + w) ** 0.5, 0.5 * dual**0.5

    def _restart(self) -> None:
        # numbers near the smallest float32 make every later product slow
        self.u[self._xp.abs(self.u) < 1e-30] = 0
        self._since, self._plain = 0, False
        self._first_residual: float | None = None
        self._last_residual = np.inf
        if self._anchor is not None:
            for a, b in zip(self._anchor, self._state(), strict=True):
                a[...] = b

    def _travelled(self) -> tuple[float, float]:
        """|x - x_0| and |y - y_0| since the last restart, blocks of norm 1."""
        assert self._anchor is not None
        xp = self._xp
        d = [
            float(sum(xp.sum(xp.square(row - row0), dtype=np.float64) for row, row0 in zip(a, b, strict=True)))
            for a, b in zip(self._state(), self._anchor, strict=True)
        ]
        return (d[0] + d[1]) ** 0.5, (d[4] * self.norm_a**2 + (d[2] + d[3]) * self.norm_d**2) ** 0.5

    def maybe_restart(self) -> bool:
        """Restart if the fixed-point residual dropped enough; balance the primal weight then."""
        if self._anchor is None or self._since < 2:
            return False
        x, y = self._residual()
        residual = float(np.hypot(x * self.omega**0.5, y / self.omega**0.5))
        if self._first_residual is None:
            self._first_residual = residual
            return False
        drop = residual / max(self._first_residual, 1e-300)
        stuck = drop <= 0.8 and residual > self._last_residual
        long = self._since >= 0.36 * self.iteration and self._since > 40
        self._last_residual = residual
        if not (drop <= 0.2 or stuck or long):
            return False
        dx, dy = self._travelled()
        if dx > 0 and dy > 0:
            ratio = float(np.clip(dy / dx / self.omega, 1 / 4, 4))
            self.omega *= ratio**0.5
        self._restart()
        return True

    # ------------------------------------------------------------------ certificate

    def objective(self) -> float:
        """``D + R`` at (u, w), summed in float64."""
        self.operator(self.u, self._stack)
        value = self.data.value(self._stack)
        if len(self.p):
            sums = self._xp.empty((self.u.shape[0], 2))
            self._k.tgv_value(self.u, self.w, sums)
            first, second = (float(v) for v in self._xp.sum(sums, axis=0))
            value += float(self.a1) * first + float(self.a0) * second
        return value

    def lower_bound(self) -> float:
        """Value of the dual problem at a feasible point made from (y, q); never above the minimum.

        ``p = E* q`` makes the point feasible in w; scaling (y, p, q) by theta keeps |p| <= a1. With
        ``g = s A^T y + grad* p``, the rest is the least ``<g, u>`` over ``0 <= u <= upper`` and
        ``<A^T s, u> <= C``, which holds for a minimiser (`DataTerm.total_bound`); its own dual is a
        one-dimensional concave problem. Uses `u_bar`, `w_bar` and `g` as scratch.
        """
        xp, g = self._xp, self.u_bar
        y = self.data.feasible(self.y)
        xp.multiply(self.data.scale, y, out=self._stack)
        self.operator.adjoint(self._stack, g)
        theta = 1.0
        if len(self.q):
            largest = xp.empty(g.shape[0], dtype=np.float64)
            self._k.tgv_divergence(self.q, self.a0, self.w_bar, largest)
            theta = min(1.0, float(self.a1) / max(float(xp.max(largest)), 1e-30))
            self._k.gradient_adjoint(self.w_bar, np.float32(1), g)
        elif len(self.p):
            length = xp.sqrt(xp.sum(xp.square(self.p), axis=0))
            theta = min(1.0, float(self.a1) / max(float(xp.max(length)), 1e-30))
            self._k.gradient_adjoint(self.p, np.float32(1), g)
        bad = g < 0
        return -self.data.conjugate(theta * y) - self._linear_bound(-np.float32(theta) * g[bad], self._sensitivity[bad])

    def _linear_bound(self, descent: Array, sensitivity: Array) -> float:
        """Upper bound on max <descent, u> over 0 <= u <= upper, <sensitivity, u> <= C."""
        xp = self._xp
        if descent.size == 0:
            return 0.0
        total = self.data.total_bound()
        blind = sensitivity <= 1e-6 * float(xp.max(self._sensitivity))
        outside = float(xp.sum(descent[blind], dtype=np.float64))
        outside = outside * self.upper if outside > 0 else 0.0
        d, a = descent[~blind], sensitivity[~blind]
        if d.size == 0:
            return outside

        def bound(price: float) -> tuple[float, float]:
            """Value of the one-dimensional dual at a price of ``<A^T s, u>``, and its slope."""
            rest = reached = 0.0
            for k in range(0, d.size, _CHUNK):  # float64, but not of everything at once
                over = d[k : k + _CHUNK] - price * a[k : k + _CHUNK].astype(np.float64)
                rest += float(xp.sum(xp.maximum(over, 0)))
                reached += float(xp.sum(a[k : k + _CHUNK][over > 0], dtype=np.float64))
            if rest == 0:
                return price * total, total
            return price * total + self.upper * rest, total - self.upper * reached

        high = float(xp.max(d / a)) * (1 + 1e-6)
        best = bound(high)[0]
        if np.isfinite(self.upper):
            value, slope = bound(0.0)
            best, low = min(best, value), high * 1e-9
            for _ in range(30 if slope < 0 else 0):  # the slope changes sign at the least value
                middle = (low * high) ** 0.5
                value, slope = bound(middle)
                best = min(best, value)
                low, high = (middle, high) if slope < 0 else (low, middle)
        return best + outside

    # ------------------------------------------------------------------ the run

    def run(
        self,
        tolerance: float = 1e-2,
        max_iterations: int = 5000,
        check_every: int = 50,
        callback: Callback | None = None,
    ) -> Solution:
        """Iterate until the certified relative gap is below `tolerance`.

        Raises nothing on max_iterations or Ctrl-C: the solution's status says so.
        """
        start = time.perf_counter()
        history: list[Record] = []
        status = Status.MAX_ITERATIONS
        best = -np.inf
        try:
            while self.iteration < max_iterations:
                last = self.iteration + 1 >= max_iterations
                check = (self.iteration + 1) % check_every == 0 or last
                self._plain = check  # a plain step leaves p and q inside their balls
                self.step()
                self._plain = False
                if self.iteration % 10 == 0 or check:
                    self.maybe_restart()
                if not check:
                    continue
                objective = self.objective()
                if float(self._xp.max(self.u)) > 0.5 * self.upper:
                    self.upper, best = 2 * self.upper, -np.inf  # the bound is to lie well outside
                best = max(best, self.lower_bound())
                gap = (objective - best) / abs(objective) if objective else 0.0
                history.append(Record(self.iteration, objective, gap, time.perf_counter() - start))
                if callback is not None:
                    callback(history[-1])
                if gap <= tolerance:
                    status = Status.CONVERGED
                    break
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            self._xp.maximum(self.u, 0, out=self.u)  # between checks, relaxation may leave u slightly negative
        return Solution(self.u, status, self.iteration, history, self.parameters())

    def parameters(self) -> dict[str, Any]:
        return {
            "a1": float(self.a1),
            "a0": float(self.a0),
            "method": self.method,
            "upper": float(self.upper),
            "operator_norm": self.norm_a,
            "primal_weight": float(self.omega),
        }


class _Scaled:
    """``s A``, for its norm."""

    def __init__(self, operator: Operator, scale: Array) -> None:
        self.operator, self.scale = operator, scale
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape

    def __call__(self, x: Array, out: Array) -> Array:
        self.operator(x, out)
        out *= self.scale
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        return self.operator.adjoint(y * self.scale, out)
