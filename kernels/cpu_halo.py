"""What steps need of the slices beside a slab, taken from and put into buffers row by row, while rows are in cache.

Such a slice is a column of the slab's rows: by itself, each word of it would cost a cache line. `recon.kernels.halo`
describes the buffers, and its `unpack` and `pack` do the same all at once; `cpu_tgv` tells which rows are due when.
"""

from __future__ import annotations

from recon.kernels.compiling import leaf

# q of a row by what reads it: the row before it along z, or along x and itself
_ALONG_Z, _ALONG_X = (0, 3, 4), (1, 2, 5)


@leaf
def _unpack_p(z, x, p, halo):  # type: ignore[no-untyped-def]
    before, after, first, end = halo[0], halo[1], halo[4], halo[5]
    for k in range(min(before.shape[0], 3)):
        p[k, z, x, first - 1] = before[k, z, x]
    for k in range(min(after.shape[0], 3)):
        p[k, z, x, end] = after[k, z, x]


@leaf
def _unpack_q_along_z(z, x, q, halo):  # type: ignore[no-untyped-def]
    before, after, first, end = halo[0], halo[1], halo[4], halo[5]
    if before.shape[0] > 3:
        for k in _ALONG_Z:
            q[k, z, x, first - 1] = before[3 + k, z, x]
    if after.shape[0] > 3:
        q[4, z, x, end] = after[4, z, x]


@leaf
def _unpack_q_along_x(z, x, q, halo):  # type: ignore[no-untyped-def]
    before, after, first, end = halo[0], halo[1], halo[4], halo[5]
    if before.shape[0] > 3:
        for k in _ALONG_X:
            q[k, z, x, first - 1] = before[3 + k, z, x]
    if after.shape[0] > 3:
        q[2, z, x, end], q[5, z, x, end] = after[3, z, x], after[5, z, x]


@leaf
def _pack_p(z, x, p, halo):  # type: ignore[no-untyped-def]
    before, after, first, end = halo[2], halo[3], halo[4], halo[5]
    for k in range(min(before.shape[0], 3)):
        before[k, z, x] = p[k, z, x, first]
    for k in range(min(after.shape[0], 3)):
        after[k, z, x] = p[k, z, x, end - 1]


@leaf
def _pack_q(z, x, q, halo):  # type: ignore[no-untyped-def]
    before, after, first, end = halo[2], halo[3], halo[4], halo[5]
    if before.shape[0] > 3:
        before[3, z, x], before[4, z, x], before[5, z, x] = q[2, z, x, first], q[4, z, x, first], q[5, z, x, first]
    if after.shape[0] > 3:
        for k in range(6):
            after[3 + k, z, x] = q[k, z, x, end - 1]
