"""Step sizes: the norm of the whole operator in them, by dense matrices, for rays of many directions and of one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from problems import data_for, dense, drifted, f32, projector
from problems import one_thread as one_thread  # a fixture

from recon.series.alignment import Alignment
from recon.solvers.iteration import Scaled
from recon.solvers.overlap import overlap_of
from recon.solvers.pdhg import PrimalDual
from recon.solvers.steps import norm_of_differences

TILTS = {"series": np.arange(-70, 71, 20), "one": np.array([0.0]), "two": np.array([0.0, 45.0])}
SHAPES = [(6, 7, 4), (8, 9, 1), (1, 8, 5), (2, 3, 9)]


def root_of_ramp(solver: PrimalDual) -> np.ndarray:
    """``R^1/2`` of stacks, the identity without a ramp."""
    if solver.ramp is None:
        return np.eye(solver.y.size)
    used = (solver.data.scale > 0).ravel()
    values, vectors = np.linalg.eigh(used[:, None] * reference.ramp(*solver.y.shape) * used)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def whole(solver: PrimalDual) -> np.ndarray:
    """``S^1/2 K T^1/2`` with the solver's steps S and T."""
    shape, weights = solver.u.shape, solver.weights
    a = (
        (weights.sigma_y * weights.tau) ** 0.5
        * root_of_ramp(solver)
        @ (solver.data.scale.ravel()[:, None] * dense(solver.operator))
    )
    d = (weights.sigma_p * weights.tau) ** 0.5
    differences = d * reference.matrix(reference.gradient, shape)
    if not len(solver.w):
        return np.block([[a], [differences]])
    exists, second = (d * reference.matrix(f, (3, *shape)) for f in (reference.existing, reference.symmetrised))
    left, right = (
        np.vstack([a, differences, np.zeros((len(second), a.shape[1]))]),
        np.vstack([np.zeros((len(a), exists.shape[1])), -exists, second]),
    )
    return np.hstack([left, right])


@pytest.mark.parametrize("tilts", TILTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_overlap_is_from_above_and_close(shape, tilts):
    """Against the largest eigenvalue of the dense matrix."""
    operator = projector(shape, TILTS[tilts], None, drifted(len(TILTS[tilts]), 3))
    data = data_for(operator, "poisson")
    matrix = data.scale.ravel()[:, None] * dense(operator)
    norm = np.linalg.norm(matrix, 2)
    along = reference.matrix(reference.gradient, shape)[: 2 * math.prod(shape)]  # z and x, within slices
    exact = np.linalg.eigvalsh(
        matrix.T @ matrix / norm**2 + along.T @ along / norm_of_differences((*shape[:2], 1)) ** 2
    )
    work, y = [np.zeros(shape, f32) for _ in range(2)], np.zeros(operator.range_shape, f32)
    found = overlap_of(Scaled(operator, data.scale), float(norm), (work[0], work[1]), y)
    assert 0.99 * exact[-1] <= found <= 1.051 * max(exact[-1], 1)
    if tilts == "series" and shape[0] > 2:  # many rays see means, differences see none
        assert found < 1.2


@pytest.mark.parametrize("regulariser", ["tgv", "tv"])
@pytest.mark.parametrize("share", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("tilts", TILTS)
def test_the_whole_operator_is_below_one_in_its_steps(tilts, share, regulariser):
    operator = projector((5, 6, 3), TILTS[tilts])
    solver = PrimalDual(operator, data_for(operator, "poisson"), regulariser=regulariser)
    careful = solver.weights.with_share(share).eta
    solver.advance(1)
    solver.weights = replace(solver.weights.with_share(share), omega=solver.weights.omega)
    assert solver.weights.eta >= careful  # what is known of the overlap never makes steps shorter
    assert 0.6 < np.linalg.norm(whole(solver), 2) < 1
    if tilts == "series" and share == 1.0:
        assert solver.weights.eta > 1.08 * careful


def test_other_operators_keep_what_holds_for_any():
    """One whose rays are single voxels sees differences as well as means: 2, as nothing was known."""

    class Same:
        domain_shape = range_shape = (6, 7, 4)

        def __call__(self, x, out):
            out[...] = x
            return out

        adjoint = __call__

    work = [np.zeros((6, 7, 4), f32) for _ in range(3)]
    assert overlap_of(Same(), 1.0, (work[0], work[1]), work[2]) > 1.9


def test_few_tilts_do_not_take_the_overlap_of_a_coarser_grid():
    """One tilt, moved by a pixel, is moved by half of one on the coarser grid, where that blurs differences away."""
    tilt, shift = np.array([0.0]), np.array([[0.0, 1.0]])
    operators = (
        projector((8, 8, 2), tilt, None, Alignment(shift / 2)),
        projector((16, 16, 4), tilt, None, Alignment(shift)),
    )
    coarse, fine = (PrimalDual(op, data_for(op, "poisson"), regulariser="tv") for op in operators)
    coarse.advance(1)
    fine.continue_from(coarse, 2)
    fine.advance(1)
    fine.weights = replace(fine.weights.with_share(1.0), omega=fine.weights.omega)
    assert np.linalg.norm(whole(fine), 2) < 1
