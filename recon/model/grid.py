"""The volume that is solved for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import JobError
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.tilt_geometry import Shape3, TiltGeometry


@dataclass(frozen=True)
class Grid:
    """The volume that is solved for, and the part of it that is the result.

    Attributes:
        shape: ``(nz, ny, nx)``; wider than the frame where material outside it is seen at high tilt.
        margin: ``(y, x)`` voxels on each side that are cut off at the end.
    """

    shape: Shape3
    margin: tuple[int, int]

    def cut(self, full: NDArray[np.float32], begin: int = 0) -> NDArray[np.float32]:
        """The result ``(z, y, x)`` of a volume ``(z, x, y)`` of the solver's, or of its slices from `begin` on."""
        my, mx = self.margin
        first, end = max(my - begin, 0), max(self.shape[1] - my - begin, 0)
        values = full.swapaxes(1, 2)[:, first:end, mx : full.shape[1] - mx]
        return np.ascontiguousarray(values, dtype=np.float32)


def grid(series: TiltSeries, thickness: int | str = "auto") -> Grid:
    """The grid for a series; `thickness` is the extent along the beam in voxels."""
    ny, nx = series.frame
    nz = nx if thickness == "auto" else int(thickness)
    if not 1 <= nz <= 4 * nx:
        raise JobError(f"thickness is {nz} voxels; it must be between 1 and {4 * nx} (four times the frame)")
    if series.scheme is not None:
        return _of_scheme(series, nz, thickness == "auto")
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


def _of_scheme(series: TiltSeries, nz: int, automatic: bool) -> Grid:
    """As wide as what any of the frames shows at zero tilt, and a margin for what comes into view from outside."""
    assert series.scheme is not None
    g = series.aligned_geometry(series.scheme.volume)
    ny, nx = series.frame
    half = max(nz, nx) / 32 / 2 if automatic else nz / 2
    corners = [(j * (ny - 1) / 2, i * (nx - 1) / 2) for j in (-1, 1) for i in (-1, 1)]
    steep = np.maximum(np.abs(g.ray[:, :1]), 0.1) * np.where(g.ray[:, :1] < 0, -1, 1)
    seen = np.zeros(2)
    for v, u in corners:
        at = g.centre + v * g.v + u * g.u
        for z in (-half, half):
            met = at + (z - at[:, :1]) / steep * g.ray
            seen = np.maximum(seen, np.abs(met[:, 1:]).max(axis=0))
    # the frames lie turned to the volume: what they show is as wide as they are, corners left aside
    edge = max(ny, nx)
    size = [edge if scheme_turns(g) else n for n in (ny, nx)]
    if series.isolated:
        return Grid((nz, size[0], size[1]), (0, 0))
    my, mx = (min(max(int(np.ceil(s - (n - 1) / 2)), 0), n // 2) for s, n in zip(seen, size, strict=True))
    return Grid((nz, size[0] + 2 * my, size[1] + 2 * mx), (my, mx))


def scheme_turns(geometry: TiltGeometry) -> bool:
    """Whether some detector's rows run nearer to x than to y."""
    return bool((np.abs(geometry.v[:, 2]) > np.abs(geometry.v[:, 1])).any())
