"""The projector of an element that has maps at some of a series' projections only, or other pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.backend import Array, namespace
from recon.operators.base import Operator, tilts_across

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.tilt_geometry import Shape3


class SomeProjections:
    """A projector of some projections, as one of all of them: the others are neither computed nor read, but are 0.

    Args:
        operator: of the element's own projections.
        index: ``(own,)`` where these stand in the series.
        n: projections of the series.
        like: an array on its device.
    """

    def __init__(self, operator: Operator, index: NDArray[np.intp], n: int, like: Array) -> None:
        _, columns, rows = operator.range_shape
        self.operator = operator
        self.domain_shape = operator.domain_shape
        self.range_shape: Shape3 = (n, columns, rows)
        self.tilts_across = tilts_across(operator)
        self._index = namespace(like).asarray(index)
        self._part = namespace(like).empty(operator.range_shape, dtype=np.float32)

    def __call__(self, x: Array, out: Array) -> Array:
        out[...] = 0
        out[self._index] = self.operator(x, self._part)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        self._part[...] = y[self._index]
        return self.operator.adjoint(self._part, out)


class Spread:
    """``S A``: projections averaged over recorded pixels that are not those of the detector, ``S_u a S_y`` of each.

    Args:
        operator: A, onto the detector.
        along_y, along_u: symmetric matrices, see `recon.series.footprint.Footprint.spread`.
        like: an array on its device.
    """

    def __init__(
        self, operator: Operator, along_y: NDArray[np.float32], along_u: NDArray[np.float32], like: Array
    ) -> None:
        xp = namespace(like)
        self.operator = operator
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape
        self._y, self._u = xp.asarray(along_y), xp.asarray(along_u)
        self._stack = xp.empty(operator.range_shape, dtype=np.float32)
        self._one = xp.empty(operator.range_shape[1:], dtype=np.float32)

    def __call__(self, x: Array, out: Array) -> Array:
        return self._spread(self.operator(x, self._stack), out)

    def adjoint(self, y: Array, out: Array) -> Array:
        return self.operator.adjoint(self._spread(y, self._stack), out)

    def _spread(self, stack: Array, out: Array) -> Array:
        xp = namespace(stack)
        for one, into in zip(stack, out, strict=True):
            xp.matmul(self._u, one, out=self._one)
            xp.matmul(self._one, self._y, out=into)
        return out
