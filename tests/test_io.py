"""Files in and out, checked with other programs' readers and writers, and every wrong file in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.errors import InputError, JobError, OutputError, ReconError, ResourceError
from recon.io import (
    OutputFolder,
    check_disk,
    check_target,
    exports,
    read_stack,
    read_tilts,
    read_volume,
    whole_file,
    write_volume,
    write_volumes,
)
from recon.tiltseries import Volume

ROOT = Path(recon.__file__).parents[1]
RNG = np.random.default_rng(7)
STACK = RNG.poisson(5.0, (6, 9, 8)).astype(np.float32)
TILTS = [-40, -20, 0, 10, 30, 50]


@pytest.fixture(autouse=True)
def _silent(capfd):
    """Nothing here may print: neither we nor a library we call."""
    yield
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def fails(kind, call, *args, says=(), **kwargs):
    """`call` raises `kind` with one line that contains every one of `says`."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    for word in (says,) if isinstance(says, str) else says:
        assert word in text, text
    return text


# ---- stacks ----


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
    fails(InputError, read_stack, tmp_path / "two.npz", says=("Co (6, 9, 8)", "Zn", "tilts (6,)"))
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
        ({"imagej": True, "resolution": (1 / 5, 1 / 6), "metadata": {"unit": "nm"}}, None),
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


# ---- tilts ----


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(-60, 60),
    step=st.sampled_from([0.1, 0.3, 1 / 3, 1, 1.1, -0.7, -1.3]),
    n=st.integers(40, 90),
)
def test_a_range_holds_both_ends(start, step, n):
    stop = start + step * n
    tilts = read_tilts({"start": start, "stop": stop, "step": step})
    assert tilts.size == n + 1
    assert (tilts[0], tilts[-1]) == (start, stop)
    np.testing.assert_allclose(np.diff(tilts), step)


def test_the_papers_range():
    assert read_tilts({"start": -70, "stop": 70, "step": 10}).tolist() == list(range(-70, 71, 10))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"start": -70, "stop": 75, "step": 10}, ("75", "stop = 70")),
        ({"start": -70, "stop": 70, "step": -10}, "change its sign"),
        ({"start": -70, "stop": 70, "step": 0}, "step"),
        ({"start": -70, "stop": 70, "step": 1e-9}, "more than"),
        ({"start": -70, "stop": 70}, "start, stop and step"),
        ({"start": -70, "stop": 70, "step": 10, "n": 3}, "start, stop and step"),
        ({"start": -70, "stop": "70", "step": 10}, "stop"),
        ({"start": -70, "stop": float("inf"), "step": 10}, "stop"),
        ({"start": -70, "stop": True, "step": 10}, "stop"),
        ({"start": 10, "stop": 20, "step": 10}, "2 tilts"),
        ([1, 2], "2 tilts"),
        ([1, 2, 2, 3], "2 appears more than once"),
        ([-1.2, -0.6, 0, 0.6, 0.7], "radians"),
        ([0, 10, float("nan")], "finite"),
        (["a", "b", "c"], "list"),
        ([[1, 2], [3, 4]], "flat list"),
        ([True, False, True], "list"),
        (3, "list"),
    ],
)
def test_wrong_tilts(spec, says):
    fails(InputError, read_tilts, spec, says=says)


@settings(max_examples=40, deadline=None)
@given(
    tilts=st.lists(st.integers(-9000, 9000), min_size=3, max_size=30, unique=True).filter(lambda t: np.ptp(t) > 400),
    newline=st.sampled_from(["\n", "\r\n"]),
    suffix=st.sampled_from([".rawtlt", ".tlt", ".txt", ".csv", ".TLT"]),
    bom=st.booleans(),
)
def test_tilt_files(tilts, newline, suffix, bom):
    lines = [f"  {t / 100:.2f}" + ("  # good" if t % 3 == 0 else "") for t in tilts]
    text = newline.join(["# tilts", "", *lines, "", ""])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"a{suffix}").write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        np.testing.assert_allclose(read_tilts(f"a{suffix}", folder), np.array(tilts) / 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\n2\n\nx\n", ":4: 'x'"),
        ("1\n2,5\n3\n", ":2: '2,5'"),
        ("1\n2 3\n", ":2: '2 3'"),
        ("1\n1_0\n30\n", ":2: '1_0'"),
        ("1\nnan\n30\n", ":2: 'nan'"),
        ("angle\n1\n", ":1: 'angle'"),
        ("1e999\n2\n3\n", "finite"),
        ("", "no tilts"),
        ("# none\n", "no tilts"),
        ("1\n2\n", "2 tilts"),
        ("1\n2\n1\n", "more than once"),
        ("\udcff", "not text"),
    ],
)
def test_wrong_tilt_files(tmp_path, text, says):
    path = tmp_path / "a.rawtlt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    fails(InputError, read_tilts, path, says=(str(path), says))


def test_wrong_tilt_paths(tmp_path):
    fails(InputError, read_tilts, "no.tlt", tmp_path, says="does not exist")
    (tmp_path / "d.tlt").mkdir()
    fails(InputError, read_tilts, "d.tlt", tmp_path, says="is a folder")
    (tmp_path / "a.xlsx").write_text("1\n")
    fails(InputError, read_tilts, "a.xlsx", tmp_path, says=("'.xlsx'", ".rawtlt"))
    fails(InputError, read_tilts, "a\0.tlt", tmp_path)


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
        (lambda a: a * 1e38, "too large"),
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


# ---- volumes ----

VALUES = RNG.normal(size=(5, 7, 6)).astype(np.float32)


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
    monkeypatch.setattr(exports, "CLASSIC_LIMIT", 100)
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


def two_volumes(scale=1.0):
    return {e: Volume(VALUES * np.float32(scale * k), 2.5, e) for k, e in enumerate(("Co", "Zn"), 1)}


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


# ---- whole or not at all ----


def fill(folder: Path, text: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_text(text)
    (folder / "job.json").write_text(text)


def content(folder: Path) -> str:
    """What `fill` wrote; both files are there and agree."""
    a, b = (folder / "sub" / "a").read_text(), (folder / "job.json").read_text()
    assert a == b
    return a


def test_a_folder_appears_when_it_is_done(tmp_path):
    out = tmp_path / "out"
    with OutputFolder(out) as folder:
        assert folder.parent == out.parent
        assert folder.name.startswith(".out.partial-")
        fill(folder, "1")
        assert not out.exists()
    assert content(out) == "1"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_has_changed(tmp_path, error):
    with pytest.raises(error):
        enter(tmp_path / "new" / "deep" / "out", error)
    assert os.listdir(tmp_path) == []
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
    with pytest.raises(error):
        enter(tmp_path / "out", error, overwrite=True)
    assert content(tmp_path / "out") == "old"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_if_the_new_one_cannot_be_put(tmp_path, monkeypatch, error):
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
    rename = Path.rename

    def stumble(self, target):
        if ".partial-" in self.name:
            raise error
        return rename(self, target)

    def overwrite():
        with OutputFolder(tmp_path / "out", overwrite=True) as folder:
            fill(folder, "new")
            monkeypatch.setattr(Path, "rename", stumble)

    if isinstance(error, OSError):
        fails(OutputError, overwrite, says=("out", "broken disk"))
    else:
        with pytest.raises(KeyboardInterrupt):
            overwrite()
    assert content(tmp_path / "out") == "old"
    assert os.listdir(tmp_path) == ["out"]


def enter(path, error=AssertionError, **kwargs):
    """Open the folder, put something in it, then fail."""
    with OutputFolder(path, **kwargs) as folder:
        fill(folder, "new")
        raise error


def test_wrong_targets(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for call in (check_target, enter):
        for overwrite in (False, True):
            fails(OutputError, call, tmp_path / "file", overwrite=overwrite, says="is a file")
            fails(OutputError, call, tmp_path / "file" / "out", overwrite=overwrite, says="is a file")
            fails(OutputError, call, "/", overwrite=overwrite)
        fails(OutputError, call, tmp_path / "mine", says="exists")
        fails(OutputError, call, tmp_path / "empty", says="exists")
        fails(OutputError, call, tmp_path / "mine", overwrite=True, says=("job.json", "not a result"))
        fails(OutputError, call, tmp_path / ("n" * 300))
        fails(OutputError, call, "a\0")
        fails(OutputError, call, "~no_such_user_here/out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    check_target(tmp_path / "empty", overwrite=True)
    with OutputFolder(tmp_path / "empty", overwrite=True) as folder:
        fill(folder, "1")
    assert content(tmp_path / "empty") == "1"


def test_one_folder_twice_at_a_time(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        fails(OutputError, enter, tmp_path / "out", says="already")
        fill(folder, "1")
    assert content(tmp_path / "out") == "1"


def test_a_folder_that_someone_else_made_meanwhile_is_kept(tmp_path):
    def late():
        with OutputFolder(tmp_path / "out") as folder:
            fill(folder, "mine")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()

    fails(OutputError, late, says="exists")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["theirs"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    with OutputFolder(tmp_path / "real") as folder:
        fill(folder, "old")
    (tmp_path / "link").symlink_to("real")
    with OutputFolder(tmp_path / "link", overwrite=True) as folder:
        fill(folder, "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"


def child(code: str, *args, **kwargs) -> subprocess.Popen:
    head = "import os, sys, time\nfrom pathlib import Path\nfrom recon.io import *\nfrom recon.errors import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


HALF = """
with OutputFolder(sys.argv[1], overwrite=True) as folder:
    (folder / "job.json").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_half_folder(tmp_path, how, there):
    out = tmp_path / "out"
    if there:
        with OutputFolder(out) as folder:
            fill(folder, "old")
    with child(HALF, out) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(os.listdir(tmp_path)) == 1 + there
        process.send_signal(how)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert out.exists() == there
    left = [name for name in os.listdir(tmp_path) if name != "out"]
    assert len(left) == (0 if how == signal.SIGINT else 1)  # a killed process cannot clean up
    check_target(out, overwrite=True)  # the next run does
    assert os.listdir(tmp_path) == (["out"] if there else [])
    if there:
        assert content(out) == "old"


def test_what_live_processes_and_other_machines_write_is_left_alone(tmp_path):
    (tmp_path / ".out.partial-another_machine-1").mkdir()
    (tmp_path / ".out2.partial-x").mkdir()
    with child(HALF, tmp_path / "out") as process:
        process.stdout.readline()
        before = sorted(os.listdir(tmp_path))
        assert len(before) == 3
        with OutputFolder(tmp_path / "out") as folder:
            fill(folder, "1")
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
        process.kill()
        process.communicate()


AGAIN = """
for i in range(100000):
    with OutputFolder(sys.argv[1], overwrite=True) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text(str(i))
        (folder / "job.json").write_text(str(i))
    if i == 0:
        print("ready", flush=True)
"""


def test_killed_at_any_moment_of_an_overwrite(tmp_path):
    """Under its name there is the old folder or the new one, whole; one put aside comes back."""
    out = tmp_path / "out"
    for _ in range(8):
        with child(AGAIN, out) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(RNG.uniform(0, 0.05))
            process.kill()
            process.communicate()
        if out.exists():
            content(out)
        check_target(out, overwrite=True)
        content(out)
        assert os.listdir(tmp_path) == ["out"]


def test_a_folder_put_aside_by_a_dead_process_comes_back(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        fill(folder, "old")
        name = folder.name
    with child("") as process:
        process.communicate()
    aside = name.replace("partial", "old").replace(str(os.getpid()), str(process.pid))
    (tmp_path / "out").rename(tmp_path / aside)
    fails(OutputError, check_target, tmp_path / "out", says="exists")
    assert content(tmp_path / "out") == "old"


def run_child(code: str, *args) -> str:
    with child(code, *args) as process:
        out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 0
    return out


# nobody may not read root's libraries either, so they are used once before
NOT_ROOT = """
import tempfile
with tempfile.TemporaryDirectory() as warm:
    for kind, name in (("tiff", "a.tif"), ("mrc", "a.mrc")):
        write_volume(Path(warm, name), [[[1.0, 1.0]] * 2], 1.0, kind)
os.getuid() or os.setuid(65534)
"""


def test_without_permission():
    """Also where the tests run as root: the child gives that up."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to the child
        os.chmod(folder, 0o755)
        _try_without_permission(Path(folder))


def _try_without_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    with OutputFolder(closed / "out") as folder:
        fill(folder, "old")
    np.save(tmp_path / "a.npy", STACK)
    (tmp_path / "a.npy").chmod(0)
    (tmp_path / "a.tlt").write_text("1\n20\n30\n")
    (tmp_path / "a.tlt").chmod(0)
    closed.chmod(0o555)
    code = NOT_ROOT + (
        "here = Path(sys.argv[1])\n"
        "def enter(path, **k):\n"
        "    with OutputFolder(path, **k): pass\n"
        "for call in (lambda: read_stack(here / 'a.npy'), lambda: read_tilts(here / 'a.tlt'),\n"
        "             lambda: enter(here / 'closed/new'), lambda: enter(here / 'closed/deep/new'),\n"
        "             lambda: enter(here / 'closed/out', overwrite=True),\n"
        "             lambda: write_volume(here / 'closed/a.tif', [[[1.0]]], 1.0),\n"
        "             lambda: write_volume(here / 'closed/a.mrc', [[[1.0]]], 1.0, 'mrc')):\n"
        "    try:\n"
        "        call()\n"
        "    except ReconError as exc:\n"
        "        print(type(exc).__name__, exc)\n"
    )
    lines = run_child(code, tmp_path).splitlines()
    closed.chmod(0o755)
    assert [line.split()[0] for line in lines] == ["InputError"] * 2 + ["OutputError"] * 5
    assert all("may not be" in line for line in lines[:5])
    assert content(closed / "out") == "old"
    assert os.listdir(closed) == ["out"]


FULL = """
import resource
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for kind, name in (("tiff", "a.tif"), ("mrc", "a.mrc")):
    try:
        with OutputFolder(Path(sys.argv[1], "out")) as folder:
            write_volume(folder / name, np.ones((40, 40, 40)), 1.0, kind)
    except ReconError as exc:
        print(type(exc).__name__, exc)
"""


def test_a_disk_that_fills_up(tmp_path):
    """A limit on the size of files stands in for it; the kernel fails the write half way."""
    lines = run_child(FULL, tmp_path).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("ResourceError") and "full" in line for line in lines)
    assert os.listdir(tmp_path) == []


def test_check_disk(tmp_path, monkeypatch):
    check_disk(tmp_path / "not" / "yet", 1)
    free = shutil.disk_usage(tmp_path).free
    fails(ResourceError, check_disk, tmp_path / "out", free * 3, says=("need", "free", "out"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 1_500_000))
    fails(ResourceError, check_disk, tmp_path, 3_210_000_000, says=("3.21 GB", "1.5 MB"))
    check_disk(tmp_path, 1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 500))
    fails(ResourceError, recon.write, two_volumes(), tmp_path / "out", says="free")
    assert os.listdir(tmp_path) == []


def test_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with whole_file(path) as aside:
            aside.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    with whole_file(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_importing_reads_no_library():
    code = (
        "import recon.io\nprint([m for m in ('tifffile', 'mrcfile', 'scipy', 'skimage', 'cupy') if m in sys.modules])"
    )
    assert run_child(code) == "[]\n"


def test_errors_share_a_base():
    assert all(issubclass(kind, ReconError) for kind in (InputError, JobError, OutputError, ResourceError))
