"""Resolution by Fourier shell correlation of two reconstructions from independent halves of the counts.

The counts are divided by binomial thinning: each goes to one half or the other by chance, so both are Poisson and
independent. G. Harauz, M. van Heel, "Exact filters for general geometry three dimensional reconstruction", Optik 73,
146 (1986); the threshold 0.143 for halves: P. Rosenthal, R. Henderson, J. Mol. Biol. 333, 721 (2003).

Both halves share the regulariser, which invents the same smoothness in both: a curve that stays high says that the
halves agree, not that they are right. What no tilt saw is filled by the regulariser alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.reconstruction.reconstruct import reconstruct_with
from recon.reconstruction.strength import thinned
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 0.143
CONE_DEG = 30.0  # around a direction, within which frequencies count as along it


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """How two volumes correlate, frequency by frequency.

    Attributes:
        frequency: ``(shell,)`` cycles a voxel, up to 1/2.
        whole: ``(shell,)`` of all directions.
        along: within 30 degrees of the beam (z), where the missing wedge lies.
        across: within 30 degrees of x, across the beam and the tilt axis.
        voxel_size_nm: edge of a voxel.
    """

    frequency: NDArray[np.float64]
    whole: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    voxel_size_nm: float

    def resolution_nm(self, curve: str = "whole") -> float:
        """Period at which a curve first falls below 0.143, nm; twice the voxel if it never does.

        Args:
            curve: ``"whole"``, ``"along"`` or ``"across"``.
        """
        values = np.asarray(getattr(self, curve))
        low = np.flatnonzero(values < THRESHOLD)
        if not len(low):
            return 2 * self.voxel_size_nm
        k = int(low[0])
        if k == 0:
            return float("inf")
        step = (values[k - 1] - THRESHOLD) / (values[k - 1] - values[k])
        return self.voxel_size_nm / float(self.frequency[k - 1] + step * (self.frequency[k] - self.frequency[k - 1]))


def shell_correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], voxel_size_nm: float = 1.0
) -> ShellCorrelation:
    """Fourier shell correlation of two volumes, in all directions, along the beam, and across.

    Args:
        first, second: ``(z, y, x)`` of one shape.
        voxel_size_nm: edge of a voxel.

    Raises:
        InputError: shapes that differ.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise InputError(f"volumes have the shapes {first.shape} and {second.shape}; they must be the same (z, y, x)")
    a, b = np.fft.fftn(first), np.fft.fftn(second)
    z, y, x = np.meshgrid(*(np.fft.fftfreq(n) for n in first.shape), indexing="ij", sparse=True)
    radius = np.sqrt(z * z + y * y + x * x)
    shells = min(first.shape) // 2
    shell = np.rint(radius * min(first.shape)).astype(int)
    cross, own_a, own_b = (a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2
    cosine = np.cos(np.radians(CONE_DEG))

    def curve(there: NDArray[np.bool_]) -> NDArray[np.float64]:
        at = shell[there]
        sums = [np.bincount(at, v[there], minlength=shells + 1)[1 : shells + 1] for v in (cross, own_a, own_b)]
        return np.asarray(sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], 1e-300)))

    within = (shell > 0) & (shell <= shells)
    frequency = np.arange(1, shells + 1) / min(first.shape)
    return ShellCorrelation(
        frequency, curve(within), curve(within & (np.abs(z) >= cosine * radius)),
        curve(within & (np.abs(x) >= cosine * radius)), voxel_size_nm,
    )  # fmt: skip


def resolution(
    series: TiltSeries, volumes: Mapping[str, Volume], *, seed: int = 0, device: str = "auto"
) -> dict[str, ShellCorrelation]:
    """Correlation of two reconstructions of each element, from independent halves of its counts.

    Each half is reconstructed like the whole, at the whole's strength times the square root of one half, as the noise
    in it asks for: two reconstructions an element.

    Args:
        series: what `volumes` were reconstructed from.
        volumes: from `recon.reconstruct`.
        seed: of the division.
        device: as `recon.reconstruct`.

    Raises:
        InputError: scaled maps, which cannot be divided, or a volume that was not reconstructed here.
    """
    if series.scaled:
        raise InputError("the maps are scaled, so they are not counts and cannot be divided into independent halves")
    found = {}
    for name, volume in volumes.items():
        made = volume.made
        if made.settings is None:
            raise InputError(f"nothing is known of how {name} was reconstructed; take volumes from recon.reconstruct")
        strength = "auto" if made.parameters is None else {name: made.parameters.a1 / np.sqrt(2)}
        halves = [
            reconstruct_with(half, made.settings, strength, elements=[name], device=device, progress=False)[name]
            for half in thinned(series, name, 0.5, seed)
        ]
        found[name] = shell_correlation(halves[0].values, halves[1].values, volume.voxel_size_nm)
    return found
