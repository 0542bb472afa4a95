"""Fourier shell correlation against what is known of it: a signal, independent noise, and counts divided in two."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import recon
from recon.analysis.halves import halves
from recon.analysis.resolution import resolution, shell_correlation
from recon.errors import InputError
from recon.reconstruction.strength import thinned
from recon.simulate import simulate


def test_signal_and_noise_of_known_power():
    """White signal and white noise of powers S and N correlate by S / (S + N) in every shell and direction."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(36, 40, 38))
    pair = [(signal + 0.7 * rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2)]
    found = shell_correlation(*pair)
    expected = 1 / (1 + 0.7**2)
    assert found.frequency[-1] == 0.5
    np.testing.assert_allclose(found.whole[6:], expected, atol=0.06)
    assert np.mean(found.axis[8:]) == pytest.approx(expected, abs=0.05)
    assert np.mean(found.along[8:]) == pytest.approx(expected, abs=0.05)
    assert np.mean(found.across[8:]) == pytest.approx(expected, abs=0.05)
    np.testing.assert_allclose(shell_correlation(pair[0], pair[0]).whole, 1)


def test_every_frequency_is_counted_once():
    """Against the definition, frequency by frequency, on a volume with three different sides."""
    rng = np.random.default_rng(2)
    pair = [rng.normal(size=(6, 9, 8)).astype(np.float32) for _ in range(2)]
    a, b = (np.fft.fftn(v) for v in pair)
    sums = {name: np.zeros((3, 4)) for name in ("whole", "along", "axis", "across")}
    for at in np.ndindex(6, 9, 8):
        f = np.array([np.fft.fftfreq(n)[i] for n, i in zip((6, 9, 8), at, strict=True)])
        radius = np.linalg.norm(f)
        shell = round(radius * 6)
        if not 0 < shell <= 3:
            continue
        for name, k in (("whole", None), ("along", 0), ("axis", 1), ("across", 2)):
            if k is None or np.degrees(np.arccos(min(1, abs(f[k]) / radius))) <= 30:
                sums[name][:, shell] += [(a[at] * np.conj(b[at])).real, abs(a[at]) ** 2, abs(b[at]) ** 2]
    found = shell_correlation(*pair)
    assert found.frequency == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    for name, (cross, one, other) in sums.items():
        np.testing.assert_allclose(getattr(found, name), (cross / np.sqrt(one * other))[1:], rtol=1e-4, atol=1e-5)


def test_blur_along_the_beam_shows_along_the_beam():
    """A signal that a Gaussian cuts off along z loses its correlation there where noise overtakes it."""
    rng = np.random.default_rng(1)
    sigma, noise = 1.5, 0.05
    signal = ndimage.gaussian_filter1d(rng.normal(size=(48, 48, 48)), sigma, axis=0, mode="wrap")
    pair = [(signal + noise * rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2)]
    found = shell_correlation(*pair, voxel_size_nm=2.0)
    # power exp(-(2 pi f sigma)^2) over noise^2 is THRESHOLD / (1 - THRESHOLD) at f; in the cone f_z is f cos(15) or so
    f = np.sqrt(-np.log(noise**2 * 0.143 / 0.857)) / (2 * np.pi * sigma)
    assert found.resolution_nm("along") == pytest.approx(2.0 / f, rel=0.15)
    assert found.resolution_nm("across") == 4.0  # never: all that there is
    assert found.resolution_nm() < found.resolution_nm("along")


def test_halves_of_counts():
    series, _ = simulate(size=16, seed=2, drift=0, rotation_deg=0, axis_offset=0, dose=200)
    volumes = recon.reconstruct(series, "tv", strength=0.5, tolerance=0.1)
    found = resolution(series, volumes, device="cpu")
    assert set(found) == {"Co", "Zn"}
    assert found["Co"].whole[0] > 0.9
    assert found["Co"].resolution_nm() < 8 * series.pixel_size_nm
    assert found["Co"].whole[-1] < found["Co"].whole[0]
    with pytest.raises(InputError, match="scaled"):
        resolution(series.evolve(scaled=True), volumes)


def test_halves_are_independent_and_in_the_unit_of_the_whole():
    """Counts of both halves add up to all; each half's volume holds what the whole holds."""
    series, _ = simulate(size=16, seed=2, drift=0, rotation_deg=0, axis_offset=0, dose=100)
    one, other = thinned(series, "Zn", 0.5, 0)
    assert np.array_equal(one.counts[1] + other.counts[1], series.counts[1])
    excess = np.sum((one.counts[1] - other.counts[1]) ** 2) / np.sum(series.counts[1])
    assert excess == pytest.approx(1, abs=0.1)  # the difference of independent Poisson halves has the sum's variance
    volumes = recon.reconstruct(series, "sirt", max_iterations=20)
    found = halves(series, volumes, device="cpu")
    for half in (found.first, found.second):
        for name, volume in half.items():
            assert volume.values.sum() == pytest.approx(volumes[name].values.sum(), rel=0.03)


def test_wrong_input_is_one_line():
    with pytest.raises(InputError, match="must be the same"):
        shell_correlation(np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 5), np.float32))
