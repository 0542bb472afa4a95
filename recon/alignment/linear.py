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
from recon.backend import is_device_array, namespace, to_device, to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.alignment.pose import Pose
    from recon.alignment.samples import Blobs, Samples
    from recon.backend import Array as Anywhere

    Array = NDArray[np.float64]

# Of the normal matrix, which is float32: the prior that mostly leaves it positive definite, and the most that is tried
ROUNDING, MOST_ROUNDING = 1e-6, 1e-3
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
        factor: of the normal matrix of the object, see `factored`.

    Views, densities, what is absorbed and the factor are on the blobs' device.
    """

    views: list[View]
    prior: float
    density: Anywhere
    prediction: Array
    slopes: list[Array]
    absorbed: Anywhere
    gradient: Array
    information: Array
    factor: Anywhere

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
        xp, device = namespace(views[0].v), blobs.device
        right = to_device(weight * samples.maps, device)
        each_right = [view.adjoint(m) for view, m in zip(views, right, strict=True)]
        density = solved(factor, xp.stack(each_right).sum(axis=0))
        on_device = xp.stack([xp.stack([*view.slopes(density), view.project(density)]) for view in views])
        # in the order of the parameters, (tilt, 4, p, q)
        each = to_host(on_device).astype(np.float64)[:, [0, 1, 3, 2]]
        each[:, 2] *= samples.cover > 0
        weighted = each * weight[:, None]
        prediction, rest = each[:, 2].copy(), samples.maps - each[:, 2]
        gradient, information = np.zeros(count), np.zeros((count, count))
        pulled = xp.zeros((count, len(blobs.points)), dtype=np.float32)
        for i, view in enumerate(views):
            at = [3 * i, 3 * i + 1, 3 * i + 2, count - 1]
            gradient[at] += np.tensordot(weighted[i], rest[i], 2)
            information[np.ix_(at, at)] += np.tensordot(each[i], weighted[i], ([1, 2], [1, 2]))
            part = view.adjoint(to_device(weighted[i], device))
            pulled[3 * i : 3 * i + 3] = part[:3]
            pulled[-1] += part[3]
        absorbed = solved(factor, pulled.T)
        information -= to_host(pulled @ absorbed)
        slopes = list(weighted.reshape(n, 4, -1).swapaxes(1, 2))
        exposures = np.arange(n) * 3 + 2
        gradient[exposures] -= (pose.log_exposures - pose.log_exposures.mean()) / EXPOSURE_PRIOR**2
        information[exposures, exposures] += 1 / EXPOSURE_PRIOR**2
        gradient[-1] -= priors.rotation_precision * (pose.rotation - priors.rotation)
        information[-1, -1] += priors.rotation_precision
        return cls(views, prior, density, prediction, slopes, absorbed, gradient, information, factor)

    def solve(self, right: Anywhere) -> Anywhere:
        """The normal equations of the object, ``(blob, ...)``, on the device."""
        return solved(self.factor, right)


def _of_object(
    pose: Pose, blobs: Blobs, samples: Samples, weight: Array, priors: Priors
) -> tuple[list[View], float, Anywhere]:
    """Views of the blobs, their prior, and their normal matrix factored."""
    mass = blobs.spacing**3 * np.exp(pose.log_exposures)
    sigma = float(np.hypot(priors.width * blobs.spacing, samples.sigma))
    views = [
        View.of(pose.land(blobs.points, i), pose.displacements[i], samples.places, sigma, mass[i], blobs.device)
        for i in range(len(pose.tilts))
    ]
    used = np.asarray(samples.cover.any(axis=(1, 2)))
    least, rounding = 1 / (priors.loose * _mean_density(views, samples, used)) ** 2, ROUNDING
    while True:
        normal = blobs.overlaps.normal_matrix(pose, samples.places, weight, sigma, mass)
        prior = max(least, rounding * float(normal.diagonal().max()))
        diagonal = namespace(normal).arange(len(normal))
        normal[diagonal, diagonal] += np.float32(prior)
        try:
            return views, prior, factored(normal)
        except np.linalg.LinAlgError:
            # what rounds off grows with the largest eigenvalue, which may be far above the diagonal
            rounding *= 10
            if rounding > MOST_ROUNDING or not np.isfinite(prior):
                raise


def factored(normal: Anywhere) -> Anywhere:
    """The lower factor of Cholesky of a matrix, of which only the lower triangle is read; it may be overwritten."""
    found: Anywhere
    if is_device_array(normal):
        found = namespace(normal).linalg.cholesky(normal)
        if not np.isfinite(float(found[-1, -1])):  # CuPy does not say so
            raise np.linalg.LinAlgError("the normal matrix of the object is not positive definite")
    else:
        from scipy import linalg

        found = linalg.cholesky(normal, lower=True, overwrite_a=True, check_finite=False)
    return found


def solved(factor: Anywhere, right: Anywhere) -> Anywhere:
    """The solution ``(blob, ...)`` of a system whose matrix was `factored`, float32."""
    right = right.astype(np.float32)
    found: Anywhere
    if is_device_array(factor):
        from cupyx.scipy.linalg import solve_triangular

        found = solve_triangular(factor, solve_triangular(factor, right, lower=True), trans=1, lower=True)
    else:
        from scipy import linalg

        found = linalg.cho_solve((factor, True), right, check_finite=False)
    return found


def _mean_density(views: list[View], samples: Samples, used: NDArray[np.bool_]) -> float:
    """The uniform density that gives the total of the maps."""
    one = namespace(views[0].v).ones(views[0].v.shape[1], dtype=np.float32)
    each = [float(view.project(one).sum()) for view, taken in zip(views, used, strict=True) if taken]
    signal = float((samples.maps * (samples.cover > 0)).sum())
    return max(signal, 1e-12) / max(sum(each), 1e-12)
