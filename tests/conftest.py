"""Threads of the tests, and simulated series that several of their files share and none changes."""

from __future__ import annotations

import os

import pytest

# Processes side by side have a core each, and those that a test starts have it too. Before anything imports Numba.
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def small():
    from recon.simulate import simulate

    return simulate(size=32, seed=1)


@pytest.fixture(scope="session")
def upright():
    """No axis rotation: at this size the likelihood knows it to a few degrees only."""
    from recon.preparation.normalise import normalise
    from recon.simulate import simulate

    series, truth = simulate(size=32, seed=0, rotation_deg=0)
    return normalise(series), truth


@pytest.fixture(scope="session")
def aligned(upright):
    from recon.alignment.align import align

    return align(upright[0])


@pytest.fixture(scope="session")
def twenty_four():
    from truth import known

    from recon.simulate import simulate

    series, truth = simulate(size=24, seed=0, drift=1.5)
    return known(series, truth), truth


@pytest.fixture(scope="session")
def _kept_reader():
    from recon.eds.child_process import Apart

    with Apart() as kept:
        yield kept


@pytest.fixture
def one_reader(monkeypatch, _kept_reader):
    """Spectrum images are read in one child process for all tests: to start one takes longer than most of them."""
    from recon.eds.child_process import Apart

    class Lent(Apart):
        def __enter__(self):
            return _kept_reader

    monkeypatch.setattr("recon.eds.maps.Apart", Lent)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures of a report are made and not drawn, which takes most of its time."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, target, *args, **how: target.write(b"<svg></svg>"))
