"""Numbers stored in 16 bits, IEEE half precision, and computed with in float32, see `recon.kernels`.

Numba has no such type for the CPU, LLVM has: arrays are uint16, and each load or store is one conversion, which
vector units do (F16C on x86). `load` and `store` take float32 arrays as they are, so that one kernel serves both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_BITS, _HALF, _SINGLE = ir.IntType(16), ir.HalfType(), ir.FloatType()


def stored(a: Any) -> Any:
    """An array as the kernels take it: float16 as uint16."""
    return a.view(np.uint16) if a.dtype == np.float16 else a


@intrinsic
def _widen(_context, bits):  # type: ignore[no-untyped-def]
    def emit(_target, builder, _signature, args):  # type: ignore[no-untyped-def]
        return builder.fpext(builder.bitcast(args[0], _HALF), _SINGLE)

    return types.float32(bits), emit


@intrinsic
def _narrow(_context, value):  # type: ignore[no-untyped-def]
    def emit(_target, builder, _signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(builder.fptrunc(args[0], _HALF), _BITS)

    return types.uint16(value), emit


def load(a: Any, i: int, unit: Any) -> Any:
    """Element i of a row, in units of `unit` if it is a half."""
    raise NotImplementedError("for compiled code")


def store(a: Any, i: int, unit: Any, value: Any) -> None:
    """The reverse; `unit` is that of `load`, inverted."""
    raise NotImplementedError("for compiled code")


@overload(load, inline="always")
def _load(a, i, unit):  # type: ignore[no-untyped-def]
    if a.dtype == types.float32:
        return lambda a, i, unit: a[i]
    return lambda a, i, unit: unit * _widen(a[i])


@overload(store, inline="always")
def _store(a, i, unit, value):  # type: ignore[no-untyped-def]
    if a.dtype == types.float32:

        def single(a, i, unit, value):  # type: ignore[no-untyped-def]
            a[i] = value

        return single

    def half(a, i, unit, value):  # type: ignore[no-untyped-def]
        a[i] = _narrow(unit * value)

    return half


@intrinsic
def wide(_context):  # type: ignore[no-untyped-def]
    """In a function's body: its loops take the widest vectors there are, where LLVM prefers half of that."""

    def emit(target, builder, _signature, _args):  # type: ignore[no-untyped-def]
        # llvmlite has no name for this attribute
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return target.get_dummy_value()

    return types.void(), emit
