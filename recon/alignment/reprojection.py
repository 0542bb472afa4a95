"""Shifts from coarse to fine: maps are matched with re-projections of a reconstruction from all of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.pose import translation
from recon.backend import namespace, to_device, to_host
from recon.model.assembly import make_data_term, make_operator
from recon.model.grid import grid
from recon.model.noise import automatic_strength, noise_weights
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries
from recon.solvers.pdhg import PrimalDual
from recon.solvers.sirt import sirt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array

MIDDLE = 64  # pixels along a frame's edge for residuals
AT_FIRST, LATER = 60, 20  # iterations for residuals: from nothing, and where a matcher has come to
START = 5  # iterations of SIRT before the first reconstruction
OVERLAP = 2.0  # the bound of `recon.solvers.overlap`: to measure it would take as long as a round


@dataclass
class Matcher:
    """Matches maps with re-projections of a reconstruction that is kept from round to round.

    With `exposed` the exposures are matched with the displacements, where nothing else tells them. The image is
    reconstructed and kept on `device`, the maps are matched on the host.
    """

    series: TiltSeries
    alignment: Alignment
    smoothing: float = 0.0
    softness: float = 1.0
    image: Array | None = None
    omega: float | None = None
    exposed: bool = False
    device: str = "cpu"
    reached: PrimalDual | None = None  # the solver of the last round

    def __post_init__(self) -> None:
        # TV needs a third of TGV's memory and time, and alignment no more than edges
        self._kind = "poisson" if not (self.series.scaled or self.smoothing) else "least-squares"
        self.data = make_data_term(self.series, self.series.elements[0], self._kind)
        if self.smoothing:
            from scipy import ndimage

            smooth = ndimage.gaussian_filter(self.data.counts, (0, self.smoothing, self.smoothing), mode="nearest")
            self.data = replace(self.data, counts=smooth)
        self.strength = self.softness * automatic_strength(self.series, self.series.elements[0])
        self.volume = grid(self.series.evolve(alignment=self.alignment)).shape

    def at(self, rotation_deg: float) -> Matcher:
        """A matcher that continues from here at another rotation."""
        other = replace(self, alignment=replace(self.alignment, rotation_deg=rotation_deg))
        if self.image is not None and other.volume != self.volume:
            nz, ny, nx = other.volume  # wider or narrower where the object leaves the frame
            other.image, other.reached = centred(to_host(self.image), (nz, nx, ny)), None
        return other

    def reconstruct(self, iterations: int) -> float:
        """Continue the reconstruction at the present alignment; returns the penalised likelihood."""
        moved = {field.name: to_device(getattr(self.data, field.name), self.device) for field in fields(self.data)}
        data = replace(self.data, **moved)
        operator = make_operator(self.series.evolve(alignment=self.alignment), self.volume, data.counts)
        start: Array | None = None
        if self.image is None:
            start = sirt(operator, data, iterations=START).value
        elif self.reached is None:
            start = to_device(self.image, self.device)
        solver = PrimalDual(operator, data, regulariser="tv", a1=self.strength, start=start, omega=self.omega)
        if self.reached is not None:  # its dual variables, too
            solver.continue_from(self.reached)
        solver.weights = replace(solver.weights, overlap=OVERLAP)
        solver.advance(iterations)
        self.image, self.omega, self.reached = solver.u, solver.weights.omega, solver
        return solver.objective()

    def match(self) -> float:
        """One weighted Gauss-Newton step of all displacements; returns its largest component, pixels.

        The part of a step that only moves the object is left out.
        """
        assert self.image is not None
        prediction = self.predict()
        slope = np.stack([-np.gradient(prediction, axis=2), -np.gradient(prediction, axis=1)])  # d/dv, d/du
        mean = prediction + self.data.offset
        weight = (self.data.scale > 0) / np.maximum(mean, 0.05 * float(mean.max()))
        misfit = self.data.counts - mean
        normal = np.einsum("atij,btij,tij->tab", slope, slope, weight)
        right = np.einsum("atij,tij,tij->ta", slope, misfit, weight)
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 1e-9 * np.eye(2)
        step = np.clip(np.linalg.solve(normal, right[..., None])[..., 0], -2, 2)
        taken = self.series.used
        self._normal = normal
        if self.series.scheme is None:
            along = translation(np.radians(self.series.tilts_deg), float(np.radians(self.alignment.rotation_deg)))
        else:
            along = (self.series.scheme.v, self.series.scheme.u)
        basis = np.concatenate([a[taken] for a in along])
        flat = step[taken].T.ravel()
        step[taken] = (flat - basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]).reshape(2, -1).T
        step[~taken] = 0
        self.alignment = replace(self.alignment, shifts=self.alignment.shifts + step)
        return float(np.abs(step).max())

    def predict(self) -> NDArray[np.float32]:
        """Exposed re-projections in the recorded frames ``(tilt, u, y)``, without background."""
        assert self.image is not None
        operator = make_operator(self.series.evolve(alignment=self.alignment), self.volume, self.image)
        out = namespace(self.image).empty(operator.range_shape, dtype=np.float32)
        return np.asarray(to_host(operator(self.image, out)) * self.data.scale)

    def converge(self, rounds: int, iterations: int, accuracy: float = 0.02) -> bool:
        """Reconstruct and match in turn until no displacement moves by more than `accuracy` pixels; whether it did.

        A move below a quarter of the noise's standard error counts as none. The first reconstruction takes so many
        `iterations`; one that goes on from it half of them, since maps move by little from round to round.
        """
        for _ in range(rounds):
            self.reconstruct(iterations if self.reached is None else iterations // 2)
            moved = self.match()
            for _ in range(2):
                moved = max(moved, self.match())
            if self.exposed:
                self.expose()
            if moved < max(accuracy, 0.25 * float(np.nanmedian(self.errors()))):
                return True
        return False

    def expose(self) -> None:
        """Take the exposures, mean 1, with which the re-projections fit the maps best."""
        prediction, data = self.predict(), self.data
        signal = (data.counts - data.offset) * (data.scale > 0)
        weight = 1 / np.maximum(prediction + data.offset, 0.05 * float(prediction.max()))
        fitted = np.sum(weight * prediction * signal, axis=(1, 2), dtype=np.float64)
        factor = fitted / np.maximum(np.sum(weight * prediction**2, axis=(1, 2), dtype=np.float64), 1e-30)
        taken = self.series.used & (factor > 0)
        exposures = self.series.exposures * np.where(taken, factor, 1.0)
        exposures /= exposures[:, self.series.used].mean()
        self.series = self.series.evolve(exposures=exposures)
        self.data = make_data_term(self.series, self.series.elements[0], self._kind)

    def errors(self) -> NDArray[np.float64]:
        """Standard errors ``(tilt, 2)`` of the displacements were the object known, pixels; after `match`."""
        variance = np.stack([np.diag(np.linalg.inv(n)) for n in self._normal])
        return np.asarray(np.where(self.series.used[:, None], np.sqrt(variance), np.nan))


def residuals(
    series: TiltSeries, alignment: Alignment, known: Matcher | None = None, device: str = "cpu"
) -> NDArray[np.float64]:
    """Mean squared misfit of each map over its variance where the object is, near 1 for a good model.

    `known` is a matcher that came to this alignment, whose reconstruction goes on if it is as fine as is needed.
    """
    small, bins = binned_to(series, MIDDLE)
    if known is not None and known.series.frame == small.frame:
        matcher = known
        matcher.reconstruct(LATER)
    else:
        matcher = Matcher(small, bins.down(alignment), device=device)
        matcher.reconstruct(AT_FIRST)
    mean = matcher.predict() + matcher.data.offset
    weight = np.where((matcher.data.scale > 0) & (mean > 0.05 * float(mean.max())), 1 / np.maximum(mean, 1e-12), 0)
    if small.scaled:
        weight = np.where(weight > 0, noise_weights(small, small.elements[0])[:, None, None], 0)
    misfit = np.sum(weight * np.square(matcher.data.counts - mean), axis=(1, 2), dtype=np.float64)
    return np.asarray(misfit / np.maximum((weight > 0).sum(axis=(1, 2)), 1))


def centred(image: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A copy about the same centre on a grid with an even number of voxels more or fewer, repeated at the edges."""
    grow = [(n - m) // 2 for m, n in zip(image.shape, shape, strict=True)]
    inner = image[tuple(slice(max(-g, 0), m - max(-g, 0)) for g, m in zip(grow, image.shape, strict=True))]
    return np.pad(inner, [(max(g, 0), max(g, 0)) for g in grow], mode="edge")
