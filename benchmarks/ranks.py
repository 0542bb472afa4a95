"""How much faster several ranks are, and what the halos cost.

    mpirun -n 2 python benchmarks/ranks.py [--size 256] [--tilts 15] [--iterations 20] [--output FILE]

Rank 0 first runs alone with one core, the others waiting asleep; then all run together with one core each, and this
twice in turn, so that a machine that is busy now and then tells. The ratio of the shortest times counts. What a rank
computes and what it sends are timed apart: the model of `weak_scaling.py` takes both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from recon.backend import use_threads
from recon.parallel import HALO, Ranks, Slab, launched
from recon.reconstruction.problem import Problem
from recon.series.alignment import Alignment
from recon.simulate import simulate
from recon.solvers.steps import needed_beside


def asleep(ranks: Ranks) -> None:
    """Wait for rank 0 without turning a core: MPI's own waiting does."""
    request = ranks.comm.Ibarrier()
    while not request.Test():
        time.sleep(0.05)


def iteration(problem: Problem, iterations: int) -> np.ndarray:
    """Seconds an iteration and of these in halos, by the wall clock and of this process's own work."""
    solver = problem.solver_from(None, 1.0, 2.0)
    halos = np.zeros(2)
    refresh = type(solver.slab)._renew

    def now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def timed(slab, *what):
        nonlocal halos
        clock = now()
        refresh(slab, *what)
        halos += now() - clock

    type(solver.slab)._renew = timed
    try:
        solver.advance(2)
        halos, clock = np.zeros(2), now()
        solver.advance(iterations)
        (wall, work), (wall_halo, work_halo) = now() - clock, halos
        return np.array([wall, wall_halo, work, work_halo]) / iterations
    finally:
        type(solver.slab)._renew = refresh


def halo_alone(ranks: Ranks, size: int) -> float:
    """Seconds of this process's own work in renewing the halos after a step, the least of ten: nobody waits."""
    slab = Slab(ranks, size, HALO)
    u, w, p, q = (np.ones((k, size, size, slab.size), np.float32) for k in (1, 3, 3, 6))
    best = float("inf")
    for _ in range(10):
        ranks.comm.Barrier()
        clock = time.process_time()
        slab.refresh_nearest(*needed_beside(u, w, p, q))
        best = min(best, time.process_time() - clock)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="ranks against one")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    ranks = launched()
    os.environ["RECON_THREADS"] = "1"
    use_threads()
    series, _ = simulate(size=args.size, tilts_deg=np.linspace(-70, 70, args.tilts), drift=0)
    series = series.evolve(alignment=Alignment.identity(series.n_tilts), isolated=True)
    alone, together = [], []
    for _ in range(2):
        if ranks.rank == 0:
            alone.append(iteration(Problem.of(series, "Co"), args.iterations))
        asleep(ranks)
        together.append(iteration(Problem.of(series, "Co", ranks=ranks), args.iterations))
    halo = halo_alone(ranks, args.size)
    if ranks.rank:
        return
    one, many = min(alone, key=lambda a: a[0]), min(together, key=lambda a: a[0])
    result = {
        "size": args.size,
        "tilts": args.tilts,
        "ranks": ranks.size,
        "seconds_one": one[0],
        "seconds_together": many[0],
        "seconds_in_halos": many[1],
        "speedup": one[0] / many[0],
        # on a machine that others use as well: what each process worked, waiting for the others left out
        "work_one": one[2],
        "work_together_without_halos": many[2] - many[3],
        "work_of_a_halo": halo,
        "speedup_without_halos_by_work": one[2] / (many[2] - many[3]),
    }
    print(json.dumps(result, indent=1))
    output = args.output or Path(__file__).parent / "results" / "ranks.json"
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
