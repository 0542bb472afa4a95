"""Steps on two slabs, each with what it needs of the other, equal those on the whole."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.kernels import cpu, cpu_tgv
from recon.kernels.halo import Halo, pack, unpack

f32 = np.float32
RADII = f32(1.0), f32(2.0)
STEPS = (f32(0.3), f32(0.2), f32(0.3), f32(0.2), *RADII, f32(1.6))
shapes = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(4, 40))
few = settings(max_examples=6, deadline=None)


def arguments(s):
    return s.u, s.w, s.u_bar, s.w_bar, s.p, s.q, s.g


def slab(s, begin, stop):
    """A copy of a state's slices."""
    part = reference.State((1, 1, 1), 2, 0)
    for name, a in vars(s).items():
        setattr(part, name, a[..., begin:stop].copy())
    return part


def two_slabs(s, middle):
    """Two states with two slices of each other, and buffers that are full."""
    ny = s.u.shape[-1]
    components, planes = len(s.p), s.u.shape[:2]
    left, right = slab(s, 0, min(middle + 2, ny)), slab(s, max(middle - 2, 0), ny)
    nothing = np.empty((0, *planes), s.p.dtype)
    here, there = (np.empty((components + len(s.q) // k, *planes), s.p.dtype) for k in (2, 1))
    right_first = middle - max(middle - 2, 0)
    first = Halo(nothing, here, nothing, there, 0, middle)
    second = Halo(there.copy(), nothing, here.copy(), nothing, right_first, right.u.shape[-1])
    right.u_bar = np.empty((*planes, ny - middle), f32)  # its own slices
    pack(left.p, left.q, first)
    pack(right.p, right.q, second)
    return (left, first), (right, second)


def exchange(first, second):
    second.from_before[...] = first.to_after
    first.from_after[...] = second.to_before


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("shares", [1, 2, 3])
@few
@given(shape=shapes, seed=st.integers(0, 99), data=st.data())
def test_two_slabs_equal_the_whole(order, short, shares, shape, seed, data):
    """Some steps, whatever the shape and however many cores share the rows; what is spoilt beside a slab is renewed."""
    whole = reference.State(shape, order, seed)
    if short:
        reference.in_16_bits(whole, *RADII)
    middle = data.draw(st.integers(2, shape[2] - 2))
    (left, first), (right, second) = two_slabs(whole, middle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_tgv, "_shares", lambda nx: min(shares, nx))
        for _ in range(3):
            exchange(first, second)
            for a in (left.p, left.q):
                a[..., middle:] = 7
            for a in (right.p, right.q):
                a[..., : second.first] = 7
            cpu.tgv_step(*arguments(left), *STEPS, halo=first)
            long = np.pad(right.g, ((0, 0), (0, 0), (0, 5)), constant_values=np.nan)
            cpu.tgv_step(*arguments(right)[:-1], long, *STEPS, halo=second)
            cpu.tgv_step(*arguments(whole), *STEPS)
    for name in ("u", "w", "p", "q", "u_bar"):
        a = getattr(whole, name)
        mine, other = getattr(left, name)[..., :middle], getattr(right, name)[..., middle - shape[2] :]
        joined = np.concatenate([mine, other], axis=-1)
        apart = np.abs(joined.astype(float) - a).max(initial=0)
        # in 16 bits, what lies halfway between two steps may go either way, and the next step of u and w follows
        either = 1.5 * float(max(RADII)) / 8192 * short
        assert apart <= (1 if short and name in "pq" else 1e-5 * max(1, np.abs(a).max(initial=0)) + either), name


@pytest.mark.parametrize("order", [1, 2])
def test_rows_are_packed_as_columns_are(order):
    """The kernel, row by row, and `unpack` and `pack`, all at once, give the same bits."""
    whole = reference.State((3, 7, 30), order, 3)
    for k in (0, 1):
        (state, halo), (other, of_other) = (two_slabs(whole, 14)[i] for i in (k, k))
        for buffers in (halo, of_other):
            for a in buffers[:2]:
                a[...] = np.arange(a.size).reshape(a.shape) % 5 / 3
        cpu.tgv_step(*arguments(state), *STEPS, halo=halo)
        unpack(other.p, other.q, of_other)
        cpu.tgv_step(*arguments(other), *STEPS)
        pack(other.p, other.q, of_other)
        for name in ("u", "w", "p", "q"):
            np.testing.assert_array_equal(getattr(state, name), getattr(other, name))
        for a, b in zip(halo[2:4], of_other[2:4], strict=True):
            np.testing.assert_array_equal(a, b)
