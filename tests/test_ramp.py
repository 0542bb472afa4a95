"""The metric of the data's dual: the ramp against dense matrices, its norm, and one step against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from problems import data_for, dense, drifted, f32, projector
from problems import one_thread as one_thread  # a fixture
from test_step_sizes import root_of_ramp

from recon.series.alignment import Alignment
from recon.solvers import Status
from recon.solvers.pdhg import PrimalDual
from recon.solvers.ramp import Ramp

MANY = np.arange(-70, 71, 4)


def small(seed=0, tilts=MANY, shape=(5, 6, 3), term="poisson"):
    operator = projector(shape, tilts, None, drifted(len(tilts), seed))
    return operator, data_for(operator, term, seed)


def dense_ramp(data):
    """R of the pixels in use."""
    used = (data.scale > 0).ravel()
    return used[:, None] * reference.ramp(*data.scale.shape) * used


@pytest.mark.parametrize("tilts", [MANY, MANY[::4]])
def test_it_is_the_matrix_that_the_module_says(tilts):
    operator, data = small(tilts=tilts)
    ramp = Ramp.of(operator, data.scale)
    stack = np.random.default_rng(1).normal(size=data.scale.shape).astype(f32) * (data.scale > 0)
    found = data.scale * ramp.filter(stack.copy(), np.empty_like(stack))
    exact = dense_ramp(data) @ (data.scale * stack).ravel()
    assert np.abs(found.ravel() - exact).max() <= 1e-6 * np.abs(exact).max()
    values = np.linalg.eigvalsh(reference.ramp(*data.scale.shape))
    assert values.min() == pytest.approx(max(np.pi / len(tilts), 0.2))
    assert values.max() <= 1 + 1e-12


def test_travel_is_measured_with_its_inverse():
    operator, data = small()
    data.scale[...] = np.abs(data.scale) + f32(0.1)  # all pixels in use, where the inverse is that of the whole
    now, before = (np.random.default_rng(k).normal(size=data.scale.shape).astype(f32) for k in (1, 2))
    change = (now - before).astype(float).ravel()
    exact = change @ np.linalg.solve(reference.ramp(*data.scale.shape), change)
    assert Ramp.of(operator, data.scale).squared_change(now, before) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("tilts", [MANY, MANY[::4]])
@pytest.mark.parametrize("shape", [(5, 6, 3), (9, 8, 1), (1, 8, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_norm_is_from_above_and_close(shape, tilts, seed):
    operator, data = small(seed, tilts, shape)
    data.scale[..., -1] *= 3  # one slice is brighter than the others
    solver = PrimalDual(operator, data)
    matrix = root_of_ramp(solver) @ (data.scale.ravel()[:, None] * dense(operator))
    assert 1.0 <= solver.weights.norm_a / np.linalg.norm(matrix, 2) <= 1.011


@pytest.mark.parametrize("term", ["poisson", "least-squares"])
def test_a_step_is_the_minimum_that_it_stands_for(term):
    """v' minimises ``D(v) - <y, v> + sigma/2 |s A u_bar - v|_R^2 + sigma/2 |v - v0|_(1 - R)^2``; y' follows."""
    operator, data = small(tilts=MANY[::4], shape=(3, 4, 2), term=term)
    data.offset[...] = np.maximum(data.offset, f32(0.2))
    used, ramp = data.scale > 0, Ramp.of(operator, data.scale)
    random = np.random.default_rng(4)
    y, v = (random.uniform(0, 0.5, size=used.shape).astype(f32) * used for _ in range(2))
    seen, sigma = random.uniform(0, 2, size=used.shape).astype(f32), 0.7
    r, target = dense_ramp(data), (data.scale * seen).astype(float).ravel()

    def cost(x):
        far, moved = target - x, x - v.ravel()
        if (x + data.offset.ravel() < -1e-6).any():  # no counts are fewer than none
            return np.inf
        there = np.where(used, x.reshape(used.shape) / np.where(used, data.scale, 1), 0)
        quadratic = sigma / 2 * (far @ r @ far + moved @ (moved - r @ moved))
        return float(data.terms(there.astype(f32)).sum()) - float(y.ravel() @ x) + quadratic

    y1, v1, ahead, stack = y.copy(), v.copy(), np.empty_like(y), seen.copy()
    ramp.ahead(stack, v1, ahead)
    ahead[...] = y
    data.dual_step(ahead, stack, sigma, f32(1))
    assert np.abs(ahead).max() > 0.1
    ramp.dual_step(y1, v1, ahead, stack, sigma, f32(1))
    best = cost(v1.ravel().astype(float))
    for direction in random.normal(size=(20, v.size)) * used.ravel():
        for length in (1e-2, -1e-2):
            assert cost(v1.ravel() + length * direction) > best
    exact = y.ravel() + sigma * r @ (target - v1.ravel())
    assert np.abs(y1.ravel() - exact).max() <= 1e-5


def test_no_ramp_where_it_does_not_apply():
    """Few tilts, rows that run across the axis instead of along it, and a volume one voxel thick."""
    shape, tilts = (6, 6, 6), MANY
    across = projector(shape, tilts, None, Alignment(np.zeros((len(tilts), 2)), 90.0))
    for operator in (projector(shape, MANY[:3]), across, projector((1, 6, 6), tilts)):
        data = data_for(operator, "poisson")
        assert Ramp.of(operator, data.scale) is None
        solver = PrimalDual(operator, data)
        assert solver.v.size == 0
        assert solver.run(1e-2, 500).status is Status.CONVERGED
    assert Ramp.of(projector(shape, tilts), data.scale) is not None
