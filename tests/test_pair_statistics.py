"""Statistics of two elements against closed forms: spheres, tori, error functions, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from recon.analysis.connectivity import connectivity, left_over
from recon.analysis.interfaces import WEIGHTS, area, border_width, directions, edge_width
from recon.analysis.pair_phases import BOTH, EMPTY, FIRST, SECOND, phases
from recon.analysis.pairs import mixing, pair_phases, pair_statistics, pure_densities
from recon.errors import InputError


def grid(shape):
    return np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")


def ball(shape, radius, centre=(0, 0, 0)):
    return sum((a - c) ** 2 for a, c in zip(grid(shape), centre, strict=True)) <= radius**2


def torus(shape, ring, tube):
    z, y, x = grid(shape)
    return z**2 + (np.hypot(y, x) - ring) ** 2 <= tube**2


# ---------------------------------------------------------------- areas


def test_weights_of_the_lattice_cover_the_sphere():
    by_steps = [WEIGHTS[sum(map(abs, d))] for d in directions()]
    assert len(by_steps) == 13
    assert sum(by_steps) == pytest.approx(1, abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(
    radius=st.floats(6, 14),
    flat=st.floats(0.7, 1.3),
    centre=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_area_of_a_ball(radius, flat, centre):
    """A ball cut by a plane: its own surface, and the disc between the halves."""
    shape = (34, 37, 35)
    inside = ball(shape, radius, centre)
    upper = grid(shape)[0] > 3.0 * (flat - 1)
    labels = np.where(inside, np.where(upper, FIRST, SECOND), EMPTY).astype(np.uint8)
    whole = area(np.where(inside, 1, 0).astype(np.uint8), 0, 1)
    assert whole == pytest.approx(4 * np.pi * radius**2, rel=0.04)
    assert area(labels, FIRST, EMPTY) + area(labels, SECOND, EMPTY) == pytest.approx(whole)
    assert area(labels, FIRST, SECOND) == area(labels, SECOND, FIRST)


# ---------------------------------------------------------------- widths


def blurred_pair(width, shape=(36, 36, 36), tilt=(0.5, 0.3, 0.8), surface=0.8):
    """Two elements that fill a ball, with a plane border that an error function of 10-90 % `width` blurs."""
    z, y, x = grid(shape)
    n = np.array(tilt) / np.linalg.norm(tilt)
    along = n[0] * z + n[1] * y + n[2] * x
    share = 0.5 * (1 - special.erf(along * 2.5631 / width / np.sqrt(2)))
    filled = 0.5 * (1 - special.erf((np.sqrt(z**2 + y**2 + x**2) - 15) / surface / np.sqrt(2)))
    return (filled * share).astype(np.float32), (0.7 * filled * (1 - share)).astype(np.float32)


@pytest.mark.parametrize("width", [2.0, 4.0, 6.0])
def test_width_of_a_border(width):
    first, second = blurred_pair(width)
    found, edge, _ = pair_phases(first, second, (1.0, 0.7))
    border = border_width(found)
    assert border.width == pytest.approx(width, abs=0.35)
    assert border.error < 0.1
    assert edge.width == pytest.approx(0.8 * 2.5631, abs=0.35)
    assert edge_width(first, second, (1.0, 0.7)) == edge


def test_no_border_has_no_width():
    one = blurred_pair(2.0)[0]
    found, _, _ = pair_phases(one, np.zeros_like(one), (1.0, 1.0))
    assert np.isnan(border_width(found).width)


# ---------------------------------------------------------------- phases


@pytest.mark.parametrize("blur", [0.6, 1.0, 1.5])
def test_what_blur_mixes_is_taken_out_and_what_is_mixed_stays(blur):
    shape = (48, 48, 48)
    inside, core, blob = ball(shape, 20), ball(shape, 10, (0, 0, -6)), ball(shape, 7, (0, 0, 11))
    first = np.where(inside & core, 1.0, np.where(inside & blob, 0.5, 0.0))
    second = np.where(inside & core, 0.0, np.where(inside & blob, 0.5, 1.0)) * inside
    a, b = (ndimage.gaussian_filter(v, blur).astype(np.float32) for v in (first, second))
    found = pair_statistics(a, b, (1.0, 1.0))
    n = inside.sum()
    assert found.both == pytest.approx((blob & inside & ~core).sum() / n, abs=0.01)
    assert found.only_first == pytest.approx((core & inside).sum() / n, abs=0.01)
    assert found.both_before > found.both + 0.01  # so there was something to take out
    assert found.edge.width == pytest.approx(2.5631 * blur, abs=0.8)


def test_fractions_of_phases_by_hand():
    a = np.zeros((6, 6, 6), np.float32)
    b = np.zeros_like(a)
    a[:, :, :2], b[:, :, 4:] = 2.0, 3.0  # pure slabs
    a[:, :, 2:4], b[:, :, 2:4] = 1.0, 1.5  # two voxels of an even mixture between them
    found = phases(a, b, (2.0, 3.0), blur=0.0)
    assert found.fractions() == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert set(np.unique(found.labels[:, :, 2:4])) == {BOTH}
    assert mixing(found)[0, 0].tolist() == [0, 0, 1, 1, 0, 0]
    thick = phases(a, b, (2.0, 3.0), blur=2.0)  # such a layer is what this blur makes of a sharp border
    assert thick.blurred.sum() == 72
    assert BOTH not in thick.labels


def test_manders_and_correlation_by_hand():
    rng = np.random.default_rng(0)
    a, b = np.zeros((9, 9, 9), np.float32), np.zeros((9, 9, 9), np.float32)
    a[:, :6], b[:, 3:] = 1.0, 1.0
    a += rng.uniform(0, 0.01, a.shape).astype(np.float32)
    found = pair_statistics(a, b, (1.0, 1.0))
    assert found.manders[0] == pytest.approx(a[:, 3:].sum() / a.sum())
    assert found.manders[1] == pytest.approx(0.5)
    assert found.overlap == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), rel=1e-5)
    assert found.correlation == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], rel=1e-4)


def test_densities_of_pure_phases():
    shape = (40, 40, 40)
    inside, core, blob = ball(shape, 17), ball(shape, 6, (0, 0, -8)), ball(shape, 6, (0, 0, 8))
    first = np.where(core, 3.0, np.where(blob, 1.5, 0)).astype(np.float32)
    second = np.where(inside & ~core, np.where(blob, 0.4, 0.8), 0).astype(np.float32)
    assert pure_densities(first, second) == pytest.approx((3.0, 0.8), rel=0.02)
    first[core], second[core] = 0, 0.8  # nowhere pure: then it fills up what the other one leaves
    assert pure_densities(first, second) == pytest.approx((3.0, 0.8), rel=0.1)


def test_wrong_input_is_one_line():
    a = np.ones((4, 4, 4), np.float32)
    with pytest.raises(InputError, match="must be the same"):
        phases(a, a[:3], (1.0, 1.0))
    with pytest.raises(InputError, match="must be positive"):
        pair_statistics(a, np.zeros_like(a))


# ---------------------------------------------------------------- connectivity


@settings(max_examples=5, deadline=None)
@given(order=st.permutations([0, 1, 2]), tube=st.floats(3.0, 4.5))
def test_a_ring_has_one_handle(order, tube):
    found = connectivity(np.transpose(torus((16, 38, 38), 11, tube), order))
    assert (found.pieces, found.handles, found.cavities, found.euler) == (1, 1, 0, 0)


def test_cavities_and_pieces():
    shell = ball((40, 40, 40), 14) & ~ball((40, 40, 40), 8)
    found = connectivity(shell)
    assert (found.pieces, found.handles, found.cavities) == (1, 0, 1)
    two = ball((40, 40, 40), 6, (0, 0, -10)) | ball((40, 40, 40), 8, (0, 0, 10))
    found = connectivity(two)
    assert (found.pieces, found.handles) == (2, 0)
    assert found.largest == pytest.approx(8**3 / (8**3 + 6**3), abs=0.03)


def test_noise_makes_neither_pieces_nor_handles():
    rng = np.random.default_rng(1)
    ring = torus((24, 44, 44), 13, 5)
    noisy = ring ^ (rng.random(ring.shape) < 0.02)
    found = connectivity(noisy)
    assert (found.pieces, found.handles, found.cavities) == (1, 1, 0)


def test_what_is_left_when_a_phase_is_taken_away():
    """A slab between two others holds them together; a core does not."""
    shape = (40, 40, 40)
    inside, x = ball(shape, 17), grid(shape)[2]
    pieces, largest = left_over(inside, inside & (np.abs(x) < 4))
    assert pieces == 2
    assert largest == pytest.approx(0.5, abs=0.02)
    assert left_over(inside, ball(shape, 7)) == (1, 1.0)


def test_a_pair_in_one_slice():
    """Two halves of a disk: the shares of each, and the width of the border between them, which is sharp."""
    y, x = np.mgrid[:40, :40] - 19.5
    disk = y * y + x * x < 300
    first, second = ((disk & there).astype(np.float32)[None] for there in (x < -4, x >= -4))
    found = pair_statistics(first, second, (1.0, 1.0))
    assert found.only_first == pytest.approx(first.sum() / disk.sum(), abs=0.02)
    assert found.only_second == pytest.approx(second.sum() / disk.sum(), abs=0.02)
    assert found.width.width == pytest.approx(0.8, abs=0.01)  # a step between two voxels, from 10 to 90 %
