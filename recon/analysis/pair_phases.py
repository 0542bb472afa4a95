"""Which phase each voxel belongs to, of two elements: one alone, the other alone, both, or neither.

The densities of both are divided by those of their pure phases; their sum says whether there is matter, and the first
one's part of the sum, the share, says which. Between two pure phases every share occurs once in the border that the
reconstruction blurs, though nothing is mixed there. Such voxels are told from truly mixed ones by the layer they form:
no thicker than the blur makes it, with one pure phase on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMPTY, FIRST, SECOND, BOTH = 0, 1, 2, 3
PURE = 0.73  # of the share; a little below the middle between pure and even: a regulariser leaves a rest of the other
MATTER = 0.5  # of a pure phase: the middle between matter and none


@dataclass(frozen=True, eq=False)
class Phases:
    """Two elements, voxel by voxel.

    Attributes:
        labels: ``(z, y, x)`` uint8: 0 empty, 1 the first alone, 2 the second alone, 3 both.
        blurred: ``(z, y, x)`` bool, voxels that hold both because a border between pure phases is blurred; in `labels`
            they belong to the nearer of the two.
        share: ``(z, y, x)`` float32, part of the first element in what is there; nan in empty voxels.
        thinnest: voxels; a mixed layer between two pure phases that is thinner cannot be told from blur.
    """

    labels: NDArray[np.uint8]
    blurred: NDArray[np.bool_]
    share: NDArray[np.float32]
    thinnest: float

    def fractions(self) -> tuple[float, float, float]:
        """Parts of the matter that hold the first alone, the second alone, both; nan where there is no matter."""
        counts = np.bincount(self.labels.ravel(), minlength=4)[1:4].astype(np.float64)
        first, second, both = counts / counts.sum() if counts.sum() else np.full(3, np.nan)
        return float(first), float(second), float(both)


def check_pair(first: NDArray[np.float32], second: NDArray[np.float32], pure: tuple[float, float]) -> None:
    """Raise InputError unless two volumes have one shape ``(z, y, x)`` and both pure phases a density."""
    if first.shape != second.shape or first.ndim != 3:
        raise InputError(f"volumes have the shapes {first.shape} and {second.shape}; they must be the same (z, y, x)")
    if not (np.isfinite(pure).all() and min(pure) > 0):
        raise InputError(f"the pure phases have the densities {pure[0]:g} and {pure[1]:g}; both must be positive")


def phases(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    pure: tuple[float, float],
    *,
    inside: NDArray[np.bool_] | None = None,
    blur: float = 1.0,
) -> Phases:
    """Divide a particle into phases.

    Args:
        first, second: ``(z, y, x)`` densities.
        pure: densities of their pure phases.
        inside: ``(z, y, x)``, where matter may be; everywhere by default.
        blur: standard deviation of the blur across a border, voxels, see `recon.analysis.interfaces.edge_width`.

    Raises:
        InputError: shapes that differ, or a pure phase without density.
    """
    check_pair(first, second, pure)
    from scipy import ndimage

    a, b = np.maximum(first / np.float32(pure[0]), 0), np.maximum(second / np.float32(pure[1]), 0)
    total = a + b
    matter = total > MATTER
    if inside is not None:
        matter &= inside
    share = np.where(matter, a / np.where(matter, total, 1), np.nan).astype(np.float32)
    labels = np.zeros(first.shape, np.uint8)
    known = np.nan_to_num(share, nan=-1.0)
    labels[matter] = BOTH
    labels[matter & (known > PURE)] = FIRST
    labels[matter & (known < 1 - PURE)] = SECOND
    blurred = np.zeros(first.shape, bool)
    # between the two pure phases of a border blurred by a Gaussian, shares from 1/4 to 3/4 fill 1.35 deviations; the
    # distances of a voxel in a layer of n voxels to those on either side add up to n + 1
    thinnest = 1.35 * blur + 1.0
    if (labels == FIRST).any() and (labels == SECOND).any():
        to_first = ndimage.distance_transform_edt(labels != FIRST)
        to_second = ndimage.distance_transform_edt(labels != SECOND)
        blurred = (labels == BOTH) & (to_first + to_second <= thinnest + 1.0)
        labels[blurred] = np.where(known[blurred] > 0.5, FIRST, SECOND)
    return Phases(labels, blurred, share, thinnest)
