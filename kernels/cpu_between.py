"""Sums of weighted rows that are read between their elements, in vector registers.

A ray that passes between the voxels of a row takes a part of one and the rest of the next. The row moved by one element
is put together from registers, since each load of it would cross lines of the cache: half as many loads as `add_pairs`
would need for the same sum.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recon.kernels.compiling import leaf
from recon.kernels.cpu_rows import LANES, in_all_lanes, multiply_adder, vector

_I32, _I64, _VECTOR = ir.IntType(32), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
_ONE = ir.Constant(_VECTOR, [1.0] * LANES)
_MOVED = ir.Constant(ir.VectorType(_I32, LANES), list(range(1, LANES + 1)))  # of two vectors, one element on
_MOST = 4  # vectors that are summed at a time


def _adder(vectors: int, pair: bool) -> Any:
    """What the functions below do for as many vectors of a row, from `first` on; a function for compiled code."""
    places = range(0, vectors * LANES, LANES)

    @intrinsic
    def add(_context, source, index, near, far, part, _gap, _first, out):  # type: ignore[no-untyped-def]
        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            def array(k):  # type: ignore[no-untyped-def]
                return context.make_array(signature.args[k])(context, builder, args[k])

            at, (data, near, far, part, target) = array(1), (array(k).data for k in (0, 2, 3, 4, 7))
            (count,) = cgutils.unpack_tuple(builder, at.shape, 1)
            column, target = builder.gep(data, [args[6]]), builder.gep(target, [args[6]])
            multiply_add = multiply_adder(builder)
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in places]  # LLVM makes registers of them
            for sum_, v in zip(sums, places, strict=True):
                builder.store(builder.load(vector(builder, target, v), align=4), sum_)
            with cgutils.for_range(builder, count) as loop:
                k = builder.sext(builder.load(builder.gep(at.data, [loop.index])), _I64)
                row = builder.gep(column, [k])
                other = builder.gep(row, [args[5]])
                a, b = (in_all_lanes(builder, weights, loop.index) for weights in (near, far))

                if pair:
                    second = in_all_lanes(builder, part, loop.index)
                    first = builder.fsub(_ONE, second)
                    taps = [
                        (p, k, builder.fmul(x, w))
                        for p, w in ((row, a), (other, b))
                        for k, x in ((0, first), (1, second))
                    ]
                else:
                    taps = [(row, 0, a), (row, 1, b)]
                for pointer, ahead, weight in taps:
                    for sum_, v in zip(sums, places, strict=True):
                        element = builder.load(vector(builder, pointer, v + ahead), align=4)
                        builder.store(builder.call(multiply_add, [weight, element, builder.load(sum_)]), sum_)
            for sum_, v in zip(sums, places, strict=True):
                builder.store(builder.load(sum_), vector(builder, target, v), align=4)
            return context.get_dummy_value()

        return types.void(source, index, near, far, part, types.intp, types.intp, out), emit

    return add


_pair_1, _pair_2, _pair_3, _pair_4 = (_adder(n, True) for n in range(1, _MOST + 1))
_one_1, _one_2, _one_3, _one_4 = (_adder(n, False) for n in range(1, _MOST + 1))


@leaf
def add_pairs_between(source, index, near, far, part, gap, out):  # type: ignore[no-untyped-def]
    """out[j] += sum over k of ``(1 - part[k]) both[k, j] + part[k] both[k, j + 1]``.

    ``both[k, j] = near[k] source[index[k] + j] + far[k] source[index[k] + gap + j]``. All are float32 in C order and of
    one axis, but for `index`, int32.
    """
    y, end = 0, out.size
    while y + _MOST * LANES <= end:
        _pair_4(source, index, near, far, part, gap, y, out)
        y += _MOST * LANES
    vectors = (end - y) // LANES
    if vectors == 3:
        _pair_3(source, index, near, far, part, gap, y, out)
    elif vectors == 2:
        _pair_2(source, index, near, far, part, gap, y, out)
    elif vectors == 1:
        _pair_1(source, index, near, far, part, gap, y, out)
    y += vectors * LANES
    if y < end:
        for k in range(index.size):
            a, b, f = source[index[k] :], source[index[k] + gap :], part[k]
            p, q = near[k], far[k]
            for i in range(y, end):
                here, after = p * a[i] + q * b[i], p * a[i + 1] + q * b[i + 1]
                out[i] += here + f * (after - here)


@leaf
def add_between(source, index, near, far, out):  # type: ignore[no-untyped-def]
    """out[j] += sum over k of ``near[k] source[index[k] + j] + far[k] source[index[k] + j + 1]``, as above."""
    y, end = 0, out.size
    while y + _MOST * LANES <= end:
        _one_4(source, index, near, far, near, 0, y, out)
        y += _MOST * LANES
    vectors = (end - y) // LANES
    if vectors == 3:
        _one_3(source, index, near, far, near, 0, y, out)
    elif vectors == 2:
        _one_2(source, index, near, far, near, 0, y, out)
    elif vectors == 1:
        _one_1(source, index, near, far, near, 0, y, out)
    y += vectors * LANES
    if y < end:
        for k in range(index.size):
            a, p, q = source[index[k] :], near[k], far[k]
            for i in range(y, end):
                out[i] += p * a[i] + q * a[i + 1]
