"""Job files whose elements have tilts, pixels and masks of their own, and an image with more tilts that aligns them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from recon.errors import JobError, ReconError
from recon.job.file import load_job
from recon.job.inputs import input_hashes, read_job
from recon.job.pipeline import run_job
from recon.job.resources import admit, describe, plan
from recon.simulate import simulate

TILTS = np.arange(-70.0, 71.0, 10.0)
ZN = np.delete(np.arange(15), [1, 6, 7])
HEAD = """
regions = "none"
[input]
maps = { Co = "Co.npy", Zn = { files = "Zn.npy", tilts = "Zn.rawtlt"%s } }
tilts = { start = -70, stop = 70, step = 10 }
pixel_size_nm = 5.0
"""
QUICK = """
[reconstruct]
method = "tv"
strength = 1.0
max_iterations = 20
tolerance = 0.1
halves = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Maps of Co at 15 tilts, of Zn at 12 of them, and an image at 29 with pixels half as large."""
    path = tmp_path_factory.mktemp("channels")
    series, _ = simulate(size=24, dose=300, seed=5, tilts_deg=np.arange(-70.0, 71.0, 5.0), drift=1.0)
    np.save(path / "Co.npy", series.counts[0, ::2])
    np.save(path / "Zn.npy", series.counts[1, ::2][ZN])
    (path / "Zn.rawtlt").write_text("\n".join(f"{t:g}" for t in TILTS[ZN]))
    image = np.repeat(np.repeat(100 + series.counts.sum(axis=0), 2, 1), 2, 2)
    tifffile.imwrite(path / "haadf.tif", image.astype(np.float32))
    (path / "haadf.rawtlt").write_text("\n".join(f"{t:g}" for t in series.tilts_deg))
    mask = np.zeros((24, 24), np.uint8)
    mask[3, 4] = 1
    tifffile.imwrite(path / "bad.tif", mask)
    return path


def job(folder, more="", rest=QUICK):
    (folder / "job.toml").write_text(HEAD % more + rest)
    return load_job(folder / "job.toml")


def test_what_an_element_has_not_of_its_own_is_as_for_all(folder):
    found = job(folder, ', bad_pixels = "bad.tif", leave_out = [70]')
    series = read_job(found)
    assert series.n_tilts == 15
    assert series.present.sum(axis=1).tolist() == [15, 11]
    assert series.seen_by(1)[2, 3, 4] == 0
    assert series.seen_by(0).all()
    assert series.origins[1][1] == ""
    assert series.origins[1][2] == "Zn.npy, 2"
    hashes = input_hashes(found)
    assert {"Co", "Zn", "tilts of Zn", "bad_pixels of Zn"} <= hashes.keys()
    assert found.resolved()["input"]["maps"]["Zn"]["tilts"] == "Zn.rawtlt"
    assert found.resolved()["input"]["maps"]["Co"] == "Co.npy"


def test_a_check_shows_which_maps_there_are(folder):
    found = job(folder, rest=QUICK + '[align]\nreference = { image = "haadf.tif", tilts = "haadf.rawtlt" }\n')
    series = read_job(found)
    assert series.image.shape == (29, 24, 24)
    lines = describe(found, admit(found, series), plan(found, series, "cpu"), folder / "out")
    text = "\n".join(lines)
    assert "Zn: maps at 12 of 15 tilts" in text
    assert "align auto on haadf.tif at 29 tilts of its own" in text
    assert sum("no map" in line for line in lines) == 3
    assert {"image: haadf.tif", "tilts of the image"} <= input_hashes(found).keys()


def test_pixels_of_their_own(folder):
    np.save(folder / "Zn.npy", np.load(folder / "Zn.npy"))
    coarse = np.load(folder / "Zn.npy").reshape(12, 12, 2, 12, 2).sum(axis=(2, 4))
    np.save(folder / "Zn2.npy", coarse)
    text = (HEAD % ", pixel_size_nm = 10.0").replace("Zn.npy", "Zn2.npy") + QUICK
    (folder / "job2.toml").write_text(text)
    found = load_job(folder / "job2.toml")
    series = read_job(found)
    assert series.frame == (24, 24)
    assert series.footprint(1).pitch == 2
    np.testing.assert_array_equal(series.counts[1][ZN].reshape(12, 12, 2, 12, 2).sum(axis=(2, 4)), coarse)
    lines = describe(found, admit(found, series), plan(found, series, "cpu"), folder / "out")
    assert "Zn: maps at 12 of 15 tilts, 12 x 12 pixels of 10 nm" in lines


def test_a_whole_run_on_an_image_of_more_tilts(folder, undrawn):
    found = job(folder, rest=QUICK + '[align]\nreference = { image = "haadf.tif", tilts = "haadf.rawtlt" }\n')
    out = run_job(found, out=folder / "out", device="cpu")
    made = json.loads((out / "job.json").read_text())
    alignment = json.loads((out / "alignment.json").read_text())
    assert len(alignment["tilts_deg"]) == 15
    assert "of 29 images" in alignment["method"]
    assert alignment["agreement"]["chi_square"]
    assert [i for i, e in enumerate(alignment["exposures"]["Zn"]) if e is None] == [1, 6, 7]
    assert None not in alignment["exposures"]["Co"]
    assert any("Zn at 12" in line for line in made["stages"])
    for name in ("Co", "Zn"):
        assert tifffile.imread(out / f"{name}.tif").shape == (24, 24, 24)
    text = (out / "report.html").read_text()
    assert "Zn at 12" in text
    assert "no map of Zn" in text
    # what was found serves another run
    again = job(folder, rest=QUICK + f'[align]\nfile = "{out.name}/alignment.json"\n')
    ready = admit(again, read_job(again))
    np.testing.assert_allclose(
        ready.exposures[1][ZN], np.array(alignment["exposures"]["Zn"])[ZN].astype(float), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'tilts = "Zn.rawtlt"',
            'tilt = "Zn.rawtlt"',
            "input.maps.Zn: has the unknown key 'tilt'; did you mean 'tilts'?",
        ),
        ('files = "Zn.npy", ', "", "input.maps.Zn: lacks files; give it as in { files"),
        ('files = "Zn.npy"', 'files = "no.npy"', "input.maps.Zn: no.npy does not exist"),
        ('"Zn.rawtlt"', '"no.rawtlt"', "input.maps.Zn: tilts no.rawtlt does not exist"),
        ('tilts = "Zn.rawtlt"', "pixel_size_nm = -1", "input.maps.Zn: pixel_size_nm is -1"),
        ('tilts = "Zn.rawtlt"', "leave_out = { number = [1] }", "leave_out of one element must be a list of tilts"),
        ("[reconstruct]", '[align]\nreference = { file = "haadf.tif" }\n[reconstruct]', "has the unknown key 'file'"),
        ("[reconstruct]", "[align]\nreference = { tilts = [1] }\n[reconstruct]", "align.reference: lacks image"),
        ("[reconstruct]", "[align]\nreference = { image = 3 }\n[reconstruct]", "image must be the file of an image"),
        (
            "[reconstruct]",
            '[geometry]\nscheme = "dual-axis"\n[reconstruct]',
            "input.maps.Zn: has tilts of its own, which serves a single axis, not scheme 'dual-axis'",
        ),
    ],
)
def test_wrong_tables_get_one_line(folder, old, new, message):
    text = (HEAD % "" + QUICK).replace(old, new, 1)
    (folder / "wrong.toml").write_text(text)
    with pytest.raises(JobError) as caught:
        load_job(folder / "wrong.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tilts_of_another_number_are_told_with_the_element(folder):
    text = (HEAD % "" + QUICK).replace('"Zn.rawtlt"', "[-10, 0, 10, 20]")
    (folder / "wrong.toml").write_text(text)
    with pytest.raises(ReconError, match=r"Zn .*has 12 maps but 4 tilts were given"):
        read_job(load_job(folder / "wrong.toml"))
