"""What an operator is: a linear map between arrays of fixed shape that writes into `out`."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from recon.backend import Array, is_device_array, namespace
from recon.errors import BackendError, GeometryError
from recon.parallel import Slab, slab_of

Shape = tuple[int, ...]
SETTLED = 5e-4  # a step of the power iteration, relative, that is small beside the 1 % on top of a norm
AT_LEAST = 8  # steps before it may end: it may hardly climb at first, where a few slices are brighter than all others


class Operator(Protocol):
    """A linear map ``A``; ``A(x, out)`` and ``A.adjoint(y, out)`` overwrite `out` and return it.

    Volumes are ``(z, x, y)`` and stacks ``(tilt, u, y)``, float32, C order: the solver's layout, with
    the slice index fastest. `domain_shape` and `range_shape` are in that layout.
    """

    @property
    def domain_shape(self) -> Shape: ...

    @property
    def range_shape(self) -> Shape: ...

    def __call__(self, x: Array, out: Array) -> Array: ...

    def adjoint(self, y: Array, out: Array) -> Array: ...


def tilts_across(operator: Operator) -> int:
    """Projections about the axis along y, u across it, where an operator says so (`tilts_across`); 0 for any others."""
    return int(getattr(operator, "tilts_across", 0))


def check_array(name: str, a: Array, shape: Shape, *, on_device: bool) -> None:
    """Raise unless `a` is what a kernel can address: kind, precision, order and shape.

    Raises:
        BackendError: not a float32 array in C order on the operator's device.
        GeometryError: another shape than the operator's.
    """
    if not isinstance(a, np.ndarray) and not is_device_array(a):
        raise BackendError(f"{name} is a {type(a).__name__}; it must be a NumPy or CuPy array")
    if is_device_array(a) != on_device:
        here, there = ("the host", "the GPU") if on_device else ("the GPU", "the host")
        raise BackendError(f"{name} is on {here}, the operator on {there}; move it with recon.backend.to_device")
    if a.dtype != np.float32:
        raise BackendError(f"{name} is {a.dtype}; it must be float32, in C order")
    if not a.flags.c_contiguous:
        raise BackendError(f"{name} has strides {a.strides}; it must be in C order (use numpy.ascontiguousarray)")
    if tuple(a.shape) != tuple(shape):
        raise GeometryError(f"{name} has shape {tuple(a.shape)}; the geometry asks for {tuple(shape)}")


def norm_estimate(operator: Operator, like: Array, iterations: int = 20, work: tuple[Array, ...] = ()) -> float:
    """Largest singular value of an operator with non-negative entries, by power iteration.

    The start, all ones, has a component along the (non-negative) leading singular vector, so the
    estimate climbs to it; it is returned with 1 % on top, since it climbs from below. It ends when it hardly climbs.
    `work` are two arrays of the domain's shape that it may overwrite.
    """
    xp, slab = namespace(like), slab_of(operator, operator.domain_shape[-1])
    x, squares = work or (xp.empty(operator.domain_shape, dtype=np.float32) for _ in range(2))
    y = xp.empty(operator.range_shape, dtype=np.float32)
    x[...] = 1
    norm, before = norm2(x, squares, slab), 0.0
    for n in range(iterations):
        if norm == 0:
            return 0.0
        x /= np.float32(norm)
        operator.adjoint(operator(x, y), x)
        before, norm = norm, norm2(x, squares, slab)
        if n + 1 >= AT_LEAST and norm <= (1 + SETTLED) * before:
            break
    return float(1.01 * norm**0.5)


def norm2(x: Array, squares: Array, slab: Slab | None = None) -> float:
    """Euclidean norm, summed in float64; `squares` is overwritten, since another array may not fit into memory.

    Of an array that is spread over ranks, `slab` is the part that `x` is.
    """
    xp = namespace(x)
    xp.square(x, out=squares)
    if slab is None or slab.whole:
        return math.sqrt(float(xp.sum(squares, dtype=np.float64)))
    return math.sqrt(slab.sum(float(xp.sum(slab.inner(squares), dtype=np.float64))))
