"""How far an answer may be off: intervals from noise that was counted and errors that were judged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

import recon.analysis.intervals as intervals
from recon.analysis.intervals import JUDGED, Errors


@pytest.fixture
def nothing_unseen(monkeypatch):
    monkeypatch.setattr(intervals, "UNSEEN", 0.0)
    monkeypatch.setattr(intervals, "UNSEEN_OF_ALIGNMENT", 0.0)


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_noise_alone_gives_the_interval_of_a_prediction(nothing_unseen, level):
    """One answer more from the distribution of n: Student's t, as in textbooks."""
    errors = Errors(10, 0.02, 0.0, 0.0, False)
    assert errors.degrees_of_freedom == pytest.approx(9)
    assert errors.reach(level) == pytest.approx(t.ppf(0.5 + level / 2, 9) * 0.02 * np.sqrt(1.1), rel=1e-9)


@pytest.mark.parametrize(("bias", "pull", "error"), [(0.08, 0.0, 0.04), (-0.08, 0.0, 0.04), (0.0, 0.05, 0.05)])
def test_what_was_judged_has_long_tails(nothing_unseen, bias, pull, error):
    errors = Errors(10, 0.0, bias, pull, False)
    assert errors.all == pytest.approx(error)
    assert errors.reach(0.95) == pytest.approx(t.ppf(0.975, JUDGED) * error, rel=1e-9)
    assert errors.reach(0.95) > norm.ppf(0.975) * error


def test_a_stated_share_of_drawn_errors_lies_within():
    """Noise of ten recordings, and a judged error of which only a guess with three degrees of freedom is known."""
    rng, held, n = np.random.default_rng(0), {0.68: 0, 0.95: 0}, 4000
    for _ in range(n):
        recordings = rng.normal(0, 0.03, 10)
        guess = 0.03 * np.sqrt(rng.chisquare(JUDGED) / JUDGED)
        errors = Errors(10, float(recordings.std(ddof=1)), 0.0, float(guess), False)
        off = rng.normal(0, 0.03) + recordings.mean() + rng.normal(0, 0.03)
        for level in held:
            held[level] += abs(off) <= errors.reach(level)
    assert abs(held[0.68] / n - 0.68) < 0.04
    assert abs(held[0.95] / n - 0.95) < 0.02


def test_an_alignment_that_was_estimated_widens_them():
    known, blind = (Errors(10, 0.01, 0.0, 0.0, aligned) for aligned in (False, True))
    assert known.reach(0.95) < blind.reach(0.95)


def test_what_another_strength_changes_widens_an_interval():
    off = np.array([0.01, -0.01, 0.0, 0.005, -0.005])
    near, far = (Errors.of(np.array([0.5, 0.5, 0.5 + d]), off, False) for d in (0.0, 0.2))
    assert far.pull == pytest.approx(0.2)
    assert far.reach(0.95) > 0.39 > near.reach(0.95)
