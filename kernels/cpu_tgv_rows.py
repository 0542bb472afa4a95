"""One row of the primal and dual steps of TGV and TV.

Each step T is over-relaxed in place, x <- x + rho (T(x) - x), and gives the reflected point xbar = 2 T(x) - x. A row
along y is one loop without a branch, so that vector units are busy: rows whose neighbours along y it reads are copied
between their edges first, and what is 0 at an end is so by a factor m or l, see `cpu_difference`.

Primal rows write ubar and wbar into "bars" (4, PAD + ny + PAD), dual rows read them there.
p and q may be int16, see `cpu_short`: `unit` holds what 1 stands for in them, and the inverses, `work` is four rows of
scratch.
"""

from __future__ import annotations

from math import sqrt

from recon.kernels.compiling import ONE, ROOT_HALF, TWO, ZERO, leaf
from recon.kernels.cpu_difference import (
    PAD,
    _edge_backward,
    _edge_backward_adjoint,
    _edge_forward,
    _edge_forward_adjoint,
    _ends,
)
from recon.kernels.cpu_short import load, store, wide


@leaf
def _u_row(z, x, u, u_bar, first, bar, p, g, tau, rho, unit, work):  # type: ignore[no-untyped-def]
    """u of one row: the step is g + grad* p. ubar goes into its array, too: of a row what it holds, from `first` on."""
    wide()
    here, reflected, step, edged = u[z, x], u_bar[z, x], work[0], work[1]
    data, n = g[z, x], here.size
    if p.shape[0] > 0:
        mz, _, before, _ = _ends(z, u.shape[0])
        mx, _, left, _ = _ends(x, u.shape[1])
        p_z, p_x, p_z_before, p_x_left = p[0, z, x], p[1, z, x], p[0, before, x], p[1, z, left]
        _edge_forward_adjoint(p[2, z, x], unit[0], edged)
        for i in range(n):
            along_z = mz * load(p_z_before, i, unit[0]) - load(p_z, i, unit[0])
            along_x = mx * load(p_x_left, i, unit[0]) - load(p_x, i, unit[0])
            step[i] = data[i] + along_z + along_x + (edged[i] - edged[i + 1])
    else:
        _copy(data[:n], step[:n])
    for i in range(n):
        old = here[i]
        d = max(-old, -tau * step[i])
        bar[PAD + i] = old + TWO * d
        here[i] = old + rho * d
    _copy(bar[PAD + first : PAD + first + reflected.size], reflected)
    _edge_forward(bar)


@leaf
def _w_row(z, x, w, bars, p, q, tau, rho, unit, work):  # type: ignore[no-untyped-def]
    """w of one row: the step is E* q - p, where w exists."""
    wide()
    mz, lz, _, after = _ends(z, w.shape[1])
    mx, lx, _, right = _ends(x, w.shape[2])
    n = w.shape[3]
    a, b = unit[0], unit[1]
    zz, xx, yy, zx, zy, xy = q[0, z, x], q[1, z, x], work[0], q[3, z, x], work[1], work[2]
    zz_after, xx_right = q[0, after, x], q[1, z, right]
    zx_after, zx_right, zy_after, xy_right = q[3, after, x], q[3, z, right], q[4, after, x], q[5, z, right]
    p_z, p_x, p_y, q_zy, q_xy = p[0, z, x], p[1, z, x], p[2, z, x], q[4, z, x], q[5, z, x]
    w_z, w_x, w_y = w[0, z, x], w[1, z, x], w[2, z, x]
    bar_z, bar_x, bar_y = bars[1], bars[2], bars[3]
    _edge_backward_adjoint(q[2, z, x], b, yy)
    _edge_backward_adjoint(q[4, z, x], b, zy)
    _edge_backward_adjoint(q[5, z, x], b, xy)
    tau_z, tau_x = lz * tau, lx * tau
    for i in range(n):
        mixed = mx * load(zx, i, b) - lx * load(zx_right, i, b) + (zy[i] - zy[i + 1])
        step = mz * load(zz, i, b) - lz * load(zz_after, i, b) + ROOT_HALF * mixed - load(p_z, i, a)
        d = -tau_z * step
        old = w_z[i]
        bar_z[PAD + i] = old + TWO * d
        w_z[i] = old + rho * d
    for i in range(n):
        mixed = mz * load(zx, i, b) - lz * load(zx_after, i, b) + (xy[i] - xy[i + 1])
        step = mx * load(xx, i, b) - lx * load(xx_right, i, b) + ROOT_HALF * mixed - load(p_x, i, a)
        d = -tau_x * step
        old = w_x[i]
        bar_x[PAD + i] = old + TWO * d
        w_x[i] = old + rho * d
    exists = work[3]
    for i in range(n):
        mixed = mz * load(q_zy, i, b) - lz * load(zy_after, i, b) + mx * load(q_xy, i, b) - lx * load(xy_right, i, b)
        d = -tau * exists[i] * (yy[i] - yy[i + 1] + ROOT_HALF * mixed - load(p_y, i, a))
        old = w_y[i]
        bar_y[PAD + i] = old + TWO * d
        w_y[i] = old + rho * d
    _edge_backward(bar_z)
    _edge_backward(bar_x)
    _edge_backward(bar_y)


@leaf
def _p_row(z, x, p, here, right, after, sigma, radius, rho, unit, work):  # type: ignore[no-untyped-def]
    """p of one row: the step is grad ubar - wbar."""
    wide()
    _, lz, _, _ = _ends(z, p.shape[1])
    _, lx, _, _ = _ends(x, p.shape[2])
    p_z, p_x, p_y = p[0, z, x], p[1, z, x], p[2, z, x]
    u, u_right, u_after = here[0], right[0], after[0]
    v_z, v_x, v_y = work[0], work[1], work[2]
    n, a1, by = p_z.size, unit[0], unit[2]
    for i in range(n):
        v_z[i] = lz * (u_after[PAD + i] - u[PAD + i])
        v_x[i] = lx * (u_right[PAD + i] - u[PAD + i])
        v_y[i] = u[PAD + i + 1] - u[PAD + i]
    if here.shape[0] > 1:
        w_z, w_x, w_y = here[1], here[2], here[3]
        for i in range(n):
            v_z[i] -= w_z[PAD + i]
            v_x[i] -= w_x[PAD + i]
            v_y[i] -= w_y[PAD + i]
    square = radius * radius
    for i in range(n):
        old_z, old_x, old_y = load(p_z, i, a1), load(p_x, i, a1), load(p_y, i, a1)
        a = old_z + sigma * v_z[i]
        b = old_x + sigma * v_x[i]
        c = old_y + sigma * v_y[i]
        shrink = radius / sqrt(max(square, a * a + b * b + c * c))
        store(p_z, i, by, old_z + rho * (shrink * a - old_z))
        store(p_x, i, by, old_x + rho * (shrink * b - old_x))
        store(p_y, i, by, old_y + rho * (shrink * c - old_y))


@leaf
def _q_row(z, x, q, here, before, left, sigma, radius, rho, unit, work):  # type: ignore[no-untyped-def]
    """q of one row: the step is E wbar."""
    wide()
    mz, lz, _, _ = _ends(z, q.shape[1])
    mx, lx, _, _ = _ends(x, q.shape[2])
    zz, xx, yy, zx, zy, xy = q[0, z, x], q[1, z, x], q[2, z, x], q[3, z, x], q[4, z, x], q[5, z, x]
    w_z, w_x, w_y = here[1], here[2], here[3]
    w_z_before, w_x_before, w_y_before = before[1], before[2], before[3]
    w_z_left, w_x_left, w_y_left = left[1], left[2], left[3]
    exists = work[3]
    own_z, own_x, mixed, square = sigma * mz * lz, sigma * mx * lx, sigma * ROOT_HALF, radius * radius
    a0, by = unit[1], unit[3]
    for i in range(zz.size):
        j = PAD + i
        old_zz, old_xx, old_yy = load(zz, i, a0), load(xx, i, a0), load(yy, i, a0)
        old_zx, old_zy, old_xy = load(zx, i, a0), load(zy, i, a0), load(xy, i, a0)
        a = old_zz + own_z * (w_z[j] - w_z_before[j])
        b = old_xx + own_x * (w_x[j] - w_x_left[j])
        c = old_yy + sigma * exists[i] * (w_y[j] - w_y[j - 1])
        d = old_zx + mixed * (mz * (w_x[j] - w_x_before[j]) + mx * (w_z[j] - w_z_left[j]))
        e = old_zy + mixed * (mz * (w_y[j] - w_y_before[j]) + (w_z[j] - w_z[j - 1]))
        f = old_xy + mixed * (mx * (w_y[j] - w_y_left[j]) + (w_x[j] - w_x[j - 1]))
        shrink = radius / sqrt(max(square, a * a + b * b + c * c + d * d + e * e + f * f))
        store(zz, i, by, old_zz + rho * (shrink * a - old_zz))
        store(xx, i, by, old_xx + rho * (shrink * b - old_xx))
        store(yy, i, by, old_yy + rho * (shrink * c - old_yy))
        store(zx, i, by, old_zx + rho * (shrink * d - old_zx))
        store(zy, i, by, old_zy + rho * (shrink * e - old_zy))
        store(xy, i, by, old_xy + rho * (shrink * f - old_xy))


@leaf
def _fill_work(work):  # type: ignore[no-untyped-def]
    """work[3]: where w's y component exists."""
    n = work.shape[1] - 1
    for i in range(n):
        work[3, i] = ONE
    work[3, n - 1] = ZERO


@leaf
def _take_off(a, bar):  # type: ignore[no-untyped-def]
    """A row is taken off a bar, whose edge then is that of what is left."""
    for i in range(a.size):
        bar[PAD + i] -= a[i]
    _edge_forward(bar)


@leaf
def _copy(a, out):  # type: ignore[no-untyped-def]
    for i in range(a.size):
        out[i] = a[i]
