"""The certified bound never exceeds the minimum, and closes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import reference
from problems import HOST, REGULARISERS, TERMS, conic, conic_fields, data_for, dense, drifted, f32, projector
from problems import one_thread as one_thread  # a fixture
from scipy.optimize import minimize_scalar

from recon.operators import norm_estimate
from recon.solvers import Status
from recon.solvers.bounds import Box, largest_gain
from recon.solvers.pdhg import PrimalDual

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


@cache
def minimum_of(seed):
    """What a conic solver finds of `random_problem`."""
    operator, data, strengths, _ = random_problem(seed)
    return conic_fields(operator, data, *strengths.values())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("bounded", [True, False, None])
def test_certificate_never_exceeds_the_minimum(seed, bounded):
    operator, data, strengths, method = random_problem(seed)
    if not data.counts.any():
        pytest.skip("no counts: see test_no_counts_at_all")
    best, minimiser, slope = minimum_of(seed)
    steepest = float(np.linalg.norm(slope)) if len(slope) else 0.0
    upper = {True: 1.1 * float(minimiser.max()) + 0.01, False: np.inf, None: None}[bounded]
    solver = PrimalDual(operator, data, method=method, upper=upper, **strengths)
    bounds, tops = [], []

    def note(record):
        bounds.append(solver.lower_bound())
        farthest = float((minimiser - solver.u).max()) / (solver.upper / 2) if bounded is None else 0.0
        tops.append(max(1.0, farthest, steepest / (solver.steep / 2)))

    solution = solver.run(1e-12, 600, check_every=10, callback=note)
    assert not np.isnan(bounds).any()
    size = max(best, 1e-2 * float(data.counts.sum()))
    for record, bound, f in zip(solution.history, bounds, tops, strict=True):
        # bounds that follow u and w may not reach the minimiser for a while; then the gap holds for so much more
        assert record.objective - f * (record.objective - bound) <= best + 2e-7 * size  # measured: 1e-8
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
        p, q = solver.units()
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
    q = reference.onto_ball(solver.units()[1] * solver.q.astype(float), float(solver.a0))
    p = solver.units()[0] * solver.p.astype(float)
    theta = min(1.0, float(solver.a1) / np.linalg.norm(p, axis=0).max())
    apart = np.linalg.norm(p - symmetrised_adjoint(q))
    high = solver.upper / 2 + solver.u.astype(float)

    def back(stack):
        return np.einsum("tuzx,tuy->zxy", weights, scale * stack, optimize=True)

    g, sensitivity = back(y) + gradient_adjoint(p), back(np.ones_like(y))
    # of the pixels that are dark, y is raised
    above = np.maximum(solver.data.counts - solver.data.offset, 0)
    rise = (scale > 0) * (1 - y) / (1 + above / (0.03 * above.max()))
    raised = minimize_scalar(
        lambda step: solver.data.conjugate(y + step * rise) - (high * np.minimum(g + step * back(rise), 0)).sum(),
        bounds=(0, 0.5),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    y, g = y + raised * rise, g + raised * back(rise)
    d, a, total = np.maximum(-theta * g, 0), sensitivity, solver.data.total_bound()
    assert shape == d.shape
    assert a.min() > 1e-3  # no voxel is out of sight

    def least(price):
        return price * total + (high * np.maximum(d - price * a, 0)).sum()

    best = minimize_scalar(least, bounds=(0, (d / a).max()), method="bounded", options={"xatol": 1e-12}).fun
    gain = min(best, least(0.0), least((d / a).max()))
    return -solver.data.conjugate(theta * y) - gain - theta * solver.steep * apart


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
        rounding = 4e-7 * solver.objective()
        # the best price and step are looked for until a millionth of what they gain is left
        assert -rounding <= exact - bound <= rounding + 1e-5 * (solver.objective() - exact)


@pytest.mark.parametrize("term", TERMS)
def test_raising_the_dual_of_dark_pixels_lifts_the_bound(term, monkeypatch):
    """Nothing lies in most of the volume, where s A^T y comes out too low for long."""
    operator = projector((14, 16, 10), np.arange(-70, 71, 10))
    counts = np.zeros(operator.range_shape, f32)
    counts[:, 6:9] = 30
    data = replace(data_for(operator, term), counts=counts)
    solver = PrimalDual(operator, data, a1=0.3, a0=0.6)
    solver.advance(60)
    solver.certify()
    raised = solver.lower_bound()
    monkeypatch.setattr(type(data), "lift", lambda self, dual, brightest: None)
    assert raised - solver.lower_bound() > 0.03 * (solver.objective() - raised)  # measured: 0.06 and 0.12


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
    """max <d, u> over 0 <= u <= highest, <a, u> <= C, against its exact solution, the greedy one."""
    random = np.random.default_rng(seed)
    above, most, total = 10 ** random.uniform(-2, 1), [np.inf, 0.9][seed % 2], 40.0
    u = random.exponential(1.0, 240).astype(f32)
    highest = np.minimum(above + u.astype(float), most)
    d = (10 ** random.uniform(-2, 1, 240) * random.choice([-1, 1], 240)).astype(f32)
    a = (10 ** random.uniform(-4, 0, 240)).astype(f32)
    gains, costs, tops = 0.9 * d[d > 0].astype(float), a[d > 0].astype(float), highest[d > 0]
    exact, rest = 0.0, total
    for i in np.argsort(-gains / costs):
        amount = min(tops[i], rest / costs[i])
        exact, rest = exact + amount * gains[i], rest - amount * costs[i]
    bound = largest_gain(-d.reshape(4, 6, 10), a.reshape(4, 6, 10), 0.9, Box(u.reshape(4, 6, 10), above, most), total)
    assert exact * (1 - 1e-12) <= bound <= exact * 1.01


def test_linear_bound_where_the_total_says_nothing():
    """Voxels that no ray meets are bounded by the box, the others by box or total."""
    g, a = np.full((2, 1, 1), -3, f32), np.array([1, 0], f32).reshape(2, 1, 1)
    five, half, any_ = (Box(np.zeros_like(g), most=m) for m in (5.0, 0.5, np.inf))
    assert largest_gain(g, a, 1.0, five, 2.0) == pytest.approx(3 * 2 + 3 * 5)
    assert largest_gain(g, a, 1.0, half, 2.0) == pytest.approx(3 * 0.5 + 3 * 0.5)
    assert largest_gain(g, a, 1.0, any_, 2.0) == np.inf
    assert largest_gain(-g, a, 1.0, any_, 2.0) == 0


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
    norm = PrimalDual(operator, data, method="plain").weights.norm_a / np.linalg.norm(matrix, 2)
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
