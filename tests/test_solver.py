"""The solvers against an independent conic solver, closed forms and plain NumPy loops.

Small problems are written down once more as conic programs from dense matrices: A from the projector on
unit vectors, the differences from `reference`. CVXPY and Clarabel solve them to about 1e-8.
"""

from __future__ import annotations

import astra
import cvxpy as cp
import numba
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix

from recon.model.assembly import make_data_term, make_operator
from recon.operators import aligned_projector, norm_estimate
from recon.reconstruction.reconstruct import reconstruct
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries
from recon.solvers import Status
from recon.solvers.bounds import largest_gain
from recon.solvers.data_terms import LeastSquares, Poisson
from recon.solvers.fbp import fbp
from recon.solvers.pdhg import PrimalDual
from recon.solvers.sirt import sirt

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


def conic(operator, data, regulariser, a1, a0, upper=np.inf):
    """(minimum, minimiser u) of the problem of `PrimalDual`, by Clarabel."""
    shape, matrix = operator.domain_shape, dense(operator)
    s, b, c = (np.asarray(a, float).ravel() for a in (data.scale, data.offset, data.counts))
    used = s > 0
    u = cp.Variable(matrix.shape[1], nonneg=True)
    m, c = (s[:, None] * matrix)[used] @ u + b[used], c[used]
    if isinstance(data, Poisson):
        some = np.flatnonzero(c)
        cost = cp.sum(m) - c[some] @ cp.log(m[some]) + np.sum(c[some] * np.log(c[some]) - c[some])
    else:
        cost = cp.sum_squares(cp.multiply(np.sqrt(np.asarray(data.weight, float).ravel()[used] / 2), m - c))

    def norms(v, n):
        return cp.sum(cp.norm(cp.reshape(v, (n, u.size), order="C"), 2, axis=0))

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
    return problem.value, u.value.reshape(shape)


# ---------------------------------------------------------------- the minimum


CASES = {
    "volume": ((6, 7, 5), None),
    "aligned": ((6, 7, 5), drifted(len(TILTS))),
    "one slice": ((8, 7, 1), None),
    "one layer": ((1, 7, 5), None),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_minimum_is_that_of_a_conic_solver(regulariser, term, case):
    shape, alignment = CASES[case]
    operator = projector(shape, alignment=alignment)
    data = data_for(operator, term)
    best, minimiser = conic(operator, data, regulariser, 0.5, 0.3)
    upper = 1.5 * float(minimiser.max())
    solver = PrimalDual(operator, data, regulariser=regulariser, a1=0.5, a0=0.3, upper=upper)
    solution = solver.run(1e-6, 8000, check_every=500)
    assert abs(solution.objective - best) <= 1e-5 * best  # measured: below 2e-6
    assert solution.gap <= 1e-5  # the certificate closes, not only the iteration; measured: below 3e-6


def test_ways_on_a_sample_of_planes_stand_for_the_whole():
    """What the weights are balanced with; without the share of planes 2.8 times as little in all but y."""
    operator = projector((64, 12, 3))
    data = data_for(operator, "poisson")
    solver = PrimalDual(operator, data, a1=0.5, a0=0.3)
    names = ("u", "w", "p", "q", "y")
    before = [getattr(solver, name).copy() for name in names]
    for _ in range(5):  # no balance yet
        solver.step()
    u, w, p, q, y = (
        float(np.sum((getattr(solver, name) - b).astype(float) ** 2)) for name, b in zip(names, before, strict=True)
    )
    norm_a, norm_d = solver._norms
    whole = (u + w) ** 0.5, y**0.5 * norm_a, (p + q) ** 0.5 * norm_d
    assert all(way > 0 for way in whole)
    ratios = np.array(solver._travelled()) / whole
    assert np.all(np.abs(ratios - 1) <= (0.1, 1e-5, 0.1)), ratios  # measured: 1.013, 1, 1.021


def test_weights_settle():
    """Convergence is proven for fixed weights; balanced as far as at first, they never settle."""
    operator = projector((6, 7, 5))
    solver = PrimalDual(operator, data_for(operator, "least-squares"), a1=0.5, a0=0.3)
    shares = []
    for _ in range(4):
        solver.advance(500)
        shares.append(solver.share)
    drift = np.abs(np.diff(np.log(shares)))
    assert 0 < drift[-1] <= 0.05, drift  # measured: 0.03; at a constant pace 0.2


def test_tgv_problem_is_not_one_of_tv():
    """At the strengths of the test above w matters: else TGV would be tested as TV."""
    operator = projector((6, 7, 5))
    data = data_for(operator, "poisson")
    assert conic(operator, data, "tgv", 0.5, 0.3)[0] < 0.99 * conic(operator, data, "tv", 0.5, 0.3)[0]


@pytest.mark.parametrize("term", TERMS)
def test_the_bound_follows_u(term):
    """The bound serves the certificate; it never decides the result."""
    operator = projector((6, 7, 5))
    data = data_for(operator, term)
    free, _ = conic(operator, data, "tv", 0.2, 0.4)
    solver = PrimalDual(operator, data, regulariser="tv", a1=0.2, a0=0.4)
    solution = solver.run(1e-6, 6000)
    assert solver.upper == 2 * solution.value.max()
    assert abs(solution.objective - free) <= 1e-5 * free
    assert -1e-6 < solution.gap <= 1e-6


@pytest.mark.parametrize("regulariser", ["tgv", "tv"])
@pytest.mark.parametrize("shape", [(12, 13, 11), (12, 12, 1)])
def test_a_coarse_start_does_not_change_the_minimum(regulariser, shape):
    """The object fills the frame, so that everything at the volume's edges matters; the coarse volume is wider."""
    fine, coarse = projector(shape), projector(tuple(n // 2 + 2 for n in shape))
    data = data_for(fine, "poisson")
    start = PrimalDual(coarse, data_for(coarse, "poisson"), regulariser=regulariser, a1=0.25, a0=0.15)
    start.run(1e-12, 60)
    strengths = {"regulariser": regulariser, "a1": 0.5, "a0": 0.6}
    plain = PrimalDual(fine, data, **strengths).run(1e-6, 8000)
    solver = PrimalDual(fine, data, **strengths)
    solver.continue_from(start, 2)
    for name in "wpq":
        field = getattr(solver, name)
        np.testing.assert_array_equal(field, reference.existing(field))
    assert solver.coarse_iterations == pytest.approx(60 * np.prod(coarse.domain_shape) / np.prod(fine.domain_shape))
    solution = solver.run(1e-6, 8000)
    assert solution.gap <= 2e-4  # measured: 7e-5; absent components that are not 0 leave it above 1e-2
    assert abs(solution.objective / plain.objective - 1) <= 1e-4


@pytest.mark.parametrize("term", TERMS)
def test_derivative_is_the_slope_of_the_data_term(term):
    operator = projector((6, 7, 5))
    data = data_for(operator, term)
    u = np.random.default_rng(3).uniform(0.5, 2, operator.domain_shape).astype(f32)
    m = operator(u, np.empty(operator.range_shape, f32))
    y = data.derivative(m)
    step = 1e-3 * np.random.default_rng(4).normal(size=m.shape).astype(f32)
    slope = data.value(m + step) - data.value(m - step)
    assert abs(slope / (2 * np.sum(data.scale * y * step, dtype=np.float64)) - 1) <= 5e-3


@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_methods_agree(regulariser):
    operator = projector((6, 7, 5))
    data = data_for(operator, "poisson")
    common = {"regulariser": regulariser, "a1": 0.5, "a0": 0.3}
    methods = ("plain", "relaxed")
    runs = [PrimalDual(operator, data, method=m, **common).run(1e-9, 8000, 1000) for m in methods]
    assert max(r.objective for r in runs) / min(r.objective for r in runs) - 1 <= 1e-5


def test_start_and_weight_do_not_change_the_minimum():
    operator = projector((6, 7, 5))
    data = data_for(operator, "poisson")
    start = np.random.default_rng(1).uniform(0, 2, operator.domain_shape).astype(f32)
    a = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=10.0)
    b = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=10.0, start=start, omega=a.omega * 20)
    values = [s.run(1e-6, 6000).objective for s in (a, b)]
    assert abs(values[0] / values[1] - 1) <= 1e-5


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


# ---------------------------------------------------------------- the certificate


def random_problem(seed):
    """Shapes with axes of size 1, detectors that leave voxels unseen, tilts without counts or data,
    background above the counts, and strengths over four decades."""
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.integers(1, 7, 3))
    tilts = np.sort(random.uniform(-75, 75, random.integers(2, 6)))
    nu = int(random.choice([max(shape[1] - 2, 1), shape[1], shape[1] + 3]))
    operator = projector(shape, tilts, nu, drifted(len(tilts), seed) if random.integers(2) else None)
    dose, background = 10 ** random.uniform(0, 2.5), 10 ** random.uniform(-2, 1)
    data = data_for(operator, TERMS[seed % 2], seed, dose, background)
    if random.integers(4) == 0:
        data.counts[0] = 0
    if random.integers(4) == 0:
        for a in (data.counts, data.scale, data.offset, *([data.weight] if seed % 2 else [])):
            a[-1] = 0
    a1 = 10 ** random.uniform(-2, 2)
    strengths = {"regulariser": REGULARISERS[seed // 2 % 3], "a1": a1, "a0": a1 * 10 ** random.uniform(-1, 1)}
    return operator, data, strengths, ("plain", "relaxed", "relaxed")[random.integers(3)]


@pytest.mark.parametrize("seed", range(36))
@pytest.mark.parametrize("bounded", [True, False, None])
def test_certificate_never_exceeds_the_minimum(seed, bounded):
    operator, data, strengths, method = random_problem(seed)
    if not data.counts.any():
        pytest.skip("no counts: see test_no_counts_at_all")
    best, minimiser = conic(operator, data, *strengths.values())
    upper = {True: 1.1 * float(minimiser.max()) + 0.01, False: np.inf, None: None}[bounded]
    solver = PrimalDual(operator, data, method=method, upper=upper, **strengths)
    bounds, tops = [], []

    def note(record):
        bounds.append(solver.lower_bound())
        tops.append(solver.upper)

    solution = solver.run(1e-12, 600, check_every=10, callback=note)
    assert not np.isnan(bounds).any()
    size = max(best, 1e-2 * float(data.counts.sum()))
    for record, bound, top in zip(solution.history, bounds, tops, strict=True):
        # a bound that follows u may lie below the minimiser for a while; then the gap holds for so much less
        f = max(2.0, float(minimiser.max()) / (top / 2)) if bounded is None else 2.0
        assert record.objective - (f - 1) * (record.objective - bound) <= best + 2e-7 * size  # measured: 1e-8
    assert min(record.objective for record in solution.history) >= best - 1e-6 * size  # Clarabel's accuracy near 0
    if bounded or float(solver._sensitivity.min()) > 1e-3:  # else u is not bounded where no ray passes
        assert np.isfinite(bounds).all()


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("regulariser", ["tgv", "tv"])
def test_half_precision_certifies_what_it_reaches(regulariser, term):
    """The bound holds for the duals as they are stored: it never exceeds the minimum, and closes nearly as far."""
    operator = projector((6, 7, 5))
    data = data_for(operator, term)
    best, minimiser = conic(operator, data, regulariser, 0.5, 0.3)
    solver = PrimalDual(
        operator, data, regulariser=regulariser, a1=0.5, a0=0.3, upper=1.5 * float(minimiser.max()), half_precision=True
    )
    assert solver.p.dtype == solver.q.dtype == np.int16
    solution = solver.run(1e-3, 8000, check_every=100)
    assert solution.status is Status.CONVERGED
    assert best * (1 - 1e-6) <= solution.objective <= best * (1 + 1e-3)
    assert all((1 - record.gap) * record.objective <= best * (1 + 1e-6) for record in solution.history)


@pytest.mark.parametrize("half", [(False, True), (True, False), (True, True)])
def test_half_precision_goes_on_from_other_solvers_and_strengths(half):
    """Numbers in 16 bits are in units of the strengths, so each way to go on must know whose."""
    operator = projector((6, 7, 5))
    data = data_for(operator, "poisson")

    def duals(solver):
        p, q = solver._units()
        return np.concatenate([p * solver.p.astype(float).ravel(), q * solver.q.astype(float).ravel()])

    there, here = (
        PrimalDual(operator, data, a1=a, a0=2 * a, upper=10.0, half_precision=h)
        for a, h in zip((0.5, 0.3), half, strict=True)
    )
    there.advance(30)
    here.continue_from(there)
    np.testing.assert_allclose(duals(here), 0.6 * duals(there), atol=2e-3)
    assert np.abs(duals(here)).max() > 0.2
    before = duals(here)
    here.change_strength(0.15, 0.3)
    np.testing.assert_allclose(duals(here), 0.5 * before, rtol=1e-6)


def test_a_state_in_half_precision_is_not_one_in_full():
    operator = projector((6, 7, 5))
    half, full = (
        PrimalDual(operator, data_for(operator, "poisson"), a1=0.5, a0=1.0, upper=10.0, half_precision=h)
        for h in (True, False)
    )
    half.advance(3)
    with pytest.raises(ValueError, match="p of the state has dtype int16, the solver's float32"):
        full.restore(half.state())


def bound_in_double(solver, tilts):
    """`lower_bound` once more in float64: Joseph's weights, E* and grad* from the formulas, u's linear program."""
    shape = nz, nx, _ = solver.u.shape
    nu = solver.y.shape[1]
    rays = np.stack([np.cos(np.radians(tilts)), np.sin(np.radians(tilts)), np.full(len(tilts), -(nu - 1) / 2)], axis=1)
    weights = reference.joseph((nz, nx), nu, rays)
    y, scale = solver.data.feasible(solver.y).astype(float), solver.data.scale.astype(float)
    q = reference.onto_ball(solver._units()[1] * solver.q.astype(float), float(solver.a0))
    p = symmetrised_adjoint(q)
    theta = min(1.0, float(solver.a1) / np.linalg.norm(p, axis=0).max())
    g = np.einsum("tuzx,tuy->zxy", weights, scale * y, optimize=True) + gradient_adjoint(p)
    sensitivity = np.einsum("tuzx,tuy->zxy", weights, scale, optimize=True)
    d, a, total = np.maximum(-theta * g, 0), sensitivity, solver.data.total_bound()
    assert shape == d.shape
    assert a.min() > 1e-3  # no voxel is out of sight

    def least(price):
        return price * total + solver.upper * np.maximum(d - price * a, 0).sum()

    best = minimize_scalar(least, bounds=(0, (d / a).max()), method="bounded", options={"xatol": 1e-12}).fun
    return -solver.data.conjugate(theta * y) - min(best, least(0.0), least((d / a).max()))


def difference_matrix(n):
    """Backward differences of the n - 1 or n numbers along an axis, 0 at the first; dense."""
    out = np.eye(n) - np.eye(n, k=-1)
    out[0] = 0
    return out


def symmetrised_adjoint(q):
    """E* q by dense matrices along each axis."""
    along = [difference_matrix(n) for n in q.shape[1:]]

    def back(a, axis):
        return np.moveaxis(np.tensordot(along[axis].T, a, axes=(1, axis)), 0, axis)

    (zz, xx, yy, zx, zy, xy), r = reference.existing(q), 0.5**0.5
    return reference.existing(
        np.stack(
            [
                back(zz, 0) + r * (back(zx, 1) + back(zy, 2)),
                back(xx, 1) + r * (back(zx, 0) + back(xy, 2)),
                back(yy, 2) + r * (back(zy, 0) + back(xy, 1)),
            ]
        )
    )


def gradient_adjoint(p):
    """grad* p by dense matrices along each axis; forward differences are backward ones, one row up."""
    total = np.zeros(p.shape[1:])
    for axis, n in enumerate(p.shape[1:]):
        forward = np.roll(difference_matrix(n), -1, axis=0)
        total += np.moveaxis(np.tensordot(forward.T, p[axis], axes=(1, axis)), 0, axis)
    return total


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("dose", [8.0, 400.0])
def test_float32_moves_the_bound_by_next_to_nothing(dose, half):
    """Fields of the dual point are float32, its sums float64; measured: up to 1.4e-7 of the objective."""
    tilts = np.arange(-70, 71, 10)
    operator = projector((20, 22, 14), tilts)
    data = data_for(operator, "poisson", dose=dose)
    solver = PrimalDual(operator, data, a1=0.3, a0=0.6, half_precision=half)
    for _ in range(4):
        solver.advance(50)
        solver.certify()
        bound, exact = solver.lower_bound(), bound_in_double(solver, tilts)
        assert abs(bound - exact) <= 4e-7 * solver.objective()


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_certificate_without_a_box_closes_too(regulariser, term):
    operator = projector((6, 7, 5))
    solver = PrimalDual(operator, data_for(operator, term), regulariser=regulariser, a1=0.5, a0=0.3, upper=np.inf)
    assert solver.run(1e-3, 6000).status is Status.CONVERGED


def test_certificate_where_no_ray_passes():
    """Voxels that no ray meets: bounded by the box alone; without one there is no bound, but no NaN."""
    operator = projector((6, 7, 5), nu=3)
    data = data_for(operator, "poisson")
    solver = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=20.0)
    assert (solver._sensitivity == 0).any()
    assert solver.run(1e-3, 6000).status is Status.CONVERGED
    solver = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=np.inf)
    solver.run(1e-3, 20, check_every=10)
    assert solver.lower_bound() < solver.objective()
    solver = PrimalDual(operator, data, regulariser="none")
    assert solver.run(1e-3, 6000).status is Status.CONVERGED  # nothing there depends on those voxels


@pytest.mark.parametrize("seed", range(4))
def test_linear_bound_is_the_linear_program(seed):
    """max <d, u> over 0 <= u <= upper, <a, u> <= C, against its exact solution, the greedy one."""
    random = np.random.default_rng(seed)
    upper, total = 10 ** random.uniform(-2, 1), 40.0
    d = (10 ** random.uniform(-2, 1, 240) * random.choice([-1, 1], 240)).astype(f32)
    a = (10 ** random.uniform(-4, 0, 240)).astype(f32)
    gains, costs = 0.9 * d[d > 0].astype(float), a[d > 0].astype(float)
    exact, rest = 0.0, total
    for i in np.argsort(-gains / costs):
        amount = min(upper, rest / costs[i])
        exact, rest = exact + amount * gains[i], rest - amount * costs[i]
    bound = largest_gain(-d.reshape(4, 6, 10), a.reshape(4, 6, 10), 0.9, upper, total)
    assert exact * (1 - 1e-12) <= bound <= exact * 1.01


def test_linear_bound_where_the_total_says_nothing():
    """Voxels that no ray meets are bounded by the box, the others by box or total."""
    g, a = np.full((2, 1, 1), -3, f32), np.array([1, 0], f32).reshape(2, 1, 1)
    assert largest_gain(g, a, 1.0, 5.0, 2.0) == pytest.approx(3 * 2 + 3 * 5)
    assert largest_gain(g, a, 1.0, 0.5, 2.0) == pytest.approx(3 * 0.5 + 3 * 0.5)
    assert largest_gain(g, a, 1.0, np.inf, 2.0) == np.inf
    assert largest_gain(-g, a, 1.0, np.inf, 2.0) == 0


def test_least_squares_ignores_the_weight_of_pixels_left_out():
    operator = projector((6, 7, 5))
    data = data_for(operator, "least-squares")
    out = data.scale == 0
    best, minimiser = conic(operator, data, "tv", 0.5, 1.0)
    data.weight[out], data.counts[out] = 1, 5
    solver = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=2 * float(minimiser.max()))
    solver.run(1e-9, 500)
    assert solver.lower_bound() <= best * (1 + 1e-6)


@pytest.mark.parametrize("term", ["poisson", "least-squares"])
def test_no_counts_at_all(term):
    operator = projector((6, 7, 5))
    data = data_for(operator, term)
    data.counts[...] = 0
    solution = PrimalDual(operator, data, regulariser="tv", a1=0.5, upper=1.0).run(1e-3, 2000)
    assert np.isfinite(solution.value).all()
    assert solution.value.max() <= 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_norm_estimate(seed):
    operator, data, _, _ = random_problem(seed)
    matrix = data.scale.ravel()[:, None] * dense(operator)
    norm = PrimalDual(operator, data).norm_a / np.linalg.norm(matrix, 2)
    assert 1.0 <= norm <= 1.011
    assert norm_estimate(operator, HOST) >= np.linalg.norm(dense(operator), 2)


def test_checks_do_not_slow_the_iteration():
    operator = projector((12, 12, 6))
    data = data_for(operator, "poisson")
    errors = []
    for every in (10, 1000):
        solver = PrimalDual(operator, data, a1=1.0, a0=2.0, upper=10.0)
        errors.append(solver.run(1e-12, 1000, check_every=every).objective)
    assert errors[0] <= errors[1] * (1 + 5e-4)


# ---------------------------------------------------------------- how a run ends


def small_solver(**options):
    operator = projector((6, 7, 5))
    return PrimalDual(operator, data_for(operator, "poisson"), a1=0.5, a0=1.0, upper=10.0, **options)


def test_converged():
    solution = small_solver().run(1e-2, 5000)
    assert solution.status is Status.CONVERGED
    assert solution.gap <= 1e-2 < solution.history[-2].gap
    assert solution.iterations == solution.history[-1].iteration < 5000
    assert solution.value.min() >= 0
    assert solution.parameters["a1"] == 0.5


def test_max_iterations():
    solution = small_solver().run(1e-2, 25, check_every=10)
    assert solution.status is Status.MAX_ITERATIONS
    assert [r.iteration for r in solution.history] == [10, 20, 25]
    assert solution.value.min() >= 0


def test_interrupted_by_a_callback():
    def stop(record):
        if record.iteration == 20:
            raise KeyboardInterrupt

    solution = small_solver().run(1e-6, 5000, check_every=10, callback=stop)
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 20
    assert len(solution.history) == 2


def interrupting(solver, *when):
    """A Ctrl-C in the middle of the given iterations, once each."""
    projection, left = type(solver.operator).adjoint, list(when)

    def adjoint(y, out):
        if solver.iteration in left:
            left.remove(solver.iteration)
            raise KeyboardInterrupt
        return projection(solver.operator, y, out)

    solver.operator.adjoint = adjoint
    return solver


def test_interrupted_between_checks_leaves_a_certified_volume():
    """Relaxed iterates leave u >= 0; a volume that is kept must not."""
    best = small_solver().run(1e-7, 20000).objective
    for stop in range(2, 40):
        solution = interrupting(small_solver(), stop).run(1e-9, 5000)
        assert solution.status is Status.INTERRUPTED
        assert solution.iterations == stop + 1 == solution.history[-1].iteration
        assert solution.value.min() >= 0
        assert solution.gap * solution.objective >= solution.objective - best > 0


def test_a_second_interruption_is_raised():
    with pytest.raises(KeyboardInterrupt):
        interrupting(small_solver(), 17, 17).run(1e-9, 5000)


def test_a_stop_that_control_asks_for():
    asked = []

    def control(solver):
        asked.append(solver.iteration)
        return solver.iteration == 33

    solution = small_solver().run(1e-9, 5000, control=control)
    assert asked == list(range(34))
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 34 == solution.history[-1].iteration
    assert solution.value.min() >= 0


# ---------------------------------------------------------------- from a series


def little_series(weights=None, counts_at_rim=0.0):
    operator = projector((8, 8, 6), np.arange(-60, 61, 20))
    data = data_for(operator, "poisson", dose=60, background=0.0)
    maps = np.where(data.scale > 0, data.counts, 0).swapaxes(1, 2)
    maps[3, :, 0] += counts_at_rim
    return TiltSeries.create({"Fe": maps}, np.arange(-60, 61, 20), 1.0, weights=weights)


def test_counts_that_no_ray_explains():
    """Counts where the aligned frame ends, no background: D is infinite for every u, so no bound ever stops the run."""
    shifts = np.zeros((7, 2))
    shifts[3, 1] = 3
    series = little_series(counts_at_rim=1.0).evolve(alignment=Alignment(shifts), isolated=True)
    volume = reconstruct(series, "tv", max_iterations=2000, device="cpu")["Fe"]
    assert np.isfinite(volume.solution.objective)
    assert volume.solution.status is Status.CONVERGED


@pytest.mark.parametrize("term", TERMS)
def test_half_the_weight_everywhere_changes_nothing(term):
    """Without a regulariser a weight of all pixels alike is a factor of the objective."""
    densities = []
    for value in (1.0, 0.5):
        series = little_series(np.full((7, 6, 8), value))
        data = make_data_term(series, "Fe", term)
        operator = make_operator(series, (8, 6, 8), HOST)
        solution = PrimalDual(operator, data, regulariser="tv", a1=1e-6, upper=1e4).run(1e-9, 500)
        densities.append(float(solution.value.sum()))
    assert abs(densities[1] / densities[0] - 1) <= 1e-2


# ---------------------------------------------------------------- SIRT and filtered back projection


def astra_matrix(shape, tilts, nu):
    """ASTRA's matrix of one slice, rows (tilt, u), columns (z, x); its image rows run against its y axis."""
    volume = astra.create_vol_geom(shape[0], shape[1])
    t = np.radians(tilts)
    zero = np.zeros_like(t)
    vectors = np.stack([-np.sin(t), -np.cos(t), zero, zero, np.cos(t), -np.sin(t)], axis=1)
    number = astra.create_projector("linear", astra.create_proj_geom("parallel_vec", nu, vectors), volume)
    matrix = astra.projector.matrix(number)
    out = astra.matrix.get(matrix).astype(float).tocsr()
    astra.matrix.delete(matrix)
    astra.projector.delete(number)
    return out


def test_sirt_is_the_textbook_loop():
    shape, tilts, nu = (9, 8, 5), np.arange(-70, 71, 20.0), 10
    operator = projector(shape, tilts, nu)
    data = data_for(operator, "least-squares", dose=50)
    matrix = astra_matrix(shape, tilts, nu)
    s, b, c = (np.asarray(a, float).reshape(-1, shape[2]) for a in (data.scale, data.offset, data.counts))
    ones = np.ones((shape[0] * shape[1], shape[2]))
    rows, columns = s * (matrix @ ones), matrix.T @ s
    inverse_rows = np.where(rows > 1e-3 * rows.max(), 1 / np.maximum(rows, 1e-9), 0)
    u = 0 * ones
    for _ in range(25):
        u = np.maximum(0, u + (matrix.T @ (s * inverse_rows * (c - b - s * (matrix @ u)))) / columns)
    solution = sirt(operator, data, iterations=25)
    assert solution.status is Status.FIXED
    assert np.abs(solution.value - u.reshape(shape)).max() <= 1e-4 * u.max()  # ASTRA's rounding; measured: 2e-5


def test_sirt_descends_to_a_fixed_point():
    operator = projector((9, 8, 5), np.arange(-70, 71, 20.0))
    data = data_for(operator, "least-squares", dose=50)
    rows = data.scale * operator(np.ones(operator.domain_shape, f32), np.empty(operator.range_shape, f32))
    data.weight[...] = np.where(rows > 1e-3 * rows.max(), 1 / np.maximum(rows, 1e-9), 0)  # what SIRT minimises
    history = []
    solution = sirt(operator, data, iterations=60, callback=history.append)
    values = np.array([record.objective for record in history])
    assert (np.diff(values) <= 1e-6 * values[0]).all()
    assert values[-1] < 0.2 * values[0]
    assert solution.value.min() >= 0
    far = sirt(operator, data, iterations=3000).value
    further = sirt(operator, data, iterations=10, start=far).value
    assert np.abs(further - far).max() <= 1e-3 * far.max()
    assert np.abs(solution.value - far).max() > 1e-2 * far.max()


def test_sirt_of_perfect_data_stays_at_the_truth():
    operator = projector((9, 8, 5))
    truth = np.random.default_rng(0).uniform(0.5, 2, operator.domain_shape).astype(f32)
    counts = operator(truth, np.empty(operator.range_shape, f32))
    data = Poisson(counts, np.ones_like(counts), np.zeros_like(counts))
    assert np.abs(sirt(operator, data, iterations=10, start=truth).value - truth).max() <= 1e-5


def test_sirt_interrupted():
    operator = projector((9, 8, 5))

    def stop(record):
        raise KeyboardInterrupt

    # it serves inside other stages, which must stop too
    with pytest.raises(KeyboardInterrupt):
        sirt(operator, data_for(operator, "poisson"), callback=stop)


def ellipse_stack(tilts, nu, centre, semi_axes, density=2.5, samples=8):
    """Chords of an ellipse, (z, x) centre and semi-axes in voxels, mean over each pixel; (tilt, u, 1)."""
    t = np.radians(tilts)[:, None]
    u = (np.arange(nu * samples) - (nu * samples - 1) / 2) / samples
    reach = np.square(semi_axes[0] * np.sin(t)) + np.square(semi_axes[1] * np.cos(t))
    offset = u - centre[0] * np.sin(t) - centre[1] * np.cos(t)
    chords = 2 * density * semi_axes[0] * semi_axes[1] * np.sqrt(np.maximum(reach - offset**2, 0)) / reach
    return stack(chords.reshape(len(tilts), nu, samples).mean(axis=2)[..., None])


@pytest.mark.parametrize("n", [64, 65])
def test_fbp_gives_the_density_of_an_ellipse(n):
    tilts, centre, axes = np.arange(-90, 90, 1.0), (4.0, -5.5), (14.0, 21.0)
    value = fbp(projector((n, n, 1), tilts), ellipse_stack(tilts, n, centre, axes), tilts).value[..., 0]
    z, x = np.ogrid[:n, :n]
    radius = np.hypot((z - (n - 1) / 2 - centre[0]) / axes[0], (x - (n - 1) / 2 - centre[1]) / axes[1])
    inside, outside = value[radius < 0.8], value[(radius > 1.25) & (radius < 2)]
    assert abs(inside.mean() / 2.5 - 1) <= 5e-4  # measured: 4e-5
    assert inside.std() <= 0.012 * 2.5  # 0.008
    assert abs(outside.mean()) <= 0.012 * 2.5  # 0.009, next to the edge
    assert outside.std() <= 0.03 * 2.5  # 0.023


def test_fbp_knows_the_angle_that_each_tilt_stands_for():
    """Uneven steps and any order: the density stays, and the order does not matter."""
    n, axes = 64, (14.0, 21.0)
    even = np.arange(-90, 90, 2.0)
    tilts = even + 0.7 * np.sin(np.radians(4 * even)) * 4
    maps = ellipse_stack(tilts, n, (0, 0), axes)
    value = fbp(projector((n, n, 1), tilts), maps, tilts).value
    assert abs(value[28:36, 28:36].mean() / 2.5 - 1) <= 2e-3  # measured: 6e-4
    order = np.random.default_rng(0).permutation(len(tilts))
    other = fbp(projector((n, n, 1), tilts[order]), maps[order], tilts[order]).value
    assert np.abs(other - value).max() <= 1e-5
