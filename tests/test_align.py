"""Alignment as a joint estimate: its derivatives, its errors, and what bad tilts and bad input get."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import correlate

from recon.alignment.align import align
from recon.alignment.blobs import View
from recon.alignment.coarse import centre_of_mass
from recon.alignment.joint import JointFit, at_all_displacements
from recon.alignment.linear import Linear
from recon.alignment.overlaps import Overlaps
from recon.alignment.pose import Pose, translation
from recon.errors import InputError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import project
from recon.preparation.isolation import locate
from recon.preparation.normalise import asymmetry, normalise
from recon.preparation.screening import leave_out, screen, unusable, warnings
from recon.series.alignment import Alignment
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate


def rms(a):
    return float(np.sqrt(np.nanmean(np.square(a))))


def rest(found, true, tilts_deg, keep):
    """Displacement errors (pixels, of the tilts to `keep`) less what a translation of the object explains."""
    along = translation(np.radians(tilts_deg), np.radians(true.rotation_deg))
    basis = np.concatenate([a[keep] for a in along])
    wrong = (found.displacements - true.displacements)[keep].T.ravel()
    return (wrong - basis @ np.linalg.lstsq(basis, wrong, rcond=None)[0]).reshape(2, -1).T


@pytest.fixture(scope="module")
def particle():
    series, truth = simulate(size=32, dose=200, seed=6, rotation_deg=-3.0, axis_offset=2.0, drift=2.0)
    return series, truth


@pytest.fixture(scope="module")
def fit(particle):
    series, _ = particle
    combined = combine(normalise(series))
    joint = JointFit(combined, Alignment(centre_of_mass(combined)), np.ones(15, bool), most=700)
    assert joint.solve()
    return joint


# ---------------------------------------------------------------- blobs


def gaussians(samples, v, u, density, sigma=1.7, mass=3.0):
    """The formula, blob by blob."""
    p, q = np.meshgrid(*samples, indexing="ij")
    each = [d * np.exp(-((p - a) ** 2 + (q - b) ** 2) / (2 * sigma**2)) for d, a, b in zip(density, v, u, strict=True)]
    return mass / (2 * np.pi * sigma**2) * np.sum(each, axis=0)


def test_a_view_is_a_sum_of_gaussians_and_its_slopes_are_their_differences():
    """Sixty blobs on unequal grids."""
    rng = np.random.default_rng(5)
    samples = np.arange(-9.0, 10, 1.5), np.arange(-12.0, 13, 1.5)
    place = rng.uniform(-8, 8, 60), rng.uniform(-10, 10, 60)
    view = View.of(place, np.array([0.5, -0.4]), samples, 1.7, 3.0)
    x = rng.uniform(0, 2, 60)
    image = gaussians(samples, *place, x)
    np.testing.assert_allclose(view.project(x), image, atol=1e-6 * image.max())
    np.testing.assert_allclose(view.matrix() @ x, image.ravel(), atol=1e-6 * image.max())
    h, (v, u) = 1e-3, place
    turn_v, turn_u = u + 0.4, 0.5 - v  # about (0.5, -0.4): v' = v cos r + u sin r, u' = u cos r - v sin r
    for slope, (dv, du) in zip(view.slopes(x), ((1, 0), (0, 1), (turn_v, turn_u)), strict=True):
        change = gaussians(samples, v + h * dv, u + h * du, x) - gaussians(samples, v - h * dv, u - h * du, x)
        np.testing.assert_allclose(slope, change / (2 * h), atol=2e-5 * np.abs(slope).max())


def test_the_normal_matrix_of_a_lattice_is_that_of_whole_matrices():
    """Sixty of the points of a lattice, at three tilts about a turned axis, on unequal grids."""
    rng = np.random.default_rng(7)
    axes = [1.3 * (np.arange(n) - (n - 1) / 2) for n in (4, 6, 5)]
    y, z, x = (a.ravel() for a in np.meshgrid(axes[1], axes[0], axes[2], indexing="ij"))
    points = np.stack([z, y, x], axis=1)[np.sort(rng.choice(120, 60, replace=False))]
    samples = np.arange(-9.0, 10, 1.5), np.arange(-12.0, 13, 1.5)
    pose = Pose(np.radians([-50.0, 10.0, 65.0]), rng.uniform(-2, 2, (3, 2)), np.zeros(3), 0.2)
    weights = rng.uniform(0, 2, (3, len(samples[0]), len(samples[1])))
    weights[1, 3] = 0
    mass = np.array([3.0, 2.0, 5.0])
    expected = np.zeros((60, 60))
    for i in range(3):
        places = zip(*pose.land(points, i), strict=True)
        columns = np.stack([gaussians(samples, [a], [b], [1.0], 1.3, mass[i]).ravel() for a, b in places], axis=1)
        expected += columns.T @ (columns * weights[i].reshape(-1, 1))
    found = Overlaps.of(points, 1.3).normal_matrix(pose, samples, weights, 1.3, mass)
    np.testing.assert_allclose(np.tril(found), np.tril(expected), atol=1e-6 * expected.max())


# ---------------------------------------------------------------- the joint fit


def test_a_translation_of_the_object_moves_maps_as_it_says():
    """Against projections of a cube that was moved by whole voxels."""
    grid = np.stack(np.meshgrid(*[np.arange(21) - 10.0] * 3, indexing="ij"))

    def ball(z, y, x):  # smooth, or Joseph's model moves it by hundredths
        return np.exp(-((grid - np.array([z, y, x]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) / 6).astype(np.float32)

    tilts = np.array([-60.0, -20.0, 0.0, 45.0])
    geometry = TiltGeometry.single_axis(tilts, (21, 21))
    v, u = np.meshgrid(np.arange(21), np.arange(21), indexing="ij")

    def places(volume):
        maps = project(volume, geometry).astype(float)
        return np.array([[(p * v).sum(), (p * u).sum()] for p in maps]) / maps.sum(axis=(1, 2))[:, None]

    along_v, along_u = translation(np.radians(tilts), 0.0)
    expected = np.stack([along_v @ [-2, 1.5, 2], along_u @ [-2, 1.5, 2]], axis=1)
    np.testing.assert_allclose(places(ball(2, -2, 1.5)) - places(ball(0, 0, 0)), expected, atol=0.01)


def test_derivatives_of_the_joint_fit_are_those_of_its_misfit(fit):
    """The gradient (weights and prior of the object held) against differences of the misfit, the object solved anew.

    The axis's rotation is expected to be 0 within 10 degrees, exposures 1.
    """
    pose, weight, prior = fit.pose, fit.weight, fit.linear.prior

    def misfit(parameter, by):
        each, turn = np.zeros((15, 3)), 0.0
        tilt, what = divmod(parameter, 3)
        if tilt == 15:
            turn = by
        else:
            each[tilt, what] = by
        fit.at(pose.moved(each, turn))
        found = fit.linear
        data = 0.5 * float((weight * np.square(fit.samples.maps - found.prediction)).sum())
        expected = 0.5 * fit.priors.excess * (fit.pose.rotation / 0.17) ** 2
        return data + expected + 0.5 * prior * float(found.density @ found.density), found.gradient[parameter]

    # of the gradient's change; measured 0.00004, 0.0005 and 0.0103, since slopes of a view are right to 0.002
    for parameter, step, wrong in ((0, 0.1, 0.001), (16, 0.1, 0.002), (45, 0.02, 0.015)):
        (low, before), (high, after) = misfit(parameter, -step), misfit(parameter, step)
        # Simpson's rule for the gradient between the two places
        mean = (before + 4 * misfit(parameter, 0.0)[1] + after) / 6
        assert low - high == pytest.approx(2 * step * mean, abs=2 * step * wrong * abs(after - before))
    fit.at(pose)


def test_the_joint_fit_finds_shifts_rotation_and_exposures(fit, particle):
    _, truth = particle
    wrong = rest(fit.found(), truth.alignment, particle[0].tilts_deg, np.ones(15, bool))
    assert rms(wrong) < 0.06
    assert np.degrees(fit.pose.rotation) == pytest.approx(-3.0, abs=1.5)  # three standard errors
    np.testing.assert_allclose(fit.exposures, truth.exposures / truth.exposures.mean(), rtol=0.02)


def test_what_the_other_tilts_foretell_is_a_fit_without_the_map(fit):
    """The closed form against the fit made again with that tilt left out."""
    expected = fit.foretold(4)
    weight = fit.weight.copy()
    weight[4] = 0
    alone = Linear.at(fit.pose, fit.blobs, fit.samples, weight, fit.priors)
    np.testing.assert_allclose(alone.views[4].project(alone.density), expected, atol=0.02 * np.abs(expected).max())


def section(steps, rotation_deg=0.0):
    """Grains in a film that leaves the frame, with a gap near its lower border; maps are moved by `steps` pixels.

    Sums of Gaussians, exactly; what was carried into the frame has no weight. 32 x 32 pixels, -40 to 40 degrees.
    """
    rng = np.random.default_rng(3)
    tilts = np.arange(-40.0, 41, 10)
    z, y, x = rng.uniform(-1.5, 1.5, 400), rng.uniform(-30, 30, 400), rng.uniform(-40, 40, 400)
    density = rng.gamma(1.0, 60, 400) * ((y < 8) | (y > 17))
    c, s = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    pixel = np.arange(32) - 15.5
    counts, weights = np.empty((9, 32, 32)), np.ones((9, 32, 32))
    for i, tilt in enumerate(np.radians(tilts)):
        u = x * np.cos(tilt) + z * np.sin(tilt)
        v, u = y * c + u * s + steps[i, 0], u * c - y * s + steps[i, 1]
        counts[i] = 1 + gaussians((pixel, pixel), v, u, density, 1.7, 1.0)
        weights[i, : max(steps[i, 0], 0)] = weights[i, 32 + min(steps[i, 0], 0) :] = 0
        weights[i, :, : max(steps[i, 1], 0)] = weights[i, :, 32 + min(steps[i, 1], 0) :] = 0
    series = TiltSeries.create({"A": rng.poisson(counts).astype(np.float32)}, tilts, 1.0)
    return series.evolve(weights=weights.astype(np.float32), background=np.ones((1, 9)), isolated=False)


def test_a_section_is_fitted_beyond_the_frame():
    """Where maps are moved, each shows a part that others do not: there is room for the object there, too.

    Before, what lies beyond a dark border was taken for empty, and the axis turned by 6 degrees here (by two, where
    samples of the border took no part), by 12 on a real section.
    """
    steps = np.random.default_rng(2).integers(-5, 6, (9, 2))
    series = section(steps)
    start = Alignment(steps + np.random.default_rng(8).normal(0, 0.3, (9, 2)))
    fit = JointFit(series, start, np.ones(9, bool))
    assert fit.solve()
    wrong = rest(fit.found(), Alignment(steps.astype(float)), series.tilts_deg, np.ones(9, bool))
    assert np.median(fit.misfit()) < 1.5
    assert rms(wrong) < 0.1
    assert abs(np.degrees(fit.pose.rotation)) < 1


# ---------------------------------------------------------------- the whole alignment


@pytest.fixture(scope="module")
def found(particle):
    return align(normalise(particle[0]))


def test_the_alignment_says_how_sure_it_is(found, particle):
    series, truth = particle
    a = found.alignment
    assert a.converged is True
    assert a.doubts == ()
    wrong = rest(a, truth.alignment, series.tilts_deg, np.ones(15, bool))
    assert 0.3 < rms(wrong / a.errors) < 2
    assert abs(a.rotation_deg + 3.0) < 3.5 * a.rotation_error
    assert 0.01 < a.rotation_error < 1
    curve = truth.exposures / truth.exposures.mean()
    assert 0.4 < rms((found.exposures - curve) / found.exposure_errors) < 1.7


def test_bad_tilts_are_left_out_and_named(particle):
    """Blank, saturated, another object's map, and one carried out of the frame: the rest is aligned as ever."""
    series, truth = particle
    rng = np.random.default_rng(0)
    counts = series.counts.copy()
    counts[:, 2] = rng.poisson(0.05, counts[:, 2].shape)
    counts[:, 5] = np.minimum(counts[:, 5], 20)
    counts[:, 9] = counts[:, 9, ::-1, :].swapaxes(1, 2)[:, ::-1]
    counts[:, 12] = rng.poisson(counts[:, 12, :, :].mean(axis=(1, 2), keepdims=True) * np.ones((32, 32)))
    lines = []
    out = align(normalise(series.evolve(counts=counts), log=lines.append), log=lines.append)
    gone = ~out.used
    assert set(np.flatnonzero(gone)) >= {2, 5, 12}
    assert gone.sum() <= 4
    told = " ".join(out.alignment.doubts)
    for tilt, why in ((-50, "blank"), (-20, "saturated"), (50, "blank")):
        assert f"tilt {tilt} left out: {why}" in told
    assert sum("tilt -50 left out" in line for line in lines) == 1
    keep = ~gone & (np.arange(15) != 9)
    assert rms(rest(out.alignment, truth.alignment, series.tilts_deg, keep)) < 0.15
    assert np.isnan(out.alignment.errors[2]).all()
    assert np.isnan(out.exposure_errors[:, 2]).all()
    assert (out.exposures[:, 2] == 1).all()
    np.testing.assert_array_equal(out.counts, counts)  # they have no weight, and stay as they are
    assert not out.weights[2].any()


def test_a_tilt_axis_along_the_other_side_is_told(particle, found):
    """The same maps on their side; as they are, nothing is told."""
    series, _ = particle
    lying = series.evolve(counts=np.ascontiguousarray(series.counts.swapaxes(-1, -2)))
    told = " ".join(align(normalise(lying)).alignment.doubts)
    assert "the maps agree better with a tilt axis along x" in told
    assert "input.tilt_axis is 'y', try 'x'" in told
    assert "tilt axis" not in " ".join(found.alignment.doubts)


def test_maps_with_nothing_in_common():
    rng = np.random.default_rng(0)
    texture = np.stack([gaussian_filter(image, 2, mode="wrap") for image in rng.normal(size=(5, 24, 24))])
    series = TiltSeries.create({"A": rng.poisson(np.exp(1 + 4 * texture))}, np.arange(-60, 61, 30), 1.0)
    with pytest.raises(InputError, match="nothing in common"):
        align(normalise(series))


# ---------------------------------------------------------------- exposures and screening


def test_two_usable_tilts_are_not_enough(particle):
    series, _ = particle
    counts = series.counts.copy()
    counts[:, 1:] = 0
    with pytest.raises(InputError, match=r"only 1 of 15 tilts can be used.* at least 3 .*-60 left out"):
        screen(series.evolve(counts=counts))


def test_good_maps_pass_the_screen(particle):
    assert unusable(particle[0]) == {}
    assert screen(particle[0]) is particle[0]
    assert unusable(simulate(size=32, dose=0.3, seed=2)[0]) == {}


def test_a_tilt_left_out_by_hand_is_named(particle):
    out = leave_out(particle[0], {3: "the holder was in the way"})
    assert warnings(out) == ("tilt -40 left out: the holder was in the way",)
    assert not out.used[3]
    assert out.used.sum() == 14


def test_exposures_that_elements_share_are_better_than_each_alone():
    """Relative errors at 5 counts, six seeds: each alone 0.055, together 0.039 or less; errors are honest."""
    alone, shared, z = [], [], []
    for seed in range(4):
        series, truth = simulate(size=32, dose=5, seed=seed)
        curve = truth.exposures / truth.exposures.mean()
        a, b = normalise(series, "constant-total"), normalise(series)
        alone.append(a.exposures / curve - 1)
        shared.append(b.exposures / curve - 1)
        z.append((b.exposures - curve) / b.exposure_errors)
    assert rms(shared) < 0.9 * rms(alone)
    assert 0.7 < rms(z) < 1.3


def test_elements_that_differ_keep_their_own_exposures():
    series, truth = simulate(size=32, dose=400, seed=1)
    rng = np.random.default_rng(0)
    fade = np.linspace(1, 0.6, 15)
    counts = series.counts.copy()
    counts[1] = rng.binomial(counts[1].astype(int), fade[:, None, None])
    found = normalise(series.evolve(counts=counts))
    expected = truth.exposures * fade
    np.testing.assert_allclose(found.exposures[1], expected / expected.mean(), rtol=0.03)
    np.testing.assert_allclose(found.exposures[0], truth.exposures / truth.exposures.mean(), rtol=0.03)


def test_a_curve_that_is_given_wins(particle):
    series, _ = particle
    found = normalise(series, exposures=np.linspace(1, 3, 15))
    np.testing.assert_allclose(found.exposures, np.broadcast_to(np.linspace(0.5, 1.5, 15), (2, 15)))
    assert "exposures given" in found.history[-1]
    assert (found.exposure_errors == 0).all()
    even = normalise(series, exposures={"Co": np.full(15, 3.0), "Zn": np.full(15, 7.0)})
    assert (even.exposures == 1).all()
    for wrong, word in ((np.ones(3), "15"), (np.zeros(15), "positive"), ({"Zn": np.ones(15)}, "Co")):
        with pytest.raises(InputError, match=word):
            normalise(series, exposures=wrong)


def test_an_asymmetric_curve_is_told():
    tilts = np.arange(-60.0, 61, 20)
    assert asymmetry(tilts, np.cos(np.radians(tilts))[None]) == ""
    told = asymmetry(tilts, np.linspace(1.3, 0.7, 7)[None])
    assert "asymmetric: 0.70 at 60 degrees, 1.30 at -60" in told


def test_one_map_at_the_border_does_not_make_a_particle_a_film(particle):
    series, _ = particle
    counts = series.counts.copy()
    counts[:, 7] = np.roll(counts[:, 7], 9, axis=-1)
    counts[:, 7, :, :9] = 0
    moved = series.evolve(counts=counts)
    assert locate(moved).isolated
    out = normalise(moved)
    assert out.isolated
    assert "touches the frame's border" in warnings(out)[0]


def test_matches_at_all_displacements_are_those_of_scipy():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 13, 18))
    match = at_all_displacements(a, b)
    assert match.shape == (25, 35)
    np.testing.assert_allclose(match, correlate(a, b, method="direct"), atol=1e-11)
    moved = at_all_displacements(np.roll(b, (2, -3), (0, 1)), b)
    assert np.unravel_index(moved.argmax(), moved.shape) == (12 + 2, 17 - 3)
