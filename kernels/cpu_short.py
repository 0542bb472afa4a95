"""Numbers stored in 16 bits and computed with in float32, see `recon.kernels`; and how wide vectors are.

Duals lie in a ball, so that fixed point serves them better than floating point: int16 in units of the ball's radius
over `STEPS`, which leaves room for iterates outside the ball, up to four radii. Steps of half precision are four times
as wide near the radius: at 400 counts a certified gap of 1e-2 took 2450 iterations with it, 850 so, 500 in float32.
`load` and `store` take float32 arrays as they are, so that one kernel serves both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recon.kernels import STEPS

_LEAST, _MOST = -32768.0, 32767.0


def unit_of(a: Any, radius: Any) -> Any:
    """The value of a step in an array of duals as it is stored."""
    return np.float32(1 if a.dtype == np.float32 else radius / STEPS)


@intrinsic
def load(_context: Any, a: Any, i: Any, unit: Any) -> Any:
    """Element i of a row without gaps, in units of `unit` if it is stored in 16 bits.

    Instructions instead of a function, which Numba would type anew for each of sixty calls, a third of what compiling a
    step took.
    """

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        stored = builder.load(_address(context, builder, signature, args))
        if a.dtype == types.float32:
            return stored
        return builder.fmul(args[2], builder.sitofp(stored, args[2].type))

    return types.float32(a, types.intp, types.float32) if a.layout == "C" else None, emit


@intrinsic
def store(_context: Any, a: Any, i: Any, inverse: Any, value: Any) -> Any:
    """The reverse, rounded and limited to 16 bits; `inverse` is one over the unit of `load`."""

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _, _, inverse, value = args
        if a.dtype != types.float32:
            steps = builder.fmul(inverse, value)
            for limit, beyond in ((_LEAST, "<"), (_MOST, ">")):
                steps = builder.select(builder.fcmp_ordered(beyond, steps, steps.type(limit)), steps.type(limit), steps)
            floor = builder.module.declare_intrinsic("llvm.floor", [steps.type])
            rounded = builder.call(floor, [builder.fadd(steps, steps.type(0.5))])
            value = builder.trunc(builder.fptosi(rounded, ir.IntType(32)), ir.IntType(16))
        builder.store(value, _address(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(a, types.intp, types.float32, types.float32) if a.layout == "C" else None, emit


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Of an element of a row, its index not negative."""
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic
def wide(_context):  # type: ignore[no-untyped-def]
    """In a function's body: its loops take the widest vectors there are, where LLVM prefers half of that."""

    def emit(target, builder, _signature, _args):  # type: ignore[no-untyped-def]
        # llvmlite has no name for this attribute
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return target.get_dummy_value()

    return types.void(), emit
