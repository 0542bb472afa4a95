"""Shifts, exposures and axis rotation of a series together with a smooth object, by least squares.

The rotation of the tilt axis is the hard one: a reconstruction on voxels takes it up, and interpolation blurs
differently at each angle, which outweighs what the maps say. So here the object is a sum of round Gaussian
blobs (`blobs`), whose projections and derivatives are exact. The maps are smoothed first, so that what the blobs
cannot draw does not count. The object is solved for at each step (`linear`), and the same matrices give the standard
errors: what the noise of the counts does to the estimate, the object being unknown.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.foretelling import foretold
from recon.alignment.linear import Linear, Priors
from recon.alignment.pose import Pose, free_directions, translation
from recon.alignment.samples import SECTION, Blobs, Samples, with_maps, with_scene
from recon.backend import to_host
from recon.errors import InputError
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MOST_BLOBS = 2000
FINEST = 2.0  # pixels between blobs at least
WIDTH = 0.75  # standard deviation of a blob, in distances between blobs: their sum is smooth to 0.3 %
SMOOTHING = 0.6  # of the maps, likewise
LOOSE = 10.0  # prior standard deviation of a blob's density, in mean densities
FLOOR = 0.05  # of the brightest pixel: least variance that a dark one is given, since no model is exact
PLACED_ANEW = (1, 4)  # steps after which the blobs are: the first guess of their places was made with the first shifts


@dataclass
class JointFit:
    """A fit in progress; `step` improves it.

    Attributes:
        series: of one element, with its background.
        alignment: to start from.
        used: ``(tilt,)`` False for a tilt that takes no part.
        most: blobs, about.
        section: thickness of an object that leaves the frame, in widths of the frame.
        device: ``"cpu"`` or ``"cuda"``, where the object is solved for.
        pose: shifts, exposures and rotation at present.
        blobs: whose sum the object is.
        samples: of the maps.
        priors: what is expected of the parameters.
        weight: ``(tilt, p, q)`` inverse variance of the samples.
    """

    series: TiltSeries
    alignment: Alignment
    used: NDArray[np.bool_]
    most: int = MOST_BLOBS
    section: float = SECTION
    device: str = "cpu"
    pose: Pose = field(init=False)
    blobs: Blobs = field(init=False)
    samples: Samples = field(init=False)
    priors: Priors = field(init=False)
    weight: Array = field(init=False)
    _linear: Linear | None = field(init=False, default=None)
    _spread: tuple[Linear | None, Array] = field(init=False, default=(None, np.empty(0)))
    _foretold: tuple[Linear | None, dict[int, Array]] = field(init=False, default=(None, {}))

    def __post_init__(self) -> None:
        self.series = with_scene(self.series)
        s, a = self.series, self.alignment
        logs = np.log(np.maximum(s.exposures[0], 1e-3))
        tilts = np.radians(s.tilts_deg)
        self.pose = Pose(tilts, a.displacements.copy(), logs, float(np.radians(a.rotation_deg)))
        self.place()

    def place(self) -> None:
        """Put blobs where the object can be at the present pose, and sample the maps as finely as these."""
        found = Blobs.of(self.series, self.pose, self.used, self.most, FINEST, self.section)
        self.blobs = replace(found, device=self.device)
        self.priors = Priors(WIDTH, LOOSE)
        self.sample(Samples.of(self.series, self.used, SMOOTHING * self.blobs.spacing))

    def sample(self, samples: Samples) -> None:
        """Fit to these samples; their variance is first that of the maps themselves."""
        self.samples, self._linear = samples, None
        self.weight = samples.weight(samples.maps + samples.offset, FLOOR)

    @property
    def linear(self) -> Linear:
        """The fit linearised at the present pose."""
        if self._linear is None:
            try:
                self._linear = Linear.at(self.pose, self.blobs, self.samples, self.weight, self.priors)
            except np.linalg.LinAlgError as exc:
                raise InputError(
                    "the maps are too bright or too uneven for one fit to all of them; align elsewhere and give "
                    "align.file, or set align.method = 'none'"
                ) from exc
        return self._linear

    def at(self, pose: Pose) -> None:
        """Take another pose."""
        self.pose, self._linear = pose, None

    # ------------------------------------------------------------------ steps

    def step(self, hold: str = "") -> float:
        """One Gauss-Newton step; returns the largest move, pixels (the rotation's at the frame's edge).

        `hold` is what stays as it is, see `free_directions`.
        """
        found = self.linear
        free = free_directions(self.pose, self.used, hold)
        try:
            move = free @ np.linalg.solve(free.T @ found.information @ free, free.T @ found.gradient)
        except np.linalg.LinAlgError as exc:
            raise InputError(
                "the maps hold nothing to align on: moving one changes nothing in how it fits the others; check that "
                "they show the object, or set align.method = 'none'"
            ) from exc
        each = move[:-1].reshape(-1, 3)
        # a step beyond the width of what is matched is a guess
        largest = 3 * float(np.hypot(WIDTH * self.blobs.spacing, self.samples.sigma))
        each[:, :2] = np.clip(each[:, :2], -largest, largest)
        turn = float(np.clip(move[-1], -0.1, 0.1))
        taken = np.column_stack([each[:, :2], np.clip(each[:, 2], -0.5, 0.5)])
        excess = max(1.0, float(np.nanmedian(self.misfit())))
        self.priors = replace(self.priors, excess=excess)
        self.weight = self.samples.weight(found.prediction + self.samples.offset, FLOOR)
        self.at(self.pose.moved(taken, turn))
        return float(max(np.abs(each[:, :2]).max(), abs(turn) * max(self.series.frame) / 2))

    def solve(self, accuracy: float = 0.01, most: int = 20, hold: str = "") -> bool:
        """Steps until nothing moves by more than `accuracy` pixels; whether it came to that."""
        for k in range(most):
            moved = self.step(hold)
            if k in PLACED_ANEW:
                self.place()
            elif moved < accuracy and k:
                return True
        return False

    def correct(self, most: int = 4, hold: str = "") -> None:
        """Take out what the prior of the object does to the parameters: a bootstrap without noise.

        The fit is made again to its own re-projections, whose parameters are known. What it gets wrong there,
        it has got wrong on the maps.
        """
        known = self.pose
        again = copy.copy(self)
        again.samples = with_maps(self.samples, self.linear.prediction.copy())
        again.priors = replace(self.priors, rotation=known.rotation)
        again._linear = Linear.at(known, self.blobs, again.samples, self.weight, again.priors, like=self.linear)
        for _ in range(most):
            if again.step(hold) < 0.003:
                break
        self.weight = again.weight
        self.at(again.pose.mirrored(known))

    def relocate(self) -> int:
        """Put maps that the others do not foretell where they do; returns how many were moved.

        A displacement that is wrong by more than a blob's width gives a step no direction. The map is compared
        with the others' prediction at all displacements instead.
        """
        score, moves = self.agreement(), np.zeros((len(self.pose.tilts), 3))
        typical = float(np.nanmedian(score))
        for i in np.flatnonzero(self.used):
            if score[i] > 0.8 * typical:
                continue
            seen = self.samples.cover[i] > 0
            a, b = (np.where(seen, m - m[seen].mean(), 0) for m in (self.samples.maps[i], self.foretold(i)))
            match = at_all_displacements(a, b)
            at = np.array(np.unravel_index(int(match.argmax()), match.shape)) - (np.array(a.shape) - 1)
            if at.any() and float(match.max()) > 1.1 * float((a * b).sum()):
                moves[i, :2] = at * [float(x[1] - x[0]) for x in self.samples.places]
        moved = int(moves.any(axis=1).sum())
        if moved:
            self.at(self.pose.moved(moves, 0.0))
        return moved

    # ------------------------------------------------------------------ what came out

    def uncertainty(self, hold: str = "") -> Array:
        """Covariance of all parameters from the counts' noise, ``(3 tilts + 1)`` squared; the object is unknown."""
        found = self.linear
        if self._spread[0] is not found:
            self._spread = found, self._noise_of_gradient()
        free = free_directions(self.pose, self.used, hold)
        inverse = free @ np.linalg.solve(free.T @ found.information @ free, free.T)
        spread = self._spread[1].copy()
        spread[-1, -1] += self.priors.rotation_precision
        covariance: Array = inverse @ spread @ inverse
        return np.asarray(covariance * self.priors.excess)  # where the model leaves more than noise, less is known

    def _noise_of_gradient(self) -> Array:
        """Covariance of the gradient, ``(3 tilts + 1)`` squared: what one count in a pixel does, squared and summed."""
        found, samples = self.linear, self.samples
        n, count = len(self.pose.tilts), 3 * len(self.pose.tilts) + 1
        spread = np.zeros((count, count))
        shape = (len(samples.places[0]), len(samples.places[1]), count)
        for i in range(n):
            rows = -self.weight[i].reshape(-1, 1) * to_host(found.views[i].matrix() @ found.absorbed)
            rows[:, [3 * i, 3 * i + 1, 3 * i + 2, count - 1]] += found.slopes[i]
            rows = (rows * samples.cover[i].reshape(-1, 1)).reshape(shape)
            pull = np.einsum("ap,abk,bq->pqk", samples.kernels[0], rows, samples.kernels[1], optimize=True)
            pull = pull.reshape(-1, count) * np.sqrt(self._pixel_variance(i)).reshape(-1, 1)
            spread += pull.T @ pull
        return spread

    def _pixel_variance(self, i: int) -> Array:
        """Of the recorded counts, from the prediction at tilt i, ``(y, x)``."""
        seen = self.samples.seen[i]
        if self.samples.variance is not None:
            return np.asarray(seen * self.samples.variance[i])
        from scipy import ndimage

        return np.asarray(seen * ndimage.gaussian_filter(self.series.counts[0, i].astype(np.float64), 2.0))

    def found(self) -> Alignment:
        """Displacements and rotation as an `Alignment`, the axis offset among the shifts."""
        return self.pose.alignment

    def known(self) -> Array:
        """Standard errors ``(tilt, 2)`` of displacements if the object were known, pixels."""
        out = np.full((len(self.pose.tilts), 2), np.nan)
        for i in np.flatnonzero(self.used):
            slopes, weight = self.linear.slopes[i][:, :2], self.weight[i].reshape(-1, 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                plain = np.where(weight > 0, slopes / weight, 0)
            normal = plain.T @ slopes
            out[i] = np.sqrt(np.diag(np.linalg.inv(normal + 1e-12 * np.trace(normal) * np.eye(2))))
        return out

    def foretold(self, i: int | np.integer) -> Array:
        """What the other tilts alone say of the smoothed map at tilt i, which takes part, where it was fitted to be."""
        if self._foretold[0] is not self.linear:
            tilts = np.flatnonzero(self.used)
            found = foretold(self.linear, self.samples.maps, self.weight, tilts)
            self._foretold = self.linear, dict(zip(tilts.tolist(), found, strict=True))
        return self._foretold[1][int(i)]

    def agreement(self) -> Array:
        """Correlation ``(tilt,)`` of each map with what the other tilts alone say of it; nan for a tilt left out."""
        out = np.full(len(self.pose.tilts), np.nan)
        for i in np.flatnonzero(self.used):
            out[i] = correlation(self.foretold(i), self.samples.maps[i], self.samples.cover[i] > 0)
        return out

    def foretelling(self) -> float:
        """Weighted mean square of what the other tilts foretell of each map wrongly, 1 were it all noise."""
        samples, square = self.samples, 0.0
        for i in np.flatnonzero(self.used):
            square += float((self.weight[i] * np.square(samples.maps[i] - self.foretold(i))).sum())
        return square / samples.noise / int((samples.cover > 0).sum())

    def misfit(self) -> Array:
        """Weighted mean square ``(tilt,)`` of what the fit leaves of the smoothed maps, 1 if noise; nan if left out."""
        samples = self.samples
        square = (self.weight * np.square(samples.maps - self.linear.prediction)).sum(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = square / samples.noise / (samples.cover > 0).sum(axis=(1, 2))
        return np.asarray(np.where(self.used, mean, np.nan))

    @property
    def exposures(self) -> Array:
        """Mean 1 over the tilts that take part."""
        e = np.exp(self.pose.log_exposures)
        return np.asarray(e / e[self.used].mean())


def at_all_displacements(a: Array, b: Array) -> Array:
    """``sum a b`` with b moved along its axes by -(n - 1) to n - 1 pixels, for maps of one shape.

    What `scipy.signal.correlate` gives, whose import alone takes longer than all matches of a series.
    """
    from scipy import fft

    shape = [2 * n - 1 for n in a.shape]
    size = [fft.next_fast_len(n, real=True) for n in shape]
    match = fft.irfft2(fft.rfft2(a, size) * fft.rfft2(b[::-1, ::-1], size), size)
    return np.asarray(match[: shape[0], : shape[1]])


def correlation(a: Array, b: Array, seen: NDArray[np.bool_]) -> float:
    """Pearson's, of the samples that are seen; 0 where one of them is constant."""
    x, y = a[seen] - a[seen].mean(), b[seen] - b[seen].mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


__all__ = ["MOST_BLOBS", "JointFit", "at_all_displacements", "correlation", "translation"]
