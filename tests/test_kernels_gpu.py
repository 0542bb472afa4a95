"""The CUDA kernels on a GPU, if there is one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import (
    PASSING,
    RADII,
    RHOS,
    SHAPES,
    check_certificate,
    check_coupled,
    check_data_steps,
    check_projection,
    check_tgv_steps,
    check_warp,
    f32,
)

from recon.backend import cuda_unavailable
from recon.kernels import cuda

# ---------------------------------------------------------------- on a GPU


@pytest.fixture
def gpu():
    why = cuda_unavailable()
    if why is not None:
        pytest.skip(why)
    import cupy

    return {"to_device": lambda a: (cupy.asarray(a), ()), "to_host": cupy.asnumpy, "tolerance": 2e-6}


LARGER = (37, 61, 203)


@pytest.mark.gpu
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("shape", [*SHAPES, LARGER])
def test_tgv_steps_on_gpu(gpu, shape, order, rho):
    check_tgv_steps(cuda, shape, order, rho, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shape", [*SHAPES, LARGER])
def test_tgv_steps_in_16_bits_on_gpu(gpu, shape, order):
    check_tgv_steps(cuda, shape, order, RHOS[1], short=True, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("components", [3, 6])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_coupled_on_gpu(gpu, channels, components):
    check_coupled(cuda, channels, components, RHOS[1], **(gpu | {"tolerance": 5e-6}))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, LARGER])
def test_certificate_on_gpu(gpu, shape):
    check_certificate(cuda, shape, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "nu"), [*[(shape, 5) for shape in SHAPES], (LARGER, 50)])
@pytest.mark.parametrize("fineness", [1, 2])
def test_projection_on_gpu(gpu, shape, nu, fineness):
    check_projection(cuda, shape, nu, fineness=fineness, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize(("recorded", "ideal"), [((6, 70), (5, 66)), ((1, 9), (4, 1)), ((61, 203), (70, 190))])
def test_warp_on_gpu(gpu, recorded, ideal):
    check_warp(cuda, recorded, ideal, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("shape", [*SHAPES, LARGER])
def test_data_steps_on_gpu(gpu, shape, rho):
    check_data_steps(cuda, shape, rho, **gpu)


@pytest.mark.gpu
def test_indices_beyond_32_bits_on_gpu(gpu):
    import cupy

    n = 1300  # n^3 = 2.2e9 voxels, 8.8 GB
    if cupy.cuda.Device().mem_info[0] < 10e9:
        pytest.skip("less than 10 GB of device memory is free")
    stack, out = cupy.ones((1, n, n), f32), cupy.empty((n, n, n), f32)
    cuda.backproject(stack, out, reference.rays(np.zeros(1), n), 1)
    assert bool((out == 1).all())
    cuda.project(out, stack, reference.rays(np.zeros(1), n), 1)
    assert bool((stack == n).all())


@pytest.mark.gpu
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 200)),
    nu=st.integers(1, 60),
    order=st.integers(0, 2),
    rho=st.sampled_from(RHOS),
    recorded=st.tuples(st.integers(1, 60), st.integers(1, 90)),
)
def test_any_shape_on_gpu(gpu, shape, nu, order, rho, recorded):
    check_tgv_steps(cuda, shape, order, rho, **gpu)
    check_certificate(cuda, shape, **gpu)
    check_projection(cuda, shape, nu, **gpu)
    check_warp(cuda, recorded, shape[1:], **gpu)
    check_data_steps(cuda, shape, rho, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("n_tilts", [1, 63, 64, 65, 130])
def test_projection_in_chunks_of_taps_on_gpu(gpu, n_tilts):
    tilts = np.random.default_rng(n_tilts).uniform(-np.pi, np.pi, n_tilts)
    check_projection(cuda, (67, 70, 65), 90, tilts, 2, **gpu)


@pytest.mark.gpu
def test_projection_on_gpu_is_adjoint(gpu):
    import cupy

    random = cupy.random.default_rng(3)
    tilts = np.radians(np.arange(-70, 71, 10))
    volume, stack = random.random((61, 64, 133), dtype=f32), random.random((15, 71, 133), dtype=f32)
    out, back = cupy.empty_like(stack), cupy.empty_like(volume)
    rays = reference.rays(tilts, 71, 0.3, 2)
    cuda.project(volume, out, rays, 2)
    cuda.backproject(stack, back, rays, 2)
    left, right = (float(cupy.vdot(a.astype(float), b.astype(float))) for a, b in ((out, stack), (volume, back)))
    assert left == pytest.approx(right, rel=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("method", "data_term"),
    [(method, term) for method in ("tgv", "tv", "none") for term in ("poisson", "least-squares")],
)
def test_whole_reconstructions_are_those_of_the_cpu_on_gpu(gpu, method, data_term):
    """The same iterations with other rounding. Two CPU projectors that differ by rounding alone gave, after these
    4000 iterations: objectives 2e-6, volumes 4e-5 apart (TGV, TV), 7e-4 where nothing but the data holds voxels."""
    import recon

    n = 24
    u = (np.arange(n) - (n - 1) / 2) / (0.35 * n)
    chord = np.sqrt(np.maximum(1 - u[:, None] ** 2 - u**2, 0)) * 40 + 0.4
    maps = np.random.default_rng(0).poisson(np.broadcast_to(chord, (9, n, n))).astype(f32)
    series = recon.TiltSeries.create({"A": maps}, np.linspace(-70, 70, 9), 1.0)
    how = {"data_term": data_term, "strength": 0.3, "tolerance": 1e-4, "max_iterations": 4000}
    on_cpu, on_gpu = (recon.reconstruct(series, method, device=d, **how)["A"] for d in ("cpu", "cuda"))
    assert on_gpu.solution.objective == pytest.approx(on_cpu.solution.objective, rel=1e-5)
    difference = np.linalg.norm(on_gpu.values - on_cpu.values) / np.linalg.norm(on_cpu.values)
    assert difference < (1e-4 if method != "none" else 5e-3)


@pytest.mark.gpu
def test_device_memory_is_returned_on_gpu(gpu):
    import gc

    import cupy

    import recon

    maps = np.random.default_rng(0).poisson(5, size=(5, 40, 40)).astype(f32)
    series = recon.TiltSeries.create({"A": maps}, np.linspace(-60, 60, 5), 1.0)
    pool = cupy.get_default_memory_pool()
    gc.collect()
    before = pool.used_bytes()
    for method in ("tgv", "sirt"):
        recon.reconstruct(series, method, device="cuda", max_iterations=10)
        gc.collect()
        assert pool.used_bytes() == before


@pytest.mark.gpu
def test_an_iteration_allocates_nothing_on_gpu(gpu):
    import cupy

    from recon.geometry.tilt_geometry import TiltGeometry
    from recon.operators import make_projector
    from recon.solvers.data_terms import Poisson
    from recon.solvers.pdhg import PrimalDual

    counts = cupy.random.default_rng(0).poisson(5, size=(5, 20, 20)).astype(f32)
    data = Poisson(counts, cupy.ones_like(counts), cupy.zeros_like(counts))
    operator = make_projector(TiltGeometry.single_axis(np.linspace(-60, 60, 5), (20, 20)), counts)
    solver = PrimalDual(operator, data, a1=0.5, a0=1.0, upper=50.0)
    solver.step()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes(), pool.total_bytes()
    for _ in range(3):
        solver.step()
    assert (pool.used_bytes(), pool.total_bytes()) == before


@pytest.mark.gpu
def test_a_launch_allocates_nothing_on_gpu(gpu):
    import cupy

    s = reference.State((5, 9, 33), 2)
    device = {name: cupy.asarray(a) for name, a in vars(s).items()}
    d = SimpleNamespace(**device)

    def step():
        cuda.tgv_primal(d.u, d.w, d.u_bar, d.w_bar, d.p, d.q, d.g, *PASSING, *RADII, f32(1.6))

    step()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes(), pool.total_bytes()
    step()
    assert (pool.used_bytes(), pool.total_bytes()) == before
