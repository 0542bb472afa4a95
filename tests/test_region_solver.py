"""The problem of a region against an independent conic solver: its step, its mean, its objective, its certificate."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import reference
from problems import data_cost, dense, norms
from scipy.sparse import csr_matrix

from recon.model.assembly import aligned_projector
from recon.series.alignment import Alignment
from recon.solvers.data_terms import LeastSquares, Poisson
from recon.solvers.pdhg import PrimalDual
from recon.solvers.regions import RegionSolver

SHAPE = (7, 8, 6)  # (z, x, y)
TILTS = (-60, -25, 5, 40, 70)
A1, A0 = 0.5, 0.6
f32 = np.float32


def projector(shape):
    nz, nx, ny = shape
    return aligned_projector(TILTS, Alignment.identity(len(TILTS)), (ny, nx), (nz, ny, nx), np.empty(0, f32))


def fields():
    """A block with a soft face, and a second that touches two faces of the volume."""
    a, b = np.zeros(SHAPE, f32), np.zeros(SHAPE, f32)
    a[2:5, 3:6, 2:5] = 1
    a[2:5, 6, 2:5] = 0.4
    b[:2, 1:4, :3] = 1
    return [a, b]


def recorded(operator, term):
    random = np.random.default_rng(0)
    truth = np.zeros(SHAPE, f32)
    truth[1:6, 1:7, 1:5] = 1.2
    truth[2:5, 3:6, 2:5] = 0.2
    used = random.uniform(size=operator.range_shape) > 0.1
    scale = used * random.uniform(0.5, 1.5, (operator.range_shape[0], 1, 1))
    mean = scale * operator(truth, np.empty(operator.range_shape, f32)) + 0.3 * used
    arrays = [np.ascontiguousarray(a, f32) for a in (random.poisson(mean), scale, 0.3 * used)]
    if term == "poisson":
        return Poisson(*arrays)
    return LeastSquares(*arrays, weight=np.ascontiguousarray(used / np.maximum(mean, 0.5), f32))


def conic(operator, data, regulariser, regions):
    """(minimum, u, c) by Clarabel, from dense matrices."""
    matrix = dense(operator)
    u, step = cp.Variable(matrix.shape[1], nonneg=True), cp.Variable(len(regions))
    cost = data_cost(matrix, data, u)
    flat = u - np.stack([f.ravel() for f in regions], axis=1) @ step
    residual = csr_matrix(reference.matrix(reference.gradient, SHAPE)) @ flat
    if regulariser == "tgv":
        w = cp.Variable(3 * u.size)
        residual = residual - csr_matrix(reference.matrix(reference.existing, (3, *SHAPE))) @ w
        cost += A0 * norms(csr_matrix(reference.matrix(reference.symmetrised, (3, *SHAPE))) @ w, 6)
    problem = cp.Problem(cp.Minimize(cost + A1 * norms(residual, 3)))
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return problem.value, u.value.reshape(SHAPE), step.value


@pytest.mark.parametrize(("term", "regulariser"), [("poisson", "tgv"), ("least-squares", "tgv"), ("poisson", "tv")])
def test_step_and_mean_are_those_of_a_conic_solver(term, regulariser):
    operator, regions = projector(SHAPE), fields()
    data = recorded(operator, term)
    best, minimiser, steps = conic(operator, data, regulariser, regions)
    solver = RegionSolver(operator, data, regions, regulariser=regulariser, a1=A1, a0=A0)
    solution = solver.run(1e-6, 3000, check_every=500)
    assert abs(solution.objective - best) <= 1e-5 * best
    assert solution.gap <= 1e-4  # measured: 1e-6 to 1e-5
    top = float(minimiser.max())
    np.testing.assert_allclose(solver.c, steps, atol=1e-4 * top)
    for f in regions:
        mean, expected = (float((f * v).sum() / f.sum()) for v in (solution.value, minimiser))
        assert abs(mean - expected) <= 1e-4 * top


def test_without_regions_it_is_the_usual_iteration():
    operator = projector(SHAPE)
    data = recorded(operator, "poisson")
    one, other = PrimalDual(operator, data, a1=A1, a0=A0), RegionSolver(operator, data, [], a1=A1, a0=A0)
    for solver in (one, other):
        solver.advance(30)
    np.testing.assert_array_equal(one.u, other.u)


def test_a_border_step_is_the_formula():
    """One step from a random state, against NumPy on the whole volume."""
    operator, regions = projector(SHAPE), fields()
    data, random = recorded(operator, "poisson"), np.random.default_rng(1)
    solver = RegionSolver(operator, data, regions, a1=A1, a0=A0, start=random.uniform(0, 2, SHAPE).astype(f32))
    solver.p[...] = reference.existing(random.normal(size=solver.p.shape) * 0.2)
    solver.w[...] = reference.existing(random.normal(size=solver.w.shape) * 0.2)
    solver.c[...] = random.normal(size=2)
    u, w, p, c = (np.array(a, float) for a in (solver.u, solver.w, solver.p, solver.c))
    sigma = solver.weights.sigma_p
    tau = 0.2 / sigma
    solver.step()  # z <- T(z)
    gradients = [reference.gradient(f.astype(float)) for f in regions]
    gram = np.array([[np.sum(a * b) for b in gradients] for a in gradients])
    size = np.sqrt(np.diag(gram))
    together = np.linalg.norm(gram / np.outer(size, size), 2)
    new = c + np.array([tau / (n**2 * together) * np.sum(g * p) for n, g in zip(size, gradients, strict=True)])
    np.testing.assert_allclose(solver.c, new, rtol=1e-5)
    bar = 2 * solver.u - u - sum(b * f for b, f in zip(2 * new - c, regions, strict=True))
    inner = p + sigma * (reference.gradient(bar) - reference.existing(2 * solver.w - w))
    inner /= np.maximum(np.linalg.norm(inner, axis=0) / A1, 1)
    np.testing.assert_allclose(solver.p, inner, atol=2e-5)
