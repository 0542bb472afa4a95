"""What an operator is: a linear map between arrays of fixed shape that writes into `out`."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recon.backend import Array, namespace

Shape = tuple[int, ...]


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


def norm_estimate(operator: Operator, like: Array, iterations: int = 20) -> float:
    """Largest singular value of an operator with non-negative entries, by power iteration.

    The start, all ones, has a component along the (non-negative) leading singular vector, so the
    estimate climbs to it; it is returned with 1 % on top, since it climbs from below.
    """
    xp = namespace(like)
    x = xp.ones(operator.domain_shape, dtype=np.float32)
    y = xp.empty(operator.range_shape, dtype=np.float32)
    norm = 0.0
    for _ in range(iterations):
        norm = float(xp.sqrt(xp.sum(xp.square(x), dtype=np.float64)))
        if norm == 0:
            return 0.0
        x /= np.float32(norm)
        operator.adjoint(operator(x, y), x)
    norm = float(xp.sqrt(xp.sum(xp.square(x), dtype=np.float64)))
    return float(1.01 * norm**0.5)
