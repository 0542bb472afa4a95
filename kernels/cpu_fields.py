"""Fields on the CPU: rows of a vector's or tensor's components lie side by side.

Seen from outside they are ``(component, z, x, y)``, as everywhere. In memory they are ``(z, x, component, y)``: with
a volume for each component, a step would read thirty places in memory at once, whose distances are multiples of a
power of two for the usual sizes, so that they push each other out of the cache.
"""

from __future__ import annotations

import numpy as np

from recon.errors import BackendError

_ROWS = (1, 2, 0, 3)
_LINE = 64  # bytes


def field(components, shape, dtype=np.float32):  # type: ignore[no-untyped-def]
    """Zeros ``(components, z, x, y)`` in the order in memory that the kernels ask for, from a cache line's start.

    Vectors that lie across two lines take two loads; NumPy's arrays begin a quarter of a line in.
    """
    nz, nx, ny = shape
    size = nz * nx * components * ny
    room = np.zeros(size + _LINE // np.dtype(dtype).itemsize, dtype)
    skip = -room.ctypes.data % _LINE // room.itemsize
    return room[skip : skip + size].reshape(nz, nx, components, ny).transpose(2, 0, 1, 3)


def by_rows(*fields: np.ndarray) -> tuple[np.ndarray, ...]:
    """Fields as compiled code takes them, ``(z, x, component, y)``.

    Raises:
        BackendError: one is in another order in memory.
    """
    for a in fields:
        if not a.transpose(_ROWS).flags.c_contiguous:
            raise BackendError(
                f"a field of shape {a.shape} has strides {a.strides}; make it with recon.kernels.cpu.field, whose "
                "components lie side by side"
            )
    return tuple(a.transpose(_ROWS) for a in fields)
