"""The detector warp of an alignment: where the ideal projection lies in each recorded frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, is_device_array, kernels, namespace
from recon.geometry import Shape2
from recon.operators.base import Operator, check_array
from recon.tiltseries import Alignment


def affine(alignment: Alignment, recorded: Shape2, ideal: Shape2) -> NDArray[np.float64]:
    """Index maps of `Alignment` for the kernels, ``(tilt, 6)``.

    Recorded pixel ``(i, j)``, column and row, shows the ideal projection at column
    ``a0 i + a1 j + a2`` and row ``a3 i + a4 j + a5``. `recorded` and `ideal` are ``(rows, columns)``.
    """
    (my, mu), (ny, nu) = recorded, ideal
    dv, du = alignment.displacements.T
    c, s = np.cos(np.radians(alignment.rotation_deg)), np.sin(np.radians(alignment.rotation_deg))
    i0, j0 = (mu - 1) / 2 + du, (my - 1) / 2 + dv
    one = np.ones_like(du)
    columns = [c * one, s * one, (nu - 1) / 2 - c * i0 - s * j0, -s * one, c * one, (ny - 1) / 2 + s * i0 - c * j0]
    return np.ascontiguousarray(np.stack(columns, axis=1))


class DetectorWarp:
    """Ideal projections ``(tilt, u, y)`` to recorded frames ``(tilt, u, y)`` by bilinear interpolation.

    What lies outside the ideal detector is empty. `adjoint` is exact.
    """

    def __init__(self, alignment: Alignment, recorded: Shape2, ideal: Shape2, like: Array) -> None:
        n = len(alignment.shifts)
        self.domain_shape = (n, ideal[1], ideal[0])
        self.range_shape = (n, recorded[1], recorded[0])
        self._affine = namespace(like).asarray(affine(alignment, recorded, ideal))
        self._kernels, self._on_device = kernels(like), is_device_array(like)

    def __call__(self, x: Array, out: Array) -> Array:
        check_array("ideal stack (tilt, u, y)", x, self.domain_shape, on_device=self._on_device)
        check_array("recorded stack (tilt, u, y)", out, self.range_shape, on_device=self._on_device)
        self._kernels.warp(x, out, self._affine)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        check_array("recorded stack (tilt, u, y)", y, self.range_shape, on_device=self._on_device)
        check_array("ideal stack (tilt, u, y)", out, self.domain_shape, on_device=self._on_device)
        self._kernels.warp_adjoint(y, out, self._affine)
        return out


class AlignedProjector:
    """``A = W P``: a projector followed by the warp into the recorded frames."""

    def __init__(self, projector: Operator, warp: DetectorWarp, like: Array) -> None:
        self.domain_shape, self.range_shape = projector.domain_shape, warp.range_shape
        self.projector, self.warp = projector, warp
        self._ideal = namespace(like).empty(projector.range_shape, dtype=np.float32)

    def __call__(self, x: Array, out: Array) -> Array:
        return self.warp(self.projector(x, self._ideal), out)

    def adjoint(self, y: Array, out: Array) -> Array:
        return self.projector.adjoint(self.warp.adjoint(y, self._ideal), out)
