"""What a user gives in place of an estimate: tilts and pixels left out, exposures, an alignment."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from commands import fails, invoke, job, strict
from commands import folder as folder  # a fixture
from commands import stacks as stacks

import recon
from recon.errors import InputError
from recon.io import read_volume
from recon.io.alignment import load_alignment
from recon.io.exposures import read_exposures
from recon.series.tilt_series import TiltSeries

TILTS = [-40.0, -20.02, 0.0, 20.0, 40.0]
SIRT = '[align]\nmethod = "none"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'


@pytest.fixture
def flat():
    """Five maps of two elements, 8 x 9 pixels: a bright block whose counts follow known exposures."""
    rng = np.random.default_rng(0)
    curve = np.array([1.0, 0.5, 2.0, 1.5, 1.0])
    maps = rng.poisson(50 * curve[:, None, None] * np.ones((2, 5, 8, 9)))
    return TiltSeries.create({"Co": maps[0], "Zn": maps[1]}, TILTS, 5.0), curve


# ---------------------------------------------------------------- tilts and pixels


@pytest.mark.parametrize("tilts", [[-20, 40.3], {"number": [2, 5]}])
def test_tilts_left_out_have_no_weight(flat, tilts):
    series = recon.exclude(flat[0], tilts)
    np.testing.assert_array_equal(series.used, [True, False, True, True, False])
    assert series.counts is flat[0].counts
    assert series.history[-1] == "left out as the user says: tilts -20.02, 40"


def test_pixels_left_out_by_one_image_or_one_for_each_tilt(flat):
    bad = np.zeros((8, 9), int)
    bad[2, 3] = 7
    once = recon.exclude(flat[0], pixels=bad)
    assert (once.weights == 0).sum() == 5
    assert not once.weights[:, 2, 3].any()
    stack = np.zeros((5, 8, 9), bool)
    stack[1, 4, 4] = True
    both = recon.exclude(once, pixels=stack)
    assert (both.weights == 0).sum() == 6
    assert both.weights[1, 4, 4] == 0
    assert recon.exclude(flat[0]) is flat[0]


@pytest.mark.parametrize(
    ("tilts", "pixels", "words"),
    [
        ([30], None, "no tilt 30 to leave out; the nearest is 20 degrees (number 4)"),
        ([float("nan")], None, "no tilt nan"),
        ({"number": [6]}, None, "no tilt number 6 to leave out; they run from 1 to 5"),
        ({"numbers": [1]}, None, "not numbers"),
        ([-40, 0, 40], None, "2 of 5 tilts can be used"),
        ((), np.zeros((9, 8)), "shape (9, 8), the maps (5, 8, 9)"),
        ((), np.ones((8, 9)), "0 of 5 tilts can be used"),
    ],
)
def test_what_cannot_be_left_out(flat, tilts, pixels, words):
    with pytest.raises(InputError) as caught:
        recon.exclude(flat[0], tilts, pixels=pixels)
    assert words in str(caught.value)


def test_a_tilt_left_out_does_not_matter_at_all(folder):
    """Whatever its counts are, the volume is that of a job without it."""
    n = len(np.load("Co.npy"))
    job("a.toml", "leave_out = [-30]\n" + SIRT)
    noise = np.load("Co.npy")
    noise[4] = 0
    noise[4, :3] = 1e4  # tilt -30
    np.save("Co.npy", noise)
    assert invoke("run", "a.toml").exit_code == 0
    found = strict(folder / "a-recon" / "alignment.json")
    assert -30 in found["left_out_deg"]
    assert len(found["tilts_deg"]) == n
    kept = np.arange(n) != 4
    np.save("Co4.npy", noise[kept])
    np.save("Zn4.npy", np.load("Zn.npy")[kept])
    tilts = np.loadtxt("tilts.rawtlt")[kept].tolist()
    job("b.toml", SIRT, co="Co4.npy", zn="Zn4.npy", tilts=str(tilts))
    assert invoke("run", "b.toml").exit_code == 0
    for element in ("Co", "Zn"):
        a, b = (read_volume(folder / f / f"{element}.tif")[0] for f in ("a-recon", "b-recon"))
        np.testing.assert_allclose(a, b, atol=1e-5 * b.max())
    assert "left out" in invoke("check", "a.toml").stdout


@pytest.mark.parametrize("axis", ["y", "x"])
def test_bad_pixels_from_a_file(folder, axis):
    """What a flagged pixel holds does not matter; the flags turn with the maps."""
    maps = np.load("Co.npy")
    bad = np.zeros(maps.shape[1:], np.uint8)
    bad[3, 12] = 255
    tifffile.imwrite("bad.tif", bad)
    found = []
    for counts in (0, 500):
        maps[:, 3, 12] = counts
        np.save("Co.npy", maps)
        job("a.toml", f'bad_pixels = "bad.tif"\ntilt_axis = "{axis}"\n{SIRT}')
        assert invoke("run", "a.toml", "--overwrite").exit_code == 0
        found.append(read_volume(folder / "a-recon" / "Co.tif")[0])
    np.testing.assert_array_equal(found[0], found[1])


# ---------------------------------------------------------------- exposures


def test_exposures_that_are_known_are_taken(flat):
    series, curve = flat
    found = recon.normalise(series, exposures=(3 * curve).tolist())
    np.testing.assert_allclose(found.exposures, np.tile(curve / curve.mean(), (2, 1)))
    np.testing.assert_array_equal(found.exposure_errors, np.zeros((2, 5)))
    assert "exposures given" in found.history[-1]
    by_element = recon.normalise(series, exposures={"Co": curve, "Zn": curve[::-1]})
    np.testing.assert_allclose(by_element.exposures[1], (curve / curve.mean())[::-1])
    without = recon.normalise(recon.exclude(series, [0]), exposures=curve)
    kept = np.delete(curve, 2)
    np.testing.assert_allclose(np.delete(without.exposures[0], 2), kept / kept.mean())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1, 2, 3], "3 exposures were given for Co, the series has 5 tilts"),
        ([1, 2, 0, 1, 1], "exposure of Co at tilt 0 is 0; it must be positive"),
        ([1, 2, float("nan"), 1, 1], "at tilt 0 is nan"),
        (["a"] * 5, "exposures of Co must be numbers"),
        ({"Co": [1.0] * 5}, "no exposures were given for Zn"),
    ],
)
def test_exposures_that_cannot_be(flat, given, words):
    with pytest.raises(InputError) as caught:
        recon.normalise(flat[0], exposures=given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1\n2\n3\n4\n5\n", [1, 2, 3, 4, 5]),
        ("# live times, s\nlive_time\n1\n2\n3\n4\n5\n", [1, 2, 3, 4, 5]),
        ("Co,Zn\n1,5\n2,4\n3,3\n4,2\n5,1\n", {"Co": [1, 2, 3, 4, 5], "Zn": [5, 4, 3, 2, 1]}),
        ("Zn;tilt;Co\n5;40;1\n4;20;2\n3;0;3\n2;-20.02;4\n1;-40;5\n", {"Zn": [1, 2, 3, 4, 5], "Co": [5, 4, 3, 2, 1]}),
        ("tilt\tlive_time_s\n-40\t1\n-20.02\t2\n0\t3\n20\t4\n40\t5\n60\t6\n", [1, 2, 3, 4, 5]),
    ],
)
def test_exposures_from_a_table(tmp_path, text, wanted):
    (tmp_path / "e.csv").write_text(text)
    assert read_exposures(tmp_path / "e.csv", np.array(TILTS)) == wanted


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("e.csv", "1,2\n3,4\n", "has 2 columns without names"),
        ("e.csv", "Co,Zn\n1,2\n3\n", "e.csv:3: 1 columns, but 2 before"),
        ("e.csv", "Co,Zn\n1,2\na,b\n", "e.csv:3: 'a,b' is not numbers"),
        ("e.csv", "tilt,Co\n-40,1\n", "has no line for tilt -20.02"),
        ("e.csv", "# nothing\n", "holds no exposures"),
        ("e.json", "{}", "holds no exposures"),
        ("e.xlsx", "", "'.xlsx', which is unknown"),
    ],
)
def test_tables_that_cannot_be(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_exposures(tmp_path / name, np.array(TILTS))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exposures_in_a_job(folder):
    n = len(np.load("Co.npy"))
    curve = np.linspace(1, 2, n)
    np.savetxt("live.csv", curve, header="live_time", comments="")
    rows = str(curve.tolist())
    for given in ('"live.csv"', rows, f"{{ Co = {rows}, Zn = {rows} }}"):
        job("a.toml", f"[normalise]\nexposures = {given}\n{SIRT}")
        assert invoke("run", "a.toml", "--overwrite").exit_code == 0
        found = strict(folder / "a-recon" / "alignment.json")
        np.testing.assert_allclose(found["exposures"]["Zn"], curve / curve.mean(), atol=1e-6)


# ---------------------------------------------------------------- alignment, by command


def test_an_edited_alignment_is_taken_as_it_is(folder):
    """Exposures, errors and doubts of the file as well; an element that it does not know gets new exposures."""
    job("a.toml", SIRT.replace("none", "cross-correlation"))
    assert invoke("run", "a.toml").exit_code == 0
    record = strict(folder / "a-recon" / "alignment.json")
    record["exposures"]["Co"][3] *= 2
    record["shifts_v_pixels"][3] = 1.5
    n = len(record["tilts_deg"])
    record |= {"errors_v_pixels": [0.1] * n, "errors_u_pixels": [None, *[0.2] * (n - 1)], "converged": False}
    record |= {"doubts": ["it wobbled"], "rotation_error_deg": 0.7, "left_out_deg": [-70]}
    record["exposure_errors"] = {"Co": [0.01] * n, "Zn": [None, *[0.02] * (n - 1)]}
    (folder / "mine.json").write_text(json.dumps(record))
    sirt = '[align]\nfile = "mine.json"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'
    job("b.toml", sirt)
    done = invoke("run", "b.toml")
    assert done.exit_code == 0
    for words in ("warning: alignment: it wobbled", "alignment: it did not converge", "left out as mine.json says"):
        assert words in done.stderr
    found = strict(folder / "b-recon" / "alignment.json")
    for key in ("shifts_v_pixels", "errors_v_pixels", "errors_u_pixels", "rotation_error_deg", "converged"):
        assert found[key] == record[key]
    assert found["doubts"][0] == "it wobbled"
    np.testing.assert_allclose(found["exposure_errors"]["Co"], 0.01)
    kept = np.array(record["exposures"]["Co"][1:])
    np.testing.assert_allclose(found["exposures"]["Co"][1:], kept / kept.mean(), atol=1e-5)
    assert -70 in found["left_out_deg"]
    (folder / "mine.json").write_text(json.dumps(record | {"left_out_deg": []}))
    job("c.toml", '[normalise]\nmethod = "none"\n' + sirt)
    assert invoke("run", "c.toml").exit_code == 0
    third = strict(folder / "c-recon" / "alignment.json")
    assert set(third["exposures"]["Co"]) == {1.0}
    assert -70 not in third["left_out_deg"]


def test_an_alignment_goes_out_and_in_again(folder, undrawn):
    quick = '[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'
    out = '[output]\nalignment = ["xf", "prexg", "shifts"]\n'
    job("a.toml", '[align]\nmethod = "cross-correlation"\nupside_down = true\n' + quick + out)
    assert invoke("run", "a.toml").exit_code == 0
    made = folder / "a-recon"
    first = strict(made / "alignment.json")
    want = np.stack([first["shifts_v_pixels"], first["shifts_u_pixels"]], axis=1)
    want[:, 1] += first["axis_offset_pixels"]
    for name in ("alignment.xf", "alignment.prexg", "alignment-shifts.json"):
        found = load_alignment(made / name, np.array(first["tilts_deg"]), upside_down=True)
        np.testing.assert_allclose(found.displacements, want, atol=2e-3)
    job("b.toml", '[align]\nfile = "a-recon/alignment.xf"\nupside_down = true\n' + quick)
    assert invoke("run", "b.toml").exit_code == 0
    second = strict(folder / "b-recon" / "alignment.json")
    for key in ("shifts_v_pixels", "shifts_u_pixels", "rotation_deg", "axis_offset_pixels"):
        np.testing.assert_allclose(second[key], first[key], atol=2e-3)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[align]\nreference = ['Fe']\n", ["job.toml:7", "align.reference", "'Fe' is not in input.maps"]),
        ("[align]\nfile = 'none.xf'\n", ["job.toml:7", "none.xf does not exist"]),
        ("[align]\nfile = 'short.xf'\n", ["short.xf aligns 14 tilts, the series has 15"]),
        ("[align]\nfile = 'short.json'\n", ["short.json aligns 14 tilts, the series has 15"]),
        ("[align]\nfile = 'tilts.rawtlt'\n", ["'.rawtlt', which is unknown; alignments are"]),
        ("[align]\nupside_down = true\n", ["job.toml:7", "align.upside_down", "give align.file"]),
        ("[output]\nalignment = ['imod']\n", ["job.toml:7", "output.alignment", "'imod', which is unknown"]),
        ("leave_out = [12]\n", ["no tilt 12 to leave out; the nearest is 10 degrees"]),
        ("leave_out = { number = [0] }\n", ["job.toml:6", "numbered from 1"]),
        ("leave_out = 'all'\n", ["job.toml:6", "must be a list of tilts in degrees"]),
        ("leave_out = [-70, -60, -50, -40, -30, -20, -10, 0, 10, 20, 30, 40, 50]\n", ["2 of 15 tilts can be used"]),
        ("bad_pixels = 'short.npy'\n", ["bad pixels have shape (1, 3, 3)", "(15, 16, 16)"]),
        ("[align]\nfile = 'odd.json'\n", ["odd.json: left_out_deg", "must be a list"]),
        ("[normalise]\nexposures = 'odd.csv'\n", ["odd.csv: the exposure of Co at tilt -60 is -1; it must be"]),
        ("[normalise]\nexposures = [1, 2]\n", ["2 exposures were given for Co, the series has 15 tilts"]),
        ("[normalise]\nexposures = { Co = [1, 2] }\n", ["normalise.exposures", "no value for element 'Zn'"]),
        ("[normalise]\nexposures = { Co = [1], Fe = [1], Zn = [1] }\n", ["'Fe' is not in input.maps"]),
        ("[normalise]\nexposures = [1, -2]\n", ["job.toml:7", "a number, 0 or more (entry 2)"]),
        ("[normalise]\nmethod = 'none'\nexposures = [1, 2]\n", ["normalise.method is 'none'; leave out one"]),
    ],
)
def test_wrong_input_gets_one_line(folder, extra, words):
    (folder / "short.xf").write_text("1 0 0 1 0 0\n" * 14)
    (folder / "short.json").write_text(json.dumps([[0, 0]] * 14))
    (folder / "odd.json").write_text('{"left_out_deg": "all"}')
    (folder / "odd.csv").write_text("1\n-1\n" + "1\n" * 13)
    np.save("short.npy", np.zeros((3, 3)))
    job(extra=extra)
    for command in ("check", "run"):
        said = fails(folder, command, "job.toml")
        assert all(w in said for w in words), said
