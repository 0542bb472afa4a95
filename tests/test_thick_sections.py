"""Objects that leave the frame, thin and thick: the joint fit finds out how thick a model they need."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from recon.alignment.joint import JointFit
from recon.alignment.pose import translation
from recon.alignment.samples import SECTION
from recon.alignment.start import JointStage, as_thick_as_told
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries

TILTS, SIZE, GRAIN, TURNED = np.arange(-60.0, 61, 10), 28, 1.8, 1.0


@cache
def grains(half, seed):
    """Gaussian grains in a layer wider than the frame, `half` pixels to either side: a series, and where it lies."""
    rng = np.random.default_rng(seed)
    z, y, x = rng.uniform(-half, half, 300), rng.uniform(-26, 26, 300), rng.uniform(-30, 30, 300)
    density, at = rng.gamma(1.0, 100, 300), rng.uniform(-2, 2, (TILTS.size, 2))
    c, s = np.cos(np.radians(TURNED)), np.sin(np.radians(TURNED))
    pixel = np.arange(SIZE) - (SIZE - 1) / 2
    counts = np.empty((TILTS.size, SIZE, SIZE))
    for i, tilt in enumerate(np.radians(TILTS)):
        u = x * np.cos(tilt) + z * np.sin(tilt)
        v, u = y * c + u * s + at[i, 0], u * c - y * s + at[i, 1]
        down, along = (np.exp(-np.square(pixel[:, None] - a) / (2 * GRAIN**2)) for a in (v, u))
        counts[i] = 1 + (down * density) @ along.T / (2 * np.pi * GRAIN**2)
    series = TiltSeries.create({"A": rng.poisson(counts).astype(np.float32)}, TILTS, 1.0)
    return series.evolve(background=np.ones((1, TILTS.size)), isolated=False), at


@cache
def fitted(half, section):
    """The joint fit to `grains`; nothing may step it further."""
    series, at = grains(half, 1)
    start = Alignment(at + np.random.default_rng(0).normal(0, 0.3, at.shape))
    fit = JointFit(series, start, np.ones(TILTS.size, bool), most=700, section=section)
    return JointStage(fit, binned_to(series, SIZE)[1], "", fit.solve())


def wrong(fit, at):
    """RMS of displacements that no translation of the object explains, pixels."""
    apart = (fit.pose.displacements - at).T.ravel()
    moves = np.concatenate(translation(fit.pose.tilts, np.radians(TURNED)))
    rest = apart - moves @ np.linalg.lstsq(moves, apart, rcond=None)[0]
    return float(np.sqrt(np.mean(rest**2)))


def test_a_thick_object_is_given_a_thick_model():
    _, at = grains(5.0, 1)
    thin = fitted(5.0, SECTION).fit
    found = as_thick_as_told(lambda section: fitted(5.0, section), False).fit
    assert found.section >= 2 * SECTION
    assert found.foretelling() < 0.5 * thin.foretelling()
    assert wrong(found, at) < 0.5 * wrong(thin, at)
    assert abs(np.degrees(found.pose.rotation) - TURNED) < 1 < abs(np.degrees(thin.pose.rotation) - TURNED)


@pytest.mark.parametrize(("half", "section"), [(1.0, 1), (2.0, 1), (5.0, 2), (9.0, 4)])
def test_a_model_grows_with_the_object_but_not_beyond_it(half, section):
    """Among grains up to 2 pixels off the middle, 3.5 pixels do; a thicker model foretells but little better."""
    found = as_thick_as_told(lambda thick: fitted(half, thick), False)
    assert found.fit.section == section * SECTION
    assert found.settled
    assert abs(np.degrees(found.fit.pose.rotation) - TURNED) < 1.5


def test_a_model_that_does_not_settle_is_not_believed():
    """Thin grains: the thin model settles; what the thicker ones are said to be is made up."""
    series, _ = grains(1.0, 1)
    sound = fitted(1.0, SECTION)

    class Fit(JointFit):
        def foretelling(self):
            return 2.0 if self.section == SECTION else 0.1

    def stage(section):
        fit = Fit(series, sound.fit.found(), np.ones(TILTS.size, bool), most=700, section=section)
        fit.at(replace(fit.pose, rotation=fit.pose.rotation + section / 10))
        return JointStage(fit, sound.bins, "", section == SECTION)

    found = as_thick_as_told(stage, False)
    assert found.fit.section == SECTION
    assert found.apart > 0  # but it tells how little is known


@pytest.mark.parametrize("half", [1.0, 2.0, 5.0, 9.0])
def test_what_the_thickness_leaves_open_is_part_of_the_rotations_error(half):
    found = as_thick_as_told(lambda section: fitted(half, section), False)
    noise = np.degrees(np.sqrt(found.fit.uncertainty()[-1, -1]))
    assert found.rotation_error > 1.2 * noise
    assert abs(np.degrees(found.fit.pose.rotation) - TURNED) < 2 * found.rotation_error


def test_a_thin_object_keeps_a_thin_model():
    _, at = grains(1.0, 1)
    found = as_thick_as_told(lambda section: fitted(1.0, section), False).fit
    assert found.section == SECTION
    assert wrong(found, at) < 0.15


def test_an_object_in_view_is_fitted_once():
    asked = []
    found = as_thick_as_told(lambda section: (asked.append(section), fitted(1.0, section))[1], True)
    assert asked == [SECTION]
    assert found.apart == 0
