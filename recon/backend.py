"""Which arrays and which kernels: NumPy and Numba, or CuPy and CUDA.

The backend follows the array that is handed in. Nothing here imports CuPy or Numba before it is
needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import BackendError

if TYPE_CHECKING:
    from types import ModuleType

Array = Any  # numpy.ndarray or cupy.ndarray: the two share one interface, no common base


def is_device_array(a: Array) -> bool:
    """True for a CuPy array, without importing CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(a, cupy.ndarray)


def namespace(a: Array) -> ModuleType:
    """The module (numpy or cupy) that `a` belongs to."""
    return sys.modules["cupy"] if is_device_array(a) else np


def kernels(a: Array) -> ModuleType:
    """The kernels for `a`: `recon.kernels.cuda` or `recon.kernels.cpu`, same names and arguments."""
    if is_device_array(a):
        return importlib.import_module("recon.kernels.cuda")
    return importlib.import_module("recon.kernels.cpu")


def cuda_unavailable() -> str | None:
    """Why CUDA cannot be used, or None if it can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; install the extra cuda12 or cuda13"
    try:
        import cupy

        if not cupy.cuda.is_available():
            return "CuPy finds no CUDA device or driver"
    except Exception as exc:  # a broken driver raises types that only CuPy knows
        return f"CuPy does not load: {exc}".splitlines()[0]
    return None


def resolve_device(device: str = "auto") -> str:
    """``"cpu"`` or ``"cuda"`` for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        BackendError: an unknown name, or CUDA asked for where it cannot be used.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BackendError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cpu":
        return "cpu"
    why = cuda_unavailable()
    if device == "cuda" and why is not None:
        raise BackendError(f"device 'cuda' cannot be used: {why}, or use device = 'cpu'")
    return "cpu" if why is not None else "cuda"


def to_device(a: Array, device: str) -> Array:
    """`a` on ``"cpu"`` or ``"cuda"``; no copy where it is there already."""
    if device == "cuda":
        import cupy

        return cupy.asarray(a)
    return to_host(a)


def to_host(a: Array) -> Any:
    """`a` as a NumPy array; no copy where it is one already."""
    return a.get() if is_device_array(a) else np.asarray(a)
