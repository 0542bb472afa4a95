"""Stacks and series from files, checked with other programs' writers, and every wrong file in one line."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from files import RNG, STACK, TILTS, fails
from files import silent as silent  # a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.errors import InputError
from recon.io import read_stack


def save(path: Path, a, kind: str) -> Path:
    """Write a stack with a library other than recon."""
    suffix = {"mrc": ".mrc", "npy": ".npy", "npz": ".npz", "ome": ".ome.tif"}.get(kind, ".tif")
    path = path.with_name(path.name + suffix)
    if kind == "mrc":
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(a)
    elif kind == "npy":
        np.save(path, a)
    elif kind == "npz":
        np.savez_compressed(path, maps=a)
    elif kind == "page by page":
        with tifffile.TiffWriter(path) as tif:
            for page in a:
                tif.write(page, photometric="minisblack")
    else:
        how = {
            "plain": {"metadata": None},
            "imagej": {"imagej": True},
            "ome": {"ome": True, "metadata": {"axes": "TYX"}},
            "bigtiff": {"bigtiff": True},
            "deflate": {"compression": "zlib", "metadata": None},
            "tiles": {"compression": "zlib", "tile": (16, 16)},
        }[kind]
        tifffile.imwrite(path, a, photometric="minisblack", **how)
    return path


KINDS = ("plain", "imagej", "ome", "bigtiff", "deflate", "tiles", "page by page", "mrc", "npy", "npz")


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "int16", "float64", "uint32"]),
)
def test_any_stack_comes_back_as_saved(kind, shape, dtype):
    if kind in ("imagej", "mrc"):
        dtype = "uint16" if dtype == "int16" and kind == "imagej" else dtype
        dtype = {"float64": "float32", "uint32": "uint16"}.get(dtype, dtype)
        dtype = "int16" if dtype == "uint8" and kind == "mrc" else dtype
    a = RNG.integers(0, 200, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder, "a"), a, kind)
        values, size = read_stack(path)
    assert values.dtype == a.dtype
    np.testing.assert_array_equal(values, a)
    assert size is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path, kind):
    """Never wrong pixels, never fewer maps: what is cut is an error or was padding."""
    whole = save(tmp_path / "whole", STACK, kind)
    raw = whole.read_bytes()
    cut = tmp_path / ("cut" + "".join(whole.suffixes))
    refused = 0
    for n in (*range(0, len(raw), 41), len(raw) - 1):
        cut.write_bytes(raw[:n])
        try:
            values, _ = read_stack(cut)
        except InputError as exc:
            refused += 1
            assert "\n" not in str(exc)  # noqa: PT017
        else:
            np.testing.assert_array_equal(values, STACK)
    assert refused > len(raw) // 41 // 2  # some kinds end with pages that the first one makes needless


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy", ".npz", ".st"])
def test_files_that_are_something_else(tmp_path, suffix):
    for content in (
        b"\x00" * 2000,
        bytes(range(256)) * 40,
        b"counts\n1 2 3\n" * 300,
        b"II*\x00",
        b"MM\x00*",
        b"PK\x03\x04",
    ):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        fails(InputError, read_stack, path, says=str(path))


def test_more_in_a_file_than_the_header_says_is_no_error(tmp_path):
    path = save(tmp_path / "a", STACK, "mrc")
    path.write_bytes(path.read_bytes() + b"tail")
    np.testing.assert_array_equal(read_stack(path)[0], STACK)


def test_wrong_paths(tmp_path):
    fails(InputError, read_stack, tmp_path / "no.tif", says=("no.tif", "does not exist"))
    (tmp_path / "d.tif").mkdir()
    fails(InputError, read_stack, tmp_path / "d.tif", says="is a folder")
    (tmp_path / "e.tif").touch()
    fails(InputError, read_stack, tmp_path / "e.tif", says="is empty")
    (tmp_path / "a.jpeg").write_bytes(b"x")
    fails(InputError, read_stack, tmp_path / "a.jpeg", says=("'.jpeg'", ".tif", ".mrc", ".npy", ".npz"))
    (tmp_path / "a").write_bytes(b"x")
    fails(InputError, read_stack, tmp_path / "a", says="unknown")
    os.mkfifo(tmp_path / "f.tif")
    fails(InputError, read_stack, tmp_path / "f.tif", says="not a regular file")
    fails(InputError, read_stack, "a\0.tif", says="cannot be opened")


def test_upper_case_names(tmp_path):
    save(tmp_path / "a", STACK, "plain").rename(tmp_path / "A.TIFF")
    np.testing.assert_array_equal(read_stack(tmp_path / "A.TIFF")[0], STACK)


def test_wrong_shapes(tmp_path):
    np.save(tmp_path / "a.npy", STACK[0])
    fails(InputError, read_stack, tmp_path / "a.npy", says="(tilt, y, x)")
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    fails(InputError, read_stack, tmp_path / "one.tif", says="(9, 8)")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((5, 9, 8, 3), "uint8"), photometric="rgb")
    fails(InputError, read_stack, tmp_path / "rgb.tif", says="colour")
    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(STACK)
        tif.write(STACK[:, :4])
    fails(InputError, read_stack, tmp_path / "two.tif", says="2 images")
    tifffile.imwrite(tmp_path / "4d.tif", np.zeros((2, 3, 9, 8), "f4"), imagej=True, metadata={"axes": "ZCYX"})
    fails(InputError, read_stack, tmp_path / "4d.tif", says="(2, 3, 9, 8)")
    np.savez(tmp_path / "two.npz", Co=STACK, Zn=STACK, tilts=TILTS)
    fails(InputError, read_stack, tmp_path / "two.npz", says=("Co (6, 9, 8)", "Zn (6, 9, 8)"))
    np.savez(tmp_path / "none.npz")
    fails(InputError, read_stack, tmp_path / "none.npz", says="nothing")
    np.savez(tmp_path / "one.npz", maps=STACK, tilts=TILTS)
    np.testing.assert_array_equal(read_stack(tmp_path / "one.npz")[0], STACK)


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_never_unpickled(tmp_path, suffix):
    evil = np.empty((3, 4, 4), dtype=object)
    evil[:] = Evil(str(tmp_path / "done"))
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", evil)
    fails(InputError, read_stack, tmp_path / f"a{suffix}", says="cannot be read")
    assert not (tmp_path / "done").exists()


def test_a_header_that_asks_for_too_much(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    raw = (tmp_path / "a.npy").read_bytes().replace(b"(6, 9, 8), }   ", b"(60000000, 9, 8)}")[:-2]
    (tmp_path / "a.npy").write_bytes(raw)
    fails(InputError, read_stack, tmp_path / "a.npy")


def test_imod_bytes_are_unsigned_where_the_header_says_so(tmp_path):
    a = RNG.integers(100, 255, (4, 6, 5)).astype(np.uint8)
    path = tmp_path / "a.st"
    with mrcfile.new(path) as mrc:
        mrc.set_data(a.view(np.int8))
    raw = bytearray(path.read_bytes())
    for flags, expected in ((0, a), (1, a.view(np.int8))):
        raw[152:160] = struct.pack("<ii", 1146047817, flags)  # words 39 and 40 of IMOD's header
        path.write_bytes(raw)
        np.testing.assert_array_equal(read_stack(path)[0], expected)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"imagej": True, "resolution": (1 / 5, 1 / 5), "metadata": {"unit": "nm"}}, 5.0),
        ({"imagej": True, "resolution": (250, 250), "metadata": {"unit": "micron"}}, 4.0),
        ({"imagej": True, "resolution": (250, 250), "metadata": {"unit": "um"}}, 4.0),
        ({"imagej": True, "resolution": (250, 250), "metadata": {"unit": "\\u00B5m"}}, 4.0),
        ({"imagej": True, "resolution": (0.25, 0.25), "metadata": {"unit": "Angstroms"}}, 0.4),
        ({"imagej": True, "resolution": (0.2, 0.2), "metadata": {"unit": "pixel"}}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 2.5, "PhysicalSizeY": 2.5, "PhysicalSizeXUnit": "nm",
                                    "PhysicalSizeYUnit": "nm", "axes": "TYX"}}, 2.5),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.003, "PhysicalSizeY": 0.003, "axes": "TYX"}}, 3.0),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"}, 5.0),
        ({}, None),
    ],
)  # fmt: skip
def test_pixel_size_of_tiff(tmp_path, how, expected):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **how)
    values, size = read_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(values, STACK)
    assert size == (expected if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize(("angstrom", "expected"), [(50.0, 5.0), (12.3, 1.23), (0.0, None), (1.0, None)])
def test_pixel_size_of_mrc(tmp_path, angstrom, expected):
    with mrcfile.new(tmp_path / "a.ali") as mrc:
        mrc.set_data(STACK)
        mrc.voxel_size = angstrom
    assert read_stack(tmp_path / "a.ali")[1] == expected


# ---- a series ----


@pytest.fixture
def two(tmp_path):
    """Co at 5 nm (ImageJ) and Zn without a pixel size."""
    tifffile.imwrite(tmp_path / "Co.tif", STACK, imagej=True, resolution=(0.2, 0.2), metadata={"unit": "nm"})
    np.save(tmp_path / "Zn.npy", STACK + 1)
    (tmp_path / "tilts.rawtlt").write_text("\n".join(map(str, TILTS)))
    return tmp_path


def test_read(two):
    series = recon.read({"Co": "Co.tif", "Zn": "Zn.npy"}, "tilts.rawtlt", base_dir=two)
    assert series.elements == ("Co", "Zn")
    np.testing.assert_array_equal(series.counts, [STACK, STACK + 1])
    assert series.counts.dtype == np.float32
    assert series.counts.flags.c_contiguous
    assert series.tilts_deg.tolist() == TILTS
    assert series.pixel_size_nm == pytest.approx(5.0)
    assert "Co.tif" in series.history[-1]
    assert recon.read({"Co": two / "Co.tif"}, TILTS, 4.0).pixel_size_nm == 4.0
    assert recon.read({"Co": STACK}, np.array(TILTS), 4.0, scaled=True).scaled


def test_pixel_size_of_a_series(two):
    fails(InputError, recon.read, {"Zn": "Zn.npy"}, TILTS, base_dir=two, says="pixel_size_nm")
    for size, ok in ((5.02, True), (5.03, False)):
        tifffile.imwrite(two / "Fe.tif", STACK, imagej=True, resolution=(1 / size,) * 2, metadata={"unit": "nm"})
        maps = {"Co": "Co.tif", "Fe": "Fe.tif"}
        if ok:
            assert recon.read(maps, TILTS, base_dir=two).pixel_size_nm == pytest.approx(5.0)
        else:
            fails(InputError, recon.read, maps, TILTS, base_dir=two, says=("Co.tif", "Fe.tif", "5.03", "0.5%"))
            assert recon.read(maps, TILTS, 7.0, base_dir=two).pixel_size_nm == 7.0
    for bad in (0, -1, float("nan"), "five"):
        fails(InputError, recon.read, {"Co": STACK}, TILTS, bad, says="pixel")


def test_a_tilt_axis_along_x_is_swapped_exactly(two):
    weights = (STACK > 3).astype(np.float32)
    series = recon.read({"Co": "Co.tif"}, TILTS, tilt_axis="x", weights=weights, base_dir=two)
    np.testing.assert_array_equal(series.counts[0], STACK.transpose(0, 2, 1))
    np.testing.assert_array_equal(series.weights, weights.transpose(0, 2, 1))
    assert series.frame == (8, 9)
    fails(InputError, recon.read, {"Co": STACK}, TILTS, 1.0, tilt_axis="z", says="'z'")


def test_the_swapped_frame_keeps_the_convention():
    """A point turning about recorded x moves down with z; swapped, it obeys u = x cos t + z sin t."""
    n, (z, row, column) = 41, (9.0, -6.0, 12.0)
    tilts = np.array([-60.0, -30.0, 0.0, 20.0, 60.0])
    maps = np.zeros((5, n, n))
    for i, t in enumerate(np.radians(tilts)):
        maps[i, round(row * np.cos(t) + z * np.sin(t) + 20), round(column + 20)] = 1
    series = recon.read({"Co": maps}, tilts, 1.0, tilt_axis="x")
    y, x = column, row  # in the swapped frame
    for i, t in enumerate(np.radians(tilts)):
        v, u = np.argwhere(series.counts[0, i])[0] - 20
        assert (v, u) == (y, round(x * np.cos(t) + z * np.sin(t)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a[:5], ("5 maps", "6 tilts")),
        (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
        (lambda a: a - 3, "negative"),
        (lambda a: a * 0, "zero everywhere"),
        (lambda a: a * 1j, "complex"),
        (lambda a: a.astype(str), "text"),
        (lambda a: a[:, :3], "4 x 4"),
        (lambda a: a[:, 1:], "shape"),
        (lambda a: a * 1e38, "no detector counts"),
    ],
)
@pytest.mark.parametrize("file", [True, False])
def test_wrong_maps(tmp_path, change, says, file):
    bad = change(STACK.astype(float))
    if file:
        np.save(tmp_path / "bad.npy", bad)
        bad, says = tmp_path / "bad.npy", ("bad.npy", *((says,) if isinstance(says, str) else says))
    fails(InputError, recon.read, {"Co": STACK, "Zn": bad}, TILTS, 5.0, says=says)


def test_no_maps():
    fails(InputError, recon.read, {}, TILTS, 5.0, says="no element maps")
