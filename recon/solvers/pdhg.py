"""Primal-dual hybrid gradient for TGV-, TV- and unregularised reconstruction, with a certificate."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recon.backend import Array, to_host
from recon.files import from_json
from recon.operators import Operator
from recon.parallel import rows_of
from recon.series.volume import Parameters, Record, Solution, Status
from recon.solvers.bounds import largest_gain
from recon.solvers.data_terms import DataTerm
from recon.solvers.iteration import PrimalDualIteration
from recon.solvers.solution import Callback, Control, State
from recon.solvers.weights import Weights


@dataclass(frozen=True)
class Numbers:
    """What later iterations depend on beside the arrays, as `PrimalDual` has them."""

    scheme: str
    a1: float
    a0: float
    weights: Weights
    iteration: int
    coarse_iterations: float
    begun: int
    balanced: int
    upper: float
    follow: bool
    objective: float
    bound: float
    seconds: float


class PrimalDual(PrimalDualIteration):
    """`PrimalDualIteration` until a certificate says that it is done, with a history, to be stopped and gone on with.

    The certificate needs u to be bounded. The bound, ``upper``, is part of the model: twice the largest value
    that u has at a check, so that it never decides. Were the true minimiser f times as high as u somewhere,
    with f > 2, u would still be within ``(f - 1) gap`` of it, by convexity.

    Args:
        operator, data: A and D.
        upper: a bound on u that is known, to use instead.
        how: the other arguments of `PrimalDualIteration`.
    """

    def __init__(self, operator: Operator, data: DataTerm, *, upper: float | None = None, **how: Any) -> None:
        super().__init__(operator, data, **how)
        self.upper, self._follow = np.inf if upper is None else upper, upper is None
        self._objective = np.nan
        self._begin()

    def change_strength(self, a1: float, a0: float) -> None:
        """Go on with other strengths from where it stands; earlier bounds no longer hold."""
        super().change_strength(a1, a0)
        self._bound = -np.inf

    # ------------------------------------------------------------------ certificate

    def objective(self) -> float:
        """``D + R`` at (u, w), summed in float64."""
        self.operator(self.u, self._stack)
        return self.slab.sum(self.data.value(self._stack)) + self._regularised(self.u)

    def _regularised(self, v: Array) -> float:
        """``R`` at (v, w)."""
        if not len(self.p):
            return 0.0
        sums = self._xp.empty((v.shape[0], 2))
        self._k.tgv_value(v, self.w, sums, **({} if self.slab.whole else {"within": self.slab.within}))
        first, second = (self.slab.sum(float(s)) for s in to_host(sums).sum(axis=0))
        return float(self.a1) * first + float(self.a0) * second

    def certify(self) -> float:
        """The certified relative gap, from the present objective and the best lower bound so far."""
        self._objective = self.objective()
        if self._follow:
            before = self.upper
            # the mean density stands in for a u that is still near zero
            highest = self.slab.max(float(self._xp.max(self.slab.inner(self.u))))
            self.upper = 2 * max(highest, self._mean_density())
            if self.upper > before:  # what bounds a smaller box does not bound a larger one
                self._bound = -np.inf
        self._bound = max(self._bound, self.lower_bound())
        return (self._objective - self._bound) / abs(self._objective) if self._objective else 0.0

    def lower_bound(self) -> float:
        """Value of the dual problem at a feasible point made from (y, q); never above the minimum.

        ``p = E* q`` makes the point feasible in w; scaling (y, p, q) by theta keeps |p| <= a1. With
        ``g = s A^T y + grad* p``, the rest is the least ``<g, u>`` over ``0 <= u <= upper`` and
        ``<A^T s, u> <= C``, which holds for a minimiser (`DataTerm.total_bound`), see `largest_gain`. Values and
        sums are float64; g and p are float32 fields, whose rounding moves the bound by some 1e-7 of the objective
        (measured: up to 1.4e-7, by the test that does it all in float64), far below any gap that is asked for. Uses
        `u_bar`, `w_bar` and `g` as scratch.
        """
        xp, g = self._xp, self.u_bar
        y = self.data.feasible(self.y)
        xp.multiply(self.data.scale, y, out=self._stack)
        self.operator.adjoint(self._stack, g)
        theta, more = 1.0, 0.0
        if len(self.q):
            largest = xp.empty(g.shape[0], dtype=np.float64)
            p = self.w_bar if len(self.w_bar) else xp.empty_like(self.w)
            self._k.tgv_divergence(self.q, self.a0, p, largest)
            theta = min(1.0, float(self.a1) / max(self._largest(p, float(xp.max(largest))), 1e-30))
            self._k.gradient_adjoint(p, np.float32(1), g)
            more = self._not_of_the_dual(p, theta)
            del p
        elif len(self.p):
            unit = self._units()[0]
            square = xp.square(self.p[0], dtype=np.float32)
            for component in self.p[1:]:
                square += xp.square(component, dtype=np.float32)
            highest = self.slab.max(float(xp.max(self.slab.inner(square))))
            theta = min(1.0, float(self.a1) / max(unit * highest**0.5, 1e-30))
            self._k.gradient_adjoint(self.p, np.float32(unit), g)
            more = self._not_of_the_dual(self.p, unit * theta)
            del square
        bound = self.data.total_bound(self.slab.sum)
        gain = largest_gain(g, self._sensitivity, theta, self.upper, bound, self.slab)
        return -self.slab.sum(self.data.conjugate(theta * y)) - gain - more

    def _largest(self, p: Array, here: float) -> float:
        """The largest vector of p, whose largest with the halo, where it is not right, is `here`."""
        if self.slab.whole:
            return here
        inner = self.slab.inner(p)
        square = self._xp.square(inner[0])
        for component in inner[1:]:
            square += self._xp.square(component)
        return self.slab.max(float(self._xp.max(square)) ** 0.5)

    def _not_of_the_dual(self, p: Array, theta: float) -> float:
        """What variables that only a subclass has take off the bound, at the dual theta p."""
        return 0.0

    # ------------------------------------------------------------------ stop and go on

    def _begin(self) -> None:
        self.history: list[Record] = []
        self._bound, self._seconds, self._restored = -np.inf, 0.0, False

    def state(self) -> State:
        """Everything that later iterations depend on; the arrays are those of the solver, not copies.

        To be taken between two iterations.
        """
        arrays = dict(zip("uwpqy", self._state(), strict=True))
        if self.balance.before:
            arrays |= dict(zip(("u0", "w0", "p0", "q0", "y0"), self.balance.before, strict=True))
        numbers = Numbers(
            scheme=self.method,
            a1=float(self.a1),
            a0=float(self.a0),
            weights=self.weights,
            iteration=self.iteration,
            coarse_iterations=float(self.coarse_iterations),
            begun=self.balance.begun,
            balanced=self.balance.last,
            upper=float(self.upper),
            follow=self._follow,
            objective=self._objective,
            bound=self._bound,
            seconds=self._seconds,
        )
        return State(arrays, asdict(numbers), list(self.history))

    def restore(self, state: State) -> None:
        """Go on from a state of a solver of the same problem: `run` continues its history and its bound.

        Raises:
            ValueError: the state is that of another problem or method.
        """
        own = self.state()
        numbers = from_json(Numbers, state.numbers, "the state", "it is that of another version")
        if own.arrays.keys() != state.arrays.keys() or numbers.scheme != self.method:
            raise ValueError(f"the state holds {', '.join(state.arrays)}, the solver {', '.join(own.arrays)}")
        for name, array in own.arrays.items():
            saved = self._mine(name, array, state.arrays[name])
            for what in ("shape", "dtype"):
                if getattr(saved, what) != getattr(array, what):
                    raise ValueError(
                        f"{name} of the state has {what} {getattr(saved, what)}, the solver's {getattr(array, what)}"
                    )
            array[...] = self._xp.asarray(saved)
        self.a1, self.a0, self.weights = np.float32(numbers.a1), np.float32(numbers.a0), numbers.weights
        self.iteration, self.coarse_iterations = numbers.iteration, numbers.coarse_iterations
        self.balance.begun, self.balance.last = numbers.begun, numbers.balanced
        self.upper, self._follow = numbers.upper, numbers.follow
        self._objective, self._bound, self._seconds = numbers.objective, numbers.bound, numbers.seconds
        self.history, self._restored = list(state.history), True

    def whole_state(self) -> State:
        """`state` of all ranks, on rank 0: the same as that of one rank, so that any number can go on from it."""
        own = self.state()
        if self.slab.whole:
            return own
        rows = rows_of(self.operator, own.arrays["y"].shape[-1])
        arrays = {n: (rows if n in ("y", "y0") else self.slab).gather(a) for n, a in own.arrays.items()}
        return State(arrays, own.numbers, own.history)

    def _mine(self, name: str, array: Array, saved: Array) -> Array:
        """The part of a saved array that this rank holds."""
        if self.slab.whole:
            return saved
        if name in ("y", "y0"):
            return rows_of(self.operator, array.shape[-1]).cut(saved)
        return self.slab.cut(saved, halo=array.shape[-1] == self.slab.size)

    # ------------------------------------------------------------------ the run

    def run(
        self,
        tolerance: float = 1e-2,
        max_iterations: int = 5000,
        check_every: int = 50,
        callback: Callback | None = None,
        control: Control | None = None,
    ) -> Solution:
        """Iterate until the certified relative gap is below `tolerance`.

        Args:
            tolerance, max_iterations: see `Status`.
            check_every: iterations between two certificates.
            callback: gets a `Record` at each.
            control: asked before every iteration; True asks for a certificate now and an end.

        Raises nothing on max_iterations, on a stop that `control` asks for or on Ctrl-C: the solution's status
        says so, and u is certified as far as it came. A second Ctrl-C while that is done is raised.
        """
        if not self._restored:
            self._begin()
        self._restored = False
        start = time.perf_counter() - self._seconds
        status, stop = Status.MAX_ITERATIONS, False
        while self.iteration < max_iterations:
            try:
                self._seconds = time.perf_counter() - start
                stop = stop or (control is not None and control(self))
                last = stop or self.iteration + 1 >= max_iterations
                check = (self.iteration + 1) % check_every == 0 or last
                self._iterate(last=check)
                if not check:
                    continue
                gap = self.certify()
                self.history.append(Record(self.iteration, self._objective, gap, time.perf_counter() - start))
                if callback is not None:
                    callback(self.history[-1])
            except KeyboardInterrupt:
                if stop:
                    raise
                stop = True
                if not (self.history and self.history[-1].iteration == self.iteration):
                    max_iterations = max(max_iterations, self.iteration + 1)
                    continue  # once more, so that what is kept is u >= 0 and certified
            if self.history[-1].gap <= tolerance:
                status = Status.CONVERGED
                break
            if stop:
                status = Status.INTERRUPTED
                break
        return Solution(self.u, status, self.iteration, self.history, self.parameters())

    def parameters(self) -> Parameters:
        """The numbers that it ends with."""
        return Parameters(
            a1=float(self.a1),
            a0=float(self.a0),
            scheme=self.method,
            upper=float(self.upper),
            operator_norm=self.weights.norm_a,
            primal_weight=float(self.weights.omega),
            share=self.weights.share,
            coarse_iterations=float(self.coarse_iterations),
        )
