"""What the other tilts alone say of each map, of a joint fit to all of them.

With the hat matrix H of the fit, what it leaves of a map without having seen it is ``(1 - H)^-1`` times what it leaves
of the map. H is never formed: conjugate gradients need its products only, for all tilts at a time, and its eigenvalues
lie well below 1 unless nothing else tells what a map shows. A tilt for which they come to no end, one of few with very
many counts, is taken out of the normal equations instead, in float64.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from recon.backend import is_device_array, namespace, to_device, to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.alignment.linear import Linear

    Array = NDArray[np.float64]

ITERATIONS, ACCURACY = 60, 1e-4  # at most; of what is left of the weighted maps
BARELY = 1e-6  # by which 1 - H is kept from being singular


def foretold(found: Linear, maps: Array, weight: Array, tilts: NDArray[np.intp]) -> Array:
    """The maps at `tilts` as a fit without each would have them, ``(tilt, p, q)``; those that have no weight as is.

    Args:
        found: the fit.
        maps, weight: ``(tilt, p, q)`` the samples and their inverse variance, all of them.
        tilts: positions of those that are asked for.
    """
    root = np.sqrt(weight[tilts])
    views, xp = [found.views[i] for i in tilts], namespace(found.factor)
    place = partial(to_device, device="cuda" if is_device_array(found.factor) else "cpu")

    def hat(x: Array) -> Array:
        pulled = xp.stack([view.adjoint(image) for view, image in zip(views, place(root * x), strict=True)], axis=1)
        density = found.solve(pulled)
        back = xp.stack([view.project(d) for view, d in zip(views, density.T, strict=True)])
        return np.asarray(root * to_host(back))

    def dot(a: Array, b: Array) -> Array:
        return np.asarray((a * b).sum(axis=(1, 2), keepdims=True))

    rest = root * (maps - found.prediction)[tilts]
    alone, step = np.zeros_like(rest), rest.copy()
    size = first = dot(rest, rest)
    for _ in range(ITERATIONS):
        if (size <= ACCURACY**2 * first).all():
            break
        image = (1 + BARELY) * step - hat(step)
        length = np.where(size > 0, size / np.maximum(dot(step, image), 1e-300), 0.0)
        alone += length * step
        rest = rest - length * image
        before, size = size, dot(rest, rest)
        step = rest + np.where(before > 0, size / np.maximum(before, 1e-300), 0.0) * step
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.asarray(maps[tilts] - np.where(root > 0, alone / root, 0.0))
    for k in np.flatnonzero(size.ravel() > ACCURACY**2 * first.ravel()):
        out[k] = np.where(root[k] > 0, _by_the_others(found, maps, weight, int(tilts[k])), maps[tilts[k]])
    return out


def _by_the_others(found: Linear, maps: Array, weight: Array, tilt: int) -> Array:
    """The map at one tilt as a fit without it would have it, by its normal equations."""
    each = [to_host(view.matrix()).astype(np.float64) for view in found.views]
    normal = found.prior * np.eye(each[0].shape[1])
    right = np.zeros(len(normal))
    for i, (view, image, w) in enumerate(zip(each, maps, weight, strict=True)):
        if i != tilt:
            weighted = view * w.reshape(-1, 1)
            normal += weighted.T @ view
            right += weighted.T @ image.ravel()
    return np.asarray((each[tilt] @ np.linalg.solve(normal, right)).reshape(maps[tilt].shape))
