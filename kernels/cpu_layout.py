"""Changes of layout on the CPU, at the speed of memory: blocks that fit into the cache, on all cores."""

from __future__ import annotations

import numpy as np
from numba import prange

from recon.kernels.compiling import jit
from recon.kernels.cpu_turn import turn

_BLOCK = 32  # elements on an edge of what is transposed at a time


@jit
def _exchange_last_two(source, out, keep, pad):  # type: ignore[no-untyped-def]
    n, rows, columns = source.shape
    down = -(-rows // _BLOCK)
    for part in prange(n * down):
        k, first = np.intp(part) // down, np.intp(part) % down * _BLOCK
        into = out[k, :, pad:]
        for start in range(0, columns, _BLOCK):
            turn(source[k], first, min(first + _BLOCK, rows), start, min(start + _BLOCK, columns), into, keep)


@jit
def _exchange_outer_two(source, out, keep, pad):  # type: ignore[no-untyped-def]
    rows, n, columns = source.shape
    right = -(-columns // _BLOCK)
    for part in prange(n * right):
        k, start = np.intp(part) // right, np.intp(part) % right * _BLOCK
        into = out[:, k, pad:]
        for first in range(0, rows, _BLOCK):
            end, stop = min(first + _BLOCK, rows), min(start + _BLOCK, columns)
            turn(source[:, k], first, end, start, stop, into, keep)


def exchange(source, out, axis, pad=0):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) with `axis`, 0 or 1, and the last one exchanged, into `out`, `pad` elements into its rows."""
    (_exchange_outer_two if axis == 0 else _exchange_last_two)(source, out, False, pad)


def exchange_add(source, out, axis):  # type: ignore[no-untyped-def]
    """The same, added to `out`."""
    (_exchange_outer_two if axis == 0 else _exchange_last_two)(source, out, True, 0)


@jit
def pad_rows(source, out, pad):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) into the middle of `out` (a, b, pad + c + pad), whose ends stay as they are."""
    for i in prange(source.shape[0]):
        for j in range(source.shape[1]):
            row, into = source[i, j], out[i, j]
            for k in range(row.size):
                into[pad + k] = row[k]


@jit
def add(source, out):  # type: ignore[no-untyped-def]
    """out += source, arrays of three axes."""
    for i in prange(source.shape[0]):
        for j in range(source.shape[1]):
            row, into = source[i, j], out[i, j]
            for k in range(row.size):
                into[k] += row[k]
