"""Fits of regions go on until what they answer stands still."""

from __future__ import annotations

import numpy as np
import pytest

from recon.analysis.asking import EVERY, FIRST, STARTING, Asking
from recon.analysis.box import Box
from recon.analysis.places import Ellipsoid
from recon.reconstruction.problem import Problem
from recon.simulate import simulate


@pytest.fixture
def asking():
    series, truth = simulate(size=16, seed=0, drift=0, rotation_deg=0, axis_offset=0)
    series = series.evolve(exposures=np.tile(truth.exposures, (2, 1)), isolated=True)
    problem = Problem.of(series, series.elements[0])
    ball = Ellipsoid.sphere((7.5, 7.5, 6.0), 2.5).fraction((16, 16, 16))
    start = np.full(problem.operator.domain_shape, 0.1, np.float32)
    asking = Asking(problem, Box((16, 16, 16), (0, 0, 0)), "tgv", 0.5, start, [ball])
    core = Ellipsoid.sphere((7.5, 7.5, 9.0), 1.5).fraction((16, 16, 16))
    return asking, asking._parts([ball, core])


@pytest.mark.parametrize(("settled", "iterations"), [(np.inf, 3 * EVERY), (0.0, 8 * EVERY)])
def test_a_fit_ends_when_nothing_changes_or_at_its_limit(asking, settled, iterations):
    ask, parts = asking
    ask._settle(parts, 2 * EVERY, 8 * EVERY, settled)
    assert ask.iterations == iterations


def test_a_first_fit_that_stands_still_at_first_goes_on(asking, monkeypatch):
    """Means that rest for 150 iterations and then go where they belong: the answer is where they went."""
    ask, parts = asking
    monkeypatch.setattr(ask.solver, "advance", lambda iterations: None)
    monkeypatch.setattr(ask, "_means", lambda parts: np.array([1 / (1 + np.exp((250 - ask.iterations) / 20)), 1.0]))
    assert ask._settle(parts, STARTING, FIRST)[0] > 0.99


def test_where_a_fit_has_settled_more_iterations_change_little(asking):
    ask, parts = asking
    start = ask._means(parts)
    found = ask._settle(parts, EVERY, 40 * EVERY, 3e-3)
    assert EVERY < ask.iterations < 40 * EVERY
    ask._advance(10 * EVERY)
    later = ask._means(parts)
    assert np.abs(later - found).max() < 0.05 * later[-1]
    assert np.abs(start - found).max() > 0.5 * later[-1]
