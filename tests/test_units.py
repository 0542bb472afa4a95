"""Scaled maps in any unit: a power of two changes no digit of a result, a power of ten only what rounding does."""

from __future__ import annotations

import numpy as np
import pytest

import recon
from recon.analysis.agreement import agreement
from recon.analysis.mask import mask
from recon.errors import JobError
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, strength_in, unit_of, volume_in

N, TILTS = 12, np.linspace(-60, 60, 7)
OPTIONS = {"data_term": "least-squares", "tolerance": 0.05}
METHODS = ("tgv", "tv", "none", "sirt", "fbp")
POWERS = np.arange(-30, 31)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """A small block with some noise, near 1."""
    z, y, x = np.meshgrid(*[np.arange(N) - (N - 1) / 2] * 3, indexing="ij")
    block = ((np.abs(z) < 3) & (np.abs(y + 1) < 3) & (np.abs(x) < 2)).astype(np.float32)
    stack = np.asarray(recon.project(block, recon.TiltGeometry.single_axis(TILTS, (N, N))))
    return (stack + np.random.default_rng(0).normal(0, 0.05, stack.shape)).astype(np.float32)


def prepared(maps, factor: float) -> TiltSeries:
    stack = (maps.astype(np.float64) * factor).astype(np.float32)
    return recon.normalise(TiltSeries.create({"A": stack}, TILTS, 2.0, scaled=True))


def strength(method: str, factor: float) -> float | str:
    return 1 / factor if method in ("tgv", "tv") else "auto"


@pytest.mark.parametrize("method", METHODS)
def test_a_power_of_two_changes_no_digit(maps, method):
    plain = recon.reconstruct(prepared(maps, 1.0), method, strength=strength(method, 1.0), **OPTIONS)["A"]
    for k in (-97, -40, -3, 17, 100):
        f = 2.0**k
        found = recon.reconstruct(prepared(maps, f), method, strength=strength(method, f), **OPTIONS)["A"]
        np.testing.assert_array_equal(found.values.astype(np.float64), plain.values.astype(np.float64) * f)
        assert found.made.iterations == plain.made.iterations
        assert found.made.objective == pytest.approx(plain.made.objective, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("method", ["sirt", "fbp"])
def test_sixty_powers_of_ten_of_the_baselines(maps, method):
    plain = recon.reconstruct(prepared(maps, 1.0), method)["A"].values
    for k in POWERS[::4]:
        found = recon.reconstruct(prepared(maps, 10.0**k), method)["A"].values / 10.0**k
        assert np.abs(found - plain).max() < 1e-4 * plain.max(), k


@pytest.mark.parametrize(("method", "half"), [("tgv", False), ("tgv", True), ("tv", False), ("none", False)])
def test_sixty_powers_of_ten_with_a_certificate(maps, method, half):
    plain = None
    for k in POWERS[:: 4 if method == "tv" else 5]:
        f = 10.0**k
        options = dict(OPTIONS, half_precision=half, strength=strength(method, f))
        if method == "none":  # without a regulariser a gap says less of where the volume is
            options["tolerance"] = 0.005
        volume = recon.reconstruct(prepared(maps, f), method, **options)["A"]
        assert volume.made.gap <= 0.05
        assert volume.made.parameters.a1 * f == pytest.approx(1.0) or method == "none"
        plain = volume.values / f if plain is None else plain
        assert np.abs(volume.values / f - plain).max() < 0.05 * plain.max(), k


def test_uncertainty_mask_and_agreement_in_any_unit(maps):
    results = []
    for f in (1.0, 2.0**-100, 2.0**40):
        series = prepared(maps, f)
        volumes = recon.reconstruct(series, "tv", strength=1 / f, **OPTIONS)
        spread = recon.uncertainty(series, volumes, 2, tolerance=0.05, max_iterations=100)["A"].sd
        agreed = agreement(series, series, volumes)
        results.append((spread / np.float32(f), mask(volumes), agreed.misfit, agreed.shifts))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert results[0][0].max() > 0


def test_the_automatic_strength_in_any_unit(maps):
    found = [recon.reconstruct(prepared(maps, f), "tv", **OPTIONS)["A"] for f in (1.0, 2.0**-90)]
    assert found[1].made.choice.strength == found[0].made.choice.strength * 2.0**90
    np.testing.assert_array_equal(found[1].values * np.float32(2.0**90), found[0].values)


def test_units_go_and_come_back(maps):
    series = prepared(maps, 1e-20)
    unit = unit_of(series)
    small = series_in(series, unit)
    assert np.frexp(unit)[0] == 0.5
    assert 64 <= np.abs(small.counts).max() < 128
    assert unit_of(small) == 1
    np.testing.assert_array_equal(series_in(small, 1 / unit).counts, series.counts)
    assert strength_in(strength_in(3.0, unit), 1 / unit) == 3
    counts = TiltSeries.create({"A": np.round(np.abs(maps) * 1e3)}, TILTS, 2.0)
    assert unit_of(counts) == 1  # counts are what they are
    volume = recon.reconstruct(series, "tv", strength=1e20, **OPTIONS)["A"]
    again = volume_in(volume_in(volume, unit), 1 / unit)
    np.testing.assert_array_equal(again.values, volume.values)
    assert again.made.parameters == volume.made.parameters


@pytest.mark.parametrize("a1", [1e30, 1e-30])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_strength_that_leaves_nothing_is_refused(maps, a1, scaled):
    stack = maps if scaled else np.round(np.maximum(maps, 0) * 20)
    series = TiltSeries.create({"A": stack}, TILTS, 2.0, scaled=scaled)
    with pytest.raises(JobError, match=r"strength of A is 1e[+-]30, and the noise of these maps asks for about"):
        recon.reconstruct(series, data_term="least-squares", strength=a1)
