"""Arrays for the kernels on the CPU."""

from __future__ import annotations

import math

import numpy as np

LINE = 64  # bytes of a cache line


def zeros(shape, dtype=np.float32):  # type: ignore[no-untyped-def]
    """Zeros in C order from the start of a cache line on.

    A vector that lies across two lines takes two loads, and NumPy's large arrays begin a quarter of a line in: so
    projections of rows of 128 take a tenth longer.
    """
    size, each = math.prod(shape), np.dtype(dtype).itemsize
    room = np.zeros(size + LINE // each, dtype)
    skip = -room.ctypes.data % LINE // each
    return room[skip : skip + size].reshape(shape)
