"""Spectra through the commands."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from tilted_spectra import folder as folder  # a fixture

import recon
from recon.cli import cli
from recon.eds.maps import line_maps
from recon.eds.windows import Options

pytestmark = pytest.mark.usefixtures("one_reader")

# ---------------------------------------------------------------- the commands


@pytest.fixture
def job(tmp_path, folder):
    (tmp_path / "job.toml").write_text(
        f'[input]\nspectra = "{folder[0].as_posix()}/*.hspy"\nlines = ["Fe_Ka", "Si_Ka"]\n[maps]\nelements = ["Co"]\n'
        '[align]\nmethod = "none"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'
    )
    return tmp_path / "job.toml"


def call(*args):
    return CliRunner().invoke(cli, [str(a) for a in args])


def test_check_shows_tilts_spectrum_and_maps(job):
    done = call("check", job, "--device", "cpu")
    assert done.exit_code == 0, done.output
    for word in (
        "-40.00",
        "stage",
        "-40deg.hspy",
        "100.0",
        "200 kV",
        "elevation 18",
        "2024-05-01",
        "Fe_Ka: 6.3",
        "memory:",
    ):
        assert word in done.output, word
    from PIL import Image

    with Image.open(job.with_name("job-check.png")) as picture:
        assert picture.width > 800
        assert np.unique(np.asarray(picture.convert("L"))).size > 50
    assert sorted(p.name for p in job.parent.iterdir()) == ["job-check.png", "job.toml"]


def test_maps_as_files(job, folder):
    done = call("maps", job)
    assert done.exit_code == 0, done.output
    out = job.with_name("job-maps")
    names = {"Fe_Ka.tif", "Fe_Ka-background.tif", "Si_Ka.tif", "Si_Ka-background.tif", "tilts.rawtlt", "spectra.csv",
             "job.json", "maps.png"}  # fmt: skip
    assert {p.name for p in out.iterdir()} == names
    series = recon.read({"Fe_Ka": out / "Fe_Ka.tif", "Si_Ka": out / "Si_Ka.tif"}, out / "tilts.rawtlt")
    assert series.pixel_size_nm == pytest.approx(5.0)
    found = line_maps(folder[0], ["Fe_Ka", "Si_Ka"], options=Options(elements=("Co",)))
    assert np.array_equal(series.counts[0], found.counts["Fe_Ka"])
    assert call("maps", job).exit_code == 2
    assert call("maps", job, "--overwrite").exit_code == 0


def test_a_run_from_spectra_to_volumes(job, undrawn):
    job.write_text(job.read_text() + '[output]\nformats = ["hspy", "ome-zarr"]\naligned = true\nreport = false\n')
    done = call("run", job, "--device", "cpu")
    assert done.exit_code == 0, done.output
    out = job.with_name("job-recon")
    assert {"Fe_Ka.hspy", "Si_Ka.hspy", "volumes.ome.zarr", "Fe_Ka-aligned.hspy"} <= {p.name for p in out.iterdir()}
    assert call("run", job, "--resume").exit_code == 0
    assert call("report", out).exit_code == 0


def test_wrong_jobs_get_one_line(job, tmp_path):
    text = job.read_text()
    for change, says in (
        (('"Si_Ka"', '"Si_Kx"'), "line 'Si_Kx' is unknown"),
        (("*.hspy", "*.bcf"), "no file matches"),
        (("[maps]", '[maps]\ndetectors = "each"'), "for `recon maps`"),
    ):
        job.write_text(text.replace(*change))
        done = call("run", job)
        assert done.exit_code == 2
        (line,) = [x for x in done.output.splitlines() if x.startswith("error")]
        assert says in line
    assert not job.with_name("job-recon").exists()
