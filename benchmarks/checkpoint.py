"""What checkpoints cost, and what a kill costs with them.

    python benchmarks/checkpoint.py [--sizes 64 96 128] [--seconds 180] [--output FILE]

For each size the solver of a simulated particle (TGV, Poisson, 15 tilts) runs for a fixed time with the
checkpoints of a real job: their own schedule, files flushed to the disk. What is measured is the time spent in
`write_checkpoint` and in asking whether one is due, over the wall time of the run; ``bytes`` is one state on the disk.
``longest_gap`` is the most work, in seconds, that a kill would have lost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import recon.job.checkpoint
import recon.job.schedule
from recon.job.checkpoint import Checkpoints, Identity
from recon.model.noise import automatic_strength
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1
from recon.simulate import simulate


def measure(size: int, seconds: float, folder: Path) -> dict:
    series, truth = simulate(size=size)
    series = series.evolve(alignment=truth.alignment, isolated=True)
    a1 = automatic_strength(series, "Co")
    solver = Problem.of(series, "Co").solver(a1, A0_PER_A1 * a1)
    solver.run(1e-12, 20)  # compiled
    checkpoints = Checkpoints(folder / f"size-{size}", Identity({}, {}))
    control = checkpoints.control("Co")
    asking, writes = 0.0, []
    write = recon.job.checkpoint.write_checkpoint

    def timed_write(*args, **kwargs):
        clock = time.perf_counter()
        write(*args, **kwargs)
        writes.append((clock, time.perf_counter()))

    def timed_control(solver):
        nonlocal asking
        clock = time.perf_counter()
        stop = control(solver)
        asking += time.perf_counter() - clock
        return stop or time.perf_counter() - start > seconds

    recon.job.checkpoint.write_checkpoint = timed_write
    try:
        start = time.perf_counter()
        solver.run(1e-12, 10**6, control=timed_control)
        end = time.perf_counter()
    finally:
        recon.job.checkpoint.write_checkpoint = write
    moments = [start, *(w[1] for w in writes), end]
    found = sorted(checkpoints.folder.glob("*.npz"))
    return {
        "size": size,
        "iterations": solver.iteration - 20,
        "seconds": round(end - start, 2),
        "checkpoints": len(writes),
        "bytes": found[0].stat().st_size if found else 0,
        "seconds_a_write": [round(b - a, 3) for a, b in writes],
        "share": asking / (end - start),
        "longest_gap_s": round(max(np.diff(moments)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of checkpoints")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for size in args.sizes:
            rows.append(measure(size, args.seconds, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    print(f"largest share {max(r['share'] for r in rows):.2%}")
    output = args.output or Path(__file__).parent / "results" / "checkpoint.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"schedule_share": recon.job.schedule.SHARE, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
