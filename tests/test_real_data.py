"""A real EDS tilt series (a focused-ion-beam section, shared/data beside the checkout); skips where it is absent."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recon
from recon.align import combine, cross_correlation

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "L2083-K-4-1"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real tilt series is not here")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    out = tmp_path_factory.mktemp("real")
    script = ROOT / "examples" / "bcf_to_maps.py"
    subprocess.run([sys.executable, str(script), str(DATA), str(out), "--bin", "8"], check=True, capture_output=True)
    maps = {name: out / f"{name}.tif" for name in ("Fe", "Si", "O")}
    return recon.normalise(recon.read(maps, out / "tilts.rawtlt", 8 * 13.0814))


def test_a_section_that_fills_the_frame_is_not_taken_for_an_isolated_particle(series):
    assert series.isolated is False
    assert (series.exposures == 1).all()


def test_the_jump_at_zero_degrees_is_found(series):
    """About 16 raw pixels, 2 here, against both neighbours; elsewhere a few raw pixels."""
    u = cross_correlation(combine(series))[:, 1]
    at = int(np.argmin(np.abs(series.tilts_deg)))
    jump = u[at] - (u[at - 1] + u[at + 1]) / 2
    assert abs(abs(jump) - 2) < 0.5
    rest = np.delete(u, at)
    assert np.abs(np.diff(rest)).max() < 1.5


def test_the_sum_along_the_beam_shows_what_the_map_at_zero_tilt_shows(series):
    aligned = recon.align(series, "cross-correlation")
    volumes = recon.reconstruct(aligned, "sirt", thickness=16)
    at = int(np.argmin(np.abs(series.tilts_deg)))
    dv, du = np.round(aligned.alignment.displacements[at]).astype(int)
    for e, name in enumerate(series.elements):
        projected = np.roll(volumes[name].values.sum(axis=0), (dv, du), axis=(0, 1))[4:-4, 4:-4]
        recorded = series.counts[e, at, 4:-4, 4:-4]
        assert np.corrcoef(projected.ravel(), recorded.ravel())[0, 1] > 0.8, name
