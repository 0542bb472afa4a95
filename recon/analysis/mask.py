"""The particle's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError, JobError
from recon.series.volume import Volume, by_element

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mask(volumes: Mapping[str, Volume] | Volume, method: str = "auto") -> NDArray[np.bool_]:
    """The particle's shape ``(z, y, x)``: all elements together above a threshold (Longley et al. 2018).

    Each element is divided by its typical density, the mean over its own atoms ``sum u^2 / sum u``, so that none is
    lost and a small domain does not outshine a large one, and the sum is smoothed by one voxel; the threshold is
    Otsu's. Small specks are dropped and holes inside are kept as they are.

    Args:
        volumes: as from `reconstruct`.
        method: ``"auto"``, or ``"none"`` for everything.
    """
    if method not in ("auto", "none"):
        raise JobError(f"mask method {method!r} is unknown; use auto or none")
    stack = [v.values for v in by_element(volumes).values()]
    if not stack:
        raise InputError("there are no volumes to make a mask of")
    if method == "none":
        return np.ones(stack[0].shape, bool)
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    total = np.zeros(stack[0].shape, np.float32)
    for values in stack:
        squares = float(np.square(values, dtype=np.float64).sum())
        total += values * np.float32(
            float(values.sum(dtype=np.float64)) / max(squares, float(np.finfo(np.float64).tiny))
        )
    total = ndimage.gaussian_filter(total, 1.0)
    if not total.max() > total.min():
        return np.ones(total.shape, bool)
    inside = total > threshold_otsu(total)
    labels, n = ndimage.label(inside)
    if n > 1:
        sizes = np.bincount(labels.ravel())[1:]
        inside = np.isin(labels, 1 + np.flatnonzero(sizes >= 0.01 * sizes.max()))
    return np.asarray(inside)


def extent(inside: NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...]:
    """The least box that holds all that is inside, and a margin of voxels around it as far as the array goes."""
    found = []
    for axis, n in enumerate(inside.shape):
        there = np.flatnonzero(inside.any(axis=tuple(k for k in range(inside.ndim) if k != axis)))
        first, last = (int(there[0]), int(there[-1])) if there.size else (0, n - 1)
        found.append(slice(max(first - margin, 0), min(last + 1 + margin, n)))
    return tuple(found)


def apply_mask(volumes: Mapping[str, Volume], inside: NDArray[np.bool_]) -> dict[str, Volume]:
    """The volumes with everything outside the mask set to zero; inside, nothing is touched."""
    return {n: v.masked(inside) for n, v in volumes.items()}
