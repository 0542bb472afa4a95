"""Time to a certified gap of 1e-2: this tree against an earlier commit, alternating.

    python benchmarks/gap_time.py COMMIT [--size 128] [--repeat 3] [--cases NAME ...] [--output FILE]

Each case is a simulated series of two elements with known alignment, exposures and background, 15 tilts unless it says
otherwise, reconstructed by `recon.reconstruct` with multiples of the rule's strength: coarse grids, certificates and
what runs side by side are in it. Each tree has a process that holds the series, and the two are asked in turn, after
a first run of each that compiles. Printed are medians and their ratios; "cpu" is the time on all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cold_start import ROOT

CASES: dict[str, dict[str, float]] = {
    "base": {},
    "0.1 x strength": {"factor": 0.1},
    "10 x strength": {"factor": 10.0},
    "1000 counts": {"dose": 1000.0},
    "7 tilts": {"tilts": 7},
}
# Runs in either tree, by names that both have.
WORKER = """
import json, sys, time
import numpy as np
import recon
from recon.simulate import simulate
try:
    from recon.model.noise import automatic_strength
except ImportError:
    from recon.strength import automatic_strength

def known(size, dose=40.0, tilts=15):
    series, truth = simulate(size=size, dose=dose, tilts_deg=np.linspace(-70, 70, int(tilts)), seed=int(sys.argv[1]))
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)

recon.reconstruct(known(16), strength=1.0, max_iterations=30)
made = {}
for line in sys.stdin:
    size, case = json.loads(line)
    factor = case.pop("factor", 1.0)
    key = size, *sorted(case.items())
    if key not in made:
        made = {key: known(size, **case)}
    series = made[key]
    strength = {n: factor * automatic_strength(series, n) for n in series.elements}
    wall, cpu = time.perf_counter(), time.process_time()
    volumes = recon.reconstruct(series, strength=strength)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    took["gap"] = max(float(v.solution.gap) for v in volumes.values())
    took["iterations"] = max(int(v.solution.iterations) for v in volumes.values())
    print(json.dumps({**took, "counts": float(series.counts.sum(dtype=np.float64)), "strength": strength}), flush=True)
"""


class Tree:
    """A process of a source tree that reconstructs what it is asked for."""

    def __init__(self, root: Path, seed: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(root / "kernels-compiled")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(seed)], cwd=root, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, size: int, case: dict[str, float]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([size, case]) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["base"])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    git = ["git", "-C", str(ROOT)]
    found: dict[str, Any] = {"size": args.size, "seed": args.seed, "cores": len(os.sched_getaffinity(0)), "cases": {}}
    for name, commit in (("old", args.commit), ("new", "HEAD")):
        found[name] = subprocess.run([*git, "rev-parse", "--short", commit], check=True, capture_output=True, text=True)
        found[name] = found[name].stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        trees = {}
        for name in ("old", "new"):
            root = Path(folder) / name
            root.mkdir()
            packed = subprocess.run([*git, "archive", found[name]], check=True, capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", str(root)], input=packed, check=True)
            trees[name] = Tree(root, args.seed)
        for case in args.cases:
            runs: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
            for _ in range(args.repeat):
                for name, tree in trees.items():
                    runs[name].append(tree.run(args.size, dict(CASES[case])))
                    print(case, name, json.dumps(runs[name][-1]), flush=True)
            assert runs["old"][0]["counts"] == runs["new"][0]["counts"], "the two trees simulate different series"
            median = {n: {k: statistics.median(r[k] for r in some) for k in ("wall", "cpu", "iterations", "gap")}
                      for n, some in runs.items()}  # fmt: skip
            ratio = {k: median["new"][k] / median["old"][k] for k in ("wall", "cpu", "iterations")}
            found["cases"][case] = {"median": median, "ratio": ratio, "runs": runs}
            print(f"{case}: " + ", ".join(f"{k} {r:.2f}" for k, r in ratio.items()), flush=True)
        for tree in trees.values():
            tree.process.kill()
            tree.process.wait()
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
