"""Projection on the CPU, Joseph's linear model, both ways as sums of weighted rows along y.

A voxel at u = x cos t + z sin t gives a pixel at u_d the weight tent(|u - u_d| / m) / m, m = max(|cos|, |sin|);
`rays` (tilt, 3) holds cos t, sin t and u of pixel 0; there are `fineness` pixels on a voxel's edge. All slices
share these weights, so a row of the result is a sum of rows of the source, and of pairs of neighbours at that: a ray
passes each plane between two voxels, a voxel's centre lies between two pixels. Weights are computed in float64, so
that both directions see the same ones.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numba import get_num_threads

from recon.kernels.compiling import ZERO, inlined, jit, leaf
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_rows import add_pairs

_TILE = 32  # voxels on an edge of what is projected at a time
_PARTS = 4  # of a tilt's detector, shared among the cores
_TILE_BACK = 4  # voxels on an edge of those that are summed one after the other, since they share pixels


@inlined
def _store_pair(k, j, a, b, first, stride, n, index, near, far):  # type: ignore[no-untyped-def]
    """Pair k: row j of n with weight a and row j + 1 with b, those of them that exist; rows are ``first + j stride``.

    Without a branch: at an end the pair is moved inwards, and of a single row there is only the first of the pair.
    """
    i = min(max(j, np.int32(0)), np.int32(max(n - 2, 0)))
    near[k] = (a if j == i else ZERO) + (b if j + 1 == i else ZERO)
    far[k] = ((b if j == i else ZERO) + (a if j == i + 1 else ZERO)) * np.float32(n > 1)
    index[k] = first + i * stride


# ---------------------------------------------------------------- forward


@leaf
def _pairs_of_ray(start, step, m, planes, across, n, strides, index, near, far):  # type: ignore[no-untyped-def]
    """The pairs that a ray meets, at ``start + i step`` in plane i of `planes`, where the first is in `across`.

    Returns how many. `strides` are those of the rows along and across.
    """
    first, end = planes
    if abs(step) > 1e-6:
        a, b = (across[0] - start) / step, (across[1] - start) / step
        first, end = max(first, ceil(min(a, b) - 1e-6)), min(end, floor(max(a, b) + 1e-6) + 1)
    for k in range(end - first):
        position = start + (first + k) * step
        before = np.floor(position)
        part, j = position - before, np.int32(before)
        inside = m if (j >= across[0]) & (j < across[1]) else 0.0
        a, b = np.float32((1 - part) * inside), np.float32(part * inside)
        _store_pair(k, j, a, b, np.int32(first + k) * strides[0], strides[1], n, index, near, far)
    return max(0, end - first)


@leaf
def _project_tile(group, groups, rows, tile, shape, out, rays, fineness, index, near, far):  # type: ignore[no-untyped-def]
    """Adds the pairs of which the first voxel is in the tile, to the parts of the detector of a group."""
    nz, nx = shape
    n_tilts, nu, ny = out.shape
    z0, x0 = (nz - 1) / 2, (nx - 1) / 2
    (z, z_end), (x, x_end) = tile
    from_z, from_x = z if z > 0 else -1, x if x > 0 else -1
    along_z, along_x = np.int32(nx), np.int32(1)
    for t in range(n_tilts):
        c, s, r = rays[t, 0], rays[t, 1], rays[t, 2]
        # where the tile with the voxels around it is seen
        u = ((from_x + x_end) / 2 - x0) * c + ((from_z + z_end) / 2 - z0) * s - r
        reach = ((x_end - from_x) / 2 + 1) * abs(c) + ((z_end - from_z) / 2 + 1) * abs(s)
        seen, unseen = max(0, floor((u - reach) * fineness)), min(nu, ceil((u + reach) * fineness) + 1)
        for part in range((group - _PARTS * t) % groups, _PARTS, groups):
            for d in range(max(seen, part * nu // _PARTS), min(unseen, (part + 1) * nu // _PARTS)):
                v = r + d / fineness
                if abs(c) >= abs(s):
                    start, step, m = v / c + z0 * s / c + x0, -s / c, 1 / abs(c)
                    strides, gap = (along_z, along_x), min(1, nx - 1)
                    count = _pairs_of_ray(start, step, m, (z, z_end), (from_x, x_end), nx, strides, index, near, far)
                else:
                    start, step, m = v / s + x0 * c / s + z0, -c / s, 1 / abs(s)
                    strides, gap = (along_x, along_z), min(nx, (nz - 1) * nx)
                    count = _pairs_of_ray(start, step, m, (x, x_end), (from_z, z_end), nz, strides, index, near, far)
                if count > 0:
                    add_pairs(rows, index[:count], near[:count], far[:count], gap, 0, ny, out[t, d])


@jit
def _project(group, groups, volume, out, rays, fineness, keep):  # type: ignore[no-untyped-def]
    if group < 0:
        in_parallel(group)
        return
    nz, nx, ny = volume.shape
    rows, nu = volume.reshape(nz * nx, ny), out.shape[1]
    index, near, far = np.empty(_TILE, np.int32), np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for k in range(group, out.shape[0] * _PARTS, groups):
        for d in range(k % _PARTS * nu // _PARTS, (k % _PARTS + 1) * nu // _PARTS):
            for y in range(0 if keep else ny):
                out[k // _PARTS, d, y] = ZERO
    for z in range(0, nz, _TILE):
        for x in range(0, nx, _TILE):
            tile = (z, min(z + _TILE, nz)), (x, min(x + _TILE, nx))
            _project_tile(group, groups, rows, tile, (nz, nx), out, rays, fineness, index, near, far)


def project(volume, out, rays, fineness):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (z, x, y) into `out` (tilt, u, y), in units of a voxel's edge.

    Tile by tile: all rays of a core's share of the detectors use it while it is in the cache.
    """
    _project_parts(volume, out, rays, fineness, False)


def project_add(volume, out, rays, fineness):  # type: ignore[no-untyped-def]
    """The same, added to `out`."""
    _project_parts(volume, out, rays, fineness, True)


def _project_parts(volume, out, rays, fineness, keep):  # type: ignore[no-untyped-def]
    groups = min(get_num_threads(), _PARTS * out.shape[0])
    _project(all_of(groups), groups, volume, out, rays, fineness, keep)


# ---------------------------------------------------------------- back


@leaf
def _pairs_of_voxel(z, x, c, s, r, m, fineness, nu, index, near, far):  # type: ignore[no-untyped-def]
    """The pairs of pixels that a voxel meets at all tilts; finer pixels are more than one pair each."""
    n_tilts = m.size
    for pair in range(fineness):
        before, p = fineness - 1 - 2 * pair, pair * n_tilts
        for t in range(n_tilts):
            u = x * c[t] + z * s[t] - r[t]
            d, slope = np.floor(u) - before, m[t] / fineness
            a, b = max(1 - abs(u - d) * slope, 0.0) * m[t], max(1 - abs(u - d - 1) * slope, 0.0) * m[t]
            first = np.int32(t) * np.int32(nu)
            _store_pair(p + t, np.int32(d), np.float32(a), np.float32(b), first, np.int32(1), nu, index, near, far)


@leaf
def _backproject_tile(rows, nu, corner, out, tilts, fineness, index, near, far):  # type: ignore[no-untyped-def]
    nz, nx, ny = out.shape
    z0, x0 = (nz - 1) / 2, (nx - 1) / 2
    for z in range(corner[0], min(corner[0] + _TILE_BACK, nz)):
        for x in range(corner[1], min(corner[1] + _TILE_BACK, nx)):
            _pairs_of_voxel(z - z0, x - x0, tilts[0], tilts[1], tilts[2], tilts[3], fineness, nu, index, near, far)
            row = out[z, x]
            for y in range(ny):
                row[y] = ZERO
            add_pairs(rows, index, near, far, min(1, nu - 1), 0, ny, row)


@jit
def _backproject(tile, stack, out, tilts, fineness):  # type: ignore[no-untyped-def]
    if tile < 0:
        in_parallel(tile)
        return
    n_tilts, nu, ny = stack.shape
    rows, pairs = stack.reshape(n_tilts * nu, ny), fineness * n_tilts
    index, near, far = np.empty(pairs, np.int32), np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    for x in range(0, out.shape[1], _TILE_BACK):
        _backproject_tile(rows, nu, (tile * _TILE_BACK, x), out, tilts, fineness, index, near, far)


def backproject(stack, out, rays, fineness):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project`: `stack` (tilt, u, y) into `out` (z, x, y)."""
    # a column each: cos t, sin t and u of pixel 0 in pixels, and 1 / m
    tilts = np.empty((4, len(rays)))
    tilts[:3], tilts[3] = rays.T * fineness, 1 / np.abs(rays[:, :2]).max(axis=1)
    _backproject(all_of(-(-len(out) // _TILE_BACK)), stack, out, tilts, fineness)
