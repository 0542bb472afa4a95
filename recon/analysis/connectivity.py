"""How a phase hangs together: its pieces, its handles, and what stays in one piece when another phase is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPECK = 20  # voxels; a smaller piece is not counted: noise makes such ones


@dataclass(frozen=True)
class Connectivity:
    """One phase.

    Attributes:
        pieces: connected by faces, without specks.
        volumes: voxels of each, the largest first.
        euler: Euler number of those pieces: pieces + cavities - handles.
        cavities: enclosed by them on all sides.
        handles: the genus summed over pieces: ways around a hole.
    """

    pieces: int
    volumes: tuple[int, ...]
    euler: int
    cavities: int
    handles: int

    @property
    def largest(self) -> float:
        """Part of the phase that is in its largest piece; nan where there is none."""
        return self.volumes[0] / sum(self.volumes) if self.volumes else float("nan")


def without_specks(phase: NDArray[np.bool_], speck: int = SPECK) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """A phase without its smallest pieces, and the volumes of the others, largest first."""
    from scipy import ndimage

    pieces, _ = ndimage.label(phase)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = sizes >= speck
    return kept[pieces], tuple(sorted((int(n) for n in sizes[kept]), reverse=True))


def connectivity(phase: NDArray[np.bool_], speck: int = SPECK) -> Connectivity:
    """Pieces, cavities and handles of a phase ``(z, y, x)``; specks in it and holes as small are passed over."""
    from scipy import ndimage
    from skimage.measure import euler_number

    # by majority of 27, so that slivers and pinholes a voxel wide make neither bridges nor handles; a hole of a few
    # voxels is as much noise as a speck of the phase
    smooth = ndimage.uniform_filter(np.pad(phase, 2).astype(np.float32), 3) > 0.5
    solid, volumes = without_specks(~without_specks(~smooth, speck)[0], speck)
    euler = int(euler_number(solid, connectivity=1))
    # what is not of the phase hangs together by corners too
    _, outside = ndimage.label(~solid, np.ones((3, 3, 3)))
    cavities = outside - 1
    return Connectivity(len(volumes), volumes, euler, cavities, len(volumes) + cavities - euler)


def left_over(matter: NDArray[np.bool_], taken: NDArray[np.bool_], speck: int = SPECK) -> tuple[int, float]:
    """What stays when a phase is taken away: pieces of the rest, and the part of it that is in the largest."""
    rest = connectivity(matter & ~taken, speck)
    return rest.pieces, rest.largest
