"""Alignment of maps with very many counts, where normal equations in float32 come to their end."""

from __future__ import annotations

import numpy as np
import pytest

from recon.alignment.align import align
from recon.alignment.coarse import centre_of_mass
from recon.alignment.foretelling import foretold
from recon.alignment.joint import JointFit
from recon.alignment.start import blobs_for
from recon.preparation.normalise import normalise
from recon.reconstruction.problem import Problem
from recon.reconstruction.reconstruct import reconstruct
from recon.series.alignment import Alignment
from recon.series.combine import combine
from recon.simulate import simulate


@pytest.mark.parametrize(("dose", "n"), [(200.0, 9), (1e5, 4)])
def test_what_other_tilts_foretell_is_that_of_a_fit_without_the_tilt(dose, n):
    """Against normal equations in float64; of few bright maps conjugate gradients come to no end."""
    series, _ = simulate(size=24, seed=1, dose=dose, drift=1.0, tilts_deg=np.linspace(-60, 60, n))
    combined, used = combine(normalise(series)), np.ones(n, bool)
    fit = JointFit(combined, Alignment(centre_of_mass(combined)), used, most=blobs_for(combined, used))
    fit.solve()
    found, maps = fit.linear, fit.samples.maps
    each = [np.asarray(view.matrix(), float) for view in found.views]
    said = foretold(found, maps, fit.weight, np.arange(n))
    for i in (0, n // 2):
        others = [k for k in range(n) if k != i]
        normal = sum(each[k].T @ (each[k] * fit.weight[k].reshape(-1, 1)) for k in others)
        right = sum(each[k].T @ (fit.weight[k] * maps[k]).ravel() for k in others)
        expected = (each[i] @ np.linalg.solve(normal + found.prior * np.eye(len(right)), right)).reshape(maps[i].shape)
        seen = fit.weight[i] > 0
        apart = np.linalg.norm((said[i] - expected)[seen]) / np.linalg.norm((maps[i] - expected)[seen])
        assert apart < 0.01  # measured: 1e-3 at 200 counts; 1 where the gradients were taken as they ended


def test_maps_of_a_million_counts_are_aligned():
    """The normal matrix, rounded, is not positive definite with the least prior."""
    tilts = np.linspace(-60, 60, 15)
    series, truth = simulate(size=17, seed=5, dose=1e6, drift=1.5, tilts_deg=tilts, rotation_deg=2.0)
    found = align(normalise(series), device="cpu").alignment
    assert found.rotation_deg == pytest.approx(truth.alignment.rotation_deg, abs=0.5)


def test_a_coarse_grid_without_a_whole_pixel_is_left_out():
    series, _ = simulate(size=32, seed=0)
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[:, ::2, ::2] = 0
    masked = normalise(series).evolve(weights=weights)
    assert not (Problem.of(masked, "Zn").coarser(2).data.scale > 0).any()
    volume = reconstruct(masked, elements=["Zn"], strength=1.0, device="cpu")["Zn"]
    assert volume.solution.gap <= 1e-2
