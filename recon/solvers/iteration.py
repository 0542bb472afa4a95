"""The iteration of the primal-dual hybrid gradient method for TGV, TV and no regulariser: steps, weights, restarts."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, kernels, namespace
from recon.kernels import STEPS
from recon.operators import Operator, norm2, norm_estimate
from recon.solvers.data_terms import DataTerm
from recon.solvers.grids import enlarge

_ORDER = {"none": 0, "tv": 1, "tgv": 2}
_AT_ONCE = 1 << 24  # elements, of a whole volume's
RELAXATION = 1.6  # z <- z + 1.6 (T(z) - z); below 2. Of 1.4 to 1.95, 1.6 and 1.7 take the fewest iterations
BALANCED_EVERY = 0.15  # of the iterations done so far, between two balances, and 10 at least
SETTLED_BY = 100  # iterations after which a balance moves the weights half as far, so that they settle
SAMPLED = 8  # ways are measured on one plane of so many
SHARE = 4.0  # dual travel of data over regulariser at which both get the same step: best of 1, 4 tried
NOTICED = 1e-3  # of |u|, travelled between balances, below which rounding would decide the primal weight


class PrimalDualIteration:
    r"""One iteration after the other of the primal-dual hybrid gradient method for a minimum over u >= 0 and w of

        ``D(s A u + b; c) + a1 |grad u - w|_1 + a0 |E w|_1``.

    With duals y of ``s A u``, p of ``grad u - w`` (|p| <= a1) and q of ``E w`` (|q| <= a0), one
    iteration T of the primal-dual hybrid gradient method is

        u' = max(0, u - tau (A^T s y + grad* p))        w' = w - tau (E* q - p)
        y' = prox_{sigma_y D*}(y + sigma_y s A (2u' - u))
        p' = P_a1(p + sigma_p (grad (2u' - u) - (2w' - w)))    q' = P_a0(q + sigma_q E (2w' - w))

    (Chambolle, Pock, JMIV 40, 120 (2011); TGV: Bredies, Kunisch, Pock, SIAM J. Imaging Sci. 3, 492
    (2010)), with ``tau = eta / omega``, ``sigma_k = eta omega / n_k^2`` for each block K_k of (s A, grad, E),
    where ``n_k`` is the block's norm, for A divided and for grad and E multiplied by ``share^(1/4)``, and
    ``eta |K / n| <= 1``. It converges for any primal weight omega and any share; how fast depends on them.

    The iteration is over-relaxed, z <- z + 1.6 (T(z) - z) (Condat, J. Optim. Theory Appl. 158, 460 (2013)): mostly
    fewer iterations than restarted Halpern (Lu, Yang, arXiv:2407.16144), which needs z_0 beside z and so half as much
    memory again. omega and share are balanced by the ways that u and w, y, and p and q have gone since
    the last balance, as those of restarted methods are (Applegate et al., NeurIPS 2021), here on a sample of planes, at
    growing intervals and ever more gently, so that they settle; the share is ours. ``method="plain"`` is the
    textbook's, z <- T(z) from zero with ``tau = sigma = 0.99 / |K|``, K the whole operator (s A, grad, E), for
    reference.

    TV leaves w and q out; no regulariser leaves p out as well.

    Args:
        operator: A, ``(z, x, y) -> (tilt, u, y)``.
        data: D, with s, b and the counts.
        regulariser: ``"tgv"``, ``"tv"`` or ``"none"``.
        a1, a0: strengths, counts^-1 voxel; a0 serves TGV only.
        method: ``"relaxed"`` or ``"plain"``.
        start: ``(z, x, y)``, first u; zero by default.
        omega: first primal weight, by default from the size of the data.
        half_precision: keep p and q in 16 bits, see `recon.kernels`; computed with in float32. It saves a fifth of
            the memory. Rounding limits the gap that can be certified, the more so the more counts there are: with 400
            in the brightest pixel to 5e-3 in the iterations in which float32 came to 8e-4 (benchmarks/half.py).

    Attributes:
        iteration: done so far.
        coarse_iterations: what the start cost on coarser grids, in iterations on this one.
    """

    def __init__(
        self,
        operator: Operator,
        data: DataTerm,
        *,
        regulariser: str = "tgv",
        a1: float = 1.0,
        a0: float = 2.0,
        method: str = "relaxed",
        start: Array | None = None,
        omega: float | None = None,
        half_precision: bool = False,
    ) -> None:
        xp = namespace(data.counts)
        self._xp, self._k = xp, kernels(data.counts)
        self.operator, self.data, self.method = operator, data, method
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        order = _ORDER[regulariser]
        shape = operator.domain_shape

        dual, zeros = np.int16 if half_precision else np.float32, self._k.zeros
        self.u, self.u_bar, self.g = (zeros(shape) for _ in range(3))
        if start is not None:
            self.u[...] = start
        self.w = zeros((3 if order == 2 else 0, *shape))
        self.p = zeros((3 if order >= 1 else 0, *shape), dual)
        self.q = zeros((6 if order == 2 else 0, *shape), dual)
        self.y, self._stack = (zeros(operator.range_shape) for _ in range(2))
        self.w_bar = zeros((3 if order == 2 and self._k.STEP_NEEDS_W_BAR else 0, *shape))
        # A^T s, and the norms of the blocks
        self._sensitivity = operator.adjoint(data.scale, xp.empty(shape, dtype=np.float32))
        self.norm_a = norm_estimate(_Scaled(operator, data.scale), self.u, work=(self.u_bar, self.g))
        self.norm_d = float(np.sqrt(4 * sum(n > 1 for n in shape))) or 1.0
        self._norms, self._order = (self.norm_a, self.norm_d), order
        self.share = 1.0
        if method == "plain":
            self.norm_a = self.norm_d = 1.0
            self.eta = 0.99 / self._block_norm(*self._norms, self._norms[1])
        else:
            self._weigh(1.0)
        self._unit_weight = self._first_weight()
        self.omega = 1.0 if method == "plain" else self._unit_weight
        if omega is not None:
            self.omega = omega
        if start is not None:
            self.y[...] = data.derivative(operator(self.u, self._stack))
        self.iteration, self.coarse_iterations = 0, 0.0
        self._before = [a.copy() for a in self._watched()] if method == "relaxed" else []
        self._begin_to_balance()

    # ------------------------------------------------------------------ one iteration

    def step(self) -> None:
        """One iteration; the formulas are those of the class."""
        tau, sigma = np.float32(self.eta / self.omega), self.eta * self.omega
        sigma_y, sigma_d = sigma / self.norm_a**2, np.float32(sigma / self.norm_d**2)
        rho = np.float32(1 if self.method == "plain" or self._plain else RELAXATION)
        self._xp.multiply(self.data.scale, self.y, out=self._stack)
        self.operator.adjoint(self._stack, self.g)
        self._k.tgv_step(
            self.u, self.w, self.u_bar, self.w_bar, self.p, self.q, self.g, tau, tau, sigma_d, sigma_d,
            self.a1, self.a0, rho,
        )  # fmt: skip
        self.operator(self.u_bar, self._stack)
        self.data.dual_step(self.y, self._stack, sigma_y, rho)
        self.iteration += 1

    def advance(self, iterations: int) -> None:
        """Some iterations with their balances; after the last one z is T(z), so that p and q are feasible."""
        for left in range(iterations - 1, -1, -1):
            self._iterate(last=left == 0)

    def _iterate(self, *, last: bool) -> None:
        """One iteration and maybe a balance; the last before a check is plain, so p and q stay in their balls."""
        self._plain = last
        self.step()
        self._plain = False
        if self.iteration % 10 == 0 or last:
            self.maybe_balance()

    def _units(self) -> tuple[float, float]:
        """What 1 stands for in p and q."""
        return (float(self.a1) / STEPS, float(self.a0) / STEPS) if self.p.dtype == np.int16 else (1.0, 1.0)

    def _state(self) -> list[Array]:
        return [self.u, self.w, self.p, self.q, self.y]

    def _watched(self) -> list[Array]:
        """The part of the state on which ways are measured: planes that stand for their neighbours, and y."""
        planes = slice(min(SAMPLED // 2, len(self.u) - 1), None, SAMPLED)
        return [self.u[planes], self.w[:, planes], self.p[:, planes], self.q[:, planes], self.y]

    # ------------------------------------------------------------------ weights

    def _first_weight(self) -> float:
        """omega = |y| / |u| (blocks of norm 1), by the size of the data.

        u is a uniform density that gives the total of the counts; for y, half a count in each was best
        of the constants tried on simulated particles. Balancing takes it from there.
        """
        pixels = float((self.data.scale > 0).sum())
        volume = float(self._xp.sum(self._sensitivity > 0))
        return float(self._norms[0] * pixels**0.5 * 0.5 / max(self._mean_density() * volume**0.5, 1e-30))

    def _mean_density(self) -> float:
        """The uniform u that gives the total of the counts."""
        total = max(float(self._xp.sum(self.data.counts, dtype=np.float64)), 1.0)
        return total / max(float(self._xp.sum(self._sensitivity, dtype=np.float64)), 1e-30)

    def _block_norm(self, a: float, d: float, e: float) -> float:
        """Norm of K from those of its blocks A, grad and E."""
        one = d / self._norms[1]  # of w in ``grad u - w``
        rows = [[a, 0.0]] + [[d, one]] * (self._order >= 1) + [[0.0, e]] * (self._order == 2)
        return float(np.linalg.norm(np.array(rows), 2))

    def _weigh(self, share: float) -> None:
        """Give the dual of the data `share` times the step of the regulariser's, in norms of their blocks."""
        self.share = float(np.clip(share, 0.1, 10.0)) if self._order else 1.0
        c = self.share**0.25
        self.norm_a, self.norm_d = self._norms[0] / c, self._norms[1] * c
        self.eta = 0.99 / self._block_norm(c, 1 / c, 1 / c)

    def _begin_to_balance(self) -> None:
        """At a new start: earlier ways no longer count, and balances move the weights as far as at first."""
        self._begun = self.iteration
        self._balanced()

    def _balanced(self) -> None:
        """From here ways are measured."""
        planes = max(1, _AT_ONCE // self.u[0].size)
        for k in range(0, len(self.u), planes):  # numbers near the smallest float32 make every later product slow
            part = self.u[k : k + planes]
            part[self._xp.abs(part) < 1e-30] = 0
        self._last_balance, self._plain = self.iteration, False
        for a, b in zip(self._before, self._watched(), strict=bool(self._before)):
            a[...] = b

    def _travelled(self) -> tuple[float, float, float]:
        """How far (u, w), y and (p, q) have gone since the last balance, blocks of norm 1."""
        xp = self._xp

        def square(row: Array, row0: Array) -> Array:
            return xp.sum(xp.square(xp.subtract(row, row0, dtype=np.float32)), dtype=np.float64)

        units = (1.0, 1.0, *self._units(), 1.0)
        d = [
            unit**2 * float(sum(square(row, row0) for row, row0 in zip(a, b, strict=True)))
            for unit, a, b in zip(units, self._watched(), self._before, strict=True)
        ]
        norm_a, norm_d = self._norms
        part = len(self._before[0]) / len(self.u)  # of the planes
        return ((d[0] + d[1]) / part) ** 0.5, d[4] ** 0.5 * norm_a, ((d[2] + d[3]) / part) ** 0.5 * norm_d

    def maybe_balance(self) -> None:
        """Balance the weights if it is time for it."""
        done = self.iteration - self._begun
        if self.method != "plain" and self.iteration - self._last_balance >= max(10, BALANCED_EVERY * done):
            self._balance(0.5 / (1 + done / SETTLED_BY))
            self._balanced()

    def _balance(self, pace: float) -> None:
        """Primal weight and share from the ways since the last balance, moved by a `pace`, 1 for all the way."""
        dx, dy, dp = self._travelled()
        if dy > 0 and dp > 0:
            self._weigh(self.share * (dy / dp / SHARE / self.share) ** pace)
        dy = float(np.hypot(dy * self.norm_a / self._norms[0], dp * self.norm_d / self._norms[1]))
        if dx > NOTICED * norm2(self.u, self.g) and dy > 0:
            self.omega *= float(np.clip(dy / dx / self.omega, 1 / 4, 4)) ** pace

    def continue_from(self, other: PrimalDualIteration, factor: int = 1) -> None:
        """Start where another solver stands: of the same data, or of its maps binned by `factor`.

        A density in counts per voxel length grows with factor^3 when pixels are summed and voxels grow, w with
        factor^4; p and q go with the strengths; y stays, or is derived anew from the u of a coarser grid, which
        is better known than its y. The primal weight is carried over in units of `_first_weight`.

        Args:
            other: its volume lies around the same centre as this one's; its frames too, up to a pixel.
            factor: voxels of this volume along an edge of one of the other's.
        """
        (p, q), (p_there, q_there) = self._units(), other._units()
        scales: dict[str, float] = {"u": factor**-3, "w": factor**-4}
        scales["p"] = float(self.a1 / other.a1) * p_there / p
        scales["q"] = float(self.a0 / other.a0) * q_there / q
        for name, scale in scales.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            for part, source in zip(mine, theirs, strict=True) if name != "u" else [(mine, theirs)]:
                new = enlarge(np.float32(scale) * source, self.g, factor)
                part[...] = new if part.dtype == new.dtype else self._xp.rint(new, out=new)
            if name in "wpq" and len(mine):  # what does not exist, see kernels, must stay 0
                mine[0, -1], mine[1, :, -1], mine[2, :, :, -1] = 0, 0, 0
        if factor > 1:
            self.y[...] = self.data.derivative(self.operator(self.u, self._stack))
        else:
            self.y[...] = self.data.feasible(other.y) * (self.data.scale > 0)
        self._weigh(other.share)
        self.omega = other.omega * self._unit_weight / other._unit_weight
        self.coarse_iterations = (other.iteration + other.coarse_iterations) * other.u.size / self.u.size
        self._begin_to_balance()

    def release(self) -> None:
        """Give back the memory of what only further iterations would need; `continue_from` takes what is left."""
        self._before = []
        self.u_bar = self.g = self.w_bar = self._sensitivity = None

    def change_strength(self, a1: float, a0: float) -> None:
        """Go on with other strengths from where it stands."""
        if self.p.dtype == np.float32:  # else they are in units of these
            self.p *= np.float32(a1 / self.a1)
            self.q *= np.float32(a0 / self.a0)
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        self._begin_to_balance()


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
