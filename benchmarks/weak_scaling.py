"""Weak scaling over ranks on paper, from what one rank computes and what a halo costs, checked against two ranks.

    python benchmarks/weak_scaling.py [--ranks benchmarks/results/ranks-256.json] [--output FILE]

A cube of n slices on r ranks: a rank has a slab of n / r slices, computes 2 x 2 slices of halo again, and sends and
gets one slice on each side: 9 words of a voxel one way, 6 the other. So time is

    compute x (n^3 / r + 2 x 2 n^2)  +  (9 + 6) x 4 bytes x n^2 / bandwidth

an iteration where they add, and the larger of the two terms where messages are wholly hidden behind compute. The
program is between the two: messages travel while the next iteration projects, copies to and from them are not hidden.
Compute comes from measured iterations: of one rank on one core, and of a core that shares its machine's memory with as
many as there are ranks, as threads of one process do (`ranks.py`); of an H100 (`kernels.py --device cuda`). The
bandwidth of a halo is measured between two processes of one machine, copies included; those between GPUs are what
their makers state, marked as such. Reductions happen at checks, every 50th iteration, and are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
HALO, BEFORE, AFTER = 2, 9, 6  # slices computed again on a side; words of a voxel sent each way
STATED = {"NVLink 4, one direction": 450e9 / 2, "InfiniBand NDR, one port": 50e9}  # bytes a second, not measured


def iteration(n: int, ranks: int, compute: float, bandwidth: float) -> tuple[float, float]:
    """Seconds of computing and of halos, of an inner rank; `compute` are seconds a voxel."""
    sides = min(ranks - 1, 2)
    computed = n**3 / ranks + sides * HALO * n**2
    return compute * computed, sides / 2 * (BEFORE + AFTER) * 4 * n**2 / bandwidth


def table(compute: float, bandwidth: float) -> list[dict]:
    """64 times the voxels on 64 times the ranks, 1024^3 on one."""
    rows = []
    for ranks, n in ((1, 1024), (8, 2048), (64, 4096)):
        work, halos = iteration(n, ranks, compute, bandwidth)
        alone = compute * n**3 / ranks
        rows.append(
            {
                "ranks": ranks,
                "size": n,
                "seconds": work + halos,
                "in_halos": halos,
                "efficiency": alone / (work + halos),
                "efficiency_if_hidden": alone / max(work, halos),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="weak scaling on paper")
    parser.add_argument("--ranks", type=Path, default=RESULTS / "ranks-256.json")
    parser.add_argument("--output", type=Path, default=RESULTS / "weak-scaling.json")
    args = parser.parse_args()
    measured = json.loads(args.ranks.read_text())
    two, ranks = measured["large"], measured["ranks"]
    size = two["size"]
    compute, sharing = two["work_one"] / size**3, two["seconds_threads"] * ranks / size**3
    bandwidth = (BEFORE + AFTER) / 2 * 4 * size**2 / two["work_of_a_halo"]
    checks = {}
    for name, each in (("memory of its own", compute), ("memory shared", sharing)):
        work, halos = iteration(size, ranks, each, bandwidth)
        found = {"computing": two["work_together_without_halos"], "all": two["seconds_together"]}
        checks[name] = {
            "computing, model": work,
            "computing, model over measured": work / found["computing"],
            "all, model": work + halos,
            "all, model over measured": (work + halos) / found["all"],
        }
    cells = json.loads((RESULTS / "kernels-nvidia-h100-80gb-hbm3.json").read_text())["cells"]
    h100 = next(c["ns_per_voxel"]["iteration"] for c in cells if (c["n"], c["tilts"]) == (512, 15)) * 1e-9
    result = {
        "cpu": {"seconds_a_voxel": compute, "sharing_memory": sharing, "bytes_a_second": bandwidth},
        "against measured ranks": {"ranks": ranks, "size": size, **checks},
        "cores, halos as between two processes": table(sharing, bandwidth),
        **{f"H100, {name}, as stated": table(h100, speed) for name, speed in STATED.items()},
    }
    print(json.dumps(result, indent=1))
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
