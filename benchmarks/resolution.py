"""Halves of the counts: what they cost, and what more iterations of each would change.

    python benchmarks/resolution.py [--size 48] [--seed 0] [--kinds lobes,ring] [--out FILE]

The particles are those of `pair_statistics.py`, 15 tilts, 40 counts in the brightest pixel. Each half is reconstructed
for 100, 200 and 600 iterations at most; the table says where the Fourier shell correlation falls to 0.143, how far its
curve is from that of 600 iterations, the estimates of fractions and interface, and CPU seconds beside those of the
reconstruction with its search. The curve of 600 is as far as it goes: most halves are certified before that.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from pair_statistics import KINDS

import recon
from recon.analysis.halves import Halves, halves
from recon.analysis.pair_estimates import pair_estimates
from recon.analysis.resolution import DIRECTIONS, ShellCorrelation, correlations
from recon.series.volume import Volume
from recon.simulate import simulate

ITERATIONS = (100, 200, 600)


def told(volumes: dict[str, Volume], found: Halves, best: dict[str, ShellCorrelation]) -> dict[str, Any]:
    """Resolutions in voxels, the largest step to the best curve, and the estimates."""
    curves = correlations(found)
    pair = pair_estimates(volumes, None, found)["A-B"]
    voxel = next(iter(volumes.values())).voxel_size_nm
    return {
        "resolution_voxels": {
            n: {key: round(c.resolution_nm(key) / voxel, 3) for key in ("whole", *DIRECTIONS)}
            for n, c in curves.items()
        },
        "largest_step": max(float(np.abs(np.subtract(c.whole, best[n].whole)).max()) for n, c in curves.items()),
        "estimates": {k: round(pair[k].value, 4) for k in ("only_first", "only_second", "both", "interface")},
    }


def one(kind: str, size: int, seed: int) -> dict[str, Any]:
    """One particle."""
    series, _ = simulate(KINDS[kind](), size=size, drift=0, rotation_deg=0, axis_offset=0, seed=seed)
    series = recon.normalise(series)
    clock = time.process_time()
    volumes = recon.reconstruct(series, max_iterations=600)
    whole = time.process_time() - clock
    made, cost = {}, {}
    for iterations in ITERATIONS:
        clock = time.process_time()
        made[iterations] = halves(series, volumes, iterations=iterations)
        cost[iterations] = (time.process_time() - clock) / whole
    best = correlations(made[max(ITERATIONS)])
    rows = {f"{i} iterations": told(volumes, h, best) | {"cost": round(cost[i], 3)} for i, h in made.items()}
    return {"kind": kind, "size": size, "seed": seed, "reconstruction_cpu_s": round(whole, 2), "halves": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "resolution.json")
    args = parser.parse_args()
    rows = []
    for kind in args.kinds.split(","):
        rows.append(one(kind, args.size, args.seed))
        print(json.dumps(rows[-1]), flush=True)
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
