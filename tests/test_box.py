"""The part of the volume in which regions are asked about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import recon
from recon.analysis.box import Box, looked_at
from recon.analysis.mask import extent
from recon.reconstruction.problem import Problem
from recon.series.volume import Volume
from recon.simulate import random_particle, simulate

f32 = np.float32


@given(inside=arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)), margin=st.integers(0, 3))
def test_the_extent_is_the_least_box_around_what_is_inside(inside, margin):
    at = extent(inside, margin)
    if not inside.any():
        assert inside[at].shape == inside.shape
        return
    where = np.argwhere(inside)
    for axis, part in enumerate(at):
        assert part.start == max(0, where[:, axis].min() - margin)
        assert part.stop == min(inside.shape[axis], where[:, axis].max() + 1 + margin)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(8, 24), st.sampled_from([16, 33, 48, 64]), st.integers(8, 24)),
    seed=st.integers(0, 99),
    margin=st.sampled_from([(0, 0), (2, 3), (0, 1)]),
)
def test_a_box_holds_what_is_looked_at_and_gives_it_back(shape, seed, margin):
    random = np.random.default_rng(seed)
    corner = [int(random.integers(0, n)) for n in shape]
    inside = np.zeros(shape, bool)
    inside[tuple(slice(c, c + 5) for c in corner)] = True
    box = Box.around(inside, margin)
    field, other = random.uniform(size=(2, *shape)).astype(f32)
    values = box.of(field)
    nz, nx, ny = values.shape
    assert [a - b for a, b in zip(shape, (nz, ny, nx), strict=True)] == [2 * c for c in box.cut]
    assert values[box.of(inside) > 0].size == inside.sum()
    whole = box.into(other, values)
    np.testing.assert_array_equal(whole[inside], field[inside])
    put = whole != other
    assert put.sum() == min(values.size, field.size)
    np.testing.assert_array_equal(whole[put], field[put])
    if margin == (0, 0) and box.cut[1]:
        assert shape[1] % 2 == 1 or ny % 16 == 0
    grid = np.pad(field, [(max(-c, 0),) * 2 for c in box.cut]).swapaxes(1, 2)
    np.testing.assert_array_equal(box.part(grid), values)


@pytest.mark.parametrize("data_term", ["poisson", "least-squares"])
def test_in_a_box_the_data_say_what_they_say_of_the_whole(data_term):
    """D of volumes that differ in the box alone differs as D of the box does."""
    series, truth = simulate(size=32, seed=0)
    series = series.evolve(alignment=truth.alignment, isolated=True)
    element = series.elements[0]
    whole = Problem.of(series, element, data_term=data_term)
    inside = truth.volumes[element] > 0
    box = Box.around(looked_at(inside, [inside.astype(f32)]), whole.where.margin)
    assert box.cut[0] > 0
    assert box.cut[2] > 0
    random = np.random.default_rng(0)
    haze = random.uniform(0, 0.1, whole.operator.domain_shape).astype(f32)
    part = box.problem(whole, haze)
    assert part.operator.domain_shape == box.part(haze).shape
    z, x, y = (slice(c, n - c) for c, n in zip(np.take(box.cut, [0, 2, 1]), haze.shape, strict=True))
    of_whole, of_box = [], []
    for _ in range(2):
        values = random.uniform(0, 2, part.operator.domain_shape).astype(f32)
        full = haze.copy()
        full[z, x, y] = values
        for problem, u, found in ((whole, full, of_whole), (part, values, of_box)):
            found.append(problem.data.value(problem.operator(u, np.empty_like(problem.data.counts))))
    assert of_whole[1] - of_whole[0] == pytest.approx(of_box[1] - of_box[0], rel=1e-3)
    assert abs(of_whole[1] - of_whole[0]) > 1


def test_places_do_not_depend_on_how_much_is_empty_around_them():
    particle = random_particle("rods", 32, 3)
    random, volumes, wide = np.random.default_rng(0), {}, {}
    for n, v in zip(particle.elements, particle.volume(32, samples=2), strict=True):
        noisy = np.maximum(v + random.normal(0, 0.1, v.shape), 0).astype(f32) * (v > 0)
        volumes[n], wide[n] = Volume(noisy, 1.0, n), Volume(np.pad(noisy, [(9, 2), (0, 13), (5, 5)]), 1.0, n)
    inside = recon.mask(volumes)
    found, again = recon.features(volumes, inside), recon.features(wide, np.pad(inside, [(9, 2), (0, 13), (5, 5)]))
    assert len(found) >= 2
    assert list(found) == list(again)
    for name, feature in found.items():
        np.testing.assert_allclose(again[name].fraction[9:41, :32, 5:37], feature.fraction, atol=1e-6)
        assert again[name].size == pytest.approx(feature.size, rel=1e-6)
        assert again[name].kind == feature.kind
