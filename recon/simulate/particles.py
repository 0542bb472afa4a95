"""Random particles of several kinds, each with places whose composition is known: something to be judged by.

Two elements, A and B, of pure densities 1 and `B_DENSITY`. Places to ask about are ellipsoids of A's domain that lie
in B's, or reach into it; B is absent in some and mixed in, to a known part, in others. Sizes of these places are
given in voxels, so that they mean the same at every size of the volume; bodies are fractions of its edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recon.errors import JobError
from recon.simulate.series import Ellipsoid, Particle

ELEMENTS = ("A", "B")
B_DENSITY = 0.8
APART = 0.5  # voxels at least between two places
Vector = tuple[float, float, float]
Content = tuple[float, ...]

PURE_A, PURE_B, VOID = (1.0, 0.0), (0.0, B_DENSITY), (0.0, 0.0)
WEAK = 0.3125  # of B's density, in particles where it gives a quarter of A's counts
MIXED = 0.5  # part of pure B in places where both are


def blend(of_b: float) -> Content:
    """The densities of a mixture with a part `of_b` of pure B, and the rest of A."""
    return 1 - of_b, of_b * B_DENSITY


def random_particle(kind: str, size: int, seed: int, across: tuple[float, float] = (6.0, 8.0)) -> Particle:
    """A particle of a kind.

    Args:
        kind: one of `KINDS`.
        size: voxels along an edge of the volume that it will be simulated on.
        seed: the same seed gives the same particle.
        across: least and largest width of a place to ask about, voxels.

    Returns:
        Its `regions` are the places, as painted: ``absent-1`` and so on hold A alone, ``mixed-1`` both.

    Raises:
        JobError: a kind that does not exist.
    """
    if kind not in KINDS:
        raise JobError(f"there is no kind of particle {kind!r}; use one of {', '.join(KINDS)}")
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    return KINDS[kind](rng, size, across)


def inclusions(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """A large body of B with inclusions of A, and a body of A beside it; finer inclusions that nobody asks about."""
    axes = rng.uniform(0.27, 0.33, 3)
    body = Ellipsoid((0.0, 0.0, 0.05), _vector(axes), PURE_B, _turn(rng))
    side = Ellipsoid(
        (0.0, 0.02, -0.25), _vector(rng.uniform([0.20, 0.20, 0.13], [0.26, 0.28, 0.17])), PURE_A, _turn(rng)
    )
    places = _scatter(rng, size, across, 2, [(body, 0.93), (side, -1.15)])
    fine = _scatter(rng, size, (2.0, 3.0), 3, [(body, 0.95), (side, -1.1)], beside=places)
    shapes = [side, body, *(replace(f, density=PURE_A) for f in fine)]
    return _asked(shapes, places)


def protrusions(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """Two interlocked bodies; fingers of A's reach into B's, B is absent in one and mixed into the other."""
    tilt = rng.uniform(-15, 15, 3)
    b = Ellipsoid(
        (0.0, 0.02, 0.10), _vector(rng.uniform([0.24, 0.27, 0.19], [0.28, 0.32, 0.23])), PURE_B, _vector(tilt)
    )
    a = Ellipsoid((0.0, -0.02, -0.14), _vector(rng.uniform([0.23, 0.25, 0.15], [0.27, 0.30, 0.19])), PURE_A, _turn(rng))
    places = []
    for side in (-1, 1):
        r = rng.uniform(*across) / 2 / size
        centre = (
            float(rng.uniform(-0.05, 0.05)),
            side * (r + float(rng.uniform(0.018, 0.03))),
            float(rng.uniform(0.05, 0.08)),
        )
        places.append(
            Ellipsoid(centre, (r, r, float(rng.uniform(0.12, 0.15))), VOID, (0.0, 0.0, float(rng.uniform(-12, 12))))
        )
    return _asked([b, a], places)


def core_shell(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """A core of A in a shell of B with two gaps, through which the core reaches outwards."""
    turn = _turn(rng)
    outer, inner = rng.uniform(0.31, 0.35, 3), rng.uniform(0.15, 0.18, 3)
    shell = Ellipsoid((0.0, 0.0, 0.0), _vector(outer), PURE_B, turn)
    core = Ellipsoid((0.0, 0.0, 0.0), _vector(inner), PURE_A, turn)
    first = rng.normal(size=3)
    first /= np.linalg.norm(first)
    places = []
    for direction in (first, -first + rng.normal(scale=0.3, size=3)):
        direction = direction / np.linalg.norm(direction)
        r = rng.uniform(*across) / 2 / size
        reach = float(np.mean(outer) + np.mean(inner)) / 2
        places.append(Ellipsoid(_vector(direction * reach), (r, r, r), VOID))
    return _asked([shell, core], places)


def network(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """Bars of A through a body of B, with knots on them; a void in between."""
    body = Ellipsoid((0.0, 0.0, 0.0), _vector(rng.uniform(0.31, 0.35, 3)), PURE_B, _turn(rng))
    thin = rng.uniform(2.5, 3.5) / 2 / size
    bars = []
    for axis in range(3):
        axes, centre = np.full(3, thin), rng.uniform(-0.08, 0.08, 3)
        axes[axis], centre[axis] = 0.27, 0.0
        bars.append(Ellipsoid(_vector(centre), _vector(axes), PURE_A, _vector(rng.uniform(-10, 10, 3))))
    heart = Ellipsoid(_vector(rng.uniform(-0.02, 0.02, 3)), _vector(rng.uniform(0.07, 0.09, 3)), PURE_A)
    places = _scatter(rng, size, across, 2, [(body, 0.95)], beside=[heart])
    void = _scatter(rng, size, (3.0, 4.0), 1, [(body, 0.93)], beside=[heart, *places])
    return _asked([body, *bars, *void, heart], places)


def grains(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """Several grains of both elements against each other, with places inside those of B."""
    shapes: list[Ellipsoid] = []
    hosts = []
    for k in range(4):
        angle = np.pi / 2 * k + rng.uniform(-0.3, 0.3)
        centre = (float(rng.uniform(-0.06, 0.06)), 0.17 * float(np.sin(angle)), 0.17 * float(np.cos(angle)))
        grain = Ellipsoid(centre, _vector(rng.uniform(0.16, 0.21, 3)), PURE_B if k % 2 == 0 else PURE_A, _turn(rng))
        shapes.append(grain)
        if k % 2 == 0:
            hosts.append(grain)
    shapes = shapes[1::2] + hosts
    places = [_scatter(rng, size, across, 1, [(host, 0.97)])[0] for host in hosts]
    return _asked(shapes, places)


def rods(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """A body of B with two parallel rods of A in it, twice as long as they are wide, and a cap of A above it."""
    body = Ellipsoid(
        (0.03, 0.0, 0.0), _vector(rng.uniform([0.24, 0.3, 0.3], [0.28, 0.34, 0.34])), PURE_B, _turn(rng, 15)
    )
    cap = Ellipsoid(
        (-0.24, 0.0, 0.0), _vector(rng.uniform([0.1, 0.2, 0.2], [0.13, 0.25, 0.25])), PURE_A, _turn(rng, 15)
    )
    turn, places = _turn(rng), []
    for side in (-1, 1):
        r = rng.uniform(*across) / 2 / size
        centre = (
            float(rng.uniform(0.05, 0.09)),
            float(rng.uniform(-0.04, 0.04)),
            side * float(rng.uniform(0.13, 0.16)),
        )
        places.append(Ellipsoid(centre, (r, 1.8 * r, r), VOID, (0.3 * turn[0], 0.3 * turn[1], turn[2])))
    return _asked([body, cap], places)


def unequal(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """As `inclusions`, but a pure phase of B gives a quarter of the counts that one of A does."""
    of_a = inclusions(rng, size, across)

    def weak(shape: Ellipsoid) -> Ellipsoid:
        a, b = shape.density
        return replace(shape, density=(a, b * WEAK))

    return Particle(ELEMENTS, tuple(map(weak, of_a.shapes)), {n: weak(s) for n, s in of_a.regions.items()})


def plain(rng: np.random.Generator, size: int, across: tuple[float, float]) -> Particle:
    """Two bodies side by side, neither of which reaches into the other: there is nothing to find."""
    del size, across
    a = Ellipsoid((0.0, 0.0, -0.15), _vector(rng.uniform([0.24, 0.24, 0.14], [0.3, 0.3, 0.18])), PURE_A, _turn(rng, 10))
    b = Ellipsoid((0.0, 0.0, 0.13), _vector(rng.uniform([0.24, 0.24, 0.17], [0.3, 0.3, 0.2])), PURE_B, _turn(rng, 10))
    return Particle(ELEMENTS, (a, b), {})


KINDS: dict[str, Callable[[np.random.Generator, int, tuple[float, float]], Particle]] = {
    "inclusions": inclusions,
    "protrusions": protrusions,
    "core-shell": core_shell,
    "network": network,
    "grains": grains,
    "plain": plain,
    "rods": rods,
    "unequal": unequal,
}


def _asked(shapes: list[Ellipsoid], places: list[Ellipsoid]) -> Particle:
    """The particle with these places painted last, A alone and mixed by turns."""
    regions, painted = {}, list(shapes)
    for k, place in enumerate(places):
        name, content = (f"absent-{k // 2 + 1}", PURE_A) if k % 2 == 0 else (f"mixed-{k // 2 + 1}", blend(MIXED))
        regions[name] = replace(place, density=content)
        painted.append(regions[name])
    return Particle(ELEMENTS, tuple(painted), regions)


def _scatter(
    rng: np.random.Generator, size: int, across: tuple[float, float], n: int, hosts: list[tuple[Ellipsoid, float]],
    beside: list[Ellipsoid] | None = None,
) -> list[Ellipsoid]:  # fmt: skip
    """`n` near-spheres that lie within a positive part of their hosts, outside a negative part, and apart."""
    found: list[Ellipsoid] = []
    for _ in range(20000):
        r = rng.uniform(*across) / 2 / size
        axes = r * rng.uniform(0.9, 1.1, 3)
        centre = rng.uniform(-0.33, 0.33, 3)
        place = Ellipsoid(_vector(centre), _vector(axes), VOID, _turn(rng))
        good = all(_within(place, host, part) for host, part in hosts)
        gap = max(axes) + APART / size
        if good and all(_far(other, centre, gap + max(other.semi_axes)) for other in [*found, *(beside or [])]):
            found.append(place)
            if len(found) == n:
                break
    return found


def _within(place: Ellipsoid, host: Ellipsoid, part: float) -> bool:
    directions = np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)], dtype=float) - 1
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    points = np.array(place.centre) + max(place.semi_axes) * directions - np.array(host.centre)
    value = np.sqrt(np.einsum("pi,ij,pj->p", points, host.form(), points))
    return bool((value < part).all() if part > 0 else (value > -part).all())


def _far(place: Ellipsoid, centre: object, gap: float) -> bool:
    return bool(np.linalg.norm(np.array(place.centre) - np.asarray(centre)) > gap)


def _vector(a: object) -> Vector:
    z, y, x = (float(v) for v in np.asarray(a))
    return z, y, x


def _turn(rng: np.random.Generator, most: float = 40.0) -> Vector:
    return _vector(rng.uniform(-most, most, 3))
