"""Rows are asked for before they are read, so that memory works while the processor computes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recon.kernels.compiling import leaf
from recon.kernels.cpu_memory import LINE

FLOATS_OF_A_LINE = LINE // 4  # a step that is known when it is compiled
_I32 = ir.IntType(32)
_READ, _TO_ALL_CACHES, _DATA = _I32(0), _I32(3), _I32(1)


@intrinsic
def _fetch_element(_context: Any, row: Any, _i: Any) -> Any:
    """Ask for the cache line of element `i` of a row."""

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [address, _READ, _TO_ALL_CACHES, _DATA])
        return context.get_dummy_value()

    return types.void(row, types.intp), emit


@leaf
def fetch(a, b, c):  # type: ignore[no-untyped-def]
    """Ask for three rows of one size."""
    for i in range(0, a.size, FLOATS_OF_A_LINE):
        _fetch_element(a, i)
        _fetch_element(b, i)
        _fetch_element(c, i)
