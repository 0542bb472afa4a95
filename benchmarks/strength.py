"""How good is ``strength = "auto"``: its error against that of the best strength, on simulated particles.

    python benchmarks/strength.py [--size 32] [--rows N] [--doses 1 5 40 300 1000] [--particles ...] [--seed 0]
                                  [--tilts N] [--slices N] [--curves FILE] [--output FILE]

Six particles of two elements each, at several doses, alignment, exposures and background known: what is left is
the strength. Every element is reconstructed (TGV, Poisson) at multiples (`CONSTANTS`) of the noise rule
(`automatic_strength`) and at what the search finds (`choose`). Printed: for each dose and element the error of every
multiple and of the choice over the least error, and what the choice cost in reconstructions; then medians and worst.
`--particles` takes kinds of `recon.simulate` as well, large bodies with small inclusions among them. With `--rows` only
so many rows in the middle of the maps and of the volume are taken, of a particle that has not drifted: large frames at
the cost of small ones, but the search has fewer counts to go by. With `--slices` the search has so many slices in
the middle of the volume, as it has of tall ones. With `--curves`, errors at the multiples are those of
earlier results, of the same cells and solver, and only the search and the reconstruction at its choice run. The file
is written after each particle, so that a run may be stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recon.model.noise import STRENGTH_PER_NOISE, automatic_strength
from recon.reconstruction import strength as search
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1, choose
from recon.series.tilt_series import TiltSeries
from recon.simulate import KINDS, Ellipsoid, Particle, Truth, random_particle, simulate, two_metal_particle
from recon.solvers import Status

ELEMENTS = ("A", "B")
CONSTANTS = (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
TOLERANCE = 5e-3  # certified gap at which errors are compared
Vector = tuple[float, float, float]


def near(rng: np.random.Generator, reach: float) -> Vector:
    """A point within a ball around the volume's centre."""
    direction = rng.normal(size=3)
    z, y, x = direction / np.linalg.norm(direction) * reach * rng.uniform() ** (1 / 3)
    return float(z), float(y), float(x)


def turned(rng: np.random.Generator) -> Vector:
    a, b, c = rng.uniform(-40, 40, 3)
    return float(a), float(b), float(c)


def core_shell(rng: np.random.Generator) -> Particle:
    turn = turned(rng)
    shell = Ellipsoid((0, 0, 0), (0.24, 0.30, 0.26), (0.0, 1.0), turn)
    core = Ellipsoid(near(rng, 0.04), (0.13, 0.18, 0.15), (1.0, 0.1), turn)
    return Particle(ELEMENTS, (shell, core), {})


def many_spheres(rng: np.random.Generator) -> Particle:
    shapes = []
    for i in range(40):
        r = float(rng.uniform(0.03, 0.07))
        shapes.append(Ellipsoid(near(rng, 0.28), (r, r, r), (1.0, 0.0) if i % 2 else (0.0, 1.0)))
    return Particle(ELEMENTS, tuple(shapes), {})


def two_slabs(rng: np.random.Generator) -> Particle:
    turn = turned(rng)
    below = Ellipsoid((-0.07, 0.02, 0.0), (0.06, 0.30, 0.28), (1.0, 0.0), turn)
    above = Ellipsoid((0.07, -0.02, 0.01), (0.06, 0.28, 0.30), (0.0, 1.0), turn)
    return Particle(ELEMENTS, (below, above), {})


def porous(rng: np.random.Generator) -> Particle:
    shapes = [
        Ellipsoid((0, 0, 0), (0.27, 0.30, 0.28), (1.0, 0.0), turned(rng)),
        Ellipsoid(near(rng, 0.1), (0.16, 0.13, 0.17), (0.5, 0.5), turned(rng)),
    ]
    for _ in range(25):
        r = float(rng.uniform(0.025, 0.06))
        shapes.append(Ellipsoid(near(rng, 0.26), (r, r, r), (0.0, 0.0)))
    return Particle(ELEMENTS, tuple(shapes), {})


def gradient(rng: np.random.Generator) -> Particle:
    """Composition that changes in ten steps from one side to the other."""
    aim = np.array(near(rng, 0.06))
    shapes = []
    for i, f in enumerate(np.linspace(1, 0.12, 10)):
        z, y, x = (1 - f) * aim
        share = i / 9
        shapes.append(Ellipsoid((z, y, x), (0.28 * f, 0.30 * f, 0.26 * f), (share, 1 - 0.8 * share)))
    return Particle(ELEMENTS, tuple(shapes), {})


PARTICLES: dict[str, Callable[[np.random.Generator], Particle]] = {
    "core-shell": core_shell,
    "spheres": many_spheres,
    "slabs": two_slabs,
    "porous": porous,
    "two-metal": lambda rng: two_metal_particle(),
    "gradient": gradient,
}


def known(series: TiltSeries, truth: Truth) -> TiltSeries:
    """The series with the alignment, exposures and background it was simulated with."""
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)


def simulated(
    name: str, dose: float, size: int, seed: int, rows: int | None = None, tilts: int = 15
) -> tuple[TiltSeries, Truth]:
    """A particle's series with what is known about it, and the truth."""
    made = PARTICLES.get(name)
    particle = random_particle(name, size, seed) if made is None else made(np.random.default_rng(seed))
    how: dict[str, Any] = {"size": size, "dose": dose, "seed": seed, "tilts_deg": np.linspace(-70, 70, tilts)}
    if rows is None:
        series, truth = simulate(particle, **how, drift=min(3.0, size / 20))
        return known(series, truth), truth
    series, truth = simulate(particle, **how, drift=0, rotation_deg=0, axis_offset=0)
    part = slice((size - rows) // 2, (size + rows) // 2)
    maps = {n: np.ascontiguousarray(series.counts[series.index(n)][:, part]) for n in series.elements}
    cut = TiltSeries.create(maps, series.tilts_deg, series.pixel_size_nm)
    exposures = np.broadcast_to(truth.exposures, cut.exposures.shape).copy()
    cut = cut.evolve(exposures=exposures, background=exposures * truth.background, isolated=True)
    return cut, replace(truth, volumes={n: v[:, part] for n, v in truth.volumes.items()})


def curve(problem: Problem, true: np.ndarray, unit: float) -> dict:
    """Error, deviance and penalty at each of `CONSTANTS`, from the strongest down."""
    rows, certified, solver = [], True, None
    size = np.linalg.norm(true.astype(np.float64))
    for a1 in (c * unit for c in reversed(CONSTANTS)):
        if solver is None:
            solver = problem.coarse_to_fine(a1, A0_PER_A1 * a1, TOLERANCE)
        else:
            solver.change_strength(a1, A0_PER_A1 * a1)
        solution = solver.run(TOLERANCE, solver.iteration + 3000)
        certified &= solution.status is Status.CONVERGED
        projection = problem.operator(solution.value, np.empty(problem.operator.range_shape, np.float32))
        divergence = problem.data.value(projection)
        error = float(np.linalg.norm(solution.value - true) / size)
        rows.append((error, 2 * divergence, (solution.objective - divergence) / a1))
    errors, deviance, penalty = (list(column) for column in zip(*reversed(rows), strict=True))
    return {"errors": errors, "deviance": deviance, "penalty": penalty, "certified": certified}


def measure(name: str, dose: float, args: argparse.Namespace, curves: list[dict]) -> list[dict]:
    series, truth = simulated(name, dose, args.size, args.seed, args.rows, args.tilts)
    cells = []
    for element in series.elements:
        problem = Problem.of(series, element)
        true = truth.volumes[element].swapaxes(1, 2)
        unit = automatic_strength(series, element) / STRENGTH_PER_NOISE
        choice = choose(problem)
        assert choice is not None
        solver = problem.coarse_to_fine(choice.strength, A0_PER_A1 * choice.strength, TOLERANCE)
        solution = solver.run(TOLERANCE, 5000)
        spent = solution.iterations + solver.coarse_iterations
        chosen = float(np.linalg.norm(solution.value - true) / np.linalg.norm(true.astype(np.float64)))
        cell = {"particle": name, "element": element, "dose": dose}
        earlier = [c for c in curves if {k: c[k] for k in cell} == cell]
        if earlier:
            found = {k: v for k, v in earlier[0].items() if k in ("errors", "deviance", "penalty", "certified")}
            found["errors"] = found["errors"][: len(CONSTANTS)]
        else:
            found = curve(problem, true, unit)
        errors = [*found.pop("errors"), chosen]
        found["certified"] &= solution.status is Status.CONVERGED
        cells.append(
            cell
            | {"strength_at_1": unit, "errors": errors, "ratios": [x / min(errors) for x in errors]}
            | found
            | {"chosen": choice.strength / unit, "split": choice.split, "cost": 1 + choice.iterations / spent}
            | {"search_iterations": choice.iterations}
        )
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description="error of the automatic strength over that of the best one")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--doses", type=float, nargs="+", default=[1, 5, 40, 300, 1000])
    parser.add_argument("--particles", nargs="+", choices=list({**PARTICLES, **KINDS}), default=list(PARTICLES))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--slices", type=int, default=search.SLICES)
    parser.add_argument("--tilts", type=int, default=15, help="from -70 to 70 degrees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    search.SLICES = args.slices
    curves = []
    if args.curves is not None:
        earlier = json.loads(args.curves.read_text())
        same = (args.size, args.seed, args.tilts, CONSTANTS)
        if (earlier["size"], earlier["seed"], earlier.get("tilts", 15), tuple(earlier["constants"])) != same:
            parser.error(f"{args.curves} has another size, another seed, other tilts or other multiples")
        curves = earlier["cells"]
    clock = time.perf_counter()
    cells = []
    print(f"{'particle':>12} {'el':>3} {'dose':>5} {'least error':>11}   error / least at constant")
    print(" " * 36 + "".join(f"{c:8.2f}" for c in CONSTANTS) + "  chosen (factor, cost)")
    for name in args.particles:
        for dose in args.doses:
            for cell in measure(name, dose, args, curves):
                cells.append(cell)
                row = "".join(f"{r:8.3f}" for r in cell["ratios"])
                flag = "" if cell["certified"] else "  not all certified"
                row += f"  ({cell['chosen']:.2f}, {cell['cost']:.1f})"
                print(f"{name:>12} {cell['element']:>3} {dose:5g} {min(cell['errors']):11.3f} {row}{flag}", flush=True)
            write(args, cells, time.perf_counter() - clock)
    for label, rows in write(args, cells, time.perf_counter() - clock).items():
        for what, values in rows.items():
            print(f"{label:>24} {what:>8}    " + "".join(f"{v:8.3f}" for v in values))


def write(args: argparse.Namespace, cells: list[dict], seconds: float) -> dict[str, dict[str, list[float]]]:
    """The results so far, as a file; medians and worst of the multiples and of the choice."""
    table = np.array([c["ratios"] for c in cells])
    summary = {}
    for label, pick in [("all", np.ones(len(cells), bool))] + [
        (f"dose {d:g}", np.array([c["dose"] == d for c in cells])) for d in sorted({c["dose"] for c in cells})
    ]:
        median, worst = np.median(table[pick], axis=0), table[pick].max(axis=0)
        summary[label] = {"median": median.tolist(), "worst": worst.tolist()}
    rule = CONSTANTS.index(STRENGTH_PER_NOISE)
    present = {
        how: {"median": float(np.median(table[:, i])), "worst": float(table[:, i].max())}
        for how, i in (("chosen", -1), ("rule", rule))
    }
    cost = [c["cost"] for c in cells]
    present["chosen"] |= {"median_cost": float(np.median(cost)), "largest_cost": max(cost)}
    result = {
        "size": args.size, "rows": args.rows, "slices": args.slices, "tilts": args.tilts, "seed": args.seed,
        "constants": CONSTANTS, "strength_per_noise": STRENGTH_PER_NOISE,
        "present": present, "summary": summary, "cells": cells,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    output = args.output or Path(__file__).parent / "results" / f"strength-{args.size}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    return summary


if __name__ == "__main__":
    main()
