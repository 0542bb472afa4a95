"""Our own single-axis projector: Joseph's linear model, exact adjoint, CPU and CUDA."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, is_device_array, kernels, namespace
from recon.errors import GeometryError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators.base import check_array


def rays_of(geometry: TiltGeometry) -> NDArray[np.float64]:
    """``(tilt, 3)``: cosine and sine of each tilt, and where its first pixel is seen, as the kernels ask for them."""
    angles = np.radians(geometry.tilts_deg)
    first = geometry.offsets - (geometry.detector[1] - 1) / 2 / geometry.fineness
    return np.stack([np.cos(angles), np.sin(angles), first], axis=1)


def _kept(plane: tuple[int, int], geometry: TiltGeometry, rays: NDArray[np.float64], *, keep: bool) -> Any:
    """A `recon.kernels.cpu_kept.Kept`; or None, and the kernels that do without one are there."""
    from recon.kernels.cpu_kept import Kept

    kept = Kept.of(plane, geometry.detector[1], rays, geometry.fineness) if keep else None
    if kept is None:
        _compile()
    return kept


@cache
def _compile() -> None:
    """Have the kernels compiled that most jobs do without, if that is still to do; see `recon.kernels.warm.warm`."""
    from recon.kernels import warm

    warm.warm(("project", "backproject"))


class JosephProjector:
    """Line integrals of a volume about its y axis, in units of a voxel's edge.

    A voxel at ``u`` gives a detector pixel at ``d`` the weight ``tent(|u - d| / m) / m`` with
    ``m = max(|cos t|, |sin t|)`` (Joseph, IEEE Trans. Med. Imaging 1, 192 (1982), in the form that
    serves both directions), so forward and back projection use the same numbers.

    Args:
        geometry: single-axis.
        like: an array of the kind that it takes.
        keep: on the CPU, keep which rows weigh how much (`recon.kernels.cpu_kept`), where that is not too much.

    Raises:
        GeometryError: the geometry is not single-axis; later, an array does not fit it.
        BackendError: later, an array that is not float32 in C order where the operator is.
    """

    def __init__(self, geometry: TiltGeometry, like: Array, *, keep: bool = True) -> None:
        if not geometry.is_single_axis:
            raise GeometryError("the native projector serves single-axis geometries; use projector = 'astra' on a GPU")
        nz, ny, nx = geometry.volume
        self.domain_shape = (nz, nx, ny)
        self.range_shape = (geometry.n_tilts, geometry.detector[1], ny)
        self.tilts_across = geometry.n_tilts
        rays, self._fineness = rays_of(geometry), geometry.fineness
        self._rays, self._kernels, self._on_device = namespace(like).asarray(rays), kernels(like), is_device_array(like)
        self._kept = None if self._on_device else _kept((nz, nx), geometry, rays, keep=keep)

    def __call__(self, x: Array, out: Array) -> Array:
        check_array("volume (z, x, y)", x, self.domain_shape, on_device=self._on_device)
        check_array("stack (tilt, u, y)", out, self.range_shape, on_device=self._on_device)
        if self._kept is not None:
            self._kept.project(x, out)
        else:
            self._kernels.project(x, out, self._rays, self._fineness)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        check_array("stack (tilt, u, y)", y, self.range_shape, on_device=self._on_device)
        check_array("volume (z, x, y)", out, self.domain_shape, on_device=self._on_device)
        if self._kept is not None:
            self._kept.backproject(y, out)
        else:
            self._kernels.backproject(y, out, self._rays, self._fineness)
        return out
