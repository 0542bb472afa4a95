"""Projection on the CPU, Joseph's linear model, both ways as sums of weighted rows along y.

A voxel at u = x cos t + z sin t gives pixel d the weight tent(|u - d| / m) / m, m = max(|cos|, |sin|). All
slices share these weights, so a row of the result is a sum of rows of the source; the weights are computed
once per row, in float64, so that both directions see the same ones.
"""

from __future__ import annotations

from math import floor

import numpy as np
from numba import prange

from recon.kernels.compiling import ZERO, jit, leaf

_PARTS = 512  # of the rows of a result, shared among the cores


@leaf
def _sum_rows(source, index, weight, count, out):  # type: ignore[no-untyped-def]
    """out = sum of weight[k] source[index[k]], four at a time: `out` is loaded and stored less often."""
    for y in range(out.size):
        out[y] = ZERO
    while count % 4:
        index[count], weight[count] = index[0], ZERO
        count += 1
    for k in range(0, count, 4):
        p, q, r, s = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        a, b, c, d = source[index[k]], source[index[k + 1]], source[index[k + 2]], source[index[k + 3]]
        for y in range(out.size):
            out[y] += p * a[y] + q * b[y] + r * c[y] + s * d[y]


@leaf
def _collect(at, near, far, along, across, n_across, index, weight):  # type: ignore[no-untyped-def]
    """Rows ``k along + j across`` for j = at[k] with weight near[k], and for j + 1 with far[k], where they exist.

    Without a branch, as whether a row is used cannot be predicted. Returns how many are used.
    """
    count = 0
    for k in range(at.size):
        j = np.intp(at[k])
        index[count], weight[count] = k * along + j * across, near[k]
        count += np.intp((near[k] > ZERO) & (j >= 0) & (j < n_across))
        index[count], weight[count] = k * along + (j + 1) * across, far[k]
        count += np.intp((far[k] > ZERO) & (j >= -1) & (j + 1 < n_across))
    return count


@leaf
def _ray(start, step, m, at, near, far):  # type: ignore[no-untyped-def]
    """A ray passes `start + i step` at voxel i along: the voxel before, and the weights of both neighbours."""
    for i in range(at.size):
        position = start + i * step
        j = floor(position)
        at[i] = np.int32(j)
        near[i], far[i] = np.float32((1 - (position - j)) * m), np.float32((position - j) * m)


@leaf
def _project_rows(first, end, rows, shape, out, cos, sin, ints, floats):  # type: ignore[no-untyped-def]
    nz, nx = shape
    _, nu, _ = out.shape
    z0, x0, u0 = (nz - 1) / 2, (nx - 1) / 2, (nu - 1) / 2
    index, weight = ints[0], floats[0]
    for ray in range(first, end):
        t, d = ray // nu, ray % nu
        c, s = cos[t], sin[t]
        if abs(c) >= abs(s):
            at, near, far = ints[1, :nz], floats[1, :nz], floats[2, :nz]
            _ray((d - u0 + z0 * s) / c + x0, -s / c, 1 / abs(c), at, near, far)
            count = _collect(at, near, far, nx, 1, nx, index, weight)
        else:
            at, near, far = ints[1, :nx], floats[1, :nx], floats[2, :nx]
            _ray((d - u0 + x0 * c) / s + z0, -c / s, 1 / abs(s), at, near, far)
            count = _collect(at, near, far, 1, nx, nz, index, weight)
        _sum_rows(rows, index, weight, count, out[t, d])


@leaf
def _backproject_rows(first, end, rows, shape, out, cos, sin, ints, floats):  # type: ignore[no-untyped-def]
    n_tilts, nu = shape
    nz, nx, _ = out.shape
    z0, x0, u0 = (nz - 1) / 2, (nx - 1) / 2, (nu - 1) / 2
    index, weight = ints[0], floats[0]
    at, near, far = ints[1, :n_tilts], floats[1, :n_tilts], floats[2, :n_tilts]
    for column in range(first, end):
        z, x = column // nx, column % nx
        for t in range(n_tilts):
            m = 1 / max(abs(cos[t]), abs(sin[t]))
            u = (x - x0) * cos[t] + (z - z0) * sin[t] + u0
            d = floor(u)
            at[t] = np.int32(d)
            near[t], far[t] = np.float32((1 - (u - d) * m) * m), np.float32((1 - (1 - (u - d)) * m) * m)
        count = _collect(at, near, far, nu, 1, nu, index, weight)
        _sum_rows(rows, index, weight, count, out[z, x])


@jit
def project(volume, out, cos, sin):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (z, x, y) into `out` (tilt, u, y), in units of a voxel's edge."""
    nz, nx, ny = volume.shape
    rows, n = volume.reshape(nz * nx, ny), out.shape[0] * out.shape[1]
    size = 2 * max(nz, nx) + 4
    for part in prange(_PARTS):
        first, end = np.intp(part * n // _PARTS), np.intp((part + 1) * n // _PARTS)
        if first < end:
            ints, floats = np.empty((2, size), np.int32), np.empty((3, size), np.float32)
            _project_rows(first, end, rows, (nz, nx), out, cos, sin, ints, floats)


@jit
def backproject(stack, out, cos, sin):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project`: `stack` (tilt, u, y) into `out` (z, x, y)."""
    n_tilts, nu, ny = stack.shape
    rows, n = stack.reshape(n_tilts * nu, ny), out.shape[0] * out.shape[1]
    size = 2 * n_tilts + 4
    for part in prange(_PARTS):
        first, end = np.intp(part * n // _PARTS), np.intp((part + 1) * n // _PARTS)
        if first < end:
            ints, floats = np.empty((2, size), np.int32), np.empty((3, size), np.float32)
            _backproject_rows(first, end, rows, (n_tilts, nu), out, cos, sin, ints, floats)
