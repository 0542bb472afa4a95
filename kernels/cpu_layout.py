"""Changes of layout on the CPU, at the speed of memory: blocks that fit into the cache, on all cores."""

from __future__ import annotations

from recon.kernels.compiling import jit
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_turn import turn

_BLOCK = 32  # elements on an edge of what is transposed at a time


@jit
def _exchange_last_two(part, down, source, out, keep, pad):  # type: ignore[no-untyped-def]
    if part < 0:
        in_parallel(part)
        return
    k, first, (_, rows, columns) = part // down, part % down * _BLOCK, source.shape
    into = out[k, :, pad:]
    for start in range(0, columns, _BLOCK):
        turn(source[k], first, min(first + _BLOCK, rows), start, min(start + _BLOCK, columns), into, keep)


@jit
def _exchange_outer_two(part, right, source, out, keep, pad):  # type: ignore[no-untyped-def]
    if part < 0:
        in_parallel(part)
        return
    k, start, (rows, _, columns) = part // right, part % right * _BLOCK, source.shape
    into = out[:, k, pad:]
    for first in range(0, rows, _BLOCK):
        end, stop = min(first + _BLOCK, rows), min(start + _BLOCK, columns)
        turn(source[:, k], first, end, start, stop, into, keep)


def exchange(source, out, axis, pad=0):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) with `axis`, 0 or 1, and the last one exchanged, into `out`, `pad` elements into its rows."""
    _exchange(source, out, axis, False, pad)


def exchange_add(source, out, axis):  # type: ignore[no-untyped-def]
    """The same, added to `out`."""
    _exchange(source, out, axis, True, 0)


def _exchange(source, out, axis, keep, pad):  # type: ignore[no-untyped-def]
    kernel, split = (_exchange_outer_two, 2) if axis == 0 else (_exchange_last_two, 1)
    blocks = -(-source.shape[split] // _BLOCK)
    kernel(all_of(source.shape[1 - axis] * blocks), blocks, source, out, keep, pad)


@jit
def _pad_rows(i, source, out, pad):  # type: ignore[no-untyped-def]
    if i < 0:
        in_parallel(i)
        return
    for j in range(source.shape[1]):
        row, into = source[i, j], out[i, j]
        for k in range(row.size):
            into[pad + k] = row[k]


def pad_rows(source, out, pad):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) into the middle of `out` (a, b, pad + c + pad), whose ends stay as they are."""
    _pad_rows(all_of(len(source)), source, out, pad)


@jit
def _add(i, source, out):  # type: ignore[no-untyped-def]
    if i < 0:
        in_parallel(i)
        return
    for j in range(source.shape[1]):
        row, into = source[i, j], out[i, j]
        for k in range(row.size):
            into[k] += row[k]


def add(source, out):  # type: ignore[no-untyped-def]
    """out += source, arrays of three axes."""
    _add(all_of(len(source)), source, out)
