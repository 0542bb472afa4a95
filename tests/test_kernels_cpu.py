"""The Numba kernels against `reference`, against ASTRA and SciPy, and against what they must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import close, dot, same_product
from scipy.optimize import minimize_scalar

from recon.geometry.tilt_geometry import TiltGeometry
from recon.kernels import cpu, cpu_joseph, cpu_tgv

f32 = np.float32
RADII = (f32(1.5), f32(2.5))  # that about half of the voxels of a `State` exceed
PLAIN, RELAXED = f32(1), f32(1.6)  # x <- x + rho (T(x) - x)

shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))  # odd, even and size-1 axes
few = settings(max_examples=25, deadline=None, derandomize=True)


# ---------------------------------------------------------------- primal-dual steps


@pytest.mark.parametrize("order", [0, 1, 2])
@few
@given(shape=shapes, seed=st.integers(0, 99), rho=st.sampled_from([PLAIN, RELAXED]))
def test_primal_step(order, shape, seed, rho):
    s = reference.State(shape, order, seed)
    new_u, new_w = reference.primal(*(a.astype(float) for a in (s.u, s.w, s.p, s.q, s.g)), 0.7, 0.4)
    u, u_bar = reference.relaxed(s.u, new_u, rho)
    w, w_bar = reference.relaxed(s.w, new_w, rho)
    cpu.tgv_primal(s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g, f32(0.7), f32(0.4), *RADII, rho)
    close(s.u, u)
    close(s.u_bar, u_bar)
    close(s.w, w)
    close(s.w_bar, w_bar)


@pytest.mark.parametrize("order", [1, 2])
@few
@given(shape=shapes, seed=st.integers(0, 99), rho=st.sampled_from([PLAIN, RELAXED]))
def test_dual_step(order, shape, seed, rho):
    s = reference.State(shape, order, seed)
    variables = (a.astype(float) for a in (s.p, s.q, s.u_bar, s.w_bar))
    new_p, new_q = reference.dual(*variables, 0.7, 0.4, *RADII)
    p, _ = reference.relaxed(s.p, new_p, rho)
    q, _ = reference.relaxed(s.q, new_q, rho)
    cpu.tgv_dual(s.p, s.q, s.u_bar, s.w_bar, f32(0.7), f32(0.4), *RADII, rho)
    close(s.p, p)
    close(s.q, q)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("shares", [1, 2, 3, 5])
@few
@given(shape=shapes, seed=st.integers(0, 99), rho=st.sampled_from([PLAIN, RELAXED]), part=st.booleans())
def test_one_sweep_is_the_primal_and_then_the_dual_step(order, shares, shape, seed, rho, part):
    """However many cores share the rows: the dual rows at their borders come last. They may see a part of ubar."""
    one, two = (reference.State(shape, order, seed) for _ in range(2))
    steps = f32(0.7), f32(0.4)
    s, exempt = one, np.random.default_rng(seed).normal(size=shape).astype(f32) if part else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_tgv, "_shares", lambda nx: min(shares, nx))
        cpu.tgv_step(s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g, *steps, *steps, *RADII, rho, None, exempt)
    s = two
    cpu.tgv_primal(s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g, *steps, *RADII, rho)
    cpu.tgv_dual(s.p, s.q, s.u_bar - exempt if part else s.u_bar, s.w_bar, *steps, *RADII, rho)
    for name, a in vars(one).items():
        if name != "w_bar":  # the sweep writes none
            close(a, getattr(two, name), 1e-6)


@pytest.mark.parametrize("order", [1, 2])
@few
@given(shape=shapes, seed=st.integers(0, 99))
def test_a_step_on_16_bits_is_that_on_what_they_hold(order, shape, seed):
    """Each number within the rounding of its own store."""
    short, full = (reference.State(shape, order, seed) for _ in range(2))
    units = reference.in_16_bits(short, *RADII)
    for name, unit in units.items():
        setattr(full, name, unit * getattr(short, name).astype(np.float32))
    for s in (short, full):
        state = (s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g)
        cpu.tgv_step(*state, *(f32(0.7), f32(0.4)) * 2, *RADII, RELAXED)
    for name in ("u", "w", "u_bar"):
        close(getattr(short, name), getattr(full, name))
    for name in "pq":
        assert getattr(short, name).dtype == np.int16
        off = np.abs(getattr(short, name) - getattr(full, name) / units[name])
        assert off.max(initial=0) <= 0.51  # steps; half a step is what rounding costs, measured: 0.503


def test_numbers_beyond_16_bits_are_cut_off():
    s = reference.State((2, 3, 4), 2)
    reference.in_16_bits(s, *RADII)
    far = f32(50)  # times as far as T goes
    before = np.sign(s.p)
    cpu.tgv_dual(s.p, s.q, s.u_bar, s.w_bar, f32(0.7), f32(0.4), *RADII, far)
    assert {-32768, 32767} <= set(s.p.ravel())
    assert before.any()


def test_dual_step_without_a_regulariser_leaves_everything_alone():
    s = reference.State((2, 3, 4), 0)
    before = s.u_bar.copy()
    cpu.tgv_dual(s.p, s.q, s.u_bar, s.w_bar, f32(1), f32(1), f32(1), f32(1), PLAIN)
    assert np.array_equal(s.u_bar, before)


def forward_map(u, w, order):
    """(grad u - w, E w) read off the dual kernel: without a bound, from zero."""
    s = reference.State(u.shape, order)
    p, q = np.zeros_like(s.p), np.zeros_like(s.q)
    far = f32(1e6)
    cpu.tgv_dual(p, q, u, w, f32(1), f32(1), far, far, PLAIN)
    return p, q


def adjoint_map(p, q, order):
    """(grad* p, E* q - p) read off the primal kernel, in two halves, since u' >= 0."""
    s = reference.State(p.shape[1:], order)
    halves = []
    for tau in (f32(1), f32(-1)):
        u, w = np.zeros_like(s.u), np.zeros_like(s.w)
        zero = np.zeros_like(s.g)
        cpu.tgv_primal(u, w, s.u_bar, s.w_bar, p, q, zero, tau, tau, *RADII, PLAIN)
        halves.append((u, w))
    return halves[1][0] - halves[0][0], halves[1][1]


@pytest.mark.parametrize("order", [1, 2])
@few
@given(shape=shapes, seed=st.integers(0, 99))
def test_primal_and_dual_kernels_use_adjoint_operators(order, shape, seed):
    s = reference.State(shape, order, seed)
    (ku, kw), (ap, aq) = forward_map(s.u, s.w, order), adjoint_map(s.p, s.q, order)
    norms = [np.sqrt(sum(dot(x, x) for x in pair)) for pair in ((s.u, s.w), (s.p, s.q))]
    same_product(dot(ku, s.p) + dot(kw, s.q), dot(s.u, ap) + dot(s.w, aq), 1e-30 + norms[0] * norms[1])


@few
@given(shape=shapes, slopes=st.tuples(*[st.integers(-9, 9)] * 3), offset=st.integers(0, 9))
def test_tgv_of_an_affine_function_is_zero(shape, slopes, offset):
    # integers, so nothing is rounded
    u = (np.tensordot(slopes, np.indices(shape), axes=1) + offset).astype(np.float32)
    w = reference.existing(np.broadcast_to(np.reshape(slopes, (3, 1, 1, 1)), (3, *shape)).astype(np.float32))
    p, q = forward_map(u, w, 2)
    assert not p.any()
    assert not q.any()


def test_tv_of_an_affine_function_is_not_zero():  # the check above can fail
    u = np.indices((3, 4, 5), dtype=np.float32).sum(axis=0)
    p, _ = forward_map(u, np.empty((0, 3, 4, 5), np.float32), 1)
    assert p.sum() == 2 * 20 + 3 * 15 + 4 * 12


# ---------------------------------------------------------------- certificate


@few
@given(shape=shapes, seed=st.integers(0, 99))
def test_divergence_of_clipped_tensors(shape, seed):
    s = reference.State(shape, 2, seed)
    out, largest = np.full_like(s.w, np.nan), np.full(shape[0], np.nan)
    cpu.tgv_divergence(s.q, f32(1.5), out, largest)
    expected = reference.adjoint(reference.symmetrised, s.w.shape, reference.onto_ball(s.q.astype(float), 1.5))
    close(out, expected)
    close(largest, np.linalg.norm(expected, axis=0).max(axis=(1, 2)))


@few
@given(shape=shapes, seed=st.integers(0, 99))
def test_gradient_adjoint_adds(shape, seed):
    s = reference.State(shape, 1, seed)
    expected = s.g + 0.7 * reference.adjoint(reference.gradient, shape, s.p.astype(float))
    cpu.gradient_adjoint(s.p, f32(0.7), s.g)
    close(s.g, expected)


@pytest.mark.parametrize("order", [1, 2])
@few
@given(shape=shapes, seed=st.integers(0, 99))
def test_value_of_tgv(order, shape, seed):
    s = reference.State(shape, order, seed)
    u, w = s.u.astype(float), s.w.astype(float)
    first = reference.gradient(u) - (w if order == 2 else 0)
    second = reference.symmetrised(w) if order == 2 else np.zeros((6, *shape))
    values = np.full((shape[0], 2), np.nan)
    cpu.tgv_value(s.u, s.w, values)
    close(values, np.stack([np.linalg.norm(a, axis=0).sum(axis=(1, 2)) for a in (first, second)], axis=1))


# ---------------------------------------------------------------- arrays


@few
@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=4), short=st.booleans())
def test_arrays_begin_at_a_cache_line(shape, short):
    a = cpu.zeros(shape, np.int16 if short else np.float32)
    assert a.shape == tuple(shape)
    assert a.dtype == (np.int16 if short else np.float32)
    assert a.flags.c_contiguous
    assert a.ctypes.data % 64 == 0 or a.size == 0
    assert not a.any()


# ---------------------------------------------------------------- projection

TILTS = np.radians([-90, -71.5, -45, -30, 0, 12, 45, 60.25, 90, 135])


@few
@given(shape=shapes, nu=st.integers(1, 8), seed=st.integers(0, 99))
def test_projection_is_joseph_s_model(shape, nu, seed):
    random = np.random.default_rng(seed)
    tilts = np.append(random.choice(TILTS, 3), random.uniform(-np.pi, np.pi, 2))
    fineness = 1 + seed % 3
    rays = reference.rays(tilts, nu, random.uniform(-2, 2, tilts.size), fineness)
    weights = reference.joseph(shape[:2], nu, rays, fineness)
    volume = random.normal(size=shape).astype(np.float32)
    stack = random.normal(size=(tilts.size, nu, shape[2])).astype(np.float32)
    out, back = np.full_like(stack, np.nan), np.full_like(volume, np.nan)
    cpu.project(volume, out, rays, fineness)
    cpu.backproject(stack, back, rays, fineness)
    close(out, np.einsum("tuzx,zxy->tuy", weights, volume))
    close(back, np.einsum("tuzx,tuy->zxy", weights, stack))
    size = 1e-30 + np.linalg.norm(out) * np.linalg.norm(stack)
    same_product(dot(out, stack), dot(volume, back), size + np.linalg.norm(volume) * np.linalg.norm(back))


@pytest.mark.parametrize("fineness", [1, 2])
def test_projection_dot_product_at_a_real_size(fineness):
    random = np.random.default_rng(3)
    tilts = np.radians(np.arange(-70, 71, 10))
    volume = random.uniform(size=(61, 64, 33)).astype(np.float32)
    stack = random.uniform(size=(15, 71, 33)).astype(np.float32)
    out, back = np.empty_like(stack), np.empty_like(volume)
    rays = reference.rays(tilts, 71, 0.3, fineness)
    cpu.project(volume, out, rays, fineness)
    cpu.backproject(stack, back, rays, fineness)
    same_product(dot(out, stack), dot(volume, back), dot(out, stack))  # measured: 2e-9


def test_projection_in_tiles_is_the_same():
    # several tiles, rays along z and along x, rows of wide and narrow pieces and a rest
    tilts = np.radians([-90, -71.5, -45, 0, 33, 60.25, 90])
    volume = np.random.default_rng(6).normal(size=(97, 41, 605)).astype(np.float32)
    out = np.empty((7, 90, 605), np.float32)
    assert min(volume.shape[:2]) > cpu_joseph._TILE
    rays = reference.rays(tilts, 90)
    cpu.project(volume, out, rays, 1)
    weights = reference.joseph(volume.shape[:2], 90, rays)
    close(out, np.einsum("tuzx,zxy->tuy", weights, volume, optimize=True))


def astra_matrix(geometry):
    """ASTRA's own sparse matrix of one slice, rows (tilt, u), columns (z, x)."""
    astra = pytest.importorskip("astra")

    def plane(vectors):  # (z, y, x) -> ASTRA's (x, y) of a slice, whose first row lies at the top
        return vectors[:, [2, 0]] * (1, -1)

    nz, _, nx = geometry.volume
    vectors = np.concatenate([plane(a) for a in (geometry.ray, geometry.centre, geometry.u)], axis=1)
    projections = astra.create_proj_geom("parallel_vec", geometry.detector[1], vectors)
    projector = astra.create_projector("linear", projections, astra.create_vol_geom(nz, nx))
    matrix = astra.projector.matrix(projector)
    try:
        return astra.matrix.get(matrix)
    finally:
        astra.matrix.delete(matrix)
        astra.projector.delete(projector)


@pytest.mark.parametrize(("nz", "nx", "nu"), [(48, 64, 80), (33, 32, 31)])
def test_projection_equals_astra_s_linear_model(nz, nx, nu):
    tilts = np.array([-70, -45, -33.3, -10, 0, 21, 45, 57, 70, 90])
    geometry = TiltGeometry.single_axis(tilts, detector=(2, nu), volume=(nz, 2, nx))
    volume = np.random.default_rng(5).uniform(size=(nz, nx, 2)).astype(np.float32)
    out = np.empty((tilts.size, nu, 2), np.float32)
    cpu.project(volume, out, reference.rays(np.radians(tilts), nu), 1)
    expected = (astra_matrix(geometry) @ volume.reshape(nz * nx, 2).astype(float)).reshape(out.shape)
    # measured here: 3e-6; ASTRA accumulates coordinates in float32, so larger slices differ by more
    assert np.linalg.norm(out - expected) < 1e-4 * np.linalg.norm(expected)


# ---------------------------------------------------------------- data terms


def run_poisson(a, sigma, rho=PLAIN):
    y = a["y"].copy()
    cpu.poisson_dual(y, *(a[n] for n in ("projection", "counts", "offset", "scale")), f32(sigma), rho)
    return y


def run_least_squares(a, sigma, rho=PLAIN):
    y = a["y"].copy()
    cpu.least_squares_dual(y, *(a[n] for n in ("projection", "counts", "offset", "scale", "weight")), f32(sigma), rho)
    return y


def minimum(f, low, high):
    return minimize_scalar(f, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x


def poisson(x, c, b, weight):
    return x + b - (c * np.log(x + b) if c > 0 else 0)


def poisson_conjugate(y, c, b, weight):
    return -b * y - (c * np.log(1 - y) if c > 0 else 0)


def least_squares(x, c, b, weight):
    return weight / 2 * (x + b - c) ** 2


def least_squares_conjugate(y, c, b, weight):
    return y * y / (2 * weight) + y * (c - b)


TERMS = {
    "poisson": (run_poisson, poisson, poisson_conjugate, 1.0),  # y <= 1, s A u + b >= 0
    "least squares": (run_least_squares, least_squares, least_squares_conjugate, np.inf),
}


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("sigma", [0.05, 1.0, 20.0])
def test_data_prox_is_the_minimiser_and_satisfies_moreau(term, sigma):
    run, value, conjugate, bound = TERMS[term]
    a = reference.data_problem((2, 4, 5), seed=2)
    new = run(a, sigma)  # measured: both hold to 3e-7
    assert not new[a["scale"] == 0].any()
    for index in zip(*np.nonzero(a["scale"]), strict=True):
        y, projection, c, b, scale, weight = (
            float(a[n][index]) for n in ("y", "projection", "counts", "offset", "scale", "weight")
        )
        v = y + sigma * scale * projection
        model = (c, b, weight)
        low = min(v, 0) - sigma * (c + 1) * (1 + weight) - 2
        high = min(bound, max(v, 0) + sigma * (c + 1) * (1 + weight) + 2)
        best = minimum(lambda z, m=model, v=v: (z - v) ** 2 / (2 * sigma) + conjugate(z, *m), low, high)
        assert new[index] == pytest.approx(best, abs=2e-6 * max(1, abs(v)))
        left = -b if term == "poisson" else -100
        primal = minimum(lambda x, m=model, v=v: sigma * (x - v / sigma) ** 2 / 2 + value(x, *m), left, 100)
        assert new[index] + sigma * primal == pytest.approx(v, abs=2e-6 * max(1, abs(v)))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("rho", [RELAXED, f32(0.7)])
def test_data_steps_relax(term, rho):
    run = TERMS[term][0]
    a = reference.data_problem((3, 5, 7), seed=4)
    expected, _ = reference.relaxed(a["y"].astype(float), run(a, 0.8), rho)
    close(run(a, 0.8, rho), expected)
