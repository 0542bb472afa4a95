"""Shifts and axis of simulated series whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter
from truth import known, rest, rms

from recon.alignment.align import align, axis_by_artefacts, cross_correlation
from recon.alignment.coarse import centre_of_mass
from recon.errors import InputError, JobError
from recon.preparation.normalise import normalise
from recon.series.alignment import Alignment
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle, simulate

# ---------------------------------------------------------------- align


def test_shifts_are_found_to_a_few_hundredths_of_a_pixel(upright, aligned):
    """Medians 0.025 and 0.023 pixel, rms 0.040 and 0.024 (v, u), at 40 counts."""
    series, truth = upright
    found = aligned
    wrong = rest(found.alignment, truth.alignment, series.tilts_deg)
    assert np.median(np.abs(wrong), axis=0).max() < 0.05
    assert rms(wrong, axis=0).max() < 0.08
    assert found.counts is series.counts
    assert not found.scaled
    assert found.alignment.residual.shape == (15,)
    assert "re-projection" in found.alignment.method


def test_the_residual_of_a_good_model_is_about_one(aligned):
    assert 0.8 < np.median(aligned.alignment.residual) < 1.25


def test_the_paper_s_cross_correlation_brings_shifts_to_a_third_of_a_pixel(upright):
    """Rms 0.22 and 0.31 pixel from a drift of 1.8; the axis 1.1 pixels off."""
    series, truth = upright
    found = align(series, "cross-correlation")
    wrong = rest(found.alignment, truth.alignment, series.tilts_deg)
    assert rms(wrong, axis=0).max() < 0.45
    start = rest(Alignment.identity(15), truth.alignment, series.tilts_deg)
    assert rms(start, axis=0).min() > 1.5
    assert found.alignment.axis_offset == pytest.approx(truth.alignment.axis_offset, abs=1.5)
    assert found.alignment.method == "cross-correlation"


@pytest.mark.slow
def test_the_axis_rotation_is_found_within_a_degree():
    series, truth = simulate(size=64, seed=0)
    found = align(normalise(series))
    assert found.alignment.rotation_deg == pytest.approx(truth.alignment.rotation_deg, abs=1.0)
    wrong = rest(found.alignment, truth.alignment, series.tilts_deg)
    assert rms(wrong, axis=0).max() < 0.15


def test_cross_correlation_follows_an_image_that_moves():
    """Nearly equal tilts, so that nothing but the shift changes. Exact without the window."""
    rng = np.random.default_rng(0)
    frame = np.zeros((48, 48))
    frame[12:36, 12:36] = rng.uniform(0, 1, (24, 24))
    image = gaussian_filter(frame, 1.5)
    true = np.array([[1.5, -2.0], [0.8, -0.75], [0, 0], [-0.55, 1.3], [1.25, 2.4]])
    maps = np.stack([np.fft.ifft2(fourier_shift(np.fft.fft2(image), d)).real for d in true])
    maps = np.clip(maps, 0, None) * 1000
    series = TiltSeries.create({"A": maps}, [10, 9, 8, 9.5, 10.5], 1.0)
    np.testing.assert_allclose(cross_correlation(series), true, atol=0.1)


def test_the_centre_of_mass_is_where_the_object_is():
    """A ball off the centre on maps without noise; the window follows it past a bright background."""
    n = 32
    ball = Particle(("A",), (Ellipsoid((0.1, 0.05, -0.15), (0.1, 0.1, 0.1), (1.0,)),), {})
    series, truth = simulate(ball, size=n, dose=1e6, rotation_deg=0, background=0.05, seed=2)
    found = centre_of_mass(known(series, truth))
    t = np.radians(series.tilts_deg)
    ideal = np.stack([0.05 * n + 0 * t, n * (-0.15 * np.cos(t) + 0.1 * np.sin(t))], axis=1)
    np.testing.assert_allclose(found, ideal + truth.alignment.displacements, atol=0.03)


def by_artefacts(size, rotation_deg):
    """Offset and rotation found from zero, the shifts known."""
    series, truth = simulate(size=size, dose=400, seed=0, axis_offset=-2.0, rotation_deg=rotation_deg)
    start = replace(truth.alignment, axis_offset=0.0, rotation_deg=0.0)
    return axis_by_artefacts(combine(known(series, truth)), start)


@pytest.mark.parametrize(("size", "turn"), [(24, 3.0), (32, -3.0)])
def test_the_axis_is_where_artefacts_are_fewest(size, turn):
    """At 400 counts, shifts known."""
    found = by_artefacts(size, turn)
    assert found.axis_offset == pytest.approx(-2, abs=0.25 * size / 32)
    assert found.rotation_deg == pytest.approx(turn, abs=1.5)


def test_no_alignment(small):
    series, _ = small
    moved = series.evolve(alignment=Alignment(np.ones((15, 2)), 1.0, 2.0))
    assert align(moved, "none").alignment.is_identity
    assert align(series, "none").counts is series.counts


@pytest.mark.parametrize(("options", "kind", "word"), [
    ({"reference": ["Fe"]}, InputError, "'Fe' is not in the series; it has Co, Zn"),
    ({"method": "stackreg"}, JobError, "'stackreg' is unknown"),
])  # fmt: skip
def test_alignment_that_cannot_be(small, options, kind, word):
    with pytest.raises(kind) as caught:
        align(small[0], **options)
    assert word in str(caught.value)


def test_the_reference_is_the_sum_of_the_elements_that_were_named(small):
    series = normalise(small[0])
    both, zn = combine(series), combine(series, ["Zn"])
    np.testing.assert_array_equal(both.counts[0], series.counts.sum(axis=0))
    np.testing.assert_array_equal(zn.counts[0], series.counts[1])
    np.testing.assert_allclose(zn.exposures[0], series.exposures[1])
    np.testing.assert_allclose(both.background[0], series.background.sum(axis=0))
    weight = series.counts.sum(axis=(1, 2, 3), dtype=float)
    np.testing.assert_allclose(both.exposures[0], weight @ series.exposures / weight.sum())
