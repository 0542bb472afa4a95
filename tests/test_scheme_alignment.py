"""Alignment of series with more than one axis: halves, the motion between them, maps without a half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import recon
from recon.alignment.schemes import Motion, _motion, _taken_back, align_scheme, halves, in_common
from recon.errors import InputError, JobError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.preparation.normalise import normalise
from recon.preparation.screening import BORDER
from recon.series.alignment import Alignment
from recon.series.combine import combine
from recon.series.selection import select
from recon.simulate import Ellipsoid, Particle, simulate

N = 24
TILTS = np.arange(-66.0, 67, 22)
DUAL = TiltGeometry.dual_axis(TILTS, detector=(N, N))
CONE = TiltGeometry.conical(55, np.arange(0, 360, 40.0), detector=(N, N))
MOTION = Motion(np.array([2.0, -1.5, 1.0]), np.array([0.6, -1.0, 0.8]))
MOVED = DUAL[:7] + MOTION.of(DUAL[7:])


def quiet(line):
    pass


def with_truth(series, truth):
    shape = len(series.elements), 1
    return series.evolve(
        exposures=np.tile(truth.exposures, shape),
        background=np.tile(truth.exposures * truth.background, shape),
        isolated=True,
    )


@pytest.fixture(scope="module")
def moved():
    """A dual-axis series of a specimen that moved between the halves, and its truth."""
    series, truth = simulate(
        size=N, geometry=DUAL, actual=MOVED, dose=300, drift=1.5, rotation_deg=0, axis_offset=0, samples=2
    )
    return with_truth(series, truth), truth


def apart(found, truth):
    """Degrees between beams and rows of two geometries, but for a turn of everything; the largest."""
    both = [np.concatenate([g.ray, g.v / np.linalg.norm(g.v, axis=1, keepdims=True)]) for g in (found, truth)]
    turn, _ = Rotation.align_vectors(both[1], both[0])
    return float(np.degrees(np.linalg.norm(turn.apply(both[0]) - both[1], axis=1)).max())


# ---------------------------------------------------------------- halves and motions


def test_halves_are_the_maps_about_one_axis():
    found = halves(DUAL[np.arange(14)[::-1]])
    assert [h.index.tolist() for h in found] == [list(range(7)), list(range(7, 14))]
    assert np.allclose(found[0].tilts_deg, TILTS[::-1])
    assert np.allclose(halves(TiltGeometry.dual_axis(TILTS, axis_deg=87, detector=(N, N)))[1].tilts_deg, TILTS)
    assert halves(CONE) == []
    assert [h.index.size for h in halves(CONE.turned(5) + DUAL)] == [7, 7]
    leaning = halves(DUAL.turned(30, "x"))  # the first axis dips, and tilts are counted from where it is upright
    assert np.allclose(np.diff(leaning[0].tilts_deg), 22)


@pytest.mark.parametrize(("axis", "turn"), [("z", (5, 0, 0)), ("y", (0, 5, 0)), ("x", (0, 0, 5))])
def test_a_motion_turns_as_a_geometry_does(axis, turn):
    found, expected = Motion(np.array(turn, float), np.zeros(3)).of(DUAL), DUAL.turned(5, axis)
    for name in ("ray", "u", "v", "centre"):
        assert np.allclose(getattr(found, name), getattr(expected, name))


def test_selected_maps_are_a_series_of_their_own(moved):
    series, _ = moved
    part = select(series, np.arange(7, 14), TILTS)
    assert part.scheme is None
    assert part.counts.shape == (2, 7, N, N)
    assert np.array_equal(part.counts, series.counts[:, 7:])
    assert np.array_equal(part.exposures, series.exposures[:, 7:])


def test_the_halves_foretell_each_others_motion(moved):
    series, truth = moved
    both = combine(series)
    first, second = halves(DUAL)
    found, _, factor = _motion(both, truth.alignment.displacements, first, second)
    assert np.abs(found.turn - MOTION.turn).max() <= 1.0  # measured: 0.8; from either half alone 1.4
    assert np.abs(found.shift - MOTION.shift).max() <= 0.2
    assert abs(factor - 1) <= 0.01


def test_rotations_of_the_axes_are_told_together():
    """Estimates that differ by more than the axes can move as far as their errors ask for; sure ones stay."""

    def at(rotation, error):
        return Alignment(np.zeros((3, 2)), rotation, rotation_error=error)

    assert in_common([at(3.0, 2.0)]) == pytest.approx([3.0])
    vague = in_common([at(11.0, 2.0), at(-6.0, 2.0)])
    assert np.allclose(vague, 2.5, atol=0.6)
    assert np.diff(vague) == pytest.approx(-17 * 0.25 / 4.25)
    assert np.allclose(in_common([at(2.0, 0.05), at(1.0, 0.05)]), [2, 1], atol=0.01)
    assert in_common([at(1.0, 0.02), at(9.0, 3.0)])[1] == pytest.approx(1.4, abs=0.1)
    unknown = in_common([Alignment(np.zeros((3, 2)), r) for r in (1.0, 2.0)])
    assert unknown == pytest.approx([1.0, 2.0])


# ---------------------------------------------------------------- whole alignments


def test_two_halves_are_brought_together(moved):
    """Each half is aligned perfectly here; what is found is the motion between them."""
    series, truth = moved
    true = truth.alignment.displacements

    def perfect(half):
        first = np.array_equal(half.counts, series.counts[:, :7])
        return half.evolve(alignment=Alignment(true[:7] if first else true[7:]))

    lines = []
    found = align_scheme(series, combine(series), perfect, lines.append)
    volume = (N, N, N)
    actual = MOVED.on(volume).moved(true)
    assert apart(found.aligned_geometry(volume), actual) <= 1.0
    assert apart(series.aligned_geometry(volume), actual) >= 1.2  # before
    assert found.alignment.errors.shape == (14, 2)
    assert any("axis 2 against axis 1" in line for line in lines)
    volumes = recon.reconstruct(found, "tv", strength=1.0, max_iterations=150)
    known = recon.reconstruct(
        series.evolve(scheme=MOVED, alignment=truth.alignment), "tv", strength=1.0, max_iterations=150
    )
    for element in volumes:
        assert volumes[element].solution.objective <= 1.1 * known[element].solution.objective


def test_maps_without_a_half_start_from_their_centres_of_mass():
    series, truth = simulate(size=N, geometry=CONE, dose=300, drift=2, rotation_deg=0, axis_offset=0, samples=2)
    found = recon.align(normalise(series))
    assert "centre of mass" in found.alignment.method
    moved = found.alignment.displacements - truth.alignment.displacements
    basis = np.concatenate([CONE.v, CONE.u])  # what only moves the object
    flat = moved.T.ravel()
    left = flat - basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]
    assert np.sqrt(np.mean(left**2)) <= 0.2
    assert np.sqrt(np.mean(truth.alignment.displacements**2)) >= 0.8


def test_exposures_that_each_half_found_by_itself_get_a_common_unit(moved):
    series, truth = moved
    true, exposed = truth.alignment.displacements, truth.exposures

    def perfect(half):
        index = np.arange(7) if np.array_equal(half.counts, series.counts[:, :7]) else np.arange(7, 14)
        own = np.tile(exposed[index] / exposed[index].mean(), (len(half.elements), 1))
        return half.evolve(alignment=Alignment(true[index]), exposures=own, exposures_from="re-projections")

    half_as_long = np.concatenate([np.ones(7), np.full(7, 0.5)])
    counts = np.random.default_rng(0).binomial(series.counts.astype(int), half_as_long[:, None, None])
    open_ones = series.evolve(
        counts=counts.astype(np.float32),
        background=series.background * half_as_long,
        exposures=np.ones_like(series.exposures),
        exposures_from="open",
        isolated=True,
    )
    series = open_ones
    found = align_scheme(series, combine(series), perfect, quiet)
    expected = exposed * half_as_long
    ratio = found.exposures[0] / expected
    assert np.abs(ratio / ratio.mean() - 1).max() <= 0.03


def left(found, truth):
    """RMS of what no move of the object explains in displacements, pixels."""
    flat = (found.alignment.displacements - truth.alignment.displacements).T.ravel()
    basis = np.concatenate([found.scheme.v, found.scheme.u])
    return float(np.sqrt(np.mean(np.square(flat - basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]))))


def rods(reach):
    """Two rods that reach so far from the middle, in widths of the frame."""
    bars = [
        Ellipsoid((0, 0, 0), (0.1, 0.1, reach), (1.0,), (0, 0, 30)),
        Ellipsoid((0.05, 0.1, 0), (0.08, reach, 0.1), (0.7,), (20, 0, 0)),
    ]
    return Particle(("A",), tuple(bars), {})


def test_maps_of_a_cone_that_the_frame_cuts_serve_again():
    """The object is out of the frame at one of nine directions, by drift: a ninth of what was recorded."""
    how = {"size": N, "geometry": CONE, "dose": 300, "rotation_deg": 0, "axis_offset": 0, "samples": 2, "seed": 1}
    series, truth = simulate(rods(0.36), drift=1.0, **how)
    counts = series.counts.copy()
    counts[:, 4, :, :-6] = series.counts[:, 4, :, 6:]
    counts[:, 4, :, -6:] = np.random.default_rng(0).poisson(truth.background * truth.exposures[4], (1, N, 6))
    ready = normalise(series.evolve(counts=counts))
    assert ready.isolated
    assert [i for i, _ in ready.left_out] == [4]
    lines = []
    found = recon.align(ready, log=lines.append)
    assert found.left_out == ()
    assert found.used.all()
    assert any("projections 5, in which the frame cuts the object, serve again" in line for line in lines)
    moved = replace(truth.alignment, shifts=truth.alignment.shifts - np.outer(np.arange(9) == 4, [0, 6]))
    assert left(found, replace(truth, alignment=moved)) <= 0.15
    expected = truth.exposures / truth.exposures[np.arange(9) != 4].mean()
    assert found.exposures[0, 4] == pytest.approx(expected[4], rel=0.05)


def test_maps_that_the_frame_cuts_stay_out_where_too_few_others_say_how_they_lie():
    """The element that the cut map shows is in two others."""
    series, _ = simulate(rods(0.36), size=N, geometry=CONE, dose=300, samples=1, seed=1)
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[2:] = 0
    series = series.evolve(weights=weights, left_out=tuple((i, BORDER) for i in range(2, 9)), exposures_from="totals")
    lines = []
    assert _taken_back(series, lines.append) is series
    assert len(lines) == 1
    assert "stay left out: tilt 55 shows A only, which fewer than 3 tilts that are aligned show" in lines[0]


def test_a_cone_of_an_object_that_leaves_the_frame_is_exposed_by_the_matching():
    how = {"size": N, "geometry": CONE, "dose": 300, "rotation_deg": 0, "axis_offset": 0, "samples": 2, "seed": 1}
    series, truth = simulate(rods(0.5), drift=1.5, **how)
    ready = normalise(series)
    assert ready.isolated is False
    found = recon.align(ready)
    assert found.exposures_from == "re-projections"
    assert left(found, truth) <= 0.2
    assert np.allclose(found.exposures[0] / truth.exposures * truth.exposures.mean(), 1, atol=0.06)


# ---------------------------------------------------------------- refused


def test_what_cannot_be_aligned_is_refused(moved):
    series, _ = moved
    with pytest.raises(JobError, match=r"'cross-correlation' serves a single axis, not TiltGeometry\(14"):
        recon.align(series, "cross-correlation")
    with pytest.raises(JobError, match="resampled serves a single axis"):
        recon.align(series, resampled=True)
    cone = select(series, np.arange(9), CONE.ray[:, 0], CONE).evolve(isolated=False)
    with pytest.raises(InputError, match="projection 1 shares its tilt axis with fewer than 3 others"):
        align_scheme(cone, combine(cone), lambda half: half, quiet)
