"""Numba kernels for the CPU: data terms here, projection, detector warp, layouts and TGV beside.

The functions, their arguments and their order are those of `recon.kernels.cuda`; layouts are stated
in `recon.kernels`. Rows along y are contiguous, so inner loops vectorise; planes run on all cores.
Everything is written into arguments, nothing is allocated but a few rows per plane.
"""

from __future__ import annotations

from math import sqrt

from recon.kernels.compiling import FOUR, HALF, ONE, TINY, TWO, ZERO, jit
from recon.kernels.cpu_certificate import excess_sums, gradient_adjoint, tgv_divergence, tgv_value
from recon.kernels.cpu_coupled import coupled_dual, coupled_norms
from recon.kernels.cpu_general import backproject_rays, project_rays
from recon.kernels.cpu_joseph import backproject, project
from recon.kernels.cpu_layout import add, exchange, exchange_add, pad_rows
from recon.kernels.cpu_memory import zeros
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_ramp import ramp_dual, ramp_filter
from recon.kernels.cpu_tgv import STEP_NEEDS_W_BAR, tgv_dual, tgv_primal, tgv_step
from recon.kernels.cpu_warp import warp, warp_adjoint

__all__ = [
    "STEP_NEEDS_W_BAR",
    "add",
    "backproject",
    "backproject_rays",
    "coupled_dual",
    "coupled_norms",
    "excess_sums",
    "exchange",
    "exchange_add",
    "gradient_adjoint",
    "least_squares_dual",
    "pad_rows",
    "poisson_dual",
    "project",
    "project_rays",
    "ramp_dual",
    "ramp_filter",
    "tgv_divergence",
    "tgv_dual",
    "tgv_primal",
    "tgv_step",
    "tgv_value",
    "warp",
    "warp_adjoint",
    "zeros",
]

# ---------------------------------------------------------------- data terms


@jit
def _poisson_dual(t, y, projection, counts, offset, scale, sigma, rho):  # type: ignore[no-untyped-def]
    if t < 0:
        in_parallel(t)
        return
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            d = ONE - y[t, i, j] - sigma * (scale[t, i, j] * projection[t, i, j] + offset[t, i, j])
            r = max(abs(d) + sqrt(d * d + FOUR * sigma * counts[t, i, j]), TINY)
            new = ONE - (HALF * r if d > ZERO else TWO * sigma * counts[t, i, j] / r)
            y[t, i, j] += rho * ((new if scale[t, i, j] > 0 else ZERO) - y[t, i, j])


def poisson_dual(y, projection, counts, offset, scale, sigma, rho):  # type: ignore[no-untyped-def]
    """y <- y + rho (y' - y), y' = prox of sigma D* at y + sigma s A u_bar for D = Poisson.

    Arrays (tilt, u, y), `scale` is s. With v = y + sigma (s A u_bar + b):
    y' = (1 + v - sqrt((1 - v)^2 + 4 sigma counts)) / 2, computed as 1 - y' so that nothing cancels and y' <= 1. Pixels
    with scale 0 carry no data: y' = 0.
    """
    _poisson_dual(all_of(len(y)), y, projection, counts, offset, scale, sigma, rho)


@jit
def _least_squares_dual(t, y, projection, counts, offset, scale, weight, sigma, rho):  # type: ignore[no-untyped-def]
    if t < 0:
        in_parallel(t)
        return
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            r = scale[t, i, j] * projection[t, i, j] + offset[t, i, j] - counts[t, i, j]
            new = weight[t, i, j] * (y[t, i, j] + sigma * r) / (weight[t, i, j] + sigma)
            y[t, i, j] += rho * ((new if scale[t, i, j] > 0 else ZERO) - y[t, i, j])


def least_squares_dual(y, projection, counts, offset, scale, weight, sigma, rho):  # type: ignore[no-untyped-def]
    """The same for D = weight/2 |s A u + b - counts|^2: y' = (y + sigma r) / (1 + sigma / weight)."""
    _least_squares_dual(all_of(len(y)), y, projection, counts, offset, scale, weight, sigma, rho)
