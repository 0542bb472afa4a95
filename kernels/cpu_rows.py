"""Sums of weighted rows in vector registers: what both directions of the projector spend their time on.

LLVM vectorises the loop along a row, and would load and store the sum again for every few rows that are added. Here
the loop over rows is the inner one and the sum stays in registers, which Numba can only be told in LLVM's own terms.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recon.kernels.compiling import leaf

LANES = 16
WIDE = 4 * LANES  # elements of a row that are summed at a time, 8 registers of AVX2 or 4 of AVX-512
_I32, _I64, _VECTOR = ir.IntType(32), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)


def vector(builder: Any, pointer: Any, offset: int) -> Any:
    """The address of the vector that begins `offset` elements after `pointer`."""
    return builder.bitcast(builder.gep(pointer, [_I64(offset)]), _VECTOR.as_pointer())


def in_all_lanes(builder: Any, pointer: Any, k: Any) -> Any:
    """A vector of which each element is ``pointer[k]``."""
    one = builder.insert_element(UNDEFINED, builder.load(builder.gep(pointer, [k])), _I32(0))
    return builder.shuffle_vector(one, UNDEFINED, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def multiply_adder(builder: Any) -> Any:
    """``f(a, b, c) = a b + c`` of vectors: in one instruction where the processor has it, else in two."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")


def _adder(elements: int) -> Any:
    """What `add_pairs` does for `elements` elements of a row, from `first` on; a function for compiled code."""
    places = range(0, elements, LANES)

    @intrinsic
    def add(_context, rows, index, near, far, _gap, _first, out):  # type: ignore[no-untyped-def]
        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            def array(k):  # type: ignore[no-untyped-def]
                return context.make_array(signature.args[k])(context, builder, args[k])

            source, at, (near, far, target) = array(0), array(1), (array(k).data for k in (2, 3, 6))
            length = cgutils.unpack_tuple(builder, source.shape, 2)[1]
            (count,) = cgutils.unpack_tuple(builder, at.shape, 1)
            column, target = builder.gep(source.data, [args[5]]), builder.gep(target, [args[5]])
            gap, multiply_add = builder.mul(args[4], length), multiply_adder(builder)
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in places]  # LLVM makes registers of them
            for sum_, v in zip(sums, places, strict=True):
                builder.store(builder.load(vector(builder, target, v), align=4), sum_)
            with cgutils.for_range(builder, count) as loop:
                k = builder.sext(builder.load(builder.gep(at.data, [loop.index])), _I64)
                row = builder.gep(column, [builder.mul(k, length)])
                for pointer, weights in ((row, near), (builder.gep(row, [gap]), far)):
                    weight = in_all_lanes(builder, weights, loop.index)
                    for sum_, v in zip(sums, places, strict=True):
                        element = builder.load(vector(builder, pointer, v), align=4)
                        builder.store(builder.call(multiply_add, [weight, element, builder.load(sum_)]), sum_)
            for sum_, v in zip(sums, places, strict=True):
                builder.store(builder.load(sum_), vector(builder, target, v), align=4)
            return context.get_dummy_value()

        return types.void(rows, index, near, far, types.intp, types.intp, out), emit

    return add


_add_four, _add_three, _add_two, _add_one = (_adder(n * LANES) for n in (4, 3, 2, 1))


@leaf
def add_pairs(rows, index, near, far, gap, low, high, out):  # type: ignore[no-untyped-def]
    """out += sum over k of ``near[k] rows[index[k]] + far[k] rows[index[k] + gap]``, elements `low` to before `high`.

    `rows` (n, length) and `out` (length,), `near` and `far` are float32, `index` int32, all in C order.
    """
    y = low
    while y + WIDE <= high:
        _add_four(rows, index, near, far, gap, y, out)
        y += WIDE
    vectors = (high - y) // LANES  # all at once: every call reads all weights
    if vectors == 3:
        _add_three(rows, index, near, far, gap, y, out)
    elif vectors == 2:
        _add_two(rows, index, near, far, gap, y, out)
    elif vectors == 1:
        _add_one(rows, index, near, far, gap, y, out)
    y += vectors * LANES
    if y < high:
        for k in range(index.size):
            a, b, p, q = rows[index[k]], rows[index[k] + gap], near[k], far[k]
            for i in range(y, high):
                out[i] += p * a[i] + q * b[i]
