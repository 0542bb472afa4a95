"""Faults of detector and scan put into simulated maps: found, named, without weight; real particles lose none."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.preparation.bad_pixels import faults, without_faults
from recon.preparation.screening import warnings
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate

N = 32


@pytest.fixture(scope="module")
def good() -> TiltSeries:
    return simulate(size=N, dose=40, seed=1)[0]


def corner(c):
    c[:, :, 0, 0] = 800


def beside(c):
    c[:, :, 5, 27] += np.random.default_rng(0).poisson(60, c.shape[:2])


def one_element(c):
    c[0, :, 20, 3] = 500


def on_the_axis(c):
    c[:, :, 15, 15] = 5000


def row(c):
    c[:, :, 15] = 0


def column(c):
    c[:, :, :, 16] = 0


def stripe(c):
    c[:, 6, 10:20] = 0


def tile(c):
    c[:, 6, 12:20, 12:20] = 0


def saturated(c):
    c[:, :, :4, -4:] = 255


@pytest.mark.parametrize(
    ("put", "words", "where"),
    [
        (corner, "pixel (0, 0) bright in all maps", np.s_[:, 0, 0]),
        (beside, "pixel (5, 27) bright in all maps", np.s_[:, 5, 27]),
        (one_element, "pixel (20, 3) bright in all maps", np.s_[:, 20, 3]),
        (on_the_axis, "pixel (15, 15) bright in all maps", np.s_[:, 15, 15]),
        (row, "row 15 without counts in all maps", np.s_[:, 15]),
        (column, "column 16 without counts in all maps", np.s_[:, :, 16]),
        (stripe, "tilt -10 (320 pixels)", np.s_[6, 10:20]),
        (tile, "tilt -10 (64 pixels)", np.s_[6, 12:20, 12:20]),
        (saturated, "and 11 more at the largest value in most maps", np.s_[:, :4, -4:]),
    ],
)
def test_a_fault_is_found_named_and_without_weight(good, put, words, where):
    counts = good.counts.copy()
    put(counts)
    found = recon.normalise(good.evolve(counts=counts))
    assert any(words in line for line in found.remarks), found.remarks
    assert any(words in line for line in warnings(found))
    expected = np.ones(found.counts.shape[1:], np.float32)
    expected[where] = 0
    np.testing.assert_array_equal(found.weights, expected)
    assert found.isolated
    assert found.used.all()
    assert any(words in line for line in found.history)


def test_the_volume_is_that_of_the_maps_without_the_fault(good):
    counts = good.counts.copy()
    corner(counts)
    options = {"method": "sirt", "max_iterations": 10}
    plain = recon.reconstruct(recon.normalise(good), **options)["Co"].values
    mended = recon.reconstruct(recon.normalise(good.evolve(counts=counts)), **options)["Co"].values
    assert np.linalg.norm(mended - plain) < 0.02 * np.linalg.norm(plain)


def fine_particle(seed: int, dose: float) -> TiltSeries:
    """Single bright voxels in and around a body, that turn with it; without background and drift."""
    random = np.random.default_rng(seed)
    tilts = np.arange(-70.0, 71, 10)
    volume = np.zeros((N, N, N), np.float32)
    volume[10:22, 11:21, 9:23] = 0.05
    at = random.integers(8, N - 8, (12, 3))
    volume[at[:, 0], at[:, 1], at[:, 2]] = 1
    maps = np.asarray(recon.project(volume, recon.TiltGeometry.single_axis(tilts, (N, N))))
    return TiltSeries.create({"Au": random.poisson(maps / maps.max() * dose).astype(np.float32)}, tilts, 2.0)


@pytest.mark.parametrize("dose", [1, 5, 40, 400])
def test_real_particles_lose_no_pixel(dose):
    for seed in range(2):
        for background in (0.0, 0.05):
            series, _ = simulate(size=N, dose=dose, seed=seed, background=background, drift=2.0 * (seed % 2))
            assert faults(series) == [], (seed, background)
        assert faults(fine_particle(seed, dose)) == [], seed


def test_what_is_known_stays_and_scaled_maps_are_left_alone(good):
    assert without_faults(good) is good
    counts = good.counts.copy()
    corner(counts)
    once = without_faults(good.evolve(counts=counts))
    assert without_faults(once) is once
    assert faults(good.evolve(counts=counts, scaled=True)) == []


@pytest.mark.parametrize(("first", "rows"), [(14, 1), (14, 3), (2, 4)])
def test_rows_that_were_not_scanned_in_one_map(first, rows):
    """In the object and beside it, where only background is missing."""
    series, _ = simulate(size=32, seed=0, drift=1)
    counts = series.counts.copy()
    counts[:, 4, first : first + rows] = 0
    (found,) = faults(series.evolve(counts=counts))
    expected = np.zeros(series.counts.shape[1:], bool)
    expected[4, first : first + rows] = True
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.why.endswith(f"left out: tilt -30 ({32 * rows} pixels)")


@pytest.mark.parametrize("column", [2, 10, 16])
def test_a_column_without_counts_in_all_maps(column):
    """On the object, at its edge and beside it."""
    series, _ = simulate(size=32, seed=0, drift=1)
    counts = series.counts.copy()
    counts[..., column] = 0
    assert [f.why for f in faults(series.evolve(counts=counts))] == [
        f"column {column} without counts in all maps left out"
    ]


def test_what_an_object_may_leave_empty_is_no_fault():
    """Without background: rows beyond it, and a gap that drifts by six rows between maps."""
    tilts = np.arange(-60.0, 61, 15)
    shape = np.zeros((48, 48))
    shape[8:20, 12:36] = shape[26:40, 12:36] = 50.0
    drift = np.where(np.arange(9) % 2, 3, -3)
    counts = np.random.default_rng(0).poisson([np.roll(shape, d, axis=0) for d in drift])
    assert faults(TiltSeries.create({"Co": counts}, tilts, 1.0)) == []
