"""What other programs see in the files that we write: values, axis order, voxel size, names."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import recon
from recon.errors import InputError, OutputError
from recon.io import find_volume, read_volume, write_volume, write_volumes
from recon.io.formats.common import Cube
from recon.io.volumes import FORMATS, write_cube, write_stacks
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

RNG = np.random.default_rng(11)
VALUES = RNG.normal(size=(5, 7, 9)).astype(np.float32)  # (z, y, x), all different
TILTS = np.array([-40.0, -10.0, 0.0, 20.0, 45.0])
VOXEL = 2.5


@pytest.fixture(params=sorted(FORMATS))
def kind(request):
    return request.param


def write(folder: Path, kind: str, values=VALUES, name="Fe_Ka") -> Path:
    path = folder / f"{name}{FORMATS[kind][0]}"
    write_volume(path, values, VOXEL, kind)
    return path


def test_we_read_back_what_we_wrote(tmp_path, kind):
    values, voxel = read_volume(write(tmp_path, kind))
    assert np.array_equal(values, VALUES)
    assert voxel == pytest.approx(VOXEL)
    assert [p.name for p in tmp_path.iterdir()] == [f"Fe_Ka{FORMATS[kind][0]}"]
    write_volume(tmp_path / f"Fe_Ka{FORMATS[kind][0]}", VALUES * 2, VOXEL, kind)  # replaced, not mixed
    assert np.array_equal(read_volume(tmp_path / f"Fe_Ka{FORMATS[kind][0]}")[0], VALUES * 2)


def test_a_mask_is_written_in_every_format(tmp_path, kind):
    values, _ = read_volume(write(tmp_path, kind, VALUES > 0, "mask"))
    assert np.array_equal(values > 0, VALUES > 0)


def test_hyperspy_reads_hspy(tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.load(str(write(tmp_path, "hspy")))
    assert type(signal).__name__ == "Signal2D"
    assert np.array_equal(signal.data, VALUES)
    axes = {a.name: a for a in signal.axes_manager._axes}
    assert list(axes) == ["z", "y", "x"]
    for name, n in zip("zyx", VALUES.shape, strict=True):
        assert (axes[name].scale, axes[name].units, axes[name].size) == (VOXEL, "nm", n)
        assert axes[name].offset == pytest.approx(-(n - 1) / 2 * VOXEL)
    assert signal.axes_manager.navigation_dimension == 1
    assert signal.metadata.General.title == "Fe_Ka"


def test_ncempy_reads_emd_with_the_axes_tomviz_wants(tmp_path):
    emd = pytest.importorskip("ncempy.io.emd")
    with emd.fileEMD(str(write(tmp_path, "emd")), readonly=True) as file:
        assert len(file.list_emds) == 1
        data, dims = file.get_emdgroup(file.list_emds[0])
    assert np.array_equal(np.asarray(data).transpose(2, 1, 0), VALUES)
    for (positions, name, unit), expected, n in zip(dims, "xyz", reversed(VALUES.shape), strict=True):
        assert (name, unit, len(positions)) == (expected, "[n_m]", n)
        assert np.diff(positions) == pytest.approx(VOXEL)
    with h5py.File(tmp_path / "Fe_Ka.emd") as file:  # where tomviz looks
        assert file["data/tomography"].attrs["emd_group_type"] == 1
        assert file.attrs["version_minor"] == 2


def test_rosettasciio_reads_emd(tmp_path):
    from rsciio.emd import file_reader

    (signal,) = file_reader(str(write(tmp_path, "emd")))
    assert sorted(a["name"] for a in signal["axes"]) == ["x", "y", "z"]
    order = [next(i for i, a in enumerate(signal["axes"]) if a["name"] == n) for n in "zyx"]
    assert np.array_equal(signal["data"].transpose(order), VALUES)


def test_vtk_reads_vti(tmp_path):
    pytest.importorskip("vtkmodules")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(write(tmp_path, "vti")))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == VALUES.shape[::-1]
    assert image.GetSpacing() == pytest.approx((VOXEL,) * 3)
    assert image.GetOrigin() == pytest.approx([-(n - 1) / 2 * VOXEL for n in VALUES.shape[::-1]])
    scalars = image.GetPointData().GetScalars()
    assert scalars.GetName() == "Fe_Ka"
    assert np.array_equal(vtk_to_numpy(scalars).reshape(VALUES.shape), VALUES)
    assert image.GetScalarComponentAsFloat(8, 2, 4, 0) == VALUES[4, 2, 8]


def big() -> dict[str, Volume]:
    # odd sizes, and large enough for three levels
    shape = (33, 131, 150)
    return {n: Volume(RNG.random(shape, dtype=np.float32), VOXEL, n) for n in ("Fe_Ka", "Si_Ka")}


def test_ome_zarr_holds_all_elements_as_channels(tmp_path):
    volumes = big()
    assert write_volumes(volumes, tmp_path, formats=["ome-zarr"]) == ["volumes.ome.zarr"]
    root = zarr.open_group(tmp_path / "volumes.ome.zarr", mode="r")
    assert root.metadata.zarr_format == 3
    ome = root.attrs["ome"]
    assert ome["version"] == "0.5"
    assert [c["label"] for c in ome["omero"]["channels"]] == ["Fe_Ka", "Si_Ka"]
    (image,) = ome["multiscales"]
    assert [a["name"] for a in image["axes"]] == ["c", "z", "y", "x"]
    assert [a["type"] for a in image["axes"]] == ["channel", "space", "space", "space"]
    assert [a.get("unit") for a in image["axes"]] == [None, "nanometer", "nanometer", "nanometer"]
    finest = root["0"]
    assert finest.dtype == np.float32
    for channel, volume in zip(finest, volumes.values(), strict=True):
        assert np.array_equal(channel, volume.values)
    assert len(image["datasets"]) >= 2
    whole = [n * VOXEL for n in (33, 131, 150)]
    for dataset in image["datasets"]:
        array = root[dataset["path"]]
        assert array.metadata.dimension_names == ("c", "z", "y", "x")
        scale, shift = (t[t["type"]] for t in dataset["coordinateTransformations"])
        assert (scale[0], shift[0]) == (1.0, 0.0)
        for n, s, t, size in zip(array.shape[1:], scale[1:], shift[1:], whole, strict=True):
            assert t - s / 2 == pytest.approx(-size / 2)  # every level begins at the same edge, the centre is 0
            assert size <= n * s + 1e-9 < size + s  # and covers the whole
    coarse = root["1"][0]
    block = volumes["Fe_Ka"].values[2:4, 4:6, 6:8]
    assert coarse[1, 2, 3] == pytest.approx(block.mean(), rel=1e-6)
    values, voxel = find_volume(tmp_path, "Si_Ka")
    assert np.array_equal(values, volumes["Si_Ka"].values)
    assert voxel == VOXEL
    with pytest.raises(InputError, match="Fe_Ka, Si_Ka"):
        read_volume(tmp_path / "volumes.ome.zarr")
    with pytest.raises(InputError, match="holds no Cu"):
        find_volume(tmp_path, "Cu")


def test_ome_zarr_for_older_programs(tmp_path):
    """Version 0.4, read as its specification says: JSON files and compressed chunks, a folder a dimension."""
    from numcodecs import get_codec

    volumes = big()
    assert write_volumes(volumes, tmp_path, formats=["ome-zarr-0.4"]) == ["volumes-0.4.ome.zarr"]
    root = tmp_path / "volumes-0.4.ome.zarr"
    assert json.loads((root / ".zgroup").read_text()) == {"zarr_format": 2}
    attrs = json.loads((root / ".zattrs").read_text())
    (image,) = attrs["multiscales"]
    assert image["version"] == attrs["omero"]["version"] == "0.4"
    assert "ome" not in attrs
    assert [a["type"] for a in image["axes"]] == ["channel", "space", "space", "space"]
    assert [c["label"] for c in attrs["omero"]["channels"]] == ["Fe_Ka", "Si_Ka"]
    for level, dataset in enumerate(image["datasets"]):
        told = json.loads((root / dataset["path"] / ".zarray").read_text())
        assert told["dimension_separator"] == "/"
        scale = dataset["coordinateTransformations"][0]["scale"]
        assert scale == [1.0, *(2.0**level * VOXEL,) * 3]
        chunk = (root / dataset["path"] / "1" / "0" / "0" / "0").read_bytes()
        values = np.frombuffer(get_codec(told["compressor"]).decode(chunk), told["dtype"]).reshape(told["chunks"])
        if level == 0:
            first = volumes["Si_Ka"].values[:128, :128, :128]
            assert np.array_equal(values[0][tuple(slice(0, n) for n in first.shape)], first)
    values, voxel = find_volume(tmp_path, "Si_Ka")
    assert np.array_equal(values, volumes["Si_Ka"].values)
    assert voxel == VOXEL


@pytest.mark.parametrize(("kind", "version"), [("ome-zarr", "0.5"), ("ome-zarr-0.4", "0.4")])
def test_ome_zarr_py_reads_it(tmp_path, kind, version):
    """The reference reader, where its current release is installed."""
    ome_zarr = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    volumes = big()
    (name,) = write_volumes(volumes, tmp_path, formats=[kind])
    url = parse_url(tmp_path / name, mode="r")
    if url is None or url.fmt.version != version:
        pytest.skip(f"this ome-zarr does not read {version}")
    (node,) = [n for n in ome_zarr.Reader(url)() if n.data]
    assert np.array_equal(np.asarray(node.data[0][1]), volumes["Si_Ka"].values)
    assert [a["name"] for a in node.metadata["axes"]] == ["c", "z", "y", "x"]
    assert node.metadata["channel_names"] == ["Fe_Ka", "Si_Ka"]
    assert node.metadata["coordinateTransformations"][0][0]["scale"] == [1.0, VOXEL, VOXEL, VOXEL]


# ---------------------------------------------------------------- stacks


def series() -> TiltSeries:
    maps = {n: RNG.poisson(4.0, (5, 6, 8)).astype(np.float32) for n in ("Fe_Ka", "Si_Ka")}
    return TiltSeries.create(maps, TILTS, VOXEL)


def test_aligned_stacks_are_read_as_maps_again(tmp_path):
    s = series()
    names = write_stacks(s, tmp_path, list(FORMATS))
    assert "Si_Ka-aligned.tif" in names
    assert "aligned.rawtlt" in names
    for kind in FORMATS:
        suffix = FORMATS[kind][0]
        again = recon.read({n: tmp_path / f"{n}-aligned{suffix}" for n in s.elements}, tmp_path / "aligned.rawtlt")
        assert np.array_equal(again.counts, s.counts), kind
        assert again.pixel_size_nm == pytest.approx(VOXEL), kind
        assert again.tilts_deg.tolist() == TILTS.tolist()


def test_stacks_keep_their_tilts(tmp_path):
    s = series()
    write_stacks(s, tmp_path, list(FORMATS))
    with h5py.File(tmp_path / "Fe_Ka-aligned.emd") as file:
        group = file["data/tomography"]
        assert group["dim1"].attrs["name"] == "angles"
        assert np.allclose(group["dim1"][:], TILTS)
        assert np.array_equal(group["data"][()], s.counts[0])
    attrs = json.loads(json.dumps(dict(zarr.open_group(tmp_path / "Fe_Ka-aligned.ome.zarr", mode="r").attrs)))
    assert attrs["recon"]["tilts_deg"] == TILTS.tolist()
    assert [a["name"] for a in attrs["ome"]["multiscales"][0]["axes"]] == ["tilt", "y", "x"]
    import mrcfile
    import tifffile

    with mrcfile.open(tmp_path / "Fe_Ka-aligned.mrc") as mrc:
        assert mrc.is_image_stack()
        assert float(mrc.voxel_size.x) == pytest.approx(10 * VOXEL)
    with tifffile.TiffFile(tmp_path / "Fe_Ka-aligned.tif") as tif:
        assert tif.imagej_metadata["Labels"][0] == "-40 degrees"
        assert tif.imagej_metadata["unit"] == "nm"


def test_a_vti_of_someone_else_and_one_cut_short_say_so(tmp_path):
    path = write(tmp_path, "vti")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_volume(path)
    path.write_bytes(b"<VTKFile/>")
    with pytest.raises(InputError, match="vti that recon wrote"):
        read_volume(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, kind, monkeypatch):
    path = write(tmp_path, kind)

    suffix, writer = FORMATS[kind]

    def then_fails(aside, cube):
        writer(aside, cube)
        raise OSError("the disk went away")

    monkeypatch.setitem(FORMATS, kind, (suffix, then_fails))
    with pytest.raises(OutputError, match="disk went away"):
        write_cube(path, Cube("Fe_Ka", VALUES * 2, VOXEL), kind)
    monkeypatch.undo()
    assert np.array_equal(read_volume(path)[0], VALUES)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["Fe_Ka.rawtlt", "Fe_Ka.tlt", "Fe_Ka.mdoc", "Fe_Ka.mrc.mdoc"])
def test_tilts_beside_an_mrc_stack(tmp_path, name):
    stack = RNG.poisson(4.0, (5, 6, 8)).astype(np.float32)
    write_cube(tmp_path / "Fe_Ka.mrc", Cube("Fe_Ka", stack, VOXEL, TILTS), "mrc")
    if name.endswith(".mdoc"):
        text = "".join(f"[ZValue = {i}]\nTiltAngle = {t}\n\n" for i, t in enumerate(TILTS))
    else:
        text = "".join(f"{t}\n" for t in TILTS)
    (tmp_path / name).write_text(text)
    series = recon.read({"Fe_Ka": tmp_path / "Fe_Ka.mrc"})
    assert series.tilts_deg.tolist() == TILTS.tolist()
    assert name in series.history[-1]
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="no tilts were given"):
        recon.read({"Fe_Ka": tmp_path / "Fe_Ka.mrc"})
