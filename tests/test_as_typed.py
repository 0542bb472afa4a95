"""Python as a person types it: names for lists, one volume for a table; what cannot serve is one line."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.analysis.answers import Composition
from recon.errors import BackendError, InputError, JobError
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


def test_options_of_another_type(small):
    """A sentence each, before anything is computed; none is taken for what it is not."""
    series = small
    for options, said in (
        ({"tolerance": "1e-2"}, "tolerance is '1e-2'"),
        ({"max_iterations": "100"}, "max_iterations is '100'"),
        ({"max_iterations": 2.5}, "max_iterations is 2.5; it must be a whole number"),
        ({"memory": "8 GB"}, "memory is '8 GB'; it must be a number of bytes"),
        ({"strength": True}, "strength of Co is True"),
        ({"elements": []}, r"elements are \[\]; name one or some of Co"),
        ({"elements": 3}, "elements are 3; name one"),
    ):
        with pytest.raises((InputError, JobError), match=said):
            recon.reconstruct(series, **options)
    for background in ("none", None, {"Co": "auto"}, [0.1] * 7):
        with pytest.raises(InputError, match=r"background of Co is .*; give 'auto' for all elements, or counts"):
            recon.normalise(series, background=background)
    with pytest.raises(InputError, match=r"elements are \[\]"):
        recon.align(series, reference=[])
    for name in ("", " ", "Co "):
        with pytest.raises(InputError, match="an element is called"):
            recon.read({name: series.counts[0]}, series.tilts_deg, 1.0)


def test_what_holds_an_array_is_no_array(small):
    geometry = recon.TiltGeometry.single_axis(small.tilts_deg, small.frame)
    volume = recon.Volume(np.zeros((8, 8, 8), np.float32), 1.0, "Co")
    with pytest.raises(
        BackendError, match=r"volume is a Volume; it must be a NumPy or CuPy array, such as its \.values"
    ):
        recon.project(volume, geometry)
    with pytest.raises(BackendError, match=r"stack is a TiltSeries; .* such as its \.counts"):
        recon.backproject(small, geometry)


def test_an_answer_prints_as_the_terminal_shows_it():
    found = Composition({}, np.zeros((2, 2, 2), np.uint16), 0, 0, False)
    assert repr(found) == "Composition of no region"


@pytest.fixture
def small():
    maps = np.random.default_rng(0).poisson(9.0, (7, 8, 8))
    return recon.read({"Co": maps}, np.linspace(-60, 60, 7), 1.0)
