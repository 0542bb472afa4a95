"""Numba kernels. Rows along y are contiguous, so inner loops vectorise; planes run on all cores.

The functions, their arguments and their order are those of `recon.kernels.cuda`; layouts are stated
in `recon.kernels`. Everything is written into arguments, nothing is allocated but one row per plane.
"""

from __future__ import annotations

import os
from math import ceil, floor, sqrt

import numpy as np

# idle threads sleep instead of spinning: on a shared node a spinning team is many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from numba import njit, prange

_FAST = {"contract", "arcp", "nsz", "reassoc"}  # no infinities or NaNs are assumed away
# (planes get np.intp(z): prange types z as unsigned, and they would be compiled twice)
# float32 constants: an integer literal would lift a whole loop to float64
_ONE, _TWO, _FOUR, _ZERO = np.float32(1), np.float32(2), np.float32(4), np.float32(0)
_HALF, _ROOT_HALF, _TINY = np.float32(0.5), np.float32(sqrt(0.5)), np.float32(1e-30)


def jit(f):  # type: ignore[no-untyped-def]
    return njit(f, parallel=True, fastmath=_FAST, cache=True, nogil=True)


def row(f):  # type: ignore[no-untyped-def]
    return njit(f, fastmath=_FAST, cache=True, nogil=True)


# ---------------------------------------------------------------- projection (Joseph's linear model)
# A voxel at u = x cos t + z sin t gives pixel d the weight tent(|u - d| / m) / m, m = max(|cos|, |sin|).


@row
def _tent(distance, m):  # type: ignore[no-untyped-def]
    return np.float32(max(0.0, 1.0 - abs(distance) / m) / m)


@jit
def project(volume, out, cos, sin):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (z, x, y) into `out` (tilt, u, y), in units of a voxel's edge."""
    nz, nx, ny = volume.shape
    n_tilts, nu, _ = out.shape
    z0, x0, u0 = (nz - 1) / 2, (nx - 1) / 2, (nu - 1) / 2
    for ray in prange(n_tilts * nu):
        t, d = ray // nu, ray % nu
        c, s = cos[t], sin[t]
        m = max(abs(c), abs(s))
        row = out[t, d]
        row[:] = 0
        if abs(c) >= abs(s):
            for z in range(nz):
                x = floor((d - u0 - (z - z0) * s) / c + x0)
                rest = d - u0 - (z - z0) * s
                if 0 <= x < nx - 1:
                    a, b = _tent(rest - (x - x0) * c, m), _tent(rest - (x + 1 - x0) * c, m)
                    va, vb = volume[z, x], volume[z, x + 1]
                    for y in range(ny):
                        row[y] += a * va[y] + b * vb[y]
                elif x == -1 or x == nx - 1:
                    x = max(x, 0)
                    a, va = _tent(rest - (x - x0) * c, m), volume[z, x]
                    for y in range(ny):
                        row[y] += a * va[y]
        else:
            for x in range(nx):
                z = floor((d - u0 - (x - x0) * c) / s + z0)
                rest = d - u0 - (x - x0) * c
                if 0 <= z < nz - 1:
                    a, b = _tent(rest - (z - z0) * s, m), _tent(rest - (z + 1 - z0) * s, m)
                    va, vb = volume[z, x], volume[z + 1, x]
                    for y in range(ny):
                        row[y] += a * va[y] + b * vb[y]
                elif z == -1 or z == nz - 1:
                    z = max(z, 0)
                    a, va = _tent(rest - (z - z0) * s, m), volume[z, x]
                    for y in range(ny):
                        row[y] += a * va[y]


@jit
def backproject(stack, out, cos, sin):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project`: `stack` (tilt, u, y) into `out` (z, x, y)."""
    n_tilts, nu, _ = stack.shape
    nz, nx, ny = out.shape
    z0, x0, u0 = (nz - 1) / 2, (nx - 1) / 2, (nu - 1) / 2
    for column in prange(nz * nx):
        z, x = column // nx, column % nx
        row = out[z, x]
        row[:] = 0
        for t in range(n_tilts):
            c, s = cos[t], sin[t]
            m = max(abs(c), abs(s))
            u = (x - x0) * c + (z - z0) * s + u0
            d = floor(u)
            if 0 <= d < nu - 1:
                a, b = _tent(u - d, m), _tent(u - d - 1, m)
                sa, sb = stack[t, d], stack[t, d + 1]
                for y in range(ny):
                    row[y] += a * sa[y] + b * sb[y]
            elif d == -1 or d == nu - 1:
                d = max(d, 0)
                a, sa = _tent(u - d, m), stack[t, d]
                for y in range(ny):
                    row[y] += a * sa[y]


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
    out[n - 1] = _ZERO


@row
def _backward(a, out):  # type: ignore[no-untyped-def]
    out[0] = _ZERO
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
            _add(work[k], -_ONE, w[k, z, x])


@row
def _symmetrised_gradient_row(w, z, x, zm, xm, mlz, mlx, mz, mx, work, d):  # type: ignore[no-untyped-def]
    """E w of one row into work[0:6]; `d` is scratch."""
    _difference(work[0], mlz, w[0, z, x], w[0, zm, x])
    _difference(work[1], mlx, w[1, z, x], w[1, z, xm])
    _backward(w[2, z, x], work[2])
    work[2, d.size - 1] = _ZERO
    _difference(work[3], _ROOT_HALF * mz, w[1, z, x], w[1, zm, x])
    _difference(d, _ROOT_HALF * mx, w[0, z, x], w[0, z, xm])
    _add(work[3], _ONE, d)
    _difference(work[4], _ROOT_HALF * mz, w[2, z, x], w[2, zm, x])
    _backward(w[0, z, x], d)
    _add(work[4], _ROOT_HALF, d)
    _difference(work[5], _ROOT_HALF * mx, w[2, z, x], w[2, z, xm])
    _backward(w[1, z, x], d)
    _add(work[5], _ROOT_HALF, d)


# ---------------------------------------------------------------- primal-dual steps
# Each step computes the reflected point xbar = 2 T(x) - x and relaxes in place,
# x <- keep x + move xbar + anchor x0, with (keep, move, anchor) = `relax`. The rows are short loops
# with few operands each: with more, the compiler gives up on vectorising them.


@row
def _descend(x, bar, x0, step, tau, lowest, relax):  # type: ignore[no-untyped-def]
    """xbar = 2 max(lowest, x - tau step) - x; returns sum (xbar - x)^2."""
    keep, move, anchor = relax
    total = _ZERO
    for i in range(x.size):
        bar[i] = _TWO * max(lowest, x[i] - tau * step[i]) - x[i]
        total += (bar[i] - x[i]) * (bar[i] - x[i])
    for i in range(x.size):
        x[i] = keep * x[i] + move * bar[i]
    if anchor != _ZERO:
        _add(x, anchor, x0)
    return total


@row
def _ascend(x, x0, grad, factor, sigma, relax):  # type: ignore[no-untyped-def]
    """xbar = 2 factor (x + sigma grad) - x, factor from `_shrink`; returns sum (xbar - x)^2."""
    keep, move, anchor = relax
    total = _ZERO
    for i in range(x.size):
        bar = _TWO * factor[i] * (x[i] + sigma * grad[i]) - x[i]
        total += (bar - x[i]) * (bar - x[i])
        x[i] = keep * x[i] + move * bar
    if anchor != _ZERO:
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
            _add(step, _ONE, d)
            _add_difference(step, _ONE, p[0, zm, x], mz, p[0, z, x], _ONE)
            _add_difference(step, _ONE, p[1, z, xm], mx, p[1, z, x], _ONE)
        moved_u += _descend(u[z, x], u_bar[z, x], u0[z, x], step, tau_u, _ZERO, relax)
        if w.shape[0] > 0:  # E* q - p, component by component
            _backward_adjoint(q[4, z, x], step)
            _add_difference(step, _ONE, q[3, z, x], mx, q[3, z, xl], lx)
            _scale_subtract(step, _ROOT_HALF, p[0, z, x])
            _add_difference(step, _ONE, q[0, z, x], mz, q[0, zl, x], lz)
            moved_w += _descend(w[0, z, x], w_bar[0, z, x], w0[0, z, x], step, lz * tau_w, lowest, relax)
            _backward_adjoint(q[5, z, x], step)
            _add_difference(step, _ONE, q[3, z, x], mz, q[3, zl, x], lz)
            _scale_subtract(step, _ROOT_HALF, p[1, z, x])
            _add_difference(step, _ONE, q[1, z, x], mx, q[1, z, xl], lx)
            moved_w += _descend(w[1, z, x], w_bar[1, z, x], w0[1, z, x], step, lx * tau_w, lowest, relax)
            _backward_adjoint(q[2, z, x], step)
            _add(step, -_ONE, p[2, z, x])
            _add_difference(step, _ROOT_HALF, q[4, z, x], mz, q[4, zl, x], lz)
            _add_difference(step, _ROOT_HALF, q[5, z, x], mx, q[5, z, xl], lx)
            step[ny - 1] = _ZERO
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
        _fill(size, _ZERO)
        for k in range(3):
            _add_square(size, p[k, z, x], work[k], sigma_p)
        _shrink(size, a1)
        for k in range(3):
            moved_p += _ascend(p[k, z, x], p0[k, z, x], work[k], size, sigma_p, relax)
        if w_bar.shape[0] > 0:
            _symmetrised_gradient_row(w_bar, z, x, zm, xm, mz * lz, mx * lx, mz, mx, work, d)
            _fill(size, _ZERO)
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
            total = _ZERO
            for j in range(ny):
                d = _ONE - y[t, i, j] - sigma * (scale[t, i, j] * projection[t, i, j] + offset[t, i, j])
                r = max(abs(d) + sqrt(d * d + _FOUR * sigma * counts[t, i, j]), _TINY)
                new = _ONE - (_HALF * r if d > _ZERO else _TWO * sigma * counts[t, i, j] / r)
                bar = (_TWO * new if scale[t, i, j] > 0 else _ZERO) - y[t, i, j]
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
            total = _ZERO
            for j in range(ny):
                r = scale[t, i, j] * projection[t, i, j] + offset[t, i, j] - counts[t, i, j]
                new = weight[t, i, j] * (y[t, i, j] + sigma * r) / (weight[t, i, j] + sigma)
                bar = (_TWO * new if scale[t, i, j] > 0 else _ZERO) - y[t, i, j]
                total += (bar - y[t, i, j]) * (bar - y[t, i, j])
                y[t, i, j] = keep * y[t, i, j] + move * bar + anchor * y0[t, i, j]
            moved_t += total
        moved[t, 0] = moved_t


# ---------------------------------------------------------------- certificate


@row
def _clip_factor(q, z, x, radius, out):  # type: ignore[no-untyped-def]
    """min(1, radius / |q|) of one row of tensors."""
    _fill(out, _ZERO)
    for k in range(6):
        a = q[k, z, x]
        for i in range(out.size):
            out[i] += a[i] * a[i]
    _shrink(out, radius)


@row
def _multiply(a, b, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = a[i] * b[i]


@row
def _tgv_divergence_plane(z, q, a0, out, largest):  # type: ignore[no-untyped-def]
    _, nz, nx, ny = q.shape
    work = np.empty((8, ny), np.float32)
    fc, fz, fx, a, b, size = work[0], work[1], work[2], work[3], work[4], work[5]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zl = min(z + 1, nz - 1)
    top = _ZERO
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xl = min(x + 1, nx - 1)
        _clip_factor(q, z, x, a0, fc)
        _clip_factor(q, zl, x, a0, fz)
        _clip_factor(q, z, xl, a0, fx)
        _fill(size, _ZERO)
        # row k of E* q sums D* q_kl over l; tensors are (zz, xx, yy, zx, zy, xy)
        for k in range(3):
            row_z, row_x, row_y = (0, 3, 4) if k == 0 else ((3, 1, 5) if k == 1 else (4, 5, 2))
            dz = _ONE if k == 0 else _ROOT_HALF
            dx = _ONE if k == 1 else _ROOT_HALF
            dy = _ONE if k == 2 else _ROOT_HALF
            target = out[k, z, x]
            _multiply(fc, q[row_y, z, x], a)
            _backward_adjoint(a, b)
            for i in range(ny):
                target[i] = dy * b[i]
            _multiply(fc, q[row_z, z, x], a)
            _multiply(fz, q[row_z, zl, x], b)
            _add_difference(target, dz, a, mz, b, lz)
            _multiply(fc, q[row_x, z, x], a)
            _multiply(fx, q[row_x, z, xl], b)
            _add_difference(target, dx, a, mx, b, lx)
            if k == 0:
                _multiply_by(target, lz)
            elif k == 1:
                _multiply_by(target, lx)
            else:
                target[ny - 1] = _ZERO
            for i in range(ny):
                size[i] += target[i] * target[i]
        for i in range(ny):
            top = max(top, size[i])
    largest[z] = sqrt(top)


@jit
def tgv_divergence(q, a0, out, largest):  # type: ignore[no-untyped-def]
    """out = E* P_a0(q) where w exists, 0 where it does not; ``largest[z]`` = max |out| of a plane."""
    for z in prange(q.shape[1]):
        _tgv_divergence_plane(np.intp(z), q, a0, out, largest)


@jit
def gradient_adjoint(p, factor, out):  # type: ignore[no-untyped-def]
    """out += factor grad* p; p vanishes where the gradient does not exist."""
    for z in prange(p.shape[1]):
        _gradient_adjoint_plane(np.intp(z), p, factor, out)


@row
def _gradient_adjoint_plane(z, p, factor, out):  # type: ignore[no-untyped-def]
    _, _, nx, ny = p.shape
    d = np.empty(ny, np.float32)
    mz, zm = np.float32(z > 0), max(z - 1, 0)
    for x in range(nx):
        mx, xm = np.float32(x > 0), max(x - 1, 0)
        _forward_adjoint(p[2, z, x], d)
        _add(out[z, x], factor, d)
        _add_difference(out[z, x], factor, p[0, zm, x], mz, p[0, z, x], _ONE)
        _add_difference(out[z, x], factor, p[1, z, xm], mx, p[1, z, x], _ONE)


@row
def _tgv_value_plane(z, u, w, values):  # type: ignore[no-untyped-def]
    nz, nx, ny = u.shape
    work = np.empty((8, ny), np.float32)
    size, d = work[6], work[7]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zl, zm = min(z + 1, nz - 1), max(z - 1, 0)
    first = second = 0.0
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xl, xm = min(x + 1, nx - 1), max(x - 1, 0)
        _gradient_row(u, w, z, x, zl, xl, lz, lx, work)
        first += _norm_sum(work, 3, size)
        if w.shape[0] > 0:
            _symmetrised_gradient_row(w, z, x, zm, xm, mz * lz, mx * lx, mz, mx, work, d)
            second += _norm_sum(work, 6, size)
    values[z, 0] = first
    values[z, 1] = second


@row
def _norm_sum(work, n, size):  # type: ignore[no-untyped-def]
    _fill(size, _ZERO)
    for k in range(n):
        a = work[k]
        for i in range(size.size):
            size[i] += a[i] * a[i]
    total = 0.0
    for i in range(size.size):
        total += sqrt(size[i])
    return total


@jit
def tgv_value(u, w, values):  # type: ignore[no-untyped-def]
    """``values[z] = (sum |grad u - w|, sum |E w|)`` of each plane."""
    for z in prange(u.shape[0]):
        _tgv_value_plane(np.intp(z), u, w, values)
