"""Iterations and time to a given accuracy: the default solver against plain PDHG, on simulated particles.

    python benchmarks/convergence.py [--size 48] [--cases NAME ...] [--device cpu|cuda] [--output FILE]

Every case is one element of a simulated series with known alignment, exposures and background, in "2D" a slice of one
four times as wide; strengths are
multiples of `automatic_strength`'s rule. "plain" is the textbook's PDHG, from zero, steps from one norm of the
whole operator. "default" is what `recon.reconstruct` runs: over-relaxed, balanced weights, coarse to fine; its coarse
iterations count by their number of voxels. They run alternately, in pieces, in one process. The reference is
the least objective seen, after the default has gone on to a certified gap of 2e-4 or 8000 iterations. Printed:
iterations and seconds until the relative objective error is 1e-3, those of plain over those of the default, and
the default's iterations to a certified gap of 1e-2. Seconds are the processor's, threads as the environment allows;
objectives and certificates are not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from strength import PARTICLES, known

from kernels import device_name
from recon.backend import namespace
from recon.model.noise import automatic_strength
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1
from recon.simulate import simulate
from recon.solvers.pdhg import PrimalDual

ACCURACY, GAP = 1e-3, 1e-2
EVERY = 10  # iterations between two looks
CASES: dict[str, dict] = {
    "base": {},
    "0.1 x strength": {"strength": 0.1},
    "10 x strength": {"strength": 10.0},
    "1 count": {"dose": 1.0},
    "1000 counts": {"dose": 1000.0},
    "7 tilts": {"tilts": 7},
    "71 tilts": {"tilts": 71},
    "least squares": {"data_term": "least-squares"},
    "least squares, 1000 counts": {"data_term": "least-squares", "dose": 1000.0},
    "71 tilts, 1 count, 10 x": {"tilts": 71, "dose": 1.0, "strength": 10.0},
    "7 tilts, 1000 counts, 0.1 x": {"tilts": 7, "dose": 1000.0, "strength": 0.1},
    "slabs, 1000 counts": {"particle": "slabs", "dose": 1000.0},
    "spheres, 1 count": {"particle": "spheres", "dose": 1.0},
    "porous, TV": {"particle": "porous", "regulariser": "tv"},
    "2D": {"slices": 1},
    "2D, 1 count": {"slices": 1, "dose": 1.0},
    "2D, least squares": {"slices": 1, "data_term": "least-squares", "dose": 1000.0},
}


class Runner:
    """A solver, run in pieces, and what it needed to come close."""

    def __init__(self, make, device: str) -> None:  # type: ignore[no-untyped-def]
        # of the processor, which other work on the machine slows little; a GPU's time passes on the wall
        self.clock = time.process_time if device == "cpu" else time.perf_counter
        clock = self.clock()
        self.solver: PrimalDual = make()
        self.wait()
        self.seconds = self.clock() - clock
        self.trace: list[tuple[float, float, float]] = []  # iterations, seconds, objective

    def advance(self) -> None:
        clock = self.clock()
        self.solver.advance(EVERY)
        self.wait()
        self.seconds += self.clock() - clock
        self.trace.append((self.iterations, self.seconds, self.solver.objective()))

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if namespace(self.solver.u) is not np:
            namespace(self.solver.u).cuda.get_current_stream().synchronize()

    @property
    def iterations(self) -> float:
        return self.solver.iteration + self.solver.coarse_iterations

    def reached(self, level: float) -> tuple[float, float] | None:
        return next(((n, s) for n, s, value in self.trace if value <= level), None)


def measure(name: str, size: int, device: str) -> dict:
    case = {
        "particle": "two-metal", "tilts": 15, "dose": 40.0, "strength": 1.0, "data_term": "poisson",
        "regulariser": "tgv", "slices": None, **CASES[name],
    }  # fmt: skip
    particle = PARTICLES[case["particle"]](np.random.default_rng(0))
    tilts = np.linspace(-70, 70, case["tilts"])
    if case["slices"] is None:
        series, truth = simulate(particle, size=size, tilts_deg=tilts, dose=case["dose"], drift=size / 20)
        series = known(series, truth)
    else:  # of a particle four times as wide, from its middle; nothing comes from other slices
        size *= 4
        series, truth = simulate(particle, size=size, tilts_deg=tilts, dose=case["dose"], drift=0, rotation_deg=0)
        series = known(series, truth)
        series = series.evolve(counts=series.counts[:, :, size // 2 : size // 2 + case["slices"]])
    element = series.elements[-1]
    a1 = case["strength"] * automatic_strength(series, element)
    problem = Problem.of(series, element, device=device, method=case["regulariser"], data_term=case["data_term"])
    default = Runner(lambda: problem.coarse_to_fine(a1, A0_PER_A1 * a1, GAP), device)
    strengths = {"a1": a1, "a0": A0_PER_A1 * a1, "regulariser": case["regulariser"]}
    plain = Runner(lambda: PrimalDual(problem.operator, problem.data, method="plain", **strengths), device)
    certified = None
    while certified is None or default.solver.iteration < 8000:
        default.advance()
        if certified is None:
            gap = default.solver.certify()
            certified = default.iterations if gap <= GAP else None
            plain.advance()
        elif default.solver.iteration % 100 == 0 and default.solver.certify() <= 2e-4:
            break
    least = min(value for _, _, value in default.trace)
    level = least * (1 + ACCURACY)
    reached = default.reached(level)
    assert reached is not None
    while plain.reached(level) is None and plain.iterations < 20 * reached[0]:
        plain.advance()
    slow = plain.reached(level)
    # where plain PDHG did not get there at all, what it spent is a lower bound
    limit = slow or (plain.iterations, plain.seconds)
    return {
        "case": name, **case, "size": size, "objective": least, "gap": default.solver.certify(),
        "iterations": {"default": reached[0], "plain": limit[0]},
        "seconds": {"default": reached[1], "plain": limit[1]},
        "plain_got_there": slow is not None, "iterations_to_certified_gap": certified,
        "ratio": {"iterations": limit[0] / reached[0], "seconds": limit[1] / reached[1]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="iterations and time to an accuracy, against plain PDHG")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    measure("base", 32, args.device)  # compiles
    print(f"{'case':>28} {'default':>8} {'plain':>7} {'ratio':>6}   seconds: {'':>9} {'ratio':>6} {'to gap 1e-2':>12}")
    rows: list[dict] = []
    name = f"convergence-{'gpu-' * (args.device == 'cuda')}{args.size}.json"
    output = args.output or Path(__file__).parent / "results" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in args.cases:
        row = measure(name, args.size, args.device)
        rows.append(row)
        n, s, r = row["iterations"], row["seconds"], row["ratio"]
        sign = " " if row["plain_got_there"] else ">"
        print(
            f"{name:>28} {n['default']:8.0f} {sign}{n['plain']:6.0f} {sign}{r['iterations']:5.1f}   "
            f"{s['default']:8.2f} {sign}{s['plain']:8.2f} {sign}{r['seconds']:5.1f} "
            f"{row['iterations_to_certified_gap']:12.0f}",
            flush=True,
        )
        least = {k: min(row["ratio"][k] for row in rows) for k in ("iterations", "seconds")}
        result = {
            "size": args.size, "accuracy": ACCURACY, "machine": device_name(args.device), "cores": os.cpu_count(),
            "least_ratio": least, "rows": rows,
        }  # fmt: skip
        output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"least ratio: {least['iterations']:.1f} in iterations, {least['seconds']:.1f} in time")


if __name__ == "__main__":
    main()
