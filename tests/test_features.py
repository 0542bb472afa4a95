"""Places that touch: what `recon.features` makes of knots on a network, of fingers side by side, of plain borders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, special

import recon
from recon.analysis.features import PRESENT, _depths, _joint, _opened
from recon.series.volume import Volume
from recon.simulate import random_particle


def shown(densities, seed=0):
    """Volumes as a reconstruction shows them: blurred, with noise of a few voxels' extent."""
    random, out = np.random.default_rng(seed), {}
    for n, v in densities.items():
        grain = ndimage.gaussian_filter(random.normal(size=v.shape), 1.0)
        seen = ndimage.gaussian_filter(v, 0.7)
        noise = 0.06 * v.max() * grain / grain.std() * (seen > 0.02)
        out[n] = Volume(np.maximum(seen + noise, 0).astype(np.float32), 1.0, n)
    return out


def of_kind(kind, seed, size=32):
    particle = random_particle(kind, size, seed)
    painted = {n: particle.inside(n, size) for n in particle.regions}
    return shown(dict(zip(particle.elements, particle.volume(size), strict=True)), seed), painted


def likeness(feature, painted):
    return 2 * float(feature.fraction[painted].sum()) / float(feature.size + painted.sum())


@pytest.mark.parametrize(("kind", "seed"), [("network", 1002), ("protrusions", 1000), ("grains", 1009)])
def test_places_that_touch_are_found_apart(kind, seed):
    """Knots joined to a network's heart, two fingers with little between them, a place beside another grain."""
    volumes, painted = of_kind(kind, seed)
    found = recon.features(volumes)
    best = {n: max(found, key=lambda f: likeness(found[f], there)) for n, there in painted.items()}
    assert len(set(best.values())) == len(painted) == 2
    for name, there in painted.items():
        assert likeness(found[best[name]], there) > 0.6


def balls_in_a_host(*balls):
    """Balls of A in a large one of B: where they lie along the last axis, radius, part of B mixed in."""
    z, y, x = np.mgrid[:32, :32, :32] - 15.5
    a, painted = np.zeros(z.shape, np.float32), []
    b = (z * z + y * y + x * x < 144).astype(np.float32)
    for at, radius, of_b in balls:
        painted.append(z * z + y * y + (x - at) ** 2 < radius * radius)
        a, b = np.where(painted[-1], 1 - of_b, a), np.where(painted[-1], of_b, b)
    return shown({"A": a, "B": b}), painted


def test_a_mixture_grown_together_with_a_pure_place_is_told_apart():
    """There is no neck between the two: what they hold tells them apart."""
    volumes, (_, mixed) = balls_in_a_host((-2, 3.6, 0), (3, 3.4, 0.5))
    (found,) = recon.features(volumes).values()
    assert likeness(found, mixed) > 0.6


def test_the_body_of_a_network_is_its_heart_though_a_knot_is_larger():
    volumes, (*knots, heart) = balls_in_a_host((-6, 3.8, 0), (6, 3.8, 0), (0, 2.9, 0))
    found = recon.features(volumes).values()
    assert all(max(likeness(f, k) for f in found) > 0.6 for k in knots)
    assert max(likeness(f, heart) for f in found) < 0.1


@pytest.mark.parametrize("seed", [3117, 3203])
def test_a_finger_that_sticks_half_out_of_its_host_is_found(seed):
    volumes, painted = of_kind("protrusions", seed)
    found = recon.features(volumes).values()
    assert all(max(likeness(f, there) for f in found) > 0.5 for there in painted.values())


@pytest.mark.parametrize("seed", [3200, 3203])
def test_a_grain_between_two_others_is_no_place(seed):
    """Nor is what is left of it when a mixture in it is told apart."""
    volumes, _ = of_kind("grains", seed)
    assert {f.element for f in recon.features(volumes).values()} == {"A"}


def test_a_dent_of_the_rest_is_no_place():
    """Bars of A through B: B between the bars lies in A's dents, but B goes on around it."""
    volumes, _ = of_kind("network", 1031, 48)
    assert {f.element for f in recon.features(volumes).values()} == {"A"}


@pytest.mark.parametrize("seed", [1010, 1011, 1012])
def test_two_bodies_side_by_side_hold_no_place(seed):
    volumes, _ = of_kind("plain", seed)
    assert recon.features(volumes) == {}


def test_depths_are_known_to_a_part_of_a_voxel():
    """Balls whose radii differ by a fifth of a voxel: whole voxels do not know one from the other."""
    z, y, x = np.mgrid[:20, :20, :20] - 9.5
    distance = np.sqrt(z * z + y * y + x * x)
    for radius in np.arange(5.0, 6.0, 0.2):
        own = special.expit(2 * (radius - distance) + special.logit(PRESENT)).astype(np.float32)
        domain = own > PRESENT
        error = _depths(own, domain) - (radius - distance)
        assert abs(np.median(error[distance < radius - 1])) < 0.1
        assert np.sqrt(np.mean(np.square(error[distance < radius - 1]))) < 0.25
        assert not _depths(own, domain)[~domain].any()


def test_how_much_of_a_border_is_a_joint():
    """A cube of 5 voxels on a slab: one of its six faces; inside the slab: all of them."""
    domain = np.zeros((20, 20, 20), bool)
    domain[:8] = True
    cube = np.zeros_like(domain)
    cube[8:13, 6:11, 6:11] = True
    assert _joint(cube, domain | cube) == pytest.approx(1 / 6)
    buried = np.zeros_like(domain)
    buried[2:7, 6:11, 6:11] = True
    assert _joint(buried, domain) == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_has_places_too(axis):
    """A square of A in the half of a disk that is B, in one slice of any direction."""
    y, x = np.mgrid[:40, :40] - 19.5
    disk, a = y * y + x * x < 300, x < -4
    a[18:23, 23:28] = True
    both = {n: np.expand_dims((disk & there).astype(np.float32), axis) for n, there in (("A", a), ("B", ~a))}
    found = recon.features({n: Volume(v, 1.0, n) for n, v in both.items()})
    assert [(name, f.kind) for name, f in found.items()] == [("A in B 1", "inclusion")]
    assert found["A in B 1"].size == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("radius", [0.5, 0.85, 1.0, 1.1, 2**0.5, 1.5, 3**0.5, 1.9, 2.0, 2.4])
def test_opening_is_what_distances_say(radius):
    """Small balls are neighbours of a voxel, larger ones distances: both against distances twice over."""
    random = np.random.default_rng(0)
    for shape in ((9, 8, 7), (1, 9, 8), (6, 1, 1)):
        domain = ndimage.gaussian_filter(random.normal(size=shape), 0.8) > 0
        domain.flat[0] = False
        deep = ndimage.distance_transform_edt(domain)
        expected = (ndimage.distance_transform_edt(~(deep > radius)) <= radius) & domain if (deep > radius).any() else 0
        np.testing.assert_array_equal(_opened(domain, radius), np.broadcast_to(expected, shape))
