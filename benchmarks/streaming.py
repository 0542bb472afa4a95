"""What it costs to reconstruct a volume in a third of the memory that it needs, and whether the answer is the same.

    python benchmarks/streaming.py [--size 256] [--tilts 15] [--iterations 50] [--part 0.333] [--rotation 0] [--drift 3]

The same iterations, a certificate after them included, in memory and in slabs, each in a process of its own on one
core, which is told by its processor time: a machine that others use as well tells little by the clock. Reads and
writes of the slabs are in both; where the disk is slower than the page cache, the clock of a quiet machine says so.
The first start, on a coarser grid, is the same and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from memory import peak, resident, series


def aligned(size: int, tilts: int, rotation: float, drift: float):
    """A series that drifted along both sides of the detector, with a rotated axis or none."""
    from recon.series.alignment import Alignment

    shifts = np.random.default_rng(1).uniform(-drift, drift, (tilts, 2))
    return series(size, tilts, "A").evolve(alignment=Alignment(shifts, rotation))


def here(case: dict, memory: int | None, output: str) -> dict:
    from recon.backend import use_threads
    from recon.reconstruction import problem as problems
    from recon.reconstruction.problem import Problem

    os.environ["RECON_THREADS"] = "1"
    use_threads()
    problems.COARSE_ITERATIONS = 10
    Problem.of(series(32, 5, "A"), "A").coarse_to_fine(1.0, 2.0, 1e-9).run(0.0, 2)  # compiles
    recorded = aligned(case["size"], case["tilts"], case["rotation"], case["drift"])
    before = resident()
    problem = Problem.of(recorded, "A", memory=memory, strength=1.0)
    solver = problem.coarse_to_fine(1.0, 2.0, 1e-9)
    wall, work = time.perf_counter(), time.process_time()
    solution = solver.run(0.0, case["iterations"])
    wall, work = time.perf_counter() - wall, time.process_time() - work
    np.save(output, solution.value)
    return {
        "wall": wall,
        "work": work,
        "objective": solution.objective,
        "gap": solution.gap,
        "peak": peak() - before,
        "windows": solution.parameters.windows,
        "block": solution.parameters.block,
        "stated": None if problem.streaming is None else problem.streaming.memory,
        "halo": None if problem.streaming is None else problem.streaming.halo,
    }


def measure(case: dict, memory: int | None, output: Path) -> dict:
    command = [sys.executable, __file__, "--here", json.dumps([case, memory, str(output)])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="in slabs against in memory")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--part", type=float, default=1 / 3)
    parser.add_argument("--rotation", type=float, default=0.0)
    parser.add_argument("--drift", type=float, default=3.0)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(here(*json.loads(args.here))))
        return
    from recon.solvers.memory import needed

    size = args.size
    case = {k: getattr(args, k) for k in ("size", "tilts", "iterations", "rotation", "drift")}
    need = needed((size,) * 3, args.tilts, (size, size), 1).host
    with tempfile.TemporaryDirectory() as folder:
        core = measure(case, None, Path(folder, "core.npy"))
        slabs = measure(case, int(need * args.part), Path(folder, "slabs.npy"))
        one, many = (np.load(Path(folder, f"{n}.npy"), mmap_mode="r") for n in ("core", "slabs"))
        difference = max(float(np.abs(a - b).max()) for a, b in zip(one, many, strict=True)) / float(one.max())
    result = {
        "case": case,
        "needed": need,
        "budget": int(need * args.part),
        "in_memory": core,
        "in_slabs": slabs,
        "cost_by_work": slabs["work"] / core["work"],
        "cost_by_wall": slabs["wall"] / core["wall"],
        "largest_difference": difference,
    }
    print(json.dumps(result, indent=1))
    output = args.output or Path(__file__).parent / "results" / f"streaming-{size}.json"
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
