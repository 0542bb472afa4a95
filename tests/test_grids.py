"""From a coarse grid to a fine one, against SciPy's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from recon.solvers import grids

sizes = st.lists(st.integers(1, 9), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(coarse=sizes, more=st.lists(st.integers(-3, 3), min_size=3, max_size=3), factor=st.integers(1, 3))
def test_enlarging_is_linear_about_the_same_centre(coarse, more, factor):
    fine = [max(1, factor * n + m) for n, m in zip(coarse, more, strict=True)]
    a = np.random.default_rng(0).normal(size=coarse).astype(np.float32)
    out = grids.enlarge(a, np.full(fine, np.nan, np.float32), factor)
    offset = [(m - 1) / 2 - (n - 1) / 2 / factor for m, n in zip(coarse, fine, strict=True)]
    if fine == coarse and factor == 1:
        expected = a
    else:
        expected = ndimage.affine_transform(
            a.astype(float), [1 / factor] * 3, offset, output_shape=tuple(fine), order=1, mode="nearest"
        )
    assert np.abs(out - expected).max() < 2e-6


@pytest.mark.parametrize("some", [1, 50, 10**6])
def test_planes_are_taken_some_at_a_time(some, monkeypatch):
    a = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    whole = grids.enlarge(a, np.empty((8, 10, 12), np.float32), 2)
    monkeypatch.setattr(grids, "AT_ONCE", some)
    assert np.array_equal(grids.enlarge(a, np.empty((8, 10, 12), np.float32), 2), whole)


def test_a_window_of_slices_is_a_part_of_all():
    a = np.random.default_rng(2).normal(size=(3, 4, 7)).astype(np.float32)
    whole = grids.enlarge(a, np.empty((6, 8, 14), np.float32), 2)
    window = grids.enlarge_window(a, np.empty((6, 8, 5), np.float32), 2, 14, 6)
    assert np.allclose(window, whole[..., 6:11], atol=1e-6)


def test_slices_of_the_coarse_grid_from_some_on():
    """As a rank has them, of a grid of which others have the rest."""
    a = np.random.default_rng(3).normal(size=(3, 4, 9)).astype(np.float32)
    whole = grids.enlarge(a, np.empty((6, 8, 18), np.float32), 2)
    part = grids._interpolate(a[..., 3:8], np.empty((6, 8, 4), np.float32), 2, (9, 18), 9, 3)
    assert np.allclose(part, whole[..., 9:13], atol=1e-6)
