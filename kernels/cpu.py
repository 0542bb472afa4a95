"""Numba kernels for the CPU: detector warp and data terms here, projection and TGV beside.

The functions, their arguments and their order are those of `recon.kernels.cuda`; layouts are stated
in `recon.kernels`. Rows along y are contiguous, so inner loops vectorise; planes run on all cores.
Everything is written into arguments, nothing is allocated but a few rows per plane.
"""

from __future__ import annotations

from math import ceil, floor, sqrt

from numba import prange

from recon.kernels.compiling import FOUR, HALF, ONE, TINY, TWO, ZERO, jit
from recon.kernels.cpu_certificate import gradient_adjoint, tgv_divergence, tgv_value
from recon.kernels.cpu_joseph import backproject, project
from recon.kernels.cpu_tgv import STEP_NEEDS_W_BAR, tgv_dual, tgv_primal, tgv_step

__all__ = [
    "STEP_NEEDS_W_BAR",
    "backproject",
    "gradient_adjoint",
    "least_squares_dual",
    "poisson_dual",
    "project",
    "tgv_divergence",
    "tgv_dual",
    "tgv_primal",
    "tgv_step",
    "tgv_value",
    "warp",
    "warp_adjoint",
]

# ---------------------------------------------------------------- detector warp (bilinear)
# Recorded pixel (i, j) shows the ideal projection at (p, q) = A (i, j) + b; ideal pixel (k, l) enters
# with weight tent(p - k) tent(q - l). `affine` (tilt, 6) holds A00 A01 b0 A10 A11 b1, indices (u, y).


@jit
def warp(stack, out, affine):  # type: ignore[no-untyped-def]
    """Ideal projections `stack` (tilt, u, y) as recorded, into `out` (tilt, u, y); zero outside."""
    _, nu, ny = stack.shape
    n_tilts, mu, my = out.shape
    for line in prange(n_tilts * mu):
        t, i = line // mu, line % mu
        a = affine[t]
        for j in range(my):
            p = a[0] * i + a[1] * j + a[2]
            q = a[3] * i + a[4] * j + a[5]
            k, m = floor(p), floor(q)
            fp, fq = p - k, q - m
            total = 0.0
            if 0 <= k < nu:
                if 0 <= m < ny:
                    total += (1 - fp) * (1 - fq) * stack[t, k, m]
                if 0 <= m + 1 < ny:
                    total += (1 - fp) * fq * stack[t, k, m + 1]
            if 0 <= k + 1 < nu:
                if 0 <= m < ny:
                    total += fp * (1 - fq) * stack[t, k + 1, m]
                if 0 <= m + 1 < ny:
                    total += fp * fq * stack[t, k + 1, m + 1]
            out[t, i, j] = total


@jit
def warp_adjoint(stack, out, affine):  # type: ignore[no-untyped-def]
    """The exact adjoint of `warp`: each ideal pixel gathers the recorded ones that it reaches."""
    _, mu, my = stack.shape
    n_tilts, nu, ny = out.shape
    for line in prange(n_tilts * nu):
        t, k = line // nu, line % nu
        a = affine[t]
        det = a[0] * a[4] - a[1] * a[3]
        ri = (abs(a[4]) + abs(a[1])) / abs(det)  # half-width of the preimage of the tent's square
        rj = (abs(a[3]) + abs(a[0])) / abs(det)
        for m in range(ny):
            dp, dq = k - a[2], m - a[5]
            ci = (a[4] * dp - a[1] * dq) / det
            cj = (a[0] * dq - a[3] * dp) / det
            total = 0.0
            for i in range(max(0, ceil(ci - ri)), min(mu, floor(ci + ri) + 1)):
                for j in range(max(0, ceil(cj - rj)), min(my, floor(cj + rj) + 1)):
                    p = a[0] * i + a[1] * j + a[2]
                    q = a[3] * i + a[4] * j + a[5]
                    total += max(0.0, 1 - abs(p - k)) * max(0.0, 1 - abs(q - m)) * stack[t, i, j]
            out[t, k, m] = total


# ---------------------------------------------------------------- data terms


@jit
def poisson_dual(y, projection, counts, offset, scale, y0, sigma, relax, moved):  # type: ignore[no-untyped-def]
    """Prox of sigma D* at y + sigma s A u_bar for D = Poisson; arrays (tilt, u, y), `scale` is s.

    With v = y + sigma (s A u_bar + b): y' = (1 + v - sqrt((1 - v)^2 + 4 sigma counts)) / 2, computed
    as 1 - y' so that nothing cancels and y' <= 1. Pixels with scale 0 carry no data: y' = 0.
    """
    n_tilts, nu, ny = y.shape
    keep, move, anchor = relax
    for t in prange(n_tilts):
        moved_t = 0.0
        for i in range(nu):
            total = ZERO
            for j in range(ny):
                d = ONE - y[t, i, j] - sigma * (scale[t, i, j] * projection[t, i, j] + offset[t, i, j])
                r = max(abs(d) + sqrt(d * d + FOUR * sigma * counts[t, i, j]), TINY)
                new = ONE - (HALF * r if d > ZERO else TWO * sigma * counts[t, i, j] / r)
                bar = (TWO * new if scale[t, i, j] > 0 else ZERO) - y[t, i, j]
                total += (bar - y[t, i, j]) * (bar - y[t, i, j])
                y[t, i, j] = keep * y[t, i, j] + move * bar + anchor * y0[t, i, j]
            moved_t += total
        moved[t, 0] = moved_t


@jit
def least_squares_dual(y, projection, counts, offset, scale, y0, weight, sigma, relax, moved):  # type: ignore[no-untyped-def]
    """The same for D = weight/2 |s A u + b - counts|^2: y' = (y + sigma r) / (1 + sigma / weight)."""
    n_tilts, nu, ny = y.shape
    keep, move, anchor = relax
    for t in prange(n_tilts):
        moved_t = 0.0
        for i in range(nu):
            total = ZERO
            for j in range(ny):
                r = scale[t, i, j] * projection[t, i, j] + offset[t, i, j] - counts[t, i, j]
                new = weight[t, i, j] * (y[t, i, j] + sigma * r) / (weight[t, i, j] + sigma)
                bar = (TWO * new if scale[t, i, j] > 0 else ZERO) - y[t, i, j]
                total += (bar - y[t, i, j]) * (bar - y[t, i, j])
                y[t, i, j] = keep * y[t, i, j] + move * bar + anchor * y0[t, i, j]
            moved_t += total
        moved[t, 0] = moved_t
