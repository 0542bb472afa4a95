"""Several channels together: proximal maps against SVDs, minima and certificates against a conic solver."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import data_cost, data_for, dense, drifted, f32, projector
from problems import one_thread as one_thread  # a fixture
from scipy.sparse import csr_matrix

from recon.errors import JobError
from recon.kernels import cpu
from recon.solvers import Status
from recon.solvers.channels import COUPLINGS, Channel
from recon.solvers.coupled import CoupledPrimalDual
from recon.solvers.memory import needed
from recon.solvers.pdhg import PrimalDual

few = settings(max_examples=20, deadline=None, derandomize=True)

# ---------------------------------------------------------------- norms and projections, by SVDs


def matrices(field):
    """(voxel, channel, component)."""
    return np.moveaxis(field.reshape(*field.shape[:2], -1), 2, 0).astype(float)


def as_field(m, shape):
    return np.moveaxis(m, 0, 2).reshape(shape)


def onto_dual_ball(field, radius, coupling):
    m = matrices(field)
    if coupling == "frobenius":
        lengths = np.linalg.norm(m, axis=(1, 2), keepdims=True)
        return as_field(m / np.maximum(1, lengths / radius), field.shape)
    left, s, right = np.linalg.svd(m, full_matrices=False)
    return as_field((left * np.minimum(s, radius)[:, None]) @ right, field.shape)


def norm(field, coupling):
    return np.linalg.norm(matrices(field), "fro" if coupling == "frobenius" else "nuc", axis=(1, 2)).sum()


def random_field(channels, components, seed):
    """Of all ranks: no gradient at all, gradients side by side, and such as nothing has in common."""
    random = np.random.default_rng(seed)
    field = random.normal(size=(channels, components, 3, 4, 5))
    field[:, :, 0, 0] = 0
    field[:, :, 1] = random.normal(size=(channels, 1, 1, 1)) * field[:1, :, 1]
    field[-1, :, 2, 0] = 1e-4 * field[-1, :, 2, 0]
    return field.astype(f32)


fields = st.builds(random_field, st.integers(1, 6), st.sampled_from([3, 6]), st.integers(0, 99))


@pytest.mark.parametrize("coupling", COUPLINGS)
@few
@given(field=fields, radius=st.sampled_from([0.3, 1.4, 50.0]), rho=st.sampled_from([1.0, 1.6]))
def test_the_dual_step_ends_where_singular_values_are_cut(coupling, field, radius, rho):
    dual = np.roll(field, 1, axis=2)
    expected = dual + rho * (onto_dual_ball(field, radius, coupling) - dual)
    cpu.coupled_dual(dual, field, f32(radius), coupling == "nuclear", f32(rho))
    np.testing.assert_allclose(dual, expected, atol=5e-6)


@pytest.mark.parametrize("coupling", COUPLINGS)
@few
@given(field=fields)
def test_norms_are_those_of_numpy(coupling, field):
    sums = np.full((field.shape[2], 2), np.nan)
    cpu.coupled_norms(field, coupling == "nuclear", sums)
    lengths = np.linalg.norm(matrices(field), "fro" if coupling == "frobenius" else 2, axis=(1, 2))
    assert sums[:, 0].sum() == pytest.approx(norm(field, coupling), rel=1e-6)
    assert sums[:, 1].max() == pytest.approx(lengths.max(), rel=1e-6)


@pytest.mark.parametrize("coupling", COUPLINGS)
@few
@given(field=fields)
def test_moreau(coupling, field):
    """A field less its projection is where the norm is reached: |v| = <v, P(field)>, v = field - P(field)."""
    nearest = np.zeros_like(field)
    cpu.coupled_dual(nearest, field, f32(0.8), coupling == "nuclear", f32(1))
    rest = field.astype(float) - nearest
    assert 0.8 * norm(rest, coupling) == pytest.approx(np.vdot(rest, nearest), rel=1e-5, abs=1e-4)


# ---------------------------------------------------------------- minima, by a conic solver


def channels_of(shape, terms, seed=0, strengths=(0.5, 0.3, 0.8), doses=(8.0, 20.0, 3.0)):
    """Channels with tilts and frames of their own, and data of different doses."""
    out = []
    for k, term in enumerate(terms):
        tilts = ((-60, -25, 5, 40, 70), (-45, 0, 50), (-70, -40, -10, 20, 50, 65))[k]
        operator = projector(shape, tilts, shape[1] + k, drifted(len(tilts), seed) if k == 1 else None)
        out.append(Channel(operator, data_for(operator, term, seed + k, doses[k]), strengths[k]))
    return out


def joint(rows, n, coupling):
    """The sum over voxels of the norms of the matrices whose rows hold n components each, one after the other."""
    voxels = rows[0].size // n
    if coupling == "frobenius":
        return cp.sum(cp.norm(cp.vstack([cp.reshape(r, (n, voxels), order="C") for r in rows]), 2, axis=0))
    parts = [cp.reshape(r, (n, voxels), order="C") for r in rows]
    return cp.sum([cp.normNuc(cp.vstack([p[:, i] for p in parts])) for i in range(voxels)])


def conic(channels, coupling, regulariser, ratio=2.0):
    """(minimum, minimisers u_k), by Clarabel."""
    shape = channels[0].operator.domain_shape
    volumes, cost, first, second = [], 0, [], []
    for channel in channels:
        matrix = dense(channel.operator)
        u = cp.Variable(matrix.shape[1], nonneg=True)
        cost += data_cost(matrix, channel.data, u)
        residual = csr_matrix(reference.matrix(reference.gradient, shape)) @ u
        if regulariser == "tgv":
            w = cp.Variable(3 * u.size)
            residual = residual - csr_matrix(reference.matrix(reference.existing, (3, *shape))) @ w
            second.append(channel.a1 * (csr_matrix(reference.matrix(reference.symmetrised, (3, *shape))) @ w))
        first.append(channel.a1 * residual)
        volumes.append(u)
    cost += joint(first, 3, coupling) + (ratio * joint(second, 6, coupling) if second else 0)
    problem = cp.Problem(cp.Minimize(cost))
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-6, tol_gap_rel=1e-7, tol_feas=1e-7)
    assert problem.status == cp.OPTIMAL
    return problem.value, [u.value.reshape(shape) for u in volumes]


PROBLEMS = [
    ("frobenius", "tgv", (4, 5, 3), ("poisson", "poisson")),
    ("frobenius", "tv", (4, 5, 3), ("poisson", "least-squares", "poisson")),
    ("nuclear", "tgv", (3, 3, 3), ("poisson", "least-squares")),
    ("nuclear", "tv", (3, 4, 2), ("poisson", "poisson", "least-squares")),
]


@pytest.mark.parametrize(("coupling", "regulariser", "shape", "terms"), PROBLEMS)
def test_minimum_and_certificate(coupling, regulariser, shape, terms):
    """It ends at the conic solver's minimum, and no gap on the way is smaller than the true one."""
    channels = channels_of(shape, terms)
    best, minimisers = conic(channels, coupling, regulariser)
    highest = [1.5 * float(u.max()) for u in minimisers]
    solver = CoupledPrimalDual(channels, coupling, regulariser=regulariser, uppers=highest)
    bounds = []
    solution = solver.run(1e-5, 20000, check_every=20, callback=lambda _: bounds.append(solver.lower_bound()))
    assert solution.status is Status.CONVERGED
    assert max(bounds) <= best * (1 + 1e-6)
    assert min(r.objective for r in solution.history) >= best * (1 - 1e-6)
    assert all(r.gap * r.objective >= r.objective - best - 1e-6 * best for r in solution.history)
    assert solution.objective == pytest.approx(best, rel=1.2e-5)
    assert bounds[0] < best * (1 - 1e-3)  # it had to close


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("term", ["poisson", "least-squares"])
def test_one_channel_is_the_element_alone(coupling, term):
    channel = channels_of((6, 7, 5), (term,))[0]
    alone = PrimalDual(channel.operator, channel.data, a1=channel.a1, a0=2 * channel.a1)
    found = alone.run(1e-4, 5000)
    one = CoupledPrimalDual([channel], coupling)
    solution = one.run(1e-4, 5000)
    assert solution.objective == pytest.approx(found.objective, rel=2e-4)
    np.testing.assert_allclose(solution.value[0], found.value, atol=2e-2 * found.value.max())
    assert one.parameters_of(0).a0 == pytest.approx(2 * channel.a1)


def test_the_norm_of_the_joint_operator_is_below_one_in_its_steps():
    """|S^1/2 K T^1/2| by a dense matrix, at the start and after balances; K of all channels with one sigma."""
    shape = (3, 4, 3)
    solver = CoupledPrimalDual(channels_of(shape, ("poisson", "least-squares")), "nuclear")
    differences = reference.matrix(reference.gradient, shape)
    exists, second = (reference.matrix(f, (3, *shape)) for f in (reference.existing, reference.symmetrised))
    for _ in range(2):
        assert len({round(w.sigma_p, 12) for w in solver.channel_weights}) == 1
        for operator, data, weights in solver._channels():
            a = data.scale.ravel()[:, None] * dense(operator) * (weights.sigma_y * weights.tau) ** 0.5
            d = (weights.sigma_p * weights.tau) ** 0.5
            zero = np.zeros((len(a), exists.shape[1]))
            k = np.block([[a, zero], [d * differences, -d * exists], [np.zeros((len(second), a.shape[1])), d * second]])
            assert 0.5 < np.linalg.norm(k, 2) < 1
        solver.advance(100)


# ---------------------------------------------------------------- stop and go on


def test_it_goes_on_to_the_bit():
    channels = channels_of((5, 6, 4), ("poisson", "least-squares"))
    whole, first, second = (CoupledPrimalDual(channels, "nuclear") for _ in range(3))
    whole.run(1e-9, 80, check_every=20)
    first.run(1e-9, 40, check_every=20)
    state = first.state()
    second.restore(type(state)({n: a.copy() for n, a in state.arrays.items()}, state.numbers, state.history))
    solution = second.run(1e-9, 80, check_every=20)
    np.testing.assert_array_equal(second.value(), whole.value())
    assert [r.iteration for r in solution.history] == [r.iteration for r in whole.history]
    with pytest.raises(ValueError, match="the state holds"):
        CoupledPrimalDual(channels, "frobenius").restore(state)


def test_what_cannot_be_coupled():
    two = channels_of((5, 6, 4), ("poisson", "poisson"))
    with pytest.raises(JobError, match="coupling 'nucular' is unknown; use one of frobenius, nuclear"):
        CoupledPrimalDual(two, "nucular")
    with pytest.raises(JobError, match=r"volume of \(5, 6, 3\) voxels \(z, x, y\), channel 0 of \(5, 6, 4\)"):
        CoupledPrimalDual([two[0], *channels_of((5, 6, 3), ("poisson",))])
    with pytest.raises(JobError, match="7 channels cannot be coupled; take 1 to 6"):
        CoupledPrimalDual(two[:1] * 7)
    with pytest.raises(JobError, match="the strength of channel 0 is -1; it must be positive"):
        CoupledPrimalDual([Channel(two[0].operator, two[0].data, -1.0)])


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("regulariser", ["tgv", "tv"])
def test_stated_memory_is_that_of_its_arrays(regulariser):
    """Of a large volume, whose arrays outweigh all else: with what a balance keeps, and the result."""
    n, channels = 64, channels_of((64, 64, 64), ("poisson", "least-squares"))
    solver = CoupledPrimalDual(channels, regulariser=regulariser)
    held = [solver.u, solver.u_bar, solver.w, solver.w_bar, solver.p, solver.q, solver._ahead_p, solver._ahead_q]
    held += [solver._g, *solver._sensitivity, *(a for b in solver.balances for a in b.before), solver.value()]
    taken = sum(a.nbytes for a in held)
    stated = needed((n, n, n), 5, (n, n), 2, regulariser, channels=2).host
    stacks = needed((1, n, n), 5, (n, n), 2, regulariser, channels=2).host
    assert taken <= stated <= 1.15 * taken + stacks
