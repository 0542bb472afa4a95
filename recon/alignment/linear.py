"""The joint fit at one pose: the object solved for, and what the parameters would change.

The object enters linearly. In each Gauss-Newton step it is solved for exactly, and the parameters move by what
is left of their derivatives once the object has taken up all it can (variable projection: Golub, Pereyra, SIAM J.
Numer. Anal. 10, 413 (1973)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.blobs import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.alignment.pose import Pose
    from recon.alignment.samples import Blobs, Samples

    Array = NDArray[np.float64]

ROUNDING = 1e-6  # of the normal matrix, which is float32: least prior that leaves it positive definite
EXPOSURE_PRIOR = 0.5  # of log exposures; decides only where the maps do not
ROTATION_PRIOR = 0.17  # radians, 10 degrees, about the side of the frame that the user named; decides likewise


@dataclass(frozen=True)
class Priors:
    """What is expected before the maps are looked at.

    Attributes:
        width: standard deviation of a blob, in distances between blobs.
        loose: standard deviation of a blob's density, in mean densities.
        rotation: expected one, radians.
        excess: how much more than noise the model leaves: then the maps say less.
    """

    width: float
    loose: float
    rotation: float = 0.0
    excess: float = 1.0

    @property
    def rotation_precision(self) -> float:
        """Of the rotation, in units of the misfit."""
        return self.excess / ROTATION_PRIOR**2


@dataclass(frozen=True, eq=False)
class Linear:
    """The fit linearised at one pose; parameters are (v, u, log exposure) of each tilt, then the rotation.

    Attributes:
        views: the blobs at every tilt, exposed.
        prior: inverse variance of a blob's density about 0.
        density: ``(blob,)`` the object.
        prediction: ``(tilt, p, q)`` of the samples.
        slopes: each tilt's weighted derivatives by its three parameters and the rotation, ``(sample, 4)``.
        absorbed: ``(blob, parameter)`` how the object would follow each parameter.
        gradient, information: of the parameters, the object solved for.
        factor: of the normal matrix of the object.
    """

    views: list[View]
    prior: float
    density: Array
    prediction: Array
    slopes: list[Array]
    absorbed: Array
    gradient: Array
    information: Array
    factor: tuple[NDArray[np.float32], bool]

    @classmethod
    def at(
        cls, pose: Pose, blobs: Blobs, samples: Samples, weight: Array, priors: Priors, like: Linear | None = None
    ) -> Linear:
        """Solve for the object and take the derivatives of the misfit at it.

        Args:
            pose, blobs, samples, priors: of the fit.
            weight: ``(tilt, p, q)`` inverse variance of the samples.
            like: the fit of other maps at this pose, with these blobs and weights, whose matrices serve again.
        """
        n, count = len(pose.tilts), 3 * len(pose.tilts) + 1
        if like is None:
            views, prior, factor = _of_object(pose, blobs, samples, weight, priors)
        else:
            views, prior, factor = like.views, like.prior, like.factor
        right = [view.adjoint(m) for view, m in zip(views, weight * samples.maps, strict=True)]
        density = _solved(factor, np.sum(right, axis=0))
        prediction = np.empty_like(samples.maps)
        gradient, information = np.zeros(count), np.zeros((count, count))
        pulled = np.zeros((len(blobs.points), count))
        slopes = []
        for i, view in enumerate(views):
            value = prediction[i] = np.where(samples.cover[i] > 0, view.project(density), 0)
            slope_v, slope_u, turned = view.slopes(density)
            each = np.stack([slope_v, slope_u, value, turned])
            weighted = each * weight[i]
            slopes.append(weighted.reshape(4, -1).T)
            at = [3 * i, 3 * i + 1, 3 * i + 2, count - 1]
            gradient[at] += np.tensordot(weighted, samples.maps[i] - value, 2)
            information[np.ix_(at, at)] += np.tensordot(each, weighted, ([1, 2], [1, 2]))
            pulled[:, at] += view.adjoint(weighted).T
        absorbed = _solved(factor, pulled)
        information -= pulled.T @ absorbed
        exposures = np.arange(n) * 3 + 2
        gradient[exposures] -= (pose.log_exposures - pose.log_exposures.mean()) / EXPOSURE_PRIOR**2
        information[exposures, exposures] += 1 / EXPOSURE_PRIOR**2
        gradient[-1] -= priors.rotation_precision * (pose.rotation - priors.rotation)
        information[-1, -1] += priors.rotation_precision
        return cls(views, prior, density, prediction, slopes, absorbed, gradient, information, factor)

    def solve(self, right: Array) -> Array:
        """The normal equations of the object, ``(blob, ...)``."""
        return _solved(self.factor, right)


def _of_object(
    pose: Pose, blobs: Blobs, samples: Samples, weight: Array, priors: Priors
) -> tuple[list[View], float, tuple[NDArray[np.float32], bool]]:
    """Views of the blobs, their prior, and their normal matrix factored."""
    from scipy import linalg

    mass = blobs.spacing**3 * np.exp(pose.log_exposures)
    sigma = float(np.hypot(priors.width * blobs.spacing, samples.sigma))
    views = [
        View.of(pose.land(blobs.points, i), pose.displacements[i], samples.places, sigma, mass[i])
        for i in range(len(pose.tilts))
    ]
    normal = blobs.overlaps.normal_matrix(pose, samples.places, weight, sigma, mass)
    used = np.asarray(samples.cover.any(axis=(1, 2)))
    loose = 1 / (priors.loose * _mean_density(views, samples, used)) ** 2
    prior = max(loose, ROUNDING * float(normal.diagonal().max()))
    normal[np.diag_indices(len(normal))] += np.float32(prior)
    return views, prior, linalg.cho_factor(normal, lower=True, overwrite_a=True, check_finite=False)


def _solved(factor: tuple[NDArray[np.float32], bool], right: Array) -> Array:
    from scipy import linalg

    return np.asarray(linalg.cho_solve(factor, right.astype(np.float32), check_finite=False), np.float64)


def _mean_density(views: list[View], samples: Samples, used: NDArray[np.bool_]) -> float:
    """The uniform density that gives the total of the maps."""
    one = np.ones(views[0].v.shape[1])
    each = [float(view.project(one).sum()) for view, taken in zip(views, used, strict=True) if taken]
    signal = float((samples.maps * (samples.cover > 0)).sum())
    return max(signal, 1e-12) / max(sum(each), 1e-12)
