"""Objective and bound of a volume that is worked on window by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from recon.backend import Array, namespace
from recon.operators.windows import Window
from recon.solvers import bounds
from recon.solvers.data_terms import DataTerm
from recon.solvers.resident import WindowedState
from recon.solvers.steps import Arrays, Strengths

MakeBox = Callable[[Array], bounds.Box]


class Sums:
    """What the windows add to the certificate, see `PrimalDual`; fields of the volume's size lie in the store.

    Args:
        kept: the windows, with ``A^T s`` in their store.
        most: the largest ``A^T s``.
        brightest: `DataTerm.brightest` of the whole.

    Attributes:
        highest: u.
        squares: of w, their sum.
    """

    def __init__(self, kept: WindowedState, most: float, brightest: float) -> None:
        self._kept, self._most, self.brightest = kept, most, brightest
        self._first = self._second = self._longest = self._apart = self._raised_by = 0.0
        self.highest, self.squares = -np.inf, 0.0
        self._y: Array | None = None

    def add(self, a: Arrays, data: DataTerm, w: Window, strengths: Strengths) -> None:
        """A window's part; the arrays' w and stack become scratch."""
        xp = namespace(a.u)
        self.highest = max(self.highest, float(xp.max(a.u[..., slice(*w.within)])))
        if len(a.p):
            first, second = bounds.regulariser_sums(a.u, a.w, w.within)
            self._first, self._second = self._first + first, self._second + second
        if len(a.w):
            self.squares += bounds.squares(a.w, w.within)
        self._kept.store.put(("high", w.number), self._kept.own(a.u, w))
        y = data.feasible(a.y)
        xp.multiply(data.scale, y, out=a.stack)
        w.operator.adjoint(a.stack, a.g)
        if len(a.p):
            unit = strengths.units(a.p)[0]
            longest, apart = bounds.regulariser_dual(a.p, a.q, strengths.a0, unit, a.w, a.g, w.within)
            self._longest, self._apart = max(self._longest, longest), self._apart + apart
        self._kept.store.put(("g", w.number), self._kept.own(a.g, w))
        lift = data.lift(y, self.brightest)
        if lift is not None:
            xp.multiply(data.scale, lift.direction, out=a.stack)
            w.operator.adjoint(a.stack, a.g)
            own = self._kept.own(a.g, w)
            self._raised_by = max(self._raised_by, float(xp.max(own)))
            self._kept.store.put(("lift", w.number), own)

    def regularised(self, strengths: Strengths) -> float:
        """``R`` at (u, w)."""
        return float(strengths.a1) * self._first + float(strengths.a0) * self._second

    def lower_bound(self, data: DataTerm, y: Array, strengths: Strengths, box: MakeBox, steep: float) -> float:
        """Value of the dual problem, as `PrimalDual.lower_bound`; g and what it goes with are read for every price.

        Args:
            data, y: of the whole.
            box: `CertifiedRun.box`.
            steep: bound on the norm of w.
        """
        theta = min(1.0, float(strengths.a1) / self._longest) if self._longest else 1.0
        more = theta * steep * self._apart**0.5 if self._apart else 0.0
        if self._y is None:  # g in the store goes with it from then on
            self._y = self._raised(data, data.feasible(y), box)
        excess = self._excess("sensitivity", self._most, box, theta)
        gain = bounds.least_over_prices(excess, data.total_bound()).least
        return -data.conjugate(theta * self._y) - gain - more

    def _raised(self, data: DataTerm, y: Array, box: MakeBox) -> Array:
        """y raised where that lets the bound grow; g in the store follows."""
        lift = data.lift(y, self.brightest) if box(y).bounded else None
        if lift is None:
            return y
        excess = self._excess("lift", self._raised_by, box)
        step = min(bounds.least_over_prices(excess, lift.cost).price, lift.most)
        if step > 0:
            ahead = y + np.float32(step) * lift.direction
            costs = data.conjugate(ahead) - data.conjugate(y)
            if costs < excess(0.0)[0] - excess(step)[0]:
                for w in self._kept.operator.windows:
                    g, by = self._own("g", w, "g", {}), self._own("lift", w, "u_bar", {})
                    by *= np.float32(step)
                    g += by
                    self._kept.store.put(("g", w.number), g)
                return ahead
        return y

    def _excess(self, name: str, most: float, box: MakeBox, theta: float = 1.0) -> Callable[[float], bounds.Sums]:
        """`bounds.sums_at` of g and a field of which `most` is the largest, as a function of the price."""
        kept = self._kept.in_idle_slots("g", name)
        windows = self._kept.operator.windows

        def at(price: float) -> bounds.Sums:
            excess = reached = highest = 0.0
            for w in windows:
                g, by = self._own("g", w, "g", kept), self._own(name, w, "u_bar", kept)
                high = self._kept.idle_room(w)
                self._kept.store.get(("high", w.number), high)
                sums = namespace(g).empty((g.shape[0], 3), dtype=np.float64)
                found = bounds.sums_at(price, g, by, box(high), theta, bounds.BLIND * most, sums)
                excess, reached, highest = excess + found[0], reached + found[1], max(highest, found[2])
            return excess, reached, highest

        return at

    def _own(self, name: str, w: Window, room: str, kept: Mapping[tuple[str, int], Array]) -> Array:
        """A window's own slices of a field, `kept` in memory or read into a room."""
        part = kept.get((name, w.number))
        if part is None:
            part = self._kept.own_room(w, room)
            self._kept.store.get((name, w.number), part)
        return part
