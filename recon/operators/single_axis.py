"""The projectors of a single-axis geometry, without and with an alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.backend import Array
from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry
from recon.operators.base import Operator
from recon.operators.warp import AlignedProjector, DetectorWarp, ideal_geometry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from recon.series.alignment import Alignment


def single_axis_projector(geometry: TiltGeometry, like: Array, projector: str, *, keep: bool = True) -> Operator:
    """Our projector, which may `keep` its weights, or ASTRA's; on a GPU ASTRA's serves any other geometry, too."""
    if projector == "astra":
        from recon.operators.astra import astra_projector

        return astra_projector(geometry, like)
    from recon.operators.joseph import JosephProjector

    return JosephProjector(geometry, like, keep=keep)


def aligned_projector(
    tilts_deg: ArrayLike, alignment: Alignment, frame: Shape2, volume: Shape3, like: Array, projector: str = "auto"
) -> Operator:
    """``A = W P``: a volume ``(nz, ny, nx)`` to recorded frames ``(ny, nx)``, with as little interpolation as can be.

    Raises:
        GeometryError, BackendError: the projector does not serve this geometry, or has no device.
    """
    geometry = ideal_geometry(tilts_deg, alignment, frame, volume)
    operator = single_axis_projector(geometry, like, projector)
    if alignment.rotation_deg == 0 and not alignment.shifts[:, 0].any() and geometry.detector == frame:
        return operator
    return AlignedProjector(operator, DetectorWarp(alignment, frame, geometry, like), like)
