"""Shifts, tilt-axis offset and rotation of a series, from the maps themselves.

Coarse: the centre of mass where the object is isolated, else cross-correlation of neighbours. Fine:
each map is matched with the re-projection of a reconstruction from all of them, again and again. The
rotation, which such matching cannot find because the reconstruction absorbs it, is the one at which
the maps are most consistent: for a few rotations the shifts are matched anew and the penalised
likelihood compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.binning import binned_to
from recon.errors import InputError, JobError
from recon.operators import affine
from recon.problem import grid, make_data_term, make_operator, noise_weights
from recon.solvers.baseline import sirt
from recon.solvers.pdhg import PrimalDual
from recon.strength import automatic_strength
from recon.tiltseries import Alignment, TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("auto", "cross-correlation", "none")
COMBINED = "reference"
FINE, MIDDLE, COARSE = 96, 64, 32  # pixels along a frame's edge for shifts, rotation, a first look
ROTATIONS = (-8.0, 8.0)  # degrees within which the rotation is looked for
SMOOTHING = 1.5  # pixels, of the maps whose likelihoods are compared for the rotation
Log = Callable[[str], None]


def align(
    series: TiltSeries,
    method: str = "auto",
    *,
    reference: Sequence[str] | None = None,
    resampled: bool = False,
    log: Log | None = None,
) -> TiltSeries:
    """Estimate the alignment; it goes into the model, the counts stay as they are.

    Args:
        series: after `normalise`.
        method: ``"auto"`` as the module says; ``"cross-correlation"`` as Longley et al. (2018) did:
            neighbours are cross-correlated, then the axis's offset and rotation minimise artefacts;
            ``"none"``.
        reference: elements whose sum is aligned; all by default, since one alone is noisy.
        resampled: interpolate the maps into the aligned frame, as that paper did, instead.
        log: called with a line for each stage.

    Returns:
        The series with `alignment` set; it serves every element. With `resampled`, aligned maps.

    Raises:
        JobError: an unknown method.
        InputError: an unknown reference element, or maps that hold nothing to align on.
    """
    if method not in METHODS:
        raise JobError(f"align method {method!r} is unknown; use one of {', '.join(METHODS)}")
    say = log or (lambda line: None)
    combined = combine(series, reference)
    if method == "none":
        aligned = series.evolve("align: none", alignment=Alignment.identity(series.n_tilts))
    else:
        if series.isolated and method == "auto":
            start = Alignment(centre_of_mass(combined))
            how = "centre of mass"
        else:
            start = Alignment(cross_correlation(combined))
            how = "cross-correlation"
            say(f"align: {how} done")
            start = axis_by_artefacts(combined, start)
        say(
            f"align: coarse shifts by {how}, axis at {start.axis_offset:+.2f} pixels, {start.rotation_deg:+.2f} degrees"
        )
        if method == "auto":
            start = refine(combined, start, say)
            how += ", re-projection matching"
        final = split_offset(start)
        final = replace(final, method=how, residual=residuals(combined, final))
        aligned = series.evolve(
            f"align: {how}; axis at {final.axis_offset:+.2f} pixels, rotated by {final.rotation_deg:+.2f} degrees; "
            f"largest shift {np.abs(final.shifts).max():.1f} pixels",
            alignment=final,
        )
    return resample(aligned) if resampled else aligned


def combine(series: TiltSeries, reference: Sequence[str] | None = None) -> TiltSeries:
    """The sum of some elements' maps as a series of one element, for alignment only."""
    pick = [series.index(name) for name in (reference or series.elements)]
    counts = series.counts[pick]
    signal = counts.sum(axis=(1, 2, 3), dtype=np.float64)
    if not counts.any():
        raise InputError("the reference maps are zero everywhere; choose another align reference")
    exposures = (signal[:, None] * series.exposures[pick]).sum(axis=0) / signal.sum()
    of_pixels = series.background_maps
    return series.evolve(
        elements=(COMBINED,),
        counts=counts.sum(axis=0, keepdims=True),
        exposures=exposures[None],
        background=series.background[pick].sum(axis=0, keepdims=True),
        background_maps=None if of_pixels is None else of_pixels[pick].sum(axis=0, keepdims=True),
    )


# ---------------------------------------------------------------- coarse


def centre_of_mass(series: TiltSeries) -> NDArray[np.float64]:
    """Displacements ``(tilt, 2)`` (v, u) that put an isolated object's centre of mass on the axis.

    The centre of mass of a projection is the projection of the centre of mass, so it fixes the offset
    of the axis too; the choice of the object's own centre as the volume's is free.
    """
    ny, nx = series.frame
    v, u = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    maps = series.counts[0].astype(np.float64) - series.offset(0)
    if series.weights is not None:
        maps *= series.weights
    out = np.zeros((series.n_tilts, 2))
    for _ in range(3):  # a window that follows the object keeps the far background's noise out
        for i, image in enumerate(maps):
            total = max(float(image.sum()), 1e-12)
            size = np.sqrt(
                [
                    max(float((image.sum(axis=1) * (v - out[i, 0]) ** 2).sum() / total), 4.0),
                    max(float((image.sum(axis=0) * (u - out[i, 1]) ** 2).sum() / total), 4.0),
                ]
            )
            window = (np.abs(v - out[i, 0]) < 3.5 * size[0] + 2)[:, None] & (np.abs(u - out[i, 1]) < 3.5 * size[1] + 2)
            inside = image * window
            total = max(float(inside.sum()), 1e-12)
            out[i] = (inside.sum(axis=1) @ v) / total, (inside.sum(axis=0) @ u) / total
    limit = np.array([ny, nx]) / 2
    return np.clip(out, -limit, limit)


def cross_correlation(series: TiltSeries) -> NDArray[np.float64]:
    """Displacements ``(tilt, 2)`` (v, u) by matching each map with its neighbour, from zero tilt outwards.

    The neighbour is stretched along u by the ratio of cosines, as a slab would look; sub-pixel shifts
    come from scikit-image's up-sampled cross-correlation (Guizar-Sicairos et al., Opt. Lett. 33, 156
    (2008)).
    """
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    ny, nx = series.frame
    maps = (series.counts[0] - series.offset(0)) / series.exposures[0][:, None, None]
    sigma = max(1.0, min(ny, nx) / 64)
    smooth = np.stack([ndimage.gaussian_filter(m, sigma) for m in maps])
    window = np.ones((ny, nx))
    if not series.isolated:  # what enters and leaves at the border would dominate
        window = np.hanning(ny + 2)[1:-1, None] * np.hanning(nx + 2)[None, 1:-1]
    order = np.argsort(series.tilts_deg)
    cos = np.maximum(np.cos(np.radians(series.tilts_deg)), 0.1)
    middle = int(np.argmin(np.abs(series.tilts_deg[order])))
    out = np.zeros((series.n_tilts, 2))

    def match(fixed: int, moving: int) -> None:
        ratio = cos[moving] / cos[fixed]
        centre = (nx - 1) / 2
        about = centre + out[fixed, 1]
        stretched = ndimage.affine_transform(
            smooth[fixed], (1.0, 1 / ratio), (0.0, about - about / ratio), order=1, mode="nearest"
        )
        total = np.zeros(2)
        for _ in range(4):  # the window stays on the same part of the object, or it would pull towards zero
            back = ndimage.shift(smooth[moving], total, order=1, mode="nearest")
            a, b = (m - m.mean() for m in (stretched, back))
            step, _, _ = phase_cross_correlation(a * window, b * window, upsample_factor=20, normalization=None)
            total += step
            if np.abs(step).max() < 0.06:
                break
        out[moving] = out[fixed] - total

    for k in range(middle + 1, len(order)):
        match(order[k - 1], order[k])
    for k in range(middle - 1, -1, -1):
        match(order[k + 1], order[k])
    return out


def axis_by_artefacts(series: TiltSeries, start: Alignment) -> Alignment:
    """Offset and rotation of the axis that leave the fewest artefacts in a quick reconstruction.

    Artefacts are what the re-projection of a few SIRT iterations cannot explain of the maps. The offset
    is sought by steps of 1/16 of the frame and less; the rotation by `rotation_by_profile`, since what
    SIRT leaves says next to nothing about it.
    """
    small, bins = binned_to(series, COARSE)
    middle, middle_bins = binned_to(series, MIDDLE)

    def misfit(offset: float, rotation: float) -> float:
        trial = bins.down(replace(start, axis_offset=offset, rotation_deg=rotation))
        volume = grid(small.evolve(isolated=True)).shape
        data = make_data_term(small, COMBINED, "least-squares")
        operator = make_operator(small.evolve(alignment=trial), volume, data.counts)
        return sirt(operator, data, iterations=12).objective

    offset, rotation, step = start.axis_offset, start.rotation_deg, series.frame[1] / 16
    for _ in range(2):
        for _ in range(3):
            offsets = offset + step * np.arange(-3.0, 4.0)
            offset = vertex(offsets, np.array([misfit(o, rotation) for o in offsets]))
            step /= 2.5
        step *= 2.5**2
        trial = middle_bins.down(replace(start, axis_offset=offset, rotation_deg=rotation))
        rotation = float(np.clip(rotation_by_profile(middle, trial, 2.0), *ROTATIONS))
    return replace(start, axis_offset=offset, rotation_deg=rotation)


def vertex(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Minimum of a parabola through the least value and its neighbours; x evenly spaced."""
    i = int(np.argmin(y))
    if i in (0, len(x) - 1):
        return float(x[i])
    curvature = y[i - 1] - 2 * y[i] + y[i + 1]
    shift = 0.5 * (y[i - 1] - y[i + 1]) / curvature if curvature > 0 else 0.0
    return float(x[i] + np.clip(shift, -1, 1) * (x[1] - x[0]))


# ---------------------------------------------------------------- fine


@dataclass
class Matcher:
    """Matches maps with re-projections of a reconstruction that is kept from round to round."""

    series: TiltSeries
    alignment: Alignment
    smoothing: float = 0.0
    softness: float = 1.0
    image: NDArray[np.float32] | None = None
    omega: float | None = None

    def __post_init__(self) -> None:
        # TV needs a third of TGV's memory and time, and alignment no more than edges
        poisson = not (self.series.scaled or self.smoothing)
        self.data = make_data_term(self.series, COMBINED, "poisson" if poisson else "least-squares")
        if self.smoothing:
            from scipy import ndimage

            smooth = ndimage.gaussian_filter(self.data.counts, (0, self.smoothing, self.smoothing), mode="nearest")
            self.data = replace(self.data, counts=smooth)
        self.strength = self.softness * automatic_strength(self.series, COMBINED)
        self.volume = grid(self.series.evolve(alignment=self.alignment)).shape

    def at(self, rotation_deg: float) -> Matcher:
        """A matcher that continues from here at another rotation."""
        other = replace(self, alignment=replace(self.alignment, rotation_deg=rotation_deg))
        if self.image is not None:
            nz, ny, nx = other.volume  # wider or narrower where the object leaves the frame
            other.image = centred(self.image, (nz, nx, ny))
        return other

    def reconstruct(self, iterations: int) -> float:
        """Continue the reconstruction at the present alignment; returns the penalised likelihood."""
        operator = make_operator(self.series.evolve(alignment=self.alignment), self.volume, self.data.counts)
        start = sirt(operator, self.data, iterations=10).value if self.image is None else self.image
        solver = PrimalDual(
            operator, self.data, regulariser="tv", a1=self.strength, start=start, omega=self.omega
        )  # fmt: skip
        for _ in range(iterations):
            solver.step()
            if solver.iteration % 10 == 0:
                solver.maybe_restart()
        self.image, self.omega = solver.u, solver.omega
        return solver.objective()

    def match(self) -> float:
        """One weighted Gauss-Newton step of all displacements; returns its largest component, pixels.

        The part of a step that only moves the object (a constant along v, ``a cos t + b sin t`` along
        u) is left out.
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
        t = np.radians(self.series.tilts_deg)
        basis = np.stack([np.cos(t), np.sin(t)], axis=1)
        step[:, 0] -= step[:, 0].mean()
        step[:, 1] -= basis @ np.linalg.lstsq(basis, step[:, 1], rcond=None)[0]
        self.alignment = replace(self.alignment, shifts=self.alignment.shifts + step)
        return float(np.abs(step).max())

    def predict(self) -> NDArray[np.float32]:
        """Exposed re-projections in the recorded frames ``(tilt, u, y)``, without background."""
        operator = make_operator(self.series.evolve(alignment=self.alignment), self.volume, self.data.counts)
        out = np.empty(operator.range_shape, np.float32)
        operator(self.image, out)
        return np.asarray(out * self.data.scale)

    def converge(self, rounds: int, iterations: int, accuracy: float = 0.02) -> None:
        """Reconstruct and match in turn until no displacement moves by more than `accuracy` pixels."""
        for _ in range(rounds):
            self.reconstruct(iterations)
            moved = self.match()
            for _ in range(2):
                moved = max(moved, self.match())
            if moved < accuracy:
                break


def refine(series: TiltSeries, start: Alignment, say: Log) -> Alignment:
    """Shifts and rotation from coarse to fine by re-projection matching and a likelihood profile."""
    for edge, step in ((COARSE, 2.5), (MIDDLE, 2.5), (MIDDLE, 1.2)):
        small, bins = binned_to(series, edge)
        rotation = rotation_by_profile(small, bins.down(start), step)
        start = replace(start, rotation_deg=float(np.clip(rotation, *ROTATIONS)))
        say(f"align: rotation {rotation:+.2f} degrees")
    fine, bins = binned_to(series, FINE)
    matcher = Matcher(fine, bins.down(start))
    matcher.converge(5, 40)
    return bins.up(matcher.alignment)


def rotation_by_profile(series: TiltSeries, alignment: Alignment, step: float) -> float:
    """Rotation with the best penalised likelihood, shifts matched anew at each of five.

    The maps are smoothed first: the warp's interpolation blurs by fractions of a pixel, which differs
    with the rotation and would outweigh what the object says. A weak regulariser keeps the object from
    taking up the misfit.
    """
    base = Matcher(series, alignment, SMOOTHING, 0.3)
    base.converge(3, 40)
    rotations = alignment.rotation_deg + step * np.arange(-2, 3)
    scores = []
    for rotation in rotations:
        matcher = base.at(float(rotation))
        matcher.converge(2, 40, accuracy=0.01)
        scores.append(matcher.reconstruct(100))
    fit = np.polyfit(rotations - alignment.rotation_deg, scores, 2)
    if fit[0] > 0:
        return float(alignment.rotation_deg + np.clip(-fit[1] / (2 * fit[0]), -2 * step, 2 * step))
    return float(rotations[int(np.argmin(scores))])


def residuals(series: TiltSeries, alignment: Alignment) -> NDArray[np.float64]:
    """Mean squared misfit of each map over its variance where the object is, near 1 for a good model."""
    small, bins = binned_to(series, MIDDLE)
    matcher = Matcher(small, bins.down(alignment))
    matcher.reconstruct(60)
    mean = matcher.predict() + matcher.data.offset
    weight = np.where((matcher.data.scale > 0) & (mean > 0.05 * float(mean.max())), 1 / np.maximum(mean, 1e-12), 0)
    if small.scaled:
        weight = np.where(weight > 0, noise_weights(small, COMBINED)[:, None, None], 0)
    misfit = np.sum(weight * np.square(matcher.data.counts - mean), axis=(1, 2), dtype=np.float64)
    return np.asarray(misfit / np.maximum((weight > 0).sum(axis=(1, 2)), 1))


# ---------------------------------------------------------------- helpers


def centred(image: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A copy about the same centre on a grid with an even number of voxels more or fewer, repeated at the edges."""
    grow = [(n - m) // 2 for m, n in zip(image.shape, shape, strict=True)]
    inner = image[tuple(slice(max(-g, 0), m - max(-g, 0)) for g, m in zip(grow, image.shape, strict=True))]
    return np.pad(inner, [(max(g, 0), max(g, 0)) for g in grow], mode="edge")


def split_offset(alignment: Alignment) -> Alignment:
    """Displacements as residual shifts plus one axis offset, their median along u; only the sum enters the model."""
    moved = alignment.displacements
    offset = float(np.median(moved[:, 1]))
    return replace(alignment, shifts=moved - [0.0, offset], axis_offset=offset)


def resample(series: TiltSeries, frame: tuple[int, int] | None = None) -> TiltSeries:
    """Maps in the aligned frame, per unit exposure and without background: no counts any more.

    Args:
        series: aligned.
        frame: ``(ny, nx)`` of the aligned frame; the recorded one by default.

    Returns:
        A scaled series with identity alignment, exposures 1 and background 0 (cubic splines).
    """
    from scipy import ndimage

    ideal = frame or series.frame
    # recorded = A^-1 (ideal - b), indices (u, y); ndimage wants (y, u)
    a = affine(series.alignment, series.frame, ideal)
    counts = np.empty((len(series.elements), series.n_tilts, *ideal), np.float32)
    seen = np.ones(series.counts.shape[1:], np.float32) if series.weights is None else series.weights
    weights = np.empty((series.n_tilts, *ideal), np.float32)
    for t, (a0, a1, b0, a3, a4, b1) in enumerate(a):
        inverse = np.linalg.inv([[a4, a3], [a1, a0]])
        shift = -inverse @ [b1, b0]
        # pixels that no map covers, or that are next to one left out, are left out
        weights[t] = ndimage.affine_transform(seen[t], inverse, shift, ideal, order=1, mode="constant") > 0.999
        for e in range(len(series.elements)):
            image = (series.counts[e, t] - series.offset(e)[t]) / series.exposures[e, t]
            counts[e, t] = ndimage.affine_transform(image, inverse, shift, ideal, order=3, mode="constant")
    return series.evolve(
        "resampled into the aligned frame",
        counts=counts,
        exposures=np.ones_like(series.exposures),
        background=np.zeros_like(series.background),
        background_maps=None,
        alignment=Alignment.identity(series.n_tilts),
        weights=None if weights.all() else weights,
        scaled=True,
    )


__all__ = ["align", "centre_of_mass", "combine", "cross_correlation", "refine", "resample"]
