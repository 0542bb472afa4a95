"""The detector warp on the CPU, bilinear.

Recorded pixel (i, j) shows the ideal projection at (p, q) = A (i, j) + b; ideal pixel (k, l) enters with weight
tent(p - k) tent(q - l). `affine` (tilt, 6) holds A00 A01 b0 A10 A11 b1, indices (u, y). Where A is the identity a row
along y is a sum of shifted rows.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from recon.kernels.compiling import ONE, TWO, ZERO, jit, leaf
from recon.kernels.cpu_parallel import all_of, in_parallel


@leaf
def _add_shifted(source, by, weight, out):  # type: ignore[no-untyped-def]
    """out[j] += weight source[j + by], where that exists."""
    first, end = max(0, -by), min(out.size, source.size - by)
    if first < end:
        part, into = source[first + by : end + by], out[first:end]
        for j in range(into.size):
            into[j] += weight * part[j]


@leaf
def _add_between(source, by, out):  # type: ignore[no-untyped-def]
    """out[..., j] += source at (i, j) + by, linear in both; `source` (u, y)."""
    k, m = floor(by[0]), floor(by[1])
    fp, fq = by[0] - k, by[1] - m
    for column, across in ((k, 1 - fp), (k + 1, fp)):
        if across > 0 and 0 <= column < source.shape[0]:
            for row, along in ((m, 1 - fq), (m + 1, fq)):
                if along > 0:
                    _add_shifted(source[column], row, np.float32(across * along), out)


@leaf
def _is_shift(a):  # type: ignore[no-untyped-def]
    return a[0] == 1 and a[1] == 0 and a[3] == 0 and a[4] == 1


# Along a column both indices grow evenly. Where the axis is rotated by little, a few pixels in a row lie between few
# columns, and each one row further: they are taken together, in registers.
LANES = 8  # pixels that are taken together
STEEP = 0.25  # columns a row, or rows beyond one, from which these would lie between more than `SPAN` columns
SPAN = 4
THREE = np.float32(3)
_LANE = np.arange(LANES, dtype=np.float32)


@leaf
def _pixel(source, p, q):  # type: ignore[no-untyped-def]
    """`source` (u, y) at (p, q), 0 outside."""
    nu, ny = source.shape
    k, m = floor(p), floor(q)
    fp, fq = p - k, q - m
    total = 0.0
    if 0 <= k < nu:
        if 0 <= m < ny:
            total += (1 - fp) * (1 - fq) * source[k, m]
        if 0 <= m + 1 < ny:
            total += (1 - fp) * fq * source[k, m + 1]
    if 0 <= k + 1 < nu:
        if 0 <= m < ny:
            total += fp * (1 - fq) * source[k + 1, m]
        if 0 <= m + 1 < ny:
            total += fp * fq * source[k + 1, m + 1]
    return np.float32(total)


@leaf
def _inside(line, n, most):  # type: ignore[no-untyped-def]
    """First and last-but-one of the n indices at which ``line[0] + line[1] index`` is from 0 to before most - 1."""
    start, slope = line
    if slope == 0:
        return (0, n) if 0 <= start < most - 1 else (0, 0)
    a, b = -start / slope, (most - 1 - start) / slope
    first = min(n, max(0, ceil(min(a, b) + 1e-9)))
    return first, max(first, min(n, ceil(max(a, b) - 1e-9)))


@leaf
def _gather_steep(source, across, along, out):  # type: ignore[no-untyped-def]
    """A column whose pixel j lies at (across[0] + across[1] j, along[0] + along[1] j) of `source` (u, y)."""
    nu, ny = source.shape
    n, flat = out.size, source.reshape(nu * ny)
    first, end = _inside(across, n, nu)
    low, high = _inside(along, n, ny)
    first, end = max(first, low), min(end, high)
    for j in range(first, end):  # all four neighbours exist, but for what rounding does where p or q hardly grows
        p, q = across[0] + across[1] * j, along[0] + along[1] * j
        k, m = min(np.int32(p), np.int32(nu - 2)), min(np.int32(q), np.int32(ny - 2))
        fp, fq, at = np.float32(p - k), np.float32(q - m), k * np.int32(ny) + m
        here = flat[at] + fp * (flat[at + ny] - flat[at])
        after = flat[at + 1] + fp * (flat[at + ny + 1] - flat[at + 1])
        out[j] = here + fq * (after - here)
    for j in range(first):
        out[j] = _pixel(source, across[0] + across[1] * j, along[0] + along[1] * j)
    for j in range(max(first, end), n):
        out[j] = _pixel(source, across[0] + across[1] * j, along[0] + along[1] * j)


@leaf
def _within(start, slope, low, high, n):  # type: ignore[no-untyped-def]
    """First and last-but-one index below n at which start + slope index may lie between `low` and `high`."""
    if abs(slope) < 1e-12:
        return (0, n) if low - 1e-6 < start < high + 1e-6 else (0, 0)
    a, b = (low - start) / slope, (high - start) / slope
    return max(0, floor(min(a, b))), min(n, floor(max(a, b)) + 2)


@leaf
def _together(q, dq, ny):  # type: ignore[no-untyped-def]
    """Whether `LANES` pixels, the first at row q and each one row and dq further, all lie between two of ny rows."""
    return (floor(q) == floor(q + dq * (LANES - 1))) & (q >= 0) & (floor(q) + LANES < ny)


@leaf
def _gather(source, a, i, out):  # type: ignore[no-untyped-def]
    """Recorded column i from the ideal projection `source` (u, y)."""
    nu, ny = source.shape
    p0, q0, dp, dq = a[0] * i + a[2], a[3] * i + a[5], a[1], a[4] - 1
    if abs(dp) + abs(dq) > STEEP:
        _gather_steep(source, (p0, dp), (q0, a[4]), out)
        return
    begin, end = _within(q0, a[4], -1.0, ny + ZERO, out.size)  # elsewhere there is nothing
    for j in range(min(begin, out.size)):
        out[j] = ZERO
    for j in range(max(end, 0), out.size):
        out[j] = ZERO
    j = begin
    while j < end:
        p, q = p0 + dp * j, q0 + a[4] * j
        k, m = floor(min(p, p + dp * (LANES - 1))), floor(q)
        if j + LANES > end or k < 0 or k + SPAN > nu or not _together(q, dq, ny):
            out[j] = _pixel(source, p, q)
            j += 1
            continue
        part = out[j : j + LANES]
        f, df, g, dg = np.float32(p - k), np.float32(dp), np.float32(q - m), np.float32(dq)
        c0, c1 = source[k, m : m + LANES + 1], source[k + 1, m : m + LANES + 1]
        c2, c3 = source[k + 2, m : m + LANES + 1], source[k + 3, m : m + LANES + 1]
        for x in range(LANES):
            across, along = f + df * _LANE[x], g + dg * _LANE[x]
            w0, w1 = max(ZERO, ONE - abs(across)), max(ZERO, ONE - abs(across - ONE))
            w2, w3 = max(ZERO, ONE - abs(across - TWO)), max(ZERO, ONE - abs(across - THREE))
            here = w0 * c0[x] + w1 * c1[x] + w2 * c2[x] + w3 * c3[x]
            after = w0 * c0[x + 1] + w1 * c1[x + 1] + w2 * c2[x + 1] + w3 * c3[x + 1]
            part[x] = here + along * (after - here)
        j += LANES


@leaf
def _spread(value, p, q, out):  # type: ignore[no-untyped-def]
    """Adds to a column what a pixel p columns away at row q gives it."""
    across, m = 1 - abs(p), floor(q)
    if across > 0:
        if 0 <= m < out.size:
            out[m] += np.float32(across * (1 - (q - m))) * value
        if 0 <= m + 1 < out.size:
            out[m + 1] += np.float32(across * (q - m)) * value


@leaf
def _spread_row(values, p, dp, q, dq, out):  # type: ignore[no-untyped-def]
    """The same of a few pixels, each one row further, the first p columns away and q rows beyond the first of `out`."""
    for x in range(LANES):
        across, along = p + dp * _LANE[x], q + dq * _LANE[x]
        out[x] += max(ZERO, ONE - abs(across)) * (ONE - along) * values[x]
    after = out[1:]
    for x in range(LANES):
        across, along = p + dp * _LANE[x], q + dq * _LANE[x]
        after[x] += max(ZERO, ONE - abs(across)) * along * values[x]


BLOCK = 32  # columns of the ideal detector that are gathered at a time


@leaf
def _scatter(source, a, first, out):  # type: ignore[no-untyped-def]
    """Adds to the ideal columns `out` (u, y), from column `first` on, what the recorded frame `source` (u, y) gives."""
    mu, my = source.shape
    columns, ny = out.shape
    dp, dq = a[1], a[4] - 1
    steep = abs(dp) + abs(dq) > STEEP
    # the recorded columns of which some pixel reaches them
    least, most = min(ZERO, dp * (my - 1)), max(ZERO, dp * (my - 1))
    begin, end = _within(a[2] - first, a[0], -1 - most, columns - least, mu)
    for i in range(begin, end):
        p0, q0 = a[0] * i + a[2] - first, a[3] * i + a[5]
        j, high = _within(p0, dp, -1.0, columns + ZERO, my)
        low, last = _within(q0, a[4], -1.0, ny + ZERO, my)
        j, high = max(j, low), min(high, last)
        while j < high:
            p, q = p0 + dp * j, q0 + a[4] * j
            k, m = floor(min(p, p + dp * (LANES - 1))), floor(q)
            if steep or j + LANES > high or not _together(q, dq, ny):
                for column in range(max(floor(p), 0), min(floor(p) + 2, columns)):
                    _spread(source[i, j], p - column, q, out[column])
                j += 1
                continue
            part, df, g, dg = source[i, j : j + LANES], np.float32(dp), np.float32(q - m), np.float32(dq)
            beyond = floor(max(p, p + dp * (LANES - 1))) + 2
            for column in range(max(k, 0), min(beyond, columns)):
                _spread_row(part, np.float32(p - column), df, g, dg, out[column, m : m + LANES + 1])
            j += LANES


@jit
def _warp(line, stack, out, affine):  # type: ignore[no-untyped-def]
    if line < 0:
        in_parallel(line)
        return
    t, i = line // out.shape[1], line % out.shape[1]
    a, row = affine[t], out[t, i]
    if _is_shift(a):
        for j in range(row.size):
            row[j] = ZERO
        _add_between(stack[t], (a[2] + i, a[5]), row)
    else:
        _gather(stack[t], a, i, row)


def warp(stack, out, affine):  # type: ignore[no-untyped-def]
    """Ideal projections `stack` (tilt, u, y) as recorded, into `out` (tilt, u, y); zero outside."""
    _warp(all_of(out.shape[0] * out.shape[1]), stack, out, affine)


@jit
def _warp_adjoint(block, stack, out, affine):  # type: ignore[no-untyped-def]
    if block < 0:
        in_parallel(block)
        return
    blocks = (out.shape[1] + BLOCK - 1) // BLOCK
    t, first = block // blocks, block % blocks * BLOCK
    a, columns = affine[t], out[t, first : first + BLOCK]
    for k in range(columns.shape[0]):
        for m in range(columns.shape[1]):
            columns[k, m] = ZERO
    if _is_shift(a):
        for k in range(columns.shape[0]):
            _add_between(stack[t], (first + k - a[2], -a[5]), columns[k])
    else:
        _scatter(stack[t], a, first, columns)


def warp_adjoint(stack, out, affine):  # type: ignore[no-untyped-def]
    """The exact adjoint of `warp`: each ideal column gathers the recorded pixels that reach it."""
    _warp_adjoint(all_of(out.shape[0] * ((out.shape[1] + BLOCK - 1) // BLOCK)), stack, out, affine)
