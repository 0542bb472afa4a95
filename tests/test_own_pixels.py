"""Elements whose pixels are larger than the series': counts stay Poisson, and the model knows their mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.errors import InputError, JobError, ResourceError
from recon.model.assembly import make_operator
from recon.series.binning import binned
from recon.series.footprint import Footprint, common_grid
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate
from recon.simulate.series import Ellipsoid, Particle

TILTS = np.arange(-70.0, 71.0, 20.0)


@settings(max_examples=40, deadline=None)
@given(pitch=st.floats(0.4, 5.0), shape=st.tuples(st.integers(4, 9), st.integers(4, 9)), extra=st.integers(0, 3))
def test_what_is_dealt_out_is_kept_and_its_mean_is_that_of_the_model(pitch, shape, extra):
    frame = tuple(int(np.ceil(n * pitch - 1e-3)) + extra for n in shape)
    where = Footprint.centred(shape, pitch, frame)
    rng = np.random.default_rng(0)
    counts = rng.poisson(50, (2, *shape)).astype(np.float32)
    found = where.dealt(counts, frame, scaled=False)
    assert found.shape == (2, *frame)
    assert found.sum() == counts.sum()
    along_y, along_u = where.spread(frame)
    for s in (along_y, along_u):
        np.testing.assert_array_equal(s, s.T)
    inside = where.covered(frame)
    np.testing.assert_allclose((along_y @ np.ones(frame) @ along_u)[inside], 1, rtol=2e-3)
    # an even map is dealt out evenly, whatever it is a map of
    even = where.dealt(np.full((1, *shape), 7.0, np.float32), frame, scaled=True)
    np.testing.assert_allclose(even[0][inside], 7, rtol=1e-5)


def test_counts_that_are_dealt_out_are_poisson_counts_of_that_mean():
    """Mean, variance and independence of neighbours, over many recordings of a map that varies."""
    frame, where = (9, 12), Footprint.centred((5, 7), 1.6, (9, 12))
    rng = np.random.default_rng(1)
    fine = 4 + 3 * np.sin(np.arange(9)[:, None]) * np.cos(0.7 * np.arange(12))
    areas = [where.shared(k, n) for k, n in enumerate(frame)]
    recorded = rng.poisson(areas[0] @ fine @ areas[1].T, (40_000, 5, 7)).astype(np.float32)
    found = where.dealt(recorded, frame, scaled=False).astype(np.float64)
    along_y, along_u = where.spread(frame)
    mean = along_y @ fine @ along_u
    sigma = np.sqrt(mean / len(found)).clip(1e-3)
    assert (np.abs(found.mean(axis=0) - mean) < 5 * sigma).all()
    seen = mean > 0.5
    np.testing.assert_allclose(found.var(axis=0)[seen], mean[seen], rtol=0.06)
    apart = found - found.mean(axis=0)
    together = (apart[:, 1:, 1:] * apart[:, :-1, :-1]).mean(axis=0)
    assert np.abs(together / np.sqrt(mean[1:, 1:] * mean[:-1, :-1]).clip(0.5)).max() < 0.03


def test_pixels_of_the_grid_are_left_as_they_are():
    for pitch, shape in ((1.0, (6, 8)), (0.5, (12, 16))):
        for s in Footprint.centred(shape, pitch, (6, 8)).spread((6, 8)):
            np.testing.assert_allclose(s, np.eye(len(s)), atol=1e-6)
    whole = Footprint.centred((3, 4), 2.0, (6, 8)).binned(2, (0, 0))
    np.testing.assert_allclose(whole.spread((3, 4))[1], np.eye(4), atol=1e-6)


@pytest.fixture(scope="module")
def ball():
    """One ellipsoid, recorded with 24 pixels and with 48 over the same field of view, without noise to speak of."""
    particle = Particle(("Co", "Zn"), (Ellipsoid((0.03, -0.05, 0.08), (0.2, 0.28, 0.17), (1, 1), (10, 20, 30)),), {})
    options = {"tilts_deg": TILTS, "drift": 0, "rotation_deg": 0, "axis_offset": 0, "shadowing": 0, "background": 0}
    options["samples"] = 6
    return {n: simulate(particle, size=n, dose=1e5 * (48 / n) ** 2, pixel_size_nm=96 / n, **options) for n in (24, 48)}


def test_the_model_of_coarse_pixels_is_what_they_record(ball):
    """Closed-form projections of an ellipsoid at two pixel sizes, 4 nm and 2 nm, and the projector between them."""
    (coarse, _), (fine, truth) = ball[24], ball[48]
    maps = {"Co": fine.counts[0], "Zn": coarse.counts[1]}
    series = TiltSeries.create(maps, TILTS, {"Co": 2.0, "Zn": 4.0})
    assert series.frame == (48, 48)
    assert series.pixel_size_nm == 2.0
    volume = np.ascontiguousarray(truth.volumes["Co"].swapaxes(1, 2))
    operator = make_operator(series, (48, 48, 48), volume, element="Zn")
    found = operator(volume, np.empty(operator.range_shape, np.float32)).swapaxes(1, 2)
    where = series.footprint(1)
    area = [where.shared(k, 48) for k in (0, 1)]
    expected = np.einsum("iy,tij,jx->tyx", area[0], coarse.counts[1], area[1])
    expected *= fine.counts[0].sum() / expected.sum()  # both as bright
    plain = make_operator(series, (48, 48, 48), volume, element="Co")
    sharp = plain(volume, np.empty(operator.range_shape, np.float32)).swapaxes(1, 2)

    def error(a, true=expected):
        return float(np.linalg.norm(a - true) / np.linalg.norm(true))

    assert error(found) < error(sharp, fine.counts[0])  # of the voxels themselves
    assert error(found) < 0.6 * error(sharp)


def test_the_projector_of_coarse_pixels_is_adjoint(ball):
    (coarse, _), (fine, _) = ball[24], ball[48]
    series = TiltSeries.create(
        {"Co": fine.counts[0], "Zn": coarse.counts[1][1:]}, {"Co": TILTS, "Zn": TILTS[1:]}, {"Co": 2.0, "Zn": 4.0}
    )
    rng = np.random.default_rng(0)
    operator = make_operator(series, (48, 48, 48), np.empty(0, np.float32), element="Zn")
    x, y = (rng.random(s, np.float32) for s in (operator.domain_shape, operator.range_shape))
    ax = operator(x, np.empty(operator.range_shape, np.float32))
    aty = operator.adjoint(y.copy(), np.empty(operator.domain_shape, np.float32))
    assert np.vdot(ax, y) == pytest.approx(np.vdot(x, aty), rel=1e-6)
    assert not ax[0].any()


def test_slabs_do_not_serve_coarse_pixels(ball):
    (coarse, _), (fine, _) = ball[24], ball[48]
    series = TiltSeries.create({"Co": fine.counts[0], "Zn": coarse.counts[1]}, TILTS, {"Co": 2.0, "Zn": 4.0})
    with pytest.raises(ResourceError, match="memory is 1 MB; pixels of an element's own cannot be worked on in slabs"):
        recon.reconstruct(series.evolve(isolated=True), "tv", strength=1.0, memory=10**6)


def test_an_element_of_coarse_pixels_is_reconstructed_on_the_grid_of_the_others():
    """Nearer to the truth than on its own grid, and in the same unit."""
    options = {"drift": 0, "rotation_deg": 0, "axis_offset": 0, "shadowing": 0, "background": 0, "seed": 2}
    fine, truth = simulate(size=32, dose=100, pixel_size_nm=1.0, **options)
    coarse, _ = simulate(size=16, dose=400, pixel_size_nm=2.0, **options)
    scale = fine.counts[1].sum() / coarse.counts[1].sum()
    series = TiltSeries.create({"Co": fine.counts[0], "Zn": coarse.counts[1]}, fine.tilts_deg, {"Co": 1.0, "Zn": 2.0})
    settled = {"strength": 0.3, "tolerance": 3e-2}
    found = recon.reconstruct(series.evolve(isolated=True), "tv", elements="Zn", **settled)["Zn"]
    assert found.values.shape == (32, 32, 32)
    assert found.voxel_size_nm == 1.0
    alone = TiltSeries.create({"Zn": coarse.counts[1]}, fine.tilts_deg, 2.0).evolve(isolated=True)
    own = recon.reconstruct(alone, "tv", **settled)["Zn"].values
    own = np.repeat(np.repeat(np.repeat(own, 2, 0), 2, 1), 2, 2) / 8  # counts per voxel length and its pixel's area
    true = truth.volumes["Zn"]

    def error(a):
        return float(np.linalg.norm(a * scale - true) / np.linalg.norm(true))

    assert error(found.values) < 0.3
    assert error(found.values) < error(own)


def test_frames_need_not_be_alike_and_what_was_not_seen_has_no_weight():
    rng = np.random.default_rng(3)
    maps = {"Co": rng.poisson(9, (8, 20, 21)), "Zn": rng.poisson(9, (8, 5, 7))}
    series = TiltSeries.create(maps, TILTS, {"Co": 1.0, "Zn": 2.5}, weights={"Zn": np.arange(8) != 3})
    assert series.frame == (20, 21)
    assert series.seen_by(0).all()
    seen = series.seen_by(1)
    assert not seen[3].any()
    np.testing.assert_array_equal(np.flatnonzero(seen[0].any(axis=1)), np.arange(4, 16))
    np.testing.assert_array_equal(np.flatnonzero(seen[0].any(axis=0)), np.arange(2, 19))
    bad = np.ones((5, 7))
    bad[2, 3] = 0
    masked = TiltSeries.create(maps, TILTS, {"Co": 1.0, "Zn": 2.5}, weights={"Zn": bad})
    gone = (masked.seen_by(1)[0] == 0) & (seen[0] > 0)
    assert gone[10, 10]
    assert 9 <= gone.sum() <= 16
    small, _ = binned(series, 2)
    assert small.footprint(1).pitch == 1.25


def test_what_takes_one_pixel_size_says_so():
    rng = np.random.default_rng(3)
    maps = {"Co": rng.poisson(9, (8, 20, 20)), "Zn": rng.poisson(9, (8, 10, 10))}
    series = TiltSeries.create(maps, TILTS, {"Co": 1.0, "Zn": 2.0})
    with pytest.raises(JobError, match="align resampled takes elements with the same pixels, and Zn has its own"):
        recon.align(series, "none", resampled=True)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"Co": 1.0}, "no pixel size was given for Zn"),
        ({"Co": 1.0, "Zn": 2.0, "Fe": 1.0}, "a pixel size was given for Fe, which has no maps"),
        ({"Co": 1.0, "Zn": -2.0}, "pixel size of Zn is -2.0 nm"),
        ({"Co": 1.0, "Zn": 20.0}, r"the maps show 200 x 200 nm of Zn and 20 x 20 nm of Co .* check pixel_size_nm"),
    ],
)
def test_pixels_that_cannot_be_of_one_place_get_one_line(sizes, message):
    with pytest.raises(InputError, match=message):
        common_grid({"Co": (20, 20), "Zn": (10, 10)}, sizes)
