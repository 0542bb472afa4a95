"""The pure phases of a particle: how dense an element is in its own, and where that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.mask import extent
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

BORDER = 0.41  # of a domain's density, where its border lies; with `UNBLUR` sizes of simulated domains come out right
UNBLUR = 0.2  # voxels^2, of the Laplacian that is taken off
NEAR = 2  # voxels from the mask in which a domain's outer border may lie
FEWEST = 20  # voxels of a pure phase
SHARPER = 1.5  # how much faster than the density the part of a voxel rises from 0 to 1 across a border


def typical_density(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Density of an element's pure phase: the median over the voxels inside above half of their 95th percentile.

    Of an element with less than a twentieth of the particle that percentile is noise; then half of the mean density
    about its own atoms, ``sum u^2 / sum u``, stands in for it.
    """
    within = values[inside]
    if not within.size:
        return 0.0
    total = float(within.sum(dtype=np.float64))
    own = float(np.square(within, dtype=np.float64).sum()) / total if total > 0 else 0.0
    high = within[within > 0.5 * max(float(np.percentile(within, 95)), own)]
    return float(np.median(high)) if high.size else 0.0


def highest_density(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """The highest density that holds over a few voxels: the maximum inside of a Gaussian mean of one voxel."""
    from scipy import ndimage

    return float(np.max(ndimage.gaussian_filter(values, 1.0), where=inside, initial=0))


def height(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Density of an element's pure phase as a height over which borders are found: that of its upper quarter."""
    typical = typical_density(values, inside)
    within = values[inside & (values > 0.5 * typical)]
    return float(np.percentile(within, 75)) if within.size else 0.0


def sharpened(relative: NDArray[np.floating]) -> NDArray[np.float32]:
    """The part of each voxel ``(z, y, x)`` that lies in a domain, from its density over the domain's.

    A blur moves a curved border towards its centre of curvature, by its variance times the curvature: the Laplacian
    undoes that, as it undoes the blur of a flat one.
    """
    from scipy import ndimage

    sharp = relative - np.float32(UNBLUR) * ndimage.laplace(relative)
    return np.asarray(np.clip((sharp - BORDER) * SHARPER + 0.5, 0, 1), np.float32)


def domains(
    volumes: Mapping[str, Volume], inside: NDArray[np.bool_], beside: Sequence[NDArray[np.float32]] = ()
) -> dict[str, NDArray[np.float32]]:
    """Where each element is the main one ``(z, y, x)``, as the part of each voxel; together at most 1.

    Args:
        volumes: element to volume.
        inside: the particle.
        beside: fields of other regions, which are left out.
    """
    from scipy import ndimage

    at = extent(inside, NEAR + 1)
    # a border cut short would press what is inside together
    near = ndimage.binary_dilation(inside[at], iterations=NEAR).astype(np.float32)
    left = np.ones(near.shape, np.float32)
    for other in beside:
        left = np.maximum(left - other[at], np.float32(0))
    parts = {n: sharpened(v.values[at] / max(height(v.values, inside), 1e-30)) * near for n, v in volumes.items()}
    total = np.maximum(sum(parts.values(), start=np.zeros_like(left)), np.float32(1))
    out = {}
    for n, part in parts.items():
        out[n] = np.zeros(inside.shape, np.float32)
        out[n][at] = left * part / total
    return out


def core(
    domain: NDArray[np.float32], values: NDArray[np.float32], others: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Where to ask for an element's pure phase ``(z, y, x)``: the inside of its domain, away from borders.

    Where its domain has no voxels inside, the region among `others` that holds most of it.

    Args:
        domain: of the element, without other regions.
        values: of the element.
        others: weights of the regions that are asked about.
    """
    from scipy import ndimage

    labels, n = ndimage.label(domain > 0.5)
    if n:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        largest = labels == np.argmax(sizes)
        at = extent(largest, 1)
        depth = ndimage.distance_transform_edt(largest[at])
        for least in (3.0, 2.4, 1.9, 1.4):
            if (depth > least).sum() >= FEWEST:
                out = np.zeros(domain.shape, np.float32)
                out[at] = depth > least
                return out
    held = [float((values * w).sum()) for w in others]
    if held and max(held) > 0:
        return others[int(np.argmax(held))]
    return np.asarray(values >= np.percentile(values, 99.5), np.float32)
