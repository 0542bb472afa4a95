"""Figures from Python and pictures in notebooks: what is drawn is what is there."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import recon
from recon.analysis.answers import Composition, ElementAnswer, RegionAnswer
from recon.errors import InputError
from recon.report.drawing import svg
from recon.report.slices import outline
from recon.series.volume import Volume
from recon.simulate import simulate


@pytest.fixture(scope="module")
def made():
    series, truth = simulate(size=20, seed=1)
    return series, {n: Volume(v, 5.0, n) for n, v in truth.volumes.items()}


def answers():
    def one(name, fraction):
        return ElementAnswer(name, fraction, 1.0, fraction, fraction - 0.05, fraction + 0.05, fraction - 0.1,
                             fraction + 0.1, 0.1, fraction, fraction, fraction)  # fmt: skip

    region = RegionAnswer("<neck>", 30.0, 0.0, {"Co": one("Co", 0.9), "Zn": one("Zn", 0.05)})
    return Composition({"<neck>": region}, np.zeros((2, 2, 2), np.uint16), 10, 0, False)


def test_every_figure_has_the_width_that_was_asked_for(made):
    series, volumes = made
    inside = volumes["Co"].values > 0.5 * volumes["Co"].values.max()
    width = recon.plot.COLUMN_MM
    figures = {
        "series": recon.plot.series(series, 3, width),
        "volumes": recon.plot.volumes(volumes, width_mm=width),
        "projections": recon.plot.projections(volumes, width_mm=width),
        "region": recon.plot.region(volumes, inside, {"Co": 1.0, "Zn": 1.0}, width),
        "mixing": recon.plot.mixing(volumes, width),
        "composition": recon.plot.composition(answers(), width),
    }
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width), name
    for figure in (recon.plot.alignment(series), recon.plot.geometry(series.geometry)):
        assert any(axes.has_data() for axes in figure.axes)
    first = svg(figures["series"])
    assert first == svg(figures["series"])  # the same figure is the same file
    assert b"<svg" in first


def test_a_series_shows_the_tilts_it_names(made):
    figure = recon.plot.series(made[0], 3)
    said = [t.get_text() for t in figure.axes[0].texts]
    assert {"\u221270 degrees", "0 degrees", "70 degrees", "Co", "Zn"} <= set(said)


def test_the_composition_is_drawn_where_it_lies():
    axis = recon.plot.composition(answers()).axes[0]
    points = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert points == pytest.approx([0.9, 0.05])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["<neck>\nCo alone"]


def test_the_outline_of_pixels_encloses_them():
    inside = np.zeros((5, 6), bool)
    inside[1:3, 2:5] = True
    lines = outline(inside)
    assert len(lines) == 2 * (2 + 3)
    assert {x for line in lines for x, _ in line} == {1.5, 2.5, 3.5, 4.5}
    assert {y for line in lines for _, y in line} == {0.5, 1.5, 2.5}


def test_notebooks_get_pictures(made):
    series, volumes = made
    page = volumes["Co"]._repr_html_()
    shown = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    assert [p.size for p in shown] == [(20, 20)] * 3
    plane = volumes["Co"].values[10]
    expected = np.clip(plane / np.percentile(plane, 99.8), 0, 1) * 255
    np.testing.assert_allclose(np.asarray(shown[0]), expected, atol=0.6)
    assert series._repr_html_().count("<img") == 2
    table = answers()._repr_html_()
    assert "&lt;neck&gt;" in table
    assert "<neck>" not in table
    assert "Co alone" in table
    assert re.findall(r"<circle cx='([\d.]+)'", table) == ["90.0", "5.0"]  # of 120 for 1.2
    scheme = recon.TiltGeometry.single_axis([-60, 0, 60], (8, 8))._repr_html_()
    beams = re.findall(r"<circle cx='(-?[\d.]+)' cy='(-?[\d.]+)' r='.035'", scheme)
    assert sorted(float(x) for x, _ in beams) == pytest.approx([-0.866, 0, 0.866], abs=1e-3)
    lines = re.findall(r"x2='(-?[\d.]+)' y2='(-?[\d.]+)'", scheme)
    assert sorted(abs(float(x)) for x, _ in lines) == pytest.approx([0.5, 0.5, 1], abs=1e-3)  # cos t


def test_wrong_input_is_one_line(made):
    series, volumes = made
    with pytest.raises(InputError, match="no volumes"):
        recon.plot.volumes({})
    with pytest.raises(InputError, match="needs two"):
        recon.plot.mixing({"Co": volumes["Co"]})
    with pytest.raises(InputError, match="at least one"):
        recon.plot.series(series, 0)
    with pytest.raises(InputError, match="is empty"):
        recon.plot.region(volumes, np.zeros((20, 20, 20), bool), {"Co": 1.0})
