"""How the Numba kernels are compiled, and the float32 constants they share."""

from __future__ import annotations

import os
from math import sqrt

import numpy as np

# idle threads sleep instead of spinning: on a shared node a spinning team is many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from numba import njit
from numba.core.cpu import CPUTargetOptions
from numba.core.options import TargetOptions

# Numba has the compiler flag (it sets it for some of its own loops), but no keyword of `njit` for it
CPUTargetOptions.noalias = TargetOptions.Mapping("noalias")

_COMMON = {
    "fastmath": {"contract", "arcp", "nsz", "reassoc"},  # no infinities or NaNs are assumed away
    "error_model": "numpy",  # the test for a zero divisor would keep a loop from being vectorised
    "nogil": True,
}
_INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only, and cached with them
# an integer literal would lift a whole loop to float64
ONE, TWO, FOUR, ZERO = np.float32(1), np.float32(2), np.float32(4), np.float32(0)
HALF, ROOT_HALF, TINY = np.float32(0.5), np.float32(sqrt(0.5)), np.float32(1e-30)


def jit(f):  # type: ignore[no-untyped-def]
    """A kernel: its `prange` runs on all cores."""
    return njit(f, parallel=True, cache=True, **_COMMON)


def row(f):  # type: ignore[no-untyped-def]
    """A part of a kernel: a row or a plane, one core."""
    return njit(f, **_INSIDE, **_COMMON)


def leaf(f):  # type: ignore[no-untyped-def]
    """A part that allocates nothing and writes to no array that overlaps another of its arguments.

    Counting the references of thirty rows, or checking at run time which of them overlap, would take
    longer than the arithmetic on them.
    """
    return njit(f, _nrt=False, noalias=True, **_INSIDE, **_COMMON)


def inlined(f):  # type: ignore[no-untyped-def]
    """A part of an expression, put into its callers before they are compiled."""
    return njit(f, inline="always", **_COMMON)
