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

from recon.backend import namespace, to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array as Anywhere

    Array = NDArray[np.float64]

FAINT = 24.5  # exponents beyond which a Gaussian is no smaller: numbers near the smallest make products slow


@dataclass(frozen=True)
class View:
    """Blobs at one tilt, on a grid of samples ``(p, q)``; single precision is far more than the maps have.

    What its methods take and give is on its device.

    Attributes:
        v, u: ``(p, blob)`` and ``(q, blob)``, whose product is what a blob of density 1 gives a sample.
        dv, du: their derivatives by the blob's place, per pixel.
        turn_v, turn_u: ``(blob,)`` pixels by which a blob moves when the axis turns by one radian.
    """

    v: Anywhere
    u: Anywhere
    dv: Anywhere
    du: Anywhere
    turn_v: Anywhere
    turn_u: Anywhere

    @classmethod
    def of(
        cls,
        places: tuple[Array, Array],
        centre: Array,
        samples: Sequence[Array],
        sigma: float,
        mass: float,
        device: str = "cpu",
    ) -> View:
        """Blobs of standard deviation `sigma` and integral `mass` at `places` (v, u) that turn about `centre`."""
        (v, dv), (u, du) = (_gaussian(at, place, sigma, device) for at, place in zip(samples, places, strict=True))
        peak = np.float32(mass / (2 * np.pi * sigma**2))
        turns = places[1] - centre[1], centre[0] - places[0]
        turn_v, turn_u = (to_device(turn.astype(np.float32), device) for turn in turns)
        return cls(v, u * peak, dv, du * peak, turn_v, turn_u)

    def project(self, x: Anywhere) -> Anywhere:
        """The map ``(p, q)`` of densities ``(blob,)``."""
        image: Anywhere = (self.v * x.astype(np.float32)) @ self.u.T
        return image

    def adjoint(self, images: Anywhere) -> Anywhere:
        """``(..., blob)`` of maps ``(..., p, q)``; the adjoint of `project`."""
        pulled: Anywhere = namespace(self.v).einsum("...pb,pb->...b", images.astype(np.float32) @ self.u, self.v)
        return pulled

    def slopes(self, x: Anywhere) -> tuple[Anywhere, Anywhere, Anywhere]:
        """Derivatives ``(p, q)`` of `project` by the map's displacement along v and u, and by the axis's rotation."""
        xp, density = namespace(self.v), x.astype(np.float32)
        v, dv = self.v * density, self.dv * density
        by_v = xp.concatenate([dv, dv * self.turn_v]) @ self.u.T
        by_u = xp.concatenate([v, v * self.turn_u]) @ self.du.T
        n = len(v)
        return by_v[:n], by_u[:n], by_v[n:] + by_u[n:]

    def matrix(self) -> Anywhere:
        """`project` as a matrix ``(p q, blob)``."""
        return (self.v[:, None] * self.u).reshape(-1, self.v.shape[1])


def _gaussian(samples: Array, places: Array, sigma: float, device: str) -> tuple[Anywhere, Anywhere]:
    """Gaussians about `places` at the samples, ``(sample, place)``, and their derivatives by the place."""
    apart = (to_device(samples[:, None] / sigma, device) - to_device(places / sigma, device)).astype(np.float32)
    xp = namespace(apart)
    value = xp.exp(xp.maximum(apart * apart * np.float32(-0.5), np.float32(-FAINT)))
    return value, value * apart / np.float32(sigma)
