"""The CPU's detector warp against plain bilinear interpolation, wherever the detector lies, and nothing beyond it."""

from __future__ import annotations

import numpy as np
import pytest

from recon.kernels import cpu

f32 = np.float32
GUARD = 4096  # elements around an array, in which nothing may be written, and from which nothing may be read


def guarded(shape, around):
    whole = np.full(2 * GUARD + int(np.prod(shape)), around, f32)
    return whole, whole[GUARD:-GUARD].reshape(shape)


def bilinear(source, a, shape):
    """Pixel (i, j) of `source` (u, y), 0 outside, at A (i, j) + b, in float64."""
    i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    out = np.zeros(shape)
    # a row's place as the kernel has it: on a row, the last bit decides to which side a pixel belongs
    p, q = a[0] * i + a[2] + a[1] * j, (a[3] * i + a[5]) + (a[4] - 1) * j
    k, m = np.floor(p).astype(int), np.floor(q).astype(int) + j
    for dk, across in ((0, 1 - (p - np.floor(p))), (1, p - np.floor(p))):
        for dm, along in ((0, 1 - (q - np.floor(q))), (1, q - np.floor(q))):
            row, column = m + dm, k + dk
            there = (column >= 0) & (column < source.shape[0]) & (row >= 0) & (row < source.shape[1])
            value = source[np.clip(column, 0, source.shape[0] - 1), np.clip(row, 0, source.shape[1] - 1)]
            out += np.where(there, across * along * value, 0)
    return out


def check(source_shape, out_shape, a):
    rng = np.random.default_rng(0)
    _, source = guarded((1, *source_shape), np.nan)
    source[...] = rng.random(source.shape)
    whole, out = guarded((1, *out_shape), 7.0)
    cpu.warp(source, out, np.array([a], float))
    assert (whole[:GUARD] == 7).all()
    assert (whole[-GUARD:] == 7).all()
    np.testing.assert_allclose(out[0], bilinear(source[0], a, out_shape), atol=2e-5, err_msg=str(a))
    # the adjoint: <W x, y> = <x, W* y>
    y = rng.random(out.shape).astype(f32)
    spread, back = guarded((1, *source_shape), 7.0)
    cpu.warp_adjoint(y, back, np.array([a], float))
    assert (spread[:GUARD] == 7).all()
    assert (spread[-GUARD:] == 7).all()
    one, other = np.vdot(out.astype(float), y), np.vdot(source.astype(float), back)
    assert one == pytest.approx(other, rel=1e-4, abs=1e-4), a


@pytest.mark.parametrize("seed", range(4))
def test_any_affine_map(seed):
    """Shifts, rotations, shears and mirrors, many of which see nothing of the source."""
    rng = np.random.default_rng(seed)
    for _ in range(60):
        source, out = rng.integers(1, 20, 2), rng.integers(1, 24, 2)
        size = rng.choice([0, 1e-9, 0.1, 1], 2)
        a = [
            rng.normal(),
            rng.normal() * size[0],
            rng.normal() * 8,
            rng.normal(),
            1 + rng.normal() * size[1],
            rng.normal() * 8,
        ]
        check(source, out, np.round(a, 1) if rng.random() < 0.3 else a)


@pytest.mark.parametrize("pitch", [0.78, 0.8, 0.85, 0.95, 0.96])
@pytest.mark.parametrize("rows", [63, 65, 101])
def test_pitches_whose_sums_are_rounded_to_whole_rows(pitch, rows):
    """0.8 j is a whole number for every fifth j, but for its last bit."""
    for offset in (0.0, 0.5, 1.0):
        middle = (rows - 1) / 2
        check((5, rows), (7, rows), [0.9, 0.0, 0.1, 0.0, pitch, middle - pitch * middle + offset])


@pytest.mark.parametrize("slope", [6e-17, 1e-6, 1e-4])
def test_a_column_that_ends_hardly_before_the_last_row(slope):
    for steps in range(1, 6):
        check((3, 128), (1, 8), [0.0, 0.3, 1.0, 0.0, slope, 127 - slope * steps - 1e-14])
