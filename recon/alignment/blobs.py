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
    Single = NDArray[np.float32]

FAINT = 24.5  # exponents beyond which a Gaussian is no smaller: numbers near the smallest make products slow


@dataclass(frozen=True)
class View:
    """Blobs at one tilt, on a grid of samples ``(p, q)``; single precision is far more than the maps have.

    Attributes:
        v, u: ``(p, blob)`` and ``(q, blob)``, whose product is what a blob of density 1 gives a sample.
        dv, du: their derivatives by the blob's place, per pixel.
        turn_v, turn_u: ``(blob,)`` pixels by which a blob moves when the axis turns by one radian.
    """

    v: Single
    u: Single
    dv: Single
    du: Single
    turn_v: Single
    turn_u: Single

    @classmethod
    def of(
        cls, places: tuple[Array, Array], centre: Array, samples: Sequence[Array], sigma: float, mass: float
    ) -> View:
        """Blobs of standard deviation `sigma` and integral `mass` at `places` (v, u) that turn about `centre`."""
        (v, dv), (u, du) = (_gaussian(at, place, sigma) for at, place in zip(samples, places, strict=True))
        peak = np.float32(mass / (2 * np.pi * sigma**2))
        turn_v, turn_u = places[1] - centre[1], centre[0] - places[0]
        return cls(v, u * peak, dv, du * peak, turn_v.astype(np.float32), turn_u.astype(np.float32))

    def project(self, x: Array) -> Single:
        """The map ``(p, q)`` of densities ``(blob,)``."""
        return np.asarray((self.v * x.astype(np.float32)) @ self.u.T)

    def adjoint(self, images: Array) -> Single:
        """``(..., blob)`` of maps ``(..., p, q)``; the adjoint of `project`."""
        return np.asarray(np.einsum("...pb,pb->...b", images.astype(np.float32) @ self.u, self.v))

    def slopes(self, x: Array) -> tuple[Single, Single, Single]:
        """Derivatives ``(p, q)`` of `project` by the map's displacement along v and u, and by the axis's rotation."""
        density = x.astype(np.float32)
        v, dv = self.v * density, self.dv * density
        along_v, turned_v = np.split(np.concatenate([dv, dv * self.turn_v]) @ self.u.T, 2)
        along_u, turned_u = np.split(np.concatenate([v, v * self.turn_u]) @ self.du.T, 2)
        return along_v, along_u, turned_v + turned_u

    def matrix(self) -> Single:
        """`project` as a matrix ``(p q, blob)``."""
        return (self.v[:, None] * self.u).reshape(-1, self.v.shape[1])


def _gaussian(samples: Array, places: Array, sigma: float) -> tuple[Single, Single]:
    """Gaussians about `places` at the samples, ``(sample, place)``, and their derivatives by the place."""
    apart = ((samples[:, None] - places) / sigma).astype(np.float32)
    value = np.exp(np.maximum(-0.5 * apart * apart, np.float32(-FAINT)))
    return value, value * apart / np.float32(sigma)
