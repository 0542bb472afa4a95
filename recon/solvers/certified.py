"""A primal-dual run until a certificate says that it is done: its loop, its history, and the numbers that it keeps."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon.backend import Array
from recon.series.volume import Parameters, Record, Solution, Status
from recon.solvers.bounds import Box
from recon.solvers.solution import Callback, Control, State
from recon.solvers.weights import Balance, Weights

STEP = 10  # iterations, of which a certificate that is due early is a multiple


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
    steep: float
    follow: bool
    objective: float
    bound: float
    seconds: float


class CertifiedRun(ABC):
    """What a solver does with iterations and certificates, wherever its arrays lie.

    Attributes:
        iteration: done so far.
        coarse_iterations: what the start cost on coarser grids, in iterations on this one.
        upper, steep: bounds on u and on the norm of w that the certificate takes, see `PrimalDual`.
    """

    method: str
    a1: np.float32
    a0: np.float32
    weights: Weights
    balance: Balance
    iteration: int
    coarse_iterations: float
    upper: float
    steep: float = np.inf
    _follow: bool
    _objective: float

    @abstractmethod
    def go_on(self, end: int, *, check: bool) -> None:
        """One iteration or a few, to iteration `end` at most, after which z is T(z) and p and q are feasible.

        Where `check` is set, `certify` follows at `end`.
        """

    @abstractmethod
    def objective(self) -> float:
        """``D + R`` at (u, w), summed in float64."""

    @abstractmethod
    def lower_bound(self) -> float:
        """Value of the dual problem at a feasible point made from (y, q); never above the minimum."""

    @abstractmethod
    def highest(self) -> float:
        """The largest value of u."""

    @abstractmethod
    def steepest(self) -> float:
        """The norm of w; where that is near zero, slopes to the mean density across the volume stand in."""

    @abstractmethod
    def mean_density(self) -> float:
        """The uniform u that gives the total of the counts."""

    @abstractmethod
    def value(self) -> Array:
        """u, of ranks their part."""

    @abstractmethod
    def state(self) -> State:
        """Everything that later iterations depend on."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Go on from a state of a solver of the same problem."""

    def advance(self, iterations: int) -> None:
        """Some iterations with their balances; after the last one z is T(z), so that p and q are feasible."""
        end = self.iteration + iterations
        while self.iteration < end:
            self.go_on(end, check=False)

    def certify(self) -> float:
        """The certified relative gap, from the present objective and bound: earlier bounds are those of other boxes."""
        self._objective = self.objective()
        self.follow_w()
        if self._follow:
            self.follow_u()
        self._bound = self.lower_bound()
        if not np.isfinite(self._objective):  # something was counted where the model still has nothing
            return np.inf
        return (self._objective - self._bound) / abs(self._objective) if self._objective else 0.0

    def follow_u(self) -> None:
        """Let `upper` follow u."""
        # the mean density stands in for a u that is still near zero
        self.upper = 2 * max(self.highest(), self.mean_density())

    def follow_w(self) -> None:
        """Let `steep` follow w."""
        self.steep = 2 * self.steepest()

    def box(self, u: Array) -> Box:
        """Where the certificate looks for the minimiser, from u or a part of it."""
        return Box(u, above=self.upper / 2) if self._follow else Box(u, most=self.upper)

    # ------------------------------------------------------------------ what it keeps

    def _begin(self) -> None:
        self.history: list[Record] = []
        self._bound, self._seconds, self._restored = -np.inf, 0.0, False

    def numbers(self) -> Numbers:
        """What later iterations depend on beside the arrays."""
        return Numbers(
            scheme=self.method,
            a1=float(self.a1),
            a0=float(self.a0),
            weights=self.weights,
            iteration=self.iteration,
            coarse_iterations=float(self.coarse_iterations),
            begun=self.balance.begun,
            balanced=self.balance.last,
            upper=float(self.upper),
            steep=float(self.steep),
            follow=self._follow,
            objective=self._objective,
            bound=self._bound,
            seconds=self._seconds,
        )

    def take_numbers(self, numbers: Numbers, history: Sequence[Record]) -> None:
        """Go on with these."""
        self.a1, self.a0, self.weights = np.float32(numbers.a1), np.float32(numbers.a0), numbers.weights
        self.iteration, self.coarse_iterations = numbers.iteration, numbers.coarse_iterations
        self.balance.begun, self.balance.last = numbers.begun, numbers.balanced
        self.upper, self.steep, self._follow = numbers.upper, numbers.steep, numbers.follow
        self._objective, self._bound, self._seconds = numbers.objective, numbers.bound, numbers.seconds
        self.history, self._restored = list(history), True

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
            check_every: iterations between two certificates; the last one comes when the gap is foreseen to be reached.
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
                end = min(self._next_check(tolerance, check_every), max_iterations)
                end = self.iteration + 1 if stop else end
                self.go_on(end, check=True)
                if self.iteration < end:
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
        return Solution(self.value(), status, self.iteration, self.history, self.parameters())

    def _next_check(self, tolerance: float, check_every: int) -> int:
        """The iteration of the next certificate: a multiple of `check_every`, or earlier where the gap is due.

        Gaps fall about geometrically, so the last two tell when. That depends on the history alone, so a run that
        goes on from a checkpoint has its certificates at the same iterations.
        """
        regular = (self.iteration // check_every + 1) * check_every
        checked = [r for r in self.history[-2:] if r.iteration <= self.iteration]
        if tolerance <= 0 or len(checked) < 2 or not np.inf > checked[0].gap > checked[1].gap > tolerance:
            return regular
        (n0, gap0), (n1, gap1) = ((r.iteration, r.gap) for r in checked)
        left = (n1 - n0) * math.log(gap1 / tolerance) / math.log(gap0 / gap1)
        due = STEP * math.ceil((n1 + max(left, STEP)) / STEP)
        return min(regular, due) if due > self.iteration else regular

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
