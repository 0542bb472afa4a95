"""An image recorded with the maps, such as HAADF, to align on; never an element."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from files import fails

import recon
from recon.eds.images import read_image
from recon.errors import InputError, JobError
from recon.job.file import load_job
from recon.job.inputs import input_hashes, read_job

FORMATS = Path(__file__).resolve().parents[2] / "shared" / "data" / "formats"  # of other programs, beside the checkout
TILTS = np.arange(-70, 71, 10.0)
N = 32


@pytest.fixture(scope="module")
def recorded():
    """Weak maps and a clear image of one drifting particle, and its drift in pixels (v, u)."""
    from scipy.ndimage import shift

    rng = np.random.default_rng(4)
    z, y, x = np.meshgrid(*[np.arange(N) - (N - 1) / 2] * 3, indexing="ij")
    body = ((z / 6) ** 2 + (y / 8) ** 2 + ((x + 2) / 5) ** 2 < 1) + 2.0 * (
        (z - 4) ** 2 + (y - 3) ** 2 + (x - 5) ** 2 < 9
    )
    clean = np.asarray(recon.project(body.astype(np.float32), recon.TiltGeometry.single_axis(TILTS, detector=(N, N))))
    drift = rng.uniform(-1.5, 1.5, (len(TILTS), 2))
    moved = np.clip([shift(m, d, order=1) for m, d in zip(clean, drift, strict=True)], 0, None)
    counts = rng.poisson(moved / moved.max() * 3 + 0.02)
    gains = rng.uniform(0.7, 1.4, (len(TILTS), 1, 1))  # brightness, set anew at each tilt
    image = 12000 + gains * (moved / moved.max() * 20000 + rng.normal(0, 200, moved.shape))
    return counts.astype(np.uint16), image.astype(np.float32), drift


def error(series, drift):
    """Of the displacements, rms in pixels; what a translation of the object explains taken out."""
    left = series.alignment.displacements - drift
    t = np.radians(series.tilts_deg)
    basis = np.stack([np.cos(t), np.sin(t), np.ones_like(t)], axis=1)
    u = left[:, 1] - basis @ np.linalg.lstsq(basis, left[:, 1], rcond=None)[0]
    return float(np.sqrt(np.mean([u**2, (left[:, 0] - left[:, 0].mean()) ** 2])))


def test_a_clear_image_aligns_weak_maps(recorded):
    counts, image, drift = recorded
    series = recon.normalise(recon.read({"Co": counts}, TILTS, 2.0, image=image))
    on_image = recon.align(series)
    on_maps = recon.align(series, reference=["Co"])
    assert error(on_image, drift) < 0.15
    assert error(on_image, drift) < 0.6 * error(on_maps, drift)
    assert on_image.elements == ("Co",)
    np.testing.assert_array_equal(on_image.counts, series.counts)


@pytest.mark.parametrize("kind", ["mrc", "tif"])
def test_images_from_files(tmp_path, recorded, kind):
    counts, image, _ = recorded
    fine = np.repeat(np.repeat(image, 2, axis=1), 2, axis=2)  # recorded with smaller pixels
    if kind == "mrc":
        with mrcfile.new(tmp_path / "haadf.mrc") as f:
            f.set_data(fine)
    else:
        for t, one in zip(TILTS, fine, strict=True):
            tifffile.imwrite(tmp_path / f"haadf_{t:+g}.tif", one)
    np.save(tmp_path / "Co.npy", counts)
    name = "haadf.mrc" if kind == "mrc" else "haadf_*.tif"
    (tmp_path / "job.toml").write_text(
        '[input]\nmaps = { Co = "Co.npy" }\ntilts = { start = -70, stop = 70, step = 10 }\npixel_size_nm = 2.0\n'
        f'[align]\nreference = "{name}"\n'
    )
    job = load_job(tmp_path / "job.toml")
    series = read_job(job)
    np.testing.assert_allclose(series.image, image, rtol=1e-6)
    assert series.elements == ("Co",)
    assert sum("haadf" in n for n in input_hashes(job)) == (1 if kind == "mrc" else len(TILTS))
    turned = recon.read({"Co": counts}, TILTS, 2.0, tilt_axis="x", image=image)
    np.testing.assert_array_equal(turned.image, image.swapaxes(1, 2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a[:5], "5 images, the maps have 15 tilts, and nothing says at which"),
        (lambda a: a[:, :30], "30 x 32 pixels, the maps 32 x 32"),
        (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
        (lambda a: a.astype(str), "must hold images (tilt, y, x) of numbers"),
    ],
)
def test_images_that_do_not_fit(recorded, change, says):
    counts, image, _ = recorded
    fails(InputError, recon.read, {"Co": counts}, TILTS, 2.0, image=change(image), says=says)


def test_an_image_of_other_tilts(tmp_path, recorded):
    counts, image, _ = recorded
    np.savez(tmp_path / "haadf.npz", HAADF=image, tilts=TILTS + 5)
    series = recon.read({"Co": counts}, TILTS, 2.0, image=tmp_path / "haadf.npz")
    assert "at -70 degrees by the maps and at -65 by" in series.remarks[0]
    np.savez(tmp_path / "haadf.npz", HAADF=image, tilts=np.roll(TILTS, 1))
    fails(InputError, recon.read, {"Co": counts}, TILTS, 2.0, image=tmp_path / "haadf.npz", says="another order")
    flat = recon.read({"Co": counts}, TILTS, 2.0, image=np.full_like(image, 7.0))
    fails(InputError, recon.align, recon.normalise(flat), says="shows nothing")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ('"no.mrc"', "no.mrc does not exist"),
        ('"Co"', "must be a list in [ ], not 'Co', or the file"),
        ('"h_*.tif"', "no file"),
    ],
)
def test_references_that_are_none(tmp_path, recorded, reference, says):
    np.save(tmp_path / "Co.npy", recorded[0])
    text = '[input]\nmaps = { Co = "Co.npy" }\ntilts = { start = -70, stop = 70, step = 10 }\n[align]\nreference = '
    (tmp_path / "job.toml").write_text(text + reference + "\n")
    fails(JobError, load_job, tmp_path / "job.toml", says=("job.toml:5: align.reference", says))


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the small files of other programs are not here")
def test_images_beside_spectra():
    """Velox's HAADF, whatever its stream is called, and Bruker's; names that are none are told with those there are."""
    image = read_image(FORMATS / "velox-16x16.emd", "HAADF")
    assert (image.shape, image.sum()) == ((16, 16), 2367830)
    assert read_image(FORMATS / "velox-16x16-pruned.emd", "haadf").sum() == 2355839
    fails(InputError, read_image, FORMATS / "velox-16x16.emd", "BF", says=("no image called BF", "HAADF", "Ca"))
    fails(InputError, read_image, FORMATS / "over16bit.bcf", "nothing", says="no image called nothing")
