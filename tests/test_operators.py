"""Projection operators: `project` and `backproject` against ASTRA and closed forms, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.backend import cuda_unavailable
from recon.errors import BackendError, GeometryError, ReconError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import aligned_projector, make_projector
from recon.series.alignment import Alignment
from recon.simulate import Ellipsoid, Particle

f32 = np.float32
HOST = np.empty(0, f32)
VOLUME, NU = (9, 5, 12), 14  # (z, y, x) of odd and even lengths, and columns of the detector
TILTS = np.array([-90.0, -63, -45, -20, 0, 7.5, 45, 50, 88, 130, 180])  # all octants, edges included
few = settings(max_examples=20, deadline=None, derandomize=True)


def geometry(tilts=TILTS, volume=VOLUME, nu=NU):
    return TiltGeometry.single_axis(tilts, (volume[1], nu), volume)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(f32)


def relative(a, b):
    return float(np.abs(a.astype(float) - b).max() / np.abs(b).max())


# ---------------------------------------------------------------- against ASTRA and closed forms


def test_project_is_astras_model():
    x = numbers(VOLUME)
    ours, astras = (recon.project(x, geometry(), p) for p in ("native", "astra"))
    assert ours.shape == (len(TILTS), VOLUME[1], NU)
    assert ours.dtype == f32
    assert ours.flags.c_contiguous
    assert relative(ours, astras) <= 1e-4  # ASTRA accumulates coordinates in float32; measured: 8e-6


def test_backproject_is_astras_model():
    y = numbers((len(TILTS), VOLUME[1], NU))
    ours, astras = (recon.backproject(y, geometry(), p) for p in ("native", "astra"))
    assert ours.shape == VOLUME
    assert ours.dtype == f32
    assert ours.flags.c_contiguous
    assert relative(ours, astras) <= 1e-4


def test_auto_is_native_on_a_single_axis():
    x = numbers(VOLUME)
    assert np.array_equal(recon.project(x, geometry()), recon.project(x, geometry(), "native"))


def test_project_is_josephs_formula():
    x = numbers(VOLUME)
    weights = reference.joseph((VOLUME[0], VOLUME[2]), NU, reference.rays(np.radians(TILTS), NU))
    expected = np.einsum("tuzx,zyx->tyu", weights, x.astype(float))
    assert relative(recon.project(x, geometry()), expected) <= 2e-6


@pytest.mark.parametrize("fineness", [1, 2, 3])
def test_beside_the_axis_and_finer_it_is_astras_model_still(fineness):
    offsets = np.linspace(-2.3, 2.1, len(TILTS))
    g = TiltGeometry.single_axis(TILTS, (VOLUME[1], NU * fineness), VOLUME, offsets=offsets, fineness=fineness)
    x, y = numbers(VOLUME), numbers(g.stack_shape)
    assert g.is_single_axis
    assert np.allclose(g.offsets, offsets)
    assert relative(*(recon.project(x, g, p) for p in ("native", "astra"))) <= 1e-4
    assert relative(*(recon.backproject(y, g, p) for p in ("native", "astra"))) <= 1e-4
    if fineness == 2:  # every other column is a column of a coarser detector
        coarser = TiltGeometry.single_axis(TILTS, (VOLUME[1], NU), VOLUME, offsets=offsets - 0.25)
        assert relative(recon.project(x, g)[:, :, ::2], recon.project(x, coarser)) <= 2e-6


def test_project_gives_the_chords_of_an_ellipsoid():
    """The sampled ellipsoid's projections tend to the exact chords of `recon.simulate`, of second order."""
    particle = Particle(("Fe",), (Ellipsoid((0.06, -0.08, 0.1), (0.2, 0.27, 0.16), (1.0,), (20, 30, 15)),), {})
    tilts = np.array([-70.0, -45, -10, 0, 30, 65])
    errors = []
    for n in (32, 64):
        axis = (np.arange(3 * n) - (3 * n - 1) / 2) / (3 * n)
        v, u = np.meshgrid(axis, axis, indexing="ij")
        exact = np.stack([particle.projection(t, v, u)[0].reshape(n, 3, n, 3).mean(axis=(1, 3)) for t in tilts]) * n
        stack = recon.project(particle.volume(n)[0], TiltGeometry.single_axis(tilts, (n, n)))
        assert np.abs(stack.sum(axis=(1, 2)) / exact.sum(axis=(1, 2)) - 1).max() <= 2e-3
        errors.append(float(np.linalg.norm(stack - exact) / np.linalg.norm(exact)))
    assert errors[1] <= CHORD_ERROR
    assert errors[1] <= 0.6 * errors[0]


CHORD_ERROR = 0.02


# ---------------------------------------------------------------- adjoints


@pytest.mark.parametrize("projector", ["native", "astra"])
@few
@given(
    volume=st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 9)),
    nu=st.integers(1, 11),
    tilts=st.lists(st.floats(-180, 180), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_backproject_is_the_adjoint(projector, volume, nu, tilts, seed):
    g = geometry(tilts, volume, nu)
    x, y = numbers(volume, seed), numbers(g.stack_shape, seed + 1)
    left = np.vdot(recon.project(x, g, projector).astype(float), y)
    right = np.vdot(x.astype(float), recon.backproject(y, g, projector))
    absolute = recon.project(np.abs(x), g, projector).astype(float)
    assert abs(left - right) <= 1e-6 * np.vdot(absolute, np.abs(y))


def aligned(alignment, frame=(VOLUME[1], NU), like=HOST):
    return aligned_projector(TILTS, alignment, frame, VOLUME, like)


@few
@given(seed=st.integers(0, 99), rotation=st.floats(-20, 20), offset=st.floats(-3, 3))
def test_aligned_projector_has_its_exact_adjoint(seed, rotation, offset):
    random = np.random.default_rng(seed)
    operator = aligned(Alignment(random.uniform(-3, 3, (len(TILTS), 2)), rotation, offset), (7, 11))
    x, y = numbers(operator.domain_shape, seed), numbers(operator.range_shape, seed + 1)
    left = np.vdot(operator(x, np.empty(operator.range_shape, f32)).astype(float), y)
    right = np.vdot(x.astype(float), operator.adjoint(y, np.empty(operator.domain_shape, f32)))
    forward = operator(np.abs(x), np.empty(operator.range_shape, f32)).astype(float)
    assert abs(left - right) <= 1e-6 * np.vdot(forward, np.abs(y))


def test_identity_alignment_changes_nothing():
    g = geometry()
    operator, plain = aligned(Alignment.identity(len(TILTS))), make_projector(g, HOST)
    x = numbers(operator.domain_shape)
    a, b = (o(x, np.empty(o.range_shape, f32)) for o in (operator, plain))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("projector", ["native", "astra"])
def test_out_is_overwritten_and_returned(projector):
    operator = make_projector(geometry(), HOST, projector)
    for f, shape, size in (
        (operator, operator.domain_shape, operator.range_shape),
        (operator.adjoint, operator.range_shape, operator.domain_shape),
    ):
        x, out = numbers(shape), np.full(size, np.nan, f32)
        assert f(x, out) is out
        assert np.array_equal(out, f(x, np.zeros(size, f32)))


# ---------------------------------------------------------------- what goes in


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", "uint8", "bool", ">f4"])
def test_real_types_are_used_as_float32(dtype):
    x = (np.random.default_rng(0).uniform(size=VOLUME) * 3).astype(dtype)
    out = recon.project(x, geometry())
    assert out.dtype == f32
    assert np.array_equal(out, recon.project(x.astype(f32), geometry()))


def test_input_is_left_alone_and_any_order_serves():
    x = numbers(VOLUME)
    kept = x.copy()
    out = recon.project(x, geometry())
    assert np.array_equal(x, kept)
    assert np.array_equal(out, recon.project(np.asfortranarray(x), geometry()))
    assert np.array_equal(out, recon.project(np.ascontiguousarray(x[::-1])[::-1], geometry()))
    x.setflags(write=False)
    assert np.array_equal(out, recon.project(x, geometry()))


WRONG = [
    (lambda g: recon.project(np.zeros((9, 5, 11)), g), GeometryError, r"volume has shape \(9, 5, 11\).*\(9, 5, 12\)"),
    (lambda g: recon.project(np.zeros((9, 5)), g), GeometryError, r"volume has shape \(9, 5\)"),
    (lambda g: recon.backproject(np.zeros((11, 14, 5)), g), GeometryError, r"stack has shape \(11, 14, 5\)"),
    (lambda g: recon.project(np.zeros(VOLUME, complex), g), BackendError, "complex128.*real"),
    (lambda g: recon.project(np.full(VOLUME, "a"), g), BackendError, "real numbers"),
    (lambda g: recon.project(np.full(VOLUME, None), g), BackendError, "object.*real"),
    (lambda g: recon.project([[[0.0]]], g), BackendError, "list.*NumPy or CuPy"),
    (lambda g: recon.backproject(None, g), BackendError, "NoneType.*NumPy or CuPy"),
    (lambda g: recon.project(np.zeros(VOLUME), g, "gpu"), BackendError, "'gpu'.*auto, native or astra"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_input_gets_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(geometry())
    assert isinstance(caught.value, ReconError)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- geometries


def tilted_axis():
    """A single axis that leans 5 degrees: not the single-axis projector's."""
    g = geometry()
    c, s = np.cos(np.radians(5)), np.sin(np.radians(5))
    lean = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    return TiltGeometry.from_vectors(g.ray @ lean, g.centre, g.u @ lean, g.v @ lean, g.detector, g.volume)


def test_only_a_single_axis_has_tilts():
    g = tilted_axis()
    assert not g.is_single_axis
    with pytest.raises(GeometryError, match="only a single-axis geometry has tilts"):
        _ = g.tilts_deg


@pytest.mark.parametrize("change", ["centre", "u", "v", "ray", "pixel"])
def test_every_vector_counts_for_a_single_axis(change):
    g = geometry()
    vectors = {name: np.array(getattr(g, name)) for name in ("ray", "centre", "u", "v")}
    if change == "pixel":
        vectors["u"] *= 1.1
    else:
        vectors[change][3] += (0.02, 0.01, 0.03)
    other = TiltGeometry.from_vectors(**vectors, detector=g.detector, volume=g.volume)
    assert not other.is_single_axis


def test_vectors_of_a_single_axis_are_one():
    g = geometry()
    other = TiltGeometry.from_vectors(2 * g.ray, g.centre, g.u, g.v, g.detector, g.volume)
    assert other == g  # a ray's length does not matter
    assert other.is_single_axis
    difference = (other.tilts_deg - TILTS + 180) % 360 - 180
    assert np.abs(difference).max() <= 1e-9


ONE = ([1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0])
BAD_GEOMETRIES = [
    (lambda: TiltGeometry.single_axis([], (5, 5)), "no tilt"),
    (lambda: TiltGeometry.single_axis([0, np.nan], (5, 5)), "projection 2 is nan.*finite"),
    (lambda: TiltGeometry.single_axis([0], (0, 5)), "at least 1"),
    (lambda: TiltGeometry.single_axis([0], (5, 6), (6, 4, 6)), "4 slices.*5 rows"),
    (lambda: TiltGeometry.single_axis([0], (5, 6), (6, 5)), "needs the same number"),
    (lambda: TiltGeometry.from_vectors([0, 0, 0], *ONE[1:], (5, 5), (5, 5, 5)), "length 0"),
    (lambda: TiltGeometry.from_vectors(ONE[0], ONE[1], [ONE[2]] * 2, ONE[3], (5, 5), (5, 5, 5)), "u has shape"),
    (lambda: TiltGeometry.from_vectors(*ONE, (5,), (5, 5, 5)), "detector"),
    (lambda: TiltGeometry.from_vectors(*ONE, (5, 5), (5, 5)), "volume"),
    pytest.param(lambda: TiltGeometry.single_axis([0], (5, 5, 5)), "detector"),
    pytest.param(lambda: TiltGeometry.single_axis(["a"], (5, 5)), "tilts"),
    pytest.param(lambda: TiltGeometry.single_axis([0], (5, "b")), "detector"),
]


@pytest.mark.parametrize(("call", "message"), BAD_GEOMETRIES)
def test_bad_geometry_gets_one_line(call, message):
    with pytest.raises(GeometryError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_geometry_is_a_value():
    g = geometry()
    assert g == geometry()
    assert g != geometry(TILTS[::-1])
    assert g != geometry(nu=NU + 1)
    assert g != "geometry"
    assert len(g) == len(TILTS)
    with pytest.raises(ValueError, match="read-only"):
        g.u[0] = 0
    what = "11 projections: 11 about y, tilts -90 to 180 deg"
    assert repr(g) == f"TiltGeometry({what}, detector=(5, 14), volume=(9, 5, 12))"
    assert "11 general" in repr(tilted_axis())


@pytest.mark.parametrize("index", [slice(2, 7, 2), [5, 1], np.array([0, 10]), np.arange(len(TILTS)) % 2 == 0, [3]])
def test_slices_of_a_geometry_project_alike(index):
    g, x = geometry(), numbers(VOLUME)
    part = g[index]
    assert part == geometry(TILTS[index])
    assert np.array_equal(recon.project(x, part), recon.project(x, g)[index])


def test_one_projection_by_its_number():
    assert geometry()[3] == geometry(TILTS[3:4])


# ---------------------------------------------------------------- on a GPU


@pytest.fixture
def cupy():
    why = cuda_unavailable()
    if why is not None:
        pytest.skip(why)
    import cupy

    return cupy


@pytest.mark.gpu
def test_cupy_in_cupy_out_and_equal(cupy):
    x, y = numbers(VOLUME), numbers((len(TILTS), VOLUME[1], NU))
    for f, a in ((recon.project, x), (recon.backproject, y)):
        out = f(cupy.asarray(a), geometry())
        assert isinstance(out, cupy.ndarray)
        assert relative(out.get(), f(a, geometry())) <= 2e-6


@pytest.mark.gpu
def test_aligned_projector_on_a_gpu(cupy):
    alignment = Alignment(np.random.default_rng(0).uniform(-2, 2, (len(TILTS), 2)), 4.0, 1.0)
    there = aligned(alignment, like=cupy.empty(0, dtype=f32))
    here = aligned(alignment)
    x, y = numbers(here.domain_shape), numbers(here.range_shape)
    out = there(cupy.asarray(x), cupy.empty(there.range_shape, dtype=f32))
    assert relative(out.get(), here(x, np.empty(here.range_shape, f32))) <= 2e-6
    out = there.adjoint(cupy.asarray(y), cupy.empty(there.domain_shape, dtype=f32))
    assert relative(out.get(), here.adjoint(y, np.empty(here.domain_shape, f32))) <= 2e-6


@pytest.mark.gpu
def test_astra_on_a_gpu(cupy):
    """ASTRA's textures round positions, so 1e-3; its back projection is driven by voxels, so a few percent."""
    astra = pytest.importorskip("astra")
    if not astra.use_cuda():
        pytest.skip("this build of ASTRA finds no CUDA device")
    particle = Particle(("Fe",), (Ellipsoid((0.06, -0.08, 0.1), (0.2, 0.27, 0.16), (1.0,)),), {})
    x = particle.volume(32)[0]
    tilts = np.arange(-70, 71, 10.0)
    g = TiltGeometry.single_axis(tilts, (32, 32))
    expected = recon.project(x, g)
    assert relative(recon.project(cupy.asarray(x), g, "astra").get(), expected) <= 1e-3
    back = recon.backproject(cupy.asarray(expected), g, "astra").get()
    assert relative(back, recon.backproject(expected, g)) <= 0.1
    shape = (9, 5, 12)
    part = TiltGeometry.single_axis(tilts, (5, 14), shape)
    small = recon.project(cupy.asarray(numbers(shape)), part, "astra").get()
    assert relative(small, recon.project(numbers(shape), part)) <= 1e-2
