"""A summed spectrum as lines on a continuum: design matrix, fit, energy shift.

Model of channel k at energy E_k: families of lines, each a sum of Gaussians of the detector's width integrated over
the channel, with fixed weights within a family, on a continuum of triangular functions wide against any line.
All coefficients are >= 0, found by weighted non-negative least squares (Lawson and Hanson, 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.lines import Family, Resolution

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOTS_PER_FWHM = 5.0  # distance of the continuum's knots; closer ones would take the lines' counts


@dataclass(frozen=True)
class Spectrum:
    """A fitted spectrum.

    Attributes:
        energies_kev: ``(channel,)`` of the fitted range.
        counts: ``(channel,)`` as summed.
        families: in the model.
        peaks: ``(family, channel)``, each adding up to about 1.
        amounts: ``(family,)`` counts of each family.
        errors: ``(family,)`` their standard errors from counting statistics.
        continuum: ``(channel,)`` counts.
        offset_kev, gain: a line of energy E is found at ``E + offset_kev + gain * E``.
    """

    energies_kev: NDArray[np.float64]
    counts: NDArray[np.float64]
    families: tuple[Family, ...]
    peaks: NDArray[np.float64]
    amounts: NDArray[np.float64]
    errors: NDArray[np.float64]
    continuum: NDArray[np.float64]
    offset_kev: float
    gain: float

    def shift(self, energy_kev: float) -> float:
        """By how much (keV) a line lies above the table's energy."""
        return self.offset_kev + self.gain * energy_kev

    @property
    def model(self) -> NDArray[np.float64]:
        """``(channel,)`` lines and continuum together."""
        return np.asarray(self.amounts @ self.peaks + self.continuum)


def peak_shapes(
    families: Sequence[Family],
    energies: NDArray[np.float64],
    resolution: Resolution,
    offset_kev: float = 0.0,
    gain: float = 0.0,
) -> NDArray[np.float64]:
    """``(family, channel)``: part of a family's counts that falls into each channel."""
    from scipy.special import ndtr

    step = energies[1] - energies[0]
    edges = np.append(energies - step / 2, energies[-1] + step / 2) - offset_kev
    out = np.zeros((len(families), len(energies)))
    for row, family in zip(out, families, strict=True):
        for energy, weight in zip(family.energies_kev, family.weights, strict=True):
            row += weight * np.diff(ndtr((edges - energy * (1 + gain)) / resolution.sigma(energy)))
    return out


def hats(energies: NDArray[np.float64], resolution: Resolution) -> NDArray[np.float64]:
    """``(knot, channel)`` triangular functions that add up to 1 everywhere."""
    knots = [float(energies[0])]
    while knots[-1] < energies[-1]:
        knots.append(knots[-1] + max(KNOTS_PER_FWHM * resolution.fwhm(knots[-1]), 0.12 * knots[-1]))
    if len(knots) > 2:  # the last one would hang on too few channels
        knots.pop()
    knots[-1] = float(energies[-1])
    return np.array([np.interp(energies, knots, np.eye(len(knots))[k]) for k in range(len(knots))])


def fit(
    counts: NDArray[Any], energies: NDArray[np.float64], families: Sequence[Family], resolution: Resolution
) -> Spectrum:
    """Fit a summed spectrum, and the shift of its energy scale on its strongest line.

    Args:
        counts: ``(channel,)`` counts.
        energies: ``(channel,)`` keV, equally spaced.
        families: that may be there.
        resolution: of the detector.
    """
    y = np.asarray(counts, dtype=np.float64)
    scale = (0.0, 0.0)
    base = hats(energies, resolution)
    for _ in range(4):
        peaks = peak_shapes(families, energies, resolution, *scale)
        amounts, heights = _solve(y, peaks, base)
        moved = _shift((y, amounts @ peaks + heights @ base), energies, families, peaks, amounts, scale)
        if np.abs(np.subtract(moved, scale) * [1, 10]).max() < 3e-4:
            break
        scale = moved
    errors = _errors(peaks, base, amounts @ peaks + heights @ base)
    return Spectrum(energies, y, tuple(families), peaks, amounts, errors, heights @ base, *scale)


def _solve(
    y: NDArray[np.float64], peaks: NDArray[np.float64], base: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.optimize import nnls

    design = np.vstack([peaks, base]).T
    # columns of like size keep the active-set method quick
    size = np.maximum(np.sqrt((design**2).sum(axis=0)), 1e-30)
    expected = _smooth(y)
    found = np.zeros(design.shape[1])
    for _ in range(2):  # weights from the model rather than from the noisy counts
        root = 1 / np.sqrt(np.maximum(expected, 0.5))
        # the triangular factor has the same solution, and tens of rows in place of a thousand
        q, r = np.linalg.qr(design * (root[:, None] / size))
        found = nnls(r, q.T @ (y * root))[0] / size
        expected = design @ found
    n = len(peaks)
    return found[:n], found[n:]


def _errors(peaks: NDArray[np.float64], base: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard errors of the families' counts if all others and the continuum are fitted with them."""
    design = np.vstack([peaks, base]) / np.sqrt(np.maximum(model, 0.5))
    size = np.maximum(np.sqrt((design**2).sum(axis=1)), 1e-30)
    unit = design / size[:, None]
    inverse = np.linalg.pinv(unit @ unit.T, rcond=1e-10, hermitian=True)
    return np.asarray((np.sqrt(np.maximum(np.diag(inverse), 0)) / size)[: len(peaks)])


def _smooth(y: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import uniform_filter1d

    return np.asarray(uniform_filter1d(y, 5, mode="nearest"))


def strongest(families: Sequence[Family], amounts: NDArray[np.float64]) -> tuple[int, float]:
    """The family with the most counts in one line, K lines above 1 keV first, and that line's energy."""
    score = [a * max(f.weights) * (1.0 if f.strongest() > 1.0 else 0.2) * (1.0 if f.shell == "K" else 0.01)
             for f, a in zip(families, amounts, strict=True)]  # fmt: skip
    best = int(np.argmax(score))
    return best, families[best].strongest()


def _shift(
    spectrum: tuple[NDArray[np.float64], NDArray[np.float64]],
    energies: NDArray[np.float64],
    families: Sequence[Family],
    peaks: NDArray[np.float64],
    amounts: NDArray[np.float64],
    before: tuple[float, float],
) -> tuple[float, float]:
    """One Gauss-Newton step for offset (keV) and gain of the energy scale, on the K lines.

    L and M lines have neighbours whose weights are less well known, and would pull the scale after them.
    """
    y, model = spectrum
    strong = amounts > max(300.0, 0.02 * float(amounts.max(initial=0)))
    clear = np.array([f.shell == "K" for f in families]) & strong
    if not clear.any():
        clear = strong
    seen = [f.strongest() for f, c in zip(families, clear, strict=True) if c]
    if not seen:
        return before
    slope = -np.gradient((amounts * clear) @ peaks, energies)
    columns = [slope, slope * energies] if max(seen) - min(seen) > 1 else [slope]
    root = 1 / np.sqrt(np.maximum(model, 0.5))
    near = np.abs(slope) > 0.02 * np.abs(slope).max() * np.sqrt(np.maximum(model, 0.5) / max(model.max(), 1))
    step = np.linalg.lstsq((np.array(columns) * root * near).T, (y - model) * root * near, rcond=None)[0]
    offset, gain = before[0] + float(step[0]), before[1] + (float(step[1]) if len(step) > 1 else 0.0)
    return float(np.clip(offset, -0.05, 0.05)), float(np.clip(gain, -0.01, 0.01))


def unexplained(spectrum: Spectrum, resolution: Resolution) -> list[tuple[float, float]]:
    """Energies (keV) at which counts stand out of the model like a line, and how many; the largest first."""
    left = spectrum.counts - spectrum.model
    known = [
        (e, a * w)
        for f, a, s in zip(spectrum.families, spectrum.amounts, spectrum.errors, strict=True)
        for e, w in zip(f.energies_kev, f.weights, strict=True)
        if a > 10 * s
    ]
    found = []
    for energy in np.arange(spectrum.energies_kev[0] + 0.1, spectrum.energies_kev[-1] - 0.1, 0.02):
        sigma = resolution.sigma(energy)
        near = np.abs(spectrum.energies_kev - energy) <= 1.2 * sigma
        if near.sum() < 3:
            continue
        counts, expected = left[near].sum(), spectrum.model[near].sum()
        # a line nobody named, not the few percent by which a strong one misses its ideal shape
        near_known = any(abs(energy - e - spectrum.shift(e)) < (3 if a > 3 * counts else 1.5) * sigma for e, a in known)
        if counts > 10 * np.sqrt(max(expected, 1.0)) and counts > 0.25 * expected and not near_known:
            found.append((counts, float(energy), sigma))
    found.sort(reverse=True)
    kept: list[tuple[float, float]] = []
    for counts, energy, sigma in found:
        if all(abs(energy - e) > 4 * sigma for e, _ in kept):
            kept.append((energy, float(counts)))
    return kept
