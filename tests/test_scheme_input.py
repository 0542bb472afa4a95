"""What a scheme, or an image beside the maps, cannot be: one line before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon import TiltGeometry
from recon.errors import GeometryError, InputError, JobError
from recon.job.file import Job
from recon.job.resources import plan

TILTS = np.arange(-60.0, 61, 30)
FRAME = (16, 16)


@pytest.fixture(scope="module")
def maps():
    return {"A": np.random.default_rng(0).poisson(5, (10, *FRAME))}


@pytest.fixture(scope="module")
def dual(maps):
    return recon.read(maps, geometry=TiltGeometry.dual_axis(TILTS, detector=FRAME), pixel_size_nm=1.0)


def test_filtered_back_projection_is_for_a_single_axis(dual):
    with pytest.raises(JobError, match=r"method 'fbp' serves a single axis, not .*5 about y.*; use 'tgv', 'tv' or"):
        recon.reconstruct(dual, "fbp", device="cpu")


@pytest.mark.parametrize("n", [5, 6, 8, 10, 30, 400])
def test_azimuths_in_radians_are_told(n):
    azimuths = np.arange(n) * 360 / n
    TiltGeometry.conical(55, azimuths, detector=FRAME)
    with pytest.raises(GeometryError, match="look like radians; give degrees"):
        TiltGeometry.conical(55, np.radians(azimuths), detector=FRAME)


@pytest.mark.parametrize("step", [30, 45, 60])
def test_azimuths_in_radians_about_the_middle_are_told(step):
    with pytest.raises(GeometryError, match="look like radians; give degrees"):
        TiltGeometry.conical(55, np.radians(np.arange(-120, 121, step)), detector=FRAME)


@pytest.mark.parametrize(
    "azimuths",
    [[0, 1, 2, 3, 4, 5], [-2.5, -1.5, -0.5, 0.5, 1.5], [0.0, 1.01, 2.99, 4.0, 5.0, 6.01], [0, 0.1, 0.2, 0.3, 0.4]],
)
def test_a_small_part_of_a_circle_is_degrees(azimuths):
    assert len(TiltGeometry.conical(60, azimuths, detector=FRAME)) == len(azimuths)


def test_an_image_of_few_pixels_shows_nothing(maps):
    how = {"image": np.ones((7, *FRAME)), "image_tilts": np.linspace(-60, 60, 7)}
    words = "pixels are 100 times as large as those of the maps, whose frame of 16 x 16 it shows with 0.16 x 0.16"
    with pytest.raises(InputError, match=words):
        recon.read(maps, np.linspace(-60, 60, 10), 1.0, **how, image_pixel_size_nm=100.0)
    assert recon.read(maps, np.linspace(-60, 60, 10), 1.0, **how, image_pixel_size_nm=4.0).image.shape == (7, *FRAME)


@pytest.mark.parametrize("align", ["auto", "none"])
def test_astra_on_a_cpu_is_for_axes_of_the_volume(maps, dual, align, tmp_path):
    """Known before the run: the motion that an alignment finds has beams about none of them."""
    cone = recon.read(maps, geometry=TiltGeometry.conical(55, np.arange(10) * 36.0, detector=FRAME), pixel_size_nm=1.0)
    np.save(tmp_path / "A.npy", maps["A"])
    given = {
        "input": {"maps": {"A": str(tmp_path / "A.npy")}, "pixel_size_nm": 1.0, "tilts": list(TILTS)},
        "align": {"method": align},
        "reconstruct": {"projector": "astra"},
    }
    asked = Job.model_validate(given)
    with pytest.raises(JobError, match=r"projector = 'astra' does not serve .* on a CPU: .* use 'native'"):
        plan(asked, cone, "cpu")
    if align == "none":
        assert plan(asked, dual, "cpu").device == "cpu"
    else:
        with pytest.raises(JobError, match="which an alignment of it has"):
            plan(asked, dual, "cpu")
