"""Numbers stored in 16 bits and computed with in float32, see `recon.kernels`; and how wide vectors are.

Duals lie in a ball, so that fixed point serves them better than floating point: int16 in units of the ball's radius
over `STEPS`, which leaves room for iterates outside the ball, up to four radii. Steps of half precision are four times
as wide near the radius: at 400 counts a certified gap of 1e-2 took 2450 iterations with it, 850 so, 500 in float32.
`load` and `store` take float32 arrays as they are, so that one kernel serves both.
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from recon.kernels import STEPS

_LEAST, _MOST, _ROUND = np.float32(-32768), np.float32(32767), np.float32(0.5)


def unit_of(a: Any, radius: Any) -> Any:
    """The value of a step in an array of duals as it is stored."""
    return np.float32(1 if a.dtype == np.float32 else radius / STEPS)


def load(a: Any, i: int, unit: Any) -> Any:
    """Element i of a row, in units of `unit` if it is stored in 16 bits."""
    raise NotImplementedError("for compiled code")


def store(a: Any, i: int, inverse: Any, value: Any) -> None:
    """The reverse; `inverse` is one over the unit of `load`."""
    raise NotImplementedError("for compiled code")


@overload(load, inline="always")
def _load(a, i, unit):  # type: ignore[no-untyped-def]
    if a.dtype == types.float32:
        return lambda a, i, unit: a[i]
    return lambda a, i, unit: unit * np.float32(a[i])


@overload(store, inline="always")
def _store(a, i, inverse, value):  # type: ignore[no-untyped-def]
    if a.dtype == types.float32:

        def single(a, i, inverse, value):  # type: ignore[no-untyped-def]
            a[i] = value

        return single

    def short(a, i, inverse, value):  # type: ignore[no-untyped-def]
        a[i] = np.int16(np.int32(floor(min(max(inverse * value, _LEAST), _MOST) + _ROUND)))

    return short


@intrinsic
def wide(_context):  # type: ignore[no-untyped-def]
    """In a function's body: its loops take the widest vectors there are, where LLVM prefers half of that."""

    def emit(target, builder, _signature, _args):  # type: ignore[no-untyped-def]
        # llvmlite has no name for this attribute
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return target.get_dummy_value()

    return types.void(), emit
