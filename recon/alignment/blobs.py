"""A smooth object as a sum of round Gaussian blobs, and what it looks like at each tilt.

A blob's projection is a Gaussian wherever it lands and however the axis lies: nothing is interpolated, and every
derivative is exact. On the samples of a map it is a product of a column and a row, ``v[p, blob] u[q, blob]``, so that
projections and their adjoints are products of small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

REACH = 7.0  # standard deviations beyond which a blob is 0: numbers near the smallest make products slow


@dataclass(frozen=True)
class View:
    """Blobs at one tilt, on a grid of samples ``(p, q)``.

    Attributes:
        v, u: ``(p, blob)`` and ``(q, blob)``, whose product is what a blob of density 1 gives a sample.
        dv, du: their derivatives by the blob's place, per pixel.
        turn_v, turn_u: ``(blob,)`` pixels by which a blob moves when the axis turns by one radian.
    """

    v: Array
    u: Array
    dv: Array
    du: Array
    turn_v: Array
    turn_u: Array

    @classmethod
    def of(
        cls, places: tuple[Array, Array], centre: Array, samples: Sequence[Array], sigma: float, mass: float
    ) -> View:
        """Blobs of standard deviation `sigma` and integral `mass` at `places` (v, u) that turn about `centre`."""
        (v, u), reach = places, REACH * sigma
        a, b = samples[0][:, None] - v, samples[1][:, None] - u
        along_v = np.where(np.abs(a) < reach, np.exp(-a * a / (2 * sigma**2)), 0)
        along_u = np.where(np.abs(b) < reach, np.exp(-b * b / (2 * sigma**2)), 0) * (mass / (2 * np.pi * sigma**2))
        return cls(along_v, along_u, along_v * a / sigma**2, along_u * b / sigma**2, u - centre[1], centre[0] - v)

    def project(self, x: Array) -> Array:
        """The map ``(p, q)`` of densities ``(blob,)``."""
        return np.asarray((self.v * x) @ self.u.T)

    def adjoint(self, image: Array) -> Array:
        """``(blob,)``; the adjoint of `project`."""
        return np.asarray((self.v * (image @ self.u)).sum(axis=0))

    def slopes(self, x: Array) -> tuple[Array, Array, Array]:
        """Derivatives ``(p, q)`` of `project` by the map's displacement along v and u, and by the axis's rotation."""
        v = self.dv * x
        turned = (v * self.turn_v) @ self.u.T + (self.v * (x * self.turn_u)) @ self.du.T
        return v @ self.u.T, (self.v * x) @ self.du.T, turned

    def matrix(self) -> NDArray[np.float32]:
        """`project` as a matrix ``(p q, blob)``."""
        v, u = self.v.astype(np.float32), self.u.astype(np.float32)
        return (v[:, None] * u).reshape(-1, v.shape[1])
