"""Projection of NumPy volumes as they lie, a few planes at a time, against the projector of the whole volume."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import make_projector, planes

TILTS = [-88.0, -40.0, 0.0, 33.0, 45.0, 61.0]
CASES = [  # volume, detector columns, offset of the axis, pixels on a voxel's edge
    ((70, 5, 37), 41, 0.0, 1),
    ((33, 18, 30), 61, 2.3, 2),
    ((3, 4, 40), 24, -1.5, 1),
    ((1, 1, 9), 9, 0.0, 1),
]


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    """A geometry whose volume is more than one share of planes, the last one smaller."""
    monkeypatch.setattr(planes, "PLANES", 16)
    volume, columns, offset, fineness = request.param
    return TiltGeometry.single_axis(TILTS, (volume[1], columns), volume, offsets=offset, fineness=fineness)


def whole(geometry, x, back=False):
    """By the projector of the whole volume, in its layout."""
    like = np.empty(0, np.float32)
    operator = make_projector(geometry, like)
    turned = np.ascontiguousarray(x.swapaxes(1, 2), dtype=np.float32)
    if back:
        return operator.adjoint(turned, np.empty(operator.domain_shape, np.float32)).swapaxes(1, 2)
    return operator(turned, np.empty(operator.range_shape, np.float32)).swapaxes(1, 2)


def test_shares_of_planes_add_up_to_the_whole(case):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=s).astype(np.float32) for s in (case.volume, case.stack_shape))
    ax, aty = recon.project(x, case), recon.backproject(y, case)
    np.testing.assert_allclose(ax, whole(case, x), atol=2e-5)
    np.testing.assert_allclose(aty, whole(case, y, back=True), atol=2e-5)
    assert ax.flags.c_contiguous
    assert aty.flags.c_contiguous
    there, here = float(np.vdot(ax.astype(float), y)), float(np.vdot(x.astype(float), aty))
    assert abs(there - here) <= 1e-6 * np.linalg.norm(ax) * np.linalg.norm(y)


def test_numbers_of_any_kind_are_taken_as_they_lie(case):
    x = np.random.default_rng(1).integers(0, 200, case.volume, dtype=np.uint8)
    turned = np.ascontiguousarray(x.T).T  # another order in memory
    expected = recon.project(x.astype(np.float32), case)
    np.testing.assert_array_equal(recon.project(x, case), expected)
    np.testing.assert_array_equal(recon.project(turned, case), expected)
    y = np.random.default_rng(2).random(case.stack_shape)
    np.testing.assert_array_equal(recon.backproject(y, case), recon.backproject(y.astype(np.float32), case))
