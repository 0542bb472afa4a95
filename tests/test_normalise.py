"""Exposures and background of simulated series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from truth import rms

from recon.errors import InputError, JobError
from recon.preparation.isolation import look
from recon.preparation.normalise import normalise
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle, simulate

# ---------------------------------------------------------------- normalise


def test_exposures_and_background_are_right_to_the_poisson_limit():
    """Errors over their standard deviations: rms 0.6 to 1.3 in each of six cases, 0.97 together."""
    z, zb = [], []
    for seed in range(3):
        series, truth = simulate(size=32, seed=seed)
        found = normalise(series)
        assert found.isolated
        n_outside = look(series).empty.sum(axis=(1, 2))
        offset = truth.exposures * truth.background
        expected = truth.exposures / truth.exposures.mean()
        for e in range(2):
            total = series.counts[e].sum(axis=(1, 2), dtype=float)
            sigma = np.sqrt(total + 32**4 * offset / n_outside) / (total - 32**2 * offset)
            z.append((found.exposures[e] / expected - 1) / sigma)
            zb.append((found.background[e] - offset) / np.sqrt(offset / n_outside))
    assert 0.7 < rms(z) < 1.25
    assert np.abs(z).max() < 4
    assert 0.7 < rms(zb) < 1.25
    assert abs(np.mean(zb)) < 4 / np.sqrt(np.size(zb))
    assert np.sqrt(np.mean(np.square(sigma))) < 0.03  # the limit is worth reaching


def test_normalise_leaves_the_counts_and_says_what_it_did(small):
    series, _ = small
    found = normalise(series)
    assert found.counts is series.counts
    assert not found.scaled
    np.testing.assert_allclose(found.exposures.mean(axis=1), 1)
    assert "constant-total" in found.history[-1]
    assert "object isolated" in found.history[-1]
    assert (series.exposures == 1).all()  # the input is a value


def slab(dose):
    """A film wider than the frame, with a thicker part inside it."""
    film = Ellipsoid((0, 0, 0), (0.05, 3, 3), (1.0,))
    grain = Ellipsoid((0, 0.1, 0), (0.1, 0.2, 0.2), (2.0,))
    return simulate(Particle(("A",), (film, grain), {}), size=32, dose=dose)[0]


@pytest.mark.parametrize("dose", [5, 40, 400])
def test_a_slab_is_not_taken_for_a_particle(dose):
    found = normalise(slab(dose))
    assert found.isolated is False
    assert (found.exposures == 1).all()
    assert not found.background.any()
    assert "normalise: none" in found.history[-1]


@pytest.mark.parametrize("mean", [1, 5, 50, 500])
def test_a_uniform_field_is_not_taken_for_a_particle(mean):
    counts = np.random.default_rng(0).poisson(mean, (5, 32, 32))
    assert not normalise(TiltSeries.create({"A": counts}, [-20, -10, 0, 10, 20], 1.0)).isolated


def test_a_particle_cut_by_the_frame_at_one_tilt_is_not_isolated(small):
    series, _ = small
    counts = series.counts.copy()
    counts[:, 7] = np.roll(counts[:, 7], 14, axis=2)
    assert normalise(series.evolve(counts=counts)).isolated is False


def test_constant_total_can_be_asked_for_and_left_out(small):
    series, _ = small
    np.testing.assert_array_equal(normalise(series, "none").exposures, 1)
    film = slab(40)
    total = film.counts.sum(axis=(0, 2, 3), dtype=float)
    np.testing.assert_allclose(normalise(film, "constant-total").exposures[0], total / total.mean())


def test_a_background_that_is_given(small):
    series, _ = small
    np.testing.assert_array_equal(normalise(series, background=0.25).background, 0.25)
    found = normalise(series, background={"Co": 0.3, "Zn": 0.1})
    np.testing.assert_array_equal(found.background, np.broadcast_to([[0.3], [0.1]], (2, 15)))
    np.testing.assert_array_equal(normalise(series, background={"Zn": 0.1}).background[0], 0)
    lower = normalise(series, "constant-total", background=0.0)
    total = series.counts.sum(axis=(2, 3), dtype=float)
    np.testing.assert_allclose(lower.exposures, total / total.mean(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("background", "words"),
    [
        (-0.1, ["background of Co", "-0.1", "negative"]),
        (float("nan"), ["background of Co", "nan"]),
        ({"Zn": 1e3}, ["background of Zn", "1000", "tilt", "auto"]),
        ({"Fe": 0.1}, ["Fe", "Co, Zn"]),
    ],
)
def test_a_background_that_cannot_be(small, background, words):
    with pytest.raises(InputError) as caught:
        normalise(small[0], background=background)
    assert all(w in str(caught.value) for w in words), caught.value


def test_an_empty_map_has_no_exposure(small):
    series, _ = small
    counts = series.counts.copy()
    counts[1, 4] = 0
    with pytest.raises(InputError, match=r"Zn at tilt -30 .*leave this tilt out"):
        normalise(series.evolve(counts=counts), "constant-total")


def test_an_unknown_method_of_normalising(small):
    with pytest.raises(JobError, match="constant"):
        normalise(small[0], "constant")


def test_pixels_without_weight_count_neither_as_background_nor_in_totals(small):
    series, _ = small
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[:, :2, :2] = 0
    counts = series.counts.copy()
    counts[:, :, :2, :2] = 1000  # a broken corner
    found = normalise(series.evolve(counts=counts, weights=weights))
    clean = normalise(series)
    assert found.isolated
    np.testing.assert_allclose(found.background, clean.background, atol=0.02)
    np.testing.assert_allclose(found.exposures, clean.exposures, atol=0.02)
