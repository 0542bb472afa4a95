"""Primal-dual hybrid gradient for TGV-, TV- and unregularised reconstruction, with a certificate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from recon.backend import Array
from recon.files import from_json
from recon.operators import Operator, norm2
from recon.parallel import Slab, rows_of
from recon.solvers.bounds import largest_gain, raised, regulariser_dual, regulariser_sums, squares
from recon.solvers.certified import CertifiedRun, Numbers
from recon.solvers.data_terms import DataTerm
from recon.solvers.iteration import PrimalDualIteration
from recon.solvers.solution import State

OF_MAPS = ("y", "v", "y0")  # of a state's arrays those that have the shape of the maps


class PrimalDual(PrimalDualIteration, CertifiedRun):
    """`PrimalDualIteration` until a certificate says that it is done, with a history, to be stopped and gone on with.

    The certificate needs u and w to be bounded, and takes bounds from them at a check: u nowhere higher than it is by
    more than its largest value, and w of twice its norm. If the minimiser is f times as far away, the gap holds for
    f times as much: with a part 1 / f of the way to it, (u, w) stays within the bounds, and the objective is convex.

    Args:
        operator, data: A and D.
        upper: a bound on u that is known, to use instead.
        how: the other arguments of `PrimalDualIteration`.
    """

    def __init__(self, operator: Operator, data: DataTerm, *, upper: float | None = None, **how: Any) -> None:
        super().__init__(operator, data, **how)
        self.upper, self._follow = np.inf if upper is None else upper, upper is None
        self.steep, self._objective = np.inf, np.nan
        self._brightest = self.slab.max(data.brightest())
        self._mark: Array | None = None  # an earlier u
        self._begin()

    def change_strength(self, a1: float, a0: float) -> None:
        """Go on with other strengths from where it stands; earlier bounds no longer hold."""
        super().change_strength(a1, a0)
        self._bound = -np.inf

    # ------------------------------------------------------------------ for a search

    def travel(self, iterations: int) -> tuple[float, float]:
        """`advance`, and how far u has gone by that, and its norm."""
        if self._mark is None:
            self._mark = self._xp.empty_like(self.u)
        self._mark[...] = self.u
        self.advance(iterations)
        self._mark -= self.u
        return norm2(self._mark, self.g, self.slab), norm2(self.u, self.g, self.slab)  # g is scratch here

    def projection(self, out: Array) -> Array:
        """``A u``."""
        return self.operator(self.u, out)

    # ------------------------------------------------------------------ certificate

    def objective(self) -> float:
        """``D + R`` at (u, w), summed in float64."""
        self.operator(self.u, self._stack)
        return self.slab.sum(self.data.value(self._stack)) + self._regularised(self.u)

    def _regularised(self, v: Array) -> float:
        """``R`` at (v, w)."""
        if not len(self.p):
            return 0.0
        first, second = (self.slab.sum(s) for s in regulariser_sums(v, self.w, self._inner))
        return float(self.a1) * first + float(self.a0) * second

    def highest(self) -> float:
        """The largest value of u."""
        return self.slab.max(float(self._xp.max(self.slab.inner(self.u))))

    def steepest(self) -> float:
        """The norm of w; where that is near zero, slopes to the mean density across the volume stand in."""
        least = self.mean_density() / int(max(*self.u.shape[:2], self.slab.n)) * self.voxels**0.5
        return float(max(least, self.slab.sum(squares(self.w, self._inner)) ** 0.5))

    def lower_bound(self) -> float:
        """Value of the dual problem at a point made from (y, p, q); never above the minimum.

        Over bounded w the p need not be ``E* q``: where it is not, ``steep |p - E* q|`` comes off. With
        ``g = s A^T y + grad* p``, the rest is the least ``<g, u>`` over u of the `box` and ``<A^T s, u> <= C``,
        which holds for a minimiser (`DataTerm.total_bound`), see `largest_gain`; before, y is raised where that costs
        little (`DataTerm.lift`). Values and sums are float64; g and p are float32 fields, whose
        rounding moves the bound by some 1e-7 of the objective (measured: up to 1.4e-7, by the test that does it all
        in float64), far below any gap that is asked for. Uses `u_bar`, `w_bar` and `g` as scratch.
        """
        xp, g = self._xp, self.u_bar
        y = self.data.feasible(self.y)
        xp.multiply(self.data.scale, y, out=self._stack)
        self.operator.adjoint(self._stack, g)
        theta, more = 1.0, 0.0
        if len(self.p):
            scratch = self.w_bar if len(self.w_bar) or not len(self.q) else xp.empty_like(self.w)
            unit = self.units()[0]
            longest, apart = regulariser_dual(self.p, self.q, self.a0, unit, scratch, g, self._inner)
            del scratch
            # in 16 bits p may be longer than a1, by its rounding
            theta = min(1.0, float(self.a1) / max(self.slab.max(longest), 1e-30))
            apart = self.slab.sum(apart) ** 0.5
            more = theta * self.steep * apart if apart else 0.0
            more += self._not_of_the_dual(self.p, unit * theta)
        y = self._raised(y, g)
        bound = self.data.total_bound(self.slab.sum)
        gain = largest_gain(g, self._sensitivity, theta, self.box(self.u), bound, self.slab)
        return -self.slab.sum(self.data.conjugate(theta * y)) - gain - more

    def _raised(self, y: Array, g: Array) -> Array:
        """As `recon.solvers.bounds.raised`; `self.g` is scratch."""
        work = self._stack, self.g
        return raised(self.operator, self.data, y, g, self.box(self.u), self._brightest, work, self.slab)

    @property
    def _inner(self) -> tuple[int, int] | None:
        return None if self.slab.whole else self.slab.within

    def _not_of_the_dual(self, p: Array, theta: float) -> float:
        """What variables that only a subclass has take off the bound, at the dual theta p."""
        return 0.0

    # ------------------------------------------------------------------ stop and go on

    def value(self) -> Array:
        """u."""
        return self.u

    def state(self) -> State:
        """Everything that later iterations depend on; the arrays are those of the solver, not copies.

        To be taken between two iterations.
        """
        arrays = dict(zip("uwpqyv", self._state(), strict=True))
        if self.balance.before:
            arrays |= dict(zip(("u0", "w0", "p0", "q0", "y0"), self.balance.before, strict=True))
        return State(arrays, asdict(self.numbers()), list(self.history))

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
        self.take_numbers(numbers, state.history)

    def parts(self) -> dict[str, tuple[Array, Slab]]:
        """The arrays of `state`, and which slices of them this rank has; with its own every rank keeps a state."""
        arrays = self.state().arrays
        rows = rows_of(self.operator, self.y.shape[-1])
        return {name: (a, rows if name in OF_MAPS else self.slab) for name, a in arrays.items()}

    def _mine(self, name: str, array: Array, saved: Array) -> Array:
        """The part of a saved array that this rank holds; what lies in files is read as far as that."""
        if self.slab.whole:
            return saved if hasattr(saved, "__cuda_array_interface__") else np.asarray(saved)
        if name in OF_MAPS:
            return rows_of(self.operator, array.shape[-1]).cut(saved)
        return self.slab.cut(saved, halo=array.shape[-1] == self.slab.size)
