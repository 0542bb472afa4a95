"""The parameters of the joint fit: where each map lies, how bright it is, and how the axis is turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.series.alignment import Alignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pose:
    """What a joint fit moves.

    Attributes:
        tilts: ``(tilt,)`` radians.
        displacements: ``(tilt, 2)`` pixels, (v, u), axis offset included.
        log_exposures: ``(tilt,)``.
        rotation: of the axis, radians.
    """

    tilts: Array
    displacements: Array
    log_exposures: Array
    rotation: float

    def land(self, points: Array, i: int | np.integer) -> tuple[Array, Array]:
        """Where points ``(n, 3)`` (z, y, x) are recorded at tilt i, pixels from the frame's centre."""
        z, y, x = points.T
        u = x * np.cos(self.tilts[i]) + z * np.sin(self.tilts[i])
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        return y * c + u * s + self.displacements[i, 0], u * c - y * s + self.displacements[i, 1]

    def moved(self, each: Array, turn: float) -> Pose:
        """Another pose: `each` ``(tilt, 3)`` is added to displacements and log exposures, `turn` to the rotation."""
        return Pose(self.tilts, self.displacements + each[:, :2], self.log_exposures + each[:, 2], self.rotation + turn)

    def mirrored(self, about: Pose) -> Pose:
        """As far from another pose as this one, on its other side."""
        return Pose(
            self.tilts,
            2 * about.displacements - self.displacements,
            2 * about.log_exposures - self.log_exposures,
            2 * about.rotation - self.rotation,
        )

    @property
    def alignment(self) -> Alignment:
        """Displacements and rotation, the axis offset among the shifts."""
        return Alignment(self.displacements.copy(), float(np.degrees(self.rotation)))


def translation(tilts: Array, rotation: float) -> tuple[Array, Array]:
    """How maps move in v and u, ``(tilt, 3)`` each, when the object moves by (y, x, z); radians."""
    one, c, s = np.ones_like(tilts), np.cos(rotation), np.sin(rotation)
    along = np.stack([one, np.cos(tilts), np.sin(tilts)], axis=1)
    return along * [c, s, s], along * [-s, c, c]


def free_directions(pose: Pose, used: NDArray[np.bool_], hold: str) -> Array:
    """Orthonormal directions of the parameters that the maps can tell, ``(parameter, direction)``.

    Moving the object moves every map, and its density scales them all; a tilt left out says nothing. `hold` is
    what stays as it is: ``""``, ``"rotation"`` or ``"geometry"``, all but the exposures.
    """
    from scipy import linalg

    n = len(pose.tilts)
    fixed = np.zeros((3 * n + 1, 4))
    each = fixed[:-1].reshape(n, 3, 4)
    each[:, 0, :3], each[:, 1, :3] = translation(pose.tilts, pose.rotation)
    each[:, 2, 3] = 1
    keep = np.append(np.repeat(used, 3), not hold)
    if hold == "geometry":
        keep[:-1] &= np.tile([False, False, True], n)
    fixed = fixed[:, 3:] if hold == "geometry" else fixed
    inner = linalg.null_space(fixed[keep].T)
    free = np.zeros((3 * n + 1, inner.shape[1]))
    free[keep] = inner
    return free
