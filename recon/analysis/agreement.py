"""How well each map agrees with the re-projection of the result: an alignment is judged by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.backend import Array
from recon.files import rounded
from recon.io.alignment import AgreementRecord
from recon.model.assembly import make_data_term, make_operator
from recon.model.noise import noise_weights
from recon.model.resampling import resample
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, unit_of, volume_in
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGE = 96  # pixels along a frame's edge of the pictures
ZERO, STEPS = 128, 25  # of a picture of residuals: no difference, and one standard deviation
FAINT = 0.05  # of the brightest expected pixel; below it a pixel says nothing of the object


@dataclass(frozen=True)
class Agreement:
    """Maps against re-projections, tilt by tilt; nan for tilts without weight, and after filtered back projection.

    The reconstruction was made from the same maps and follows them, so what is left is less than what an alignment is
    off; a tilt that stands out is wrong all the same.

    Attributes:
        shifts, shift_errors: ``(tilt, 2)`` (v, u) pixels, by how much the map lies further along than its
            re-projection, and the standard error of that as far as counts go.
        exposures, exposure_errors: ``(tilt,)`` brightness of the map over what the model says; the mean, by which a
            regulariser darkens all, is taken out.
        misfit, misfit_errors: ``(tilt,)`` reduced chi-square where the object is, and how far it scatters about 1 if
            the model is right.
        noise: "poisson" where maps are counts; else "gaussian", as strong as neighbouring pixels differ.
        before, after, model: ``(tilt, y, x)`` float32, the maps as recorded, in the aligned frame per unit exposure,
            and the re-projections there; binned.
        residual: ``(tilt, y, x)`` float32, map minus re-projection in the recorded frame, in standard deviations of the
            noise; binned so that noise alone would still have one; nan where there is no object.
    """

    shifts: NDArray[np.float64]
    shift_errors: NDArray[np.float64]
    exposures: NDArray[np.float64]
    exposure_errors: NDArray[np.float64]
    misfit: NDArray[np.float64]
    misfit_errors: NDArray[np.float64]
    noise: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    model: NDArray[np.float32]
    residual: NDArray[np.float32]

    @property
    def record(self) -> AgreementRecord:
        """The numbers as ``alignment.json`` holds them."""
        return AgreementRecord(
            shifts_v_pixels=rounded(self.shifts[:, 0], 4),
            shifts_u_pixels=rounded(self.shifts[:, 1], 4),
            errors_v_pixels=rounded(self.shift_errors[:, 0], 4),
            errors_u_pixels=rounded(self.shift_errors[:, 1], 4),
            exposures=rounded(self.exposures, 5),
            exposure_errors=rounded(self.exposure_errors, 5),
            noise=self.noise,
            chi_square=rounded(self.misfit, 4),
            chi_square_errors=rounded(self.misfit_errors, 4),
        )

    @property
    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """The pictures, black to the brightest in 8 bit; `after` and `model` share a scale.

        ``residual`` is 128 + 25 for each standard deviation, 0 where there is no object.
        """
        bright = float(np.percentile(self.after, 99.8))
        tops = {"before": float(np.percentile(self.before, 99.8)), "after": bright, "model": bright}
        out = {
            name: (np.clip(getattr(self, name) / max(top, 1e-30), 0, 1) * 255).round().astype(np.uint8)
            for name, top in tops.items()
        }
        level = np.clip(ZERO + STEPS * self.residual, 1, 255)
        out["residual"] = np.where(np.isfinite(level), level, 0).round().astype(np.uint8)
        return out


def agreement(
    read: TiltSeries,
    series: TiltSeries,
    volumes: Mapping[str, Volume],
    reference: Sequence[str] | None = None,
    device: str = "cpu",
) -> Agreement | None:
    """Compare maps with re-projections of the volumes that were made from them, elements added up.

    Args:
        read: the series as it was read.
        series: aligned (and perhaps resampled), as it was given to `reconstruct`.
        volumes: from `reconstruct`.
        reference: elements to add up, those that were aligned on; all by default.
        device: ``"cpu"`` or ``"cuda"``, where to project.

    Returns:
        None if none of these elements has a volume.
    """
    names = [n for n in (reference or series.elements) if n in volumes]
    if not names:
        return None
    unit = unit_of(series)
    read, series = series_in(read, unit if read.scaled else 1.0), series_in(series, unit)
    volumes = {n: volume_in(volumes[n], unit) for n in volumes}
    level = "least-squares" if series.scaled else "poisson"
    counts: Array = np.zeros((), np.float32)
    signal = offset = sharp = counts
    variance = np.zeros(series.n_tilts)
    seen = np.zeros((), np.float32)
    for name in names:
        e = series.index(name)
        data = make_data_term(series, name, level)
        full = backend.to_device(volumes[name].solved, device)
        counts, offset = counts + data.counts, offset + data.offset
        signal = signal + data.scale * _project(series, full, name)
        straight = series.evolve(alignment=Alignment.identity(series.n_tilts))
        sharp = sharp + _project(straight, full, name)
        seen = np.maximum(seen, series.seen_by(e).swapaxes(1, 2))
        if series.scaled:
            variance += np.where(series.present[e], 1 / noise_weights(series, name), 0)
    expected = signal + offset
    faint = FAINT * float(expected.max())
    spread = np.broadcast_to(variance[:, None, None], expected.shape) if series.scaled else np.maximum(expected, faint)
    weight = np.where(seen > 0, seen / np.maximum(spread, 1e-12), 0)
    # a filtered back projection is no fit to the maps: it lacks what no tilt saw
    made = [v.solution.settings for v in volumes.values() if v.solution is not None]
    fitted = not any(settings is not None and settings.method == "fbp" for settings in made)
    used = np.logical_and(series.present[[series.index(n) for n in names]].any(axis=0), fitted)
    shifts, shift_errors, exposures, exposure_errors = _steps(counts - expected, signal, weight, used)
    object_ = (seen > 0) & (expected > faint)
    n = np.maximum(object_.sum(axis=(1, 2)), 1)
    misfit = np.sum(weight * np.square(counts - expected), axis=(1, 2), where=object_, dtype=np.float64) / n
    fourth = np.zeros_like(expected) if series.scaled else 1 / np.maximum(expected, 1e-12)
    scatter = np.sqrt(np.sum(2 + fourth, axis=(1, 2), where=object_, dtype=np.float64)) / n

    def shown(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(used, values, np.nan)

    model = np.ascontiguousarray(sharp.swapaxes(1, 2))
    return Agreement(
        shifts, shift_errors, exposures, exposure_errors, shown(misfit), shown(scatter),
        "gaussian" if series.scaled else "poisson", *_pictures(read, series, model, names),
        _standardised((counts - expected) * np.sqrt(weight), object_ & used[:, None, None]),
    )  # fmt: skip


def _standardised(residual: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Residuals ``(tilt, u, y)`` of unit variance as blocks ``(tilt, y, u)`` of unit variance, nan where no object."""
    factor = -(-max(residual.shape[1:]) // EDGE)
    sums, counts = np.where(there, residual, 0).astype(np.float64), there.astype(np.float64)
    for axis in (1, 2):
        starts = np.arange(0, residual.shape[axis], factor)
        sums, counts = np.add.reduceat(sums, starts, axis), np.add.reduceat(counts, starts, axis)
    blocks = np.where(counts > 0.5 * factor**2, sums / np.sqrt(np.maximum(counts, 1)), np.nan)
    return np.ascontiguousarray(blocks.swapaxes(1, 2), dtype=np.float32)


def _project(series: TiltSeries, full: Array, element: str) -> NDArray[np.float32]:
    """Re-projections ``(tilt, u, y)`` in the recorded frames, per unit exposure; 0 where the element has no map."""
    nz, nx, ny = full.shape
    operator = make_operator(series, (nz, ny, nx), full, element=element)
    out = operator(full, backend.namespace(full).empty(operator.range_shape, dtype=np.float32))
    return np.asarray(backend.to_host(out))


def _steps(
    misfit: NDArray[np.float32], signal: NDArray[np.float32], weight: NDArray[np.floating], used: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """One Gauss-Newton step of displacement and exposure of each tilt, with the errors that the counts allow.

    Arrays are ``(tilt, u, y)``.
    """
    step, error = np.full((len(used), 3), np.nan), np.full((len(used), 3), np.nan)
    for t in np.flatnonzero(used):
        along_u, along_v = np.gradient(signal[t].astype(np.float64))
        slope = np.stack([-along_v, -along_u, signal[t]])
        weighted = slope * weight[t]
        normal = np.einsum("aij,bij->ab", slope, weighted)
        if np.linalg.cond(normal) < 1e12:
            inverse = np.linalg.inv(normal)
            step[t], error[t] = inverse @ np.einsum("aij,ij->a", weighted, misfit[t]), np.sqrt(np.diag(inverse))
    ratio = 1 + step[:, 2]
    common = float(np.nanmean(ratio)) if np.isfinite(ratio).any() else 1.0
    return step[:, :2], error[:, :2], ratio / common, error[:, 2] / common


def _pictures(
    read: TiltSeries, series: TiltSeries, model: NDArray[np.float32], names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    together = combine(series, names, whole=False)
    small, bins = binned_to(together, EDGE)
    if series.scaled:
        after = small.counts[0]
    else:
        after = resample(small.evolve(alignment=bins.down(series.alignment))).counts[0]
    before = binned_to(combine(read, names, whole=False), EDGE)[0].counts[0]
    modelled = binned_to(replace(together, counts=model[None], weights=None, background_maps=None), EDGE)[0].counts[0]
    return before, after, modelled


__all__ = ["Agreement", "agreement"]
