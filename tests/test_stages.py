"""The stages between reading and writing: what they find in simulated series whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter

from recon.alignment.align import align, axis_by_artefacts, cross_correlation
from recon.alignment.coarse import centre_of_mass
from recon.analysis.composition import analyse
from recon.analysis.mask import apply_mask, mask
from recon.errors import InputError, JobError
from recon.io.alignment import alignment_record, load_alignment
from recon.job.demo import register
from recon.model.assembly import make_data_term
from recon.model.grid import grid
from recon.model.noise import automatic_strength, noise_weights
from recon.model.resampling import resample
from recon.preparation.isolation import find_outside
from recon.preparation.normalise import normalise
from recon.reconstruction.reconstruct import reconstruct, resolve_strengths
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.simulate import Ellipsoid, Particle, simulate
from recon.solvers import Status


def known(series, truth):
    """The series with what it was simulated with."""
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)


def rest(found, true, tilts_deg):
    """Displacement errors ``(tilt, 2)`` (v, u), pixels, less what a translation of the object explains.

    An object moved by (z, y, x) moves its ideal projection by ``(y, x cos t + z sin t)``, which the axis
    rotation turns in the recorded frame.
    """
    t, r = np.radians(tilts_deg), np.radians(true.rotation_deg)
    one, c, s = np.ones_like(t), np.cos(r), np.sin(r)
    v = np.stack([c * one, s * np.cos(t), s * np.sin(t)], axis=1)
    u = np.stack([-s * one, c * np.cos(t), c * np.sin(t)], axis=1)
    basis, wrong = np.concatenate([v, u]), (found.displacements - true.displacements).T.ravel()
    return (wrong - basis @ np.linalg.lstsq(basis, wrong, rcond=None)[0]).reshape(2, -1).T


def rms(a, axis=None):
    return np.sqrt(np.mean(np.square(a, dtype=float), axis=axis))


def error(values, true):
    return float(np.linalg.norm(values.astype(float) - true) / np.linalg.norm(true.astype(float)))


@pytest.fixture(scope="module")
def small():
    return simulate(size=32, seed=1)


@pytest.fixture(scope="module")
def upright():
    """No axis rotation: at this size the likelihood knows it to a few degrees only."""
    series, truth = simulate(size=32, seed=0, rotation_deg=0)
    return normalise(series), truth


@pytest.fixture(scope="module")
def aligned(upright):
    return align(upright[0])


# ---------------------------------------------------------------- normalise


def test_exposures_and_background_are_right_to_the_poisson_limit():
    """Errors over their standard deviations: rms 0.6 to 1.3 in each of six cases, 0.97 together."""
    z, zb = [], []
    for seed in range(3):
        series, truth = simulate(size=32, seed=seed)
        found = normalise(series)
        assert found.isolated
        n_outside = find_outside(series)[0].sum(axis=(1, 2))
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
    series = TiltSeries.create({"A": maps}, [-1, -0.5, 0, 0.5, 1], 1.0)
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


@pytest.mark.parametrize(("size", "turn"), [(32, -3.0), pytest.param(64, 3.0, marks=pytest.mark.slow)])
def test_the_axis_is_where_artefacts_are_fewest(size, turn):
    """At 400 counts, shifts known: offset to 0.02 and 0.35 pixel, rotation to 0.8 and 0.4 degrees."""
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


# ---------------------------------------------------------------- alignment.json


@pytest.fixture
def record(small):
    series = normalise(small[0])
    rng = np.random.default_rng(0)
    a = Alignment(rng.uniform(-5, 5, (15, 2)), -3.25, 1.125, "somehow", rng.uniform(0.9, 1.1, 15))
    return series.evolve(alignment=a)


def test_an_alignment_survives_its_file(record, tmp_path):
    path = tmp_path / "alignment.json"
    path.write_text(json.dumps(alignment_record(record)))
    found = load_alignment(path, record.tilts_deg)
    np.testing.assert_allclose(found.shifts, record.alignment.shifts, atol=6e-5)
    assert (found.rotation_deg, found.axis_offset) == (-3.25, 1.125)
    assert found.method == "from alignment.json"
    raw = json.loads(path.read_text())
    assert raw["isolated"] is True
    np.testing.assert_allclose(raw["exposures"]["Zn"], record.exposures[1], atol=1e-6)
    np.testing.assert_allclose(raw["background_counts_per_pixel"]["Co"], record.background[0], atol=1e-6)
    np.testing.assert_allclose(raw["residual_chi_square"], record.alignment.residual, atol=1e-4)
    np.testing.assert_array_equal(raw["tilts_deg"], record.tilts_deg)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shifts_u_pixels": None}, "shifts_u_pixels"),
        ({"rotation_deg": None}, "rotation_deg"),
        ({"shifts_v_pixels": [0.0] * 14}, "not an alignment.json"),
        ({"shifts_v_pixels": [0.0] * 14, "shifts_u_pixels": [0.0] * 14}, "agree"),
        ({"tilts_deg": [0.0] * 14}, "14 tilts, the series has 15"),
        ({"tilts_deg": list(range(15))}, "other tilts"),
        ({"shifts_v_pixels": [float("nan")] * 15}, "not finite"),
        ({"axis_offset_pixels": float("inf")}, "not finite"),
        ({"axis_offset_pixels": "far"}, "not an alignment.json"),
        ({"shifts_v_pixels": ["a"] * 15}, "not an alignment.json"),
        ({"rotation_deg": [1, 2]}, "not an alignment.json"),
        ({"tilts_deg": 5}, "alignment.json"),
        ({"tilts_deg": [[t] for t in range(15)]}, "alignment.json"),
        ({"tilts_deg": [float("nan")] * 15}, "tilts"),
    ],
)
def test_a_wrong_alignment_file(record, tmp_path, change, word):
    raw = alignment_record(record) | change
    path = tmp_path / "alignment.json"
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    with pytest.raises(InputError) as caught:
        load_alignment(path, record.tilts_deg)
    said = str(caught.value)
    assert str(path) in said
    assert word in said.replace(str(path), "") or word == "alignment.json"
    assert "\n" not in said


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1, 2]", b"3", b"\xff\xfe\x00", b"null"])
def test_a_file_that_is_no_alignment(record, tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json"):
        load_alignment(path, record.tilts_deg)


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


@pytest.fixture(scope="module")
def twenty_four():
    series, truth = simulate(size=24, seed=0, drift=1.5)
    return known(series, truth), truth


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


# ---------------------------------------------------------------- mask, analyse


@pytest.fixture
def boxes():
    """Two touching boxes, 600 voxels of A alone, 100 of both, 500 of B alone."""
    a, b = np.zeros((2, 20, 20, 24), np.float32)
    a[5:15, 5:15, 4:10] = 2.0
    b[5:15, 5:15, 11:16] = 0.5
    a[5:15, 5:15, 10] = 1.0
    b[5:15, 5:15, 10] = 0.25
    inside = np.zeros(a.shape, bool)
    inside[5:15, 5:15, 4:16] = True
    return {"A": Volume(a, 1.0, "A"), "B": Volume(b, 1.0, "B")}, inside


def test_composition_of_two_touching_boxes(boxes):
    volumes, inside = boxes
    found = analyse(volumes, inside)
    assert found["mask_fraction"] == pytest.approx(1200 / 9600)
    assert found["elements"]["A"] == {"total": 1300.0, "typical_density": 2.0, "fraction_of_particle": 700 / 1200}
    assert found["elements"]["B"]["total"] == pytest.approx(275)
    assert found["elements"]["B"]["typical_density"] == 0.5
    pair = found["pairs"]["A-B"]
    assert pair["only_A"] == pytest.approx(600 / 1200)
    assert pair["only_B"] == pytest.approx(500 / 1200)
    assert pair["both"] == pytest.approx(100 / 1200)
    a, b = volumes["A"].values[inside], volumes["B"].values[inside]
    assert pair["correlation"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert pair["correlation"] < -0.9
    json.dumps(found, allow_nan=False)


def test_verdicts(boxes):
    volumes, inside = boxes

    def region(z, y, x):
        out = np.zeros(inside.shape, bool)
        out[z, y, x] = True
        return out

    every = slice(None)
    regions = {
        "left": region(slice(6, 9), slice(6, 9), slice(5, 8)),
        "right": region(slice(6, 9), slice(6, 9), slice(12, 15)),
        "seam": region(slice(6, 9), slice(6, 9), slice(10, 11)),
        "nowhere": region(slice(0, 3), every, every),
        "a little": region(slice(6, 7), slice(6, 7), slice(8, 12)),  # 2, 2, 1, 0 of A; 0, 0, 0.25, 0.5 of B
    }
    found = analyse(volumes, inside, regions)["regions"]
    verdicts = {n: r["verdict"] for n, r in found.items()}
    assert verdicts == {
        "left": "A alone", "right": "B alone", "seam": "A and B", "nowhere": "empty", "a little": "A and B",
    }  # fmt: skip
    assert found["seam"]["mean"] == {"A": 0.5, "B": 0.5}
    assert found["seam"]["spread"] == {"A": 0.0, "B": 0.0}
    assert found["a little"]["mean"] == {"A": pytest.approx(0.625), "B": pytest.approx(0.375)}
    assert found["a little"]["spread"]["B"] == pytest.approx(np.std([0, 0, 0.5, 1]))


@pytest.mark.parametrize("region", [np.zeros((20, 20, 24), bool), np.ones((3, 3, 3), bool)])
def test_a_region_that_cannot_be(boxes, region):
    volumes, inside = boxes
    with pytest.raises(InputError, match="'somewhere'"):
        analyse(volumes, inside, {"somewhere": region})


def test_an_element_that_is_not_there(boxes):
    volumes, inside = boxes
    volumes = volumes | {"C": Volume(np.zeros(inside.shape, np.float32), 1.0, "C")}
    found = analyse(volumes, inside)
    assert found["elements"]["C"] == {"total": 0.0, "typical_density": 0.0, "fraction_of_particle": 0.0}
    assert found["pairs"]["A-C"]["both"] == 0
    assert list(found["pairs"]) == ["A-B", "A-C", "B-C"]
    json.dumps(found, allow_nan=False)


def test_the_mask_is_the_particle(boxes):
    """Though B has a sixteenth of A's density: the elements weigh the same. 0.99 of the union is shared."""
    volumes, inside = boxes
    weak = volumes | {"B": replace(volumes["B"], values=volumes["B"].values / 16)}
    for given in (volumes, weak):
        found = mask(given)
        assert found.dtype == bool
        assert (found & inside).sum() / (found | inside).sum() > 0.95
    np.testing.assert_array_equal(mask(volumes), mask(weak))
    assert mask(volumes, "none").all()


def test_the_mask_drops_specks_and_keeps_holes(boxes):
    volumes, _ = boxes
    a = volumes["A"].values.copy()
    a[1, 1, 22] = 6.0
    a[7:13, 7:13, 4:10] = 0  # a hole
    found = mask({"A": replace(volumes["A"], values=a), "B": volumes["B"]})
    assert not found[:4, :4, 20:].any()
    assert not found[9:11, 9:11, 5:8].any()
    assert found[6, 6, 5]


def test_the_mask_of_nothing(boxes):
    volumes, _ = boxes
    flat = Volume(np.ones((8, 8, 8), np.float32), 1.0, "A")
    assert mask({"A": flat}).all()
    assert mask({"A": replace(flat, values=flat.values * 0)}).all()
    with pytest.raises(InputError, match="no volumes"):
        mask({})
    with pytest.raises(JobError, match="'otsu'"):
        mask(volumes, "otsu")


def test_the_mask_takes_what_is_outside_and_touches_nothing_inside(boxes):
    volumes, inside = boxes
    noisy = {n: replace(v, values=v.values + np.float32(0.01)) for n, v in volumes.items()}
    found = apply_mask(noisy, inside)
    for n in volumes:
        np.testing.assert_array_equal(found[n].values[inside], noisy[n].values[inside])
        assert not found[n].values[~inside].any()
        assert found[n].values.dtype == np.float32
        assert (found[n].element, found[n].voxel_size_nm) == (n, 1.0)


# ---------------------------------------------------------------- register


def blobs(n, motion=(0.0, 0.0, 0.0), turn_deg=0.0):
    """Two elements of Gaussian blobs, moved after a turn about z that takes x to y."""
    where = {"A": [(-3, 2, 5), (2, -6, 1)], "B": [(3, 4, -4), (-1, -3, -6)]}
    axis = np.arange(n) - (n - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    out = {}
    for name, centres in where.items():
        total = np.zeros((n, n, n))
        for cz, cy, cx in centres:
            at = np.array([cz, c * cy + s * cx, -s * cy + c * cx]) + motion
            total += np.exp(-((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / (2 * 2.0**2))
        out[name] = total.astype(np.float32)
    return out


@pytest.mark.parametrize(
    ("motion", "turn"), [((0, 0, 0), 0), ((0.7, -1.2, 0.4), 0), ((0, 0, 0), 5), ((-1.6, 0.9, 2.3), -7)]
)
def test_registration_recovers_a_shift_and_a_turn(motion, turn):
    """To 0.013 voxel and 0.022 degrees; what is left, up to 0.05, is linear interpolation."""
    volumes, truth = blobs(26, motion, turn), blobs(26)
    found = register(volumes, truth)
    np.testing.assert_allclose(found.translation, motion, atol=0.05)
    assert found.turn_deg == pytest.approx(turn, abs=0.1)
    assert max(found.errors.values()) < 0.08
    for n in truth:
        assert error(found.truth[n], volumes[n]) < 0.08
        assert found.errors[n] == pytest.approx(
            np.linalg.norm(volumes[n] - found.truth[n].astype(float)) / np.linalg.norm(truth[n].astype(float))
        )


def test_registration_does_not_hide_errors():
    """Volumes a fifth too bright are a fifth wrong."""
    truth = blobs(26)
    found = register({n: 1.2 * v for n, v in truth.items()}, truth)
    assert list(found.errors.values()) == pytest.approx([0.2, 0.2], abs=0.01)
