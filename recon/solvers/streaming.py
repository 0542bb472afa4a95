"""The primal-dual method for a volume that is larger than memory: window by window, several iterations at a time.

The state of the windows that are not in memory waits in a store, a file or the host's memory. A window comes with a
halo of its neighbours' slices, wide enough that after a block of iterations its own are those that all at once would
have given, to rounding (temporal blocking: M. Wonnacott, IPDPS 2000). So the traffic is shared by the iterations of a
block, and costs the halos' being computed twice. Windows are visited to and fro, so that the last one stays in memory.
The maps and their dual y are in memory as a whole.

What the halos are renewed from lies in the store twice, since a window needs its neighbours' edges of before the block.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from recon.backend import Array, kernels, namespace
from recon.files import from_json
from recon.operators.windows import Window, WindowedProjector, sum_of_squares
from recon.parallel import ALONE, Slab
from recon.series.volume import Parameters
from recon.solvers.certified import CertifiedRun, Numbers
from recon.solvers.data_terms import DataTerm
from recon.solvers.grids import enlarge_window
from recon.solvers.overlap import overlap_in_windows
from recon.solvers.patience import not_interrupted
from recon.solvers.ramp import Ramp, norm_in_windows
from recon.solvers.resident import Place, WindowedState
from recon.solvers.scratch import Wait
from recon.solvers.solution import State
from recon.solvers.steps import (
    FIELDS,
    ORDER,
    RELAXATION,
    STATE,
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
from recon.solvers.sums import Sums
from recon.solvers.weights import FEW_TILTS, Balance, Weights, squared_change, travel_of


@dataclass
class _Found:
    """What a pass over the windows sums up."""

    changes: list[float]
    size: float = 0.0
    moved: float = 0.0


class StreamedPrimalDual(CertifiedRun):
    """What `PrimalDual` computes, of a volume of which only one or two windows are in memory.

    Args:
        operator: A, split into windows.
        data: D, of all rows.
        place: see `Place`.
        regulariser, a1, a0, half_precision: as `PrimalDual`.
    """

    method = "relaxed"

    def __init__(
        self,
        operator: WindowedProjector,
        data: DataTerm,
        place: Place,
        *,
        regulariser: str = "tgv",
        a1: float = 1.0,
        a0: float = 2.0,
        half_precision: bool = False,
    ) -> None:
        self._xp, self._k = namespace(data.counts), kernels(data.counts)
        self.operator, self.data, self.place, self.store = operator, data, place, place.store
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        order, dual = ORDER[regulariser], np.int16 if half_precision else np.float32
        self.kept = WindowedState(operator, place, FIELDS[order], dual, data.counts)
        zeros = self._k.zeros
        self.y, self._next, self._y0, self._stack = (zeros(operator.range_shape) for _ in range(4))
        self.ramp = Ramp.of(operator, data.scale) if data.takes_any_dual else None
        self.v, self._next_v = (zeros((len(self.y) * (self.ramp is not None), *self.y.shape[1:])) for _ in range(2))
        self._forwards = True
        self._anew = True  # whether travel is to be measured from the next state on
        self._found = _Found([])
        self._seen, self._seen_voxels, self._most = 0.0, 0.0, 0.0  # sum, voxels and largest of A^T s
        for w, part in operator.backward(data.scale, self.kept.own_room):
            self._seen += float(self._xp.sum(part, dtype=np.float64))
            self._seen_voxels += float(self._xp.sum(part > 0))
            self._most = max(self._most, float(self._xp.max(part)))
            self.store.put(("sensitivity", w.number), part)
        norm_a = norm_in_windows(operator, data.scale, self.kept.own_room, (self.y, self._stack), self.ramp)
        self.y[...] = 0
        norm_d = norm_of_differences(operator.volume)
        self.weights = Weights(norm_a, norm_d, order, across=4 * (operator.volume[1] > 1) / norm_d**2)
        pixels = float((data.scale > 0).sum())
        self.unit_weight = first_weight(norm_a, pixels, self.mean_density(), self._seen_voxels)
        self.weights = replace(self.weights, omega=self.unit_weight)
        self.iteration, self.coarse_iterations = 0, 0.0
        self.balance = Balance([])
        self.upper, self.steep, self._follow, self._objective = np.inf, np.inf, True, np.nan
        self._sums = Sums(self.kept, self._most, data.brightest())
        self._begin()

    # ------------------------------------------------------------------ before it begins

    def mean_density(self) -> float:
        """The uniform u that gives the total of the counts."""
        total = max(float(self._xp.sum(self.data.counts, dtype=np.float64)), 1.0)
        return total / max(self._seen, 1e-30)

    def continue_from(self, other: Previous, factor: int) -> None:
        """Start where another solver stands, of the maps binned by `factor`; see `PrimalDualIteration`."""
        ny = self.operator.volume[1]
        scales = scales_from(self.strengths, self.units(), other, factor)

        def fill(w: Window) -> Array:
            found = self.kept.own_room(w)
            room = self.kept.view("g", w)
            for name in STATE:
                for k in range(self.kept.parts[name]):
                    coarse = np.float32(scales[name]) * self._xp.asarray(other.component(name, k))
                    enlarge_window(coarse, room, factor, ny, w.held[0])
                    without_what_does_not_exist(name, room, k, at_end=w.held[1] == ny)
                    part = (
                        self._xp.rint(room).astype(self.kept.dtype(name))
                        if self.kept.dtype(name) != np.float32
                        else room
                    )
                    self.store.put((name, w.number, k), part)
                    if name == "u":
                        found[...] = room[..., slice(*w.within)]
            return found

        self.operator.forward(fill, self._stack)
        self.kept.start_anew()
        self._anew = True
        self.y[...] = self.data.derivative(self._stack)
        if self.ramp is not None:
            self._xp.multiply(self.data.scale, self._stack, out=self.v)
        omega = other.weights.omega * self.unit_weight / other.unit_weight
        overlap = other.weights.overlap if len(self.y) > FEW_TILTS else None
        self.weights = replace(self.weights.with_share(other.weights.share), omega=omega, overlap=overlap)
        self.coarse_iterations = (other.iteration + other.coarse_iterations) * other.voxels / self.voxels

    def release(self) -> None:
        """Give back the memory of what only further iterations would need; `continue_from` takes what is left."""
        self.kept.release()

    def change_strength(self, a1: float, a0: float) -> None:
        """Go on with other strengths from where it stands."""
        if self.kept.dual == np.float32:  # else they are in units of these
            for name, factor in (("p", a1 / self.a1), ("q", a0 / self.a0)):
                self.kept.factors[name] = np.float32(factor) * self.kept.factors.get(name, np.float32(1))
        self.a1, self.a0 = np.float32(a1), np.float32(a0)
        self._anew, self._bound = True, -np.inf

    # ------------------------------------------------------------------ iterations

    def go_on(self, end: int, *, check: bool) -> None:
        """A block of iterations on every window, see `CertifiedRun`."""
        self._go(end, check=check)

    def travel(self, iterations: int) -> tuple[float, float]:
        """`advance`, and how far u has gone by that, and its norm."""
        end, mark = self.iteration + iterations, True
        while self.iteration < end:
            self._go(end, check=False, mark=mark, compare=True)
            mark = False
        return self._found.moved**0.5, self._found.size**0.5

    def projection(self, out: Array) -> Array:
        """``A u``."""
        self.kept.flush()

        def own(w: Window) -> Array:
            room = self.kept.view("g", w)
            self.store.get(("u", w.number, 0), room)
            found = self.kept.own_room(w)
            found[...] = room[..., slice(*w.within)]
            return found

        return self.operator.forward(own, out)

    def _go(self, end: int, *, check: bool, mark: bool = False, compare: bool = False) -> None:
        """A block of iterations, to `end` at most or to where a balance is due."""
        if self.weights.overlap is None:
            scale, norm_a = self.data.scale, self.weights.norm_a
            overlap = (
                overlap_in_windows(self.operator, scale, norm_a, self.kept, self._next, self.ramp)
                if self.kept.parts["p"]
                else 2.0
            )
            self.weights = replace(self.weights, overlap=overlap)
        stop = end
        for n in range(self.iteration // 10 * 10 + 10, end, 10):
            if self.balance.due(n):
                stop = n
                break
        left = stop - self.iteration
        steps = -(-left // -(-left // self.place.block))  # blocks of one size
        last = self.iteration + steps == end
        with not_interrupted():
            self._pass(steps, last=last, check=check and last, mark=mark, compare=compare and last)

    def _pass(self, steps: int, *, last: bool, check: bool, mark: bool, compare: bool) -> None:
        """So many iterations on each window."""
        end = self.iteration + steps
        begun = self.iteration if self._anew else self.balance.begun
        since = self.iteration if self._anew else self.balance.last
        balance = Balance([])
        balance.begun, balance.last = begun, since
        due = (end % 10 == 0 or last) and balance.due(end)
        if self._anew:
            self._y0[...] = self.y
        found = self._found = _Found([0.0] * 4)
        if check:
            self._sums = Sums(self.kept, self._most, self._sums.brightest)
        order = self.operator.windows if self._forwards else self.operator.windows[::-1]
        waits: list[Wait] = []
        number = 0
        if self.kept.resident is None or self.kept.resident[1] is not order[0]:
            self.kept.flush()
            waits.append(self.kept.load(number, order[0]))
        else:
            number = self.kept.resident[0]
            waits.append(self.place.lane.run(partial(self.kept.renew, number, order[0])))
        self.kept.resident = None
        for i, w in enumerate(order):
            waits.pop()()
            following = order[i + 1] if i + 1 < len(order) else None
            if following is not None:
                other = (number + 1) % self.place.slots
                if other != number:
                    waits.append(self.kept.load(other, following))
                else:
                    self.kept.soon(following)
            state = self.kept.state(number, w)
            a, data = self._arrays(state, w)
            ramp = None if self.ramp is None else replace(self.ramp, scale=data.scale)
            if self._anew:
                self.kept.measure_from(state, w)
            if mark:
                self.store.put(("mark", w.number), self.kept.own(a.u, w))
            for n in range(steps):
                rho = 1.0 if last and n + 1 == steps else RELAXATION
                primal_dual_step(a, w.operator, data, self.weights, self.strengths, rho, ramp=ramp)
            self._keep_rows(a.y, w, self._next)
            self._keep_rows(a.v, w, self._next_v)
            if due:
                without_tiny_numbers(a.u)
                found.size += sum_of_squares(self.kept.own(a.u, w))
                found.changes = [x + y for x, y in zip(found.changes, self.kept.measure(state, w), strict=True)]
            if compare:
                self._compare(a, w, found)
            stays = following is None and not check
            saved = self.place.lane.run(partial(self.kept.save, state, w, edges_only=stays))
            if check:
                saved()
                self._certificate(a, data, w)
            if stays:
                saved()
                self.kept.resident = number, w
            if following is not None and self.place.slots == 1:
                saved()
                waits.append(self.kept.load(number, following))
            number = (number + 1) % self.place.slots
        self.y, self._next, self.v, self._next_v = self._next, self.y, self._next_v, self.v
        self.kept.end_block()
        self._forwards, self._anew = not self._forwards, False
        self.balance.begun, self.balance.last, self.iteration = begun, since, end
        if due:
            part = len(self.kept.planes) / self.operator.volume[0]
            of_y = squared_change if self.ramp is None else self.ramp.squared_change
            changes = (*found.changes, of_y(self.y, self._y0))
            travel = travel_of(changes, self.units(), part, self.weights)
            self.weights = self.weights.balanced(travel, self.balance.pace(end), found.size**0.5)
            self.balance.last = end
            self._y0[...] = self.y

    # ------------------------------------------------------------------ what is measured in a pass

    def _compare(self, a: Arrays, w: Window, found: _Found) -> None:
        own, before = self.kept.own(a.u, w), self.kept.own_room(w, "g")
        self.store.get(("mark", w.number), before)
        before -= own
        found.moved += sum_of_squares(before)
        found.size += sum_of_squares(own)

    def _certificate(self, a: Arrays, data: DataTerm, w: Window) -> None:
        """This window's part of objective and bound; w becomes scratch, and is in the store."""
        w.operator(a.u, a.stack)
        self._keep_rows(a.stack, w, self._stack)
        self._sums.add(a, data, w, self.strengths)

    # ------------------------------------------------------------------ certificate

    def objective(self) -> float:
        """``D + R`` at (u, w) of the last check."""
        return self.data.value(self._stack) + self._sums.regularised(self.strengths)

    def highest(self) -> float:
        """The largest value of u at the last check."""
        return self._sums.highest

    def steepest(self) -> float:
        """The norm of w at the last check, or what stands in for it."""
        least = self.mean_density() / max(self.operator.volume) * self.voxels**0.5
        return float(max(least, self._sums.squares**0.5))

    def lower_bound(self) -> float:
        """As `PrimalDual.lower_bound`, at the last check."""
        return self._sums.lower_bound(self.data, self.y, self.strengths, self.box, self.steep)

    # ------------------------------------------------------------------ stop and go on

    def parameters(self) -> Parameters:
        """The numbers that it ends with."""
        return replace(super().parameters(), windows=len(self.operator.windows), block=self.place.block)

    def value(self) -> Array:
        """u, on the host."""
        self.release()
        return self.component("u", 0)

    def component(self, name: str, k: int) -> Array:
        """u, or one component of w, p or q, on the host."""
        return self.kept.component(name, k)

    def state(self) -> State:
        """Everything that later iterations depend on, as that of `PrimalDual`; arrays are put together when read."""
        arrays: dict[str, Any] = {**self.kept.arrays(sampled=False), "y": self.y, "v": self.v}
        if not self._anew:
            arrays |= {f"{n}0": a for n, a in self.kept.arrays(sampled=True).items()} | {"y0": self._y0}
        return State(arrays, asdict(self.numbers()), list(self.history))

    def restore(self, state: State) -> None:
        """Go on from a state of this solver or of `PrimalDual`.

        Raises:
            ValueError: the state is that of another problem or method.
        """
        numbers = from_json(Numbers, state.numbers, "the state", "it is that of another version")
        if numbers.scheme != self.method or not {*STATE, "y", "v"} <= set(state.arrays):
            raise ValueError(f"the state holds {', '.join(state.arrays)}, the solver {', '.join((*STATE, 'y', 'v'))}")
        self._anew = "u0" not in state.arrays
        for name in STATE:
            self.kept.take(name, np.asarray(state.arrays[name]), sampled=False)
            if not self._anew:
                self.kept.take(name, np.asarray(state.arrays[f"{name}0"]), sampled=True)
        self.y[...], self.v[...] = (self._xp.asarray(state.arrays[name]) for name in "yv")
        if not self._anew:
            self._y0[...] = self._xp.asarray(state.arrays["y0"])
        self.kept.start_anew()
        self.take_numbers(numbers, state.history)

    # ------------------------------------------------------------------ arrays

    @property
    def strengths(self) -> Strengths:
        return Strengths(self.a1, self.a0)

    def units(self) -> tuple[float, float]:
        """The value of 1 in p and q as they are stored."""
        return self.strengths.units(np.empty(0, self.kept.dual))

    @property
    def slab(self) -> Slab:
        return Slab(ALONE, self.operator.volume[1])

    @property
    def voxels(self) -> float:
        return float(np.prod(self.operator.volume))

    def _arrays(self, state: dict[str, Array], w: Window) -> tuple[Arrays, DataTerm]:
        """What a window works on, and its part of the data."""
        xp, rows = self._xp, slice(*w.rows)
        y, v = (self._xp.array(a[..., rows], order="C") for a in (self.y, self.v))
        w_bar = (
            self.kept.view("w_bar", w, 3) if self._k.STEP_NEEDS_W_BAR and self.kept.parts["w"] else self.kept.nothing(w)
        )
        arrays = Arrays(
            **state,
            y=y,
            v=v,
            ahead=xp.empty_like(v),
            u_bar=self.kept.view("u_bar", w, 0),
            w_bar=w_bar,
            g=self.kept.view("g", w),
            stack=xp.empty_like(y),
        )
        cut = {f.name: xp.ascontiguousarray(getattr(self.data, f.name)[..., rows]) for f in fields(self.data)}
        return arrays, replace(self.data, **cut)

    def _keep_rows(self, part: Array, w: Window, out: Array) -> None:
        """A window's own rows into the stack of all."""
        for t, (first, end) in enumerate(w.own_rows[: len(out)]):
            out[t, :, first:end] = part[t, :, first - w.rows[0] : end - w.rows[0]]


__all__ = ["Place", "StreamedPrimalDual"]
