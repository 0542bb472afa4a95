"""Projection operators, and the two public functions that use them once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.backend import Array, is_device_array, namespace
from recon.errors import BackendError, GeometryError
from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry
from recon.operators.base import Operator, norm2, norm_estimate
from recon.operators.warp import AlignedProjector, DetectorWarp, affine, ideal_geometry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from recon.series.alignment import Alignment

PROJECTORS = ("auto", "native", "astra")

__all__ = [
    "PROJECTORS",
    "AlignedProjector",
    "DetectorWarp",
    "Operator",
    "affine",
    "aligned_projector",
    "backproject",
    "ideal_geometry",
    "make_projector",
    "norm2",
    "norm_estimate",
    "project",
]


def make_projector(geometry: TiltGeometry, like: Array, projector: str = "auto") -> Operator:
    """The projector of a geometry for arrays of the kind of `like` (NumPy or CuPy).

    ``"auto"`` is the native one where the geometry is single-axis, since it is an exact adjoint and the
    fastest, and ASTRA's otherwise.

    Raises:
        GeometryError, BackendError: the projector does not serve this geometry, or has no device.
    """
    if projector not in PROJECTORS:
        raise BackendError(f"projector {projector!r} is unknown; use auto, native or astra")
    if projector == "native" or (projector == "auto" and geometry.is_single_axis):
        from recon.operators.joseph import JosephProjector

        return JosephProjector(geometry, like)
    from recon.operators.astra import astra_projector

    return astra_projector(geometry, like)


def aligned_projector(
    tilts_deg: ArrayLike, alignment: Alignment, frame: Shape2, volume: Shape3, like: Array, projector: str = "auto"
) -> Operator:
    """``A = W P``: a volume ``(nz, ny, nx)`` to recorded frames ``(ny, nx)``, with as little interpolation as can be.

    Raises:
        GeometryError, BackendError: as `make_projector`.
    """
    geometry = ideal_geometry(tilts_deg, alignment, frame, volume)
    operator = make_projector(geometry, like, projector)
    if alignment.rotation_deg == 0 and not alignment.shifts[:, 0].any() and geometry.detector == frame:
        return operator
    return AlignedProjector(operator, DetectorWarp(alignment, frame, geometry, like), like)


def _checked(name: str, array: Array, shape: tuple[int, ...], axes: str) -> Array:
    if not is_device_array(array) and not isinstance(array, np.ndarray):
        raise BackendError(f"{name} is a {type(array).__name__}; it must be a NumPy or CuPy array")
    if array.shape != shape:
        raise GeometryError(f"{name} has shape {array.shape}; the geometry needs {axes} = {shape}")
    if array.dtype.kind not in "uifb":
        raise BackendError(f"{name} has type {array.dtype}; it must hold real numbers")
    # the solver's layout: slice index fastest
    return namespace(array).ascontiguousarray(array.swapaxes(1, 2), dtype=np.float32)


def project(volume: Array, geometry: TiltGeometry, projector: str = "auto") -> Array:
    """Line integrals of a volume.

    Args:
        volume: ``(z, y, x)``, NumPy or CuPy; used as float32.
        geometry: its `volume` is the shape of the array.
        projector: ``"auto"``, ``"native"`` or ``"astra"``.

    Returns:
        ``(tilt, y, u)`` float32 of the same kind, in units of the volume times a voxel's edge.

    Raises:
        GeometryError: shapes do not fit, or the projector does not serve the geometry.
        BackendError: not a NumPy or CuPy array of real numbers, or no device.
    """
    x = _checked("volume", volume, geometry.volume, "(z, y, x)")
    operator = make_projector(geometry, x, projector)
    xp = namespace(x)
    out = operator(x, xp.empty(operator.range_shape, dtype=np.float32))
    return xp.ascontiguousarray(out.swapaxes(1, 2))


def backproject(stack: Array, geometry: TiltGeometry, projector: str = "auto") -> Array:
    """The exact adjoint of `project` (ASTRA's on a GPU: nearly, see `recon.operators.astra`).

    Args:
        stack: ``(tilt, y, u)``, NumPy or CuPy; used as float32.
        geometry: its `stack_shape` is the shape of the array.
        projector: ``"auto"``, ``"native"`` or ``"astra"``.

    Returns:
        ``(z, y, x)`` float32 of the same kind.

    Raises:
        GeometryError, BackendError: as `project`.
    """
    y = _checked("stack", stack, geometry.stack_shape, "(tilt, y, u)")
    operator = make_projector(geometry, y, projector)
    xp = namespace(y)
    out = operator.adjoint(y, xp.empty(operator.domain_shape, dtype=np.float32))
    return xp.ascontiguousarray(out.swapaxes(1, 2))
