"""Projection of any parallel rays on the CPU, Joseph's model in three dimensions, both ways as sums of weighted rows.

A ray passes the planes across its dominant axis between four voxels and takes from them what bilinear interpolation
gives (Joseph, IEEE Trans. Med. Imaging 1, 192 (1982)). Rays are ordered so that the next one along a row of `out`
passes one voxel further along y: then all rays of a row, a "line", share their weights in a plane, and a plane's share
is a sum of shifted rows, as fast as those of a single axis. Where a detector's pixels lie otherwise, a detector warp
follows.

`rays` (tilt, 8), in voxel indices: axis of the planes (0 or 1 of the volume's three), then for line i in plane k the
position across, ``[1] + [2] i + [3] k`` along the other of the two, and the voxel along y that its first ray passes,
``[4] + [5] i + [6] k``; and the length of a ray from plane to plane [7]. Weights are computed in float64, so that both
directions see the same ones.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numba import get_num_threads, prange

from recon.kernels.compiling import ZERO, jit, leaf
from recon.kernels.cpu_joseph import _store_pair
from recon.kernels.cpu_rows import add_pairs

_TILE = 32  # voxels on an edge of what is projected at a time
_PARTS = 4  # of a tilt's lines, shared among the cores
_TILE_BACK = 4


# ---------------------------------------------------------------- forward


@leaf
def _taps_of_line(line, k, end, across, n, stride, strides, origin, index, near, far):  # type: ignore[no-untyped-def]
    """The taps of a line in planes `k` to before `end`: pairs of voxels, whose first is in `across`.

    `line` is (position across in plane 0, step a plane, voxel along y in plane 0, step, length). Two taps a plane, of
    the voxels before and after the ray along y; one where it passes a voxel. Returns how many, and the least and the
    greatest shift along y.
    """
    count, least, most = 0, 1e18, -1e18
    for plane in range(k, end):
        position, y = line[0] + plane * line[1], line[2] + plane * line[3]
        before, m = floor(position), floor(y)
        if across[0] <= before < across[1]:
            part, f = position - before, y - m
            a, b = (1 - part) * line[4], part * line[4]
            at = before
            if at < 0:  # a neighbour that does not exist weighs nothing: the pair moves inwards
                at, a, b = 0, b, 0.0
            elif at >= n - 1:
                if n > 1:
                    at, a, b = n - 2, 0.0, a
                else:
                    b = 0.0
            first = np.int32(origin + plane * strides[0] + at * strides[1] + m)
            index[count], near[count], far[count] = first, np.float32(a * (1 - f)), np.float32(b * (1 - f))
            count += 1
            if f > 0:
                index[count], near[count], far[count] = first + 1, np.float32(a * f), np.float32(b * f)
                count += 1
            least, most = min(least, y), max(most, y)
    return count, least, most


@leaf
def _lines_of_tile(r, planes, across, nu):  # type: ignore[no-untyped-def]
    """First and last-but-one of the lines that pass a tile."""
    a, b = r[3] * planes[0], r[3] * (planes[1] - 1)
    low, high = across[0] - max(a, b) - r[1], across[1] - min(a, b) - r[1]
    p, q = low / r[2], high / r[2]
    return max(0, floor(min(p, q))), min(nu, ceil(max(p, q)) + 1)


@leaf
def _project_tile(group, groups, voxels, tile, shape, pad, out, rays, index, near, far):  # type: ignore[no-untyped-def]
    """Adds the taps of which the first voxel is in the tile, to the parts of the lines of a group."""
    n_tilts, nu, nv = out.shape
    length = shape[2]
    (p, p_end), (q, q_end) = tile
    for t in range(n_tilts):
        r = rays[t]
        if r[0] == 0:
            planes, across, n, strides = (p, p_end), (q if q > 0 else -1, q_end), shape[1], (shape[1] * length, length)
        else:
            planes, across, n, strides = (q, q_end), (p if p > 0 else -1, p_end), shape[0], (length, shape[1] * length)
        seen, unseen = _lines_of_tile(r, planes, across, nu)
        gap = strides[1] if n > 1 else 0
        for part in range((group - _PARTS * t) % groups, _PARTS, groups):
            for i in range(max(seen, part * nu // _PARTS), min(unseen, (part + 1) * nu // _PARTS)):
                line = (r[1] + r[2] * i, r[3], r[4] + r[5] * i, r[6], r[7])
                count, least, most = _taps_of_line(
                    line, planes[0], planes[1], across, n, nu, strides, pad, index, near, far
                )
                if count > 0:
                    # rays of the line that pass a voxel of some of the planes
                    low, high = max(0, floor(-most)), min(nv, ceil(length - 2 * pad - least) + 1)
                    if low < high:
                        for k in range(count):  # to the first voxel that is read: before it lies no memory of ours
                            index[k] += np.int32(low)
                        row = out[t, i, low:high]
                        add_pairs(voxels, index[:count], near[:count], far[:count], gap, 0, row.size, row)


@jit
def _project(volume, out, rays, pad, groups):  # type: ignore[no-untyped-def]
    np_, nq, length = volume.shape
    voxels, nu, nv = volume.reshape(np_ * nq * length, 1), out.shape[1], out.shape[2]
    for part in prange(groups):
        group = np.intp(part)
        index = np.empty(2 * _TILE, np.int32)
        near, far = np.empty(2 * _TILE, np.float32), np.empty(2 * _TILE, np.float32)
        for k in range(group, out.shape[0] * _PARTS, groups):
            for i in range(k % _PARTS * nu // _PARTS, (k % _PARTS + 1) * nu // _PARTS):
                for y in range(nv):
                    out[k // _PARTS, i, y] = ZERO
        for p in range(0, np_, _TILE):
            for q in range(0, nq, _TILE):
                tile = (np.intp(p), np.intp(min(p + _TILE, np_))), (np.intp(q), np.intp(min(q + _TILE, nq)))
                _project_tile(group, groups, voxels, tile, volume.shape, pad, out, rays, index, near, far)


def project_rays(volume, out, rays, pad):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (p, q, pad + y + pad) into `out` (tilt, line, row), in units of a voxel's edge.

    The rows of the volume have `pad` zeros at both ends, more than 32 times the greatest step along y plus 3.
    """
    _project(volume, out, rays, pad, min(get_num_threads(), _PARTS * out.shape[0]))


# ---------------------------------------------------------------- back


@leaf
def _taps_of_voxel(p, q, rays, pairs, shape, index, near, far):  # type: ignore[no-untyped-def]
    """The taps of a row of voxels at all tilts, pairs of rays of a line on both sides of it. Returns how many."""
    count = 0
    nu, nv = shape
    for t in range(len(rays)):
        r = rays[t]
        plane, position = (p, q) if r[0] == 0 else (q, p)
        at = (position - r[1] - r[3] * plane) / r[2]  # line that passes the voxel, between two of them
        slope, shift = abs(r[2]), r[4] + r[6] * plane
        first = ceil(at - 1 / slope)
        for i in range(max(0, first), min(nu, first + 2 * pairs)):
            weight = (1 - abs(i - at) * slope) * r[7]
            if weight > 0:
                y = shift + r[5] * i
                m = floor(y)
                f = y - m
                # ray j of the line gives to voxels j + m and j + m + 1
                start = np.int32((t * nu + i) * nv - m)
                index[count], near[count], far[count] = start, np.float32(weight * (1 - f)), ZERO
                if f > 0:
                    index[count], far[count] = start - 1, near[count]
                    near[count] = np.float32(weight * f)
                count += 1
    return count


@leaf
def _taps_of_level_lines(p, q, rays, pairs, shape, index, near, far):  # type: ignore[no-untyped-def]
    """The same where all lines of a tilt pass a plane's voxels alike along y: pairs of neighbouring lines."""
    count = 0
    nu, nv = shape
    for t in range(len(rays)):
        r = rays[t]
        plane, position = (p, q) if r[0] == 0 else (q, p)
        at, slope = (position - r[1] - r[3] * plane) / r[2], abs(r[2])
        y = r[4] + r[6] * plane
        m = floor(y)
        f = y - m
        first = ceil(at - 1 / slope)
        for i in range(first, first + 2 * pairs, 2):
            a, b = max((1 - abs(i - at) * slope) * r[7], 0.0), max((1 - abs(i + 1 - at) * slope) * r[7], 0.0)
            start, line, rows = np.int32(t * nu * nv - m), np.int32(i), np.int32(nv)
            a1, b1 = np.float32(a * (1 - f)), np.float32(b * (1 - f))
            _store_pair(count, line, a1, b1, start, rows, nu, index, near, far)
            count += 1
            if f > 0:
                a1, b1 = np.float32(a * f), np.float32(b * f)
                _store_pair(count, line, a1, b1, start - np.int32(1), rows, nu, index, near, far)
                count += 1
    return count


@leaf
def _backproject_tile(lines, nu, nv, corner, out, rays, pairs, level, index, near, far):  # type: ignore[no-untyped-def]
    np_, nq, ny = out.shape
    gap = min(nu - 1, 1) * nv if level else 1
    for p in range(corner[0], min(corner[0] + _TILE_BACK, np_)):
        for q in range(corner[1], min(corner[1] + _TILE_BACK, nq)):
            if level:
                count = _taps_of_level_lines(p, q, rays, pairs, (nu, nv), index, near, far)
            else:
                count = _taps_of_voxel(p, q, rays, pairs, (nu, nv), index, near, far)
            row = out[p, q]
            for y in range(ny):
                row[y] = ZERO
            add_pairs(lines, index[:count], near[:count], far[:count], gap, 0, ny, row)


@jit
def _backproject(stack, out, rays, pairs, level):  # type: ignore[no-untyped-def]
    n_tilts, nu, nv = stack.shape
    lines, most = stack.reshape(n_tilts * nu * nv, 1), 2 * pairs * n_tilts
    for part in prange(-(-out.shape[0] // _TILE_BACK)):
        index, near, far = np.empty(most, np.int32), np.empty(most, np.float32), np.empty(most, np.float32)
        for q in range(0, out.shape[1], _TILE_BACK):
            corner = np.intp(part * _TILE_BACK), np.intp(q)
            _backproject_tile(lines, nu, nv, corner, out, rays, pairs, level, index, near, far)


def backproject_rays(stack, out, rays, pairs):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project_rays`, without the zeros: `stack` (tilt, line, row) into `out` (p, q, y).

    Rows are so many that every voxel lies between two of them; `pairs` of lines pass within a voxel of one.
    """
    _backproject(stack, out, rays, pairs, not rays[:, 5].any())
