"""SIRT and filtered back projection against textbook loops and closed forms."""

from __future__ import annotations

import astra
import numpy as np
import pytest
from problems import data_for, f32, projector, stack
from problems import one_thread as one_thread  # a fixture

from recon.solvers import Status
from recon.solvers.data_terms import Poisson
from recon.solvers.fbp import fbp
from recon.solvers.sirt import sirt

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
