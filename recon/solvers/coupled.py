"""Several channels together: elements, or an image, whose edges are sought in the same places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from recon.backend import Array, kernels, namespace, to_host
from recon.files import from_json
from recon.operators import Operator, norm2, norm_estimate
from recon.series.volume import Parameters, Record
from recon.solvers.bounds import Box, largest_gain, raised, regulariser_dual, squares
from recon.solvers.certified import CertifiedRun
from recon.solvers.channels import COUPLINGS, Channel, check_channels, in_step
from recon.solvers.data_terms import DataTerm
from recon.solvers.grids import enlarge
from recon.solvers.iteration import Scaled
from recon.solvers.solution import State
from recon.solvers.steps import (
    FIELDS,
    ORDER,
    RELAXATION,
    first_weight,
    norm_of_differences,
    without_tiny_numbers,
    without_what_does_not_exist,
)
from recon.solvers.weights import SAMPLED, Balance, Weights, squared_change, travel_of

_WHOLE = np.float32(2.0**60)  # radius of a ball that nothing leaves; its square is a float32, too


@dataclass(frozen=True)
class CoupledNumbers:
    """What later iterations of `CoupledPrimalDual` depend on beside its arrays."""

    scheme: str
    strengths: tuple[float, ...]
    ratio: float
    weights: tuple[Weights, ...]
    uppers: tuple[float, ...]
    steeps: tuple[float, ...]
    iteration: int
    coarse_iterations: float
    begun: int
    balanced: int
    follow: bool
    objective: float
    bound: float
    seconds: float


class CoupledPrimalDual(CertifiedRun):
    r"""The primal-dual hybrid gradient method for K channels, the minimum over u_k >= 0 and w_k of

        ``sum_k D_k(s_k A_k u_k + b_k; c_k) + sum |(a1_k (grad u_k - w_k))_k| + r sum |(a1_k E w_k)_k|``,

    summed over voxels, where |.| is a norm of the matrix whose rows are the channels: the Frobenius norm, or the
    nuclear norm, the sum of the singular values. Both cost less than the sum of the channels' own lengths, the first
    where edges of channels lie in the same place, the second where they also have the same direction (K. Bredies,
    M. Holler, "Regularization of linear inverse problems with total generalized variation", J. Inverse Ill-Posed Probl.
    22, 871 (2014); M. Holler, R. Huber, F. Knoll, "Coupled regularization with multiple data discrepancies", Inverse
    Problems 34 (2018); of element maps R. Huber et al., Nanoscale 11, 5617 (2019)).

    Inside, each channel is in units in which its strength is 1, ``U_k = a1_k u_k``, so that all that differs between
    channels is their data: ``s_k / a1_k`` stands for s_k. With the duals y_k, and P and Q of ``grad U - W`` and ``E W``
    as matrices in each voxel, one iteration is that of `PrimalDualIteration` for each channel, but with

        P' = P_1(P + sigma (grad (2U' - U) - (2W' - W)))      Q' = P_r(Q + sigma E (2W' - W))

    where P_r projects onto the ball of the dual norm: the Frobenius norm again, or the largest singular value. The
    operator is one block for each channel, so each has its own primal weight and share (`Weights`), such that sigma is
    the same for all.

    The certificate is that of `PrimalDual`, with bounds on each u_k and w_k: ``<P - E* Q, W>`` is at most the sum over
    channels of twice the norm of W_k times that of ``P_k - E* Q_k``. The rest is a sum over channels, too. That
    ``<A_k^T s_k, u_k>`` is bounded as without coupling holds, since the norms do not fall when one row grows. The gap
    is that of all channels together.

    Args:
        channels: up to `recon.kernels.MOST_CHANNELS`.
        coupling: ``"frobenius"`` or ``"nuclear"``.
        regulariser: ``"tgv"`` or ``"tv"``.
        ratio: r, a0 over a1, of all channels.
        start: first u of each channel, ``(z, x, y)``; zero by default.
        uppers: bounds on each u that are known; by default twice the largest value at a check, as of `PrimalDual`.

    Attributes:
        u: ``(channel, z, x, y)``, in units of 1 / a1.
        w, p, q: ``(channel, component, z, x, y)``.
        y: ``(tilt, u, y)`` of each channel.
    """

    method = "coupled"

    def __init__(
        self,
        channels: Sequence[Channel],
        coupling: str = "frobenius",
        *,
        regulariser: str = "tgv",
        ratio: float = 2.0,
        start: Sequence[Array] | None = None,
        uppers: Sequence[float] | None = None,
    ) -> None:
        check_channels(channels, coupling)
        first = channels[0].data.counts
        xp = self._xp = namespace(first)
        self._k, self.coupling, self.regulariser = kernels(first), coupling, regulariser
        self.strengths = tuple(float(c.a1) for c in channels)
        self.a1, self.a0 = np.float32(1), np.float32(ratio)
        self.operators = [c.operator for c in channels]
        self.data = [replace(c.data, scale=c.data.scale / np.float32(c.a1)) for c in channels]
        n, shape, fields = len(channels), self.operators[0].domain_shape, FIELDS[ORDER[regulariser]]

        def field(name: str) -> Array:
            found: Array = self._k.zeros((n, fields[name], *shape))
            return found

        self.u, self.u_bar = self._k.zeros((n, *shape)), self._k.zeros((n, *shape))
        self.w, self.w_bar, self.p, self.q = field("w"), field("w_bar"), field("p"), field("q")
        self._ahead_p, self._ahead_q = field("p"), field("q")  # before projection
        self._g = self._k.zeros(shape)
        self.y = [self._k.zeros(o.range_shape) for o in self.operators]
        self._stack = [self._k.zeros(o.range_shape) for o in self.operators]
        self._sensitivity = [
            o.adjoint(d.scale, xp.empty(shape, dtype=np.float32))
            for o, d in zip(self.operators, self.data, strict=True)
        ]
        if start is not None:
            for k, a1 in enumerate(self.strengths):
                self.u[k] = np.float32(a1) * start[k]
        weights = [self._first_weights(k, fields) for k in range(n)]
        self.channel_weights = in_step(weights)
        if start is not None:
            self._derive_y()
        self.iteration, self.coarse_iterations = 0, 0.0
        self.balances = [Balance(self._watched(k)) for k in range(n)]
        self.uppers = [np.inf] * n if uppers is None else [u * a for u, a in zip(uppers, self.strengths, strict=True)]
        self.steeps = [np.inf] * n
        self._brightest = [d.brightest() for d in self.data]
        self._follow, self._objective = uppers is None, np.nan
        self._begin()
        self._begin_to_balance()

    def _first_weights(self, k: int, fields: dict[str, int]) -> Weights:
        operator, data, xp = self.operators[k], self.data[k], self._xp
        norm_a = norm_estimate(Scaled(operator, data.scale), self.u[k], work=(self.u_bar[k], self._g))
        norm_d = norm_of_differences(operator.domain_shape)
        voxels, pixels = float(xp.sum(self._sensitivity[k] > 0)), float((data.scale > 0).sum())
        omega = first_weight(norm_a, pixels, self._mean_density(k), voxels)
        return Weights(norm_a, norm_d, ORDER[self.regulariser], omega)

    # ------------------------------------------------------------------ one iteration

    def step(self, rho: float = 1.0) -> None:
        """One iteration, over-relaxed by `rho`; the formulas are those of the class."""
        relax, one, xp = np.float32(rho), np.float32(1), self._xp
        sigma = np.float32(self.channel_weights[0].sigma_p)
        xp.copyto(self._ahead_p, self.p)
        xp.copyto(self._ahead_q, self.q)
        for k, (operator, data, weights) in enumerate(self._channels()):
            tau = np.float32(weights.tau)
            xp.multiply(data.scale, self.y[k], out=self._stack[k])
            operator.adjoint(self._stack[k], self._g)
            bars, duals = (self.u_bar[k], self.w_bar[k]), (self._ahead_p[k], self._ahead_q[k])
            self._k.tgv_primal(
                self.u[k], self.w[k], *bars, self.p[k], self.q[k], self._g, tau, tau, one, one, relax
            )  # fmt: skip
            self._k.tgv_dual(*duals, *bars, sigma, sigma, _WHOLE, _WHOLE, one)
            operator(self.u_bar[k], self._stack[k])
            data.dual_step(self.y[k], self._stack[k], weights.sigma_y, relax)
        self._k.coupled_dual(self.p, self._ahead_p, one, self._nuclear, relax)
        if self.q.size:
            self._k.coupled_dual(self.q, self._ahead_q, self.a0, self._nuclear, relax)
        self.iteration += 1

    def go_on(self, end: int, *, check: bool) -> None:
        """One iteration and maybe a balance; the one to `end` is not relaxed, so P and Q stay in their balls."""
        last = self.iteration + 1 == end
        self.step(1.0 if last else RELAXATION)
        if (self.iteration % 10 == 0 or last) and self.balances[0].due(self.iteration):
            self._balance()

    @property
    def _nuclear(self) -> bool:
        return self.coupling == "nuclear"

    def _channels(self) -> list[tuple[Operator, DataTerm, Weights]]:
        return list(zip(self.operators, self.data, self.channel_weights, strict=True))

    def _derive_y(self) -> None:
        for k, (operator, data, _) in enumerate(self._channels()):
            self.y[k][...] = data.derivative(operator(self.u[k], self._stack[k]))

    # ------------------------------------------------------------------ weights

    def _watched(self, k: int) -> list[Array]:
        """The part of a channel's state on which travel is measured, see `PrimalDualIteration`."""
        planes = slice(min(SAMPLED // 2, self.u.shape[1] - 1), None, SAMPLED)
        return [self.u[k][planes], self.w[k][:, planes], self.p[k][:, planes], self.q[k][:, planes], self.y[k]]

    def _balance(self) -> None:
        """Balance each channel's weights by its own travel, and then bring them in step."""
        new = []
        for k, (balance, weights) in enumerate(zip(self.balances, self.channel_weights, strict=True)):
            watched = self._watched(k)
            part = len(watched[0]) / self.u.shape[1]
            changes = [
                sum(squared_change(a, b) for a, b in zip(now, before, strict=True))
                for now, before in zip(watched, balance.before, strict=True)
            ]
            travel = travel_of(tuple(changes), (1.0, 1.0), part, weights)
            new.append(weights.balanced(travel, balance.pace(self.iteration), norm2(self.u[k], self._g)))
            without_tiny_numbers(self.u[k])
            balance.measure_from(self.iteration, watched)
        self.channel_weights = in_step(new)

    def _begin_to_balance(self) -> None:
        for k, balance in enumerate(self.balances):
            without_tiny_numbers(self.u[k])
            balance.begin(self.iteration, self._watched(k))

    def _mean_density(self, k: int) -> float:
        """The uniform U_k that gives the total of the counts."""
        xp = self._xp
        total = max(float(xp.sum(self.data[k].counts, dtype=np.float64)), 1.0)
        return total / max(float(xp.sum(self._sensitivity[k], dtype=np.float64)), 1e-30)

    def mean_density(self) -> float:
        """The largest of the channels'."""
        return max(self._mean_density(k) for k in range(len(self.u)))

    def continue_from(self, other: CoupledPrimalDual, factor: int = 1) -> None:
        """Start where another solver of the same channels stands, or of their maps binned by `factor`.

        As `PrimalDualIteration.continue_from`; P has no unit, Q that of r.
        """
        for k, (mine, there) in enumerate(zip(self.strengths, other.strengths, strict=True)):
            gradients = float(self.a0 / other.a0)
            scales = {"u": mine / there / factor**3, "w": mine / there / factor**4, "p": 1.0, "q": gradients}
            for name, scale in scales.items():
                own, others = getattr(self, name)[k], getattr(other, name)[k]
                for i, part in enumerate([own] if name == "u" else own):
                    source = others if name == "u" else others[i]
                    part[...] = enlarge(np.float32(scale) * source, self._g, factor)
                    without_what_does_not_exist(name, part, i, at_end=True)
            share = other.channel_weights[k].share
            self.channel_weights[k] = self.channel_weights[k].with_share(share)
        self.channel_weights = in_step(self.channel_weights)
        self._derive_y()
        part = other.u[0].size / self.u[0].size
        self.coarse_iterations = (other.iteration + other.coarse_iterations) * part
        self._begin_to_balance()

    # ------------------------------------------------------------------ certificate

    def objective(self) -> float:
        """``sum_k D_k + R`` at (u, w), summed in float64."""
        value = sum(
            data.value(operator(self.u[k], self._stack[k])) for k, (operator, data, _) in enumerate(self._channels())
        )
        return value + self._regularised()

    def _regularised(self) -> float:
        one, p, q = np.float32(1), self._ahead_p, self._ahead_q
        p[...] = 0
        q[...] = 0
        for k in range(len(self.u)):  # the dual step from 0 gives the gradients themselves
            self._k.tgv_dual(p[k], q[k], self.u[k], self.w[k], one, one, _WHOLE, _WHOLE, one)
        return self._norms(p)[0] + float(self.a0) * self._norms(q)[0]

    def _norms(self, field: Array) -> tuple[float, float]:
        """The sum over voxels of the norms, and the largest dual norm."""
        if not field.size:
            return 0.0, 0.0
        sums = self._xp.empty((field.shape[2], 2))
        self._k.coupled_norms(field, self._nuclear, sums)
        of_plane = to_host(sums)
        return float(of_plane[:, 0].sum()), float(of_plane[:, 1].max())

    def highest(self) -> float:
        """The largest value of U."""
        return float(self._xp.max(self.u))

    def steepest(self) -> float:
        """The largest norm of a channel's W."""
        return float(max(squares(w) ** 0.5 for w in self.w))

    def follow_w(self) -> None:
        """Let the bounds on the norm of W follow the channels."""
        slope = self.u[0].size ** 0.5 / max(self.u.shape[1:])
        self.steeps = [2 * max(self._mean_density(k) * slope, squares(w) ** 0.5) for k, w in enumerate(self.w)]

    def follow_u(self) -> None:
        """Let the bounds follow the channels."""
        self.uppers = [2 * max(float(self._xp.max(u)), self._mean_density(k)) for k, u in enumerate(self.u)]

    def _box_of(self, k: int) -> Box:
        upper, u = self.uppers[k], self.u[k]
        return Box(u, above=upper / 2) if self._follow else Box(u, most=upper)

    def lower_bound(self) -> float:
        """Value of the dual problem at a point made from (y, P, Q); never above the minimum."""
        g, duals, more = self.u_bar, [], 0.0
        inside = self._norms(self.p)[1], self._norms(self.q)[1] / float(self.a0)
        theta = 1 / max(1.0, *inside)  # by rounding
        for k, (operator, data, _) in enumerate(self._channels()):
            y = data.feasible(self.y[k])
            self._xp.multiply(data.scale, y, out=self._stack[k])
            operator.adjoint(self._stack[k], g[k])
            _, apart = regulariser_dual(self.p[k], self.q[k], self.a0, 1.0, self.w_bar[k], g[k])
            more += theta * self.steeps[k] * apart**0.5 if apart else 0.0
            work = self._stack[k], self._g
            duals.append(raised(operator, data, y, g[k], self._box_of(k), self._brightest[k], work))
        bound = -more
        for k, (data, y) in enumerate(zip(self.data, duals, strict=True)):
            gain = largest_gain(g[k], self._sensitivity[k], theta, self._box_of(k), data.total_bound())
            bound -= data.conjugate(theta * y) + gain
        return bound

    # ------------------------------------------------------------------ stop and go on

    def value(self) -> Array:
        """u ``(channel, z, x, y)``, counts per voxel length per unit exposure."""
        found: Array = self._xp.stack([u / np.float32(a1) for u, a1 in zip(self.u, self.strengths, strict=True)])
        return found

    def projections(self) -> list[Array]:
        """``A_k u_k`` of each channel, ``(tilt, u, y)``."""
        return [operator(u, self._xp.empty_like(s)) for operator, u, s in zip(
            self.operators, self.value(), self._stack, strict=True)]  # fmt: skip

    def parameters(self) -> Parameters:
        """Those of the first channel, see `parameters_of`."""
        return self.parameters_of(0)

    def parameters_of(self, k: int) -> Parameters:
        """The numbers that a channel ends with."""
        a1, weights = self.strengths[k], self.channel_weights[k]
        return Parameters(
            a1=a1,
            a0=a1 * float(self.a0),
            scheme=self.method,
            upper=float(self.uppers[k]) / a1,
            operator_norm=weights.norm_a * a1,
            primal_weight=weights.omega,
            share=weights.share,
            coarse_iterations=self.coarse_iterations,
        )

    def _arrays(self) -> dict[str, Array]:
        found = {"u": self.u, "w": self.w, "p": self.p, "q": self.q}
        for k, (y, balance) in enumerate(zip(self.y, self.balances, strict=True)):
            found[f"y{k}"] = y
            found |= {f"{name}{k}_before": a for name, a in zip("uwpqy", balance.before, strict=True)}
        return found

    def state(self) -> State:
        """Everything that later iterations depend on; the arrays are the solver's own, not copies."""
        numbers = CoupledNumbers(
            scheme=f"{self.method} {self.coupling}",
            strengths=self.strengths,
            ratio=float(self.a0),
            weights=tuple(self.channel_weights),
            uppers=tuple(self.uppers),
            steeps=tuple(self.steeps),
            iteration=self.iteration,
            coarse_iterations=self.coarse_iterations,
            begun=self.balances[0].begun,
            balanced=self.balances[0].last,
            follow=self._follow,
            objective=self._objective,
            bound=self._bound,
            seconds=self._seconds,
        )
        return State(self._arrays(), asdict(numbers), list[Record](self.history))

    def restore(self, state: State) -> None:
        """Go on from a state of a solver of the same problem.

        Raises:
            ValueError: the state is that of another problem.
        """
        numbers = from_json(CoupledNumbers, state.numbers, "the state", "it is that of another version")
        own = self._arrays()
        if own.keys() != state.arrays.keys() or numbers.scheme != f"{self.method} {self.coupling}":
            raise ValueError(f"the state holds {', '.join(state.arrays)}, the solver {', '.join(own)}")
        for name, array in own.items():
            saved = state.arrays[name]
            if saved.shape != array.shape:
                raise ValueError(f"{name} of the state has shape {saved.shape}, the solver's {array.shape}")
            array[...] = self._xp.asarray(saved)
        self.strengths, self.a0 = numbers.strengths, np.float32(numbers.ratio)
        self.channel_weights = list(numbers.weights)
        self.uppers, self.steeps = list(numbers.uppers), list(numbers.steeps)
        self.iteration, self.coarse_iterations = numbers.iteration, numbers.coarse_iterations
        for balance in self.balances:
            balance.begun, balance.last = numbers.begun, numbers.balanced
        self._follow, self._objective = numbers.follow, numbers.objective
        self._bound, self._seconds = numbers.bound, numbers.seconds
        self.history, self._restored = list(state.history), True


__all__ = ["COUPLINGS", "Channel", "CoupledPrimalDual"]
