"""Large places are asked about on larger voxels: what a place holds does not depend on how finely it is drawn.

A fit and the recordings simulated for its interval cost as many voxels as the volume has. A place that is many voxels
deep is as well drawn by voxels twice or four times as large, which are an eighth or a sixty-fourth as many; a field
holds the part of each voxel that lies in a place, so that its border need not follow them. The counts are the same,
summed over more pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.features import depth
from recon.analysis.places import Place
from recon.model.grid import grid
from recon.series.binning import binned
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Voxels from its border to its middle that a place has at least on larger voxels: with fewer, down to the 1.9 of
# `recon.features`, it is found again in fewer of the simulated recordings.
DEEP = 3.0
KEPT = 0.95  # of the weight of the pixels that larger ones have at least


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about, and of what.

    Attributes:
        series: what `volumes` were reconstructed from.
        volumes: element to volume.
        places: in these.
        factor: edge of these voxels in those of the volumes that were handed in.
    """

    series: TiltSeries
    volumes: Mapping[str, Volume]
    places: Sequence[Place]
    factor: int = 1

    @property
    def on_larger_voxels(self) -> Question:
        """The same question, where all places are deep enough for voxels that are larger by a whole factor.

        Only of places over whose inside means are taken, as those that were found: over all of a shape or an array,
        they depend on how finely its border is drawn.
        """
        if any(place.weight is place.fraction for place in self.places):
            return self
        deep = min(depth(place.fraction > 0.5) for place in self.places)
        for factor in range(int(deep / DEEP), 1, -1):
            found = self._by(factor)
            if found is not None:
                return found
        return self

    def _by(self, factor: int) -> Question | None:
        """The question on voxels larger by a factor; None where these do not fill the volumes, or nothing is known of
        how these were made, which is told elsewhere."""
        if any(v.solution is None for v in self.volumes.values()):
            return None
        shapes = [self.series.frame, *(v.solved.shape for v in self.volumes.values())]
        if any(n % factor for shape in shapes for n in shape):
            return None
        small, bins = binned(self.series, factor)
        small = small.evolve(alignment=bins.down(self.series.alignment))
        if any(small.seen_by(e).mean() < KEPT * self.series.seen_by(e).mean() for e in range(len(small.elements))):
            return None  # a larger pixel is left out with any pixel in it
        volumes = {n: _larger(v, factor) for n, v in self.volumes.items()}
        for volume in volumes.values():
            made = volume.made
            nz, ny, nx = grid(small, "auto" if made.settings is None else made.settings.thickness).shape
            if volume.solved.shape != (nz, nx, ny):
                return None
        places = [
            replace(p, fraction=_blocks(p.fraction, factor), weight=_blocks(p.weight, factor)) for p in self.places
        ]
        return Question(small, volumes, places, factor)


def _larger(volume: Volume, factor: int) -> Volume:
    """A volume on voxels of `factor` times the edge.

    Counts of factor^2 pixels over a length of `factor`: a density in counts per voxel length is factor^3 times as large
    as its mean. ``a1 / factor`` weighs the same object alike.
    """
    made = volume.made
    settings, numbers, gain = made.settings, made.parameters, np.float32(factor**3)
    if settings is not None and settings.thickness != "auto":
        settings = replace(settings, thickness=int(settings.thickness) // factor)
    if numbers is not None:
        numbers = replace(numbers, a1=numbers.a1 / factor, a0=numbers.a0 / factor**2)
    full = None if made.value is None else gain * _blocks(volume.solved, factor)
    values = gain * _blocks(volume.values, factor)
    made = replace(made, value=full, settings=settings, parameters=numbers)
    return replace(volume, values=values, voxel_size_nm=volume.voxel_size_nm * factor, solution=made)


def _blocks(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over blocks of factor^3."""
    nz, ny, nx = (n // factor for n in a.shape)
    cut = a[: nz * factor, : ny * factor, : nx * factor]
    blocks = cut.reshape(nz, factor, ny, factor, nx, factor)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


__all__ = ["Question"]
