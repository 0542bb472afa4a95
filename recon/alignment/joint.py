"""Shifts, exposures and axis rotation of a series together with a smooth object, by least squares.

The rotation of the tilt axis is the hard one: a reconstruction on voxels takes it up, and interpolation blurs
differently at each angle, which outweighs what the maps say. So here the object is a sum of round Gaussian
blobs (`blobs`), whose projections and derivatives are exact. The maps are smoothed first, so that what the blobs
cannot draw does not count.

The object enters linearly. In each Gauss-Newton step it is solved for exactly, and the parameters move by what
is left of their derivatives once the object has taken up all it can (variable projection: Golub, Pereyra, SIAM J.
Numer. Anal. 10, 413 (1973)). The same matrices give the standard errors: what the noise of the counts does to the
estimate, the object being unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.blobs import View, normal_matrix
from recon.model.grid import grid
from recon.model.noise import noise_weights
from recon.preparation.isolation import look
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MOST_BLOBS = 2000
FINEST = 2.0  # pixels between blobs at least
WIDTH = 0.75  # standard deviation of a blob, in distances between blobs: their sum is smooth to 0.3 %
SMOOTHING = 0.6  # of the maps, likewise
PITCH = 1.5  # of the samples of a smoothed map, in standard deviations of its kernel
LOOSE = 10.0  # prior standard deviation of a blob's density, in mean densities
FLOOR = 0.05  # of the brightest pixel: least variance that a dark one is given, since no model is exact
SECTION = 1 / 8  # thickness of what leaves the frame, in widths of the frame: of more, the maps say too little
ROUNDING = 1e-6  # of the normal matrix, which is float32: least prior that leaves it positive definite
EXPOSURE_PRIOR = 0.5  # of log exposures; decides only where the maps do not
ROTATION_PRIOR = 0.17  # radians, 10 degrees, about the side of the frame that the user named; decides likewise


@dataclass
class JointFit:
    """A fit in progress; `step` improves it.

    Attributes:
        series: of one element, with its background.
        displacements: ``(tilt, 2)`` pixels, (v, u), axis offset included.
        log_exposures: ``(tilt,)``.
        rotation: of the axis, radians.
        used: ``(tilt,)`` False for a tilt that takes no part.
    """

    series: TiltSeries
    alignment: Alignment
    used: NDArray[np.bool_]
    most: int = MOST_BLOBS
    finest: float = FINEST
    width: float = WIDTH
    smoothing: float = SMOOTHING
    floor: float = FLOOR
    loose: float = LOOSE

    def __post_init__(self) -> None:
        s = self.series
        self.displacements = self.alignment.displacements.copy()
        self.rotation = float(np.radians(self.alignment.rotation_deg))
        self.log_exposures = np.log(np.maximum(s.exposures[0], 1e-3))
        self.expected_rotation = 0.0
        self.tilts = np.radians(s.tilts_deg)
        self.outside = (s.scene or look(s)).empty
        self._place()
        self._sample()

    # ------------------------------------------------------------------ what is fitted

    def _place(self) -> None:
        """Blobs on a cubic lattice where some map shows them, and every map that does leaves room for the object."""
        from scipy import ndimage

        s = self.series
        present = replace(self.alignment, shifts=self.displacements, axis_offset=0.0)
        present = replace(present, rotation_deg=float(np.degrees(self.rotation)))
        size = np.array(grid(s.evolve(alignment=present)).shape, float)
        ny, nx = s.frame
        if not s.isolated:
            size[0] = max(SECTION * nx, 2 * self.finest)
        room = np.where(self.outside, 0.0, 1.0)

        def lattice(h: float) -> Array:
            axes = [(np.arange(n) - (n - 1) / 2) * h for n in np.ceil(size / h).astype(int)]
            y, z, x = (a.ravel() for a in np.meshgrid(axes[1], axes[0], axes[2], indexing="ij"))
            points = np.stack([z, y, x], axis=1)  # in the order of y, see `normal_matrix`
            keep, shown = np.ones(len(points), bool), np.zeros(len(points), bool)
            for i in np.flatnonzero(self.used):
                v, u = self._land(points, i)
                shown |= (np.abs(v) < ny / 2 + h) & (np.abs(u) < nx / 2 + h)
                at = [v + (ny - 1) / 2, u + (nx - 1) / 2]
                keep &= ndimage.map_coordinates(room[i], at, order=1, cval=1.0) > 0.5  # beyond the frame is room
            return points[keep & shown]

        coarse = lattice(float(np.cbrt(size.prod() / 8000)))
        volume = len(coarse) * size.prod() / 8000
        self.spacing = max(self.finest, float(np.cbrt(volume / self.most)))
        self.points = lattice(self.spacing)

    def _sample(self) -> None:
        """Smooth the maps and sample them: ``y = K_v image K_u^T``."""
        s = self.series
        self._weight: Array | None = None
        self._present, self._excess = False, 1.0  # whether the linearisation is that of the present parameters
        sigma = self.smoothing * self.spacing
        self.sigma = float(np.hypot(self.width * self.spacing, sigma))
        kernels = []
        self.samples: list[Array] = []
        for n in s.frame:
            count = max(4, int((n - 1) / (PITCH * sigma)) + 1)
            at = (np.arange(count) - (count - 1) / 2) * PITCH * sigma
            pixel = np.arange(n) - (n - 1) / 2
            kernel = np.exp(-((at[:, None] - pixel) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
            kernels.append(kernel)
            self.samples.append(at.astype(np.float64))
        self.kernels = kernels
        self.area = (PITCH * sigma) ** 2  # pixels that a sample stands for
        counts, offset = s.counts[0].astype(np.float64), np.broadcast_to(s.offset(0), s.counts[0].shape)
        seen = s.seen.astype(np.float64)
        cover = np.stack([self._smooth(m) for m in seen])
        self.cover = np.where(cover > 0.98, 1 / np.maximum(cover, 1e-9), 0.0)  # samples near a border are left out
        self.cover[~self.used] = 0
        self.seen = seen
        self.maps = np.stack([self._smooth(m) for m in (counts - offset) * seen]) * self.cover
        self.offset = np.stack([self._smooth(m) for m in offset * seen]) * self.cover
        self.variance = None if not s.scaled else 1 / noise_weights(s, s.elements[0])

    def _smooth(self, image: Array) -> Array:
        return np.asarray(self.kernels[0] @ image @ self.kernels[1].T)

    def _land(self, points: Array, i: int | np.integer) -> tuple[Array, Array]:
        """Where points ``(n, 3)`` (z, y, x) are recorded at tilt i, pixels from the frame's centre."""
        z, y, x = points.T
        u = x * np.cos(self.tilts[i]) + z * np.sin(self.tilts[i])
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        return y * c + u * s + self.displacements[i, 0], u * c - y * s + self.displacements[i, 1]

    def _views(self) -> list[View]:
        """The blobs at every tilt, exposed."""
        mass = self.spacing**3 * np.exp(self.log_exposures)
        return [
            View.of(self._land(self.points, i), self.displacements[i], self.samples, self.sigma, mass[i])
            for i in range(len(self.tilts))
        ]

    # ------------------------------------------------------------------ one step

    def _linearise(self) -> None:
        """Solve for the object and take the derivatives of the misfit at it."""
        from scipy import linalg

        n, count = len(self.tilts), 3 * len(self.tilts) + 1
        if self._weight is None:
            self._reweigh(self.maps + self.offset)
        assert self._weight is not None
        weight = self._weight
        self.views = self._views()
        normal = normal_matrix(self.views, weight)
        # inverse variance of a blob's density about 0
        self.prior = max(1 / (self.loose * self._mean_density()) ** 2, ROUNDING * float(normal.max()))
        normal[np.diag_indices(len(normal))] += np.float32(self.prior)
        self._factor = linalg.cho_factor(normal, lower=True, overwrite_a=True, check_finite=False)
        right = [view.adjoint(m) for view, m in zip(self.views, weight * self.maps, strict=True)]
        self.density = self._solve(np.sum(right, axis=0))
        self.prediction = np.empty_like(self.maps)
        gradient, information = np.zeros(count), np.zeros((count, count))
        absorbed = np.zeros((len(normal), count))
        self._slopes = []
        for i, view in enumerate(self.views):
            value = self.prediction[i] = np.where(self.cover[i] > 0, view.project(self.density), 0)
            slope_v, slope_u, turned = view.slopes(self.density)
            slopes = np.stack([slope_v, slope_u, value, turned])
            weighted = slopes * weight[i]
            self._slopes.append(weighted.reshape(4, -1).T)
            at = [3 * i, 3 * i + 1, 3 * i + 2, count - 1]
            gradient[at] += np.tensordot(weighted, self.maps[i] - value, 2)
            information[np.ix_(at, at)] += np.tensordot(slopes, weighted, ([1, 2], [1, 2]))
            absorbed[:, at] += np.stack([view.adjoint(w) for w in weighted], axis=1)
        self._absorbed = self._solve(absorbed)
        information -= absorbed.T @ self._absorbed
        exposures = np.arange(n) * 3 + 2
        gradient[exposures] -= (self.log_exposures - self.log_exposures.mean()) / EXPOSURE_PRIOR**2
        information[exposures, exposures] += 1 / EXPOSURE_PRIOR**2
        gradient[-1] -= self._rotation_precision() * (self.rotation - self.expected_rotation)
        information[-1, -1] += self._rotation_precision()
        self._gradient, self._information, self._present = gradient, information, True

    def _look(self) -> None:
        """Linearise, unless it was done with the present parameters."""
        if not self._present:
            self._linearise()

    def _rotation_precision(self) -> float:
        """Of the prior, in units of the misfit: where the model leaves more than noise, the maps say less."""
        return self._excess / ROTATION_PRIOR**2

    def _solve(self, right: Array) -> Array:
        """The normal equations of the object, ``(blob, ...)``."""
        from scipy import linalg

        return np.asarray(linalg.cho_solve(self._factor, right.astype(np.float32), check_finite=False), np.float64)

    def _mean_density(self) -> float:
        """The uniform density that gives the total of the maps."""
        one = np.ones(len(self.points))
        each = [float(v.project(one).sum()) for v, used in zip(self.views, self.used, strict=True) if used]
        signal = float((self.maps * (self.cover > 0)).sum())
        return max(signal, 1e-12) / max(sum(each), 1e-12)

    def _reweigh(self, mean: Array) -> None:
        if self.variance is not None:
            self._weight = np.where(self.cover > 0, self.area / self.variance[:, None, None], 0)
            return
        least = self.floor * float(np.percentile(mean[self.cover > 0], 99.5))
        self._weight = np.where(self.cover > 0, self.area / np.maximum(mean, max(least, 1e-9)), 0)

    def _free(self, hold: str) -> Array:
        """Orthonormal directions of the parameters that the maps can tell, ``(parameter, direction)``.

        Moving the object moves every map, and its density scales them all; a tilt left out says nothing. `hold` is
        what stays as it is: ``""``, ``"rotation"`` or ``"geometry"``, all but the exposures.
        """
        from scipy import linalg

        n = len(self.tilts)
        fixed = np.zeros((3 * n + 1, 4))
        each = fixed[:-1].reshape(n, 3, 4)
        each[:, 0, :3], each[:, 1, :3] = translation(self.tilts, self.rotation)
        each[:, 2, 3] = 1
        keep = np.append(np.repeat(self.used, 3), not hold)
        if hold == "geometry":
            keep[:-1] &= np.tile([False, False, True], n)
        fixed = fixed[:, 3:] if hold == "geometry" else fixed
        inner = linalg.null_space(fixed[keep].T)
        free = np.zeros((3 * n + 1, inner.shape[1]))
        free[keep] = inner
        return free

    def step(self, hold: str = "") -> float:
        """One Gauss-Newton step; returns the largest move, pixels (the rotation's at the frame's edge)."""
        self._linearise()
        free = self._free(hold)
        move = free @ np.linalg.solve(free.T @ self._information @ free, free.T @ self._gradient)
        each = move[:-1].reshape(-1, 3)
        largest = 3 * self.sigma  # a step beyond the width of what is matched is a guess
        each[:, :2] = np.clip(each[:, :2], -largest, largest)
        self.displacements = self.displacements + each[:, :2]
        self.log_exposures = self.log_exposures + np.clip(each[:, 2], -0.5, 0.5)
        turn = float(np.clip(move[-1], -0.1, 0.1))
        self.rotation += turn
        self._excess = max(1.0, float(np.nanmedian(self.misfit())))
        self._reweigh(self.prediction + self.offset)
        self._present = False
        edge = max(self.series.frame) / 2
        return float(max(np.abs(each[:, :2]).max(), abs(turn) * edge))

    def solve(self, accuracy: float = 0.01, most: int = 20, hold: str = "") -> bool:
        """Steps until nothing moves by more than `accuracy` pixels; whether it came to that."""
        for k in range(most):
            moved = self.step(hold)
            if k in (1, 4):  # the first guess of where the object can be was made with the first displacements
                self._place()
                self._sample()
            elif moved < accuracy and k:
                return True
        return False

    def correct(self, most: int = 4, hold: str = "") -> None:
        """Take out what the prior of the object does to the parameters: a bootstrap without noise.

        The fit is made again to its own re-projections, whose parameters are known. What it gets wrong there,
        it has got wrong on the maps.
        """
        self._look()
        real, excess, truth = self.maps, self._excess, (self.displacements, self.log_exposures, self.rotation)
        self.maps, self.expected_rotation, self._present = self.prediction.copy(), self.rotation, False
        for _ in range(most):
            if self.step(hold) < 0.003:
                break
        self.maps, self._excess, self.expected_rotation = real, excess, 0.0
        self.displacements = 2 * truth[0] - self.displacements
        self.log_exposures = 2 * truth[1] - self.log_exposures
        self.rotation = 2 * truth[2] - self.rotation

    # ------------------------------------------------------------------ what came out

    def uncertainty(self, hold: str = "") -> Array:
        """Covariance of all parameters from the counts' noise, ``(3 tilts + 1)`` squared; the object is unknown."""
        self._look()
        assert self._weight is not None
        free = self._free(hold)
        inverse = free @ np.linalg.solve(free.T @ self._information @ free, free.T)
        n, count = len(self.tilts), 3 * len(self.tilts) + 1
        spread = np.zeros((count, count))
        shape = (len(self.samples[0]), len(self.samples[1]), count)
        for i in range(n):
            rows = -self._weight[i].reshape(-1, 1) * (self.views[i].matrix() @ self._absorbed.astype(np.float32))
            rows[:, [3 * i, 3 * i + 1, 3 * i + 2, count - 1]] += self._slopes[i]
            rows = (rows * self.cover[i].reshape(-1, 1)).reshape(shape)
            # what one count in a pixel does
            pull = np.einsum("ap,abk,bq->pqk", self.kernels[0], rows, self.kernels[1], optimize=True)
            pull = pull.reshape(-1, count) * np.sqrt(self._pixel_variance(i)).reshape(-1, 1)
            spread += pull.T @ pull
        spread[-1, -1] += self._rotation_precision()
        covariance: Array = inverse @ spread @ inverse
        return np.asarray(covariance * self._excess)  # where the model leaves more than noise, less is known

    def _pixel_variance(self, i: int) -> Array:
        """Of the recorded counts, from the prediction at tilt i, ``(y, x)``."""
        if self.variance is not None:
            return np.asarray(self.seen[i] * self.variance[i])
        from scipy import ndimage

        return np.asarray(self.seen[i] * ndimage.gaussian_filter(self.series.counts[0, i].astype(np.float64), 2.0))

    def found(self) -> Alignment:
        """Displacements and rotation as an `Alignment`, the axis offset among the shifts."""
        return Alignment(self.displacements.copy(), float(np.degrees(self.rotation)))

    def known(self) -> Array:
        """Standard errors ``(tilt, 2)`` of displacements if the object were known, pixels."""
        self._look()
        assert self._weight is not None
        out = np.full((len(self.tilts), 2), np.nan)
        for i in np.flatnonzero(self.used):
            slopes = self._slopes[i][:, :2]
            with np.errstate(divide="ignore", invalid="ignore"):
                plain = np.where(self._weight[i].reshape(-1, 1) > 0, slopes / self._weight[i].reshape(-1, 1), 0)
            normal = plain.T @ slopes
            out[i] = np.sqrt(np.diag(np.linalg.inv(normal + 1e-12 * np.trace(normal) * np.eye(2))))
        return out

    def foretold(self, i: int | np.integer) -> Array:
        """What the other tilts alone say of the smoothed map at tilt i, where it was fitted to be.

        With the hat matrix H of the fit, the residual without a map is ``(1 - H)^-1`` times the one with it.
        """
        from scipy import linalg

        assert self._weight is not None
        seen = self._weight[i].ravel() > 0
        root = np.sqrt(self._weight[i].ravel()[seen])
        basis = self.views[i].matrix()[seen] * root.astype(np.float32)[:, None]
        half = linalg.solve_triangular(self._factor[0], basis.T, lower=True, check_finite=False)
        rest = root * (self.maps[i] - self.prediction[i]).ravel()[seen]
        alone = np.zeros(seen.size)
        alone[seen] = np.linalg.solve(np.eye(len(root)) * (1 + 1e-6) - half.T @ half, rest) / root
        return np.asarray(self.maps[i] - alone.reshape(self.maps[i].shape))

    def agreement(self) -> Array:
        """Correlation ``(tilt,)`` of each map with what the other tilts alone say of it; nan for a tilt left out."""
        self._look()
        out = np.full(len(self.tilts), np.nan)
        for i in np.flatnonzero(self.used):
            out[i] = correlation(self.foretold(i), self.maps[i], self.cover[i] > 0)
        return out

    def relocate(self) -> int:
        """Put maps that the others do not foretell where they do; returns how many were moved.

        A displacement that is wrong by more than a blob's width gives a step no direction. The map is compared
        with the others' prediction at all displacements instead.
        """
        from scipy.signal import correlate

        score, moved = self.agreement(), 0
        typical = float(np.nanmedian(score))
        for i in np.flatnonzero(self.used):
            if score[i] > 0.8 * typical:
                continue
            seen = self.cover[i] > 0
            a, b = (np.where(seen, m - m[seen].mean(), 0) for m in (self.maps[i], self.foretold(i)))
            match = correlate(a, b, method="fft")
            at = np.array(np.unravel_index(int(match.argmax()), match.shape)) - (np.array(a.shape) - 1)
            if at.any() and float(match.max()) > 1.1 * float((a * b).sum()):
                pitch = [float(x[1] - x[0]) for x in self.samples]
                self.displacements[i] += at * pitch
                self._present = False
                moved += 1
        return moved

    def misfit(self) -> Array:
        """Weighted mean square ``(tilt,)`` of what the fit leaves of the smoothed maps, 1 if noise; nan if left out."""
        assert self._weight is not None
        sigma = self.smoothing * self.spacing
        noise = self.area / (4 * np.pi * sigma**2)  # of a smoothed sample
        square = (self._weight * np.square(self.maps - self.prediction)).sum(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(self.used, square / noise / (self.cover > 0).sum(axis=(1, 2)), np.nan))

    @property
    def exposures(self) -> Array:
        """Mean 1 over the tilts that take part."""
        e = np.exp(self.log_exposures)
        return np.asarray(e / e[self.used].mean())


def translation(tilts: Array, rotation: float) -> tuple[Array, Array]:
    """How maps move in v and u, ``(tilt, 3)`` each, when the object moves by (y, x, z); radians."""
    one, c, s = np.ones_like(tilts), np.cos(rotation), np.sin(rotation)
    along = np.stack([one, np.cos(tilts), np.sin(tilts)], axis=1)
    return along * [c, s, s], along * [-s, c, c]


def correlation(a: Array, b: Array, seen: NDArray[np.bool_]) -> float:
    """Pearson's, of the samples that are seen; 0 where one of them is constant."""
    x, y = a[seen] - a[seen].mean(), b[seen] - b[seen].mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0
