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
from numba import get_num_threads

from recon.kernels.compiling import ZERO, jit, leaf
from recon.kernels.cpu_between import add_between, add_pairs_between
from recon.kernels.cpu_joseph import _store_pair
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_rows import LANES, add_pairs

_TILE = 24  # voxels on an edge of what is projected at a time: its rows are to stay in the second cache
_PARTS = 4  # of a tilt's lines, shared among the cores
_OBLIQUE, _FEW = 0.25, 8  # voxels along y from plane to plane, from which a line's planes are added few at a time
_TILE_BACK = 4
_BLOCK_BACK = 16  # the same of what shares lines in the second cache, a whole number of tiles
# what back projection knows of a tilt, a row each, so that loops over tilts are vectorised: the line that passes voxel
# (0, 0) and how much further per voxel along p and q (3 rows); lines within a voxel of one; slope of their weights;
# rays' length; the voxel along y that the first ray passes, and how much further per voxel along p and q, and per line
# (4); the first element
_AT, _REACH, _SLOPE, _LENGTH, _Y, _FIRST = 0, 3, 4, 5, 6, 10
_EACH, _LEVEL, _WHOLE = 0, 1, 2  # how lines pass voxels along y: each in its way, all of a plane alike, through them


# ---------------------------------------------------------------- forward


@leaf
def _taps_of_line(line, planes, across, n, strides, origin, index, near, far, part):  # type: ignore[no-untyped-def]
    """The taps of a line in `planes`, pairs of voxels whose first is in `across`, and the next ones' part along y.

    `line` is (position across in plane 0, step a plane, voxel along y in plane 0, step, length). Returns how many, and
    the voxel along y of the first. Without a branch, so that it is vectorised.
    """
    first, end = planes
    if abs(line[1]) > 1e-6:
        a, b = (across[0] - line[0]) / line[1], (across[1] - line[0]) / line[1]
        first, end = max(first, ceil(min(a, b) - 1e-6)), min(end, floor(max(a, b) + 1e-6) + 1)
    begin, along = np.int32(first), np.int32(strides[0])  # in 32 bits, which vectors can convert
    for k in range(end - first):
        plane = np.int32(begin + np.int32(k))
        position, y = line[0] + plane * line[1], line[2] + plane * line[3]
        before, m = np.floor(position), np.floor(y)
        share, j = position - before, np.int32(before)
        inside = line[4] if (j >= across[0]) & (j < across[1]) else 0.0
        a, b = np.float32((1 - share) * inside), np.float32(share * inside)
        start = np.int32(np.int32(origin + plane * along) + np.int32(m))
        _store_pair(k, j, a, b, start, np.int32(strides[1]), n, index, near, far)
        part[k] = np.float32(y - m)
    return max(0, end - first), line[2] + first * line[3]


@leaf
def _lines_of_tile(r, planes, across, nu):  # type: ignore[no-untyped-def]
    """First and last-but-one of the lines that pass a tile."""
    a, b = r[3] * planes[0], r[3] * (planes[1] - 1)
    low, high = across[0] - max(a, b) - r[1], across[1] - min(a, b) - r[1]
    p, q = low / r[2], high / r[2]
    return max(0, floor(min(p, q))), min(nu, ceil(max(p, q)) + 1)


@leaf
def _project_tile(  # type: ignore[no-untyped-def]
    group, groups, voxels, tile, shape, pad, out, rays, needed, index, near, far, part
):  # fmt: skip
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
        whole = r[4] == floor(r[4]) and r[5] == floor(r[5]) and r[6] == floor(r[6])
        for share in range((group - _PARTS * t) % groups, _PARTS, groups):
            for i in range(max(seen, share * nu // _PARTS), min(unseen, (share + 1) * nu // _PARTS)):
                begin, end = needed[t, i, 0], needed[t, i, 1]
                if begin == end:
                    continue
                line = (r[1] + r[2] * i, r[3], r[4] + r[5] * i, r[6], r[7])
                count, y = _taps_of_line(line, planes, across, n, strides, pad, index, near, far, part)
                each = _FEW if abs(r[6]) > _OBLIQUE else _TILE
                for k in range(0, count, each):
                    # rays of the line that pass a voxel of some of the planes, by whole vectors
                    many = min(each, count - k)
                    one, other = y + k * r[6], y + (k + many - 1) * r[6]
                    low = max(begin, floor(-max(one, other)))
                    high = min(end, ceil(length - 2 * pad - min(one, other)) + (0 if whole else 1))
                    low, high = low - low % LANES, min(nv, high + -high % LANES)
                    if low < high:
                        row, at = out[t, i, low:high], index[k : k + many]
                        for tap in range(many):  # to the first voxel that is read: before it lies no memory of ours
                            at[tap] += np.int32(low)
                        a, b = near[k : k + many], far[k : k + many]
                        if whole:
                            add_pairs(voxels, at, a, b, gap, 0, row.size, row)
                        else:
                            add_pairs_between(voxels[:, 0], at, a, b, part[k : k + many], gap, row)


@jit
def _project(group, groups, volume, out, rays, needed, pad):  # type: ignore[no-untyped-def]
    if group < 0:
        in_parallel(group)
        return
    np_, nq, length = volume.shape
    voxels, nu, nv = volume.reshape(np_ * nq * length, 1), out.shape[1], out.shape[2]
    index, part = np.empty(_TILE, np.int32), np.empty(_TILE, np.float32)
    near, far = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for k in range(group, out.shape[0] * _PARTS, groups):
        for i in range(k % _PARTS * nu // _PARTS, (k % _PARTS + 1) * nu // _PARTS):
            for y in range(nv):
                out[k // _PARTS, i, y] = ZERO
    for p in range(0, np_, _TILE):
        for q in range(0, nq, _TILE):
            tile = (p, min(p + _TILE, np_)), (q, min(q + _TILE, nq))
            _project_tile(group, groups, voxels, tile, volume.shape, pad, out, rays, needed, index, near, far, part)


def project_rays(volume, out, rays, pad, needed=None):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (p, q, pad + y + pad) into `out` (tilt, line, row), in units of a voxel's edge.

    With `needed` (tilt, line, 2), int32, only rows of a line from the first to before the second have to be right. The
    volume's rows have `pad` zeros at both ends, more than 19 and 8 times the greatest step along y, or 8 where that is
    less.
    """
    groups = min(get_num_threads(), _PARTS * out.shape[0])
    if needed is None:
        needed = np.broadcast_to(np.array([0, out.shape[2]], np.int32), (*out.shape[:2], 2)).copy()
    _project(all_of(groups), groups, volume, out, rays, needed, pad)


# ---------------------------------------------------------------- back


@leaf
def _taps_of_voxel(p, q, tilts, pairs, shape, index, near, far, part):  # type: ignore[no-untyped-def]
    """The taps of a row of voxels at all tilts: lines on both sides of it, and two rays of each. Returns how many."""
    nu, nv = np.float64(shape[0]), np.float64(shape[1])
    n_tilts = tilts.shape[1]
    for line in range(2 * pairs):
        for t in range(n_tilts):
            at = tilts[_AT, t] + tilts[_AT + 1, t] * p + tilts[_AT + 2, t] * q  # between lines
            i = np.ceil(at - tilts[_REACH, t]) + line
            weight = max(1 - abs(i - at) * tilts[_SLOPE, t], 0.0) * (tilts[_LENGTH, t] if (i >= 0) & (i < nu) else 0.0)
            i = min(max(i, 0.0), nu - 1.0)
            y = tilts[_Y, t] + tilts[_Y + 1, t] * p + tilts[_Y + 2, t] * q + tilts[_Y + 3, t] * i
            m = np.floor(y)
            # ray j of the line gives to voxels j + m and j + m + 1
            k = line * n_tilts + t
            index[k] = np.int32(tilts[_FIRST, t] + i * nv - m - 1)
            near[k], far[k] = np.float32(weight * (y - m)), np.float32(weight * (1 - (y - m)))
    return _those_that_count(2 * pairs * n_tilts, index, near, far, part)


@leaf
def _taps_of_level_lines(p, q, tilts, pairs, shape, before, index, near, far, part):  # type: ignore[no-untyped-def]
    """The same where all lines of a tilt pass a plane's voxels alike along y: pairs of neighbouring lines.

    They start `before` rays before the ray that gives to the voxel and to the one before it.
    """
    nu, nv = shape
    n_tilts = tilts.shape[1]
    for pair in range(pairs):
        for t in range(n_tilts):
            at = tilts[_AT, t] + tilts[_AT + 1, t] * p + tilts[_AT + 2, t] * q
            y = tilts[_Y, t] + tilts[_Y + 1, t] * p + tilts[_Y + 2, t] * q
            m = np.floor(y)
            i, k = np.ceil(at - tilts[_REACH, t]) + 2 * pair, pair * n_tilts + t
            a = np.float32(max(1 - abs(i - at) * tilts[_SLOPE, t], 0.0) * tilts[_LENGTH, t])
            b = np.float32(max(1 - abs(i + 1 - at) * tilts[_SLOPE, t], 0.0) * tilts[_LENGTH, t])
            start = np.int32(tilts[_FIRST, t] - m - before)
            _store_pair(k, np.int32(i), a, b, start, np.int32(nv), nu, index, near, far)
            part[k] = np.float32(1 - (y - m))
    return n_tilts if pairs == 1 else _those_that_count(pairs * n_tilts, index, near, far, part)


@leaf
def _those_that_count(n, index, near, far, part):  # type: ignore[no-untyped-def]
    """The taps that weigh something, put first; how many they are."""
    count = 0
    for k in range(n):
        weighs = near[k] + far[k] > 0
        index[count], near[count], far[count], part[count] = index[k], near[k], far[k], part[k]
        count += weighs
    return count


@leaf
def _backproject_tile(lines, nu, nv, corner, out, tilts, pairs, kind, index, near, far, part):  # type: ignore[no-untyped-def]
    np_, nq, ny = out.shape
    shape, gap = (nu, nv), min(nu - 1, 1) * nv
    for i in range(corner[0], min(corner[0] + _TILE_BACK, np_)):
        for j in range(corner[1], min(corner[1] + _TILE_BACK, nq)):
            row, p, q = out[i, j], np.float64(i), np.float64(j)
            for y in range(ny):
                row[y] = ZERO
            if kind == _EACH:
                n = _taps_of_voxel(p, q, tilts, pairs, shape, index, near, far, part)
                add_between(lines[:, 0], index[:n], near[:n], far[:n], row)
            elif kind == _LEVEL:
                n = _taps_of_level_lines(p, q, tilts, pairs, shape, 1, index, near, far, part)
                add_pairs_between(lines[:, 0], index[:n], near[:n], far[:n], part, gap, row)
            else:
                n = _taps_of_level_lines(p, q, tilts, pairs, shape, 0, index, near, far, part)
                add_pairs(lines, index[:n], near[:n], far[:n], gap, 0, ny, row)


@jit
def _backproject(block, across, stack, out, tilts, pairs, kind):  # type: ignore[no-untyped-def]
    if block < 0:
        in_parallel(block)
        return
    n_tilts, nu, nv = stack.shape
    lines, most = stack.reshape(n_tilts * nu * nv, 1), 2 * pairs * n_tilts
    index, part = np.empty(most, np.int32), np.empty(most, np.float32)
    near, far = np.empty(most, np.float32), np.empty(most, np.float32)
    first = block // across * _BLOCK_BACK, block % across * _BLOCK_BACK
    for p in range(first[0], min(first[0] + _BLOCK_BACK, out.shape[0]), _TILE_BACK):
        for q in range(first[1], min(first[1] + _BLOCK_BACK, out.shape[1]), _TILE_BACK):
            _backproject_tile(lines, nu, nv, (p, q), out, tilts, pairs, kind, index, near, far, part)


def backproject_rays(stack, out, rays, pairs):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project_rays`, without the zeros: `stack` (tilt, line, row) into `out` (p, q, y).

    Rows are so many that every voxel lies between two of them; `pairs` of lines pass within a voxel of one.
    """
    axis, start, width, step, y, skew, rise, length = rays.T
    along, across = -step / width, 1 / width
    first, zero = np.arange(len(rays)) * np.prod(stack.shape[1:], dtype=np.float64), axis == 0
    at = [-start / width, np.where(zero, along, across), np.where(zero, across, along)]
    tilts = np.stack(
        [*at, abs(across), abs(width), length, y, np.where(zero, rise, 0), np.where(zero, 0, rise), skew, first]
    )
    whole = not rays[:, 5].any() and bool((rays[:, [4, 6]] == np.floor(rays[:, [4, 6]])).all())
    kind = _WHOLE if whole else _EACH if rays[:, 5].any() else _LEVEL
    down, across = (-(-n // _BLOCK_BACK) for n in out.shape[:2])
    _backproject(all_of(down * across), across, stack, out, tilts, pairs, kind)
