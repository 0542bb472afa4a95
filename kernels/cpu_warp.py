"""The detector warp on the CPU, bilinear.

Recorded pixel (i, j) shows the ideal projection at (p, q) = A (i, j) + b; ideal pixel (k, l) enters with weight
tent(p - k) tent(q - l). `affine` (tilt, 6) holds A00 A01 b0 A10 A11 b1, indices (u, y). Where A is the identity a row
along y is a sum of shifted rows.
"""

from __future__ import annotations

from math import floor

import numpy as np

from recon.kernels.compiling import ZERO, jit, leaf
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


@leaf
def _gather(source, a, i, out):  # type: ignore[no-untyped-def]
    """Recorded column i from the ideal projection `source` (u, y)."""
    nu, ny = source.shape
    for j in range(out.size):
        p = a[0] * i + a[1] * j + a[2]
        q = a[3] * i + a[4] * j + a[5]
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
        out[j] = total


@leaf
def _within(start, slope, low, high, n):  # type: ignore[no-untyped-def]
    """First and last-but-one index below n at which start + slope index may lie between `low` and `high`."""
    if abs(slope) < 1e-12:
        return (0, n) if low - 1e-6 < start < high + 1e-6 else (0, 0)
    a, b = (low - start) / slope, (high - start) / slope
    return max(0, floor(min(a, b))), min(n, floor(max(a, b)) + 2)


@leaf
def _scatter(source, a, k, out):  # type: ignore[no-untyped-def]
    """Adds to ideal column k what the recorded frame `source` (u, y) gives it."""
    mu, my = source.shape
    ny = out.size
    # the columns of which some pixel reaches k
    least, most = min(ZERO, a[1] * (my - 1)), max(ZERO, a[1] * (my - 1))
    first, end = _within(a[2], a[0], k - 1 - most, k + 1 - least, mu)
    for i in range(first, end):
        start = a[0] * i + a[2]
        low, high = _within(start, a[1], k - 1.0, k + 1.0, my)
        for j in range(low, high):
            across = 1 - abs(start + a[1] * j - k)
            if across > 0:
                q = a[3] * i + a[4] * j + a[5]
                m = floor(q)
                near, far = np.float32(across * (1 - (q - m))), np.float32(across * (q - m))
                if 0 <= m < ny:
                    out[m] += near * source[i, j]
                if 0 <= m + 1 < ny:
                    out[m + 1] += far * source[i, j]


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
def _warp_adjoint(line, stack, out, affine):  # type: ignore[no-untyped-def]
    if line < 0:
        in_parallel(line)
        return
    t, k = line // out.shape[1], line % out.shape[1]
    a, row = affine[t], out[t, k]
    for m in range(row.size):
        row[m] = ZERO
    if _is_shift(a):
        _add_between(stack[t], (k - a[2], -a[5]), row)
    else:
        _scatter(stack[t], a, k, row)


def warp_adjoint(stack, out, affine):  # type: ignore[no-untyped-def]
    """The exact adjoint of `warp`: each ideal column gathers the recorded pixels that reach it."""
    _warp_adjoint(all_of(out.shape[0] * out.shape[1]), stack, out, affine)
