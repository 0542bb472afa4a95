"""Projection with pairs that are kept gives the bits of projection that finds them each time."""

import gc

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.geometry.tilt_geometry import TiltGeometry
from recon.kernels import cpu, cpu_kept
from recon.operators.joseph import JosephProjector
from recon.solvers.memory import needed


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 20)),
    nu=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_kept_pairs_give_the_same_bits(shape, nu, seed):
    random = np.random.default_rng(seed)
    tilts = np.append(np.radians([-90, 0, 45]), random.uniform(-np.pi, np.pi, 2))
    fineness = 1 + seed % 3
    rays = reference.rays(tilts, nu, random.uniform(-9, 9, tilts.size), fineness)
    volume = random.normal(size=shape).astype(np.float32)
    stack = random.normal(size=(tilts.size, nu, shape[2])).astype(np.float32)
    kept = cpu_kept.Kept(shape[:2], nu, rays, fineness)
    for _ in range(2):  # found, and found again
        out, expected = (np.full_like(stack, np.nan) for _ in range(2))
        cpu.project(volume, expected, rays, fineness)
        kept.project(volume, out)
        np.testing.assert_array_equal(out, expected)
        back, expected = (np.full_like(volume, np.nan) for _ in range(2))
        cpu.backproject(stack, expected, rays, fineness)
        kept.backproject(stack, back)
        np.testing.assert_array_equal(back, expected)


def test_they_are_shared_as_long_as_somebody_holds_them():
    rays = reference.rays(np.radians([-30, 0, 30]), 12)
    one, two = (cpu_kept.Kept.of((9, 8), 12, rays.copy(), 1) for _ in range(2))
    assert one is two
    assert cpu_kept.Kept.of((9, 8), 12, rays, 2) is not one
    assert cpu_kept.Kept.of((8, 9), 12, rays, 1) is not one
    before = len(cpu_kept._shared)
    del one, two
    gc.collect()
    assert len(cpu_kept._shared) == before - 1


def test_too_many_are_found_each_time(monkeypatch):
    geometry = TiltGeometry.single_axis([-30, 0, 30], (5, 12), (9, 5, 8))
    volume = np.random.default_rng(0).normal(size=(9, 8, 5)).astype(np.float32)
    out, other = np.empty((3, 12, 5), np.float32), np.empty((3, 12, 5), np.float32)
    JosephProjector(geometry, volume)(volume, out)
    monkeypatch.setattr(cpu_kept, "MOST_PAIRS", 12 * 3 * 12 * 9 - 1)
    assert cpu_kept.Kept.of((9, 8), 12, reference.rays(np.radians([-30, 0, 30]), 12), 1) is None
    few = JosephProjector(geometry, volume)
    assert few._kept is None
    np.testing.assert_array_equal(few(volume, other), out)


@pytest.mark.parametrize(("edge", "n_tilts"), [(24, 9), (40, 15)])
def test_what_they_take_is_counted(edge, n_tilts):
    geometry = TiltGeometry.single_axis(np.linspace(-70, 70, n_tilts), (edge, edge), (edge,) * 3)
    operator = JosephProjector(geometry, np.empty(0, np.float32))
    operator(np.ones(operator.domain_shape, np.float32), np.empty(operator.range_shape, np.float32))
    operator.adjoint(np.ones(operator.range_shape, np.float32), np.empty(operator.domain_shape, np.float32))
    held = sum(a.nbytes for a in (*operator._kept._rays, *operator._kept._voxels))
    size = (edge,) * 3, n_tilts, (edge, edge), 1, "tgv"
    counted = needed(*size, "cpu").host - needed(*size, "cuda").device + 14 / 8 * 4 * edge**3  # see test_memory
    assert held <= counted <= 3 * held  # for a rotated axis, which has twice the columns
