"""The regions of a job file: what can be said, what wrong words get, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from job_text import INPUT, load, message
from job_text import folder as folder

from recon.analysis.places import Box, Ellipsoid
from recon.errors import InputError
from recon.io.volumes import write_volume
from recon.job.overrides import read_regions
from recon.series.tilt_series import TiltSeries


def series():
    maps = np.random.default_rng(0).poisson(3.0, (3, 10, 8)).astype(np.float32)
    return TiltSeries.create({"Co": maps, "Zn": maps}, [-30.0, 0.0, 30.0], 5.0)


def test_shapes_and_files_become_regions(folder):
    mask = np.zeros((8, 10, 8), bool)
    mask[1:3, 1:3, 1:3] = True
    write_volume(Path("lobe.tif"), mask, 5.0, "tiff")
    job = load(
        INPUT + 'pixel_size_nm = 5\n[regions]\nneck = { centre = [4, 5, 3.5], semi_axes = [1, 2, 1.5] }\n'
        'ball = { centre = [4, 1, 6], radius = 1 }\nslab = { low = [0, 7.5, 0], high = [2, 9, 3] }\nlobe = "lobe.tif"\n'
    )  # fmt: skip
    found = read_regions(job, series())
    assert found["neck"] == Ellipsoid((4, 5, 3.5), (1, 2, 1.5))
    assert found["ball"] == Ellipsoid.sphere((4, 1, 6), 1)
    assert found["slab"] == Box((0, 7.5, 0), (2, 9, 3))
    np.testing.assert_array_equal(found["lobe"], mask)
    assert job.resolved()["regions"]["lobe"] == "lobe.tif"
    assert job.resolved()["regions"]["ball"]["radius"] == [1.0]


def test_by_default_what_is_found_is_asked_about(folder):
    assert load(INPUT).regions == "auto"
    assert load('regions = "none"\n' + INPUT).regions == "none"
    assert read_regions(load(INPUT), series()) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("neck = { centre = [4, 5, 3] }", ("neck", "centre and semi_axes", "low and high")),
        ("neck = { centre = [4, 5], radius = 2 }", ("neck", "three numbers as centre")),
        ("neck = { centre = [4, 5, 3], radius = -2 }", ("neck", "-2", "positive number of voxels (radius)")),
        ("neck = { centre = [4, 5, 3], semi_axes = [1, 0, 2] }", ("neck", "positive number of voxels (semi_axes)")),
        ('neck = "gone.tif"', ("neck", "gone.tif does not exist")),
        ("neck = 3", ("neck", "path of a file")),
        ('"the neck" = { centre = [4, 5, 3], radius = 2 }', ("the neck", "letters, digits")),
    ],
)
def test_a_wrong_region_gets_one_line(folder, text, words):
    said = message(INPUT + "[regions]\n" + text + "\n")
    assert "job.toml:" in said
    assert all(w in said for w in words), said


@pytest.mark.parametrize("text", ['regions = "all"', "regions = 4"])
def test_wrong_words_for_regions(folder, text):
    assert "'auto', 'none', or a table" in message(text + "\n" + INPUT)


def test_what_does_not_fit_the_volume_is_told_before_the_work(folder):
    with pytest.raises(InputError, match="'neck' holds no voxel"):
        read_regions(load(INPUT + "[regions]\nneck = { centre = [40, 5, 3], radius = 2 }\n"), series())
    write_volume(Path("lobe.tif"), np.ones((2, 10, 8), bool), 5.0, "tiff")
    with pytest.raises(InputError, match=r"'lobe' has shape \(2, 10, 8\)"):
        read_regions(load(INPUT + '[regions]\nlobe = "lobe.tif"\n'), series())
