"""Python as a person types it: names for lists, one volume for a table; what cannot serve is one line."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.errors import InputError
from recon.simulate import simulate


@pytest.fixture(scope="module")
def series():
    made, _ = simulate(size=16, seed=0, drift=0, tilts_deg=np.linspace(-60, 60, 7))
    return recon.normalise(made)


@pytest.fixture(scope="module")
def volumes(series):
    return recon.reconstruct(series, "sirt", max_iterations=3)


def test_one_element_by_its_name(series, volumes):
    found = recon.reconstruct(series, "sirt", elements="Co", max_iterations=3)
    assert list(found) == ["Co"]
    np.testing.assert_array_equal(found["Co"].values, volumes["Co"].values)
    with pytest.raises(InputError, match="element 'Cu' is not in the series; it has Co, Zn"):
        recon.reconstruct(series, "sirt", elements="Cu")
    assert recon.align(series, "none", reference="Zn").elements == ("Co", "Zn")
    with pytest.raises(InputError, match="element 'Cu' is not in the series"):
        recon.align(series, "none", reference="Cu")


def test_one_volume_by_itself(volumes, tmp_path):
    one = volumes["Co"]
    assert one.shape == (16, 16, 16) == np.asarray(one).shape
    np.testing.assert_array_equal(recon.mask(one), recon.mask({"Co": one}))
    assert recon.features(one) == {}
    recon.write(one, tmp_path / "out")
    assert (tmp_path / "out" / "Co.tif").is_file()


@pytest.mark.parametrize("name", ["Co.tif", "both.ome.zarr", "a.mrc", "A.TIF"])
def test_the_name_of_a_file_is_no_folder(volumes, tmp_path, name):
    with pytest.raises(InputError, match=r"is the name of a file, and recon\.write makes a folder"):
        recon.write(volumes, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [recon.mask, recon.features, lambda v: recon.write(v, "out")])
@pytest.mark.parametrize("wrong", [3, [1.0], {"Co": np.zeros((4, 4, 4))}, np.zeros((4, 4, 4)), None])
def test_what_is_no_volume(call, wrong):
    with pytest.raises(InputError, match=f"not a {type(wrong).__name__}"):
        call(wrong)


@pytest.mark.parametrize("call", [recon.normalise, recon.align, recon.reconstruct])
@pytest.mark.parametrize("wrong", [None, {"Co": np.zeros((3, 4, 4))}, "Co.tif"])
def test_what_is_no_series(call, wrong):
    with pytest.raises(InputError, match=f"takes a TiltSeries, as recon.read makes it, not a {type(wrong).__name__}"):
        call(wrong)


@pytest.mark.parametrize("wrong", [None, 3, np.ones((7, 8, 8)), [np.ones((7, 8, 8))], {27: np.ones((7, 8, 8))}])
def test_maps_without_the_name_of_an_element(wrong):
    with pytest.raises(InputError, match=f"maps is a {type(wrong).__name__}; name the maps of each element"):
        recon.read(wrong, np.linspace(-60, 60, 7), 1.0)


def test_a_masked_array_is_not_read_as_if_it_were_none():
    maps = np.random.default_rng(0).poisson(9.0, (7, 8, 8))
    tilts = np.linspace(-60, 60, 7)
    hot = np.ma.masked_array(maps, maps > 15)
    with pytest.raises(
        InputError, match=r"Co is a masked array, of which the values alone would be read; give .* weights"
    ):
        recon.read({"Co": hot}, tilts, 1.0)
    read = recon.read({"Co": hot.data}, tilts, 1.0, weights=~np.ma.getmaskarray(hot))
    np.testing.assert_array_equal(read.weights, maps <= 15)
    assert recon.read({"Co": np.ma.masked_array(maps)}, tilts, 1.0).weights is None


def test_one_line_by_its_name(tmp_path):
    with pytest.raises(InputError, match="holds no spectrum images"):
        recon.line_maps(tmp_path, "Fe_Ka")
