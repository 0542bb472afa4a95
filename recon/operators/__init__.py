"""Projection operators, and the two public functions that use them once."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, is_device_array, kernels, namespace
from recon.errors import BackendError, GeometryError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators.base import Operator, norm2, norm_estimate
from recon.operators.planes import backproject_planes, project_planes
from recon.operators.single_axis import aligned_projector, single_axis_projector
from recon.operators.warp import AlignedProjector, DetectorWarp, affine, ideal_geometry

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

    ``"auto"`` is the native one, since it is an exact adjoint and the fastest: a geometry's single-axis parts, about
    whichever axis of the volume, take the single-axis projector, the others the general one. On the CPU ASTRA serves
    single-axis parts only.

    Raises:
        GeometryError, BackendError: the projector does not serve this geometry, or has no device.
    """
    if projector not in PROJECTORS:
        raise BackendError(f"projector {projector!r} is unknown; use auto, native or astra")
    if geometry.is_single_axis or (projector == "astra" and is_device_array(like)):
        return single_axis_projector(geometry, like, projector)
    from recon.operators.composed import ComposedProjector

    return ComposedProjector(geometry, like, projector)


def _check(name: str, array: Array, shape: tuple[int, ...], axes: str) -> None:
    if not is_device_array(array) and not isinstance(array, np.ndarray):
        inside = {"volume": "values", "stack": "counts"}.get(name, "")
        hint = f", such as its .{inside}" if hasattr(array, inside or "shape") and inside else ""
        raise BackendError(f"{name} is a {type(array).__name__}; it must be a NumPy or CuPy array{hint}")
    if array.shape != shape:
        raise GeometryError(f"{name} has shape {array.shape}; the geometry needs {axes} = {shape}")
    if array.dtype.kind not in "uifb":
        raise BackendError(f"{name} has type {array.dtype}; it must hold real numbers")


def _as_it_lies(array: Array, geometry: TiltGeometry, projector: str) -> bool:
    """Whether a NumPy array is projected plane by plane, without another one in the solver's layout."""
    return projector in ("auto", "native") and not is_device_array(array) and geometry.is_single_axis


def _exchanged(a: Array) -> Array:
    """The same with its last two axes exchanged: from and to the solver's layout, slice index fastest."""
    plain = namespace(a).ascontiguousarray(a, dtype=np.float32)
    a_, b, c = a.shape
    out: Array = namespace(a).empty((a_, c, b), dtype=np.float32)
    kernels(a).exchange(plain, out, 1)
    return out


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

    Examples:
        >>> geometry = TiltGeometry.single_axis([0, 90], detector=(4, 8))
        >>> stack = project(np.ones((8, 4, 8), np.float32), geometry)
        >>> stack.shape, float(stack[0, 0, 4])
        ((2, 4, 8), 8.0)
    """
    _check("volume", volume, geometry.volume, "(z, y, x)")
    if _as_it_lies(volume, geometry, projector):
        return project_planes(volume, geometry)
    x = _exchanged(volume)
    operator = make_projector(geometry, x, projector)
    xp = namespace(x)
    out = operator(x, xp.empty(operator.range_shape, dtype=np.float32))
    return _exchanged(out)


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
    _check("stack", stack, geometry.stack_shape, "(tilt, y, u)")
    if _as_it_lies(stack, geometry, projector):
        return backproject_planes(stack, geometry)
    y = _exchanged(stack)
    operator = make_projector(geometry, y, projector)
    xp = namespace(y)
    out = operator.adjoint(y, xp.empty(operator.domain_shape, dtype=np.float32))
    return _exchanged(out)
