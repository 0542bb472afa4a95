"""Files that hold several data sets, read by the element's name; and what a stored number means."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from files import fails
from files import silent as silent  # a fixture
from stack_files import MAPS, OTHER, TILTS, write_emd

import recon
from recon.errors import InputError
from recon.io.stacks import load_stack

FORMATS = Path(__file__).resolve().parents[2] / "shared" / "data" / "formats"  # of other programs, beside the checkout


def emd(path, names):
    write_emd(path, dict(zip(names, (MAPS, OTHER), strict=False)))


def npz(path, names):
    np.savez(path, **dict(zip(names, (MAPS, OTHER), strict=False)))


def h5(path, names):
    with h5py.File(path, "w") as f:
        for name, maps in zip(names, (MAPS, OTHER), strict=False):
            f[f"maps/{name}"] = maps


def h5_groups(path, names):
    with h5py.File(path, "w") as f:
        for name, maps in zip(names, (MAPS, OTHER), strict=False):
            f[f"{name}/data"] = maps
        f["energies"] = np.arange(9.0)


def hspy(path, names):
    """HyperSpy keeps several experiments in one file."""
    with h5py.File(path, "w") as f:
        f.attrs["file_format"], f.attrs["file_format_version"] = "HyperSpy", "3.3"
        for number, (name, maps) in enumerate(zip(names, (MAPS, OTHER), strict=False)):
            g = f.create_group(f"Experiments/{name}{number}")
            g.attrs["package"], g.attrs["package_version"] = "hyperspy", "2.0"
            g["data"] = maps
            for i, (axis, size) in enumerate(zip(("z", "y", "x"), maps.shape, strict=True)):
                a = g.create_group(f"axis-{i}")
                a.attrs.update({"name": axis, "size": size, "scale": 2.0, "offset": 0.0, "units": "nm"})
                a.attrs.update({"navigate": i == 0, "_type": "UniformDataAxis"})
            g.create_group("metadata/General").attrs["title"] = name
            g.create_group("metadata/Signal").attrs["signal_type"] = ""
            for empty in ("original_metadata", "learning_results", "attributes", "models", "tmp_parameters"):
                g.create_group(empty)


def ome_zarr(path, names):
    import zarr

    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    root.create_array(name="0", data=np.stack([MAPS, OTHER][: len(names)]))
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "nanometer"} for n in "zyx")]
    scale = {"type": "scale", "scale": [1.0, 1.0, 2.0, 2.0]}
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes,
                                  "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}]  # fmt: skip
    root.attrs["omero"] = {"channels": [{"label": n} for n in names]}


def ome_tif(path, names):
    tifffile.imwrite(path, np.stack([MAPS, OTHER][: len(names)]).swapaxes(0, 1), ome=True,
                     metadata={"axes": "ZCYX", "Channel": {"Name": list(names)}})  # fmt: skip


def imagej_tif(path, names):
    """Channels of a hyperstack, told by the labels of its slices."""
    stack = np.stack([MAPS, OTHER][: len(names)]).swapaxes(0, 1)
    metadata = {"axes": "ZCYX", "unit": "nm", "Labels": names * len(MAPS)}
    tifffile.imwrite(path, stack, imagej=True, resolution=(0.5, 0.5), metadata=metadata)


CONTAINERS = {"a.emd": emd, "a.npz": npz, "a.h5": h5, "b.hdf5": h5_groups, "a.hspy": hspy, "a.zarr": ome_zarr,
              "a.tif": ome_tif, "b.tif": imagej_tif}  # fmt: skip


@pytest.fixture(params=CONTAINERS)
def container(request, tmp_path):
    """Writes a file with data sets of some names."""
    path = tmp_path / request.param

    def write(*names):
        CONTAINERS[request.param](path, names)
        return path

    return write


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("Co", "Zn"), ("Co", "Zn")),
        (("Zn_Ka", "Co_Ka"), ("Zn", "Co")),
        (("co", "zn"), ("Co", "Zn")),
        (("Co", "Zn"), ("Co_Ka", "Zn_Ka")),
    ],
)
def test_the_element_names_the_data_set(container, names, asked):
    path = container(*names)
    for name, maps in zip(asked, (MAPS, OTHER), strict=True):
        np.testing.assert_array_equal(recon.read({name: path}, TILTS, 2.0).counts[0], maps)


@pytest.mark.parametrize(
    ("names", "asked"), [(("Co", "Zn"), "Fe"), (("first", "second"), "Fe"), (("Co_Ka", "Co_La"), "Co")]
)
def test_data_sets_that_nobody_named(container, names, asked):
    path = container(*names)
    fails(InputError, recon.read, {asked: path}, TILTS, 2.0, says=(str(path), *names))
    fails(InputError, load_stack, path, says=(str(path), *names))


def test_the_only_data_set_of_another_element(tmp_path):
    for name, write in (("a.emd", emd), ("a.npz", npz), ("a.h5", h5)):
        write(tmp_path / name, ["Co"])
        fails(InputError, recon.read, {"Zn": tmp_path / name}, TILTS, 2.0, says=("holds no Zn", "Co"))
        write(tmp_path / name, ["stack"])
        np.testing.assert_array_equal(recon.read({"Zn": tmp_path / name}, TILTS, 2.0).counts[0], MAPS)


# ---- what a stored number means ----


@pytest.mark.parametrize(
    ("stored", "metadata", "expected"),
    [
        ((MAPS.astype(int) + 32768).astype(np.uint16), {"cf": 0, "c0": -32768.0, "c1": 1.0}, MAPS),  # signed 16 bits
        (MAPS, {"cf": 0, "c0": 0.0, "c1": 1.0}, MAPS),
        (MAPS, {"cf": 0, "c0": 1.0, "c1": 2.0}, 1 + 2.0 * MAPS),
        (MAPS, {"cf": 0, "c0": 0.0, "c1": 0.5}, 0.5 * MAPS),
        (MAPS.astype(np.float32), {"cf": 0, "c0": 0.5, "c1": 1.0}, MAPS + 0.5),
        (MAPS, {"cf": 20}, MAPS),  # ImageJ's "none"
        (MAPS, {}, MAPS),
    ],
)
def test_calibrations_of_imagej(tmp_path, stored, metadata, expected):
    tifffile.imwrite(
        tmp_path / "a.tif", stored, imagej=True, resolution=(0.5, 0.5), metadata={"unit": "nm", **metadata}
    )
    series = recon.read({"Co": tmp_path / "a.tif"}, TILTS)
    np.testing.assert_array_equal(series.counts[0], expected)
    changed = not np.array_equal(stored, expected)
    assert ("as ImageJ's calibration says" in series.history[-1]) == changed


@pytest.mark.parametrize("curve", [1, 4, 8, 21])
def test_curves_of_imagej_are_refused(tmp_path, curve):
    tifffile.imwrite(tmp_path / "a.tif", MAPS, imagej=True, metadata={"cf": curve, "c0": 1.0, "c1": 2.0})
    fails(InputError, load_stack, tmp_path / "a.tif", says=(f"function {curve}", "raw counts"))


@pytest.mark.parametrize(
    ("stamp", "flags", "expected"), [(0, 0, np.int8), (1146047817, 0, np.uint8), (1146047817, 1, np.int8)]
)
def test_bytes_of_mrc(tmp_path, stamp, flags, expected):
    with mrcfile.new(tmp_path / "a.mrc") as f:
        f.set_data((MAPS + 120).astype(np.uint8).view(np.int8))
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[152:160] = np.array([stamp, flags], "<i4").tobytes()
    (tmp_path / "a.mrc").write_bytes(raw)
    found = load_stack(tmp_path / "a.mrc")
    assert found.values.dtype == expected
    assert found.notes
    if expected == np.int8:
        fails(InputError, recon.read, {"Co": tmp_path / "a.mrc"}, TILTS, 2.0, says="negative counts")
    else:
        np.testing.assert_array_equal(recon.read({"Co": tmp_path / "a.mrc"}, TILTS, 2.0).counts[0], MAPS + 120)


# ---- real files of other programs ----

real = pytest.mark.skipif(not FORMATS.is_dir(), reason="the small files of other programs are not here")


@real
def test_an_mrc_with_other_axes():
    """MAPC, MAPR, MAPS = 3, 1, 2: sections are y, rows x, columns z."""
    with mrcfile.open(FORMATS / "mrc-axes-3-1-2.map", permissive=True) as f:
        stored = f.data.copy()
    found = load_stack(FORMATS / "mrc-axes-3-1-2.map")
    np.testing.assert_array_equal(found.values, stored.transpose(2, 0, 1))  # z, y, x


@real
def test_a_dm4_whose_pixels_are_not_square():
    path = FORMATS / "dm4-pixels-not-square.dm4"  # 2 Angstrom by 1 nm
    fails(InputError, recon.read, {"Co": [path, path.with_name("b.dm4")]}, says="does not exist")
    found = load_stack(path, image=True)
    assert found.edges_nm == (0.2, 1.0)
    fails(InputError, found.pixel_nm, path, says=("0.2 x 1 nm (y, x)", "not square"))


@real
def test_a_dm3_with_an_image_and_a_plot():
    found = load_stack(FORMATS / "dm3-several-signals.dm3", image=True)
    assert (found.values.shape, found.name) == ((1, 512, 512), "HAADF")
    assert found.edges_nm == pytest.approx((0.01775158, 0.01775158))
