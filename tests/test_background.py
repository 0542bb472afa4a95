"""Background and "is it wholly in view?" of small series whose truth is drawn by hand, at any share of the peak."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.preparation import isolation
from recon.preparation.isolation import locate, look
from recon.series.binning import binned
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries

N = 48
TILTS = np.linspace(-70, 70, 8)
Y, X = np.meshgrid(*[np.arange(N) - (N - 1) / 2] * 2, indexing="ij")


def ball(v: float, u: float, r: float) -> np.ndarray:
    """Thickness of a ball ``(y, x)``, 1 in the middle."""
    return np.sqrt(np.maximum(1 - ((Y - v) ** 2 + (X - u) ** 2) / r**2, 0))


def series(signal, ground, seed=0) -> TiltSeries:
    """Poisson counts of ``signal + ground``, both ``(tilt, y, x)`` or a number."""
    mean = np.broadcast_to(np.asarray(signal) + ground, (TILTS.size, N, N))
    return TiltSeries.create({"A": np.random.default_rng(seed).poisson(mean).astype(np.float32)}, TILTS, 2.0)


def dots(radius=4.0, peak=1.0) -> np.ndarray:
    """A chain across the frame, drawn together as it tilts."""
    t = np.radians(TILTS)
    return np.stack([peak * sum(ball(3 * np.sin(k), 9 * k * np.cos(a), radius) for k in range(-9, 10)) for a in t])


@pytest.mark.parametrize("peak", [4, 40])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.3, 0.5])
def test_an_isolated_ball_on_an_even_background(peak, share):
    found = recon.normalise(series(peak * ball(2, -3, 9), share * peak))
    assert found.isolated
    assert found.used.all()
    np.testing.assert_allclose(found.background[0].mean(), share * peak, atol=0.01 * peak + 1e-9, rtol=0.02)


def test_a_background_that_changes_with_tilt_is_found_tilt_by_tilt():
    level = np.linspace(2, 8, TILTS.size)
    found = recon.normalise(series(30 * ball(0, 0, 10), level[:, None, None]))
    assert found.isolated
    np.testing.assert_allclose(found.background[0], level, rtol=0.03)


def test_a_background_that_slopes_is_none_of_the_object():
    slope = 6 * (1 + 0.3 * X / (N / 2))
    found = recon.normalise(series(30 * ball(0, 0, 10), slope))
    assert found.isolated
    np.testing.assert_allclose(found.background[0].mean(), 6, rtol=0.03)


def test_a_chain_on_a_film_leaves_the_frame_and_has_a_background():
    """0.2 counts a pixel, more at high tilt, as a film looks thicker there."""
    level = 0.2 / np.cos(np.radians(TILTS))
    found = recon.normalise(series(dots(peak=5), level[:, None, None]))
    assert found.isolated is False
    np.testing.assert_allclose(found.background[0], level, rtol=0.15)


def test_a_ball_cut_by_the_border_has_a_background_and_is_not_isolated():
    found = recon.normalise(series(20 * ball(N / 2 - 2, 0, 9), 4.0))
    assert found.isolated is False
    np.testing.assert_allclose(found.background[0], 4, rtol=0.03)


def test_a_matrix_that_holds_a_grain_is_no_background():
    """It fills the frame as evenly, but looks thicker with tilt; a background of the same strength does not."""
    thick = 12 / np.cos(np.radians(TILTS))[:, None, None]
    grain = 30 * ball(0, 0, 9)
    film = recon.normalise(series(grain, thick))
    assert film.isolated is False
    assert not film.background.any()
    even = recon.normalise(series(grain, 12.0))
    assert even.isolated
    np.testing.assert_allclose(even.background[0].mean(), 12, rtol=0.02)


@pytest.mark.parametrize(
    ("thickness", "told"), [(1.0, ""), (4.0, "those of a support"), (7.0, "material of the object"), (25.0, "")]
)
def test_a_film_that_may_be_a_support_or_the_object_is_told(thickness, told):
    """What it is taken for, and what to give if it is the other."""
    thick = thickness / np.cos(np.radians(TILTS))[:, None, None]
    found = recon.normalise(series(30 * ball(0, 0, 9), thick))
    lines = [r for r in found.remarks if "as a film does" in r]
    assert len(lines) == bool(told)
    assert told in "".join(lines)
    assert ("input.background = 0" in "".join(lines)) == (thickness == 4)
    assert not any("film" in r for r in recon.normalise(series(30 * ball(0, 0, 9), thick), background=1.0).remarks)


def test_what_fills_the_frame_has_no_background_that_the_maps_could_tell():
    grains = 20 * np.random.default_rng(3).random((TILTS.size, 12, 12)) ** 2
    found = recon.normalise(series(np.kron(grains, np.ones((1, 4, 4))), 1.0))
    assert found.isolated is False
    assert not found.background.any()


def test_scaled_maps_about_any_level():
    noise = np.random.default_rng(2).normal(0, 0.02, (TILTS.size, N, N))
    maps = (ball(2, -3, 9) + noise).astype(np.float32)
    for offset in (0.0, -5.0, 3.0):
        assert locate(TiltSeries.create({"A": maps + np.float32(offset)}, TILTS, 2.0, scaled=True)).isolated
    cut = (ball(N / 2 - 2, 0, 9) + noise).astype(np.float32)
    assert not locate(TiltSeries.create({"A": cut}, TILTS, 2.0, scaled=True)).isolated


def test_the_object_is_looked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(isolation, "look", lambda s: asked.append(1) or look(s))
    found = locate(series(20 * ball(0, 0, 9), 1.0))
    assert locate(found) is found
    small = binned(combine(recon.normalise(found)), 2)[0]
    assert asked == [1]
    assert small.scene is not None
    assert small.scene.empty.shape == (TILTS.size, N // 2, N // 2)
    blocks = found.scene.empty.reshape(TILTS.size, N // 2, 2, N // 2, 2)
    np.testing.assert_array_equal(small.scene.empty, blocks.all(axis=(2, 4)))
    assert found.evolve(counts=found.counts * 2).scene is None  # it was that of other maps
