"""Objective, conjugates and proximal steps against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import PLAIN, REGULARISERS, TERMS, TILTS, data_for, dense, drifted, f32, projector, stack
from problems import one_thread as one_thread  # a fixture

from recon.solvers.data_terms import LeastSquares, Poisson
from recon.solvers.pdhg import PrimalDual

# ---------------------------------------------------------------- the objective


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_objective_is_the_formula(regulariser, term):
    operator = projector((4, 5, 6), alignment=drifted(len(TILTS)))
    data = data_for(operator, term)
    solver = PrimalDual(operator, data, regulariser=regulariser, a1=0.7, a0=0.4)
    random = np.random.default_rng(2)
    solver.u[...] = random.uniform(0, 3, solver.u.shape)
    if len(solver.w):
        solver.w[...] = reference.existing(random.normal(size=solver.w.shape))
    u, w = solver.u.astype(float), solver.w.astype(float)
    s, b, c = (a.astype(float) for a in (data.scale, data.offset, data.counts))
    m = (s * (dense(operator) @ u.ravel()).reshape(s.shape) + b)[s > 0]
    c = c[s > 0]
    if term == "poisson":
        expected = np.sum(m - c + c * np.log(np.where(c > 0, c, 1) / m))
    else:
        expected = np.sum(data.weight.astype(float)[s > 0] * (m - c) ** 2) / 2
    if regulariser != "none":
        expected += 0.7 * np.linalg.norm(reference.gradient(u) - (w if len(w) else 0), axis=0).sum()
    if regulariser == "tgv":
        expected += 0.4 * np.linalg.norm(reference.symmetrised(w), axis=0).sum()
    assert abs(solver.objective() / expected - 1) <= 1e-6


def random_term(term, seed):
    p = reference.data_problem((3, 4, 5), seed)
    used = p["scale"] > 0
    common = p["counts"] * used, p["scale"], p["offset"] * used
    data = Poisson(*common) if term == "poisson" else LeastSquares(*common, weight=p["weight"])
    return data, p, used


@pytest.mark.parametrize("term", TERMS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999))
def test_fenchel_young(term, seed):
    """D(v) + D*(y) >= <v, y>, and equal where y is the gradient of D."""
    data, p, used = random_term(term, seed)
    product = (p["scale"] * p["projection"]).astype(float)

    def slack(y):
        y = stack(y)
        return data.value(p["projection"]) + data.conjugate(y) - float(np.sum(product * y.astype(float)))

    size = data.value(p["projection"]) + 1
    y = np.where(used, p["y"], 0)
    assert slack(np.minimum(y, 0.999) if term == "poisson" else y) >= -1e-6 * size
    m = product + data.offset
    with np.errstate(invalid="ignore", divide="ignore"):
        gradient = 1 - data.counts / m if term == "poisson" else data.weight * (m - data.counts)
    gradient = np.where(used, gradient, 0)
    assert abs(slack(gradient)) <= 1e-6 * size
    assert slack(gradient - 0.1 * used) > 1e-4  # not a bound that is always met
    if term == "poisson":
        assert data.conjugate(stack(np.where(used, 1.001, 0))) == np.inf


@pytest.mark.parametrize("term", TERMS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), sigma=st.floats(0.05, 5))
def test_dual_step_is_the_prox_of_the_conjugate(term, seed, sigma):
    """y' = prox(y + sigma v) puts v' = v + (y - y') / sigma and y' on the graph of the gradient of D."""
    data, p, used = random_term(term, seed)
    y = stack(np.where(used, np.minimum(p["y"], 0.9), 0))
    new = y.copy()
    data.dual_step(new, p["projection"], sigma, PLAIN)
    assert not new[~used].any()
    point = (p["scale"] * p["projection"] + (y - new) / sigma)[used].astype(float)
    m = point + data.offset[used]
    if term == "poisson":
        assert m.min() >= -1e-4
        error = (1 - new[used]) * m - data.counts[used]
    else:
        error = data.weight[used] * (m - data.counts[used]) - new[used]
    assert np.abs(error).max() <= 1e-4  # float32, values up to 30


@pytest.mark.parametrize("seed", range(4))
def test_poisson_dual_stays_in_its_domain(seed):
    """y <= 1 to rounding even where counts are 0 and the model is large."""
    random = np.random.default_rng(seed)
    shape = (2, 3, 20000)
    y, projection = stack(random.uniform(-5, 1, shape)), stack(random.uniform(0, 1000, shape))
    one = np.ones(shape, f32)
    data = Poisson(0 * one, one, 0 * one)
    data.dual_step(y, projection, 1.3, PLAIN)
    assert y.max() <= 1 + 2e-7  # of the relaxation; measured with cancellation: 3e-5
