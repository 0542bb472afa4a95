"""Regions to ask about, features found, and what `recon.composition` answers on simulated particles."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

import recon
from recon.analysis.answers import Composition, ElementAnswer
from recon.analysis.features import Feature
from recon.analysis.layout import Sparse, lay_out, lay_out_anew
from recon.analysis.phases import typical_density
from recon.analysis.places import Box, Ellipsoid, place_of, places
from recon.errors import InputError, JobError
from recon.series.volume import Volume
from recon.simulate import KINDS, random_particle, simulate

SIZE = 32


def blurred(particle, sigma=0.8):
    """Volumes as a good reconstruction shows them."""
    true = particle.volume(SIZE, samples=2)
    return {n: Volume(ndimage.gaussian_filter(v, sigma), 5.0, n) for n, v in zip(particle.elements, true, strict=True)}


def known(series, truth):
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)


# ---------------------------------------------------------------- shapes


def test_an_ellipsoid_has_its_volume_and_centre():
    f = Ellipsoid((9.0, 12.25, 10.5), (4.0, 6.0, 5.0)).fraction((20, 25, 22))
    assert f.sum() == pytest.approx(4 / 3 * np.pi * 4 * 6 * 5, rel=5e-3)
    np.testing.assert_allclose(ndimage.center_of_mass(f), (9.0, 12.25, 10.5), atol=0.02)
    assert ((f > 0) & (f < 1)).any()


def test_a_box_has_its_volume():
    f = Box((1.5, 2.0, 0.25), (4.5, 5.5, 3.0)).fraction((8, 9, 7))
    assert f.sum() == pytest.approx(3 * 3.5 * 2.75, rel=1e-6)
    assert f[3, 4, 2] == 1
    assert f[3, 2, 2] == pytest.approx(0.5)


def feature(fraction):
    return Feature("A in B 1", "A", "B", "inclusion", fraction, 0.1)


def test_a_place_that_was_found_is_asked_about_over_its_inside():
    """Voxels at its border hold a part of what lies beside it."""
    ball = Ellipsoid.sphere((12, 12, 12), 4.0).fraction((25, 25, 25))
    place = place_of(feature(ball), "it")
    at = np.argwhere(place.weight > 0)
    away = np.linalg.norm(at - 12, axis=1)
    assert (ball[place.weight > 0] == 1).all()
    assert 2.2 <= away.max() <= 3.2  # a voxel less than the ball
    assert set(np.unique(place.weight)) == {0, 1}
    np.testing.assert_array_equal(place.fraction, ball)


def test_a_place_too_small_for_an_inside_is_asked_about_as_it_is():
    ball = Ellipsoid.sphere((12, 12, 12), 1.6).fraction((25, 25, 25))
    assert place_of(feature(ball), "it").weight.sum() >= 8


WRONG = {
    "outside": ({"a": Ellipsoid.sphere((40, 5, 5), 2)}, "outside the volume"),
    "empty": ({"a": np.zeros((12, 10, 8), bool)}, "empty"),
    "shape": ({"a": np.zeros((12, 10, 9), bool)}, r"shape \(12, 10, 9\), the volume \(12, 10, 8\)"),
    "everything": ({"a": np.ones((12, 10, 8), bool)}, "more than half"),
    "overlap": ({"a": Ellipsoid.sphere((5, 5, 4), 3), "b": Ellipsoid.sphere((5, 5, 5), 3)}, "'a' and 'b' overlap"),
    "twice": ([("a", Ellipsoid.sphere((5, 5, 4), 2)), ("a", Ellipsoid.sphere((5, 5, 4), 2))], "'a' is there twice"),
    "fractions": ({"a": np.full((12, 10, 8), 2.0)}, "0 to 1"),
    "kind": ({"a": "neck.tif"}, "is a str"),
    "none": ({}, "no regions"),
    "semi-axes": ({"a": Ellipsoid((5, 5, 4), (2, -1, 2))}, "positive"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_regions_get_one_line(case):
    regions, said = WRONG[case]
    with pytest.raises(InputError, match=said) as caught:
        places(regions, (12, 10, 8))
    assert "\n" not in str(caught.value)


def test_a_label_image_names_its_regions():
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[2:4, 2:4, 2:4], labels[6:9, 5:8, 4:7] = 1, 7
    assert [(p.name, p.fraction.sum()) for p in places(labels, labels.shape)] == [("1", 8), ("7", 27)]


def test_a_rare_element_has_a_pure_phase():
    """A hundredth of the particle, in noise: the 95th percentile of its density is that of the noise."""
    values = np.abs(np.random.default_rng(0).normal(0, 0.02, (20, 20, 20))).astype(np.float32)
    values[8:12, 8:12, 8:13] += 1.0
    assert typical_density(values, np.ones(values.shape, bool)) == pytest.approx(1.0, abs=0.05)


# ---------------------------------------------------------------- features


@pytest.mark.parametrize("kind", ["inclusions"])
def test_places_are_found_where_they_are(kind):
    for seed in range(20, 22):
        particle = random_particle(kind, SIZE, seed)
        found = recon.features(blurred(particle))
        assert found
        for name in particle.regions:
            true = particle.inside(name, SIZE)
            dice = [2 * f.fraction[true].sum() / (f.fraction.sum() + true.sum()) for f in found.values()]
            assert max(dice) > 0.6, (seed, name)
        sizes = [f.size for f in found.values()]
        assert sizes == sorted(sizes, reverse=True)
        together = sum(f.fraction for f in found.values())
        assert together.max() <= 1 + 1e-5


def test_nothing_is_found_where_nothing_reaches_in():
    for seed in range(20, 22):
        assert recon.features(blurred(random_particle("plain", SIZE, seed))) == {}


def test_every_kind_of_particle_is_repeatable():
    for kind in KINDS:
        one, other = (random_particle(kind, SIZE, 3) for _ in range(2))
        assert one == other
        assert one != random_particle(kind, SIZE, 4)


# ---------------------------------------------------------------- places found anew, intervals


def shifted(volumes, by):
    return {n: Volume(np.roll(v.values, by, axis=(0, 1, 2)), 5.0, n) for n, v in volumes.items()}


def test_places_of_another_recording_are_those_that_are_found_there():
    volumes = blurred(random_particle("inclusions", SIZE, 20))
    inside = recon.analysis.mask.mask(volumes)
    found = recon.features(volumes, inside)
    asked = places(list(found.values()), inside.shape)
    laid = lay_out(volumes, inside, asked, found)
    again = lay_out_anew(shifted(volumes, (1, 0, 0)), asked, True)
    assert all(again.found)
    for one, other in zip([*laid.weights, *laid.fields], [*again.weights, *again.fields], strict=True):
        np.testing.assert_allclose(np.roll(one.full, 1, axis=0), other.full, atol=1e-5)
    assert sum(f.full for f in again.fields).max() <= 1 + 1e-5
    given = lay_out_anew(shifted(volumes, (1, 0, 0)), asked, False)
    for place, weight in zip(asked, given.weights, strict=True):
        np.testing.assert_array_equal(place.weight, weight.full)


def test_a_place_that_is_not_found_again_stays_where_it_was():
    volumes = blurred(random_particle("inclusions", SIZE, 20))
    ball = place_of(feature(Ellipsoid.sphere((3, 3, 3), 2.5).fraction((SIZE,) * 3)), "it")  # of nothing
    again = lay_out_anew(volumes, [ball], True)
    assert again.found == [False]
    np.testing.assert_array_equal(again.weights[0].full, ball.weight)


def test_a_sparse_field_is_the_field():
    field = np.random.default_rng(0).uniform(-1, 1, (4, 5, 6)).clip(0).astype(np.float32)
    np.testing.assert_array_equal(Sparse.of(field).full, field)


# ---------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def answered():
    particle = random_particle("inclusions", SIZE, 0)
    series, truth = simulate(particle, size=SIZE, seed=0, drift=1.5)
    series = known(series, truth)
    volumes = recon.reconstruct(series, strength={"A": 0.85, "B": 0.7})
    return particle, series, volumes, recon.composition(series, volumes, replicates=4)


def test_the_other_metal_is_told_from_none(answered):
    """A place whose hole the volume fills: B is absent in one inclusion and mixed into the other."""
    particle, _, _, found = answered
    assert found.found
    assert len(found) == 2
    for region in found.regions.values():
        assert region.found_again > 0.5
        label = 1 + list(found).index(region.name)
        true = {n: particle.inside(n, SIZE) & (found.labels == label) for n in particle.regions}
        name = max(true, key=lambda n: true[n].sum())
        b = region.elements["B"]
        expected = 0.0 if name.startswith("absent") else 0.5
        assert region.verdict == ("A alone" if expected == 0 else "A and B")
        assert abs(b.fraction - expected) <= 0.08
        assert b.low95 <= expected <= b.high95
        assert b.shown > expected + 0.2  # what the volume says
        assert (b.log_ratio < 0) == (expected == 0)


def test_answers_survive_json(answered):
    found = answered[3]
    record = json.loads(json.dumps(found.record, allow_nan=False))
    back = Composition.of(record, found.labels, replicates=found.replicates, seed=found.seed, found=found.found)
    assert back.record == found.record
    assert {n: r.verdict for n, r in back.regions.items()} == {n: r.verdict for n, r in found.regions.items()}
    assert len(found.lines()) == 2


def test_wrong_questions_get_one_line(answered):
    _, series, volumes, _ = answered
    with pytest.raises(JobError, match="replicates"):
        recon.composition(series, volumes, replicates=1)
    inside = np.zeros((SIZE,) * 3, bool)
    inside[8:24, 6:26, 4:28] = True
    with pytest.raises(InputError, match="whole particle"):
        recon.composition(series, volumes, {"all": inside})
    bare = {n: Volume(v.values, 5.0, n) for n, v in volumes.items()}
    with pytest.raises(InputError, match="not made by reconstruct"):
        recon.composition(series, bare, {"a": Ellipsoid.sphere((16, 16, 16), 3)})


def answer(**changes):
    values = {
        "element": "Zn", "density": 1.0, "pure": 1.0, "fraction": 0.1, "low68": 0.05, "high68": 0.15, "low95": 0.0,
        "high95": 0.2, "smallest": 0.1, "shown": 0.5, "half_strength": 0.1, "twice_strength": 0.1,
    }  # fmt: skip
    return ElementAnswer(**{**values, **changes})


def test_no_verdict_that_another_strength_would_turn_round():
    assert answer().verdict == "absent"
    assert answer(twice_strength=0.2).verdict == "open"
    assert answer(fraction=0.5, low95=0.4, high95=0.6, half_strength=0.5, twice_strength=0.6).verdict == "present"
    assert answer(fraction=0.2, low95=0.1, high95=0.3).verdict == "open"
