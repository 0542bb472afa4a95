"""The conventions of DESIGN section 3, each one simulated: where one point of the object is seen."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import affine, aligned_projector
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle, simulate

f32 = np.float32
HOST = np.empty(0, f32)
TILTS = np.array([-70.0, -40, -5, 0, 15, 30, 60, 90])
POINT = (4.0, -3.0, 5.0)  # (z, y, x) from the volume's centre, voxels
N = 37


def blob(point, n=N, sigma=2.0):
    """A Gaussian at `point`, (z, y, x) from the centre; its projections are Gaussians as well."""
    z, y, x = (np.arange(n) - (n - 1) / 2 - p for p in point)
    r2 = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    return np.exp(-r2 / (2 * sigma**2)).astype(f32)


def centres(stack):
    """Centre of mass of every map of (tilt, v, u), (v, u) from the frame's centre, pixels; (tilt, 2)."""
    total = stack.sum(axis=(1, 2), dtype=float)
    v, u = (np.arange(n) - (n - 1) / 2 for n in stack.shape[1:])
    return np.stack([(stack.sum(axis=2) @ v) / total, (stack.sum(axis=1) @ u) / total], axis=1)


def landing(point, tilts):
    """u = x cos t + z sin t, v = y, as (tilt, (v, u))."""
    t = np.radians(tilts)
    return np.stack([np.full_like(t, point[1]), point[2] * np.cos(t) + point[0] * np.sin(t)], axis=1)


def recorded(point, alignment, tilts=TILTS, n=N, frame=None):
    """What `AlignedProjector` records of a point, (tilt, v, u)."""
    operator = aligned_projector(tilts, alignment, frame or (n, n), (n, n, n), HOST)
    x = np.ascontiguousarray(blob(point, n).swapaxes(1, 2))
    return operator(x, np.empty(operator.range_shape, f32)).swapaxes(1, 2)


def still(**changes):
    return Alignment(np.zeros((len(TILTS), 2)), **changes)


# ---------------------------------------------------------------- the volume and the tilts


def test_one_voxel_lands_in_the_middle_of_its_pixel():
    """At zero tilt voxel (z, y, x) is seen in row y, column x; at 90 degrees in column z."""
    volume = np.zeros((7, 5, 7), f32)
    volume[1, 3, 4] = 2
    stack = recon.project(volume, TiltGeometry.single_axis([0, 90, -90], (5, 7)))
    expected = np.zeros((3, 5, 7), f32)
    expected[0, 3, 4] = expected[1, 3, 1] = expected[2, 3, 7 - 1 - 1] = 2
    assert np.abs(stack - expected).max() <= 1e-6


@pytest.mark.parametrize("projector", ["native", "astra"])
def test_a_point_lands_on_x_cos_t_plus_z_sin_t(projector):
    stack = recon.project(blob(POINT), TiltGeometry.single_axis(TILTS, (N, N)), projector)
    assert np.abs(centres(stack) - landing(POINT, TILTS)).max() <= 0.01  # measured: 3e-3


def test_a_positive_tilt_moves_the_top_to_the_right():
    stack = recon.project(blob((6, 0, 0)), TiltGeometry.single_axis([30, -30], (N, N)))
    u = centres(stack)[:, 1]
    assert np.abs(u - (3, -3)).max() <= 0.01


def test_geometry_vectors_say_the_same():
    g = TiltGeometry.single_axis(TILTS, (N, N))
    point = np.array(POINT)
    expected = landing(POINT, TILTS)
    assert not g.centre.any()
    assert np.allclose(np.einsum("tk,k->t", g.u, point), expected[:, 1])
    assert np.allclose(np.einsum("tk,k->t", g.v, point), expected[:, 0])
    assert np.allclose(np.einsum("tk,tk->t", g.u, g.ray), 0)
    assert np.allclose(g.ray[TILTS == 0], (1, 0, 0))  # the beam runs along z at zero tilt
    assert np.allclose(g.tilts_deg, TILTS)


def test_the_centre_lies_between_pixels_where_their_number_is_even():
    for n in (8, 9):
        for nu in (10, 11):
            volume = np.ones((n, 3, n), f32)
            stack = recon.project(volume, TiltGeometry.single_axis(TILTS, (3, nu), (n, 3, n)))
            assert np.abs(stack - stack[:, ::-1, ::-1]).max() <= 1e-5  # symmetric about the centre


def test_units_are_densities_times_voxel_lengths():
    volume = np.zeros((21, 3, 31), f32)
    volume[3:18, :, 8:23] = 2  # 15 voxels along z and along x
    stack = recon.project(volume, TiltGeometry.single_axis([0, 90, 45], (3, 31), volume.shape))
    assert np.allclose(stack[:2, :, 15], 30)
    assert abs(stack[2, 1].max() / (30 * np.sqrt(2)) - 1) <= 0.05
    assert np.allclose(stack[:, 1].sum(axis=1), 2 * 15**2, rtol=5e-3)


# ---------------------------------------------------------------- the alignment


def test_a_shift_moves_what_is_recorded():
    shifts = np.random.default_rng(0).uniform(-2, 2, (len(TILTS), 2))
    stack = recorded(POINT, Alignment(shifts))
    assert np.abs(centres(stack) - landing(POINT, TILTS) - shifts).max() <= 0.01


def test_the_axis_offset_moves_all_columns():
    stack = recorded(POINT, still(axis_offset=2.5))
    assert np.abs(centres(stack) - landing(POINT, TILTS) - (0, 2.5)).max() <= 0.01


@pytest.mark.parametrize("rotation", [8.0, -8.0])
def test_a_rotation_is_that_of_the_docstring(rotation):
    """(v, u) is recorded at v' = v cos r + u sin r, u' = u cos r - v sin r."""
    v, u = landing(POINT, TILTS).T
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    stack = recorded(POINT, still(rotation_deg=rotation))
    assert np.abs(centres(stack) - np.stack([v * c + u * s, u * c - v * s], axis=1)).max() <= 0.01


def test_a_positive_rotation_turns_the_axis_from_down_to_left():
    """Points on the axis stay on it at every tilt; the one below the centre is recorded left of it."""
    below = centres(recorded((0, 6, 0), still(rotation_deg=8.0)))
    assert np.abs(below - (6 * np.cos(np.radians(8)), -6 * np.sin(np.radians(8)))).max() <= 0.01


def test_rotation_comes_before_shift_and_offset():
    shifts = np.random.default_rng(1).uniform(-1.5, 1.5, (len(TILTS), 2))
    alignment = Alignment(shifts, rotation_deg=8.0, axis_offset=1.5)
    v, u = landing(POINT, TILTS).T
    c, s = np.cos(np.radians(8)), np.sin(np.radians(8))
    expected = np.stack([v * c + u * s + shifts[:, 0], u * c - v * s + shifts[:, 1] + 1.5], axis=1)
    assert np.abs(centres(recorded(POINT, alignment)) - expected).max() <= 0.01
    assert np.allclose(alignment.displacements, shifts + np.array([0, 1.5]))


def test_frames_of_another_size_share_their_centre():
    alignment = still(rotation_deg=5.0, axis_offset=1.0)
    wide, narrow = recorded(POINT, alignment, frame=(43, 45)), recorded(POINT, alignment, frame=(37, 39))
    assert np.abs(wide[:, 3:-3, 3:-3] - narrow).max() <= 1e-6
    assert np.abs(centres(wide) - centres(recorded(POINT, alignment))).max() <= 0.01


def test_index_maps_of_a_pure_shift():
    """Recorded pixel (i, j), column and row, shows the ideal one at (i - du, j - dv)."""
    maps = affine(Alignment(np.array([[1.5, -2.0]])), (9, 11), (9, 11))
    assert np.allclose(maps, [[1, 0, 2.0, 0, 1, -1.5]])


# ---------------------------------------------------------------- the simulation agrees


def test_simulated_series_obeys_its_true_alignment():
    """Exact projections of a small ball, moved rays: an independent statement of the same conventions."""
    size, point = 48, (0.10, -0.08, 0.12)
    particle = Particle(("Fe",), (Ellipsoid(point, (0.12, 0.12, 0.12), (1.0,)),), {})
    series, truth = simulate(
        particle, size=size, tilts_deg=TILTS, dose=1e6, drift=3, rotation_deg=7, axis_offset=2, background=0, seed=3
    )
    v, u = (size * landing(point, TILTS)).T
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    expected = np.stack([v * c + u * s, u * c - v * s], axis=1) + truth.alignment.displacements
    assert np.abs(centres(series.counts[0]) - expected).max() <= 0.01
    # and the model, given the truth, gives these counts
    operator = aligned_projector(TILTS, truth.alignment, series.frame, (size, size, size), HOST)
    x = np.ascontiguousarray(truth.volumes["Fe"].swapaxes(1, 2))
    model = operator(x, np.empty(operator.range_shape, f32)).swapaxes(1, 2) * truth.exposures[:, None, None]
    assert np.linalg.norm(model - series.counts[0]) <= 0.06 * np.linalg.norm(series.counts[0])
    assert np.abs(model.sum(axis=(1, 2)) / series.counts[0].sum(axis=(1, 2)) - 1).max() <= 5e-3
    assert np.abs(centres(model) - centres(series.counts[0])).max() <= 0.02


def test_volume_of_the_simulation_has_the_same_axes():
    particle = Particle(("Fe",), (Ellipsoid((0.2, -0.1, 0.05), (0.05, 0.05, 0.05), (1.0,)),), {})
    where = np.argwhere(particle.volume(40)[0] > 0.5).mean(axis=0) - 39 / 2
    assert np.abs(where - (8, -4, 2)).max() <= 0.1


def test_series_geometry_keeps_rows_and_columns_apart():
    series = TiltSeries.create({"Fe": np.ones((3, 4, 6))}, [-10, 0, 10], 1.0)
    assert series.geometry.volume == (6, 4, 6)
    assert series.geometry.on((5, 4, 8), (4, 8)).stack_shape == (3, 4, 8)
