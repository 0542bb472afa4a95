"""Small problems, and their minima by an independent conic solver.

They are written down once more as conic programs from dense matrices: A from the projector on unit vectors, the
differences from `reference`. CVXPY and Clarabel solve them to about 1e-8.
"""

from __future__ import annotations

import cvxpy as cp
import numba
import numpy as np
import pytest
import reference
from scipy.sparse import csr_matrix

from recon.operators import aligned_projector
from recon.series.alignment import Alignment
from recon.solvers.data_terms import LeastSquares, Poisson

f32 = np.float32


HOST = np.empty(0, f32)


TILTS = (-60, -25, 5, 40, 70)


TERMS = ("poisson", "least-squares")


REGULARISERS = ("tgv", "tv", "none")


PLAIN = f32(1)  # rho


@pytest.fixture(autouse=True)
def one_thread():
    """Problems of a few hundred voxels: waking a second thread takes longer than the work."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def stack(a):
    return np.ascontiguousarray(a, dtype=f32)


def projector(shape, tilts=TILTS, nu=None, alignment=None):
    """A on volumes `shape` = (z, x, y); warped into the recorded frames if an alignment is given."""
    nz, nx, ny = shape
    detector = (ny, nu or nx)
    return aligned_projector(tilts, alignment or Alignment.identity(len(tilts)), detector, (nz, ny, nx), HOST)


def drifted(n, seed=0):
    return Alignment(np.random.default_rng(seed).uniform(-1, 1, (n, 2)), 3.0, 0.4)


def dense(operator):
    """The operator's matrix, from its values on unit vectors; rows (tilt, u, y), columns (z, x, y)."""
    out = np.empty(operator.range_shape, f32)
    return reference.matrix(lambda x: operator(stack(x), out).astype(float), operator.domain_shape)


def data_for(operator, term, seed=0, dose=8.0, background=0.3):
    """Counts of a block in a block, with exposures, a tenth of the pixels left out, and background."""
    random = np.random.default_rng(seed)
    nz, nx, _ = operator.domain_shape
    truth = np.zeros(operator.domain_shape, f32)
    truth[nz // 6 : nz - nz // 6, nx // 6 : nx - nx // 6] = dose / 15
    truth[nz // 3 : nz - nz // 3, nx // 4 : nx // 2 + 1] *= 3
    used = random.uniform(size=operator.range_shape) > 0.1
    scale = used * random.uniform(0.5, 1.5, (operator.range_shape[0], 1, 1))
    mean = scale * operator(truth, np.empty(operator.range_shape, f32)) + background * used
    arrays = stack(random.poisson(mean)), stack(scale), stack(background * used)
    if term == "poisson":
        return Poisson(*arrays)
    return LeastSquares(*arrays, weight=stack(used / np.maximum(mean, 0.5)))


def data_cost(matrix, data, u):
    """The data term of u for Clarabel, over the pixels in use."""
    s, b, c = (np.asarray(a, float).ravel() for a in (data.scale, data.offset, data.counts))
    used = s > 0
    m, c = (s[:, None] * matrix)[used] @ u + b[used], c[used]
    if isinstance(data, Poisson):
        some = np.flatnonzero(c)
        return cp.sum(m) - c[some] @ cp.log(m[some]) + np.sum(c[some] * np.log(c[some]) - c[some])
    return cp.sum_squares(cp.multiply(np.sqrt(np.asarray(data.weight, float).ravel()[used] / 2), m - c))


def norms(v, n):
    """The sum over voxels of the lengths of n components each, which v holds one after the other."""
    return cp.sum(cp.norm(cp.reshape(v, (n, v.size // n), order="C"), 2, axis=0))


def conic(operator, data, regulariser, a1, a0, upper=np.inf):
    """(minimum, minimiser u) of the problem of `PrimalDual`, by Clarabel."""
    return conic_fields(operator, data, regulariser, a1, a0, upper)[:2]


def conic_fields(operator, data, regulariser, a1, a0, upper=np.inf):
    """The same, and the minimiser w, ``(3, z, x, y)`` or without components."""
    shape, matrix = operator.domain_shape, dense(operator)
    u = cp.Variable(matrix.shape[1], nonneg=True)
    cost, slope = data_cost(matrix, data, u), np.zeros((0, *shape))
    if regulariser != "none":
        residual = csr_matrix(reference.matrix(reference.gradient, shape)) @ u
        if regulariser == "tgv":
            w = cp.Variable(3 * u.size)
            residual = residual - csr_matrix(reference.matrix(reference.existing, (3, *shape))) @ w
            cost += a0 * norms(csr_matrix(reference.matrix(reference.symmetrised, (3, *shape))) @ w, 6)
        cost += a1 * norms(residual, 3)
    problem = cp.Problem(cp.Minimize(cost), [u <= upper] if np.isfinite(upper) else [])
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    if regulariser == "tgv":
        slope = reference.existing(w.value.reshape(3, *shape))
    return problem.value, u.value.reshape(shape), slope
