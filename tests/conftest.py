"""Simulated series that several files of tests share; nothing here changes them."""

from __future__ import annotations

import pytest
from truth import known

from recon.alignment.align import align
from recon.preparation.normalise import normalise
from recon.simulate import simulate


@pytest.fixture(scope="session")
def small():
    return simulate(size=32, seed=1)


@pytest.fixture(scope="session")
def upright():
    """No axis rotation: at this size the likelihood knows it to a few degrees only."""
    series, truth = simulate(size=32, seed=0, rotation_deg=0)
    return normalise(series), truth


@pytest.fixture(scope="session")
def aligned(upright):
    return align(upright[0])


@pytest.fixture(scope="session")
def twenty_four():
    series, truth = simulate(size=24, seed=0, drift=1.5)
    return known(series, truth), truth
