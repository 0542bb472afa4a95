"""Resolution by Fourier shell correlation of two reconstructions from independent halves of the counts.

G. Harauz, M. van Heel, "Exact filters for general geometry three dimensional reconstruction", Optik 73, 146 (1986);
the threshold 0.143 for halves: P. Rosenthal, R. Henderson, J. Mol. Biol. 333, 721 (2003). Curves along a direction
take the frequencies in a cone about it: Y. Z. Tan et al., "Addressing preferred specimen orientation in
single-particle cryo-EM through tilting", Nat. Methods 14, 793 (2017).

Both halves share the regulariser, which invents the same smoothness in both: a curve that stays high says that the
halves agree, not that they are right. What no tilt saw is filled by the regulariser alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.halves import ITERATIONS, Halves, halves
from recon.errors import InputError
from recon.files import Number
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 0.143
CONE_DEG = 30.0  # around a direction, within which frequencies count as along it
DIRECTIONS = {"along": 0, "axis": 1, "across": 2}  # curve: axis of a volume (z, y, x)


@dataclass(frozen=True)
class ShellCorrelation:
    """How two volumes correlate, frequency by frequency; nan where a curve has no frequencies.

    Attributes:
        frequency: ``(shell,)`` cycles a voxel, up to 1/2.
        whole: ``(shell,)`` of all directions.
        along: within 30 degrees of the beam (z), where the missing wedge lies.
        across: within 30 degrees of x, across the beam and the tilt axis.
        axis: within 30 degrees of y, the tilt axis.
        voxel_size_nm: edge of a voxel.
    """

    frequency: tuple[float, ...]
    whole: tuple[Number, ...]
    along: tuple[Number, ...]
    across: tuple[Number, ...]
    axis: tuple[Number, ...]
    voxel_size_nm: float

    def resolution_nm(self, curve: str = "whole") -> float:
        """Period at which a curve first falls below 0.143, nm; twice the voxel if it never does.

        Args:
            curve: ``"whole"``, ``"along"``, ``"across"`` or ``"axis"``.
        """
        values = np.nan_to_num(getattr(self, curve), nan=0.0)
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
    from scipy import fft

    spectra = [fft.rfftn(np.asarray(v, np.float32)) for v in (first, second)]
    nz, ny, nx = first.shape
    y, x = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :]
    # rfftn leaves out the frequencies whose opposites it has
    twice = np.broadcast_to(np.where((x > 0) & (x < 0.5), 2.0, 1.0), (ny, x.size))
    shells, cosine = min(first.shape) // 2, np.cos(np.radians(CONE_DEG))
    sums = {name: np.zeros((3, shells + 1)) for name in ("whole", *DIRECTIONS)}
    for z, a, b in zip(np.fft.fftfreq(nz), *spectra, strict=True):  # plane by plane: memory is short in large volumes
        radius = np.sqrt(z * z + y * y + x * x)
        shell = np.rint(radius * min(first.shape)).astype(int)
        within = (shell > 0) & (shell <= shells)
        products = [twice * v for v in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)]
        for name, total in sums.items():
            there = within
            if name in DIRECTIONS:
                there = within & (np.abs((z, y, x)[DIRECTIONS[name]]) >= cosine * radius)
            for k, product in enumerate(products):
                total[k] += np.bincount(shell[there], product[there], minlength=shells + 1)

    def curve(name: str) -> tuple[float, ...]:
        cross, own_a, own_b = sums[name][:, 1:]
        size = np.sqrt(own_a * own_b)
        return tuple(float(v) for v in np.where(size > 0, cross / np.maximum(size, 1e-300), np.nan))

    return ShellCorrelation(
        frequency=tuple(float(k / min(first.shape)) for k in range(1, shells + 1)),
        voxel_size_nm=voxel_size_nm,
        **{name: curve(name) for name in sums},
    )


def correlations(found: Halves) -> dict[str, ShellCorrelation]:
    """Fourier shell correlation of each element's two halves."""
    return {
        name: shell_correlation(volume.values, found.second[name].values, volume.voxel_size_nm)
        for name, volume in found.first.items()
    }


def resolution(
    series: TiltSeries,
    volumes: Mapping[str, Volume],
    *,
    seed: int = 0,
    iterations: int = ITERATIONS,
    device: str = "auto",
) -> dict[str, ShellCorrelation]:
    """Correlation of two reconstructions of each element, from independent halves of its counts.

    Args:
        series: what `volumes` were reconstructed from.
        volumes: from `recon.reconstruct`.
        seed, iterations, device: see `recon.analysis.halves.halves`, which reconstructs them.

    Raises:
        InputError: maps that are no counts, or a volume that was not reconstructed here.
    """
    return correlations(halves(series, volumes, seed=seed, iterations=iterations, device=device))
