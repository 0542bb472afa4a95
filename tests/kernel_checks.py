"""Kernels of a device compared with those of the CPU, function by function."""

from __future__ import annotations

import numpy as np
import reference
from hypothesis import strategies as st

from recon.kernels import cpu

f32 = np.float32
ROUNDING = 2e-6  # of float32 arithmetic on values of order 1; measured: below 5e-7


def close(a, b, tolerance=ROUNDING):
    __tracebackhide__ = True
    assert np.shape(a) == np.shape(b)
    scale = max(1.0, float(np.abs(b).max(initial=0)))
    error = float(np.abs(np.asarray(a, np.float64) - b).max(initial=0)) / scale
    assert error <= tolerance, f"differs by {error:.2e}, allowed {tolerance:.0e}"


def dot(a, b):
    return float(np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64)))


def same_product(left, right, size, tolerance=1e-6):
    """<A x, y> = <x, A* y>, relative to |A x| |y|."""
    __tracebackhide__ = True
    error = abs(left - right) / size
    assert error <= tolerance, f"the two products differ by {error:.2e} of the norms, allowed {tolerance:.0e}"


def guarded(a):
    """A copy of `a` inside a memory of NaNs (or another mark), and that memory's ends."""
    memory = np.full(a.size + 2 * 512, -12345 if a.dtype == np.int16 else np.nan, a.dtype)
    inside = memory[512 : 512 + a.size].reshape(a.shape)
    inside[...] = a
    return inside, (memory[:512], memory[512 + a.size :])


def compare(kernels, name, *arguments, skip=(), tolerance=1e-6, to_device=guarded, to_host=np.asarray):
    """Runs the function of both modules on copies of the arguments and compares what is in them afterwards."""
    __tracebackhide__ = True
    on_cpu, on_device, ends = list(arguments), list(arguments), []
    for i, a in enumerate(arguments):
        if isinstance(a, np.ndarray):
            on_cpu[i], margins = guarded(a)
            on_device[i], more_margins = to_device(a)
            ends += [*margins, *more_margins]
    getattr(cpu, name)(*on_cpu)
    getattr(kernels, name)(*on_device)
    for position, (a, b) in enumerate(zip(on_cpu, on_device, strict=True)):
        if isinstance(a, np.ndarray):
            if position in skip:
                continue
            b = to_host(b).astype(np.float64)
            error = np.abs(b - a).max(initial=0) / max(1, np.abs(a).max(initial=0))
            rounding = 1 / max(1, np.abs(a).max(initial=0)) if a.dtype == np.int16 else tolerance  # a step
            assert error <= rounding, f"{name}, argument {position}: differs by {error:.2e}"
    untouched = [(end == -12345).all() if end.dtype == np.int16 else np.isnan(end).all() for end in ends]
    assert all(untouched), f"{name} writes out of bounds"


SHAPES = [(1, 1, 1), (2, 3, 1), (1, 4, 9), (4, 1, 65), (3, 6, 72), (5, 9, 33)]  # 72: four at a time


RHOS = (f32(1), f32(1.6))


PASSING, RADII = (f32(0.7), f32(0.4)), (f32(1.5), f32(2.5))


def check_tgv_steps(kernels, shape, order, rho, short=False, **how):
    s = reference.State(shape, order, seed=sum(shape))
    if short:
        reference.in_16_bits(s, *RADII)
    state = (s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g)
    compare(kernels, "tgv_primal", *state, *PASSING, *RADII, rho, **how)
    if order > 0:
        compare(kernels, "tgv_dual", s.p, s.q, s.u_bar, s.w_bar, *PASSING, *RADII, rho, **how)
    # on the CPU the step writes no w_bar
    step = (*state, *PASSING, *PASSING, *RADII, rho)
    compare(kernels, "tgv_step", *step, skip=(3,), **how)
    exempt = np.random.default_rng(1).normal(size=shape).astype(f32)
    compare(kernels, "tgv_step", *step, None, exempt, skip=(3, 6), **how)  # g is scratch then


def check_certificate(kernels, shape, **how):
    s = reference.State(shape, 2, seed=sum(shape))
    nothing = np.full((shape[0], 3), np.nan)
    compare(kernels, "tgv_divergence", s.q, f32(1.5), np.full_like(s.w, np.nan), nothing[:, 0].copy(), **how)
    shorts = np.rint(s.q * 4000).astype(np.int16)
    compare(kernels, "tgv_divergence", shorts, f32(1.5), np.full_like(s.w, np.nan), nothing[:, 0].copy(), **how)
    compare(kernels, "gradient_adjoint", s.p, f32(0.7), s.g, **how)
    compare(kernels, "gradient_adjoint", np.rint(s.p * 4000).astype(np.int16), f32(1e-4), s.g, **how)
    compare(kernels, "tgv_value", s.u, s.w, nothing[:, :2].copy(), **how)
    compare(kernels, "tgv_value", s.u, s.w[:0], nothing[:, :2].copy(), **how)
    compare(kernels, "tgv_value", s.u, s.w, nothing[:, :2].copy(), (shape[2] // 3, shape[2] - shape[2] // 4), **how)
    compare(kernels, "excess_sums", s.g, s.u, s.u, 0.7, 0.3, 0.2, 0.4, np.inf, nothing, **how)
    compare(kernels, "excess_sums", s.g, s.u, s.u, 0.7, 0.3, 0.2, np.inf, 1.5, nothing, **how)


def check_coupled(kernels, channels, components, rho, **how):
    random = np.random.default_rng(channels)
    dual, ahead = (random.normal(size=(channels, components, 3, 4, 9)).astype(np.float32) for _ in range(2))
    ahead[:, :, 0, 0] = 0
    ahead[:, :, 1] = ahead[:1, :, 1] * random.normal(size=(channels, 1, 1, 1)).astype(np.float32)
    for nuclear in (False, True):
        compare(kernels, "coupled_dual", dual, ahead, f32(1.3), nuclear, rho, **{"tolerance": 5e-6, **how})
        compare(kernels, "coupled_norms", ahead, nuclear, np.full((3, 2), np.nan), **how)


def check_projection(kernels, shape, nu, tilts=None, fineness=1, **how):
    random = np.random.default_rng(7)
    tilts = np.radians([-90, -63, -45, -10, 0, 33.3, 45, 80]) if tilts is None else tilts
    volume = random.normal(size=shape).astype(np.float32)
    stack = random.normal(size=(tilts.size, nu, shape[2])).astype(np.float32)
    rays = reference.rays(tilts, nu, random.uniform(-2, 2, tilts.size), fineness)
    compare(kernels, "project", volume, np.full_like(stack, np.nan), rays, fineness, **how)
    compare(kernels, "backproject", stack, np.full_like(volume, np.nan), rays, fineness, **how)


def check_warp(kernels, recorded, ideal, **how):
    random = np.random.default_rng(8)
    maps = reference.affine_maps(3, seed=8)
    maps[0] = [1, 0, 1, 0, 1, -1]  # a shift by whole pixels
    stack = random.normal(size=(3, *ideal)).astype(np.float32)
    image = random.normal(size=(3, *recorded)).astype(np.float32)
    compare(kernels, "warp", stack, np.full_like(image, np.nan), maps, **how)
    compare(kernels, "warp_adjoint", image, np.full_like(stack, np.nan), maps, **how)


def check_data_steps(kernels, shape, rho, **how):
    a = reference.data_problem(shape, seed=sum(shape))
    stacks = [a[name] for name in ("y", "projection", "counts", "offset", "scale")]
    compare(kernels, "poisson_dual", *stacks, f32(0.8), rho, **how)
    compare(kernels, "least_squares_dual", *stacks, a["weight"], f32(0.8), rho, **how)
    check_ramp(kernels, shape, rho, **how)


def check_ramp(kernels, shape, rho, **how):
    a = reference.data_problem(shape, seed=sum(shape))
    stacks = [a[name] for name in ("projection", "y", "scale")]
    factors = np.random.default_rng(3).uniform(0, 0.9, (2, shape[1])).astype(np.float32)
    room = np.full(shape, np.nan, np.float32)
    # what is scratch is left as it came
    compare(kernels, "ramp_filter", *stacks, room, factors, f32(0.8), f32(1), skip=(3,), **how)
    y, v = (a[name] * (a["scale"] > 0) for name in ("y", "counts"))
    numbers = (f32(0.8), f32(0.3), rho)
    compare(kernels, "ramp_dual", y, v, y / 2, stacks[0], a["scale"], factors, *numbers, skip=(2,), **how)


sizes = st.integers(1, 7)
