"""How the Numba kernels are compiled, and the float32 constants they share."""

from __future__ import annotations

import os
from math import sqrt

import numpy as np

# idle threads sleep instead of spinning: on a shared node a spinning team is many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from numba import njit

_FAST = {"contract", "arcp", "nsz", "reassoc"}  # no infinities or NaNs are assumed away
# an integer literal would lift a whole loop to float64
ONE, TWO, FOUR, ZERO = np.float32(1), np.float32(2), np.float32(4), np.float32(0)
HALF, ROOT_HALF, TINY = np.float32(0.5), np.float32(sqrt(0.5)), np.float32(1e-30)


def jit(f):  # type: ignore[no-untyped-def]
    """A kernel: its `prange` runs on all cores."""
    return njit(f, parallel=True, fastmath=_FAST, cache=True, nogil=True)


def row(f):  # type: ignore[no-untyped-def]
    """A part of a kernel: a row or a plane, one core."""
    return njit(f, fastmath=_FAST, cache=True, nogil=True)
