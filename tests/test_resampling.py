"""Maps resampled or binned are those of a series recorded so."""

from __future__ import annotations

import numpy as np
import pytest
from truth import error, known

from recon.alignment.coarse import centre_of_mass
from recon.model.resampling import resample
from recon.preparation.normalise import normalise
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate

# ---------------------------------------------------------------- resample, binned, split


@pytest.mark.parametrize("turn", [0.0, 4.0])
def test_resampled_maps_are_those_of_a_series_that_never_moved(turn):
    """Relative rms difference 0.016 at both, without noise; without alignment it is 0.44."""
    options = {"size": 48, "dose": 1e7, "background": 0.01, "seed": 3}
    series, truth = simulate(**options, rotation_deg=turn)
    still, calm = simulate(**options, rotation_deg=0, axis_offset=0, drift=0)
    # the brightest pixel sets the dose and differs a little
    expected = known(still, calm).evolve(alignment=Alignment.identity(15))
    expected = (expected.counts - expected.background[..., None, None]) / expected.exposures[..., None, None]
    expected *= truth.volumes["Co"].sum(dtype=float) / calm.volumes["Co"].sum(dtype=float)
    found = resample(known(series, truth))
    assert found.scaled
    assert found.alignment.is_identity
    assert (found.exposures == 1).all()
    assert not found.background.any()
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))  # beyond, a moved map has no data
    assert error(found.counts[inner], expected[inner]) < 0.025
    unmoved = known(series, truth).evolve(alignment=Alignment.identity(15))
    assert error(resample(unmoved).counts[inner], expected[inner]) > 0.2


def test_resampling_without_alignment_divides_by_the_exposure_only(small):
    series = normalise(small[0])
    found = resample(series)
    expected = (series.counts - series.background[..., None, None]) / series.exposures[..., None, None]
    np.testing.assert_allclose(found.counts, expected, atol=1e-3)


def test_a_map_moved_by_whole_pixels_is_resampled_exactly(small):
    series = small[0]
    moved = series.evolve(
        counts=np.roll(series.counts, (2, -3), axis=(2, 3)), alignment=Alignment(np.full((15, 2), (2.0, -3.0)))
    )
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(resample(moved).counts[inner], series.counts[inner], atol=1e-3)


def test_resampled_maps_know_what_they_do_not_cover(small):
    series = small[0]
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[:, :8] = 0
    moved = series.evolve(weights=weights, alignment=Alignment(np.full((15, 2), (0.0, 6.0))))
    found = resample(moved)
    assert found.weights is not None
    assert not found.weights[:, :7].any()  # left out before
    assert not found.weights[:, :, -5:].any()  # the frame ended there
    assert found.weights[:, 10:-2, 2:-8].all()


@pytest.mark.parametrize(("shape", "edge", "factor"), [((32, 32), 16, 2), ((35, 33), 16, 3), ((20, 32), 32, 1)])
def test_binned_keeps_counts(shape, edge, factor):
    counts = np.random.default_rng(0).poisson(3.0, (5, *shape)).astype(np.float32)
    series = TiltSeries.create({"A": counts}, [-20, -10, 0, 10, 20], 2.0).evolve(background=np.full((1, 5), 0.5))
    found, bins = binned_to(series, edge)
    k = bins.factor
    assert k == factor
    ny, nx = (n // k for n in shape)
    assert found.frame == (ny, nx)
    cy, cx = ((n - m * k) // 2 for n, m in zip(shape, (ny, nx), strict=True))
    kept = counts[:, cy : cy + ny * k, cx : cx + nx * k]
    assert found.counts.sum(dtype=float) == kept.sum(dtype=float)
    assert found.counts[0, 1, 2, 3] == kept[1, 2 * k : 3 * k, 3 * k : 4 * k].sum()
    assert found.pixel_size_nm == 2.0 * k
    np.testing.assert_allclose(found.background, 0.5 * k**2)


@pytest.mark.parametrize(
    "shape",
    [
        (32, 32),
        (33, 33),
        (35, 33),
    ],
)
def test_binned_keeps_the_centre(shape):
    counts = np.zeros((5, *shape), np.float32)
    yy, xx = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    counts[:] = 1e4 * np.exp(-((yy - 1.3) ** 2 + (xx + 2.1) ** 2) / 18)
    series = TiltSeries.create({"A": counts}, [-20, -10, 0, 10, 20], 1.0)
    small, bins = binned_to(series, 17)
    assert bins.factor == 2 or shape == (35, 33)
    found = bins.up(Alignment(centre_of_mass(small)))
    np.testing.assert_allclose(found.displacements, centre_of_mass(series), atol=0.05)
    again = bins.up(bins.down(found))
    np.testing.assert_allclose(again.displacements, found.displacements, atol=1e-12)
    np.testing.assert_allclose(found.displacements, np.broadcast_to([1.3, -2.1], (5, 2)), atol=0.05)


def test_binned_leaves_out_blocks_with_a_pixel_left_out(small):
    series = small[0]
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[3, 5, 8] = 0
    found, _ = binned_to(series.evolve(weights=weights), 16)
    assert found.weights[3, 2, 4] == 0
    assert found.weights.sum() == found.weights.size - 1
