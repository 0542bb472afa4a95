"""`TiltGeometry` as a value: constructors, algebra, parts, exchange with ASTRA and IMOD, coverage, what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from recon.errors import GeometryError, InputError
from recon.geometry.coverage import coverage, distance
from recon.geometry.parts import tilts_of
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.geometry import read_imod, read_vectors, write_imod, write_vectors

TILTS = np.arange(-70.0, 71, 10)
SIZE = {"detector": (12, 16), "volume": (10, 12, 14)}
SINGLE = TiltGeometry.from_angles(TILTS, 0.0, **SIZE)
DUAL = TiltGeometry.dual_axis(TILTS, **SIZE)
RANDOM = TiltGeometry.random(9, **SIZE)


def seen(g, point):
    """Column and row from the middle of the detector where a point ``(z, y, x)`` is seen, ``(tilt, 2)``."""
    inverse = np.linalg.inv(np.stack([g.ray, g.u, g.v], axis=2))
    return np.einsum("tij,tj->ti", inverse, point - g.centre)[:, 1:]


# ---------------------------------------------------------------- constructors


def test_from_angles_about_y_is_the_single_axis():
    assert TiltGeometry.from_angles(TILTS, 0, (12, 16), (10, 12, 14)) == TiltGeometry.single_axis(
        TILTS, (12, 16), (10, 12, 14)
    )


def test_the_second_axis_lies_from_y_towards_x():
    """A point on the second axis stays where it is; one across it moves as u = across cos t + z sin t."""
    for axis in (90.0, 63.0):
        second = TiltGeometry.dual_axis(TILTS, axis_deg=axis, **SIZE)[len(TILTS) :]
        c, s, t = np.cos(np.radians(axis)), np.sin(np.radians(axis)), np.radians(TILTS)
        assert np.allclose(seen(second, np.array([0, 3 * c, 3 * s])), [0, 3])
        across = seen(second, np.array([2, -s, c]))
        assert np.allclose(across, np.stack([np.cos(t) + 2 * np.sin(t), 0 * t], axis=1))


def test_conical_rays_lie_on_a_cone_and_azimuths_turn_the_specimen():
    azimuths = np.arange(0, 360, 30.0)
    g = TiltGeometry.conical(50, azimuths, **SIZE)
    assert np.allclose(g.ray[:, 0], np.cos(np.radians(50)))
    for i, azimuth in enumerate(azimuths):
        turned = TiltGeometry.from_angles(50, 0, **SIZE).turned(azimuth)
        assert np.allclose(turned.ray, g.ray[i])
        assert np.allclose(turned.u, g.u[i])
        assert np.allclose(turned.v, g.v[i])


def test_golden_angles_fill_the_range_however_many_there_are():
    whole = TiltGeometry.golden_angle(55, most_deg=60, **SIZE)
    for n in (8, 21, 34, 55):
        tilts = np.sort(whole[:n].parts()[0].angles_deg)
        assert tilts.min() >= -60
        assert tilts.max() <= 60
        gaps = np.diff(np.concatenate([[-60], tilts, [60]]))
        assert gaps.max() <= 2.7 * 120 / n  # three lengths of gaps at most, the longest this much above the mean
    assert whole[:8] == TiltGeometry.golden_angle(8, most_deg=60, **SIZE)


def test_random_directions_are_even_over_the_cone_and_repeat():
    g = TiltGeometry.random(4000, most_deg=60, **SIZE)
    assert g == TiltGeometry.random(4000, most_deg=60, **SIZE)
    assert g != TiltGeometry.random(4000, most_deg=60, seed=1, **SIZE)
    cos = np.abs(g.ray[:, 0])
    assert cos.min() >= 0.5
    assert abs(cos.mean() - 0.75) <= 0.01  # uniform in the cosine
    assert np.abs(g.ray[:, 1:].mean(axis=0)).max() <= 0.03


# ---------------------------------------------------------------- algebra


def test_sums_and_slices():
    second = TiltGeometry.from_angles(TILTS, 90, **SIZE)
    assert SINGLE + second == DUAL
    assert DUAL[: len(TILTS)] == SINGLE
    assert DUAL[20] == second[5]
    assert (SINGLE + second)[::2] == DUAL[::2]
    assert len(DUAL + RANDOM) == len(DUAL) + len(RANDOM)
    with pytest.raises(GeometryError, match=r"do not add.*same"):
        SINGLE + TiltGeometry.single_axis(TILTS, (12, 16))
    with pytest.raises(TypeError):
        SINGLE + 1
    with pytest.raises(GeometryError, match="empty"):
        SINGLE[3:3]


def test_moved_detectors_show_what_an_alignment_says():
    """As `Alignment`: (v, u) of the ideal projection is recorded at v' = v c + u s + dv, u' = u c - v s + du."""
    random = np.random.default_rng(0)
    shifts, turn, point = (
        random.normal(size=(len(RANDOM), 2)),
        random.uniform(-5, 5, len(RANDOM)),
        random.normal(size=3),
    )
    u, v = seen(RANDOM, point).T
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    expected = np.stack([u * c - v * s + shifts[:, 1], v * c + u * s + shifts[:, 0]], axis=1)
    assert np.allclose(seen(RANDOM.moved(shifts, turn), point), expected)
    with pytest.raises(GeometryError, match="9 projections"):
        RANDOM.moved(shifts[1:])


def test_transforming_moves_points_and_scheme_alike():
    turn = TiltGeometry.random(1, **SIZE).u  # any vector
    axis = turn[0] / np.linalg.norm(turn[0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(0.3) * cross + (1 - np.cos(0.3)) * cross @ cross
    point, shift = np.array([1.0, -2, 0.5]), np.array([0.3, 1, -1])
    moved = RANDOM.transformed(rotation, shift)
    assert np.allclose(seen(moved, rotation @ point + shift), seen(RANDOM, point))
    for axis_name in "zyx":
        assert np.allclose(RANDOM.turned(40, axis_name).turned(-40, axis_name).u, RANDOM.u)
    with pytest.raises(GeometryError, match="axis 'w'"):
        RANDOM.turned(1, "w")


# ---------------------------------------------------------------- parts


def test_a_dual_axis_series_has_two_fast_parts():
    first, second = DUAL.parts()
    assert (first.axis, second.axis) == ("y", "x")
    assert np.array_equal(first.index, np.arange(15))
    assert np.array_equal(second.index, np.arange(15, 30))
    assert np.allclose(tilts_of(second), TILTS)
    shuffled = DUAL[np.random.default_rng(0).permutation(30)]
    assert sorted(part.axis for part in shuffled.parts()) == ["x", "y"]


def test_a_part_finds_its_alignment():
    shifts = np.random.default_rng(1).normal(size=(30, 2))
    turn = np.repeat([2.0, -3.0], 15)
    for part, rotation in zip(DUAL.moved(shifts, turn).parts(), (2.0, -3.0), strict=True):
        assert part.axis is not None
        assert part.rotation_deg == rotation
        assert np.allclose(part.shifts, shifts[part.index], atol=1e-8)


def test_what_no_axis_serves_is_general():
    whole = TiltGeometry.dual_axis(TILTS, axis_deg=88, **SIZE)
    assert [(part.axis, len(part.index)) for part in whole.parts()] == [("y", 15), (None, 15)]
    assert [part.axis for part in RANDOM.parts()] == [None]
    assert [part.axis for part in SINGLE.turned(1, "x").parts()] == [None]
    assert "15 about y, tilts -70 to 70 deg + 15 general, beam 0 to 70 deg" in repr(whole)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["g.txt", "g.csv", "g.npy"])
def test_vectors_in_a_file(tmp_path, name):
    g = RANDOM.moved(np.full((9, 2), 0.3), 1.0)
    write_vectors(g, tmp_path / name)
    back = read_vectors(tmp_path / name, g.detector, g.volume)
    assert np.allclose(back.to_astra(), g.to_astra(), atol=1e-15)


def test_vectors_are_astras():
    """By ASTRA's own function for a rotation about its z axis: that axis is ours, too."""
    astra = pytest.importorskip("astra")
    angles = np.radians(TILTS)
    theirs = astra.geom_2vec(astra.create_proj_geom("parallel3d", 1.0, 1.0, 12, 16, angles))["Vectors"]
    g = TiltGeometry.from_astra(theirs, (12, 16), (12, 14, 16))
    assert [part.axis for part in g.parts()] == ["z"]
    assert np.allclose(g.to_astra(), theirs)


def test_imods_files_give_the_geometry_back(tmp_path):
    shifts = np.random.default_rng(0).normal(size=(15, 2))
    g = SINGLE.moved(shifts, 3.0)
    files = write_imod(g, tmp_path / "series")
    assert [file.name for file in files] == ["series.tlt", "series.xf"]
    back = read_imod(*files, g.detector, g.volume)
    for name in ("ray", "centre", "u", "v"):
        assert np.allclose(getattr(back, name), getattr(g, name), atol=2e-3)  # an .xf has three digits
    assert read_imod(files[0], None, g.detector, g.volume) == SINGLE
    both = write_imod(DUAL, tmp_path / "both")
    assert [file.name for file in both] == ["botha.tlt", "botha.xf", "bothb.tlt", "bothb.xf"]
    assert np.allclose(np.loadtxt(both[2]), TILTS)


BAD_FILES = [
    ("a.txt", "1 2 3\n", r"a\.txt:1: '1 2 3' is not twelve numbers"),
    ("a.txt", "# nothing\n", "no vectors"),
    ("a.json", "{}", "type '.json'"),
    ("a.txt", "1 0 0  0 0 0  1 0 0  0 1 0\n", "projection 1 lies in the plane of its detector"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_bad_files_get_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_vectors(tmp_path / name, (5, 5), (5, 5, 5))
    assert "\n" not in str(caught.value)


def test_imod_cannot_hold_a_general_scheme(tmp_path):
    with pytest.raises(InputError, match="projection 1 does not tilt about y or x"):
        write_imod(RANDOM, tmp_path / "random")


# ---------------------------------------------------------------- coverage


def test_coverage_is_the_part_of_the_sphere_between_the_wedges():
    """At 1 degree steps: single axis 140 / 180; two axes all but the pyramid's solid angle."""
    fine = np.arange(-70.0, 71, 1)
    assert abs(coverage(TiltGeometry.from_angles(fine, 0, **SIZE), 0.5) - 141 / 180) <= 0.01
    assert abs(coverage(TiltGeometry.dual_axis(fine, **SIZE), 0.5) - (1 - _pyramid(np.radians(19.5)))) <= 0.01
    assert np.allclose(distance(SINGLE, [[1.0, 0, 0], [0, 0, 1]]), [20, 0], atol=1e-9)
    with pytest.raises(GeometryError, match="within_deg"):
        coverage(SINGLE, 0)


def _pyramid(half):
    """Fraction of the sphere missing in both of two wedges about z of half-angle `half`, by counting."""
    random = np.random.default_rng(0).normal(size=(200000, 3))
    z, y, x = np.abs(random).T
    return float(np.mean((x <= z * np.tan(half)) & (y <= z * np.tan(half))))


@pytest.mark.parametrize("g", [SINGLE, DUAL, RANDOM], ids=["single", "dual", "random"])
def test_a_plot_draws_every_part(g):
    figure = g.plot()
    scheme, around, wedge = (axes for axes in figure.axes if axes.get_title())
    assert len(scheme.get_legend().get_texts()) == len(g.parts())
    assert "covered" in around.get_title()
    assert len(wedge.lines) == len(g)


def test_matplotlib_is_not_loaded_before_it_is_asked_for():
    code = "import recon, sys; recon.TiltGeometry.random(3, detector=(4, 4)); sys.exit('matplotlib' in sys.modules)"
    assert importlib.util.find_spec("matplotlib")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- refused

ONE = {"ray": [1, 0, 0], "centre": [0, 0, 0], "u": [0, 0, 1], "v": [0, 1, 0]}


def vectors(**changes):
    """Three projections, the second of them changed."""
    rows = {k: np.tile(np.array(a, float), (3, 1)) for k, a in ONE.items()}
    for k, a in changes.items():
        rows[k][1] = a
    return TiltGeometry.from_vectors(**rows, detector=(8, 8), volume=(8, 8, 8))


BAD = [
    (lambda: vectors(ray=[0, 0, 0]), "ray of projection 2 has length 0"),
    (lambda: vectors(u=[0, 0, 0]), "u of projection 2 has length 0"),
    (lambda: vectors(v=[np.inf, 0, 0]), "v of projection 2.*not finite"),
    (lambda: vectors(v=[0, 0, 2]), r"u \(0, 0, 1\) and v \(0, 0, 2\) of projection 2 are parallel"),
    (lambda: vectors(ray=[0, 1, 1]), r"the ray \(0, .*of projection 2 lies in the plane of its detector"),
    (lambda: vectors(centre=[0, 0, 50]), "no ray of projection 2 meets the volume.*column -50"),
    (lambda: TiltGeometry.single_axis(np.radians(TILTS), (8, 8)), r"radians; give degrees \(-70.0 to 70.0\)"),
    (lambda: TiltGeometry.conical(40, np.linspace(0, 6.2, 20), detector=(8, 8)), "axis angles.*radians"),
    (lambda: TiltGeometry.single_axis([0, 20, 700], (8, 8)), "tilt of projection 3 is 700"),
    (lambda: TiltGeometry.from_angles([0, 1], [0, 1, 2], (8, 8)), "as many of the one as of the other"),
    (lambda: TiltGeometry.golden_angle(0, detector=(8, 8)), "golden-angle scheme of 0"),
    (lambda: TiltGeometry.random(3, most_deg=100, detector=(8, 8)), "within 100"),
    (lambda: TiltGeometry.from_astra(np.ones((2, 11)), (8, 8), (8, 8, 8)), "12 numbers"),
    (lambda: SINGLE.transformed(np.eye(2)), "matrix has shape"),
    (lambda: TiltGeometry.from_angles([0, 1], 0, (8, 8, 8)), r"detector \(8, 8, 8\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_geometry_gets_one_line_with_the_projection_and_the_numbers(call, message):
    with pytest.raises(GeometryError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
