"""Projection on the CPU, Joseph's linear model, both ways as sums of weighted rows along y.

A voxel at u = x cos t + z sin t gives a pixel at u_d the weight tent(|u - u_d| / m) / m, m = max(|cos|, |sin|);
`rays` (tilt, 3) holds cos t, sin t and u of pixel 0; there are `fineness` pixels on a voxel's edge. All slices
share these weights, so a row of the result is a sum of rows of the source; the weights are computed once per row,
in float64, so that both directions see the same ones.
"""

from __future__ import annotations

from math import floor

import numpy as np
from numba import prange

from recon.kernels.compiling import ZERO, jit, leaf

_PARTS = 64  # of the rows of a result, shared among the cores
_CHUNK = 256  # elements of a row
_SLAB = 1 << 19  # elements that stay in a core's cache


@leaf
def _add_four(source, index, weight, k, low, high, out):  # type: ignore[no-untyped-def]
    p, q, r, s = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
    a, b = source[index[k], low:high], source[index[k + 1], low:high]
    c, d = source[index[k + 2], low:high], source[index[k + 3], low:high]
    for y in range(out.size):
        out[y] += p * a[y] + q * b[y] + r * c[y] + s * d[y]


@leaf
def _add_eight(source, index, weight, k, low, high, out):  # type: ignore[no-untyped-def]
    p, q, r, s = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
    t, u, v, w = weight[k + 4], weight[k + 5], weight[k + 6], weight[k + 7]
    a, b = source[index[k], low:high], source[index[k + 1], low:high]
    c, d = source[index[k + 2], low:high], source[index[k + 3], low:high]
    e, f = source[index[k + 4], low:high], source[index[k + 5], low:high]
    g, h = source[index[k + 6], low:high], source[index[k + 7], low:high]
    for y in range(out.size):
        first = p * a[y] + q * b[y] + r * c[y] + s * d[y]
        out[y] += first + (t * e[y] + u * f[y] + v * g[y] + w * h[y])


@leaf
def _add_rows(source, index, weight, count, low, high, out):  # type: ignore[no-untyped-def]
    """out += sum of weight[k] source[index[k]], elements from `low` to before `high`.

    Several rows at a time, so that `out` is loaded and stored less often.
    """
    while count % 4:
        index[count], weight[count] = index[0], ZERO
        count += 1
    for k in range(0, count - 4, 8):
        _add_eight(source, index, weight, k, low, high, out)
    if count % 8:
        _add_four(source, index, weight, count - 4, low, high, out)


@leaf
def _collect(at, near, far, first, along, across, low, high, index, weight):  # type: ignore[no-untyped-def]
    """Rows ``first + k along + j across``: j = at[k] with weight near[k], j + 1 with far[k], if in low..high.

    Without a branch, as whether a row is used cannot be predicted. Returns how many are used.
    """
    count = 0
    for k in range(at.size):
        j = np.intp(at[k])
        index[count], weight[count] = first + k * along + j * across, near[k]
        count += np.intp((near[k] > ZERO) & (j >= low) & (j < high))
        index[count], weight[count] = first + k * along + (j + 1) * across, far[k]
        count += np.intp((far[k] > ZERO) & (j + 1 >= low) & (j + 1 < high))
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
def _between(start, step, low, high, n):  # type: ignore[no-untyped-def]
    """The indices below n at which ``start + i step`` may lie between `low` and `high`."""
    if abs(step) < 1e-9:
        return 0, n
    a, b = (low - start) / step, (high - start) / step
    return max(0, floor(min(a, b))), min(n, floor(max(a, b)) + 2)


@leaf
def _project_rows(first, end, rows, slab, chunk, shape, out, rays, fineness, ints, floats):  # type: ignore[no-untyped-def]
    """Adds what the planes of a slab give to the elements of a chunk of rows `first` to before `end`."""
    nz, nx = shape
    _, nu, _ = out.shape
    z0, x0 = (nz - 1) / 2, (nx - 1) / 2
    low, high = slab
    index, weight = ints[0], floats[0]
    for ray in range(first, end):
        t, d = ray // nu, ray % nu
        c, s = rays[t, 0], rays[t, 1]
        u = rays[t, 2] + d / fineness
        if abs(c) >= abs(s):
            n = high - low
            at, near, far = ints[1, :n], floats[1, :n], floats[2, :n]
            _ray((u + (z0 - low) * s) / c + x0, -s / c, 1 / abs(c), at, near, far)
            count = _collect(at, near, far, low * nx, nx, 1, 0, nx, index, weight)
        else:
            start, slope = (u + x0 * c) / s + z0, -c / s
            i, after = _between(start, slope, low - 1, high, nx)
            n = max(0, after - i)
            at, near, far = ints[1, :n], floats[1, :n], floats[2, :n]
            _ray(start + i * slope, slope, 1 / abs(s), at, near, far)
            count = _collect(at, near, far, i, 1, nx, low, high, index, weight)
        if low == 0:
            for y in range(chunk[0], chunk[1]):
                out[t, d, y] = ZERO
        _add_rows(rows, index, weight, count, chunk[0], chunk[1], out[t, d, chunk[0] : chunk[1]])


@leaf
def _backproject_rows(first, end, rows, shape, out, rays, fineness, ints, floats):  # type: ignore[no-untyped-def]
    n_tilts, nu = shape
    nz, nx, _ = out.shape
    z0, x0 = (nz - 1) / 2, (nx - 1) / 2
    index, weight = ints[0], floats[0]
    at, near, far = ints[1, :n_tilts], floats[1, :n_tilts], floats[2, :n_tilts]
    for column in range(first, end):
        z, x = column // nx, column % nx
        count = 0
        for pair in range(fineness):  # of neighbouring pixels that the voxel may reach
            before = fineness - 1 - 2 * pair
            for t in range(n_tilts):
                c, s = rays[t, 0], rays[t, 1]
                m = 1 / max(abs(c), abs(s))
                u = ((x - x0) * c + (z - z0) * s - rays[t, 2]) * fineness
                d = floor(u) - before
                at[t] = np.int32(d)
                near[t] = np.float32((1 - abs(u - d) * (m / fineness)) * m)
                far[t] = np.float32((1 - abs(u - d - 1) * (m / fineness)) * m)
            count += _collect(at, near, far, 0, nu, 1, 0, nu, index[count:], weight[count:])
        row = out[z, x]
        for y in range(row.size):
            row[y] = ZERO
        _add_rows(rows, index, weight, count, 0, row.size, row)


@jit
def project(volume, out, rays, fineness):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (z, x, y) into `out` (tilt, u, y), in units of a voxel's edge.

    Slab by slab, and a chunk of each row at a time: all tilts read it while it is in a core's cache.
    """
    nz, nx, ny = volume.shape
    rows, n = volume.reshape(nz * nx, ny), out.shape[0] * out.shape[1]
    size = 2 * max(nz, nx) + 4
    chunks = -(-ny // _CHUNK)
    planes = max(1, _SLAB // (nx * -(-ny // chunks)))
    for part_of_y in range(chunks):
        chunk = np.intp(part_of_y * ny // chunks), np.intp((part_of_y + 1) * ny // chunks)
        for low in range(0, nz, planes):
            slab = np.intp(low), np.intp(min(low + planes, nz))
            for part in prange(_PARTS):
                first, end = np.intp(part * n // _PARTS), np.intp((part + 1) * n // _PARTS)
                if first < end:
                    ints, floats = np.empty((2, size), np.int32), np.empty((3, size), np.float32)
                    _project_rows(first, end, rows, slab, chunk, (nz, nx), out, rays, fineness, ints, floats)


@jit
def backproject(stack, out, rays, fineness):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project`: `stack` (tilt, u, y) into `out` (z, x, y)."""
    n_tilts, nu, ny = stack.shape
    rows, n = stack.reshape(n_tilts * nu, ny), out.shape[0] * out.shape[1]
    size = 2 * fineness * n_tilts + 4
    for part in prange(_PARTS):
        first, end = np.intp(part * n // _PARTS), np.intp((part + 1) * n // _PARTS)
        if first < end:
            ints, floats = np.empty((2, size), np.int32), np.empty((3, size), np.float32)
            _backproject_rows(first, end, rows, (n_tilts, nu), out, rays, fineness, ints, floats)
