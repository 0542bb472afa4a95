"""Reconstruction of simulated series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from truth import error, known

from recon.errors import InputError, JobError
from recon.model.assembly import make_data_term
from recon.model.grid import grid
from recon.model.noise import automatic_strength, noise_weights
from recon.model.resampling import resample
from recon.reconstruction.reconstruct import reconstruct, resolve_strengths
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle, simulate
from recon.solvers import Status

# ---------------------------------------------------------------- reconstruct


def test_the_automatic_strength_falls_as_the_root_of_the_dose():
    """The ratio is 10 to 1.2 %, and where pixels hold less than one count it is smaller, never larger."""
    found = {}
    for dose in (40, 4000):
        series, truth = simulate(size=24, dose=dose, seed=0)
        found[dose] = [automatic_strength(known(series, truth), e) for e in series.elements]
    np.testing.assert_allclose(np.divide(found[40], found[4000]), 10, rtol=0.05)


def test_the_automatic_strength_is_the_noise_of_the_gradient():
    """Flat maps of m counts at exposure s: sqrt(sum s^2 / m), with as many tilts as there are."""
    rng = np.random.default_rng(0)
    for n in (5, 20):
        counts = rng.poisson(50.0, (n, 40, 40))
        series = TiltSeries.create({"A": counts}, np.linspace(-60, 60, n), 1.0).evolve(exposures=np.full((1, n), 2.0))
        from recon.model.noise import STRENGTH_PER_NOISE

        assert automatic_strength(series, "A") == pytest.approx(STRENGTH_PER_NOISE * 2 * np.sqrt(n / 50), rel=0.01)


def test_the_noise_of_scaled_maps_is_that_of_their_neighbours():
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:64, :64] - 31.5
    smooth = 100 * np.exp(-(yy**2 + xx**2) / 300)
    maps = smooth + rng.normal(0, 3.0, (5, 64, 64))
    series = TiltSeries.create({"A": maps}, [-20, -10, 0, 10, 20], 1.0, scaled=True)
    np.testing.assert_allclose(1 / np.sqrt(noise_weights(series, "A")), 3.0, rtol=0.15)


def test_strengths_by_element(small):
    series = small[0]
    assert resolve_strengths(series, "auto") == {"Co": None, "Zn": None}  # to be found
    assert resolve_strengths(series, 0.5) == {"Co": 0.5, "Zn": 0.5}
    assert resolve_strengths(series, {"Zn": 2}) == {"Co": None, "Zn": 2.0}
    for strength, kind, word in (
        ({"Fe": 1.0}, InputError, "Fe"),
        (0.0, JobError, "positive"),
        ({"Co": -1.0}, JobError, "Co"),
        (float("nan"), JobError, "nan"),
    ):
        with pytest.raises(kind, match=word):
            resolve_strengths(series, strength)


def test_a_strength_that_is_a_word(small):
    with pytest.raises(JobError, match="strong"):
        resolve_strengths(small[0], "strong")


def test_tgv_is_better_than_sirt_at_its_best(twenty_four):
    """Alignment known, 24^3, 40 counts: TGV 0.21 and 0.23, SIRT at its best iteration 0.27 and 0.32."""
    series, truth = twenty_four
    tgv = reconstruct(series)
    sirt = [reconstruct(series, "sirt", max_iterations=n) for n in (5, 10, 20, 40)]
    for e in series.elements:
        ours = error(tgv[e].values, truth.volumes[e])
        theirs = min(error(s[e].values, truth.volumes[e]) for s in sirt)
        assert ours < 0.8 * theirs
        assert ours < 0.3
        assert tgv[e].solution.status is Status.CONVERGED
        assert tgv[e].solution.gap <= 1e-2
        assert tgv[e].values.dtype == np.float32
        assert tgv[e].values.min() >= 0


def test_exposures_in_the_model_leave_the_density_alone(twenty_four):
    """Totals of the volumes are the true ones though the maps lose up to 45 % to shadowing: 2 % and 4 % low,
    since the regulariser shrinks."""
    series, truth = twenty_four
    found = reconstruct(series, "tv", tolerance=0.03)
    for e in series.elements:
        assert found[e].values.sum(dtype=float) == pytest.approx(truth.volumes[e].sum(dtype=float), rel=0.06)


def test_pixels_without_weight_do_not_matter(twenty_four):
    series, _ = twenty_four
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[:, 3:6, 4] = 0
    counts = series.counts.copy()
    counts[:, :, 3:6, 4] = 1e4
    for data_term in ("poisson", "least-squares"):
        a, b = (
            reconstruct(series.evolve(counts=c, weights=weights), "tv", data_term=data_term, strength=0.5,
                        max_iterations=60)["Co"].values
            for c in (series.counts, counts)
        )  # fmt: skip
        if data_term == "poisson":
            np.testing.assert_allclose(a, b, atol=1e-5)
        data = [
            make_data_term(series.evolve(counts=c, weights=weights), "Co", data_term) for c in (series.counts, counts)
        ]
        np.testing.assert_array_equal(data[0].counts, data[1].counts)


def test_pixels_without_weight_do_not_change_the_automatic_strength(twenty_four):
    series, _ = twenty_four
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[:, 3, 4] = 0
    hot = series.counts.copy()
    hot[:, :, 3, 4] = 1e4
    cold = series.counts.copy()
    cold[:, :, 3, 4] = 0
    a, b = (automatic_strength(series.evolve(counts=c, weights=weights), "Co") for c in (cold, hot))
    assert a == pytest.approx(b)


def test_scaled_maps_are_not_poisson(small):
    aligned = resample(small[0])
    for method in ("tgv", "tv", "none"):
        with pytest.raises(InputError, match="scaled"):
            reconstruct(aligned, method)
    assert reconstruct(aligned, "sirt", max_iterations=2)["Co"].values.shape == (32, 32, 32)


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ({"method": "art"}, JobError, "'art' is unknown"),
        ({"data_term": "gauss"}, JobError, "'gauss' is unknown"),
        ({"tolerance": 0.0}, JobError, "tolerance is 0"),
        ({"tolerance": 1.0}, JobError, "tolerance is 1"),
        ({"tolerance": float("nan")}, JobError, "nan"),
        ({"max_iterations": 0}, JobError, "max_iterations is 0"),
        ({"strength": -1.0}, JobError, "-1"),
        ({"thickness": 0}, JobError, "thickness is 0"),
        ({"thickness": 129}, JobError, "128"),
    ],
)
def test_options_out_of_range(small, options, kind, word):
    with pytest.raises(kind) as caught:
        reconstruct(small[0], **options)
    assert word in str(caught.value)


def test_a_run_that_hits_the_safety_net_says_so(twenty_four):
    found = reconstruct(twenty_four[0], tolerance=1e-9, max_iterations=7)["Zn"].solution
    assert found.status is Status.MAX_ITERATIONS
    assert found.iterations == 7
    assert "max_iterations" in found.status.value


def test_progress_names_the_element(twenty_four):
    seen = []
    reconstruct(twenty_four[0], "tv", max_iterations=50, tolerance=1e-9, progress=lambda e, r: seen.append((e, r)))
    assert [e for e, _ in seen] == ["Co", "Zn"]
    assert seen[0][1].iteration == 50


def test_the_grid_of_an_isolated_object_is_the_frame(small):
    series = small[0].evolve(isolated=True)
    assert (grid(series).shape, grid(series).margin) == ((32, 32, 32), (0, 0))
    assert grid(series, 12).shape == (12, 32, 32)


def test_the_grid_of_a_slab_holds_what_its_maps_see():
    """A film 8 voxels thick: at 60 degrees a 32 pixel frame sees (32 + 8 sin 60) / cos 60 = 78 voxels of it."""
    counts = np.ones((3, 20, 32))
    series = TiltSeries.create({"A": counts}, [-60, 0, 60], 1.0).evolve(isolated=False)
    where = grid(series, 8)
    assert where.shape[0] == 8
    assert where.shape[1:] == (20, 32 + 2 * where.margin[1])
    assert where.margin == (0, 16)  # wanted 23, at most half a frame on each side
    flat = TiltSeries.create({"A": counts}, [-20, 0, 20], 1.0).evolve(isolated=False)
    reach = (16 + 4 * np.sin(np.radians(20))) / np.cos(np.radians(20)) - 16
    assert grid(flat, 8).margin == (0, int(np.ceil(reach)))
    moved = flat.evolve(alignment=Alignment(np.full((3, 2), 2.5), 0.0, 1.0))
    assert grid(moved, 8).margin == (3, int(np.ceil(reach + 3.5 / np.cos(np.radians(20)))))


def test_a_slab_is_reconstructed_in_its_frame():
    """A uniform film says nothing about depth, but its thickness times density must: 0.6 % low, 1.5 % at edges."""
    film = Particle(("A",), (Ellipsoid((0, 0, 0), (0.1, 5, 5), (1.0,)),), {})
    series, truth = simulate(
        film, size=20, dose=400, tilts_deg=np.arange(-40.0, 41, 10), drift=0, rotation_deg=0, axis_offset=0
    )
    series = known(series, truth).evolve(isolated=False)
    found = reconstruct(series, thickness=8, max_iterations=200)["A"].values
    assert found.shape == (8, 20, 20)
    expected = truth.volumes["A"].sum(axis=0)[10, 10]
    thick = found.sum(axis=0)
    assert thick.mean() == pytest.approx(expected, rel=0.03)
    assert thick[:, :2].mean() == pytest.approx(expected, rel=0.04)
    assert thick.std() < 0.02 * expected
