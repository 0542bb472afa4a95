"""The primal and dual steps of TGV and TV.

Each step computes the reflected point xbar = 2 T(x) - x and relaxes in place,
x <- keep x + move xbar + anchor x0, with (keep, move, anchor) = `relax`. A row along y is a few loops without
a branch, so that vector units are busy; what is 0 at an end is so by a factor m or l, see `cpu_difference`.
Indices given to rows go through ``np.intp``: `prange` types its own as unsigned, and the rows would be
compiled twice.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import get_num_threads, prange

from recon.kernels.compiling import ROOT_HALF, TWO, ZERO, jit, leaf
from recon.kernels.cpu_difference import _backward, _backward_adjoint, _ends, _forward, _forward_adjoint

# ---------------------------------------------------------------- rows


@leaf
def _square(a):  # type: ignore[no-untyped-def]
    return a * a


@leaf
def _towards(x, anchor, x0):  # type: ignore[no-untyped-def]
    if anchor != ZERO:
        for i in range(x.size):
            x[i] += anchor * x0[i]


@leaf
def _u_row(z, x, u, u_bar, p, g, u0, tau, relax, work):  # type: ignore[no-untyped-def]
    """u of one row: the step is g + grad* p. Returns sum (ubar - u)^2."""
    keep, move, anchor = relax
    here, bar, step = u[z, x], u_bar[z, x], work[0]
    for i in range(here.size):
        step[i] = g[z, x][i]
    if p.shape[0] > 0:
        mz, _, before, _ = _ends(z, u.shape[0])
        mx, _, left, _ = _ends(x, u.shape[1])
        p_z, p_x, p_z_before, p_x_left = p[0, z, x], p[1, z, x], p[0, before, x], p[1, z, left]
        p_y = work[1]
        _forward_adjoint(p[2, z, x], p_y)
        for i in range(here.size):
            step[i] += (mz * p_z_before[i] - p_z[i]) + (mx * p_x_left[i] - p_x[i]) + p_y[i]
    moved = ZERO
    for i in range(here.size):
        reflected = TWO * max(ZERO, here[i] - tau * step[i]) - here[i]
        moved += _square(reflected - here[i])
        bar[i] = reflected
        here[i] = keep * here[i] + move * reflected
    _towards(here, anchor, u0[z, x])
    return moved


@leaf
def _relax_w(w, bar, step, tau, relax, w0):  # type: ignore[no-untyped-def]
    keep, move, anchor = relax
    moved = ZERO
    for i in range(w.size):
        reflected = w[i] - TWO * tau * step[i]
        moved += _square(reflected - w[i])
        bar[i] = reflected
        w[i] = keep * w[i] + move * reflected
    _towards(w, anchor, w0)
    return moved


@leaf
def _w_row(z, x, w, w_bar, p, q, w0, tau, relax, work):  # type: ignore[no-untyped-def]
    """w of one row: the step is E* q - p, where w exists. Returns sum (wbar - w)^2."""
    mz, lz, _, after = _ends(z, w.shape[1])
    mx, lx, _, right = _ends(x, w.shape[2])
    zx, zy, xy = q[3, z, x], q[4, z, x], q[5, z, x]
    zx_after, zx_right = q[3, after, x], q[3, z, right]
    zy_after, xy_right = q[4, after, x], q[5, z, right]
    step, along_y = work[0], work[1]
    n = step.size

    p_z, zz, zz_after = p[0, z, x], q[0, z, x], q[0, after, x]
    _backward_adjoint(zy, along_y)
    for i in range(n):
        mixed = mx * zx[i] - lx * zx_right[i] + along_y[i]
        step[i] = mz * zz[i] - lz * zz_after[i] + ROOT_HALF * mixed - p_z[i]
    moved = _relax_w(w[0, z, x], w_bar[0, z, x], step, lz * tau, relax, w0[0, z, x])

    p_x, xx, xx_right = p[1, z, x], q[1, z, x], q[1, z, right]
    _backward_adjoint(xy, along_y)
    for i in range(n):
        mixed = mz * zx[i] - lz * zx_after[i] + along_y[i]
        step[i] = mx * xx[i] - lx * xx_right[i] + ROOT_HALF * mixed - p_x[i]
    moved += _relax_w(w[1, z, x], w_bar[1, z, x], step, lx * tau, relax, w0[1, z, x])

    p_y = p[2, z, x]
    _backward_adjoint(q[2, z, x], along_y)
    for i in range(n):
        mixed = mz * zy[i] - lz * zy_after[i] + mx * xy[i] - lx * xy_right[i]
        step[i] = along_y[i] + ROOT_HALF * mixed - p_y[i]
    step[n - 1] = ZERO
    return moved + _relax_w(w[2, z, x], w_bar[2, z, x], step, tau, relax, w0[2, z, x])


@leaf
def _p_row(z, x, p, u_bar, w_bar, p0, sigma, radius, relax, work):  # type: ignore[no-untyped-def]
    """p of one row: the step is grad ubar - wbar. Returns sum (pbar - p)^2."""
    keep, move, anchor = relax
    _, lz, _, after = _ends(z, u_bar.shape[0])
    _, lx, _, right = _ends(x, u_bar.shape[1])
    p_z, p_x, p_y = p[0, z, x], p[1, z, x], p[2, z, x]
    u, u_after, u_right = u_bar[z, x], u_bar[after, x], u_bar[z, right]
    v_z, v_x, v_y = work[0], work[1], work[2]
    _forward(u, v_y)
    for i in range(u.size):
        v_z[i] = lz * (u_after[i] - u[i])
        v_x[i] = lx * (u_right[i] - u[i])
    if w_bar.shape[0] > 0:
        w_z, w_x, w_y = w_bar[0, z, x], w_bar[1, z, x], w_bar[2, z, x]
        for i in range(u.size):
            v_z[i] -= w_z[i]
            v_x[i] -= w_x[i]
            v_y[i] -= w_y[i]
    moved = ZERO
    for i in range(u.size):
        a = p_z[i] + sigma * v_z[i]
        b = p_x[i] + sigma * v_x[i]
        c = p_y[i] + sigma * v_y[i]
        twice = TWO * radius / max(radius, sqrt(a * a + b * b + c * c))
        a = twice * a - p_z[i]
        b = twice * b - p_x[i]
        c = twice * c - p_y[i]
        moved += _square(a - p_z[i]) + _square(b - p_x[i]) + _square(c - p_y[i])
        p_z[i] = keep * p_z[i] + move * a
        p_x[i] = keep * p_x[i] + move * b
        p_y[i] = keep * p_y[i] + move * c
    for k in range(3):
        _towards(p[k, z, x], anchor, p0[k, z, x])
    return moved


@leaf
def _q_row(z, x, q, w_bar, q0, sigma, radius, relax, work):  # type: ignore[no-untyped-def]
    """q of one row: the step is E wbar. Returns sum (qbar - q)^2."""
    keep, move, anchor = relax
    mz, lz, before, _ = _ends(z, w_bar.shape[1])
    mx, lx, left, _ = _ends(x, w_bar.shape[2])
    zz, xx, yy, zx, zy, xy = q[0, z, x], q[1, z, x], q[2, z, x], q[3, z, x], q[4, z, x], q[5, z, x]
    w_z, w_x, w_y = w_bar[0, z, x], w_bar[1, z, x], w_bar[2, z, x]
    w_z_before, w_x_before, w_y_before = w_bar[0, before, x], w_bar[1, before, x], w_bar[2, before, x]
    w_z_left, w_x_left, w_y_left = w_bar[0, z, left], w_bar[1, z, left], w_bar[2, z, left]
    w_z_y, w_x_y, w_y_y = work[0], work[1], work[2]
    n = zz.size
    _backward(w_z, w_z_y)
    _backward(w_x, w_x_y)
    _backward(w_y, w_y_y)
    w_y_y[n - 1] = ZERO
    own_z, own_x, mixed = sigma * mz * lz, sigma * mx * lx, sigma * ROOT_HALF
    moved = ZERO
    for i in range(n):
        a = zz[i] + own_z * (w_z[i] - w_z_before[i])
        b = xx[i] + own_x * (w_x[i] - w_x_left[i])
        c = yy[i] + sigma * w_y_y[i]
        d = zx[i] + mixed * (mz * (w_x[i] - w_x_before[i]) + mx * (w_z[i] - w_z_left[i]))
        e = zy[i] + mixed * (mz * (w_y[i] - w_y_before[i]) + w_z_y[i])
        f = xy[i] + mixed * (mx * (w_y[i] - w_y_left[i]) + w_x_y[i])
        twice = TWO * radius / max(radius, sqrt(a * a + b * b + c * c + d * d + e * e + f * f))
        a = twice * a - zz[i]
        b = twice * b - xx[i]
        c = twice * c - yy[i]
        d = twice * d - zx[i]
        e = twice * e - zy[i]
        f = twice * f - xy[i]
        moved += _square(a - zz[i]) + _square(b - xx[i]) + _square(c - yy[i])
        moved += _square(d - zx[i]) + _square(e - zy[i]) + _square(f - xy[i])
        zz[i] = keep * zz[i] + move * a
        xx[i] = keep * xx[i] + move * b
        yy[i] = keep * yy[i] + move * c
        zx[i] = keep * zx[i] + move * d
        zy[i] = keep * zy[i] + move * e
        xy[i] = keep * xy[i] + move * f
    for k in range(6):
        _towards(q[k, z, x], anchor, q0[k, z, x])
    return moved


# ---------------------------------------------------------------- one step, then the other


@leaf
def _primal_plane(z, u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved, work):  # type: ignore[no-untyped-def]
    moved[z, 0] = moved[z, 1] = 0.0
    for x in range(u.shape[1]):
        moved[z, 0] += _u_row(z, x, u, u_bar, p, g, u0, tau_u, relax, work)
        if w.shape[0] > 0:
            moved[z, 1] += _w_row(z, x, w, w_bar, p, q, w0, tau_w, relax, work)


@leaf
def _dual_plane(z, p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved, work):  # type: ignore[no-untyped-def]
    moved[z, 0] = moved[z, 1] = 0.0
    for x in range(u_bar.shape[1]):
        if p.shape[0] > 0:
            moved[z, 0] += _p_row(z, x, p, u_bar, w_bar, p0, sigma_p, a1, relax, work)
        if w_bar.shape[0] > 0:
            moved[z, 1] += _q_row(z, x, q, w_bar, q0, sigma_q, a0, relax, work)


@jit
def tgv_primal(u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved):  # type: ignore[no-untyped-def]
    """u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.

    `w`, `q` have no components for TV, `p` none without a regulariser. ``moved[z]`` receives
    ``(sum (xbar - x)^2 of u, of w)`` of each plane.
    """
    for z in prange(u.shape[0]):
        work = np.empty((3, u.shape[2]), np.float32)
        _primal_plane(np.intp(z), u, w, u_bar, w_bar, p, q, g, u0, w0, tau_u, tau_w, relax, moved, work)


@jit
def tgv_dual(p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved):  # type: ignore[no-untyped-def]
    """p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), reflected and relaxed.

    P_a projects each voxel's vector onto the ball of radius a. ``moved[z]`` as in `tgv_primal`.
    """
    for z in prange(u_bar.shape[0]):
        work = np.empty((3, u_bar.shape[2]), np.float32)
        _dual_plane(np.intp(z), p, q, u_bar, w_bar, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved, work)


# ---------------------------------------------------------------- both steps in one sweep
# After u and w of row (z, x), no primal row that is still to come needs q of (z, x) or p of (z - 1, x), and
# the dual steps of these two need no row beyond (z, x): they are taken at once, while everything is in cache.
# Cores share the rows of all planes by x. What the first and last row of a share need of its neighbours is
# there when all cores have finished: these rows follow in `_seam`.

_ROWS = 64  # at most, in a share: what one plane leaves for the next is to stay in a core's cache


@leaf
def _sweep(  # type: ignore[no-untyped-def]
    share,
    first,
    end,
    u,
    w,
    u_bar,
    w_bar,
    p,
    q,
    g,
    u0,
    w0,
    p0,
    q0,
    tau_u,
    tau_w,
    sigma_p,
    sigma_q,
    a1,
    a0,
    relax,
    moved,
    work,
):
    nz, nx, _ = u.shape
    for z in range(nz + 1):
        for x in range(first, end):
            if z < nz:
                moved[share, z, 0] += _u_row(z, x, u, u_bar, p, g, u0, tau_u, relax, work)
                if w.shape[0] > 0:
                    moved[share, z, 1] += _w_row(z, x, w, w_bar, p, q, w0, tau_w, relax, work)
                    if x > first or x == 0:
                        moved[share, z, 3] += _q_row(z, x, q, w_bar, q0, sigma_q, a0, relax, work)
            if z > 0 and p.shape[0] > 0 and (x + 1 < end or x + 1 == nx):
                moved[share, z - 1, 2] += _p_row(z - 1, x, p, u_bar, w_bar, p0, sigma_p, a1, relax, work)


@leaf
def _seam(share, x, u_bar, w_bar, p, q, p0, q0, sigma_p, sigma_q, a1, a0, relax, moved, work):  # type: ignore[no-untyped-def]
    """The dual rows on both sides of the border between rows x - 1 and x."""
    for z in range(u_bar.shape[0]):
        if p.shape[0] > 0:
            moved[share, z, 2] += _p_row(z, x - 1, p, u_bar, w_bar, p0, sigma_p, a1, relax, work)
        if w_bar.shape[0] > 0:
            moved[share, z, 3] += _q_row(z, x, q, w_bar, q0, sigma_q, a0, relax, work)


@jit
def _tgv_step(  # type: ignore[no-untyped-def]
    u, w, u_bar, w_bar, p, q, g, u0, w0, p0, q0, tau_u, tau_w, sigma_p, sigma_q, a1, a0, relax, moved, shares
):  # fmt: skip
    nz, nx, ny = u.shape
    parts = np.zeros((shares, nz, 4))
    for share in prange(shares):
        work = np.empty((3, ny), np.float32)
        _sweep(
            np.intp(share), np.intp(share * nx // shares), np.intp((share + 1) * nx // shares), u, w, u_bar,
            w_bar, p, q, g, u0, w0, p0, q0, tau_u, tau_w, sigma_p, sigma_q, a1, a0, relax, parts, work,
        )  # fmt: skip
    for share in prange(shares - 1):
        work = np.empty((3, ny), np.float32)
        x = np.intp((share + 1) * nx // shares)
        _seam(np.intp(share), x, u_bar, w_bar, p, q, p0, q0, sigma_p, sigma_q, a1, a0, relax, parts, work)
    moved[:] = 0.0
    for share in range(shares):
        for z in range(nz):
            for k in range(4):
                moved[z, k] += parts[share, z, k]


def tgv_step(u, w, u_bar, w_bar, p, q, g, u0, w0, p0, q0, tau_u, tau_w, sigma_p, sigma_q, a1, a0, relax, moved):  # type: ignore[no-untyped-def]
    """`tgv_primal`, then `tgv_dual`, in one sweep through memory.

    ``moved[z]`` receives ``sum (xbar - x)^2`` of u, w, p and q of each plane.
    """
    threads, nx = get_num_threads(), u.shape[1]
    shares = min(nx, threads * -(-nx // (_ROWS * threads)))
    _tgv_step(
        u, w, u_bar, w_bar, p, q, g, u0, w0, p0, q0, tau_u, tau_w, sigma_p, sigma_q, a1, a0, relax, moved, shares
    )  # fmt: skip
