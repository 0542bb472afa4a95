"""What a certified gap of 1e-2 means in truth, and whether the bounds that it takes hold: simulated particles.

    python benchmarks/certificate.py [--cases NAME ...] [--aside] [--output FILE]

Each case is one element of a simulated series with known alignment, exposures and background, reconstructed as
`recon.reconstruct` does, to a certified gap of 1e-2, and then on to the minimiser, to a gap of 1e-4 or 3000 iterations.
Printed: iterations with those on coarser grids; true relative error of the objective; distance of the volume from the
minimiser over the minimiser's norm; error against the truth over the minimiser's; and how far the minimiser is in terms
of the bounds that the certificate takes: the most by which its u is higher, over the largest u, and the norm of its w
over that of w. Up to 1 and 2 the gap is certain; beyond, it holds for as many times as much. With `--aside`, shapes,
seeds and doses that nothing was tuned on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from convergence import CASES as CONVERGENCE
from strength import ELEMENTS, PARTICLES, known

from recon.model.noise import automatic_strength
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1
from recon.simulate import Ellipsoid, Particle, random_particle, simulate
from recon.solvers.pdhg import PrimalDual

GAP, MINIMUM, MOST = 1e-2, 1e-4, 3000


def spots(rng: np.random.Generator) -> Particle:
    """A body, and in it three bright spots of about a voxel."""
    places = [tuple(float(v) for v in rng.uniform(-0.15, 0.15, 3)) for _ in range(3)]
    bright = [Ellipsoid((z, y, x), (0.02, 0.02, 0.02), (1.0, 8.0)) for z, y, x in places]
    return Particle(ELEMENTS, (Ellipsoid((0, 0, 0), (0.25, 0.30, 0.28), (1.0, 0.1)), *bright), {})


def shell(rng: np.random.Generator) -> Particle:
    """A shell of one to two voxels."""
    outer = Ellipsoid((0, 0, 0), (0.30, 0.32, 0.28), (0.0, 1.0))
    return Particle(ELEMENTS, (outer, Ellipsoid((0, 0, 0), (0.26, 0.28, 0.24), (1.0, 0.0))), {})


MADE = {**PARTICLES, "spots": spots, "shell": shell}
CASES: dict[str, dict] = {
    **{
        name: CONVERGENCE[name]
        for name in (
            "base",
            "0.1 x strength",
            "10 x strength",
            "1 count",
            "1000 counts",
            "7 tilts",
            "71 tilts",
            "least squares",
            "least squares, 1000 counts",
            "7 tilts, 1000 counts, 0.1 x",
            "slabs, 1000 counts",
            "porous, TV",
        )
    },
    "spots": {"particle": "spots"},
    "spots, 1000 counts, 0.1 x": {"particle": "spots", "dose": 1000.0, "strength": 0.1},
    "shell": {"particle": "shell"},
    "spheres, 5 counts, 24": {"particle": "spheres", "dose": 5.0, "size": 24},
    "none": {"particle": "spheres", "regulariser": "none"},
    "64": {"size": 64},
}
ASIDE: dict[str, dict] = {
    "gradient, seed 3": {"particle": "gradient", "seed": 3},
    "grains, 300 counts, 10 x, 40": {"particle": "grains", "dose": 300.0, "strength": 10.0, "size": 40, "seed": 2},
    "network, 5 counts, 7 tilts": {"particle": "network", "dose": 5.0, "tilts": 7, "seed": 4},
    "core-shell, TV, 0.1 x": {"particle": "core-shell", "regulariser": "tv", "strength": 0.1, "seed": 5},
    "porous, least squares, 71 tilts": {"particle": "porous", "data_term": "least-squares", "tilts": 71, "seed": 6},
    "spots, 300 counts, 48": {"particle": "spots", "dose": 300.0, "size": 48, "seed": 7},
    "shell, 5 counts, 3 x": {"particle": "shell", "dose": 5.0, "strength": 3.0, "seed": 8},
    "slabs, 2 counts, 7 tilts, 0.3 x": {"particle": "slabs", "dose": 2.0, "tilts": 7, "strength": 0.3, "seed": 9},
}


def measure(name: str, choice: dict) -> dict:
    case = {
        "particle": "two-metal", "tilts": 15, "dose": 40.0, "strength": 1.0, "data_term": "poisson",
        "regulariser": "tgv", "size": 32, "seed": 0, **choice,
    }  # fmt: skip
    size, seed, kind = case["size"], case["seed"], case["particle"]
    made = MADE.get(kind)
    particle = made(np.random.default_rng(seed)) if made else random_particle(kind, size, seed)
    tilts = np.linspace(-70, 70, case["tilts"])
    series, truth = simulate(particle, size=size, tilts_deg=tilts, dose=case["dose"], drift=size / 20, seed=seed)
    series = known(series, truth)
    element = series.elements[-1]
    true = truth.volumes[element].swapaxes(1, 2).astype(np.float64)
    a1 = case["strength"] * automatic_strength(series, element)
    problem = Problem.of(series, element, method=case["regulariser"], data_term=case["data_term"])
    solver = problem.coarse_to_fine(a1, A0_PER_A1 * a1, GAP)
    assert isinstance(solver, PrimalDual)
    found = solver.run(GAP, MOST)
    u, w = solver.u.copy(), float(np.linalg.norm(solver.w))
    further = solver.run(MINIMUM, MOST, check_every=100)
    best, least = solver.u.astype(np.float64), further.objective
    error = [float(np.linalg.norm(v - true)) for v in (u, best)]
    return {
        "case": name, **case, "iterations": found.iterations + solver.coarse_iterations, "gap": found.gap,
        "gap_of_minimiser": further.gap, "objective": (found.objective - least) / least,
        "distance": float(np.linalg.norm(u - best) / np.linalg.norm(best)), "error": error[0] / error[1],
        "reach_u": float((best - u).max() / u.max()), "reach_w": float(np.linalg.norm(solver.w)) / w if w else 0.0,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="what a certified gap means in truth")
    parser.add_argument("--aside", action="store_true")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    cases = ASIDE if args.aside else CASES
    output = args.output or Path(__file__).parent / "results" / f"certificate{'-aside' * args.aside}.json"
    print(f"{'case':>32} {'iterations':>10} {'objective':>10} {'distance':>9} {'error':>7} {'reach u':>8} {'w':>6}")
    rows = []
    for name in args.cases or cases:
        row = measure(name, cases[name])
        rows.append(row)
        print(
            f"{name:>32} {row['iterations']:10.0f} {row['objective']:10.1e} {row['distance']:9.2%} {row['error']:7.3f} "
            f"{row['reach_u']:8.2f} {row['reach_w']:6.2f}",
            flush=True,
        )
        output.write_text(json.dumps({"gap": GAP, "gap_of_minimiser": MINIMUM, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
