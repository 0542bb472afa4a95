"""Tilts in file names: the right value, or the right refusal; and what other sources say of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from files import fails

from recon.eds.recording import Recording
from recon.eds.tilts import conflicts, find_tilts
from recon.errors import InputError
from recon.io import read_tilts
from recon.io.names import tilts_from_names

TRUE = (-60, -40, -20, 5, 25, 45)
MINUS = (
    "-",
    "\u2212",
    "\u2010",
    "\u2013",
    "\u2014",
    "- ",
    "m",
    "M",
    "n",
    "N",
    "neg",
    "NEG",
    "neg_",
    "neg-",
    "minus",
    "minus ",
)
FORMS = (
    "SI_{}deg.hspy",
    "SI_{}_deg_07.bcf",
    "SI {}°.emd",
    "tilt{}.tif",
    "a_tilt={}.tif",
    "alpha_{}.dm4",
    "{}.tif",
    "Fe_{}.tif",
)


def named(form: str, minus: str = "-", plus: str = "", tilts=TRUE) -> list[str]:
    return [form.format((minus if t < 0 else plus) + f"{abs(t):g}") for t in tilts]


@pytest.mark.parametrize("minus", MINUS)
@pytest.mark.parametrize("form", FORMS)
def test_every_minus(form, minus):
    got = tilts_from_names(named(form, minus))
    if form == "Fe_{}.tif" and minus == "- ":  # nothing says that this is an angle, and a dash with a blank separates
        assert isinstance(got, str)
    else:
        assert list(got) == list(TRUE)


@pytest.mark.parametrize("plus", ["+", "p", "P", "pos", "plus", "plus_"])
@pytest.mark.parametrize("form", FORMS)
def test_every_plus(form, plus):
    assert list(tilts_from_names(named(form, "m" if plus != "+" else "-", plus))) == list(TRUE)


@pytest.mark.parametrize(
    ("names", "tilts"),
    [
        (("a_10.5deg.tif", "a_-10.5deg.tif", "a_0deg.tif"), (10.5, -10.5, 0)),
        (("a_10,5deg.tif", "a_-10,5deg.tif", "a_0deg.tif"), (10.5, -10.5, 0)),
        (("Fe_p10p5.tif", "Fe_m10p5.tif", "Fe_p05.tif"), (10.5, -10.5, 5)),
        (("x+10.5deg", "x-10.5deg", "x0deg"), (10.5, -10.5, 0)),  # a name without a type
        (("+.5.tif", "-.5.tif", "0.tif"), (0.5, -0.5, 0)),
        (("Fe_01_-40.tif", "Fe_02_-20.tif", "Fe_03_0.tif"), (-40, -20, 0)),  # a count beside the tilt
        (("2024-05-10_-40.tif", "2024-05-10_0.tif", "2024-05-10_20.tif"), (-40, 0, 20)),
        (("Fe_-10.ome.tif", "Fe_0.ome.tif", "Fe_+10.ome.tif"), (-10, 0, 10)),
        (("tilt_1_10deg.tif", "tilt_2_-20deg.tif", "tilt_3_30deg.tif"), (10, -20, 30)),
        (("alpha_10deg_beta_5deg.tif", "alpha_20deg_beta_5deg.tif", "alpha_30deg_beta_5deg.tif"), (10, 20, 30)),
        (("tilt0.tif", "tilt30.tif", "tilt60.tif"), (0, 30, 60)),
        (("1deg.tif", "2deg.tif", "3deg.tif"), (1, 2, 3)),  # the unit is there
        (("-1.tif", "0.tif", "1.tif"), (-1, 0, 1)),  # nobody counts from -1
        (("m05.tif", "p05.tif", "000.tif"), (-5, 5, 0)),
        (("Co K\u03b11 (-10).tif", "Co K\u03b11 (0).tif", "Co K\u03b11 (10).tif"), (-10, 0, 10)),  # a line's alpha
        (("Zn Kalpha1_+5.tif", "Zn Kalpha1_-5.tif"), (5, -5)),
        (("Co_25deg_-5.tif", "Co_25deg_5.tif"), (-5, 5)),  # the temperature is the same in all
    ],
)
def test_numbers(names, tilts):
    assert list(tilts_from_names(names)) == list(tilts)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("1.tif", "2.tif", "3.tif"), "may only count"),
        (("SI_10deg_a.tif", "SI_10deg_b.tif"), "mark the same number, 10"),
        (("tilt_01.tif", "tilt_02.tif", "tilt_04.tif", "tilt_05.tif"), "from 1 to 5 and may only count"),
        (("tilt_005.tif", "tilt_006.tif", "tilt_007.tif"), "may only count"),
        (("tilt_1.tif", "tilt_3.tif", "tilt_5.tif", "tilt_7.tif"), "may only count"),
        (("tilt_p1.tif", "tilt_p2.tif", "tilt_p3.tif"), "may only count"),
        (("map1.tif", "map7.tif", "map9.tif"), "not a number of degrees"),
        (("Fe_10.tif", "Fe_20.tif", "Fe_30.tif"), "not a number of degrees"),
        (("Fe_pos1.tif", "Fe_pos2.tif", "Fe_pos4.tif"), "not a number of degrees"),
        (("Fe-10.tif", "Fe0.tif", "Fe10.tif"), "not a number of degrees"),
        (("tilt-5.tif", "tilt-15.tif", "tilt-25.tif"), "a hyphen, the first tilt -5 or 5"),
        (("SI - 5deg.tif", "SI - 15deg.tif", "SI - 25deg.tif"), "a hyphen, the first tilt -5 or 5"),
        (("m10deg.tif", "m20deg.tif", "m30deg.tif"), "a letter, the first tilt -10 or 10"),
        (("L10deg.tif", "R10deg.tif", "R20deg.tif"), "which may be signs"),
        (("40deg_neg.tif", "40deg.tif", "0deg.tif"), "which may be signs"),
        (("minus_tilt_40deg.tif", "plus_tilt_40deg.tif", "plus_tilt_0deg.tif"), "words for a sign"),
        (("SI1m05deg.tif", "SI2p05deg.tif", "SI3p30deg.tif"), "which may be signs"),
        (("40-deg.tif", "40+deg.tif", "0deg.tif"), "do not follow one pattern"),
        (("0.tif", "10deg.tif", "20.tif"), "do not follow one pattern"),
        (("10deg_20deg.tif", "11deg_30deg.tif", "12deg_40deg.tif"), "more than one number"),
        (("+-10deg.tif", "10deg.tif", "20deg.tif"), "which may be signs"),
    ],
)
def test_doubtful_names_are_refused(names, says):
    got = tilts_from_names(names)
    assert isinstance(got, str)
    assert says in got, got


# ---- stage, .mdoc and names beside each other ----


def recordings(names, stage):
    one = Recording(Path("a.bcf"), (8, 8), 512, 0.0, 0.01)
    return [replace(one, path=Path(n), stage_tilt_deg=t) for n, t in zip(names, stage, strict=True)]


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ((-40.02, 0.3, 29.9), None),
        ((-20, 20, 50), "-40deg.bcf is at -20 degrees by stage and at -40 by the file's name; taken from stage"),
        ((40, 0, -30), "signs the other way round"),
    ],
)
def test_stage_and_names(stage, says):
    some = recordings(("-40deg.bcf", "0deg.bcf", "30deg.bcf"), stage)
    tilts, sources = find_tilts(some)
    assert (tilts.tolist(), sources[0]) == (list(stage), "stage")
    told = conflicts(some, tilts, "stage")
    assert told == [] if says is None else says in told[0]


def test_the_same_tilts_in_another_order_stop_the_run():
    some = recordings(("-40deg.bcf", "0deg.bcf", "30deg.bcf"), (0, 30, -40))
    fails(InputError, conflicts, some, np.array([0.0, 30, -40]), "stage", says=("another order", "30", "-40"))
    still = recordings(("-40deg.bcf", "0deg.bcf", "30deg.bcf"), (0, 0, 0))
    assert conflicts(still, np.array([10.0, 1, 30]), "the list") == [
        "-40deg.bcf is at 10 degrees by the list and at -40 by the file's name; taken from the list"
    ]


# ---- radians ----


@pytest.mark.parametrize("step", [5, 10, 12, 15, 20, 30])
@pytest.mark.parametrize("span", [(-60, 60), (0, 180), (-90, 90), (0, 300), (-180, 180)])
def test_radians_are_refused(span, step):
    degrees = np.arange(span[0], span[1] + 1, step)[: 359 // step]
    fails(InputError, read_tilts, [round(float(t), 4) for t in np.radians(degrees)], says="radians")
    if degrees.max() <= 180:
        assert read_tilts(degrees.astype(float)).tolist() == degrees.tolist()


# ---- SerialEM's .mdoc ----


def mdoc(*sections):
    return "PixelSpacing = 20\nImageFile = a.mrc\n\n" + "".join(
        f"[ZValue = {z}]\nTiltAngle = {t}\n{more}\n" for z, t, *rest in sections for more in [*rest, ""][:1]
    )


@pytest.mark.parametrize(
    ("text", "tilts"),
    [
        (mdoc((2, 0), (3, 30), (1, -30), (4, 60), (0, -60)), (-60, -30, 0, 30, 60)),  # in order of acquisition
        (mdoc((1, -30), (2, 0), (3, 30)), (-30, 0, 30)),  # counted from 1
        (mdoc((0, 0, "SubFramePath = D:\\a.tif"), (0, -30, "SubFramePath = D:\\b.tif"),
              (0, 30, "SubFramePath = D:\\c.tif")), (0, -30, 30)),  # each about a file of its own
    ],
)  # fmt: skip
def test_an_mdoc_is_in_the_order_of_its_images(tmp_path, text, tilts):
    (tmp_path / "a.mdoc").write_text(text)
    assert read_tilts(tmp_path / "a.mdoc").tolist() == list(tilts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (mdoc((0, -60), (1, -30), (1, -29.9), (2, 0), (3, 30)), ("ZValue 1 more than once", "-30 and -29.9")),
        (mdoc((0, -60), (1, -30), (3, 30)), "no section for image 2"),
        (mdoc((4, -60), (5, -30), (6, 30)), "no section for image 0"),
        (mdoc((0, -60), (1, -30)) + "[FrameSet = 0]\nTiltAngle = 3\n", "some of its images and some not"),
    ],
)
def test_mdoc_with_gaps_and_repeats(tmp_path, text, says):
    (tmp_path / "a.mdoc").write_text(text)
    fails(InputError, read_tilts, tmp_path / "a.mdoc", says=says)
