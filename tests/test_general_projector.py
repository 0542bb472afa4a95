"""The general projector and geometries of several parts: Joseph's formula, closed forms, invariances, adjoints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import recon
from recon.errors import GeometryError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import make_projector
from recon.operators.composed import ComposedProjector
from recon.operators.general import GeneralProjector
from recon.simulate import Ellipsoid

f32 = np.float32
HOST = np.empty(0, f32)
TILTS = np.array([-70.0, -45, -20, 0, 7.5, 50, 88])
DETECTOR, VOLUME = (11, 14), (9, 12, 10)
few = settings(max_examples=25, deadline=None, derandomize=True)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(f32)


def relative(a, b):
    return float(np.abs(a.astype(float) - b).max() / np.abs(b).max())


def joseph(volume, g):
    """Plane by plane, bilinear interpolation where each ray passes, float64; from the formula alone."""
    out = np.zeros(g.stack_shape)
    rows, columns = g.detector
    j, i = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij")
    for t in range(g.n_tilts):
        axis = int(np.abs(g.ray[t]).argmax())
        at = g.centre[t] + i[..., None] * g.u[t] + j[..., None] * g.v[t]
        for k in range(g.volume[axis]):
            away = (k - (g.volume[axis] - 1) / 2 - at[..., axis]) / g.ray[t, axis]
            index = at + away[..., None] * g.ray[t] + (np.array(g.volume) - 1) / 2
            plane = np.pad(np.take(volume, k, axis=axis).astype(float), 1)  # half of the outermost voxel lies outside
            where = [np.delete(index, axis, axis=-1)[..., n] + 1 for n in (0, 1)]
            out[t] += ndimage.map_coordinates(plane, where, order=1, mode="constant") / abs(g.ray[t, axis])
    return out


def skewed():
    """Rows of the detector step one voxel along y as the rays see it, all else at random: no warp is needed."""
    random = np.random.default_rng(3)
    ray = np.stack([np.cos(np.radians(TILTS)), random.uniform(-0.5, 0.5, 7), -np.sin(np.radians(TILTS))], axis=1)
    u = np.stack([np.sin(np.radians(TILTS)), random.uniform(-0.3, 0.3, 7), np.cos(np.radians(TILTS))], axis=1)
    u *= random.uniform(0.6, 1.7, (7, 1))
    v = np.tile([0.0, 1, 0], (7, 1)) + 0.3 * ray
    v[::2] *= -1
    return TiltGeometry.from_vectors(ray, random.uniform(-1, 1, (7, 3)), u, v, DETECTOR, VOLUME)


def test_it_is_josephs_formula_where_detector_rows_follow_the_volume():
    g, x = skewed(), numbers(VOLUME)
    assert [part.axis for part in g.parts()] == [None]
    assert relative(recon.project(x, g), joseph(x, g)) <= 1e-6  # measured: 1e-7


def test_parts_about_other_axes_are_josephs_formula():
    about_x = TiltGeometry.from_angles(TILTS, 90, DETECTOR, VOLUME)
    about_z = TiltGeometry.from_angles(TILTS, 0, DETECTOR, VOLUME).turned(-90, "x")
    x = numbers(VOLUME)
    for axis, g in (("x", about_x), ("z", about_z), (None, about_z.turned(180, "x"))):
        assert [part.axis for part in g.parts()] == [axis]
        assert relative(recon.project(x, g), joseph(x, g)) <= 1e-6


def test_it_is_the_single_axis_projector_on_a_single_axis():
    g = TiltGeometry.single_axis(TILTS, (12, 14), VOLUME, offsets=np.linspace(-1, 2, 7), fineness=2)
    x = numbers((9, 10, 12))
    general = GeneralProjector(g, 1, HOST)
    out, expected = (np.empty((7, 14, 12), f32) for _ in range(2))
    make_projector(g, HOST)(x, expected)
    assert relative(general(x, out), expected) <= 1e-6


def smooth(size, points):
    """Density (1 - q)^3 inside an ellipsoid q <= 1 and its line integrals: ``points`` (..., 3) of rays, in edges."""
    shape = Ellipsoid((0.03, -0.02, 0.04), (0.3, 0.36, 0.24), (1.0,), (20, 30, 15))
    form, centre = shape.form(), np.array(shape.centre)
    axis = (np.arange(size) - (size - 1) / 2) / size
    r = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) - centre
    q = np.einsum("...i,ij,...j->...", r, form, r)
    density = np.where(q < 1, (1 - np.minimum(q, 1)) ** 3, 0).astype(f32)

    def integral(ray):
        a, p = ray @ form @ ray, points - centre
        height = 1 - (np.einsum("...i,ij,...j->...", p, form, p) - (p @ form @ ray) ** 2 / a)
        return 32 / 35 * np.maximum(height, 0) ** 3.5 / np.sqrt(a)

    return density, integral


def large_pixels(size):
    g = TiltGeometry.conical(40, [10, 80, 200], **size)
    return TiltGeometry.from_vectors(g.ray, g.centre, 1.5 * g.u, 1.5 * g.v, g.detector, g.volume)


SCHEMES = {
    "dual": lambda size: TiltGeometry.dual_axis(TILTS, **size),
    "nearly dual": lambda size: TiltGeometry.dual_axis(TILTS, axis_deg=88.6, **size),
    "conical": lambda size: TiltGeometry.conical(55, np.arange(0, 360, 40), **size),
    "random": lambda size: TiltGeometry.random(8, most_deg=90, **size),
    "turned": lambda size: TiltGeometry.single_axis(TILTS, **size).moved(np.full((7, 2), 0.7), 4.0).turned(3, "x"),
    "large pixels": large_pixels,
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_projections_of_an_ellipsoid_are_of_second_order(scheme):
    errors = []
    for n in (24, 48):
        g = SCHEMES[scheme]({"detector": (n, n)})
        middle = (n - 1) / 2
        j, i = np.meshgrid(np.arange(n) - middle, np.arange(n) - middle, indexing="ij")
        exact = np.empty(g.stack_shape)
        for t in range(g.n_tilts):
            at = (g.centre[t] + i[..., None] * g.u[t] + j[..., None] * g.v[t]) / n
            density, integral = smooth(n, at)
            exact[t] = integral(g.ray[t]) * n
        stack = recon.project(density, g)
        errors.append(float(np.linalg.norm(stack - exact) / np.linalg.norm(exact)))
    assert errors[0] <= 0.03
    assert errors[1] <= 0.35 * errors[0], errors


# ---------------------------------------------------------------- invariances


GENERAL = TiltGeometry.random(6, detector=DETECTOR, volume=VOLUME).moved(numbers((6, 2)), 2.0)


def test_moving_the_volume_equals_moving_the_detector_back():
    x = numbers(VOLUME)
    x[-2:], x[:, :1], x[:, :, -3:] = 0, 0, 0  # so that nothing leaves the volume
    moved = np.roll(x, (2, -1, 3), axis=(0, 1, 2))
    g = skewed()
    assert relative(recon.project(moved, g), recon.project(x, g.transformed(np.eye(3), (-2, 1, -3)))) <= 2e-6


@pytest.mark.parametrize(("axis", "plane"), [("z", (1, 2)), ("y", (2, 0)), ("x", (0, 1))])
def test_turning_volume_and_scheme_together_changes_nothing(axis, plane):
    """By 90 degrees, from the first of the axes of the plane towards the second."""
    x = numbers((10, 10, 10))
    g = TiltGeometry.single_axis(TILTS, (10, 14), (10, 10, 10)).moved(numbers((7, 2)))
    turned = np.rot90(x, 1, plane)
    assert relative(recon.project(np.ascontiguousarray(turned), g.turned(90, axis)), recon.project(x, g)) <= 2e-6


def test_the_volume_on_a_larger_grid_projects_alike():
    x, larger = numbers(VOLUME), (15, 16, 20)
    padded = np.pad(x, [((n - k) // 2,) * 2 for n, k in zip(larger, VOLUME, strict=True)])
    assert relative(recon.project(padded, skewed().on(larger)), recon.project(x, skewed())) <= 2e-6


def test_the_order_of_projections_is_kept():
    x = numbers(VOLUME)
    both = TiltGeometry.dual_axis(TILTS, detector=DETECTOR, volume=VOLUME) + GENERAL
    order = np.random.default_rng(0).permutation(len(both))
    assert np.array_equal(recon.project(x, both[order]), recon.project(x, both)[order])


# ---------------------------------------------------------------- adjoints


@few
@given(
    volume=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    detector=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scheme=st.sampled_from(["random", "dual", "conical", "pixels"]),
    seed=st.integers(0, 999),
)
def test_backproject_is_the_adjoint(volume, detector, scheme, seed):
    random, size = np.random.default_rng(seed), {"detector": detector, "volume": volume}
    if scheme == "random":
        g = TiltGeometry.random(3, seed=seed, most_deg=90, **size)
    elif scheme == "dual":
        g = TiltGeometry.dual_axis(random.uniform(-90, 90, 3), axis_deg=random.choice([90.0, 88.7]), **size)
    else:
        g = TiltGeometry.conical(random.uniform(0, 90), random.uniform(0, 360, 3), **size)
    if scheme == "pixels":
        g = TiltGeometry.from_vectors(
            g.ray, g.centre, g.u * random.uniform(0.4, 2), g.v * random.uniform(0.4, 2), *size.values()
        )
    g = g.moved(random.uniform(-0.4, 0.4, (g.n_tilts, 2)), random.uniform(-4, 4))
    x, y = numbers(volume, seed), numbers(g.stack_shape, seed + 1)
    left = np.vdot(recon.project(x, g).astype(float), y)
    right = np.vdot(x.astype(float), recon.backproject(y, g))
    scale = np.vdot(recon.project(np.abs(x), g).astype(float), np.abs(y))
    assert abs(left - right) <= 1e-6 * max(scale, 1e-30)  # measured: 2e-8 at most


def test_composed_projections_overwrite_what_was_there():
    g = TiltGeometry.dual_axis(TILTS, axis_deg=88, detector=DETECTOR, volume=VOLUME) + GENERAL
    operator = ComposedProjector(g, HOST)
    assert len(operator.pieces) >= 3
    x, y = numbers(operator.domain_shape), numbers(operator.range_shape)
    first = operator(x, np.full(operator.range_shape, np.nan, f32)), operator.adjoint(y, np.full(x.shape, np.nan, f32))
    again = operator(x, np.zeros(operator.range_shape, f32)), operator.adjoint(y, np.zeros_like(x))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


# ---------------------------------------------------------------- refused


def test_astra_on_the_cpu_names_the_projection_that_it_cannot_serve():
    g = TiltGeometry.dual_axis(TILTS, axis_deg=80, detector=DETECTOR, volume=VOLUME)
    with pytest.raises(GeometryError, match=r"projection 8 turns about none.*use projector = 'native'"):
        recon.project(numbers(VOLUME), g, "astra")


def test_astra_serves_both_halves_of_a_dual_axis_series_on_the_cpu():
    g = TiltGeometry.dual_axis(TILTS, detector=(12, 12), volume=(9, 12, 12))
    x = numbers(g.volume)
    assert relative(recon.project(x, g), recon.project(x, g, "astra")) <= 1e-4
