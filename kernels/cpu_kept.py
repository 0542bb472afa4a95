"""Projection on the CPU with pairs that are found once; model, order and so all bits are those of `cpu_joseph`.

There each call finds the pairs of rows and their weights anew. With short rows that takes a good part of
its time, and an iterative method asks for the same ones again and again: here they are kept.
"""

from __future__ import annotations

import threading
from math import ceil, floor
from weakref import WeakValueDictionary

import numpy as np
from numba import get_num_threads

from recon.kernels import MOST_PAIRS, PAIR
from recon.kernels.compiling import ZERO, jit
from recon.kernels.cpu_joseph import _PARTS, _TILE, _TILE_BACK, _pairs_of_ray, _pairs_of_voxel
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_rows import add_pairs

# ---------------------------------------------------------------- forward


@jit
def _find_rays(tile, shape, nu, rays, fineness, starts, index, near, far):  # type: ignore[no-untyped-def]
    """The pairs of which the first voxel is in a tile, of each ray (tilt, u) from its place in `starts` on.

    Where `index` has no room, how many they are goes to where the next ray's place will be.
    """
    if tile < 0:
        in_parallel(tile)
        return
    nz, nx = shape
    z0, x0, n_tilts, tiles = (nz - 1) / 2, (nx - 1) / 2, rays.shape[0], (nx + _TILE - 1) // _TILE
    z, x = tile // tiles * _TILE, tile % tiles * _TILE
    z_end, x_end = min(z + _TILE, nz), min(x + _TILE, nx)
    from_z, from_x = z if z > 0 else -1, x if x > 0 else -1
    along_z, along_x = np.int32(nx), np.int32(1)
    rows, first, second = np.empty(_TILE, np.int32), np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for t in range(n_tilts):
        c, s, r = rays[t, 0], rays[t, 1], rays[t, 2]
        # where the tile with the voxels around it is seen
        u = ((from_x + x_end) / 2 - x0) * c + ((from_z + z_end) / 2 - z0) * s - r
        reach = ((x_end - from_x) / 2 + 1) * abs(c) + ((z_end - from_z) / 2 + 1) * abs(s)
        for d in range(max(0, floor((u - reach) * fineness)), min(nu, ceil((u + reach) * fineness) + 1)):
            v, ray = r + d / fineness, (tile * n_tilts + t) * nu + d
            if abs(c) >= abs(s):
                start, step, m = v / c + z0 * s / c + x0, -s / c, 1 / abs(c)
                planes, across, n, strides = (z, z_end), (from_x, x_end), nx, (along_z, along_x)
            else:
                start, step, m = v / s + x0 * c / s + z0, -c / s, 1 / abs(s)
                planes, across, n, strides = (x, x_end), (from_z, z_end), nz, (along_x, along_z)
            count = _pairs_of_ray(start, step, m, planes, across, n, strides, rows, first, second)
            if index.size == 0:
                starts[ray + 1] = count
                continue
            for k in range(count):
                at = starts[ray] + k
                index[at], near[at], far[at] = rows[k], first[k], second[k]


@jit
def _project_kept(group, groups, volume, out, gaps, starts, index, near, far):  # type: ignore[no-untyped-def]
    if group < 0:
        in_parallel(group)
        return
    nz, nx, ny = volume.shape
    n_tilts, nu, _ = out.shape
    rows = volume.reshape(nz * nx, ny)
    for tile in range(starts.size // (n_tilts * nu)):
        for part in range(group, n_tilts * _PARTS, groups):
            t = part // _PARTS
            for d in range(part % _PARTS * nu // _PARTS, (part % _PARTS + 1) * nu // _PARTS):
                ray = (tile * n_tilts + t) * nu + d
                row, k, end = out[t, d], starts[ray], starts[ray + 1]
                for y in range(0 if tile > 0 else ny):
                    row[y] = ZERO
                if end > k:
                    add_pairs(rows, index[k:end], near[k:end], far[k:end], gaps[t], 0, ny, row)


def _rays(shape, nu, rays, fineness):  # type: ignore[no-untyped-def]
    """What `_project_kept` takes: how far the second row of a pair is from the first at each tilt, and the pairs."""
    (nz, nx), steep = shape, np.abs(rays[:, 0]) < np.abs(rays[:, 1])
    tiles = -(-nz // _TILE) * -(-nx // _TILE)
    starts = np.zeros(tiles * len(rays) * nu + 1, np.int64)
    _find_rays(all_of(tiles), shape, nu, rays, fineness, starts, *_pairs(0))
    np.cumsum(starts, out=starts)
    found = _pairs(starts[-1])
    if starts[-1]:
        _find_rays(all_of(tiles), shape, nu, rays, fineness, starts, *found)
    return np.where(steep, min(nx, (nz - 1) * nx), min(1, nx - 1)), starts, *found


def _pairs(shape):  # type: ignore[no-untyped-def]
    return np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32)


# ---------------------------------------------------------------- back


@jit
def _find_voxels(z, nu, tilts, fineness, index, near, far):  # type: ignore[no-untyped-def]
    """The pairs of the voxels of a plane, ``(z, x, pair)``."""
    if z < 0:
        in_parallel(z)
        return
    nz, nx, _ = index.shape
    z0, x0 = (nz - 1) / 2, (nx - 1) / 2
    for x in range(nx):
        pairs = index[z, x], near[z, x], far[z, x]
        _pairs_of_voxel(z - z0, x - x0, tilts[0], tilts[1], tilts[2], tilts[3], fineness, nu, *pairs)


@jit
def _backproject_kept(tile, stack, out, index, near, far):  # type: ignore[no-untyped-def]
    if tile < 0:
        in_parallel(tile)
        return
    n_tilts, nu, ny = stack.shape
    rows, gap = stack.reshape(n_tilts * nu, ny), min(1, nu - 1)
    for begin in range(0, out.shape[1], _TILE_BACK):
        for z in range(tile * _TILE_BACK, min((tile + 1) * _TILE_BACK, out.shape[0])):
            for x in range(begin, min(begin + _TILE_BACK, out.shape[1])):
                row = out[z, x]
                for y in range(ny):
                    row[y] = ZERO
                add_pairs(rows, index[z, x], near[z, x], far[z, x], gap, 0, ny, row)


def _voxels(shape, nu, rays, fineness):  # type: ignore[no-untyped-def]
    """What `_backproject_kept` takes."""
    # a column each: cos t, sin t and u of pixel 0 in pixels, and 1 / m
    tilts = np.empty((4, len(rays)))
    tilts[:3], tilts[3] = rays.T * fineness, 1 / np.abs(rays[:, :2]).max(axis=1)
    found = _pairs((*shape, fineness * len(rays)))
    _find_voxels(all_of(shape[0]), nu, tilts, fineness, *found)
    return found


# ---------------------------------------------------------------- both


class Kept:
    """The pairs of some rays, each direction's found when it is first asked for.

    Args:
        shape: ``(z, x)`` of the volume.
        nu: columns of the projections.
        rays, fineness: as of `cpu_joseph.project`.
    """

    def __init__(self, shape, nu, rays, fineness):  # type: ignore[no-untyped-def]
        self._of, self._rays, self._voxels = (shape, nu, rays, fineness), None, None
        self._finding = threading.Lock()  # by one thread: those of others would take memory for nothing

    @classmethod
    def of(cls, shape, nu, rays, fineness):  # type: ignore[no-untyped-def]
        """The same one for all who hold one for these rays, as elements and slabs do; None if it were too large."""
        if PAIR * len(rays) * max(nu * max(shape), fineness * shape[0] * shape[1]) > MOST_PAIRS:
            return None
        key = (*shape, nu, fineness, rays.tobytes())
        with _sharing:
            found = _shared.get(key)
            if found is None:
                found = _shared[key] = cls(shape, nu, rays, fineness)
            return found

    def project(self, volume, out):  # type: ignore[no-untyped-def]
        """As `cpu_joseph.project`."""
        with self._finding:
            self._rays = self._rays or _rays(*self._of)
        groups = min(get_num_threads(), _PARTS * out.shape[0])
        _project_kept(all_of(groups), groups, volume, out, *self._rays)

    def backproject(self, stack, out):  # type: ignore[no-untyped-def]
        """As `cpu_joseph.backproject`."""
        with self._finding:
            self._voxels = self._voxels or _voxels(*self._of)
        _backproject_kept(all_of(-(-len(out) // _TILE_BACK)), stack, out, *self._voxels)


_shared: WeakValueDictionary[tuple, Kept] = WeakValueDictionary()
_sharing = threading.Lock()
