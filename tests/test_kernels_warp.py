"""The detector warp on the CPU against dense weights and SciPy's interpolation."""

from __future__ import annotations

import numpy as np
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import close, dot, same_product
from scipy.ndimage import map_coordinates

from recon.kernels import cpu

few = settings(max_examples=25, deadline=None, derandomize=True)


@few
@given(
    recorded=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    ideal=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_warp_is_bilinear_and_its_adjoint_exact(recorded, ideal, seed):
    random = np.random.default_rng(seed)
    maps = reference.affine_maps(3, seed)
    maps[0] = [1, 0, 1, 0, 1, -1]  # a shift by whole pixels
    weights = reference.bilinear(recorded, ideal, maps)
    stack = random.normal(size=(3, *ideal)).astype(np.float32)
    image = random.normal(size=(3, *recorded)).astype(np.float32)
    out, back = np.full_like(image, np.nan), np.full_like(stack, np.nan)
    cpu.warp(stack, out, maps)
    cpu.warp_adjoint(image, back, maps)
    close(out, np.einsum("tijkl,tkl->tij", weights, stack))
    close(back, np.einsum("tijkl,tij->tkl", weights, image))
    size = 1e-30 + np.linalg.norm(out) * np.linalg.norm(image) + np.linalg.norm(stack) * np.linalg.norm(back)
    same_product(dot(out, image), dot(stack, back), size)


def test_warp_equals_scipy_s_interpolation():
    maps = reference.affine_maps(4, seed=1)
    stack = np.random.default_rng(1).normal(size=(4, 23, 31)).astype(np.float32)
    out = np.empty((4, 29, 27), np.float32)
    cpu.warp(stack, out, maps)
    i, j = np.indices(out.shape[1:])
    for t, a in enumerate(maps):
        where = [a[0] * i + a[1] * j + a[2], a[3] * i + a[4] * j + a[5]]
        close(out[t], map_coordinates(stack[t].astype(float), where, order=1, mode="grid-constant"))


@few
@given(
    recorded=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ideal=st.tuples(st.integers(1, 80), st.integers(1, 40)),
    turn=st.floats(-0.12, 0.12),
    shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    seed=st.integers(0, 99),
)
def test_warp_of_an_axis_that_is_rotated_by_little(recorded, ideal, turn, shift, seed):
    """Runs of pixels between the same columns, which end anywhere, and leave the ideal detector anywhere."""
    random = np.random.default_rng(seed)
    c, s = np.cos(turn), np.sin(turn)
    a = np.array([[2 * c, 2 * s, shift[0], -s, c, shift[1]]])
    stack = random.normal(size=(1, *ideal)).astype(np.float32)
    image = random.normal(size=(1, *recorded)).astype(np.float32)
    out, back = np.full_like(image, np.nan), np.full_like(stack, np.nan)
    cpu.warp(stack, out, a)
    cpu.warp_adjoint(image, back, a)
    i, j = np.indices(recorded)
    where = [2 * c * i + 2 * s * j + shift[0], c * j - s * i + shift[1]]
    close(out[0], map_coordinates(stack[0].astype(float), where, order=1, mode="grid-constant"))
    size = 1e-30 + np.linalg.norm(out) * np.linalg.norm(image) + np.linalg.norm(stack) * np.linalg.norm(back)
    same_product(dot(out, image), dot(stack, back), size)
