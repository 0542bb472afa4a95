"""The vectors of parallel projections, without what can be done with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape2 = tuple[int, int]
Shape3 = tuple[int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class Projections:
    """Parallel projections of one volume; `recon.TiltGeometry` makes and changes them.

    Attributes:
        ray: ``(tilt, 3)`` float64, unit vectors along the beam, components ``(z, y, x)``.
        centre: ``(tilt, 3)`` float64, centre of the detector, in voxels.
        u: ``(tilt, 3)`` float64, step from one detector column to the next, in voxels.
        v: ``(tilt, 3)`` float64, step from one detector row to the next, in voxels.
        detector: ``(rows, columns)`` = ``(ny, nu)`` of every projection.
        volume: ``(nz, ny, nx)`` of the volume.
    """

    ray: NDArray[np.float64]
    centre: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    detector: Shape2
    volume: Shape3

    @property
    def n_tilts(self) -> int:
        return len(self.ray)
