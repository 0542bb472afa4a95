"""Registration of two volumes recovers a known motion."""

from __future__ import annotations

import numpy as np
import pytest
from truth import error

from recon.job.demo import register

# ---------------------------------------------------------------- register


def blobs(n, motion=(0.0, 0.0, 0.0), turn_deg=0.0):
    """Two elements of Gaussian blobs, moved after a turn about z that takes x to y."""
    where = {"A": [(-3, 2, 5), (2, -6, 1)], "B": [(3, 4, -4), (-1, -3, -6)]}
    axis = np.arange(n) - (n - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    out = {}
    for name, centres in where.items():
        total = np.zeros((n, n, n))
        for cz, cy, cx in centres:
            at = np.array([cz, c * cy + s * cx, -s * cy + c * cx]) + motion
            total += np.exp(-((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / (2 * 2.0**2))
        out[name] = total.astype(np.float32)
    return out


@pytest.mark.parametrize(
    ("motion", "turn"), [((0, 0, 0), 0), ((0.7, -1.2, 0.4), 0), ((0, 0, 0), 5), ((-1.6, 0.9, 2.3), -7)]
)
def test_registration_recovers_a_shift_and_a_turn(motion, turn):
    """To 0.013 voxel and 0.022 degrees; what is left, up to 0.05, is linear interpolation."""
    volumes, truth = blobs(26, motion, turn), blobs(26)
    found = register(volumes, truth)
    np.testing.assert_allclose(found.translation, motion, atol=0.05)
    assert found.turn_deg == pytest.approx(turn, abs=0.1)
    assert max(found.errors.values()) < 0.08
    for n in truth:
        assert error(found.truth[n], volumes[n]) < 0.08
        assert found.errors[n] == pytest.approx(
            np.linalg.norm(volumes[n] - found.truth[n].astype(float)) / np.linalg.norm(truth[n].astype(float))
        )


def test_registration_does_not_hide_errors():
    """Volumes a fifth too bright are a fifth wrong."""
    truth = blobs(26)
    found = register({n: 1.2 * v for n, v in truth.items()}, truth)
    assert list(found.errors.values()) == pytest.approx([0.2, 0.2], abs=0.01)
