"""The strength of a tall volume is looked for in the slices in its middle."""

import numpy as np
import pytest
from truth import known

from recon.model.assembly import make_operator, seeing
from recon.model.grid import grid
from recon.reconstruction import strength
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import choose, few_slices
from recon.simulate import simulate


@pytest.fixture(scope="module")
def series():
    series, truth = simulate(size=32, seed=0, drift=1.5, rotation_deg=6.0)
    return known(series, truth)


@pytest.mark.parametrize("slices", [8, 11])
def test_pixels_that_are_kept_show_nothing_but_these_slices(series, slices):
    nz, ny, nx = grid(series).shape
    few, first = seeing(series, slices), (ny - slices) / 2
    beside = np.ones((nz, nx, ny), np.float32)
    beside[..., int(np.ceil(first)) : int(np.floor(first + slices - 1)) + 1] = 0
    operator = make_operator(series, (nz, ny, nx), beside)
    shown = operator(beside, np.empty(operator.range_shape, np.float32)).swapaxes(1, 2)
    if (ny - slices) % 2 == 0:  # else slices of the part lie between those of the whole
        assert not shown[few.seen > 0].any()
        # and none that is left out shows these slices alone
        inside = operator(1 - beside, np.empty(operator.range_shape, np.float32)).swapaxes(1, 2)
        alone = (few.seen == 0) & (shown == 0) & (inside > 0)
        assert alone.mean() < 0.005  # but for rows where rays graze the volume
    assert few.seen.sum() == pytest.approx(slices / ny * few.seen.size, rel=0.15)


def test_the_part_projects_as_the_whole_does(series):
    """What is in these slices shows in the pixels that are kept as it does with all slices."""
    part = Problem.of(series, "Zn").in_the_middle(12)
    nz, ny, nx = grid(series).shape
    volume = np.zeros((nz, nx, ny), np.float32)
    volume[..., 10:22] = np.random.default_rng(0).uniform(size=(nz, nx, 12))
    operator = make_operator(series, (nz, ny, nx), volume)
    whole = operator(volume, np.empty(operator.range_shape, np.float32))
    own = part.operator(np.ascontiguousarray(volume[..., 10:22]), np.empty(operator.range_shape, np.float32))
    used = part.data.scale > 0
    assert used.any()
    np.testing.assert_allclose(own[used], whole[used], rtol=1e-5, atol=1e-5)


def test_few_slices_find_about_the_same_strength(series, monkeypatch):
    problem = Problem.of(series, "Zn")
    assert few_slices(problem) is problem
    whole = choose(problem)
    monkeypatch.setattr(strength, "SLICES", 16)
    part = choose(problem)
    assert part.unit == whole.unit
    assert part.strength == pytest.approx(whole.strength, rel=0.2)
    assert part.iterations < 0.7 * whole.iterations


def test_all_slices_where_those_in_the_middle_show_little(series, monkeypatch):
    monkeypatch.setattr(strength, "SLICES", 8)
    assert few_slices(Problem.of(series, "Zn")).slices == 8
    moved = series.evolve(counts=np.roll(series.counts, 16, axis=2))
    problem = Problem.of(moved, "Zn")
    assert few_slices(problem) is problem
    # nor does a background that is known make up for it
    bright = moved.evolve(counts=moved.counts + 50, background=moved.background + 50)
    problem = Problem.of(bright, "Zn")
    assert few_slices(problem) is problem


def test_coarser_grids_have_fewer_slices(series):
    coarse = Problem.of(series, "Zn").in_the_middle(12).coarser(2)
    assert coarse.where.shape == (16, 6, 16)
    assert coarse.slices == 6
    assert (coarse.data.scale > 0).mean() == pytest.approx(6 / 16, rel=0.3)
