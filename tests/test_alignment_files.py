"""Alignments of other programs, against the definitions those programs give."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from recon.errors import InputError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.alignment import load_alignment, write_shifts, write_xf
from recon.operators import DetectorWarp
from recon.series.alignment import Alignment

TILTS = np.array([-60.0, -20.0, 1.0, 35.0])
FRAME = (44, 56)  # rows, columns of the series
FRAMES = [(axis, over) for axis in "yx" for over in (False, True)]


def smooth(seed, frame=FRAME):
    """A random image that bilinear interpolation hardly changes and that is dark at the border."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=frame), 3.5)
    window = np.hanning(frame[0])[:, None] * np.hanning(frame[1])
    return (image * window / np.abs(image).max()).astype(np.float32)


def recorded(ideal, alignment):
    """What our model says is recorded of ideal projections ``(tilt, v, u)``."""
    stack = np.ascontiguousarray(ideal.swapaxes(1, 2), dtype=np.float32)
    frame = ideal.shape[1:]
    warp = DetectorWarp(alignment, frame, TiltGeometry.single_axis(TILTS, frame), stack)
    return warp(stack, np.empty(warp.range_shape, np.float32)).swapaxes(1, 2)


def as_stored(stack, tilt_axis, upside_down):
    """Our maps ``(tilt, v, u)`` in the order in which another program has them in memory."""
    stored = stack.swapaxes(1, 2) if tilt_axis == "x" else stack
    return stored[:, ::-1] if upside_down else stored


def transformed(image, row, shape):
    """IMOD's definition, xf2rotmagstr(1): x' = A (x - centre) + D + centre of the output."""
    a, d = np.reshape(row[:4], (2, 2)), np.array(row[4:])
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    out = np.stack([x - (shape[1] - 1) / 2 - d[0], y - (shape[0] - 1) / 2 - d[1]])
    xi, yi = np.einsum("ij,jyx->iyx", np.linalg.inv(a), out)
    return ndimage.map_coordinates(image, [yi + (image.shape[0] - 1) / 2, xi + (image.shape[1] - 1) / 2], order=1)


def some(rotation=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return Alignment(rng.uniform(-4, 4, (len(TILTS), 2)), rotation, 1.25)


@pytest.mark.parametrize(("tilt_axis", "upside_down"), FRAMES)
def test_an_xf_aligns_by_imod_s_own_definition(tmp_path, tilt_axis, upside_down):
    ideal = np.stack([smooth(i) for i in range(len(TILTS))])
    true = some(6.0)
    maps = as_stored(recorded(ideal, true), tilt_axis, upside_down)
    path = write_xf(tmp_path / "a.xf", true, tilt_axis=tilt_axis, upside_down=upside_down)
    rows = np.loadtxt(path)
    assert rows.shape == (len(TILTS), 6)
    aligned = np.stack([transformed(m, row, FRAME) for m, row in zip(maps, rows, strict=True)])
    # IMOD never mirrors: where the stored frame mirrors ours, the aligned one has its y against our v
    mirrored = (tilt_axis == "x") != upside_down
    wanted = ideal[:, ::-1] if mirrored else ideal
    inside = np.s_[:, 9:-9, 9:-9]
    assert np.linalg.det(rows[0, :4].reshape(2, 2)) == pytest.approx(1, abs=1e-5)
    assert np.abs(aligned - wanted)[inside].max() < 0.04 * np.abs(wanted).max()  # two interpolations, 0.03 measured
    assert np.abs(maps - as_stored(ideal, tilt_axis, upside_down)).max() > 0.3 * np.abs(wanted).max()


@pytest.mark.parametrize(("tilt_axis", "upside_down"), FRAMES)
def test_a_prexg_and_shifts_leave_the_rotation(tmp_path, tilt_axis, upside_down):
    """What is left after them is our model of the rotation alone; SciPy's shift applies the list."""
    ideal = np.stack([smooth(i) for i in range(len(TILTS))])
    true = some(6.0)
    maps = as_stored(recorded(ideal, true), tilt_axis, upside_down)
    turned = Alignment(np.zeros((len(TILTS), 2)), 6.0)
    wanted = as_stored(recorded(ideal, turned), tilt_axis, upside_down)
    frame = {"tilt_axis": tilt_axis, "upside_down": upside_down}
    rows = np.loadtxt(write_xf(tmp_path / "a.prexg", true, **frame))
    np.testing.assert_array_equal(rows[:, :4], np.tile([1, 0, 0, 1], (len(TILTS), 1)))
    by_imod = np.stack([transformed(m, row, m.shape) for m, row in zip(maps, rows, strict=True)])
    shifts = json.loads(write_shifts(tmp_path / "a.json", true, **frame).read_text())
    by_scipy = np.stack([ndimage.shift(m, s, order=1) for m, s in zip(maps, shifts, strict=True)])
    inside = np.s_[:, 9:-9, 9:-9]
    for aligned in (by_imod, by_scipy):
        assert np.abs(aligned - wanted)[inside].max() < 0.05 * np.abs(wanted).max()


@settings(max_examples=40, deadline=None)
@given(
    rotation=st.floats(-40, 40),
    seed=st.integers(0, 999),
    frame=st.sampled_from(FRAMES),
    kind=st.sampled_from(["xf", "prexg", "json"]),
)
def test_what_was_written_is_read_again(tmp_path_factory, rotation, seed, frame, kind):
    options = dict(zip(("tilt_axis", "upside_down"), frame, strict=True))
    true = some(rotation if kind == "xf" else 0.0, seed)
    path = tmp_path_factory.mktemp("a") / f"a.{kind}"
    (write_shifts if kind == "json" else write_xf)(path, true, **options)
    found = load_alignment(path, TILTS, **options)
    np.testing.assert_allclose(found.displacements, true.displacements, atol=2e-3)  # three digits in an .xf
    assert found.rotation_deg == pytest.approx(true.rotation_deg, abs=1e-4)
    assert bool(found.doubts) == (kind != "xf")  # only an .xf knows the axis
    assert found.method == f"from a.{kind}"


def test_the_direction_of_the_axis_is_not_taken_from_a_file(tmp_path):
    """Turned by 180 degrees the maps have the same axis: the volume is not mirrored by it."""
    true = some(5.0)
    rows = np.loadtxt(write_xf(tmp_path / "a.xf", true))
    np.savetxt(tmp_path / "b.xf", -rows)
    a, b = (load_alignment(tmp_path / n, TILTS) for n in ("a.xf", "b.xf"))
    np.testing.assert_allclose(a.displacements, b.displacements, atol=1e-5)
    assert a.rotation_deg == pytest.approx(b.rotation_deg)
    # an axis along x: IMOD turns by +90 or by -90 degrees to make it vertical
    c, s = np.cos(np.radians(93.0)), np.sin(np.radians(93.0))
    for sign in (1, -1):
        np.savetxt(tmp_path / "c.xf", sign * np.array([[c, -s, s, c, 3.0, -2.0]] * len(TILTS)))
        found = load_alignment(tmp_path / "c.xf", TILTS, tilt_axis="x")
        assert abs(found.rotation_deg) == pytest.approx(3, abs=1e-6)
        with pytest.raises(InputError, match="set tilt_axis = 'x'"):
            load_alignment(tmp_path / "c.xf", TILTS)


def test_transforms_between_neighbours_are_chained(tmp_path):
    """A .prexf takes each map to the one before it; the map nearest zero tilt stays where it is."""
    at = np.array([[1.0, 2.0], [-3.0, 0.5], [4.0, -1.0], [0.0, 6.0]])  # (x, y) of one point of the object in each map
    steps = np.vstack([[0, 0], at[:-1] - at[1:]])
    np.savetxt(tmp_path / "a.prexf", np.hstack([np.tile([1, 0, 0, 1], (4, 1)), steps]))
    found = load_alignment(tmp_path / "a.prexf", TILTS)
    np.testing.assert_allclose(found.displacements[:, ::-1], at - at[2], atol=1e-12)


def test_chained_transforms_turn_as_well(tmp_path):
    """Where the point (x, y) of map i lies in the frame of the middle map is known; steps are from map to map."""
    angles = np.radians([2.0, -1.0, 0.5, 2.5])
    to_common = np.tile(np.eye(3), (4, 1, 1))
    to_common[:, 0, 0] = to_common[:, 1, 1] = np.cos(angles)
    to_common[:, 1, 0], to_common[:, 0, 1] = np.sin(angles), -np.sin(angles)
    to_common[:, :2, 2] = [[30, 2], [-3, 40], [4, -25], [-50, 6]]
    steps = [np.eye(3), *(np.linalg.inv(a) @ b for a, b in pairwise(to_common))]
    np.savetxt(tmp_path / "a.prexf", [[*s[:2, :2].ravel(), *s[:2, 2]] for s in steps])
    found = load_alignment(tmp_path / "a.prexf", TILTS)
    # the centre of map 2 is where all maps show what lies in the middle
    wanted = [(np.linalg.inv(g) @ to_common[2] @ [0, 0, 1])[:2] for g in to_common]
    np.testing.assert_allclose(found.displacements[:, ::-1], wanted, atol=1e-9)


def test_tomviz_offsets_by_its_own_loop(tmp_path):
    """TranslateAlign writes the pixel (x, y) of a map to (x + offset x, y + offset y)."""
    offsets = [[3, -1], [0, 0], [-2, 4], [1, 1]]
    maps = np.zeros((4, 20, 24))
    for image, (dx, dy) in zip(maps, offsets, strict=True):
        image[10 - dy, 12 - dx] = 1
        shifted = np.zeros_like(image)
        for y, x in np.argwhere(image):
            shifted[y + dy, x + dx] = image[y, x]
        assert shifted[10, 12] == 1
    state = {"dataSources": [{"operators": [{"type": "TranslateAlign", "offsets": np.ravel(offsets).tolist()}]}]}
    (tmp_path / "state.tvsm").write_text(json.dumps(state))
    found = load_alignment(tmp_path / "state.tvsm", TILTS)
    peaks = np.array([np.unravel_index(m.argmax(), m.shape) for m in maps])
    np.testing.assert_array_equal(found.displacements, peaks - [10, 12])


def test_hyperspy_s_shifts_have_the_opposite_sign(tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    image = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(48, 48)), 1, mode="wrap")
    moved = np.array([[0, 0], [3, -2], [-4, 1], [2, 5]])
    signal = hs.signals.Signal2D(np.stack([np.roll(image, m, (0, 1)) for m in moved]))
    shifts = signal.estimate_shift2D(reference="current", show_progressbar=False)
    (tmp_path / "a.json").write_text(json.dumps({"displacements": np.asarray(shifts, float).tolist()}))
    found = load_alignment(tmp_path / "a.json", TILTS)
    np.testing.assert_allclose(found.displacements, moved, atol=0.5)


@pytest.mark.parametrize(
    "raw",
    [
        [[1, 2], [3, 4], [5, 6], [7, 8.5]],
        {"shifts": [[1, 2], [3, 4], [5, 6], [7, 8.5]]},
        {"y": [1, 3, 5, 7], "x": [2, 4, 6, 8.5]},
        {"shifts_y": [1, 3, 5, 7], "shifts_x": [2, 4, 6, 8.5], "program": "mine"},
        {"shifts": {"yshift": [1, 3, 5, 7], "xshift": [2, 4, 6, 8.5]}},
        {"displacements": [[-1, -2], [-3, -4], [-5, -6], [-7, -8.5]]},
        {"operators": [{"label": "x"}, {"type": "TranslateAlign", "offsets": [2, 1, 4, 3, 6, 5, 8.5, 7]}]},
    ],
)
def test_the_ways_to_write_shifts(tmp_path, raw):
    (tmp_path / "a.json").write_text(json.dumps(raw))
    found = load_alignment(tmp_path / "a.json", TILTS)
    np.testing.assert_allclose(found.displacements, [[-1, -2], [-3, -4], [-5, -6], [-7, -8.5]])
    found = load_alignment(tmp_path / "a.json", TILTS, tilt_axis="x", upside_down=True)
    np.testing.assert_allclose(found.displacements, [[-2, 1], [-4, 3], [-6, 5], [-8.5, 7]])


ONE = "1 0 0 1 2 3\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xf", ONE * 3, "aligns 3 tilts, the series has 4"),
        ("a.prexg", ONE * 5, "aligns 5 tilts, the series has 4"),
        ("a.xf", ONE * 3 + "1 0 0 1 2\n", "a.xf:4: '1 0 0 1 2' is not six numbers"),
        ("a.xf", ONE * 3 + "1 0 0 1 2 nan\n", "a.xf:4: "),
        ("a.xf", ONE * 3 + "one 0 0 1 2 3\n", "a.xf:4: "),
        ("a.xf", ONE * 3 + "-1 0 0 1 2 3\n", "a.xf:4: this transform mirrors"),
        ("a.xf", ONE * 3 + "0.9 0 0 1 2 3\n", "transform 4 stretches its map by 10.0%"),
        ("a.xf", ONE * 3 + "0.9848 -0.1736 0.1736 0.9848 2 3\n", "transform 4 turns its map by"),
        ("a.xf", "\n\n", "holds no transforms"),
        ("a.json", "[[1, 2], [3, 4], [5, 6]]", "aligns 3 tilts, the series has 4"),
        ("a.json", "[[1, 2], [3, 4], [5, 6], [7, NaN]]", "not finite"),
        ("a.json", "[[1, 2], [3, 4], [5, 6], [7]]", "holds no shifts that can be read"),
        ("a.json", '{"shift": 3}', "holds no shifts that can be read"),
        ("a.json", '{"y": [1, 2, 3, 4], "x": [1, 2]}', "holds no shifts that can be read"),
        ("a.json", '{"y": ["a", 2, 3, 4], "x": [1, 2, 3, 4]}', "holds no shifts that can be read"),
        ("a.json", '{"displacements": 4}', "holds no shifts that can be read"),
        ("a.json", '{"offsets": [1, 2, 3]}', "holds no shifts that can be read"),
        ("a.json", '[{"offsets": [1, 2]}, {"offsets": [1, 2]}]', "holds no shifts that can be read"),
        ("a.json", "[[1, 2], ", "is not JSON"),
        ("a.txt", ONE * 4, "'.txt', which is unknown; alignments are .json"),
    ],
)
def test_files_that_cannot_be(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_alignment(tmp_path / name, TILTS)
    said = str(caught.value)
    assert words in said
    assert name in said
    assert "\n" not in said


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(InputError, match=r"a\.xf does not exist"):
        load_alignment(tmp_path / "a.xf", TILTS)
    (tmp_path / "b.xf").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"b\.xf is not text"):
        load_alignment(tmp_path / "b.xf", TILTS)


def test_what_one_rotation_cannot_hold_is_told(tmp_path):
    c, s = np.cos(np.radians(1.0)), np.sin(np.radians(1.0))
    (tmp_path / "a.xf").write_text(ONE * 3 + f"{1.01 * c} {-s} {s} {c} 2 3\n")
    found = load_alignment(tmp_path / "a.xf", TILTS)
    assert len(found.doubts) == 2
    assert re.search(r"turns single maps by up to 1\.0 degrees", found.doubts[0])
    assert re.search(r"stretches maps by up to 1\.0%", found.doubts[1])
