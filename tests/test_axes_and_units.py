"""Axes, pixels and units as other programs write them: put right by name, or refused; never a transposed map."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from files import fails
from files import silent as silent  # a fixture
from stack_files import MAPS, TILTS, write_emd, write_hspy, write_zarr

import recon
from recon.errors import InputError
from recon.io import read_stack, read_volume
from recon.io.formats.axes import Axis, arranged
from recon.io.stacks import load_stack

ORDERS = ("tyx", "txy", "ytx", "yxt", "xty", "xyt")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["emd", "zarr", "mrc", "tif", "hspy", "hspy-emd"])
def test_axes_are_put_in_order_by_name(tmp_path, order, kind):
    stored = np.ascontiguousarray(MAPS.transpose(["tyx".index(n) for n in order]))
    path = tmp_path / f"a.{kind.split('-')[-1]}"
    if kind == "emd":
        write_emd(path, {"tomography": MAPS}, order)
    elif kind == "zarr":
        write_zarr(path, MAPS, order)
    elif kind == "mrc":
        with mrcfile.new(path) as f:
            f.set_data(stored)
            f.voxel_size = 20.0
            f.header.maps, f.header.mapr, f.header.mapc = (3 - "tyx".index(n) for n in order)
    elif kind == "tif":
        named = order.upper().replace("T", "Q")
        tifffile.imwrite(path, stored, photometric="minisblack", metadata={"axes": named},
                         resolution=(5e6, 5e6), resolutionunit="CENTIMETER")  # fmt: skip
    else:
        write_hspy(path, stored, order)
    found = load_stack(path)
    np.testing.assert_array_equal(found.values, MAPS)
    assert found.pixel_nm(path) == pytest.approx(2.0)
    assert bool(found.notes) == (order != ("xyt" if kind == "hspy-emd" else "tyx"))  # HyperSpy writes them turned round


def test_nameless_axes_stay_as_stored():
    plain = arranged(MAPS, [Axis(), Axis(), Axis()])
    np.testing.assert_array_equal(plain.values, MAPS)
    degrees = arranged(MAPS.transpose(1, 2, 0), [Axis(), Axis(), Axis(unit="deg", scale=1)])
    np.testing.assert_array_equal(degrees.values, MAPS)  # an axis in degrees is that of the tilts
    fails(InputError, arranged, MAPS, [Axis(unit="deg"), Axis(unit="rad"), Axis()], "a.emd", says="2 axes of angles")
    fails(InputError, arranged, MAPS, [Axis("x"), Axis("x"), Axis("y")], "a.emd", says="two axes x")


@pytest.mark.parametrize("order", [(1, 1, 1), (1, 2, 2), (4, 2, 3)])
def test_mrc_axes_that_are_none(tmp_path, order):
    with mrcfile.new(tmp_path / "a.mrc") as f:
        f.set_data(MAPS)
        f.header.mapc, f.header.mapr, f.header.maps = order
    fails(InputError, read_stack, tmp_path / "a.mrc", says=("MAPC, MAPR, MAPS", "header"))


@pytest.mark.parametrize("stack", [True, False])
def test_mrc_stack_or_volume_and_origin(tmp_path, stack):
    with mrcfile.new(tmp_path / "a.mrc") as f:
        f.set_data(MAPS)
        _ = f.set_image_stack() if stack else f.set_volume()
        f.voxel_size = (20.0, 20.0, 5.0)
        f.header.origin = (100.0, -50.0, 3.0)
        f.header.nxstart = 7
    found = load_stack(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.values, MAPS)
    assert found.edges_nm == (2.0, 2.0)


# ---- pixels that are not square ----


@pytest.mark.parametrize("kind", ["emd", "zarr", "mrc", "tif", "ome.tif", "imagej.tif", "hspy", "signal"])
@pytest.mark.parametrize("given", [None, 2.0])
def test_pixels_that_are_not_square_are_refused(tmp_path, kind, given):
    path = tmp_path / f"a.{kind}"
    source = path
    if kind == "emd":
        write_emd(path, {"a": MAPS}, edges=(4.0, 2.0))
    elif kind == "zarr":
        write_zarr(path, MAPS, scales={"t": 1.0, "y": 4.0, "x": 2.0})
    elif kind == "mrc":
        with mrcfile.new(path) as f:
            f.set_data(MAPS)
            f.voxel_size = (20.0, 40.0, 10.0)
    elif kind == "tif":
        tifffile.imwrite(path, MAPS, photometric="minisblack", resolution=(5e6, 2.5e6), resolutionunit="CENTIMETER")
    elif kind == "ome.tif":
        tifffile.imwrite(path, MAPS, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "nm",
                                                         "PhysicalSizeY": 4.0, "PhysicalSizeYUnit": "nm"})  # fmt: skip
    elif kind == "imagej.tif":
        tifffile.imwrite(path, MAPS, imagej=True, resolution=(0.5, 0.25), metadata={"unit": "nm"})
    elif kind == "hspy":
        write_hspy(path, MAPS, "tyx", edges=(4.0, 2.0))
    else:
        from hyperspy.signals import Signal2D

        source = Signal2D(MAPS)
        for axis, scale in zip(source.axes_manager.signal_axes, (2.0, 4.0), strict=True):
            axis.scale, axis.units = scale, "nm"
    fails(InputError, recon.read, {"Co": source}, TILTS, given, says=("4 x 2 nm (y, x)", "not square"))


# ---- sizes and units ----


@pytest.mark.parametrize(
    ("unit", "edge"),
    [("nm", 2.0), ("Å", 20.0), ("A", 20.0), ("um", 0.002), ("µm", 0.002), ("μm", 0.002), ("pm", 2000.0), ("m", 2e-9)],
)
def test_units_of_length(tmp_path, unit, edge):
    write_hspy(tmp_path / "a.hspy", MAPS, "tyx", edges=(edge, edge), units=unit)
    assert recon.read({"Co": tmp_path / "a.hspy"}, TILTS).pixel_size_nm == pytest.approx(2.0)


@pytest.mark.parametrize(("unit", "edge"), [("m", 4e7), ("mm", 2.0), ("pm", 1e-3), ("cm", 0.5)])
def test_sizes_that_no_microscope_has(tmp_path, unit, edge):
    path = tmp_path / "a.hspy"
    write_hspy(path, MAPS, "tyx", edges=(edge, edge), units=unit)
    fails(InputError, recon.read, {"Co": path}, TILTS, says=("no microscope", "nm"))
    series = recon.read({"Co": path}, TILTS, 2.0)
    assert series.pixel_size_nm == 2.0
    assert any("pixel_size_nm is 2, taken, but" in r for r in series.remarks)


@pytest.mark.parametrize("size", [2.5e-9, 4e16, 1e-5])
def test_given_sizes_that_no_microscope_has(size):
    fails(InputError, recon.read, {"Co": MAPS}, TILTS, size, says="no microscope")


@pytest.mark.parametrize(
    ("given", "says"),
    [(0.0025, "1000 times more"), (25.0, "10 times less: Angstrom"), (10.0, "4 times less: were the maps binned?"),
     (3.1, "1.24 times less"), (2.505, None)],
)  # fmt: skip
def test_a_given_size_that_the_file_contradicts(tmp_path, given, says):
    tifffile.imwrite(tmp_path / "a.tif", MAPS, imagej=True, resolution=(0.4, 0.4), metadata={"unit": "nm"})
    series = recon.read({"Co": tmp_path / "a.tif"}, TILTS, given)
    assert series.pixel_size_nm == given
    told = [r for r in series.remarks if "pixel_size_nm" in r]
    assert told == [] if says is None else (says in told[0] and "2.5 nm" in told[0])


def test_two_files_that_contradict_each_other(tmp_path):
    for name, edge in (("Co", 2.5), ("Zn", 0.0025)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", MAPS, imagej=True, resolution=(1 / edge,) * 2, metadata={"unit": "nm"}
        )
    maps = {"Co": tmp_path / "Co.tif", "Zn": tmp_path / "Zn.tif"}
    fails(InputError, recon.read, maps, TILTS, says=("Co.tif has 2.5 nm", "Zn.tif", "0.0025 nm"))


# ---- OME-Zarr's levels ----


def test_scales_of_all_levels(tmp_path):
    write_zarr(tmp_path / "a.zarr", MAPS, levels=2)
    assert read_stack(tmp_path / "a.zarr")[1] == 2.0
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="a")
    image = dict(root.attrs["multiscales"][0])
    root.attrs["multiscales"] = [{**image, "datasets": image["datasets"][::-1]}]  # the finest is not the first
    values, size = read_stack(tmp_path / "a.zarr")
    assert (values.shape, size) == (MAPS.shape, 2.0)
    image["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]  # of the whole image
    root.attrs["multiscales"] = [image]
    assert read_stack(tmp_path / "a.zarr")[1] == 1.0


def test_levels_that_contradict_each_other(tmp_path):
    write_zarr(tmp_path / "a.zarr", MAPS, levels=2, factors=(1, 1, 1))
    fails(InputError, read_stack, tmp_path / "a.zarr", says=("contradicts itself", "7 pixels of 2", "4 of 2"))


def test_volumes_keep_their_axes(tmp_path):
    volume = recon.Volume(MAPS.astype(np.float32), 2.0, "Co")
    for kind in ("emd", "hspy", "ome-zarr", "mrc", "tiff", "vti"):
        recon.write({"Co": volume}, tmp_path / kind, formats=[kind])
        name = {"ome-zarr": "volumes.ome.zarr", "tiff": "Co.tif"}.get(kind, f"Co.{kind}")
        values, size = read_volume(tmp_path / kind / name)
        np.testing.assert_array_equal(values, MAPS)
        assert size == pytest.approx(2.0)
