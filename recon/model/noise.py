"""How noisy the maps are, and how strong a regulariser must be to outweigh that."""

from __future__ import annotations

import numpy as np

from recon.series.tilt_series import TiltSeries


def noise_weights(series: TiltSeries, element: str) -> np.ndarray:
    """Inverse variance of a bright pixel of each map ``(tilt,)``.

    For counts it is one over the mean count, each pixel weighted by its counts; for scaled maps it comes
    from the differences of neighbouring pixels.
    """
    e = series.index(element)
    maps = series.counts[e].astype(np.float64)
    if not (series.weights is None and series.element_weights is None):
        maps = np.where(series.seen_by(e) > 0, maps, 0)
    where = series.footprint(e)
    if series.scaled and where is not None:  # one pixel of the grid for each recorded one
        stride = max(1, round(where.pitch))
        maps = maps[:, stride // 2 :: stride, stride // 2 :: stride]
    if series.scaled:
        step = maps[:, 1:, 1:] - maps[:, 1:, :-1] - maps[:, :-1, 1:] + maps[:, :-1, :-1]
        bright = maps[:, 1:, 1:] > np.percentile(maps, 75, axis=(1, 2), keepdims=True)
        size = [np.median(np.abs(s[b])) if b.any() else 0.0 for s, b in zip(step, bright, strict=True)]
        sigma = np.array(size) / 0.6745 / 2
        sigma = np.where(sigma > 0, sigma, max(float(sigma.max()), 1e-3 * float(np.abs(maps).max()), 1e-12))
        return np.asarray(1 / sigma**2)
    first, second = maps.sum(axis=(1, 2)), np.square(maps).sum(axis=(1, 2))
    mean = np.where(first > 0, (second - first) / np.maximum(first, 1), 0)
    return np.asarray(1 / np.maximum(mean, 0.2))


STRENGTH_PER_NOISE = 1.0  # of the rule; calibrated on simulated particles, see benchmarks/strength.py


def automatic_strength(series: TiltSeries, element: str) -> float:
    """The a1 of ``strength = "auto"``: a constant times the noise in the gradient of the data term.

    At a good fit the gradient ``A^T s y`` of the data term is noise with variance
    ``sum_t s_t^2 w_t`` per voxel, w_t the inverse variance of a bright pixel; the regulariser must
    just outweigh it. So a1 scales with dose^-1/2, as the noise does, and with the root of the number of
    tilts that are used.
    """
    weights, e = noise_weights(series, element), series.index(element)
    s = np.where(series.present[e], series.exposures[e], 0)
    return float(STRENGTH_PER_NOISE * np.sqrt(np.sum(s**2 * weights)))
