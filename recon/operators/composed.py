"""The projector of a geometry of several parts, each on the volume turned so that its slices lie along memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, is_device_array, kernels, namespace
from recon.errors import GeometryError
from recon.geometry.parts import AXES, Part
from recon.geometry.tilt_geometry import Shape3, TiltGeometry
from recon.operators.base import Operator, check_array
from recon.operators.general import GeneralProjector, fast_axis, lattice, margin
from recon.operators.single_axis import aligned_projector
from recon.series.alignment import Alignment

Y = AXES.index("y")  # the axis that the volume's own layout (z, x, y) has along memory


@dataclass(frozen=True, eq=False)
class Piece:
    """Some of the projections: where they stand, the axis along memory of the volume they take, and their projector."""

    index: NDArray[np.intp]
    fast: int
    operator: Operator

    def is_whole(self, n: int) -> bool:
        return np.array_equal(self.index, np.arange(n))


def pieces(geometry: TiltGeometry, like: Array, projector: str) -> list[Piece]:
    """A projector for every part of the geometry; those that share a layout of the volume come one after another.

    Raises:
        GeometryError: ASTRA is asked on the CPU for projections about none of the volume's axes.
    """
    out = []
    for part in geometry.parts():
        if part.axis is not None:
            fast = AXES.index(part.axis)
            out.append(Piece(part.index, fast, _single_axis(geometry, part, fast, like, projector)))
            continue
        if projector == "astra":
            raise GeometryError(
                f"projection {part.index[0] + 1} turns about none of the volume's axes (its ray is "
                f"{np.round(geometry.ray[part.index[0]], 4)}): ASTRA projects it on a "
                "GPU only; use projector = 'native'"
            )
        along = fast_axis(geometry)[part.index]
        for fast in np.unique(along):
            index = part.index[along == fast]
            some = geometry if index.size == geometry.n_tilts else geometry[index]
            out.append(Piece(index, int(fast), GeneralProjector(some, int(fast), like)))
    return sorted(out, key=lambda piece: piece.fast != Y)


def _single_axis(geometry: TiltGeometry, part: Part, fast: int, like: Array, projector: str) -> Operator:
    p, q = (geometry.volume[k] for k in range(3) if k != fast)
    alignment = Alignment(part.shifts, part.rotation_deg)
    turned = (p, geometry.volume[fast], q)
    return aligned_projector(part.angles_deg, alignment, geometry.detector, turned, like, projector)


def scratch_words(geometry: TiltGeometry) -> int:
    """Floats that a `ComposedProjector` holds: a turned volume, padded ones, lattices and part stacks."""
    voxels, total, alone = math.prod(geometry.volume), 0, True
    for part in geometry.parts():
        if part.axis is not None:
            alone = alone and part.axis == "y"
            total += 2 * part.index.size * geometry.volume[AXES.index(part.axis)] * max(geometry.detector)
            continue
        along = fast_axis(geometry)[part.index]
        for fast in np.unique(along):
            index = part.index[along == fast]
            found = lattice(geometry[index], int(fast))
            rows = geometry.volume[fast]
            total += voxels * (rows + 2 * margin(found.rays)) // rows + index.size * math.prod(found.shape)
            alone = alone and fast == Y
    return total + (0 if alone and len(geometry.parts()) == 1 else voxels) + math.prod(geometry.stack_shape)


class ComposedProjector:
    """``A`` of a geometry, part by part: volumes ``(z, x, y)``, stacks ``(tilt, u, y)`` in the geometry's order.

    A part about y takes the volume as it lies, one about x or z a copy with the axes exchanged.

    Raises:
        GeometryError, BackendError: as the projectors of its parts.
    """

    def __init__(self, geometry: TiltGeometry, like: Array, projector: str = "native") -> None:
        nz, ny, nx = geometry.volume
        rows, columns = geometry.detector
        self.domain_shape: Shape3 = (nz, nx, ny)
        self.range_shape: Shape3 = (geometry.n_tilts, columns, rows)
        self.pieces = pieces(geometry, like, projector)
        xp = namespace(like)
        self._kernels, self._on_device = kernels(like), is_device_array(like)
        alone = len(self.pieces) == 1 and self.pieces[0].fast == Y
        self._volume = None if alone else xp.empty(nz * ny * nx, dtype=np.float32)
        longest = max((len(p.index) for p in self.pieces if not p.is_whole(geometry.n_tilts)), default=0)
        self._stack = xp.empty((longest, columns, rows), dtype=np.float32)

    def __call__(self, x: Array, out: Array) -> Array:
        check_array("volume (z, x, y)", x, self.domain_shape, on_device=self._on_device)
        check_array("stack (tilt, u, y)", out, self.range_shape, on_device=self._on_device)
        fast, volume = Y, x
        for piece in self.pieces:
            whole = piece.is_whole(len(out))
            into = out if whole else self._stack[: len(piece.index)]
            if piece.fast != Y and isinstance(piece.operator, GeneralProjector):  # which makes a copy anyhow
                piece.operator.exchanged(x, _exchanged(piece.fast), into)
            else:
                if piece.fast != fast:
                    fast, volume = piece.fast, self._turned(piece)
                    self._kernels.exchange(x, volume, _exchanged(fast))
                piece.operator(volume, into)
            if not whole:
                out[piece.index] = into
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        check_array("stack (tilt, u, y)", y, self.range_shape, on_device=self._on_device)
        check_array("volume (z, x, y)", out, self.domain_shape, on_device=self._on_device)
        for number, piece in enumerate(self.pieces):
            stack = y
            if not piece.is_whole(len(y)):
                stack = self._stack[: len(piece.index)]
                stack[...] = y[piece.index]
            if piece.fast == Y and number == 0:
                piece.operator.adjoint(stack, out)
                continue
            volume = piece.operator.adjoint(stack, self._turned(piece))
            if piece.fast == Y:
                self._kernels.add(volume, out)
            elif number == 0:
                self._kernels.exchange(volume, out, _exchanged(piece.fast))
            else:
                self._kernels.exchange_add(volume, out, _exchanged(piece.fast))
        return out

    def _turned(self, piece: Piece) -> Array:
        assert self._volume is not None
        part: Array = self._volume.reshape(piece.operator.domain_shape)
        return part


def _exchanged(fast: int) -> int:
    """The axis of ``(z, x, y)`` to exchange with the last one, so that `fast` of (z, y, x) is the last."""
    return 0 if fast == AXES.index("z") else 1
