"""TGV's primal-dual step in plain array code, NumPy or CuPy: what one would write without kernels."""

from __future__ import annotations

Z, X, Y = 0, 1, 2


def _at(axis, index):
    where = [slice(None)] * 3
    where[axis] = index
    return tuple(where)


def forward(xp, a, axis):
    out = xp.zeros_like(a)
    xp.subtract(a[_at(axis, slice(1, None))], a[_at(axis, slice(-1))], out=out[_at(axis, slice(-1))])
    return out


def backward(xp, a, axis):
    out = xp.zeros_like(a)
    xp.subtract(a[_at(axis, slice(1, None))], a[_at(axis, slice(-1))], out=out[_at(axis, slice(1, None))])
    return out


def forward_adjoint(xp, a, axis):
    out = -a
    out[_at(axis, -1)] = 0
    out[_at(axis, slice(1, None))] += a[_at(axis, slice(-1))]
    return out


def backward_adjoint(xp, a, axis):
    out = a.copy()
    out[_at(axis, 0)] = 0
    out[_at(axis, slice(-1))] -= a[_at(axis, slice(1, None))]
    return out


def step(xp, u, w, p, q, g, tau, sigma, a1, a0, rho):
    """One step in place, over-relaxed; returns u_bar. Arguments as those of `tgv_step`."""
    r = u.dtype.type(0.5**0.5)
    divergence = sum(forward_adjoint(xp, p[k], axis) for k, axis in enumerate((Z, X, Y)))
    u_bar = 2 * xp.maximum(0, u - tau * (g + divergence)) - u
    along = backward_adjoint
    zz, xx, yy, zx, zy, xy = q
    w_bar = xp.empty_like(w)
    w_bar[0] = w[0] - 2 * tau * (along(xp, zz, Z) + r * (along(xp, zx, X) + along(xp, zy, Y)) - p[0])
    w_bar[1] = w[1] - 2 * tau * (along(xp, xx, X) + r * (along(xp, zx, Z) + along(xp, xy, Y)) - p[1])
    w_bar[2] = w[2] - 2 * tau * (along(xp, yy, Y) + r * (along(xp, zy, Z) + along(xp, xy, X)) - p[2])
    for k, axis in enumerate((Z, X, Y)):
        w_bar[(k, *_at(axis, -1))] = 0
    for bar, x in ((u_bar, u), (w_bar, w)):
        x += rho / 2 * (bar - x)
    v = xp.stack([forward(xp, u_bar, axis) for axis in (Z, X, Y)])
    v -= w_bar
    _ascend(xp, p, v, sigma, a1, rho)
    b = [[backward(xp, w_bar[k], axis) for axis in (Z, X, Y)] for k in range(3)]
    for k, axis in enumerate((Z, X, Y)):
        b[k][k][_at(axis, -1)] = 0
    mixed = [r * (b[1][0] + b[0][1]), r * (b[2][0] + b[0][2]), r * (b[2][1] + b[1][2])]
    _ascend(xp, q, xp.stack([b[0][0], b[1][1], b[2][2], *mixed]), sigma, a0, rho)
    return u_bar


def _ascend(xp, a, gradient, sigma, radius, rho):
    gradient *= sigma
    gradient += a
    length = xp.sqrt(xp.einsum("k...,k...->...", gradient, gradient))
    gradient *= radius / xp.maximum(radius, length)
    gradient -= a
    gradient *= rho
    a += gradient
