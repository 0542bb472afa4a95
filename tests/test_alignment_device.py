"""The alignment on a GPU: the same answer; without one, on arrays that refuse what CuPy's refuse."""

from __future__ import annotations

import numpy as np
import pytest
from device_stand_in import Array, stand_in
from test_align import section

from recon.alignment.align import align
from recon.alignment.coarse import centre_of_mass
from recon.alignment.joint import JointFit
from recon.alignment.linear import factored, solved
from recon.alignment.reprojection import Matcher
from recon.backend import cuda_unavailable, to_device, to_host
from recon.geometry.tilt_geometry import TiltGeometry
from recon.preparation.normalise import normalise
from recon.series.alignment import Alignment
from recon.series.combine import combine
from recon.simulate import simulate


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where the alignment is done, and the type of arrays there."""
    if request.param == "stand-in":
        stand_in(monkeypatch)
        return Array
    why = cuda_unavailable()
    if why is not None:
        pytest.skip(why)
    import cupy

    return cupy.ndarray


@pytest.fixture(scope="module")
def particle():
    series, _ = simulate(size=24, dose=100, seed=3, rotation_deg=3.0, drift=1.0, tilts_deg=np.arange(-60, 61, 15.0))
    return normalise(series)


def test_a_joint_fit_on_the_device_is_that_on_the_host(device, particle):
    combined = combine(particle)
    start = Alignment(centre_of_mass(combined))
    here, there = (JointFit(combined, start, combined.used, most=150, device=where) for where in ("cpu", "cuda"))
    for fit in (here, there):
        fit.step()
        fit.correct()
    assert isinstance(there.linear.factor, device)
    assert isinstance(here.linear.factor, np.ndarray)
    np.testing.assert_allclose(there.pose.displacements, here.pose.displacements, atol=2e-3)  # single precision
    assert there.pose.rotation == pytest.approx(here.pose.rotation, abs=1e-3)
    np.testing.assert_allclose(there.agreement(), here.agreement(), atol=1e-3)
    np.testing.assert_allclose(there.uncertainty(), here.uncertainty(), rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(there.known(), here.known(), rtol=1e-3)


def test_the_normal_equations_are_solved_on_the_device(device):
    rng = np.random.default_rng(2)
    half = rng.normal(size=(30, 30))
    normal, right = (half @ half.T + np.eye(30)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32)
    found = solved(factored(to_device(normal, "cuda")), to_device(right, "cuda"))
    assert isinstance(found, device)
    np.testing.assert_allclose(to_host(found), np.linalg.solve(normal, right), rtol=1e-3, atol=1e-4)


def test_a_matrix_that_has_no_factor_is_told(device):
    with pytest.raises(np.linalg.LinAlgError):
        factored(to_device(-np.eye(3, dtype=np.float32), "cuda"))


def test_maps_are_matched_with_what_the_device_projects(device, particle):
    combined = combine(particle)
    start = Alignment(centre_of_mass(combined))
    here, there = (Matcher(combined, start, device=where) for where in ("cpu", "cuda"))
    for matcher in (here, there):
        matcher.converge(2, 20)
    assert isinstance(there.image, device)
    np.testing.assert_allclose(there.alignment.shifts, here.alignment.shifts, atol=1e-3)
    np.testing.assert_allclose(there.predict(), here.predict(), atol=1e-3 * float(here.predict().max()))


@pytest.mark.parametrize("kind", ["particle", "section", "cone"])
def test_the_alignment_is_the_same_on_the_device(device, particle, kind):
    """A section leaves the frame: its exposures are found, too. A cone is matched only."""
    series = particle
    if kind == "cone":
        cone = TiltGeometry.conical(55, np.arange(0, 360, 40.0), detector=(24, 24))
        series = normalise(simulate(size=24, geometry=cone, dose=300, rotation_deg=0, axis_offset=0, samples=2)[0])
    if kind == "section":
        series = section(np.zeros((9, 2), int)).evolve(exposures_from="open")
    here, there = (align(series, device=where, log=lambda line: None) for where in ("cpu", "cuda"))
    np.testing.assert_allclose(there.alignment.displacements, here.alignment.displacements, atol=2e-3)
    assert there.alignment.rotation_deg == pytest.approx(here.alignment.rotation_deg, abs=0.02)
    np.testing.assert_allclose(there.alignment.errors, here.alignment.errors, rtol=0.02)
    np.testing.assert_allclose(there.alignment.residual, here.alignment.residual, rtol=0.01)
    np.testing.assert_allclose(there.exposures, here.exposures, rtol=1e-3)
    assert len(there.alignment.doubts) == len(here.alignment.doubts)
