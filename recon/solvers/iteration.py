"""The iteration of the primal-dual hybrid gradient method for TGV, TV and no regulariser: steps, weights, restarts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from recon.backend import Array, kernels, namespace
from recon.operators import Operator, norm2, norm_estimate
from recon.parallel import Halos, slab_of, stop_if_unwanted
from recon.solvers.data_terms import DataTerm
from recon.solvers.grids import enlarge
from recon.solvers.overlap import overlap_of
from recon.solvers.ramp import Ramp, Ramped
from recon.solvers.steps import (
    FIELDS,
    ORDER,
    RELAXATION,
    VECTORS,
    Arrays,
    Previous,
    Strengths,
    first_weight,
    norm_of_differences,
    primal_dual_step,
    scales_from,
    without_tiny_numbers,
    without_what_does_not_exist,
)
from recon.solvers.weights import FEW_TILTS, SAMPLED, Balance, Weights, squared_change


class PrimalDualIteration:
    r"""One iteration after the other of the primal-dual hybrid gradient method for a minimum over u >= 0 and w of

        ``D(s A u + b; c) + a1 |grad u - w|_1 + a0 |E w|_1``.

    With duals y of ``s A u``, p of ``grad u - w`` (|p| <= a1) and q of ``E w`` (|q| <= a0), one
    iteration T of the primal-dual hybrid gradient method is

        u' = max(0, u - tau (A^T s y + grad* p))        w' = w - tau (E* q - p)
        y' = prox_{sigma_y D*}(y + sigma_y s A (2u' - u))
        p' = P_a1(p + sigma_p (grad (2u' - u) - (2w' - w)))    q' = P_a0(q + sigma_q E (2w' - w))

    (Chambolle, Pock, JMIV 40, 120 (2011); TGV: Bredies, Kunisch, Pock, SIAM J. Imaging Sci. 3, 492
    (2010)), with the step sizes of `Weights`. It converges for any primal weight omega and any share; how fast depends
    on them. Where u runs across the tilt axis, the step of y is taken in a metric that makes up for low frequencies
    being seen by all tilts; v then stands for ``s A u``, see `recon.solvers.ramp`.

    The iteration is over-relaxed, z <- z + 1.6 (T(z) - z) (Condat, J. Optim. Theory Appl. 158, 460 (2013)): mostly
    fewer iterations than restarted Halpern (Lu, Yang, arXiv:2407.16144), which needs z_0 beside z and so half as much
    memory again. omega and share are balanced by how far u and w, y, and p and q have gone since
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
        self.slab = slab_of(operator, operator.domain_shape[-1])
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        order = ORDER[regulariser]
        shape = operator.domain_shape

        zeros = self._k.zeros

        def field(name: str, dtype: type = np.float32) -> Array:
            """An array of the volume's size, with as many components as declared."""
            parts = FIELDS[order][name]
            found: Array = zeros((parts, *shape) if name in VECTORS else shape, dtype)
            return found

        dual = np.int16 if half_precision else np.float32
        # of a rank, a step gives ubar of its own slices and takes g in longer rows, which are faster to project
        own, long = getattr(operator, "row_lengths", (shape[-1], shape[-1]))
        self.u, self.u_bar = field("u"), field("u_bar")
        self._g_of_step = zeros((*shape[:2], long))
        self._u_bar_of_step, self.g = _front(self.u_bar, (*shape[:2], own)), _front(self._g_of_step, shape)
        if start is not None:
            self.u[...] = start
        self.w, self.p, self.q = field("w"), field("p", dual), field("q", dual)
        self.w_bar = field("w_bar") if self._k.STEP_NEEDS_W_BAR else zeros((0, *shape))
        self.ramp = None if method == "plain" or not data.takes_any_dual else Ramp.of(operator, data.scale)
        self.y, self._stack = (zeros(operator.range_shape) for _ in range(2))
        self.v, self._ahead = (zeros((len(self.y) * (self.ramp is not None), *self.y.shape[1:])) for _ in range(2))
        # A^T s, and the norms of the blocks
        self._sensitivity = operator.adjoint(data.scale, xp.empty(shape, dtype=np.float32))
        norm_a = self._norm_of_rays()
        norm_d = norm_of_differences((*shape[:2], self.slab.n))
        across = 4 * (self.slab.n > 1) / norm_d**2
        weights = Weights(norm_a, norm_d, order, plain=method == "plain", across=across)
        self.unit_weight = self._first_weight(norm_a)
        first = self.unit_weight if omega is None else omega
        self.weights = weights if omega is None and weights.plain else replace(weights, omega=first)
        if start is not None:
            self._derive_y()
        self._exempt: Array | None = None  # a part of u whose gradient costs nothing
        self.iteration, self.coarse_iterations = 0, 0.0
        self._halos = None if self.slab.whole else Halos(self.slab, (self.u, self.w, self.p, self.q))
        self.balance = Balance([] if weights.plain else self._watched())
        self._begin_to_balance()

    # ------------------------------------------------------------------ one iteration

    def step(self, rho: float = 1.0) -> None:
        """One iteration, over-relaxed by `rho`; the formulas are those of the class."""
        work = self._u_bar_of_step, self.w_bar, self._g_of_step, self._stack
        arrays = Arrays(self.u, self.w, self.p, self.q, self.y, self.v, self._ahead, *work)
        last = rho == 1.0  # a certificate may follow, which looks at two slices
        primal_dual_step(
            arrays, self.operator, self.data, self.weights, self.strengths, rho, self._halos, last=last,
            exempt=self._exempt, ramp=self.ramp,
        )  # fmt: skip
        if last:
            self._arrive()
        self.iteration += 1

    def _arrive(self) -> None:
        """Wait for slices that are on their way."""
        if self._halos is not None:
            self._halos.arrive()

    def go_on(self, end: int, *, check: bool) -> None:
        """One iteration and maybe a balance; the one to `end` is not relaxed, so p and q stay in their balls."""
        stop_if_unwanted()
        if self.weights.overlap is None and not self.weights.plain:
            self._measure_overlap()
        last = self.iteration + 1 == end
        self.step(1.0 if last or self.weights.plain else RELAXATION)
        if self.iteration % 10 == 0 or last:
            self.maybe_balance()

    @property
    def strengths(self) -> Strengths:
        return Strengths(self.a1, self.a0)

    def units(self) -> tuple[float, float]:
        """The value of 1 in p and q as they are stored."""
        return self.strengths.units(self.p)

    @property
    def voxels(self) -> float:
        """Of the whole volume."""
        return float(np.prod(self.u.shape[:2])) * self.slab.n

    def component(self, name: str, k: int) -> Array:
        """u, or one component of w, p or q."""
        found: Array = self.u if name == "u" else getattr(self, name)[k]
        return found

    def _state(self) -> list[Array]:
        self._arrive()
        return [self.u, self.w, self.p, self.q, self.y, self.v]

    def _derive_y(self) -> None:
        """The y that belongs to u, and its v."""
        self.y[...] = self.data.derivative(self.operator(self.u, self._stack))
        if self.ramp is not None:
            self._xp.multiply(self.data.scale, self._stack, out=self.v)

    def _watched(self) -> list[Array]:
        """The part of the state on which travel is measured: planes that stand for their neighbours, and y."""
        planes = slice(min(SAMPLED // 2, len(self.u) - 1), None, SAMPLED)
        u, w, p, q = (self.slab.inner(a) for a in (self.u, self.w, self.p, self.q))
        return [u[planes], w[:, planes], p[:, planes], q[:, planes], self.y]

    # ------------------------------------------------------------------ weights

    def _norm_of_rays(self) -> float:
        """``|s A|``, with a ramp ``|R^(1/2) s A|``."""
        if self.ramp is None:
            return norm_estimate(Scaled(self.operator, self.data.scale), self.u, work=(self.u_bar, self.g))

        def gram(stack: Array) -> Array:
            stack *= self.data.scale
            stack *= self.data.scale
            return self.operator(self.operator.adjoint(stack, self.g), stack)

        return self.ramp.norm(gram, self.slab.sum)

    def _first_weight(self, norm_a: float) -> float:
        pixels = self.slab.sum(float((self.data.scale > 0).sum()))
        voxels = self.slab.sum(float(self._xp.sum(self.slab.inner(self._sensitivity) > 0)))
        return first_weight(norm_a, pixels, self.mean_density(), voxels)

    def mean_density(self) -> float:
        """The uniform u that gives the total of the counts."""
        total = max(self.slab.sum(float(self._xp.sum(self.data.counts, dtype=np.float64))), 1.0)
        seen = self.slab.sum(float(self._xp.sum(self.slab.inner(self._sensitivity), dtype=np.float64)))
        return total / max(seen, 1e-30)

    def _measure_overlap(self) -> None:
        """At a start that no coarser grid has measured it for; all scratch."""
        seen = Scaled(self.operator, self.data.scale) if self.ramp is None else Ramped(self.operator, self.ramp)
        overlap = overlap_of(seen, self.weights.norm_a, (self.u_bar, self.g), self._stack) if len(self.p) else 2.0
        self.weights = replace(self.weights, overlap=overlap)

    def _begin_to_balance(self) -> None:
        """At a new start: earlier travel no longer counts, and balances move the weights as far as at first."""
        without_tiny_numbers(self.u)
        self.balance.begin(self.iteration, self._watched())

    def maybe_balance(self) -> None:
        """Balance the weights if it is time for it."""
        if self.weights.plain or not self.balance.due(self.iteration):
            return
        watched = self._watched()
        part = len(watched[0]) / len(self.u)
        of_y = squared_change if self.ramp is None else self.ramp.squared_change
        travel = self.balance.travelled(watched, self.units(), part, self.weights, self.slab.sum, of_y)
        size = norm2(self.u, self.g, self.slab)  # g is scratch between iterations
        self.weights = self.weights.balanced(travel, self.balance.pace(self.iteration), size)
        without_tiny_numbers(self.u)
        self.balance.measure_from(self.iteration, watched)

    def continue_from(self, other: Previous, factor: int = 1) -> None:
        """Start where another solver stands: of the same data, or of its maps binned by `factor`.

        A density in counts per voxel length grows with factor^3 when pixels are summed and voxels grow, w with
        factor^4; p and q go with the strengths; y stays, or is derived anew from the u of a coarser grid, which
        is better known than its y. The primal weight is carried over in units of `_first_weight`.

        Args:
            other: its volume lies around the same centre as this one's; its frames too, up to a pixel.
            factor: voxels of this volume along an edge of one of the other's.
        """
        self._arrive()
        for name, scale in scales_from(self.strengths, self.units(), other, factor).items():
            mine = getattr(self, name)
            for k, part in enumerate([mine] if name == "u" else mine):
                new = enlarge(np.float32(scale) * other.component(name, k), self.g, factor, other.slab, self.slab)
                part[...] = new if part.dtype == new.dtype else self._xp.rint(new, out=new)
                without_what_does_not_exist(name, part, k, at_end=self.slab.at_end)
        self._derive_y()
        if factor == 1:
            assert isinstance(other, PrimalDualIteration)
            self.y[...] = self.data.feasible(other.y) * (self.data.scale > 0)
        omega = other.weights.omega * self.unit_weight / other.unit_weight
        overlap = other.weights.overlap if len(self.y) > FEW_TILTS else None
        self.weights = replace(self.weights.with_share(other.weights.share), omega=omega, overlap=overlap)
        self.coarse_iterations = (other.iteration + other.coarse_iterations) * other.voxels / self.voxels
        self._begin_to_balance()

    def release(self) -> None:
        """Give back the memory of what only further iterations would need; `continue_from` takes what is left."""
        self._arrive()
        self.balance.before = []
        del self.u_bar, self.g, self.w_bar, self._sensitivity, self._ahead, self._u_bar_of_step, self._g_of_step

    def change_strength(self, a1: float, a0: float) -> None:
        """Go on with other strengths from where it stands."""
        self._arrive()
        if self.p.dtype == np.float32:  # else they are in units of these
            self.p *= np.float32(a1 / self.a1)
            self.q *= np.float32(a0 / self.a0)
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        self._begin_to_balance()


def _front(a: Array, shape: tuple[int, ...]) -> Array:
    """The first elements of an array as one of another shape."""
    return a.reshape(-1)[: math.prod(shape)].reshape(shape)


class Scaled:
    """``s A``, for its norm."""

    def __init__(self, operator: Operator, scale: Array) -> None:
        self.operator, self.scale = operator, scale
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape
        self.slab = slab_of(operator, operator.domain_shape[-1])

    def __call__(self, x: Array, out: Array) -> Array:
        self.operator(x, out)
        out *= self.scale
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        return self.operator.adjoint(y * self.scale, out)
