"""The simulation against truth that shares no code with it: chords in closed form, sums over voxels, statistics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from recon.errors import JobError
from recon.simulate import Ellipsoid, Particle, simulate, two_metal_particle

TILTS = (-70.0, -30.0, 0.0, 15.0, 45.0, 90.0)


def one(*shapes: Ellipsoid) -> Particle:
    return Particle(("A",), shapes, {})


def detector(n: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(n) - (n - 1) / 2) / n
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return v, u


def rotation(turn_deg) -> np.ndarray:
    """About x, then y, then z; a positive angle takes z to y, z to x, y to x. Axes (z, y, x)."""
    a, b, c = np.radians(turn_deg)
    about_x = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


def chords(shape: Ellipsoid, tilt_deg: float, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Lengths of rays inside an ellipsoid, from the unit sphere that it is a linear image of."""
    t = np.radians(tilt_deg)
    to_sphere = np.diag(1 / np.array(shape.semi_axes)) @ rotation(shape.turn_deg).T
    e_u, e_v, along = np.array([[np.sin(t), 0, np.cos(t)], [0, 1, 0], [np.cos(t), 0, -np.sin(t)]])
    points = u[..., None] * e_u + v[..., None] * e_v - np.array(shape.centre)
    start, step = points @ to_sphere.T, to_sphere @ along
    speed = np.linalg.norm(step)
    nearest = start - (start @ step)[..., None] * step / speed**2
    return 2 * np.sqrt(np.maximum(1 - (nearest**2).sum(axis=-1), 0)) / speed


# ---------------------------------------------------------------- projections


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("turn", [(0, 0, 0), (30, 0, 0), (0, -50, 0), (0, 0, 20), (12, 34, -56)])
def test_the_projection_of_an_ellipsoid_is_its_chord(tilt, turn):
    shape = Ellipsoid((0.05, -0.08, 0.11), (0.10, 0.18, 0.27), (1.7,), turn)
    v, u = detector(41)
    np.testing.assert_allclose(one(shape).projection(tilt, v, u)[0], 1.7 * chords(shape, tilt, v, u), atol=1e-12)


@pytest.mark.parametrize("tilt", TILTS)
def test_the_projection_is_the_line_integral_of_the_volume(tilt):
    """Interpolated along rays through 80^3 voxels. Differences: 0.0046 rms, 0.054 at a grazing ray, 2.2e-4 on
    average; a sample is 0.0125 long, projections reach 0.2 to 0.5."""
    particle, n = two_metal_particle(), 80
    volume = particle.volume(n, samples=2)
    v, u = detector(40)
    t = np.radians(tilt)
    s = (np.arange(4 * n) - (4 * n - 1) / 2) / (4 * n) * 1.4
    z = u[..., None] * np.sin(t) + s * np.cos(t)
    x = u[..., None] * np.cos(t) - s * np.sin(t)
    where = [(c + 0.5) * n - 0.5 for c in (z, np.broadcast_to(v[..., None], z.shape), x)]
    got = particle.projection(tilt, v, u)
    for e in range(2):
        summed = map_coordinates(volume[e], where, order=1).sum(axis=-1) * (s[1] - s[0])
        difference = got[e] - summed
        assert np.abs(difference).max() < 0.07
        assert np.sqrt(np.mean(difference**2)) < 0.006
        assert abs(difference.mean()) < 4e-4
        assert got[e].max() > 0.2


def test_the_volume_holds_what_the_shapes_hold():
    shape = Ellipsoid((0.02, -0.05, 0.08), (0.15, 0.25, 0.2), (2.0,), (10, 20, 30))
    volume = one(shape).volume(24)
    exact = 2.0 * 4 / 3 * np.pi * 0.15 * 0.25 * 0.2
    assert volume.sum(dtype=float) / 24**3 == pytest.approx(exact, rel=3e-3)  # 9e-4 off
    axis = (np.arange(24) - 11.5) / 24
    for i, centre in enumerate(shape.centre):
        profile = volume[0].sum(axis=tuple(k for k in range(3) if k != i), dtype=float)
        assert profile @ axis / profile.sum() == pytest.approx(centre, abs=5e-4)  # 1e-4 off


@pytest.mark.parametrize("turn_deg", [0, 33.0])
def test_the_volume_is_that_of_all_its_points(turn_deg):
    """Each point asked of each shape, as `volume` does only where a shape may reach."""
    particle, n, move = two_metal_particle(2), 12, (1.3, -2.2, 4.1)
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 - m for m in move), indexing="ij")
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    points = np.stack([z, c * y - s * x, s * y + c * x], axis=-1) / n
    expected = np.zeros((2, n, n, n))
    for shape in particle.shapes:
        r = points - shape.centre
        expected[:, np.einsum("...i,ij,...j", r, shape.form(), r) <= 1] = np.array(shape.density)[:, None]
    found = particle.volume(n, samples=1, translation=move, turn_deg=turn_deg)
    assert expected.any()
    assert np.abs(found - expected).max() < 1e-6


def test_a_moved_volume_is_the_volume_moved():
    """By whole voxels and a right angle nothing but the order of voxels changes."""
    particle = one(Ellipsoid((0.05, -0.1, 0.08), (0.2, 0.15, 0.1), (1.0,), (20, 10, -30)))
    at_rest = particle.volume(16, samples=3)
    shifted = particle.volume(16, samples=3, translation=(1, -2, 3))
    np.testing.assert_allclose(shifted, np.roll(at_rest, (1, -2, 3), axis=(1, 2, 3)), atol=1e-6)
    turned = particle.volume(16, samples=3, turn_deg=90)
    np.testing.assert_allclose(turned, np.rot90(at_rest, -1, axes=(2, 3)), atol=1e-6)


def test_the_painter_s_rule():
    outer = Ellipsoid((0, 0, 0), (0.3, 0.3, 0.3), (1.0,))
    void = Ellipsoid((0.05, 0, 0), (0.1, 0.1, 0.1), (0.0,))
    dense = Ellipsoid((0.3, 0, 0), (0.1, 0.1, 0.1), (3.0,))  # half of it outside
    at = np.zeros(1), np.zeros(1)

    def through(*shapes: Ellipsoid) -> float:
        return one(*shapes).projection(0.0, *at)[0, 0]

    assert through(outer) == pytest.approx(0.6)
    assert through(outer, void) == pytest.approx(0.6 - 0.2)
    assert through(void, outer) == pytest.approx(0.6)
    assert through(outer, dense) == pytest.approx(0.6 - 0.1 + 3 * 0.2)
    assert through(dense, outer) == pytest.approx(0.6 + 3 * 0.1)
    assert through(outer, void, void) == pytest.approx(0.4)
    assert one(outer, dense).volume(20)[0].max() == pytest.approx(3)
    assert one(dense, outer).volume(20)[0, 12, 10, 10] == pytest.approx(1)


def test_regions_ask_where_the_answer_is_known():
    particle = two_metal_particle()
    co, zn = particle.volume(32, samples=2)
    interlocked, mixed = (particle.inside(name, 32) for name in ("interlocked", "mixed"))
    assert interlocked.sum() > 10
    assert mixed.sum() > 10
    assert not (interlocked & mixed).any()
    np.testing.assert_allclose(co[interlocked], 1)
    np.testing.assert_allclose(zn[interlocked], 0)
    np.testing.assert_allclose(co[mixed], 0.55, rtol=1e-6)
    np.testing.assert_allclose(zn[mixed], 0.45, rtol=1e-6)


# ---------------------------------------------------------------- the series


def centres(maps: np.ndarray) -> np.ndarray:
    """Centre of mass ``(tilt, 2)``, (v, u) pixels from the frame's centre."""
    ny, nx = maps.shape[1:]
    v, u = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    total = maps.sum(axis=(1, 2))
    return np.stack([maps.sum(axis=2) @ v / total, maps.sum(axis=1) @ u / total], axis=1)


@pytest.mark.parametrize(("turn", "offset", "drift"), [(0, 0, 0), (0, 3, 0), (15, 0, 0), (-8, -2, 2.5)])
def test_a_ball_lands_where_the_alignment_says(turn, offset, drift):
    """Written out from the docstring of `Alignment`. Largest deviation 0.012 pixel (nine rays a pixel)."""
    z, y, x = 0.13, -0.11, 0.17
    n = 32
    series, truth = simulate(
        one(Ellipsoid((z, y, x), (0.07, 0.07, 0.07), (1.0,))), size=n, dose=1e6, drift=drift, rotation_deg=turn,
        axis_offset=offset, background=0, seed=3,
    )  # fmt: skip
    t, r = np.radians(series.tilts_deg), np.radians(turn)
    v, u = np.full_like(t, y) * n, (x * np.cos(t) + z * np.sin(t)) * n
    shifts = truth.alignment.shifts
    assert (truth.alignment.rotation_deg, truth.alignment.axis_offset) == (turn, offset)
    assert np.abs(shifts).max() <= drift
    expected = np.stack(
        [v * np.cos(r) + u * np.sin(r) + shifts[:, 0], u * np.cos(r) - v * np.sin(r) + shifts[:, 1] + offset], axis=1
    )
    np.testing.assert_allclose(centres(series.counts[0].astype(float)), expected, atol=0.02)


def test_counts_are_poisson_about_the_expected_maps():
    """Reduced chi-square 1 and no bias, both within five standard errors."""
    bright, _ = simulate(size=32, dose=4e7, seed=5)
    series, _ = simulate(size=32, dose=40, seed=5)
    mean = bright.counts.astype(float) / 1e6
    assert (series.counts == np.round(series.counts)).all()
    used = mean > 1
    n = int(used.sum())
    chi = np.sum((series.counts[used] - mean[used]) ** 2 / mean[used]) / n
    # the variance of a Poisson variable's (c - m)^2 / m is 2 + 1 / m
    assert chi == pytest.approx(1, abs=5 * np.sqrt(np.mean(2 + 1 / mean[used]) / n))
    assert series.counts.sum(dtype=float) == pytest.approx(mean.sum(), abs=5 * np.sqrt(mean.sum()))
    assert n > 4000


def test_dose_is_the_brightest_pixel_and_background_a_part_of_it():
    series, truth = simulate(size=24, dose=1e6, shadowing=0, background=0.02, seed=1)
    assert truth.background == pytest.approx(2e4)
    assert series.counts.max() == pytest.approx(1.02e6, rel=5e-3)
    corner = series.counts[:, :, :2, :2]
    assert corner.mean() == pytest.approx(2e4, rel=2e-3)
    assert corner.max() < 2.1e4


def test_totals_do_not_change_with_the_tilt_without_shadowing():
    """To 7e-4, the error of nine rays a pixel."""
    series, truth = simulate(size=32, dose=1e7, shadowing=0, background=0, seed=2)
    total = series.counts.sum(axis=(2, 3), dtype=float)
    np.testing.assert_allclose(total, total.mean(axis=1, keepdims=True) * np.ones(15), rtol=1.5e-3)
    np.testing.assert_array_equal(truth.exposures, 1)


def test_shadowing_takes_the_same_part_of_signal_and_background():
    series, truth = simulate(size=24, dose=1e7, shadowing=0.45, background=0.01, seed=2)
    plain, _ = simulate(size=24, dose=1e7, shadowing=0, background=0.01, seed=2)
    assert truth.exposures.min() == pytest.approx(0.55)
    assert 0.9 < truth.exposures.max() <= 1
    ratio = series.counts.sum(axis=(2, 3), dtype=float) / plain.counts.sum(axis=(2, 3), dtype=float)
    np.testing.assert_allclose(ratio, np.broadcast_to(truth.exposures, ratio.shape), rtol=1e-4)
    corner = (slice(None), slice(None), slice(0, 2), slice(0, 2))
    ratio = series.counts[corner].mean(axis=(2, 3)) / plain.counts[corner].mean(axis=(2, 3))
    np.testing.assert_allclose(ratio, np.broadcast_to(truth.exposures, ratio.shape), rtol=0.01)


def test_the_true_volumes_hold_as_many_counts_as_the_maps():
    """Pixels and voxels of the same edge: the sums agree to 7e-4 (27 samples a voxel, nine rays a pixel)."""
    series, truth = simulate(size=32, dose=1e7, background=0, seed=4)
    for e, name in enumerate(series.elements):
        total = truth.volumes[name].sum(dtype=float)
        np.testing.assert_allclose(series.counts[e].sum(axis=(1, 2), dtype=float) / truth.exposures, total, rtol=2e-3)


def test_the_same_seed_gives_the_same_series():
    (a, truth_a), (b, truth_b), (c, truth_c) = (simulate(size=16, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(truth_a.alignment.shifts, truth_b.alignment.shifts)
    assert (a.counts != c.counts).any()
    assert (truth_a.alignment.shifts != truth_c.alignment.shifts).all()


def test_the_series_is_as_it_was_recorded():
    series, truth = simulate(size=16, tilts_deg=[-40, 0, 10, 65], pixel_size_nm=2.5)
    assert series.counts.shape == (2, 4, 16, 16)
    assert series.counts.dtype == np.float32
    assert series.elements == ("Co", "Zn")
    assert series.pixel_size_nm == 2.5
    np.testing.assert_array_equal(series.tilts_deg, [-40, 0, 10, 65])
    assert series.alignment.is_identity  # nothing of the truth is handed on
    assert (series.exposures == 1).all()
    assert not series.background.any()
    assert truth.volumes["Co"].shape == (16, 16, 16)
    assert truth.volumes["Co"].dtype == np.float32


@pytest.mark.parametrize("size", [15, 0, -32])
def test_a_size_too_small(size):
    with pytest.raises(JobError, match=f"size is {size}"):
        simulate(size=size)


@pytest.mark.parametrize("dose", [0, -1.0, float("nan")])
def test_a_dose_that_is_none(dose):
    with pytest.raises(JobError, match="dose"):
        simulate(size=16, dose=dose)
