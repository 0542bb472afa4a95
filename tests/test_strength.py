"""The strength that the data choose: what is split, what is kept, and how good it is on simulated particles."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from test_stages import known

from recon.problem import Problem, noise_weights
from recon.reconstruct import reconstruct
from recon.simulate import simulate
from recon.strength import A0_PER_A1, StrengthChoice, _least, _split, automatic_strength, choose


@pytest.fixture(scope="module")
def particle():
    series, truth = simulate(size=24, seed=0, drift=1.5)
    return known(series, truth), truth


@pytest.fixture(scope="module")
def chosen(particle):
    return choose(Problem.of(particle[0], "Zn"), "tgv")


def error(volume, truth):
    return float(np.linalg.norm(volume.values - truth) / np.linalg.norm(truth))


def test_the_strength_found_is_close_to_the_best(particle, chosen):
    """Error 1.065 times the least among strengths a factor of 1.4 apart; so few voxels hardly hold its details."""
    series, truth = particle
    unit = automatic_strength(series, "Zn")
    one = replace(series, elements=("Zn",), counts=series.counts[1:], exposures=series.exposures[1:],
                  background=series.background[1:])  # fmt: skip
    errors = [
        error(reconstruct(one, strength=a1)["Zn"], truth.volumes["Zn"])
        for a1 in (chosen.strength, *(unit * 2.0 ** np.arange(-2, 2.5, 0.5)))
    ]
    assert errors[0] <= 1.1 * min(errors)


def test_a_choice_is_repeatable_and_survives_json(particle, chosen):
    again = choose(Problem.of(particle[0], "Zn"), "tgv")
    assert again == chosen
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(chosen).items()}
    assert StrengthChoice.of(record) == chosen
    assert chosen.split == "thinned counts"
    assert chosen.interval[0] < chosen.strength < chosen.interval[1]
    assert min(chosen.factors) < chosen.strength / chosen.unit < max(chosen.factors)
    assert chosen.iterations > 0


def test_the_choice_is_part_of_the_solution(particle, chosen):
    """The same strength given by hand makes the same volume, to the bit."""
    series, _ = particle
    volumes = reconstruct(series, strength={"Co": 1.0, "Zn": "auto"})
    assert "strength_choice" not in volumes["Co"].solution.parameters
    made = volumes["Zn"].solution.parameters
    assert StrengthChoice.of(made["strength_choice"]) == chosen
    assert made["a1"] == pytest.approx(chosen.strength, rel=1e-6)
    assert made["a0"] == pytest.approx(A0_PER_A1 * chosen.strength, rel=1e-6)
    by_hand = reconstruct(series, strength={"Co": 1.0, "Zn": chosen.strength})
    np.testing.assert_array_equal(volumes["Zn"].values, by_hand["Zn"].values)


def test_thinned_halves_are_independent_poisson_halves(particle):
    data = Problem.of(particle[0], "Co").data
    pairs, what = _split(data, 0)
    (a, b), (c, d) = pairs
    assert what == "thinned counts"
    np.testing.assert_array_equal(a.counts + b.counts, data.counts)
    np.testing.assert_array_equal(a.counts, d.counts)
    np.testing.assert_array_equal(b.counts, c.counts)
    np.testing.assert_allclose(a.scale + b.scale, data.scale, rtol=1e-6)
    np.testing.assert_allclose(a.offset + b.offset, data.offset, rtol=1e-6)
    # given the sum n, the difference of the halves has mean 0 and variance n
    n = data.counts.astype(np.float64)
    difference = (a.counts - b.counts)[n > 0] / np.sqrt(n[n > 0])
    assert abs(difference.mean()) < 4 / np.sqrt(difference.size)
    assert difference.var() == pytest.approx(1, abs=5 * np.sqrt(2 / difference.size))


def test_maps_that_are_no_counts_are_split_by_tilts(particle):
    series, _ = particle
    scaled = series.evolve(scaled=True)
    problem = Problem.of(scaled, "Zn", data_term="least-squares")
    (kept, held), (other, _) = _split(problem.data, 0)[0]
    used = [np.flatnonzero(d.scale.any(axis=(1, 2))) for d in (kept, held, other)]
    np.testing.assert_array_equal(used[0], np.arange(1, series.n_tilts, 2))
    np.testing.assert_array_equal(used[1], np.arange(0, series.n_tilts, 2))
    np.testing.assert_array_equal(used[2], used[1])
    choice = choose(problem, "tgv")
    assert choice.split == "odd and even tilts"
    assert 1 / 4 < choice.strength / choice.unit < 4


def test_beyond_fifty_counts_the_strength_no_longer_falls():
    """Relative to the signal, which an a1 is to the gradient of a data term that grows with the dose."""
    choices = []
    for dose in (100, 10_000, 10_000_000):
        series, truth = simulate(size=24, dose=dose, seed=0, drift=1.0)
        problem = Problem.of(known(series, truth), "Co")
        choices.append(choose(problem, "tgv"))
        bright = float(np.median(1 / noise_weights(problem.series, "Co")))
        unit = automatic_strength(problem.series, "Co")
        assert choices[-1].unit == pytest.approx(unit * max(1, bright / 50) ** 0.5)
    strengths = [c.strength for c in choices]
    # the noise that is left after thinning is all that makes them differ
    assert max(strengths) <= 1.3 * min(strengths)
    assert [c.split for c in choices] == ["thinned counts"] * 3


def test_a_search_ends_when_asked(particle):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 10

    assert choose(Problem.of(particle[0], "Zn"), "tgv", stop=stop) is None
    assert len(asked) == 11


def test_the_least_of_a_parabola():
    """Exact for a parabola in the logarithm; its error is that of the slope over the curvature."""
    factors = np.array([0.25, 0.5, 1.0, 2.0])
    x = np.log(factors)
    rng = np.random.default_rng(0)
    pixels, least = 1000, np.log(0.8)
    slopes = rng.normal(0, 0.5, pixels)
    terms = 3.0 * (x[:, None] - least) ** 2 + slopes * (x[:, None] - least)
    factor, (low, high) = _least(factors, terms)
    exact = least - slopes.mean() / 6
    assert np.log(factor) == pytest.approx(exact, abs=1e-9)
    deviation = np.sqrt(np.sum((slopes - slopes.mean()) ** 2)) / (2 * 3.0 * pixels)
    assert np.log(high / factor) == pytest.approx(deviation, rel=1e-6)
    assert np.log(factor / low) == pytest.approx(deviation, rel=1e-6)


def test_a_least_at_the_end_of_what_was_tried():
    factors = np.array([0.5, 1.0, 2.0])
    assert _least(factors, np.array([[1.0], [2.0], [3.0]])) == (0.5, (0.5, 0.5))
