"""An image with tilts and pixels of its own, such as 71 HAADF images with 15 maps among them, aligns the maps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import recon
from recon.alignment.on_image import image_series, looked_at
from recon.alignment.pose import translation
from recon.errors import InputError
from recon.series.combine import combine, fitted
from recon.simulate import simulate

TILTS = np.arange(-70.0, 71.0, 5.0)
PICK = np.arange(2, 29, 4)  # seven of them


@pytest.fixture(scope="module")
def recorded():
    """A clear image at 29 tilts, weak maps at seven, of one drifting particle."""
    full, truth = simulate(size=24, tilts_deg=TILTS, dose=2000, seed=2, drift=2.0)
    rng = np.random.default_rng(0)
    image = 12000 + 10 * rng.uniform(0.7, 1.4, (29, 1, 1)) * full.counts.sum(axis=0)
    maps = rng.binomial(full.counts[:, PICK].astype(int), 10 / 2000)
    return {"Co": maps[0], "Zn": maps[1]}, image, truth


def error(series, truth):
    """Of the displacements of all tilts of the series, rms in pixels, less what a translation explains."""
    at = np.abs(TILTS[:, None] - series.tilts_deg).argmin(axis=0)
    along = np.concatenate(translation(np.radians(series.tilts_deg), np.radians(truth.alignment.rotation_deg)))
    wrong = (series.alignment.displacements - truth.alignment.displacements[at]).T.ravel()
    return float(np.sqrt(np.mean((wrong - along @ np.linalg.lstsq(along, wrong, rcond=None)[0]) ** 2)))


def test_all_images_serve_the_alignment_of_the_maps_among_them(recorded):
    maps, image, truth = recorded
    series = recon.read(maps, TILTS[PICK], 5.0, image=image, image_tilts=TILTS)
    assert series.n_tilts == 7
    np.testing.assert_array_equal(series.image_tilts_deg, TILTS)
    assert combine(series).elements == ("reference",)  # of maps
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recon.align(recon.normalise(series), log=lines.append)
    assert error(found, truth) < 0.03
    assert abs(found.alignment.rotation_deg - truth.alignment.rotation_deg) < 1.5
    assert found.alignment.shifts.shape == (7, 2)
    assert found.alignment.residual.shape == (7,)
    assert np.isfinite(found.alignment.errors).all()
    assert "align: 29 images show where 7 of 7 maps lie" in lines
    assert "of 29 images" in found.alignment.method
    np.testing.assert_array_equal(found.counts, series.counts)


def test_maps_that_no_image_goes_with_are_matched(recorded):
    maps, image, truth = recorded
    rng = np.random.default_rng(1)
    bright = {n: rng.poisson(20.0 * a) for n, a in maps.items()}
    gone = np.delete(np.arange(29), PICK[[1, 5]])
    series = recon.read(bright, TILTS[PICK], 5.0, image=image[gone], image_tilts=TILTS[gone])
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recon.align(recon.normalise(series), log=lines.append)
    assert "align: 27 images show where 5 of 7 maps lie" in lines
    assert found.image_shifts.shape == (27, 2)
    among = np.searchsorted(TILTS[gone], TILTS[PICK[[0, 2, 3, 4, 6]]])
    np.testing.assert_array_equal(found.image_shifts[among], found.alignment.shifts[[0, 2, 3, 4, 6]])
    assert any("tilts -40, 40, which the reference does not show, by Co, Zn" in line for line in lines)
    assert error(found, truth) < 0.25


def test_images_that_the_object_leaves_are_exposed_by_their_fit():
    """More images than maps drift out of the frame, where totals tell nothing of the gain that each image has."""
    gain = np.random.default_rng(1).uniform(0.6, 1.5, (15, 1, 1))
    full, truth = simulate(size=24, tilts_deg=TILTS[::2], dose=2000, seed=4, drift=6.0, rotation_deg=0.0)
    image = 500 + 10 * gain * full.counts.sum(axis=0)
    maps = dict(zip(full.elements, full.counts[:, ::2], strict=True))
    series = recon.read(maps, TILTS[::4], 5.0, image=image, image_tilts=TILTS[::2]).evolve(isolated=True)
    own = looked_at(image_series(series))
    assert not own.isolated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recon.align(own, log=lambda line: None)
    assert found.alignment.residual.max() < 3
    along = np.concatenate(translation(np.radians(TILTS[::2]), np.radians(found.alignment.rotation_deg)))
    wrong = (found.alignment.displacements - truth.alignment.displacements).T.ravel()
    wrong -= along @ np.linalg.lstsq(along, wrong, rcond=None)[0]
    assert np.sqrt(np.mean(wrong**2)) < 0.05


def test_finer_pixels_and_a_wider_view_are_averaged_by_area():
    """An image of another pixel size against its own pixels averaged in closed form."""
    y, x = np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5, indexing="ij")
    plane = (2 * y + 3 * x)[None]  # of which every mean is the value in the middle, to a part of a pixel's step
    found = fitted(plane, (16, 18), 0.4)  # shows 24 x 24 pixels of the maps
    v, u = (np.arange(n) - (n - 1) / 2 for n in (16, 18))
    np.testing.assert_allclose(found[0], 150 + 2 * v[:, None] / 0.4 + 3 * u / 0.4, atol=0.3)
    blocks = fitted(np.arange(64.0).reshape(1, 8, 8), (4, 4))
    np.testing.assert_allclose(blocks[0, 0], [4.5, 6.5, 8.5, 10.5])


def test_the_same_tilts_are_no_tilts_of_its_own(recorded):
    maps, image, _ = recorded
    series = recon.read(maps, TILTS[PICK], 5.0, image=image[PICK], image_tilts=TILTS[PICK])
    assert series.image_tilts_deg is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_tilts": None}, "holds 29 images, the maps have 7 tilts, and nothing says at which tilts"),
        ({"image_tilts": TILTS[:-1]}, "holds 29 images but 28 tilts were given"),
        ({"image_pixel_size_nm": 0.0}, "pixel size of the image is 0.0 nm"),
        ({"image_pixel_size_nm": 2.5}, "shows 12 x 12 pixels of the maps, which have 24 x 24"),
        ({"image_tilts": np.radians(TILTS)}, "look like radians"),
    ],
)
def test_wrong_images_get_one_line(recorded, change, message):
    maps, image, _ = recorded
    with pytest.raises(InputError, match=message):
        recon.read(maps, TILTS[PICK], 5.0, image=image, **{"image_tilts": TILTS} | change)


def test_an_image_of_too_few_tilts_is_told(recorded):
    maps, image, _ = recorded
    series = recon.read(maps, TILTS[PICK], 5.0, image=image, image_tilts=TILTS)
    few = series.evolve(image=image[:2], image_tilts_deg=TILTS[:2])
    with pytest.raises(InputError, match="the reference image: there are 2 tilts"):
        image_series(few)


def test_a_scheme_of_more_axes_takes_an_image_for_each_map(recorded):
    maps, image, _ = recorded
    cone = recon.TiltGeometry.conical(50, np.arange(0, 350, 50.0), detector=(24, 24))
    with pytest.raises(InputError, match="has tilts of its own, which serves a single axis"):
        recon.read(maps, geometry=cone, pixel_size_nm=5.0, image=image, image_tilts=TILTS)
