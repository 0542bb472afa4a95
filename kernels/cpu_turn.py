"""Small squares transposed in vector registers: what a change of layout spends its time on.

LLVM makes single loads and stores of such a loop, or scattered ones, which take three times as long as a copy.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recon.kernels.compiling import ZERO, leaf

EDGE = 8  # of a square
_I32, _I64, _VECTOR = ir.IntType(32), ir.IntType(64), ir.VectorType(ir.FloatType(), EDGE)
_LOW = [n for k in range(EDGE // 2) for n in (k, EDGE + k)]  # the first halves of two vectors, interleaved
_HIGH = [n + EDGE // 2 for n in _LOW]


@intrinsic
def _turn_square(_context, source, row, column, out, keep):  # type: ignore[no-untyped-def]
    """out[column : + EDGE, row : + EDGE] = the transpose of source[row : + EDGE, column : + EDGE], or adds it."""

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        def rows(k, first, start):  # type: ignore[no-untyped-def]
            a = context.make_array(signature.args[k])(context, builder, args[k])
            stride = cgutils.unpack_tuple(builder, a.strides, 2)[0]
            data = builder.bitcast(a.data, ir.IntType(8).as_pointer())
            corner = builder.add(builder.mul(first, stride), builder.mul(start, _I64(4)))
            for i in range(EDGE):
                at = builder.add(corner, builder.mul(stride, _I64(i)))
                yield builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())

        def interleave(a, b, order):  # type: ignore[no-untyped-def]
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, EDGE), order))

        square = [builder.load(pointer, align=4) for pointer in rows(0, args[1], args[2])]
        for _ in range(EDGE.bit_length() - 1):  # each round turns the indices' bits by one
            pairs = [(square[i], square[i + EDGE // 2]) for i in range(EDGE // 2)]
            square = [interleave(a, b, order) for a, b in pairs for order in (_LOW, _HIGH)]
        for vector, pointer in zip(square, rows(3, args[2], args[1]), strict=True):
            before = builder.select(args[4], builder.load(pointer, align=4), ir.Constant(_VECTOR, None))
            builder.store(builder.fadd(vector, before), pointer, align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, out, types.boolean), emit


@leaf
def turn(source, first, end, start, stop, out, keep):  # type: ignore[no-untyped-def]
    """out[j, i] = source[i, j] for rows i from `first` to before `end` and columns j from `start` to before `stop`.

    With `keep` they are added to what is there. Rows of both, float32, are contiguous.
    """
    whole_i, whole_j = end - (end - first) % EDGE, stop - (stop - start) % EDGE
    for j in range(start, whole_j, EDGE):
        for i in range(first, whole_i, EDGE):
            _turn_square(source, i, j, out, keep)
    for i in range(first, end):
        for j in range(start if i >= whole_i else whole_j, stop):
            out[j, i] = source[i, j] + (out[j, i] if keep else ZERO)
