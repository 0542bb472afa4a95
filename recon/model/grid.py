"""The volume that is solved for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import JobError
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.tilt_geometry import Shape3


@dataclass(frozen=True)
class Grid:
    """The volume that is solved for, and the part of it that is the result.

    Attributes:
        shape: ``(nz, ny, nx)``; wider than the frame where material outside it is seen at high tilt.
        margin: ``(y, x)`` voxels on each side that are cut off at the end.
    """

    shape: Shape3
    margin: tuple[int, int]

    def cut(self, full: NDArray[np.float32]) -> NDArray[np.float32]:
        """The result ``(z, y, x)`` of a volume ``(z, x, y)`` in the solver's layout."""
        my, mx = self.margin
        values = full.swapaxes(1, 2)[:, my : full.shape[2] - my, mx : full.shape[1] - mx]
        return np.ascontiguousarray(values, dtype=np.float32)


def grid(series: TiltSeries, thickness: int | str = "auto") -> Grid:
    """The grid for a series; `thickness` is the extent along the beam in voxels."""
    ny, nx = series.frame
    nz = nx if thickness == "auto" else int(thickness)
    if not 1 <= nz <= 4 * nx:
        raise JobError(f"thickness is {nz} voxels; it must be between 1 and {4 * nx} (four times the frame)")
    if series.isolated:
        return Grid((nz, ny, nx), (0, 0))
    t = np.radians(series.tilts_deg)
    dv, du = np.abs(series.alignment.displacements).max(axis=0)
    tilted = abs(np.sin(np.radians(series.alignment.rotation_deg)))
    # a section that leaves the frame is thin, unless the user says how thick; a wider margin would hold
    # voxels that no ray meets
    half = nx / 32 if thickness == "auto" else nz / 2
    reach = (nx / 2 + du + ny / 2 * tilted + half * np.abs(np.sin(t))) / np.maximum(np.abs(np.cos(t)), 0.1)
    my = min(int(np.ceil(dv + nx / 2 * tilted)), ny // 4)
    mx = min(int(np.ceil(reach.max() - nx / 2)), nx // 2)
    return Grid((nz, ny + 2 * my, nx + 2 * mx), (my, mx))
