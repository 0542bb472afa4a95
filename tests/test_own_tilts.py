"""Tilts that files carry: used, and compared with those given, order included."""

from __future__ import annotations

import struct

import mrcfile
import numpy as np
import pytest
import tifffile
from files import fails
from files import silent as silent  # a fixture
from stack_files import MAPS, OTHER, TILTS, write_emd, write_hspy

import recon
from recon.errors import InputError

UNEVEN = np.array([35.0, 10, -3.5, -20, -61])


def write_serialem(path, tilts):
    """Two bytes of tilt a section, hundredths of degrees, and four of a stage position."""
    raw = b"".join(struct.pack("<hhh", round(100 * t), 5, 6) for t in tilts)
    _mrc(path, raw, b"SERI", 6, 1 | 8 | 16)


def write_agard(path, tilts, kind=b"AGAR", integers=0):
    """Reals of each section, the tilt first; FEI's old files have 32 of them and no name."""
    raw = b"".join(struct.pack(f"<{integers}i32f", *[7] * integers, t, *[0.5] * 31) for t in tilts)
    _mrc(path, raw, kind, integers, 32)


def _mrc(path, raw, kind, first, second):
    with mrcfile.new(path) as f:
        f.set_data(MAPS.astype(np.int16))
        f.voxel_size = 20.0
        f.set_extended_header(np.frombuffer(raw, dtype="V1"))
        f.header.exttyp = kind
    head = bytearray(path.read_bytes())
    head[128:132] = struct.pack("<hh", first, second)
    path.write_bytes(head)


def write_fei(path, tilts, kind=b"FEI1", values=MAPS):
    from mrcfile.dtypes import get_ext_header_dtype

    with mrcfile.new(path) as f:
        f.set_data(values.astype(np.int16))
        f.voxel_size = 20.0
        table = np.zeros(len(tilts), dtype=get_ext_header_dtype(kind))
        table["Metadata size"], table["Alpha tilt"] = table.dtype.itemsize, tilts
        f.set_extended_header(table)
        f.header.exttyp = kind


def write_npz(path, tilts):
    np.savez(path, Co=MAPS, tilts=tilts)


def write_ours(path, tilts, kind):
    from recon.io.formats.common import Cube
    from recon.io.volumes import write_cube

    write_cube(path, Cube("Co", MAPS, 2.0, np.asarray(tilts, float)), kind)


def signal_of(path, tilts):
    """HyperSpy's, its navigation axis not uniform."""
    from hyperspy.signals import Signal2D

    axes = [{"axis": np.sort(tilts), "name": "tilt", "units": "degrees", "navigate": True},
            *({"size": s, "name": n, "units": "nm", "scale": 2.0} for n, s in (("y", 7), ("x", 6)))]  # fmt: skip
    return Signal2D(MAPS, axes=axes)


CARRIERS = {
    "uniform.hspy": lambda p, t: write_hspy(p, MAPS, "tyx"),
    "axis.hspy": lambda p, t: write_hspy(p, MAPS, "tyx", t),
    "radians.hspy": lambda p, t: write_hspy(p, MAPS, "tyx", np.radians(t), angle="rad"),
    "a.emd": lambda p, t: write_emd(p, {"a": MAPS}, tilts=t),
    "radians.emd": lambda p, t: write_emd(p, {"a": MAPS}, tilts=np.radians(t), angle=("angles", "[rad]")),
    "unitless.emd": lambda p, t: write_emd(p, {"a": MAPS}, tilts=t, angle=("angles", "")),
    "a.npz": write_npz,
    "seri.mrc": write_serialem,
    "agard.mrc": write_agard,
    "integers.mrc": lambda p, t: write_agard(p, t, integers=2),
    "nameless.mrc": lambda p, t: write_agard(p, t, kind=b""),
    "fei.mrc": write_fei,
    "fei2.mrc": lambda p, t: write_fei(p, t, b"FEI2"),
    "ours.emd": lambda p, t: write_ours(p, t, "emd"),
    "ours.hspy": lambda p, t: write_ours(p, t, "hspy"),
    "ours.ome.zarr": lambda p, t: write_ours(p, t, "ome-zarr"),
    "ours.tif": lambda p, t: write_ours(p, t, "tiff"),
    "signal": signal_of,
}


@pytest.fixture(params=CARRIERS)
def carried(request, tmp_path):
    """A source that carries tilts, and these."""
    path = tmp_path / request.param
    made = CARRIERS[request.param](path, UNEVEN)
    tilts = {"uniform.hspy": np.arange(-20.0, 30, 10), "signal": np.sort(UNEVEN)}.get(request.param, UNEVEN)
    return (path if request.param != "signal" else made), tilts


def test_tilts_of_the_file_are_used(carried):
    source, tilts = carried
    series = recon.read({"Co": source}, pixel_size_nm=2.0)
    np.testing.assert_allclose(series.tilts_deg, tilts, atol=0.01)
    np.testing.assert_array_equal(series.counts[0], MAPS)
    assert "tilts from" in series.history[-1]


def test_given_tilts_are_compared(carried):
    source, tilts = carried
    same = recon.read({"Co": source}, tilts + 0.3, 2.0)
    assert (same.tilts_deg.tolist(), [r for r in same.remarks if "degrees by" in r]) == ((tilts + 0.3).tolist(), [])
    other = recon.read({"Co": source}, tilts + np.array([0, 0, 7, 0, 0]), 2.0)
    told = [r for r in other.remarks if "degrees by the tilts given" in r]
    assert len(told) == 1
    assert f"{tilts[2] + 7:g} degrees" in told[0]
    assert f"at {tilts[2]:g} by" in told[0]
    assert other.tilts_deg[2] == tilts[2] + 7
    mirrored = recon.read({"Co": source}, -tilts, 2.0)
    assert any("all signs the other way round" in r for r in mirrored.remarks)
    swapped = tilts[[1, 0, 2, 3, 4]]
    fails(InputError, recon.read, {"Co": source}, swapped, 2.0, says=("same tilts in another order",))


def test_two_elements_that_contradict_each_other(tmp_path):
    write_emd(tmp_path / "Co.emd", {"a": MAPS})
    write_emd(tmp_path / "Zn.emd", {"a": OTHER}, tilts=TILTS + np.array([0, 0, 5, 0, 0]))
    maps = {"Co": tmp_path / "Co.emd", "Zn": tmp_path / "Zn.emd"}
    fails(InputError, recon.read, maps, says=("Co.emd, 3 is at 0 degrees by Co", "at 5 by Zn", "give tilts"))
    series = recon.read(maps, TILTS)
    assert ["Zn.emd" in r for r in series.remarks] == [True]


def test_a_file_beside_that_contradicts(tmp_path):
    write_emd(tmp_path / "Co.emd", {"a": MAPS})
    (tmp_path / "Co.rawtlt").write_text("\n".join(str(t + 10) for t in TILTS))
    series = recon.read({"Co": tmp_path / "Co.emd"})
    assert series.tilts_deg.tolist() == TILTS.tolist()
    assert "-40 degrees by Co.emd and at -30 by Co.rawtlt; taken from Co.emd" in series.remarks[0]


@pytest.mark.parametrize("write", [write_serialem, write_agard])
@pytest.mark.parametrize("tilts", [[0] * 5, [900, 1, 2, 3, 4], np.radians(UNEVEN)])
def test_headers_that_hold_no_tilts(tmp_path, write, tilts):
    """Zeros, nonsense, radians: nothing is taken from them."""
    write(tmp_path / "a.mrc", np.clip(tilts, -327, 327) if write is write_serialem else tilts)
    fails(InputError, recon.read, {"Co": tmp_path / "a.mrc"}, says="no tilts were given")
    assert recon.read({"Co": tmp_path / "a.mrc"}, TILTS).remarks == ()


@pytest.mark.parametrize(("name", "tilts"), [("slice", np.arange(5.0)), ("angles", np.arange(1.0, 6)), ("z", TILTS)])
def test_axes_that_are_no_tilts(tmp_path, name, tilts):
    write_emd(tmp_path / "a.emd", {"a": MAPS}, tilts=tilts, angle=(name, ""))
    fails(InputError, recon.read, {"Co": tmp_path / "a.emd"}, says="no tilts were given")


def test_labels_that_are_no_tilts(tmp_path):
    labels = {"metadata": {"unit": "nm", "Labels": [f"map {i}" for i in range(5)]}, "resolution": (0.5, 0.5)}
    tifffile.imwrite(tmp_path / "a.tif", MAPS, imagej=True, **labels)
    fails(InputError, recon.read, {"Co": tmp_path / "a.tif"}, says="no tilts were given")


@pytest.mark.parametrize("order", [range(5), (3, 0, 4, 1, 2)])
def test_single_images_at_the_tilts_in_their_headers(tmp_path, order):
    """One MRC a map, names that only count: the header says the tilt."""
    for i, k in enumerate(order):
        write_fei(tmp_path / f"image_{i}.mrc", UNEVEN[[k]], values=MAPS[k])
    series = recon.read({"Co": tmp_path / "image_*.mrc"})
    np.testing.assert_allclose(series.tilts_deg, UNEVEN[list(order)], atol=1e-3)
    np.testing.assert_array_equal(series.counts[0], MAPS[list(order)])


def test_emi_says_the_tilt_of_each_ser(tmp_path, monkeypatch):
    """rosettasciio leaves TIA's stage to its mapping, which HyperSpy applies."""
    from recon.io.formats import microscope

    def signal(path):
        k = int(path.stem[-1])
        axes = [{"name": n, "size": s, "scale": 2.0, "offset": 0.0, "units": "nm"} for n, s in (("y", 7), ("x", 6))]
        key = "ObjectInfo.ExperimentalDescription.Stage_A_deg"
        om = {"ObjectInfo": {"ExperimentalDescription": {"Stage_A_deg": str(UNEVEN[k])}}}
        mapping = {key: ("Acquisition_instrument.TEM.Stage.tilt_alpha", float)}
        return [{"data": MAPS[k], "axes": axes, "metadata": {}, "original_metadata": om, "mapping": mapping}]

    monkeypatch.setattr(microscope, "signals_of", signal)
    for k in range(5):
        (tmp_path / f"map_{k}.emi").write_bytes(b"x" * 64)
    series = recon.read({"Co": tmp_path / "map_*.emi"})
    np.testing.assert_array_equal(series.tilts_deg, UNEVEN)
