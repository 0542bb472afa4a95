"""Maps against re-projections, and how the report shows them; the truth serves as the result to compare with."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from commands import folder as folder  # a fixture
from commands import invoke, job, strict
from commands import stacks as stacks
from PIL import Image

import recon
from recon.alignment.doubts import doubts
from recon.analysis.agreement import agreement
from recon.errors import InputError
from recon.files import from_json, json_text
from recon.io.alignment import AlignmentRecord
from recon.model.resampling import resample
from recon.report.alignment import FRAMES, doubts_box, flip_book, load_frames
from recon.series.volume import Volume
from recon.simulate import simulate

N = 32


@pytest.fixture(scope="module")
def simulated():
    """A series, the same with all that is true of it, and true volumes: the model is right but for its pixels."""
    series, truth = simulate(size=N, seed=5, dose=60)
    exposures = np.tile(truth.exposures, (2, 1))
    known = series.evolve(
        alignment=truth.alignment, exposures=exposures, background=truth.background * exposures, isolated=True
    )
    return series, known, {n: Volume(v, 5.0, n) for n, v in truth.volumes.items()}


def test_a_right_alignment_agrees(simulated):
    found = agreement(*simulated)
    scaled = np.concatenate([(found.shifts / found.shift_errors).ravel(), (found.misfit - 1) / found.misfit_errors])
    # sampling at three rays a pixel against Joseph's model adds a little to the noise
    assert 0.7 < np.sqrt(np.mean(np.square(scaled))) < 1.6
    assert np.abs(found.exposures - 1).max() < 4 * found.exposure_errors.max()
    inside = found.residual[np.isfinite(found.residual)]
    assert np.mean(inside) == pytest.approx(0, abs=0.1)
    assert np.std(inside) == pytest.approx(1, abs=0.1)
    level = found.frames["residual"]
    shown = (level[level > 0].astype(float) - 128) / 25
    np.testing.assert_allclose(shown, np.clip(inside, -5.08, 5.08), atol=0.021)
    assert found.shift_errors.max() < 0.1


def test_what_is_wrong_with_a_tilt_is_found_with_its_sign(simulated):
    read, known, volumes = simulated
    rng = np.random.default_rng(1)
    wrong = rng.uniform(-0.6, 0.6, known.alignment.shifts.shape)
    curve = rng.uniform(0.8, 1.2, known.n_tilts)
    shifts = known.alignment.shifts - wrong  # the map lies further along by `wrong` than the model has it
    spoiled = known.evolve(alignment=replace(known.alignment, shifts=shifts), exposures=known.exposures / curve)
    found = agreement(read, spoiled, volumes)
    assert np.sqrt(np.mean(np.square(found.shifts - wrong))) < 0.09  # 0.05 to 0.074 measured: one step of several
    assert np.corrcoef(found.shifts.ravel(), wrong.ravel())[0, 1] > 0.975
    np.testing.assert_allclose(found.exposures, curve / curve.mean(), atol=0.04)
    assert (found.misfit > 1 + 5 * found.misfit_errors).mean() > 0.5


def test_the_reference_and_left_out_tilts(simulated):
    read, known, volumes = simulated
    out = recon.exclude(known, [-30])
    found = agreement(read, out, volumes, ["Zn"])
    np.testing.assert_array_equal(np.isnan(found.misfit), ~out.used)
    np.testing.assert_array_equal(np.isnan(found.shifts[:, 0]), ~out.used)
    assert found.record.shifts_v_pixels[4] is None
    json_text(found.record)
    np.testing.assert_array_equal(found.before, read.counts[1])
    assert agreement(read, known, {}) is None
    assert agreement(read, known, {"Co": volumes["Co"]}, ["Zn"]) is None
    assert agreement(read, known, {"Co": volumes["Co"]}).shifts.shape == (15, 2)


@pytest.mark.parametrize("method", ["tv", "sirt"])
def test_a_slab_beyond_the_frame_is_projected_whole(method):
    """Its volume is wider than the result; cut to the frame, steep tilts would lack much of what they see."""
    rng = np.random.default_rng(0)
    tilts = np.arange(-60, 61, 15.0)
    path = 40 / np.cos(np.radians(tilts))
    maps = rng.poisson(path[:, None, None] * np.ones((9, 24, 24)))
    series = recon.normalise(recon.TiltSeries.create({"Co": maps}, tilts, 5.0))
    assert series.isolated is False
    volumes = recon.reconstruct(series, method, strength=1.0, max_iterations=80, thickness=4)
    found = agreement(series, series, volumes)
    model = found.model[:, 4:-4, 2:-2].mean(axis=(1, 2))
    np.testing.assert_allclose(model, path, rtol=0.05)  # 0.02 measured; 0.4 with the volume cut to the frame
    back_projected = agreement(series, series, recon.reconstruct(series, "fbp", thickness=4))
    assert np.isnan(back_projected.shifts).all()  # it is no fit
    assert np.isnan(back_projected.misfit).all()
    assert back_projected.frames["model"].shape == (9, 24, 24)


@pytest.mark.parametrize("resampled", [False, True])
def test_the_pictures_show_what_the_alignment_does(simulated, resampled):
    """Centres of mass: scattered before; after, where the re-projections have them."""
    read, known, volumes = simulated
    series = resample(known) if resampled else known
    found = agreement(read, series, volumes)
    axis = np.arange(N) - (N - 1) / 2

    def centres(stack):
        stack = np.where(stack > 0.1 * stack.max(), stack, 0)
        total = stack.sum(axis=(1, 2))
        return np.stack([stack.sum(axis=2) @ axis / total, stack.sum(axis=1) @ axis / total], axis=1)

    off = centres(found.after) - centres(found.model)
    assert np.abs(off).max() < 0.4
    assert np.abs(centres(found.before) - centres(found.model)).max() > 2
    assert found.after.sum() == pytest.approx(found.model.sum(), rel=0.05)
    frames = found.frames
    assert all(f.dtype == np.uint8 and f.max() == 255 for f in (frames["before"], frames["after"]))


# ---------------------------------------------------------------- the page


def record(**changes):
    """The record of four tilts with nothing to complain of, but for changes, also of its agreement by a prefix."""
    good = {
        "method": "mine", "tilts_deg": [20, -20, 0, 60], "frame_pixels": [12, 24],
        "shifts_v_pixels": [1, 0, -3, 0.5], "shifts_u_pixels": [0, 2, 0, 0], "axis_offset_pixels": 3.0,
        "rotation_deg": 1.0, "errors_v_pixels": [0.1] * 4, "errors_u_pixels": [0.1, None, 0.1, 0.1],
        "exposures": {"Co-2": [1, 0.5, 1.5, 1]}, "isolated": True, "left_out_deg": [],
        "agreement": {
            "shifts_v_pixels": [0.1, None, 0, 0], "errors_v_pixels": [0.1, None, 0.1, 0.2],
            "shifts_u_pixels": [0.1, None, 0, 0], "errors_u_pixels": [0.1, None, 0.1, 0.2],
            "exposures": [1, None, 1.05, 0.95], "exposure_errors": [0.01, None, 0.01, 0.01],
            "chi_square": [1, None, 1.1, 0.9], "chi_square_errors": [0.1, None, 0.1, 0.1], "noise": "",
        },
    }  # fmt: skip
    inner = {k.removeprefix("agreed_"): v for k, v in changes.items() if k.startswith("agreed_")}
    outer = {k: v for k, v in changes.items() if not k.startswith("agreed_")}
    return from_json(AlignmentRecord, good | outer | {"agreement": good["agreement"] | inner}, "it", "")


def test_nothing_to_doubt():
    assert doubts(record()) == ()
    assert "nothing was found" in doubts_box(record())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"converged": False}, "it did not converge"),
        ({"doubts": ["the axis wobbles"]}, "the axis wobbles"),
        ({"agreed_chi_square": [1, None, 1.1, 5]}, "the map at tilt 60 fits 4.5 times worse"),
        ({"rotation_error_deg": 2.34}, "known to 2.3 degrees only"),
        ({"isolated": False}, "the object leaves the frame"),
        ({"left_out_deg": [-20]}, "tilt -20 was left out"),
    ],
)
def test_each_doubt_is_told(changes, words):
    found = doubts(record(**changes))
    assert len(found) == 1
    assert words in found[0]
    box = doubts_box(record(doubts=list(found)))
    assert f"<li>{html.escape(found[0][:1].upper() + found[0][1:])}.</li>" in box


def test_tilts_that_stand_out_are_told():
    odd = record(
        agreed_shifts_u_pixels=[0.1, None, -0.8, 0],
        agreed_shifts_v_pixels=[0.1, None, 0, 0.7],  # within four of its errors
        agreed_exposures=[1.3, None, 1.05, 0.95],
    )
    assert doubts(odd) == (
        "the map at tilt 0 lies -0.80 pixels across the axis from its re-projection",
        "the map at tilt 20 is 1.30 times as bright as its exposure says",
    )


def test_an_alignment_that_is_off_everywhere_is_told():
    off = record(
        agreed_chi_square=[3, None, 3.1, 2.9], agreed_shifts_v_pixels=[1.1, None, -0.9, 1.0], agreed_noise="poisson"
    )
    assert doubts(off) == (
        "maps lie 1.48 pixels along the axis from their re-projections, all in all",
        "maps fit 3.0 times worse than counts of their number would",
    )


def test_a_tilt_that_the_estimate_told_of_is_told_once():
    once = record(residual_chi_square=[1, 1, 1, 3], agreed_chi_square=[1, None, 1.1, 5])
    line = "the map at tilt 60 fits 3.0 times worse than is typical"
    assert doubts(once) == (line,)
    assert doubts(replace(once, doubts=(line,))) == (line,)


def test_the_flip_book_holds_every_map_in_the_order_of_tilts():
    rng = np.random.default_rng(0)
    frames = {k: rng.integers(0, 255, (4, 6, 12), np.uint8) for k in ("before", "after", "model")}
    page = flip_book(frames, record(left_out_deg=[-20]))
    sheet = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^']+)'", page)[1])))
    pixels = np.array(sheet).reshape(4, 6, -1)  # of a palette image: the levels themselves
    for k, name in enumerate(frames):
        np.testing.assert_array_equal(pixels[:, :, k * 14 : k * 14 + 12], frames[name][[1, 2, 0, 3]])
    told = json.loads(html.unescape(re.search(r"data-tilts='([^']*)'", page)[1]))
    assert [t["text"].split(";")[0] for t in told] == [
        "tilt \u221220\u00b0, left out",
        "tilt 0\u00b0",
        "tilt 20\u00b0",
        "tilt 60\u00b0",
    ]
    assert "exposure of Co-2 1.500" in told[1]["text"]
    assert "along the axis \u22123.00 \u00b1 0.10, across it +0.00 \u00b1 0.10" in told[1]["text"]
    assert "still off" not in told[0]["text"]
    # the circle at zero tilt: 3 of 24 pixels right and 3 of 12 up from the centre of the first panel
    assert told[1]["left"] == pytest.approx(100 * (12 * (0.5 + 3 / 24)) / 40, abs=0.01)
    assert told[1]["top"] == pytest.approx(25)


def test_the_report_shows_the_alignment_and_survives_without_pictures(folder, undrawn):
    job(extra='[align]\nmethod = "cross-correlation"\n[reconstruct]\nmethod = "tv"\nmax_iterations = 30\n', report=True)
    assert invoke("run", "job.toml").exit_code == 0
    run = folder / "job-recon"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("class=flip") == 1
    assert "What would make a person doubt it" in page
    found = strict(run / "alignment.json")
    assert len(found["agreement"]["shifts_u_pixels"]) == 15
    assert {f.shape for f in load_frames(run, 15).values()} == {(15, 16, 16)}
    # a doubt in alignment.json comes to the top of the page
    found["doubts"] = ["it <wobbled>"]
    (run / "alignment.json").write_text(json.dumps(found))
    (run / FRAMES).unlink()
    assert invoke("report", run).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "class=flip" not in page
    assert page.index("open to doubt: it &lt;wobbled&gt;") < page.index("Slices through")
    (run / FRAMES).write_bytes(b"PK")
    assert invoke("report", run).exit_code == 0
    assert f"{FRAMES} cannot be read" in (run / "report.html").read_text(encoding="utf-8")
    np.savez(run / FRAMES, before=np.zeros((3, 4, 4)), after=np.zeros((3, 4, 4)), model=np.zeros((3, 4, 4)))
    with pytest.raises(InputError, match="does not fit"):
        load_frames(run, 15)
