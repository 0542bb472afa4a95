"""Volumes in files, checked with other programs' readers."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from files import RNG, VALUES, fails, two_volumes
from files import silent as silent  # a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.errors import InputError, JobError, OutputError
from recon.io import OutputFolder, read_volume, write_volume, write_volumes
from recon.io.formats import tiff
from recon.series.volume import Volume


def tags_of(path: Path) -> tuple[list[dict[int, object]], str]:
    """The tags of every page of a classic TIFF, read here byte by byte."""
    raw = path.read_bytes()
    order = {b"II": "<", b"MM": ">"}[raw[:2]]
    magic, ifd = struct.unpack(order + "HI", raw[2:8])
    assert magic == 42
    pages = []
    while ifd:
        (count,) = struct.unpack_from(order + "H", raw, ifd)
        tags: dict[int, object] = {}
        for k in range(count):
            at = ifd + 2 + 12 * k
            code, kind, n = struct.unpack_from(order + "HHI", raw, at)
            size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}[kind] * n
            if size > 4:
                (at,) = struct.unpack_from(order + "I", raw, at + 8)
            else:
                at += 8
            if kind == 2:
                tags[code] = raw[at : at + n].rstrip(b"\0").decode()
            elif kind == 5:
                tags[code] = struct.unpack_from(order + "II", raw, at)
            else:
                tags[code] = struct.unpack_from(f"{order}{n}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", raw, at)[0]
        pages.append(tags)
        (ifd,) = struct.unpack_from(order + "I", raw, ifd + 2 + 12 * count)
    return pages, order


def test_tiff_says_what_fiji_needs(tmp_path):
    """Values and tags by hand: ImageJ takes the scale from 282, 283, and unit and spacing from 270."""
    write_volume(tmp_path / "Co.tif", VALUES, 2.5)
    pages, order = tags_of(tmp_path / "Co.tif")
    assert len(pages) == 5
    first = pages[0]
    text = dict(line.split("=", 1) for line in str(first[270]).splitlines() if "=" in line)
    assert "ImageJ" in text
    assert (text["images"], text["slices"], text["unit"]) == ("5", "5", "nm")
    assert float(text["spacing"]) == 2.5
    for code in (282, 283):
        above, below = first[code]
        assert above / below == pytest.approx(1 / 2.5, rel=1e-6)
    assert (first[256], first[257], first[258], first[339]) == (6, 7, 32, 3)  # width, height, 32 bit, float
    raw = (tmp_path / "Co.tif").read_bytes()
    for tags, slice_ in zip(pages, VALUES, strict=True):
        data = np.frombuffer(raw, order + "f4", slice_.size, int(tags[273])).reshape(slice_.shape)
        np.testing.assert_array_equal(data, slice_)


def test_pillow_reads_the_tiff(tmp_path):
    from PIL import Image

    write_volume(tmp_path / "a.tif", VALUES, 2.5)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 5
        for z in range(5):
            image.seek(z)
            np.testing.assert_array_equal(np.array(image), VALUES[z])


def test_rosettasciio_reads_both_to_scale(tmp_path):
    from rsciio import mrc, tiff

    for name, reader, nm in (("a.tif", tiff, {None: 1.0}), ("a.mrc", mrc, {"nm": 1.0, None: 1.0})):
        write_volume(tmp_path / name, VALUES, 2.5, {"a.tif": "tiff", "a.mrc": "mrc"}[name])
        got = reader.file_reader(str(tmp_path / name))[0]
        np.testing.assert_array_equal(np.asarray(got["data"]), VALUES)
        for axis in got["axes"]:  # it knows no unit along a stack's first axis, nor any of ImageJ's
            assert axis["scale"] * nm[axis["units"]] == pytest.approx(2.5, rel=1e-5)


def test_mrc_is_valid_and_in_angstrom(tmp_path):
    import io

    write_volume(tmp_path / "a.mrc", VALUES, 2.5, "mrc")
    told = io.StringIO()
    assert mrcfile.validate(tmp_path / "a.mrc", print_file=told), told.getvalue()
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, VALUES)
        assert mrc.header.mode == 2
        assert mrc.is_volume()
        assert [float(mrc.voxel_size[a]) for a in "xyz"] == [25.0] * 3


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(2, 8), st.integers(2, 8)),
    size=st.floats(0.01, 500),
    kind=st.sampled_from([("tiff", ".tif"), ("mrc", ".mrc")]),
)
def test_any_volume_comes_back(shape, size, kind):
    a = RNG.normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a" + kind[1])
        write_volume(path, a, size, kind[0])
        values, voxel = read_volume(path)
        assert os.listdir(folder) == [path.name]
    np.testing.assert_array_equal(values, a)
    assert voxel == pytest.approx(size, rel=1e-5)


def test_other_arrays_are_converted(tmp_path):
    write_volume(tmp_path / "a.tif", np.asfortranarray(VALUES.astype(np.float64))[::-1], 1.0)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif")[0], VALUES[::-1])


def test_a_volume_above_4_gb_is_one_page_and_all_slices(tmp_path, monkeypatch):
    """ImageJ's convention, with the limit lowered."""
    monkeypatch.setattr(tiff, "CLASSIC_LIMIT", 100)
    write_volume(tmp_path / "a.tif", VALUES, 2.5)
    pages, order = tags_of(tmp_path / "a.tif")
    assert len(pages) == 1
    assert "images=5" in str(pages[0][270])
    raw = (tmp_path / "a.tif").read_bytes()
    data = np.frombuffer(raw, order + "f4", VALUES.size, int(pages[0][273]))
    np.testing.assert_array_equal(data.reshape(VALUES.shape), VALUES)
    values, voxel = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(values, VALUES)
    assert voxel == 2.5


def test_wrong_volumes(tmp_path):
    path = tmp_path / "a.tif"
    fails(InputError, write_volume, path, VALUES[0], 1.0, says="(7, 6)")
    fails(InputError, write_volume, path, VALUES[:0], 1.0)
    fails(InputError, write_volume, path, VALUES * 1j, 1.0, says="complex")
    fails(InputError, write_volume, path, VALUES, 0.0, says="voxel size")
    fails(JobError, write_volume, path, VALUES, 1.0, "vtk", says=("unknown", "tiff"))
    fails(OutputError, write_volume, tmp_path / "no" / "a.tif", VALUES, 1.0)
    fails(InputError, read_volume, tmp_path / "a.npy", says="does not exist")
    np.save(tmp_path / "a.npy", VALUES)
    fails(InputError, read_volume, tmp_path / "a.npy", says="'.npy'")
    assert os.listdir(tmp_path) == ["a.npy"]


def test_write(tmp_path):
    mask = VALUES > 0
    folder = recon.write(two_volumes(), tmp_path / "deep" / "out", formats=("tiff", "mrc"), mask=mask)
    assert sorted(os.listdir(folder)) == ["Co.mrc", "Co.tif", "Zn.mrc", "Zn.tif", "job.json", "mask.tif"]
    assert os.listdir(folder.parent) == ["out"]
    np.testing.assert_array_equal(tifffile.imread(folder / "Zn.tif"), VALUES * 2)
    shown = tifffile.imread(folder / "mask.tif")
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, mask * 255)
    assert json.loads((folder / "job.json").read_text())["elements"] == ["Co", "Zn"]
    fails(OutputError, recon.write, two_volumes(), folder, says=("exists", "overwrite"))
    recon.write(two_volumes(3), folder, overwrite=True)
    assert sorted(os.listdir(folder)) == ["Co.tif", "Zn.tif", "job.json"]
    np.testing.assert_array_equal(tifffile.imread(folder / "Co.tif"), VALUES * 3)
    assert os.listdir(folder.parent) == ["out"]


def test_wrong_writes_leave_nothing(tmp_path):
    good, out = two_volumes(), tmp_path / "out"
    fails(InputError, recon.write, {}, out)
    fails(JobError, recon.write, good, out, formats=("hspi",), says="unknown")
    fails(JobError, recon.write, good, out, formats=(), says="tiff")
    fails(JobError, recon.write, good, out, formats="tiff", says="list")
    fails(InputError, recon.write, good, out, mask=VALUES[1:] > 0, says="shapes")
    for name in ("../Co", "a/b", "", "mask", "job", ".hidden", "a\nb"):
        fails(InputError, recon.write, {name: good["Co"]}, out, says="file name")
    fails(InputError, recon.write, {"Co": good["Co"], "CO": good["Zn"]}, out, says="case")
    fails(InputError, recon.write, {"Co": Volume(VALUES, float("nan"), "Co")}, out, says="voxel size")
    assert os.listdir(tmp_path) == []


def test_write_volumes_into_an_open_folder(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        assert write_volumes(two_volumes(), folder, mask=VALUES > 0) == ["Co.tif", "Zn.tif", "mask.tif"]
    assert len(os.listdir(tmp_path / "out")) == 3
