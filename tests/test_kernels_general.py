"""Kernels of the general projector and of layouts: against their formulas, and CUDA's bodies against the CPU's."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import compare
from test_kernels_cuda import shim, shim_library  # noqa: F401
from test_kernels_gpu import gpu  # noqa: F401

from recon.kernels import cpu, cuda

f32 = np.float32
few = settings(max_examples=20, deadline=None, derandomize=True)


def lines(shape, n_tilts, nu, seed, whole=False, level=False):
    """Random `rays` (tilt, 8), rows of the lattice, zeros at the rows' ends and pairs, as the kernels ask for them."""
    random = np.random.default_rng(seed)
    span = ceil(max(shape[:2]) + 0.3 * nu) + 2
    rays = np.stack(
        [
            random.integers(0, 2, n_tilts),
            random.uniform(-3, 3, n_tilts),
            random.choice([-1, 1], n_tilts) * random.uniform(0.4, 1.6, n_tilts),
            random.uniform(-1, 1, n_tilts),
            random.uniform(-span - 1, -span, n_tilts),
            random.uniform(-0.3, 0.3, n_tilts),
            random.uniform(-1, 1, n_tilts),
            random.uniform(1, 1.7, n_tilts),
        ],
        axis=1,
    )
    if whole:  # rays that pass voxels, and neighbours at a distance of exactly one
        rays[:, 1:7] = np.round(rays[:, 1:7])
        rays[:, 2] = np.where(rays[:, 2] == 0, 1, rays[:, 2])
    if level:
        rays[:, 5] = 0
    pairs = ceil(ceil(2 / np.abs(rays[:, 2]).min() - 1e-9) / 2)
    return rays, shape[2] + 2 * span + 2, 64, pairs


def weights(rays, shape, nu, nv):
    """``(tilt, line, row, p, q, y)`` of Joseph's model, from the description of `rays`."""
    p, q, y = np.ogrid[tuple(slice(n) for n in shape)]
    i, j = (a[..., None, None, None] for a in np.ogrid[:nu, :nv])
    out = np.zeros((len(rays), nu, nv, *shape))
    for t, r in enumerate(rays):
        plane, across = (p, q) if r[0] == 0 else (q, p)
        out[t] = reference.tent(r[1] + r[2] * i + r[3] * plane - across) * r[7]
        out[t] *= reference.tent(j + r[4] + r[5] * i + r[6] * plane - y)
    return out


def padded(volume, pad):
    return np.pad(volume, ((0, 0), (0, 0), (pad, pad)))


@few
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    nu=st.integers(1, 6),
    seed=st.integers(0, 99),
    kind=st.booleans(),
    level=st.booleans(),
)
def test_projection_is_the_formula_both_ways(shape, nu, seed, kind, level):
    rays, nv, pad, pairs = lines(shape, 2, nu, seed, kind, level)
    random, matrix = np.random.default_rng(seed), weights(rays, shape, nu, nv)
    x = random.normal(size=shape).astype(f32)
    stack = np.full((2, nu, nv), np.nan, f32)
    cpu.project_rays(padded(x, pad), stack, rays, pad)
    assert np.abs(stack - np.einsum("tijpqy,pqy->tij", matrix, x)).max() <= 2e-5
    y = random.normal(size=stack.shape).astype(f32)
    volume = np.full(shape, np.nan, f32)
    cpu.backproject_rays(y, volume, rays, pairs)
    assert np.abs(volume - np.einsum("tijpqy,tij->pqy", matrix, y)).max() <= 2e-5


def test_long_rows_are_added_by_whole_vectors():
    """Rows of more than four vectors, with rests of one to three and of none, level and oblique lines."""
    for seed, (length, level) in enumerate([(70, False), (90, True), (101, False), (128, True)]):
        rays, nv, pad, pairs = lines((3, 4, length), 3, 5, seed, level=level)
        random, matrix = np.random.default_rng(seed), weights(rays, (3, 4, length), 5, nv)
        x = random.normal(size=(3, 4, length)).astype(f32)
        stack = np.full((3, 5, nv), np.nan, f32)
        cpu.project_rays(padded(x, pad), stack, rays, pad)
        assert np.abs(stack - np.einsum("tijpqy,pqy->tij", matrix, x, optimize=True)).max() <= 2e-5
        y = random.normal(size=stack.shape).astype(f32)
        volume = np.full(x.shape, np.nan, f32)
        cpu.backproject_rays(y, volume, rays, pairs)
        assert np.abs(volume - np.einsum("tijpqy,tij->pqy", matrix, y, optimize=True)).max() <= 3e-5


def check_projection(kernels, shape, nu, n_tilts, seed=0, whole=False, **how):
    rays, nv, pad, pairs = lines(shape, n_tilts, nu, seed, whole)
    random = np.random.default_rng(seed)
    volume = random.normal(size=shape).astype(f32)
    stack = random.normal(size=(n_tilts, nu, nv)).astype(f32)
    compare(kernels, "project_rays", padded(volume, pad), np.full_like(stack, np.nan), rays, pad, **how)
    compare(kernels, "backproject_rays", stack, np.full_like(volume, np.nan), rays, pairs, **how)


CASES = [((1, 1, 1), 1, 1), ((5, 4, 9), 7, 3), ((70, 3, 2), 4, 2), ((3, 67, 33), 5, 2), ((2, 3, 5), 3, 40)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("shape", "nu", "n_tilts"), CASES)
def test_cuda_bodies_are_the_cpus(shim, shape, nu, n_tilts, whole):  # noqa: F811
    """More planes, and more lines in all, than a block of threads prepares at a time."""
    check_projection(shim, shape, nu, n_tilts, whole=whole)


LAYOUTS = [(1, 1, 1), (3, 5, 7), (2, 8, 16), (9, 33, 70), (70, 3, 41)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", LAYOUTS)
def test_layouts(shim, shape, axis):  # noqa: F811
    a = np.random.default_rng(0).normal(size=shape).astype(f32)
    turned = np.ascontiguousarray(a.swapaxes(axis, 2))
    out = np.full_like(turned, np.nan)
    cpu.exchange(a, out, axis)
    assert np.array_equal(out, turned)
    cpu.exchange_add(a, out, axis)
    assert np.array_equal(out, 2 * turned)
    compare(shim, "exchange", a, out, axis)
    between = np.zeros((*turned.shape[:2], turned.shape[2] + 20), f32)
    cpu.exchange(a, between, axis, 12)
    assert np.array_equal(between, np.pad(turned, ((0, 0), (0, 0), (12, 8))))
    compare(shim, "exchange", a, between, axis, 12)
    compare(shim, "exchange_add", a, out, axis)
    wide = np.zeros((*shape[:2], shape[2] + 6), f32)
    cpu.pad_rows(a, wide, 3)
    assert np.array_equal(wide, padded(a, 3))
    compare(shim, "pad_rows", a, wide, 3)
    cpu.add(a, twice := a.copy())
    assert np.array_equal(twice, 2 * a)
    compare(shim, "add", a, twice)


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "nu", "n_tilts"), [*CASES, ((37, 61, 203), 70, 9)])
def test_projection_on_gpu(gpu, shape, nu, n_tilts):  # noqa: F811
    check_projection(cuda, shape, nu, n_tilts, **gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", LAYOUTS)
def test_layouts_on_gpu(gpu, shape):  # noqa: F811
    a = np.random.default_rng(0).normal(size=shape).astype(f32)
    for axis in (0, 1):
        compare(cuda, "exchange", a, np.ascontiguousarray(a.swapaxes(axis, 2)), axis, **gpu)
