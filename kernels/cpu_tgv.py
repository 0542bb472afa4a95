"""The primal and dual steps of TGV and TV, and the one boundary rule of their differences.

Planes are called with ``np.intp(z)``: `prange` types its index as unsigned, and they would be compiled
twice.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import prange

from recon.kernels.compiling import ONE, ROOT_HALF, TWO, ZERO, jit, row

# ---------------------------------------------------------------- differences: the boundary rule
# The gradient takes forward differences; at the last index of an axis there is none, and neither w's
# component along that axis nor p's exists there (both stay 0). The symmetrised gradient takes backward
# differences of the components that exist. Hence TGV is zero exactly on affine functions. Along z and
# x the rule is a factor 0 or 1 per row: m where an index before exists, l where one after exists.


@row
def _forward(a, out):  # type: ignore[no-untyped-def]
    n = a.size
    for i in range(n - 1):
        out[i] = a[i + 1] - a[i]
    out[n - 1] = ZERO


@row
def _backward(a, out):  # type: ignore[no-untyped-def]
    out[0] = ZERO
    for i in range(1, a.size):
        out[i] = a[i] - a[i - 1]


@row
def _forward_adjoint(a, out):  # type: ignore[no-untyped-def]
    out[0] = -a[0]  # a vanishes at its last index
    for i in range(1, a.size):
        out[i] = a[i - 1] - a[i]


@row
def _backward_adjoint(a, out):  # type: ignore[no-untyped-def]
    n = a.size
    for i in range(n - 1):
        out[i] = a[i] - a[i + 1]
    out[n - 1] = a[n - 1]
    out[0] -= a[0]


@row
def _fill(out, value):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = value


@row
def _multiply_by(out, factor):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] *= factor


@row
def _copy(a, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = a[i]


@row
def _scale_subtract(out, factor, a):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = factor * out[i] - a[i]


@row
def _difference(out, factor, a, b):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = factor * (a[i] - b[i])


@row
def _add_difference(out, factor, a, fa, b, fb):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] += factor * (fa * a[i] - fb * b[i])


@row
def _add(out, factor, a):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] += factor * a[i]


@row
def _gradient_row(u, w, z, x, zl, xl, lz, lx, work):  # type: ignore[no-untyped-def]
    """grad u - w of one row into work[0:3]."""
    _difference(work[0], lz, u[zl, x], u[z, x])
    _difference(work[1], lx, u[z, xl], u[z, x])
    _forward(u[z, x], work[2])
    if w.shape[0] > 0:
        for k in range(3):
            _add(work[k], -ONE, w[k, z, x])


@row
def _symmetrised_gradient_row(w, z, x, zm, xm, mlz, mlx, mz, mx, work, d):  # type: ignore[no-untyped-def]
    """E w of one row into work[0:6]; `d` is scratch."""
    _difference(work[0], mlz, w[0, z, x], w[0, zm, x])
    _difference(work[1], mlx, w[1, z, x], w[1, z, xm])
    _backward(w[2, z, x], work[2])
    work[2, d.size - 1] = ZERO
    _difference(work[3], ROOT_HALF * mz, w[1, z, x], w[1, zm, x])
    _difference(d, ROOT_HALF * mx, w[0, z, x], w[0, z, xm])
    _add(work[3], ONE, d)
    _difference(work[4], ROOT_HALF * mz, w[2, z, x], w[2, zm, x])
    _backward(w[0, z, x], d)
    _add(work[4], ROOT_HALF, d)
    _difference(work[5], ROOT_HALF * mx, w[2, z, x], w[2, z, xm])
    _backward(w[1, z, x], d)
    _add(work[5], ROOT_HALF, d)


# ---------------------------------------------------------------- primal-dual steps
# Each step computes the reflected point xbar = 2 T(x) - x and relaxes in place,
# x <- keep x + move xbar + anchor x0, with (keep, move, anchor) = `relax`. The rows are short loops
# with few operands each: with more, the compiler gives up on vectorising them.


@row
def _descend(x, bar, x0, step, tau, lowest, relax):  # type: ignore[no-untyped-def]
    """xbar = 2 max(lowest, x - tau step) - x; returns sum (xbar - x)^2."""
    keep, move, anchor = relax
    total = ZERO
    for i in range(x.size):
        bar[i] = TWO * max(lowest, x[i] - tau * step[i]) - x[i]
        total += (bar[i] - x[i]) * (bar[i] - x[i])
    for i in range(x.size):
        x[i] = keep * x[i] + move * bar[i]
    if anchor != ZERO:
        _add(x, anchor, x0)
    return total


@row
def _ascend(x, x0, grad, factor, sigma, relax):  # type: ignore[no-untyped-def]
    """xbar = 2 factor (x + sigma grad) - x, factor from `_shrink`; returns sum (xbar - x)^2."""
    keep, move, anchor = relax
    total = ZERO
    for i in range(x.size):
        bar = TWO * factor[i] * (x[i] + sigma * grad[i]) - x[i]
        total += (bar - x[i]) * (bar - x[i])
        x[i] = keep * x[i] + move * bar
    if anchor != ZERO:
        _add(x, anchor, x0)
    return total


@row
def _add_square(out, x, grad, sigma):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        v = x[i] + sigma * grad[i]
        out[i] += v * v


@row
def _shrink(square, radius):  # type: ignore[no-untyped-def]
    """|v|^2 becomes the factor min(1, radius / |v|) that projects v onto the ball."""
    for i in range(square.size):
        square[i] = radius / max(radius, sqrt(square[i]))


@row
def _primal_plane(z, u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved):  # type: ignore[no-untyped-def]
    nz, nx, ny = u.shape
    lowest = np.float32(-np.inf)
    work = np.empty((2, ny), np.float32)
    step, d = work[0], work[1]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zm, zl = max(z - 1, 0), min(z + 1, nz - 1)
    moved_u = moved_w = 0.0
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xm, xl = max(x - 1, 0), min(x + 1, nx - 1)
        _copy(g[z, x], step)
        if p.shape[0] > 0:  # grad* p
            _forward_adjoint(p[2, z, x], d)
            _add(step, ONE, d)
            _add_difference(step, ONE, p[0, zm, x], mz, p[0, z, x], ONE)
            _add_difference(step, ONE, p[1, z, xm], mx, p[1, z, x], ONE)
        moved_u += _descend(u[z, x], u_bar[z, x], u0[z, x], step, tau_u, ZERO, relax)
        if w.shape[0] > 0:  # E* q - p, component by component
            _backward_adjoint(q[4, z, x], step)
            _add_difference(step, ONE, q[3, z, x], mx, q[3, z, xl], lx)
            _scale_subtract(step, ROOT_HALF, p[0, z, x])
            _add_difference(step, ONE, q[0, z, x], mz, q[0, zl, x], lz)
            moved_w += _descend(w[0, z, x], w_bar[0, z, x], w0[0, z, x], step, lz * tau_w, lowest, relax)
            _backward_adjoint(q[5, z, x], step)
            _add_difference(step, ONE, q[3, z, x], mz, q[3, zl, x], lz)
            _scale_subtract(step, ROOT_HALF, p[1, z, x])
            _add_difference(step, ONE, q[1, z, x], mx, q[1, z, xl], lx)
            moved_w += _descend(w[1, z, x], w_bar[1, z, x], w0[1, z, x], step, lx * tau_w, lowest, relax)
            _backward_adjoint(q[2, z, x], step)
            _add(step, -ONE, p[2, z, x])
            _add_difference(step, ROOT_HALF, q[4, z, x], mz, q[4, zl, x], lz)
            _add_difference(step, ROOT_HALF, q[5, z, x], mx, q[5, z, xl], lx)
            step[ny - 1] = ZERO
            moved_w += _descend(w[2, z, x], w_bar[2, z, x], w0[2, z, x], step, tau_w, lowest, relax)
    moved[z, 0] = moved_u
    moved[z, 1] = moved_w


@row
def _dual_plane(z, p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved):  # type: ignore[no-untyped-def]
    if p.shape[0] == 0:
        moved[z, 0] = moved[z, 1] = 0.0
        return
    nz, nx, ny = u_bar.shape
    work = np.empty((8, ny), np.float32)
    size, d = work[6], work[7]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zm, zl = max(z - 1, 0), min(z + 1, nz - 1)
    moved_p = moved_q = 0.0
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xm, xl = max(x - 1, 0), min(x + 1, nx - 1)
        _gradient_row(u_bar, w_bar, z, x, zl, xl, lz, lx, work)
        _fill(size, ZERO)
        for k in range(3):
            _add_square(size, p[k, z, x], work[k], sigma_p)
        _shrink(size, a1)
        for k in range(3):
            moved_p += _ascend(p[k, z, x], p0[k, z, x], work[k], size, sigma_p, relax)
        if w_bar.shape[0] > 0:
            _symmetrised_gradient_row(w_bar, z, x, zm, xm, mz * lz, mx * lx, mz, mx, work, d)
            _fill(size, ZERO)
            for k in range(6):
                _add_square(size, q[k, z, x], work[k], sigma_q)
            _shrink(size, a0)
            for k in range(6):
                moved_q += _ascend(q[k, z, x], q0[k, z, x], work[k], size, sigma_q, relax)
    moved[z, 0] = moved_p
    moved[z, 1] = moved_q


@jit
def tgv_primal(u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved):  # type: ignore[no-untyped-def]
    """u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.

    `w`, `q` have no components for TV, `p` none without a regulariser. ``moved[z]`` receives
    ``(sum (xbar - x)^2 of u, of w)`` of each plane.
    """
    for z in prange(u.shape[0]):
        _primal_plane(np.intp(z), u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved)


@jit
def tgv_dual(p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved):  # type: ignore[no-untyped-def]
    """p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), reflected and relaxed.

    P_a projects each voxel's vector onto the ball of radius a. ``moved[z]`` as in `tgv_primal`.
    """
    for z in prange(u_bar.shape[0]):
        _dual_plane(np.intp(z), p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved)
