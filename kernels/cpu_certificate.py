"""What the objective and its certificate need beside the steps: values, and duals made feasible."""

from __future__ import annotations

from math import sqrt

import numpy as np

from recon.kernels.compiling import ONE, ROOT_HALF, ZERO, jit, leaf
from recon.kernels.cpu_difference import (
    PAD,
    _add_difference,
    _edge_forward_adjoint,
    _fill,
    _gradient_row,
    _multiply_by,
    _shrink,
    _symmetrised_gradient_row,
    _without_ends,
)
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_short import load, unit_of


@leaf
def _clip_factor(q, z, x, unit, radius, out):  # type: ignore[no-untyped-def]
    """min(1, radius / |q|) of one row of tensors."""
    _fill(out, ZERO)
    for k in range(6):
        a = q[k, z, x]
        for i in range(out.size):
            out[i] += load(a, i, unit) * load(a, i, unit)
    _shrink(out, radius)


@leaf
def _multiply(a, b, unit, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = a[i] * load(b, i, unit)


@jit
def _tgv_divergence(z, q, unit, a0, out, largest):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    _, nz, nx, ny = q.shape
    work, edged = np.empty((6, ny), np.float32), np.empty(ny + 1, np.float32)
    fc, fz, fx, a, b, size = work[0], work[1], work[2], work[3], work[4], work[5]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zl = min(z + 1, nz - 1)
    top = ZERO
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xl = min(x + 1, nx - 1)
        _clip_factor(q, z, x, unit, a0, fc)
        _clip_factor(q, zl, x, unit, a0, fz)
        _clip_factor(q, z, xl, unit, a0, fx)
        _fill(size, ZERO)
        # row k of E* q sums D* q_kl over l; tensors are (zz, xx, yy, zx, zy, xy)
        for k in range(3):
            row_z, row_x, row_y = (0, 3, 4) if k == 0 else ((3, 1, 5) if k == 1 else (4, 5, 2))
            dz = ONE if k == 0 else ROOT_HALF
            dx = ONE if k == 1 else ROOT_HALF
            dy = ONE if k == 2 else ROOT_HALF
            target = out[k, z, x]
            _multiply(fc, q[row_y, z, x], unit, edged[:ny])
            _without_ends(edged)
            for i in range(ny):
                target[i] = dy * (edged[i] - edged[i + 1])
            _multiply(fc, q[row_z, z, x], unit, a)
            _multiply(fz, q[row_z, zl, x], unit, b)
            _add_difference(target, dz, a, mz, b, lz)
            _multiply(fc, q[row_x, z, x], unit, a)
            _multiply(fx, q[row_x, z, xl], unit, b)
            _add_difference(target, dx, a, mx, b, lx)
            if k == 0:
                _multiply_by(target, lz)
            elif k == 1:
                _multiply_by(target, lx)
            else:
                target[ny - 1] = ZERO
            for i in range(ny):
                size[i] += target[i] * target[i]
        for i in range(ny):
            top = max(top, size[i])
    largest[z] = sqrt(top)


def tgv_divergence(q, a0, out, largest):  # type: ignore[no-untyped-def]
    """out = E* P_a0(q) where w exists, 0 where it does not; ``largest[z]`` = max |out| of a plane.

    `q` may be int16.
    """
    _tgv_divergence(all_of(q.shape[1]), q, unit_of(q, a0), a0, out, largest)


def gradient_adjoint(p, factor, out):  # type: ignore[no-untyped-def]
    """out += factor grad* p; p, maybe int16, vanishes where the gradient does not exist."""
    _gradient_adjoint(all_of(p.shape[1]), p, factor, out)


@jit
def _gradient_adjoint(z, p, factor, out):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    _, _, nx, ny = p.shape
    edged = np.empty(ny + 1, np.float32)
    mz, before = np.float32(z > 0), max(z - 1, 0)
    for x in range(nx):
        mx, left = np.float32(x > 0), max(x - 1, 0)
        _edge_forward_adjoint(p[2, z, x], ONE, edged)
        _add_gradient_adjoint(out[z, x], factor, p[0, before, x], mz, p[0, z, x], p[1, z, left], mx, p[1, z, x], edged)


@leaf
def _add_gradient_adjoint(out, factor, p_z_before, mz, p_z, p_x_left, mx, p_x, edged):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        along_z = mz * load(p_z_before, i, ONE) - load(p_z, i, ONE)
        along_x = mx * load(p_x_left, i, ONE) - load(p_x, i, ONE)
        out[i] += factor * (along_z + along_x + (edged[i] - edged[i + 1]))


@jit
def _tgv_value(z, u, w, first, end, values):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    nz, nx, ny = u.shape
    work, bar = np.empty((8, ny), np.float32), np.empty(ny + 2 * PAD, np.float32)
    size, d = work[6], work[7]
    mz, lz = np.float32(z > 0), np.float32(z + 1 < nz)
    zl, zm = min(z + 1, nz - 1), max(z - 1, 0)
    one = two = 0.0
    for x in range(nx):
        mx, lx = np.float32(x > 0), np.float32(x + 1 < nx)
        xl, xm = min(x + 1, nx - 1), max(x - 1, 0)
        _gradient_row(u, w, z, x, zl, xl, lz, lx, work, bar)
        one += _norm_sum(work, 3, size, first, end)
        if w.shape[0] > 0:
            _symmetrised_gradient_row(w, z, x, zm, xm, mz * lz, mx * lx, mz, mx, work, d, bar)
            two += _norm_sum(work, 6, size, first, end)
    values[z, 0] = one
    values[z, 1] = two


@leaf
def _norm_sum(work, n, size, first, end):  # type: ignore[no-untyped-def]
    _fill(size, ZERO)
    for k in range(n):
        a = work[k]
        for i in range(size.size):
            size[i] += a[i] * a[i]
    total = 0.0
    for i in range(first, end):
        total += sqrt(size[i])
    return total


def tgv_value(u, w, values, within=None):  # type: ignore[no-untyped-def]
    """``values[z] = (sum |grad u - w|, sum |E w|)`` of each plane, over the slices ``within``, by default all."""
    first, end = within or (0, u.shape[2])
    _tgv_value(all_of(len(u)), u, w, first, end, values)


@jit
def _excess_sums(z, g, sensitivity, u, theta, price, least, above, most, sums):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    excess, total, highest = 0.0, 0.0, 0.0
    for x in range(g.shape[1]):
        for y in range(g.shape[2]):
            d, s = -theta * np.float64(g[z, x, y]), np.float64(sensitivity[z, x, y])
            a = s if s > least else 0.0
            over = d - price * a
            if over > 0:
                highest_u = min(above + np.float64(u[z, x, y]), most)
                excess += highest_u * over
                total += highest_u * a
            highest = max(highest, d / a if a > 0 else 0.0)
    sums[z, 0] = excess
    sums[z, 1] = total
    sums[z, 2] = highest


def excess_sums(g, sensitivity, u, theta, price, least, above, most, sums):  # type: ignore[no-untyped-def]
    """``sums[z] = (sum h max(d - price a, 0), sum h a where d > price a, max d / a)`` of a plane, ``d = -theta g``.

    h is ``min(above + u, most)``. `sensitivity` is a; where it is at most `least`, a is 0 and takes no part in the
    maximum.
    """
    _excess_sums(all_of(len(g)), g, sensitivity, u, theta, price, least, above, most, sums)
