"""The strength that the data choose: what is split, what is kept, and how good it is on simulated particles."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from truth import known

from recon.files import from_json
from recon.geometry.tilt_geometry import TiltGeometry
from recon.job.duration import searched
from recon.job.file.sections import Reconstruct
from recon.model.noise import automatic_strength
from recon.operators import make_projector
from recon.reconstruction.problem import Problem
from recon.reconstruction.reconstruct import reconstruct
from recon.reconstruction.strength import (
    A0_PER_A1,
    FACTOR_LIMITS,
    OBJECTS,
    SEARCH,
    StrengthChoice,
    _least,
    _next,
    as_voxels_show,
    bright_counts,
    by_tilts,
    choose,
    held_out_error,
    kept_share,
    noise_and_model,
    thinned,
    weighed,
)
from recon.simulate import simulate
from recon.solvers.data_terms import Poisson


@pytest.fixture(scope="module")
def particle():
    series, truth = simulate(size=24, seed=0, drift=1.5)
    return known(series, truth), truth


@pytest.fixture(scope="module")
def chosen(particle):
    return choose(Problem.of(particle[0], "Zn"))


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
    again = choose(Problem.of(particle[0], "Zn"))
    assert again == chosen
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(chosen).items()}
    assert from_json(StrengthChoice, record, "it", "") == chosen
    assert chosen.split == "thinned counts"
    assert chosen.interval[0] < chosen.strength < chosen.interval[1]
    assert min(chosen.factors) < chosen.strength / chosen.unit < max(chosen.factors)
    assert chosen.iterations > 0


def test_the_choice_is_part_of_the_solution(particle, chosen):
    """The same strength given by hand makes the same volume, to the bit."""
    series, _ = particle
    volumes = reconstruct(series, strength={"Co": 1.0, "Zn": "auto"})
    assert volumes["Co"].solution.choice is None
    made = volumes["Zn"].solution
    assert made.choice == chosen
    assert made.parameters.a1 == pytest.approx(chosen.strength, rel=1e-6)
    assert made.parameters.a0 == pytest.approx(A0_PER_A1 * chosen.strength, rel=1e-6)
    by_hand = reconstruct(series, strength={"Co": 1.0, "Zn": chosen.strength})
    np.testing.assert_array_equal(volumes["Zn"].values, by_hand["Zn"].values)


def test_thinned_halves_are_independent_poisson_halves(particle):
    series, _ = particle
    e = series.index("Co")
    maps = np.full_like(series.counts, 0.25)
    series = series.evolve(background_maps=maps)
    a, b = thinned(series, "Co", 0.5, 0)
    np.testing.assert_array_equal(a.counts[e] + b.counts[e], series.counts[e])
    np.testing.assert_allclose(a.exposures + b.exposures, series.exposures, rtol=1e-6)
    np.testing.assert_allclose(a.offset(e) + b.offset(e), series.offset(e), rtol=1e-6)
    # given the sum n, the difference of the halves has mean 0 and variance n
    n = series.counts[e].astype(np.float64)
    difference = (a.counts[e] - b.counts[e])[n > 0] / np.sqrt(n[n > 0])
    assert abs(difference.mean()) < 4 / np.sqrt(difference.size)
    assert difference.var() == pytest.approx(1, abs=5 * np.sqrt(2 / difference.size))


def test_a_share_of_the_counts_is_kept_and_the_rest_is_held_out(particle):
    series, _ = particle
    e = series.index("Co")
    kept, held = thinned(series, "Co", 0.8, 0)
    np.testing.assert_array_equal(kept.counts[e] + held.counts[e], series.counts[e])
    np.testing.assert_allclose(kept.exposures, 0.8 * series.exposures)
    np.testing.assert_allclose(held.exposures, 0.2 * series.exposures)
    total = float(series.counts[e].sum())
    # binomial: five standard deviations
    assert kept.counts[e].sum() == pytest.approx(0.8 * total, abs=5 * np.sqrt(0.16 * total))


@pytest.mark.parametrize(("bright", "kept"), [(0.2, 0.1), (100, 50), (160, 110), (250, 200), (600, 200), (1e6, 200)])
def test_half_of_the_counts_is_held_out_but_fifty_in_a_bright_pixel_at_most(bright, kept):
    """And no more than 200 are reconstructed."""
    assert kept_share(bright) * bright == pytest.approx(kept)


def test_errors_of_the_model_count_as_noise_that_grows_with_the_counts():
    """A bright pixel of n counts has n of noise and n^2 / 50 of the model, its gradient that over n^2 for share 1."""
    for bright in (1.0, 50.0, 5000.0):
        for share in (0.2, 1.0):
            n = share * bright
            noise = 3 / bright**0.5  # of all
            assert noise_and_model(noise, bright, share) == pytest.approx(3 / bright * (n + n**2 / 50) ** 0.5)


def test_tilts_that_are_left_out_do_not_make_the_strength(particle):
    """They have no counts, which is not the same as noise of a fifth of a count."""
    series, _ = particle
    weights = np.ones(series.counts.shape[1:], np.float32)
    weights[1::2] = 0
    left_out = series.evolve(weights=weights)
    fewer = series.evolve(
        counts=series.counts[:, ::2], exposures=series.exposures[:, ::2], background=series.background[:, ::2],
        tilts_deg=series.tilts_deg[::2], alignment=replace(series.alignment, shifts=series.alignment.shifts[::2]),
    )  # fmt: skip
    assert automatic_strength(left_out, "Co") == pytest.approx(automatic_strength(fewer, "Co"))
    assert bright_counts(left_out, "Co") == pytest.approx(bright_counts(fewer, "Co"))
    for part in by_tilts(left_out, left_out.elements[0]):
        assert part.used.sum() in (series.n_tilts // 4, (series.n_tilts + 3) // 4)


def test_maps_that_are_no_counts_are_split_by_tilts(particle):
    series, _ = particle
    scaled = series.evolve(scaled=True)
    kept, held = by_tilts(scaled, scaled.elements[0])
    np.testing.assert_array_equal(np.flatnonzero(kept.used), np.arange(1, series.n_tilts, 2))
    np.testing.assert_array_equal(np.flatnonzero(held.used), np.arange(0, series.n_tilts, 2))
    choice = choose(Problem.of(scaled, "Zn", data_term="least-squares"))
    assert choice.split == "odd and even tilts"
    assert 1 / 4 < choice.strength / choice.unit < 4


def test_the_held_out_error_is_that_of_the_volume():
    """Fourier slice theorem: tilts all around and a smooth difference, so that nothing is lost; 2 % apart."""
    n, tilts = 32, np.arange(-90.0, 90.0, 3.0)
    z, x, y = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 3, indexing="ij")
    u = np.exp(-((z - 3) ** 2 + x**2 + (y + 2) ** 2) / 40)
    difference = np.exp(-(z**2 / 30 + (x + 2) ** 2 / 18 + y**2 / 25)) - 0.5 * np.exp(-(z**2 + (x - 5) ** 2 + y**2) / 20)
    like = np.zeros(1, np.float32)
    project = make_projector(TiltGeometry.single_axis(tilts, (n, n)), like)

    def stack(volume):
        return project(volume.astype(np.float32), np.empty(project.range_shape, np.float32))

    s = np.broadcast_to(np.linspace(0.4, 1.6, len(tilts))[:, None, None], project.range_shape).astype(np.float32)
    held = Poisson(s * stack(u) + np.float32(0.3), s, np.full_like(s, 0.3))
    shown = as_voxels_show(stack(u))
    # |k| over both signs, pixels of 1, and an angle of pi / tilts for each; the terms go with the exposures
    terms = held_out_error(held, shown + stack(difference)) / s[:, 0, :]
    assert 2 * np.pi / len(tilts) * terms.sum() == pytest.approx(np.sum(difference**2), rel=0.05)
    np.testing.assert_allclose(held_out_error(held, shown), 0, atol=1e-9)
    # pixels without exposure say nothing
    blind = replace(held, scale=np.zeros_like(s))
    assert not held_out_error(blind, shown).any()


def test_line_integrals_blurred_are_those_of_voxels():
    """Means over voxels are projected too smooth: as line integrals in closed form once they are blurred."""
    series, truth = simulate(size=24, dose=1e7, seed=0, drift=1.0)
    series = known(series, truth)
    for element in series.elements:
        problem = Problem.of(series, element)
        data = problem.data
        volume = np.ascontiguousarray(truth.volumes[element].swapaxes(1, 2))
        projection = problem.operator(volume, np.empty(problem.operator.range_shape, np.float32))
        assert (data.scale > 0).mean() > 0.9
        scale = np.where(data.scale > 0, data.scale, 1)
        recorded = np.where(data.scale > 0, (data.counts - data.offset) / scale, projection)
        off = [np.linalg.norm(r - projection) for r in (recorded, as_voxels_show(recorded))]
        assert off[1] < 0.7 * off[0]


def test_what_means_over_voxels_lose():
    """``1 - (1 - cos k) / 4`` at a frequency k; totals stay."""
    i = np.arange(64)
    for axis, k in ((1, 0.3), (2, 0.8)):
        wave = np.cos(k * i).astype(np.float32)
        p = np.broadcast_to(wave[None, :, None] if axis == 1 else wave[None, None, :], (2, 64, 64)).copy()
        blurred = as_voxels_show(p)
        inner = (slice(None),) + (slice(1, -1),) * 2
        np.testing.assert_allclose(blurred[inner], p[inner] * (1 - (1 - np.cos(k)) / 4), atol=1e-6)
        assert blurred.sum() == pytest.approx(p.sum(), abs=1e-2)


def test_at_many_counts_the_strength_no_longer_falls():
    """Relative to the signal, which an a1 is to the gradient of a data term that grows with the dose."""
    choices = []
    for dose in (3000, 100_000, 10_000_000):
        series, truth = simulate(size=24, dose=dose, seed=0, drift=1.0)
        problem = Problem.of(known(series, truth), "Co")
        choices.append(choose(problem))
        bright = bright_counts(problem.series, "Co")
        assert bright > 1000
        unit = automatic_strength(problem.series, "Co")
        assert choices[-1].unit == pytest.approx(unit * (1 + bright / 50) ** 0.5)
    strengths = [c.strength for c in choices]
    # the noise that is left after thinning is all that makes them differ
    assert max(strengths) <= 1.3 * min(strengths)
    assert [c.split for c in choices] == ["thinned counts"] * 3


def test_a_search_ends_when_asked(particle):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 10

    assert choose(Problem.of(particle[0], "Zn"), stop=stop) is None
    assert len(asked) == 11


def test_what_is_found_is_weighed_against_the_rule():
    """As two measurements are, by inverse variances; the more counts, the less the rule has to say."""
    for found in (0.3, 0.7, 2.0):
        mean = (np.log(found) / SEARCH**2 + np.log(1.0) / OBJECTS**2) / (1 / SEARCH**2 + 1 / OBJECTS**2)
        assert np.log(weighed(found, 0.0)) == pytest.approx(mean)
        off = [abs(np.log(weighed(found, bright) / found)) for bright in (1.0, 50.0, 1000.0, np.inf)]
        assert off == sorted(off, reverse=True)
        assert off[-1] == 0


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


def test_the_search_goes_downhill_until_the_least_has_neighbours():
    errors = {2.0: 5.0}
    assert _next(errors) == 1.0
    assert _next(errors | {1.0: 6.0}) == 4.0
    assert _next(errors | {1.0: 4.0}) == 0.5
    assert _next(errors | {1.0: 4.0, 0.5: 4.5}) is None
    assert _next({FACTOR_LIMITS[0]: 1.0, 2 * FACTOR_LIMITS[0]: 2.0}) is None
    assert _next({FACTOR_LIMITS[1]: 1.0, FACTOR_LIMITS[1] / 2: 2.0}) is None


@pytest.mark.parametrize(
    ("options", "searches"),
    [({}, 3), ({"strength": 0.5}, 0), ({"strength": {"Co": 1.0}}, 2), ({"method": "tv"}, 3), ({"method": "sirt"}, 0)],
)
def test_the_forecast_of_time_counts_the_searches(options, searches):
    assert searched(Reconstruct(**options), 3) == searches
