"""One step of the primal-dual iteration on arrays, wherever they lie, and what it needs to begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recon.backend import Array, kernels, namespace
from recon.kernels import STEPS
from recon.operators import Operator
from recon.parallel import Halos, Slab
from recon.solvers.data_terms import DataTerm
from recon.solvers.ramp import Ramp
from recon.solvers.weights import Weights

ORDER = {"none": 0, "tv": 1, "tgv": 2}
# What is declared here is allocated, and counted before a run (`recon.solvers.memory`): components of each array of
# the volume's size, by the order of the regulariser.
FIELDS: tuple[dict[str, int], ...] = tuple(
    {
        "u": 1, "w": 3 * (order == 2), "p": 3 * (order >= 1), "q": 6 * (order == 2),
        "u_bar": 1, "g": 1, "sensitivity": 1, "w_bar": 3 * (order == 2),
    }
    for order in range(3)
)  # fmt: skip
VECTORS = ("w", "p", "q", "w_bar")
STATE, DUALS, SCRATCH = ("u", "w", "p", "q"), ("p", "q"), ("u_bar", "g", "sensitivity")  # w_bar on GPUs only
_AT_ONCE = 1 << 24  # elements, of a whole volume's
RELAXATION = 1.6  # z <- z + 1.6 (T(z) - z); below 2. Of 1.4 to 1.95, 1.6 and 1.7 take the fewest iterations


@dataclass(frozen=True, eq=False)
class Arrays:
    """What one iteration works on: the state and scratch of a volume or of a part of it, as `PrimalDualIteration` names
    them; `stack` takes the projection, `ahead` is scratch like it."""

    u: Array
    w: Array
    p: Array
    q: Array
    y: Array
    v: Array
    ahead: Array
    u_bar: Array
    w_bar: Array
    g: Array
    stack: Array


@dataclass(frozen=True)
class Strengths:
    """a1 and a0, float32."""

    a1: np.float32
    a0: np.float32

    def units(self, p: Array) -> tuple[float, float]:
        """The value of 1 in p and q as they are stored: 16-bit duals count in steps of their strengths."""
        return (float(self.a1) / STEPS, float(self.a0) / STEPS) if p.dtype == np.int16 else (1.0, 1.0)


def primal_dual_step(
    a: Arrays,
    operator: Operator,
    data: DataTerm,
    weights: Weights,
    strengths: Strengths,
    rho: float,
    halos: Halos | None = None,
    *,
    last: bool = True,
    exempt: Array | None = None,
    ramp: Ramp | None = None,
) -> None:
    """One iteration, over-relaxed by `rho`, in place; the formulas are those of `PrimalDualIteration`.

    `exempt` ``(z, x, y)`` is a part of ubar of which the gradient is not taken. Where u, w, p and q have slices of
    others beside their own, `halos` renews them; after the `last` step, all of them.
    """
    relax, tau = np.float32(rho), np.float32(weights.tau)
    namespace(a.u).multiply(data.scale, a.y, out=a.stack)
    operator.adjoint(a.stack, a.g)
    halo = halos.of_step(last=last) if halos else None
    kernels(a.u).tgv_step(
        a.u, a.w, a.u_bar, a.w_bar, a.p, a.q, a.g, tau, tau, np.float32(weights.sigma_p), np.float32(weights.sigma_q),
        strengths.a1, strengths.a0, relax, halo, exempt,
    )  # fmt: skip
    if halos:
        halos.leave(last=last)
    operator(a.u_bar, a.stack)
    dual_step(a.y, a.v, a.ahead, a.stack, data, weights.sigma_y, relax, ramp)


def dual_step(
    y: Array,
    v: Array,
    ahead: Array,
    stack: Array,
    data: DataTerm,
    sigma: float,
    rho: np.float32,
    ramp: Ramp | None,
) -> None:
    """y, and with a ramp v, relaxed by rho, from ``A u_bar`` in `stack`; `ahead` and this are overwritten."""
    if ramp is None:
        data.dual_step(y, stack, sigma, rho)
        return
    ramp.ahead(stack, v, ahead)
    ahead[...] = y
    data.dual_step(ahead, stack, sigma, np.float32(1))
    ramp.dual_step(y, v, ahead, stack, sigma, rho)


def without_tiny_numbers(u: Array) -> None:
    """Numbers near the smallest float32 make every later product slow."""
    planes = max(1, _AT_ONCE // u[0].size)
    for k in range(0, len(u), planes):
        part = u[k : k + planes]
        part[namespace(u).abs(part) < 1e-30] = 0


def without_what_does_not_exist(name: str, part: Array, component: int, *, at_end: bool) -> None:
    """w, p or q, of which the kernels leave alone what does not exist, is 0 there; `at_end` holds the last slice."""
    if name in VECTORS and component == 0:
        part[-1] = 0
    if name in VECTORS and component == 1:
        part[:, -1] = 0
    if name in VECTORS and component == 2 and at_end:
        part[:, :, -1] = 0


def first_weight(norm_a: float, pixels: float, mean_density: float, voxels: float) -> float:
    """omega = |y| / |u| (blocks of norm 1), by the size of the data.

    u is a uniform density that gives the total of the counts; for y, half a count in each was best
    of the constants tried on simulated particles. Balancing takes it from there.

    Args:
        norm_a: ``|s A|``.
        pixels, voxels: that are seen.
        mean_density: of that u.
    """
    return float(norm_a * pixels**0.5 * 0.5 / max(mean_density * voxels**0.5, 1e-30))


def norm_of_differences(shape: tuple[int, ...]) -> float:
    """|grad| on a volume of a shape."""
    return float(np.sqrt(4 * sum(n > 1 for n in shape))) or 1.0


class Previous(Protocol):
    """A solver that another one starts from; of several ranks, arrays are a rank's part."""

    a1: np.float32
    a0: np.float32
    weights: Weights
    iteration: int
    coarse_iterations: float
    unit_weight: float

    @property
    def slab(self) -> Slab: ...

    @property
    def voxels(self) -> float: ...

    def units(self) -> tuple[float, float]: ...

    def component(self, name: str, k: int) -> Array: ...


def scales_from(mine: Strengths, units: tuple[float, float], other: Previous, factor: int) -> dict[str, float]:
    """By what u, w, p and q of another solver are multiplied, see `PrimalDualIteration.continue_from`."""
    p_there, q_there = other.units()
    return {
        "u": factor**-3,
        "w": factor**-4,
        "p": float(mine.a1 / other.a1) * p_there / units[0],
        "q": float(mine.a0 / other.a0) * q_there / units[1],
    }
