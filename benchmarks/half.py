"""What half precision of the duals does: iterations, the gap that can be certified, the result, time and memory.

    python benchmarks/half.py [--size 64] [--counts 5 60 400]

A simulated particle (`recon.simulate`) per brightness, alignment and exposures known; the rule's strength. Each is
solved with the regulariser's duals in float32 and in 16 bits: to a certified gap of 1e-2, and `--iterations` further,
where the least gap shows how far rounding lets it go. Times of iterations are taken in turns; the least counts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1, by_rule
from recon.simulate import simulate
from recon.solvers.memory import needed


def solver(problem: Problem, a1: float, half: bool):
    problem = Problem.of(problem.series, problem.element, half_precision=half)
    return problem.coarse_to_fine(a1, A0_PER_A1 * a1, 1e-2)


def compare(size: int, counts: float, iterations: int) -> dict:
    series, _ = simulate(size=size, dose=counts, drift=0, rotation_deg=0, axis_offset=0, shadowing=0)
    problem = Problem.of(series, series.elements[0])
    a1 = by_rule(problem).strength
    result: dict = {"size": size, "counts": counts}
    values, solvers = {}, {}
    for name, half in (("float32", False), ("int16", True)):
        s = solvers[name] = solver(problem, a1, half)
        to_gap = s.run(1e-2, 5000)
        values[name] = to_gap.value.astype(float)
        least = s.run(1e-9, to_gap.iterations + iterations)
        gaps = [r.gap for r in to_gap.history + least.history]
        result[name] = {
            "iterations to 1e-2": to_gap.iterations,
            "least gap": min(gaps),
            "objective": min(r.objective for r in least.history),
        }
        values[name + " end"] = least.value.astype(float)
    for when in ("", " end"):
        a, b = values["float32" + when], values["int16" + when]
        result["difference of volumes" + (when or " at 1e-2")] = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(20):
        for name, s in solvers.items():
            start = time.perf_counter()
            s.step()
            seconds[name].append(time.perf_counter() - start)
    result["time, int16 over float32"] = min(seconds["int16"]) / min(seconds["float32"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="duals in 16 bits against 32")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--counts", type=float, nargs="+", default=[5, 60, 400])
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    full, half = (needed((512,) * 3, 15, (512, 512), 1, half_precision=h).host for h in (False, True))
    results = {"memory at 512^3, int16 over float32": half / full, "cases": []}
    for counts in args.counts:
        results["cases"].append(compare(args.size, counts, args.iterations))
        print(json.dumps(results["cases"][-1], indent=1), flush=True)
    output = args.output or Path(__file__).parent / "results" / f"half-{args.size}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
