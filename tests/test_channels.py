"""Elements with tilts and pixels of their own: what was not recorded has no weight and changes nothing."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import recon
from recon.alignment.rest import align_rest
from recon.errors import InputError
from recon.model.assembly import make_data_term, make_operator
from recon.preparation.exclude import exclude
from recon.preparation.isolation import locate
from recon.preparation.normalise import normalise
from recon.preparation.screening import unusable
from recon.reconstruction.strength import by_tilts
from recon.series.binning import binned
from recon.series.channels import common_elements
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate

MISSING = {"Co": (2, 9), "Zn": (0, 5, 6, 12)}  # positions of maps that were not recorded


@pytest.fixture(scope="module")
def particle():
    """Two elements at 15 tilts, aligned, unequally exposed."""
    return simulate(size=24, dose=300, seed=3, drift=0, shadowing=0.3)


def own_tilts(series):
    """The maps and tilts of each element without those of `MISSING`."""
    keep = {n: np.setdiff1d(np.arange(series.n_tilts), MISSING[n]) for n in series.elements}
    maps = {n: series.counts[series.index(n)][k] for n, k in keep.items()}
    return maps, {n: series.tilts_deg[k] for n, k in keep.items()}


@pytest.fixture(scope="module")
def partial(particle):
    maps, tilts = own_tilts(particle[0])
    return TiltSeries.create(maps, tilts, 1.0)


def test_tilts_of_their_own_are_put_together(particle, partial):
    series, _ = particle
    np.testing.assert_allclose(partial.tilts_deg, series.tilts_deg)
    for e, name in enumerate(series.elements):
        gone = list(MISSING[name])
        assert not partial.present[e, gone].any()
        assert partial.present[e].sum() == 15 - len(gone)
        np.testing.assert_array_equal(np.delete(partial.counts[e], gone, 0), np.delete(series.counts[e], gone, 0))
    assert ", Co at 13, Zn at 11" in partial.history[0]
    assert partial.used.all()
    same = TiltSeries.create(
        {n: series.counts[e] for e, n in enumerate(series.elements)},
        dict.fromkeys(series.elements, series.tilts_deg), 1.0,
    )  # fmt: skip
    assert same.element_weights is None


def test_a_tilt_of_one_element_that_another_has_nearly_is_its_own(particle):
    series, _ = particle
    maps = {n: series.counts[e] for e, n in enumerate(series.elements)}
    both = {"Co": series.tilts_deg, "Zn": series.tilts_deg + np.where(np.arange(15) == 4, 0.1, 0.01)}
    found = TiltSeries.create(maps, both, 1.0)
    assert found.n_tilts == 16
    assert (found.present.sum(axis=1) == 15).all()


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    fill=st.one_of(st.just(np.nan), st.just(np.inf), st.floats(-1e6, 1e6, width=32)),
    missing=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=1, max_size=6, unique=True),
)
def test_whatever_stands_in_a_missing_map_changes_nothing(fill, missing):
    rng = np.random.default_rng(1)
    counts = rng.poisson(20 * np.exp(-((np.arange(12) - 5.5) ** 2) / 8), (2, 9, 12, 12)).astype(float)
    there = {"A": np.ones(9), "B": np.ones(9)}
    filled = {"A": counts[0].copy(), "B": counts[1].copy()}
    for e, t in missing:
        there["AB"[e]][t], filled["AB"[e]][t] = 0, fill
    if min(w.sum() for w in there.values()) < 3:
        return
    tilts = np.linspace(-60, 60, 9)
    plain = TiltSeries.create({"A": counts[0], "B": counts[1]}, tilts, 1.0, weights=there)
    odd = TiltSeries.create(filled, tilts, 1.0, weights=there)
    ones = [normalise(s) for s in (plain, odd)]
    np.testing.assert_array_equal(ones[0].exposures, ones[1].exposures)
    np.testing.assert_array_equal(ones[0].background, ones[1].background)
    for name in "AB":
        for kind in ("poisson", "least-squares"):
            a, b = (make_data_term(s, name, kind) for s in ones)
            np.testing.assert_array_equal(a.counts, b.counts)
            np.testing.assert_array_equal(a.scale, b.scale)
            np.testing.assert_array_equal(a.offset, b.offset)


def test_maps_that_hold_no_number_are_missing_of_their_element_alone(particle):
    series, _ = particle
    maps = {n: series.counts[e].copy() for e, n in enumerate(series.elements)}
    maps["Co"][3] = np.nan
    maps["Zn"][5, 2, 2] = np.nan
    found = TiltSeries.create(maps, series.tilts_deg, 1.0, weights="nan")
    assert found.present[:, 3].tolist() == [False, True]
    assert found.weights is not None
    assert found.weights[5, 2, 2] == 0
    assert found.weights.sum() == found.weights.size - 1


def test_a_reconstruction_is_that_of_the_element_alone(particle, partial):
    """The union of tilts, with weights, against a series of each element's own tilts."""
    maps, tilts = own_tilts(particle[0])
    aligned = normalise(partial, exposures={n: particle[0].exposures[e] for e, n in enumerate(partial.elements)})
    options = {"data_term": "poisson", "tolerance": 1e-9, "max_iterations": 60, "strength": 0.5, "log": str}
    found = recon.reconstruct(aligned, "tv", **options)
    for e, name in enumerate(partial.elements):
        alone = TiltSeries.create({name: maps[name]}, tilts[name], 1.0)
        there = partial.present[e]
        alone = alone.evolve(
            exposures=aligned.exposures[e : e + 1, there],
            background=aligned.background[e : e + 1, there],
            isolated=True,
        )
        expected = recon.reconstruct(alone, "tv", **options)[name]
        np.testing.assert_allclose(found[name].values, expected.values, atol=1e-4 * expected.values.max())


@pytest.mark.parametrize("method", ["sirt", "fbp"])
def test_baselines_too_are_those_of_the_element_alone(particle, partial, method):
    maps, tilts = own_tilts(particle[0])
    partial = replace(partial, isolated=True)
    found = recon.reconstruct(partial, method, max_iterations=3)
    alone = replace(TiltSeries.create({"Zn": maps["Zn"]}, tilts["Zn"], 1.0), isolated=True)
    expected = recon.reconstruct(alone, method, max_iterations=3)["Zn"].values
    np.testing.assert_allclose(found["Zn"].values, expected, atol=1e-5 * expected.max())


def test_the_projector_of_an_element_is_adjoint_and_leaves_out_what_is_missing(partial):
    rng = np.random.default_rng(0)
    like = np.empty(0, np.float32)
    for e, name in enumerate(partial.elements):
        operator = make_operator(partial, (24, 24, 24), like, element=name)
        x = rng.random(operator.domain_shape, np.float32)
        y = rng.random(operator.range_shape, np.float32)
        ax = operator(x, np.empty(operator.range_shape, np.float32))
        aty = operator.adjoint(y, np.empty(operator.domain_shape, np.float32))
        assert np.vdot(ax, y) == pytest.approx(np.vdot(x, aty), rel=1e-6)
        assert not ax[~partial.present[e]].any()
        whole = make_operator(partial, (24, 24, 24), like)
        expected = whole(x, np.empty(operator.range_shape, np.float32))[partial.present[e]]
        np.testing.assert_allclose(ax[partial.present[e]], expected, rtol=1e-5)


# ---------------------------------------------------------------- before the reconstruction


def test_totals_are_of_the_maps_that_are_there(particle, partial):
    series, _ = particle
    found, whole = normalise(partial), normalise(series)
    assert not found.left_out
    for e in range(2):
        there = partial.present[e]
        assert found.exposures[e, there].mean() == pytest.approx(1)
        ratio = found.exposures[e, there] / whole.exposures[e, there]
        np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.02)
        assert (found.exposures[e, ~there] == 1).all()
        assert np.isnan(found.exposure_errors[e, ~there]).all()


def test_a_tilt_without_the_brighter_element_is_not_taken_for_blank(particle):
    series, _ = particle
    bright = series.evolve(counts=series.counts * np.array([40.0, 1.0], np.float32)[:, None, None, None])
    bright = exclude(bright, [-50, 30], elements="Co")
    assert unusable(bright) == {}
    assert normalise(bright).left_out == ()
    assert locate(bright).remarks == ()


def test_elements_that_most_tilts_share_are_added_up(particle, partial):
    assert common_elements(particle[0]) == ("Co", "Zn")
    assert common_elements(partial) == ("Co",)
    combined = combine(partial)
    assert combined.used.sum() == 13
    np.testing.assert_array_equal(combined.counts[0], partial.counts[0])
    both = combine(partial, ["Co", "Zn"])
    np.testing.assert_array_equal(np.flatnonzero(~both.used), [0, 2, 5, 6, 9, 12])


def test_leaving_out_an_elements_maps_keeps_the_others(particle):
    series, _ = particle
    found = exclude(series, {"number": [1, 4]}, elements="Zn")
    assert found.present.sum(axis=1).tolist() == [15, 13]
    assert "of Zn: tilts -70, -40" in found.history[-1]
    mask = np.zeros(series.frame)
    mask[3, 4] = 1
    found = exclude(found, pixels=mask, elements=["Zn"])
    assert found.seen_by(1)[2, 3, 4] == 0
    assert found.seen_by(0).all()
    small, _ = binned(found, 2)
    assert small.seen_by(1)[2, 1, 2] == 0
    assert small.seen_by(0).all()


def test_odd_and_even_tilts_are_those_of_the_element(partial):
    for e, name in enumerate(partial.elements):
        odd, even = (part.present[e].sum() for part in by_tilts(partial, name))
        assert abs(int(odd) - int(even)) <= 1
        assert odd + even == partial.present[e].sum()


# ---------------------------------------------------------------- the alignment


def test_a_projection_of_some_elements_is_aligned_by_those():
    """Drift that only one element shows at some tilts."""
    series, truth = simulate(size=24, dose=400, seed=6, drift=2.0, rotation_deg=1.0)
    maps, tilts = own_tilts(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recon.align(normalise(TiltSeries.create(maps, tilts, 1.0)))
    wrong = found.alignment.displacements - truth.alignment.displacements
    t = np.radians(series.tilts_deg)
    basis = np.stack([np.cos(t), np.sin(t)], axis=1)
    wrong[:, 1] -= basis @ np.linalg.lstsq(basis, wrong[:, 1], rcond=None)[0]
    wrong[:, 0] -= wrong[:, 0].mean()
    rest = list(MISSING["Co"])  # of which the reference, Co, shows nothing
    assert np.abs(wrong[rest]).max() < 0.3
    assert np.sqrt(np.mean(wrong**2)) < 0.15
    assert np.isfinite(found.alignment.errors).all()


def test_elements_that_never_meet_cannot_be_aligned(particle):
    series, _ = particle
    tilts = {"Co": series.tilts_deg[::2], "Zn": series.tilts_deg[1::2]}
    maps = {"Co": series.counts[0, ::2], "Zn": series.counts[1, 1::2]}
    apart = TiltSeries.create(maps, tilts, 1.0)
    with pytest.raises(InputError, match=r"tilt -60 shows Zn only, which fewer than 3 tilts that are aligned show"):
        align_rest(apart, combine(apart).used, print)


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, t: (m, {"Co": t["Co"]}), "no tilts were given for Zn; give some for each of Co, Zn"),
        (lambda m, t: (m, t | {"Fe": t["Co"]}), "tilts were given for Fe, which has no maps"),
        (lambda m, t: (m, t | {"Zn": t["Co"]}), "Zn has 11 maps but 13 tilts were given"),
        (lambda m, t: (m, t | {"Zn": np.radians(t["Zn"])}), "Zn: tilts from -1.05 to 1.22 look like radians"),
        (lambda m, t: (m | {"Zn": m["Zn"][:2]}, t | {"Zn": t["Zn"][:2]}), "Zn: there are 2 tilts"),
        (lambda m, t: (m, t | {"Zn": np.append(t["Zn"][:-1], t["Zn"][0] + 0.02)}), "Zn has two maps within 0.05"),
    ],
)
def test_wrong_tilts_of_an_element_get_one_line(particle, change, message):
    maps, tilts = change(*own_tilts(particle[0]))
    with pytest.raises(InputError, match=message):
        TiltSeries.create(maps, tilts, 1.0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"Fe": np.ones(15)}, "weights were given for Fe, which has no maps"),
        ({"Co": np.ones(14)}, r"weights of Co have shape \(14,\), its maps \(15, 24, 24\)"),
        ({"Co": np.full(15, 2.0)}, "weights of Co must lie between 0 and 1"),
        ({"Co": ["a"] * 15}, "weights of Co must be numbers"),
    ],
)
def test_wrong_weights_of_an_element_get_one_line(particle, weights, message):
    series, _ = particle
    with pytest.raises(InputError, match=message):
        TiltSeries.create(
            dict(zip(series.elements, series.counts, strict=True)), series.tilts_deg, 1.0, weights=weights
        )


def test_an_element_keeps_three_maps(particle):
    with pytest.raises(InputError, match="only 2 maps of Zn can be used"):
        exclude(particle[0], {"number": list(range(1, 14))}, elements="Zn")
