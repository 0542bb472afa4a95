"""What a volume tells of itself, in Python and in each format, as other programs read it; and where its centre lies."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import warnings

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

import recon
from recon.io import FORMATS, read_volume, write_volume
from recon.io.volumes import TOGETHER
from recon.series.settings import Settings
from recon.series.volume import Parameters, Record, Solution, Status, StrengthChoice, Volume
from recon.simulate import simulate

SHAPE, VOXEL = (5, 8, 6), 2.5
START = [-(n - 1) / 2 * VOXEL for n in SHAPE]  # z, y, x of the first voxel's centre, nm


def made(status=Status.CONVERGED, gap=0.0075):
    choice = StrengthChoice(0.7, (0.5, 0.9), 1.0, (0.5, 1.0), (1.0, 1.1), "thinned counts", 300.0)
    parameters = Parameters(0.7, 1.4, "relaxed", 10.0, 3.0, 1.0, 0.5, 40.0)
    solution = Solution(None, status, 430, [Record(430, 12.5, gap, 3.0)], parameters, Settings(), choice)
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    notes = {
        "alignment": "joint fit; axis at +1.50 pixels, rotated by +2.00 degrees; \u00b1",
        "history": "read; then align",
    }
    return Volume(values, VOXEL, "Co", solution, notes)


WORDS = ("Co", "recon 0.", "tgv, poisson", "a1 0.7, a0 1.4", "thinned counts", "certified", "0.0075", "axis at +1.50")


# ---------------------------------------------------------------- each format


def told_by_tiff(path):
    with tifffile.TiffFile(path) as tif:
        return tif.imagej_metadata["Info"]


def told_by_mrc(path):
    with mrcfile.open(path) as mrc:
        return " ".join(mrc.get_labels())


def told_by_hspy(path):
    from rsciio.hspy import file_reader

    provenance = file_reader(str(path))[0]["original_metadata"]["recon"]["provenance"]
    return " ".join(map(str, provenance.values()))


def told_by_emd(path):
    with h5py.File(path) as file:
        return " ".join(map(str, file["comments"].attrs.values()))


def told_by_zarr(path):
    return " ".join(zarr.open_group(str(path), mode="r").attrs["recon"]["provenance"]["Co"].values())


def told_by_vti(path):
    vtk = pytest.importorskip("vtk")
    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput().GetFieldData().GetAbstractArray("recon").GetValue(0)


TOLD = {
    "tiff": told_by_tiff, "mrc": told_by_mrc, "hspy": told_by_hspy, "emd": told_by_emd, "ome-zarr": told_by_zarr,
    "ome-zarr-0.4": told_by_zarr,
    "vti": told_by_vti,
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_tells_how_its_volume_was_made(tmp_path, kind):
    volume = made()
    recon.write({"Co": volume}, tmp_path / "out", formats=[kind])
    name = TOGETHER.get(kind, f"Co{FORMATS[kind][0]}")
    told = " ".join(TOLD[kind](tmp_path / "out" / name).split())
    for word in WORDS:
        assert word in told, word
    values, voxel = read_volume(tmp_path / "out" / name)
    assert np.array_equal(values, volume.values)
    assert voxel == pytest.approx(VOXEL)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_volume_of_unknown_origin_is_written_too(tmp_path, kind):
    path = tmp_path / f"a{FORMATS[kind][0]}"
    write_volume(path, np.ones(SHAPE, np.float32), VOXEL, kind)
    assert np.array_equal(read_volume(path)[0], np.ones(SHAPE))


# ---------------------------------------------------------------- origins


def start_of_tiff(path):
    with tifffile.TiffFile(path) as tif:
        ij = tif.imagej_metadata
        step = [
            ij["spacing"],
            *(t[1] / t[0] for t in (tif.pages[0].tags[a].value for a in ("YResolution", "XResolution"))),
        ]
    return [-float(ij[f"{a}origin"]) * s for a, s in zip("zyx", step, strict=True)]


def start_of_mrc(path):
    with mrcfile.open(path) as mrc:
        return [float(mrc.header.origin[a]) / 10 for a in "zyx"]


def start_of_hspy(path):
    from rsciio.hspy import file_reader

    return [a["offset"] for a in file_reader(str(path))[0]["axes"]]


def start_of_emd(path):
    with h5py.File(path) as file:
        dims = {d.attrs["name"]: d[0] for d in (file[f"data/tomography/dim{i}"] for i in (1, 2, 3))}
    return [float(dims[a]) for a in "zyx"]


def start_of_zarr(path):
    attributes = dict(zarr.open_group(str(path), mode="r").attrs)
    image = attributes.get("ome", attributes)["multiscales"][0]  # 0.4 has them at the top
    return image["datasets"][0]["coordinateTransformations"][1]["translation"][-3:]


def start_of_vti(path):
    vtk = pytest.importorskip("vtk")
    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return list(reader.GetOutput().GetOrigin())[::-1]


STARTS = {
    "tiff": start_of_tiff, "mrc": start_of_mrc, "hspy": start_of_hspy, "emd": start_of_emd, "ome-zarr": start_of_zarr,
    "ome-zarr-0.4": start_of_zarr,
    "vti": start_of_vti,
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_the_centre_of_a_volume_is_the_origin_in_every_format(tmp_path, kind):
    path = tmp_path / f"Co{FORMATS[kind][0]}"
    write_volume(path, made().values, VOXEL, kind)
    assert STARTS[kind](path) == pytest.approx(START, abs=1e-4)


def test_coarse_levels_of_ome_zarr_have_the_same_centre(tmp_path):
    write_volume(tmp_path / "a.ome.zarr", np.ones((40, 128, 144), np.float32), VOXEL, "ome-zarr")
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    for level in group.attrs["ome"]["multiscales"][0]["datasets"]:
        scale, start = (t[k] for t, k in zip(level["coordinateTransformations"], ("scale", "translation"), strict=True))
        shape = group[level["path"]].shape
        assert [s + (n - 1) / 2 * d for s, n, d in zip(start[1:], shape[1:], scale[1:], strict=True)] == pytest.approx(
            [0.0] * 3, abs=1e-6
        )


def test_names_inside_a_file_are_those_of_the_elements(tmp_path):
    recon.write({"Co": made(), "Zn": made()}, tmp_path / "out", formats=["ome-zarr"])
    text = (tmp_path / "out" / "volumes.ome.zarr" / "zarr.json").read_text()
    assert "partial" not in text
    ome = zarr.open_group(str(tmp_path / "out" / "volumes.ome.zarr"), mode="r").attrs["ome"]
    assert ome["multiscales"][0]["name"] == ome["omero"]["name"] == "Co, Zn"


# ---------------------------------------------------------------- in Python


@pytest.mark.parametrize(
    ("status", "gap", "words"),
    [
        (Status.CONVERGED, 0.0075, "; converged after 430 iterations, gap 0.0075"),
        (Status.MAX_ITERATIONS, 0.2, "; NOT converged after 430 iterations, gap 0.2"),
        (Status.INTERRUPTED, 0.5, "; NOT converged, stopped after 430 iterations"),
        (Status.FIXED, float("nan"), "; done after 430 iterations)"),
    ],
)
def test_the_repr_says_whether_it_converged(status, gap, words):
    assert words in repr(made(status, gap))
    assert repr(Volume(np.ones((2, 3, 4)), 1.0, "Fe")) == "Volume(Fe, (2, 3, 4) voxels of 1 nm)"


def test_a_volume_as_an_array_is_its_values():
    volume = made()
    assert np.asarray(volume) is volume.values
    assert np.array(volume).base is None
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    assert np.array_equal(np.maximum(volume, 0.5), np.maximum(volume.values, 0.5))
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(volume, dtype=np.float64, copy=False)


def test_reconstruct_from_python_warns_of_what_is_not_converged(caplog, monkeypatch):
    series, _ = simulate(size=16, drift=0)
    with pytest.warns(recon.ReconWarning, match="Co is not certified: max_iterations was reached") as caught:
        volumes = recon.reconstruct(series, "tv", elements=["Co"], strength=0.5, max_iterations=3)
    assert caught[0].filename == __file__
    assert list(volumes) == ["Co"]
    assert "NOT converged" in repr(volumes["Co"])
    assert volumes["Co"].provenance["alignment"].startswith(series.alignment.method)
    with warnings.catch_warnings():
        warnings.simplefilter("error", recon.ReconWarning)
        lines = []
        recon.reconstruct(series, "tv", elements=["Co"], strength=0.5, max_iterations=3, log=lines.append)
        recon.reconstruct(series, "sirt", elements=["Co"], max_iterations=3, progress=False)


def test_progress_true_draws_a_live_line(monkeypatch):
    seen = []
    monkeypatch.setattr("recon.solvers.progress.LiveLine.step", lambda self, element, record: seen.append(element))
    series, _ = simulate(size=16, drift=0)
    recon.reconstruct(series, "sirt", max_iterations=3, progress=True)
    assert set(seen) == set(series.elements)


def test_maps_that_look_odd_warn_in_python():
    maps = np.random.default_rng(0).poisson(5.0, (5, 8, 8)) * 16
    with pytest.warns(recon.ReconWarning, match=re.compile("16")):
        series = recon.read({"Co": maps}, [-40, -20, 0, 20, 40], 1.0)
    assert series.remarks


# ---------------------------------------------------------------- signals of other programs


def test_etspy_gets_scale_units_and_title(monkeypatch):
    """With a stand-in where ETSpy is not installed: as there, its stacks are subclasses of Signal2D."""
    signals = pytest.importorskip("hyperspy.signals")
    if importlib.util.find_spec("etspy") is None:
        base = types.ModuleType("etspy.base")

        class RecStack(signals.Signal2D):
            def __init__(self, data, *args, **kwargs):
                super().__init__(data, *args, **kwargs)

        class TomoStack(RecStack):
            def __init__(self, data, tilts=None, *args, **kwargs):
                super().__init__(data, *args, **kwargs)
                self.tilts = signals.Signal1D(tilts)

        base.RecStack, base.TomoStack = RecStack, TomoStack
        package = types.ModuleType("etspy")
        package.base = base
        monkeypatch.setitem(sys.modules, "etspy", package)
        monkeypatch.setitem(sys.modules, "etspy.base", base)
    found = recon.to_signals(made(), etspy=True)
    assert type(found).__name__ == "RecStack"
    assert found.metadata.General.title == "Co"
    axes = found.axes_manager._axes
    assert [a.scale for a in axes] == [VOXEL] * 3
    assert [a.units for a in axes] == ["nm"] * 3
    assert [a.offset for a in axes] == pytest.approx(START)
    assert found.original_metadata.recon.provenance.method == "tgv, poisson"
    series, _ = simulate(size=16)
    stack = recon.to_signals(series, etspy=True)["Co"]
    assert stack.metadata.General.title == "Co"
    assert [a.scale for a in stack.axes_manager._axes[1:]] == [series.pixel_size_nm] * 2
    assert [a.units for a in stack.axes_manager._axes[1:]] == ["nm"] * 2
    assert np.allclose(np.ravel(stack.tilts.data), series.tilts_deg)
