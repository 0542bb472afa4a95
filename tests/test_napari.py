"""The plugin of napari: its manifest, the layers of a run, and drawn places as files that a job asks about."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from runs import write_run

from recon.errors import InputError
from recon.io import read_volume
from recon.report.napari_plugin import particle, read, reader, save_places

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "recon" / "report" / "napari.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "a run", size=16)


@pytest.mark.filterwarnings("ignore")
def test_the_manifest_is_one_that_napari_takes():
    npe2 = pytest.importorskip("npe2", reason="npe2 is not installed")
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert manifest.name == project["name"]  # or napari would not find it
    assert project["entry-points"]["napari.manifest"] == {"chemtomo": f"recon.report:{MANIFEST.name}"}
    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    ids = {c.id for c in manifest.contributions.commands}
    used = [*manifest.contributions.readers, *manifest.contributions.sample_data, *manifest.contributions.widgets]
    assert ids == {u.command for u in used}


def test_a_run_becomes_layers_to_scale(run):
    assert reader(run) is reader(str(run / "job.json")) is read
    layers = {options["name"]: (data, options, kind) for data, options, kind in read(run / "job.json")}
    assert list(layers) == [
        "Co", "Co, truth", "Co, standard deviation", "Zn", "Zn, truth", "Zn, standard deviation", "particle", "places"
    ]  # fmt: skip
    for name in ("Co", "Zn"):
        data, options, kind = layers[name]
        assert kind == "image"
        np.testing.assert_array_equal(data, read_volume(run / f"{name}.tif")[0])
        assert options["scale"] == (5.0, 5.0, 5.0)
        assert options["blending"] == "additive"
        assert options["metadata"]["method"] == "tgv"
    assert layers["Co"][1]["contrast_limits"] == (0.0, 1.0)  # the pure phase is full brightness
    assert layers["places"][2] == "labels"
    assert layers["places"][1]["features"]["place"] == ["", "interlocked: Co alone", "mixed: Co and Zn"]


def test_what_is_no_run_is_left_to_others(tmp_path, run):
    assert reader(tmp_path) is None
    assert reader([str(run), str(run)]) is None
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(InputError, match="job"):
        reader(tmp_path)(tmp_path)


def test_the_sample():
    (co, options, _), (zn, _, _) = particle()
    assert co.shape == zn.shape == (64, 64, 64)
    assert options["name"] == "Co"
    assert co.max() > 0


def test_drawn_places_are_masks_that_a_job_asks_about(tmp_path):
    labels = np.zeros((4, 5, 6), np.int32)
    labels[1, 2, 3:5], labels[3, 0, 0] = 1, 7
    lines = save_places(labels, tmp_path, 2.5, "neck")
    found = tomllib.loads("\n".join(lines))["regions"]
    assert found == {"neck-1": "neck-1.tif", "neck-7": "neck-7.tif"}
    for number in (1, 7):
        values, voxel = read_volume(tmp_path / f"neck-{number}.tif")
        np.testing.assert_array_equal(values > 0, labels == number)
        assert voxel == pytest.approx(2.5)
    with pytest.raises(InputError, match="no place"):
        save_places(np.zeros((4, 5, 6), int), tmp_path, 2.5)
    with pytest.raises(InputError, match="letters and digits"):
        save_places(labels, tmp_path, 2.5, "../neck")
