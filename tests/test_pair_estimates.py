"""Statistics of two elements with intervals: on figures whose noise and pull are known, and on volumes."""

from __future__ import annotations

import numpy as np
import pytest

from recon.analysis.halves import Halves
from recon.analysis.pair_estimates import KINDS, around, estimates, pair_estimates
from recon.series.volume import Volume

NAMES = list(KINDS)


def drawn(rng, truth, noise, pull):
    """Figures of the whole and of halves: the whole is pulled once and the halves twice; their noise is independent."""
    of_first, of_second = (rng.normal(0, noise * 2**0.5 * 0.5**0.5, (2, len(NAMES))) for _ in range(2))
    halves = truth + 2 * pull + of_first[:, None] + of_second[None, :]
    return truth + pull + (of_first.mean(axis=0) + of_second.mean(axis=0)), halves


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, held, errors = np.random.default_rng(0), [], []
    truth = np.full(len(NAMES), 100.0)  # only lengths and areas have no upper end
    for _ in range(400):
        found = estimates(*drawn(rng, truth, 60.0, 0.0))["edge"]
        held.append((found.low68 <= 100 <= found.high68, found.low95 <= 100 <= found.high95))
        errors.append(found.noise)
    near, far = np.mean(held, axis=0)
    assert 0.6 < near < 0.9
    assert far > 0.92
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(60, rel=0.1)


def test_what_the_halves_have_in_common_is_taken_out():
    rng = np.random.default_rng(1)
    truth = np.array([0.5, 0.3, 0.2, 0.1, 0.2, 0.3, -0.5, 900.0, 2.0, 1.5])
    pull = np.array([-0.04, 0.01, 0.03, 0.02, 0.02, 0.02, 0.05, -80.0, 0.5, 0.1])
    found = estimates(*drawn(rng, truth, 1e-6, pull))
    for k, name in enumerate(NAMES):
        e = found[name]
        assert e.shown == pytest.approx(truth[k] + pull[k], abs=1e-3)
        assert e.value == pytest.approx(truth[k], abs=1e-3)
        assert e.pull == pytest.approx(abs(pull[k]), abs=1e-3)
        assert e.low95 < e.low68 < truth[k] < e.high68 < e.high95
    assert sum(found[n].value for n in ("only_first", "only_second", "both")) == pytest.approx(1)


def test_parts_stay_parts():
    """A correction below nothing is cut off, and what is left adds up to all."""
    value = np.array([0.5, 0.49, 0.01, 0.1, 0.1, 0.1, -0.99, 10.0, 1.0, 1.0])
    halves = np.tile(np.array([0.44, 0.46, 0.1, 0.2, 0.2, 0.2, -0.9, 12.0, np.nan, 1.0]), (2, 2, 1))
    found = estimates(value, halves)
    assert found["both"].value == found["both"].low95 == 0
    assert found["only_first"].value + found["only_second"].value == pytest.approx(1)
    assert found["correlation"].low95 == -1
    assert found["width"].value == 1.0  # of halves without a border nothing is known
    assert not found["width"].sure


def balls(shift=0.0):
    """Two bodies side by side, ``(z, y, x)``."""
    z, y, x = np.meshgrid(*(np.arange(24) - 11.5,) * 3, indexing="ij")
    inside = z**2 + y**2 + x**2 < 81
    first = np.clip(0.5 + shift - x, 0, 1) * inside
    return {n: Volume(v.astype(np.float32), 2.0, n) for n, v in (("Co", first), ("Zn", inside - first))}


def test_of_volumes():
    whole = balls()
    found = pair_estimates(whole, None, Halves(whole, whole, 0))
    assert list(found) == ["Co-Zn"]
    pair = found["Co-Zn"]
    assert (pair.first, pair.second) == ("Co", "Zn")
    assert pair["only_first"].value == pytest.approx(0.5, abs=0.01)
    assert pair["only_first"].noise == pair["only_first"].pull == 0
    assert pair["only_first"].sure
    other = pair_estimates(whole, None, Halves(balls(0.5), balls(-0.5), 0))["Co-Zn"]["only_first"]
    assert other.noise > 0.02
    assert not pair_estimates(whole)["Co-Zn"]["only_first"].sure
    nothing = {"Co": whole["Co"], "Zn": Volume(np.zeros((24, 24, 24), np.float32), 2.0, "Zn")}
    assert pair_estimates(nothing) == {}


def test_the_box_around_a_particle():
    inside = np.zeros((20, 20, 20), bool)
    assert around(inside) == (slice(0, 20),) * 3
    inside[5, 10:12, 0] = True
    assert around(inside) == (slice(2, 9), slice(7, 15), slice(0, 4))
