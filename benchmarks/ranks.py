"""How much faster several ranks are than one, what their halos cost, and what the machine's memory allows.

    mpirun -n 2 python benchmarks/ranks.py [--size 256] [--tilts 15] [--iterations 25] [--rounds 4] [--more]

In turn, the ranks that are not at work asleep: rank 0 alone on one core; rank 0 alone on as many cores as there are
ranks; all ranks with one core each. The second has no halos and no messages, so it tells how much faster the same work
gets by cores that share one memory: ranks of one machine cannot be expected to beat it by much. The same with the duals
in 16 bits (`half_precision`), which asks less of the memory, and at a size that fits the cache (--cached). The shortest
times of the rounds count, since others may use the machine; the ratio of the medians is beside them. A round ends with
a renewal of the whole halo, which a run makes every 50 iterations. What a rank computes and what it sends are timed
apart: the model of `weak_scaling.py` takes both. Launches differ: --more keeps the earlier ones in the output, which
has the one of the median ratio in front.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from memory import series

from recon.parallel import ALONE, HALO, Halos, Ranks, Slab, launched
from recon.reconstruction.problem import Problem

Clock = Callable[[], np.ndarray]


def asleep(ranks: Ranks) -> None:
    """Wait for rank 0 without turning a core: MPI's own waiting does."""
    request = ranks.comm.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


def now() -> np.ndarray:
    """By the clock, and of this process's own work, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(solver, iterations: int) -> np.ndarray:
    """Seconds an iteration and of these in messages between ranks, by the clock and of this process's own work."""
    halos, plain = np.zeros(2), {name: getattr(Halos, name) for name in ("of_step", "leave")}

    def counted(work):
        def call(*args, **how):
            nonlocal halos
            clock = now()
            found = work(*args, **how)
            halos += now() - clock
            return found

        return call

    for name, work in plain.items():
        setattr(Halos, name, counted(work))
    try:
        solver.advance(1)
        halos, clock = np.zeros(2), now()
        solver.advance(iterations)
        (wall, work), (wall_halo, work_halo) = now() - clock, halos
        return np.array([wall, wall_halo, work, work_halo]) / iterations
    finally:
        for name, work in plain.items():
            setattr(Halos, name, work)


def halo_alone(ranks: Ranks, size: int) -> float:
    """Seconds of this process's own work in telling the neighbours after a step, the least of ten: nobody waits."""
    slab = Slab(ranks, size, HALO)
    halos = Halos(slab, [np.ones((*k, size, size, slab.size), np.float32) for k in ((), (3,), (3,), (6,))])
    best = float("inf")
    for _ in range(10):
        ranks.comm.Barrier()
        clock = time.process_time()
        halos.leave(last=False)
        halos.wait()
        best = min(best, time.process_time() - clock)
    return best


def measure(ranks: Ranks, size: int, tilts: int, iterations: int, rounds: int, *, half: bool = False) -> dict:
    """One size: the least of the rounds for each."""
    recorded = series(size, tilts, "A")
    who = {"together": (ranks, 1)}
    if ranks.rank == 0:
        who = {"alone": (ALONE, 1), "threads": (ALONE, ranks.size), **who}
    # made before the rounds: what each holds is there once
    solvers = {
        name: Problem.of(recorded, "A", ranks=of, half_precision=half).solver_from(None, 1.0, 2.0)
        for name, (of, _) in who.items()
        if name != "threads"
    }
    taken: dict[str, list[np.ndarray]] = {name: [] for name in who}
    for _ in range(rounds):
        for name, (_, threads) in who.items():
            if name == "together":
                asleep(ranks)
            numba.set_num_threads(threads)
            taken[name].append(timed(solvers["alone" if name == "threads" else name], iterations))
        asleep(ranks)
    halo = halo_alone(ranks, size)
    if ranks.rank:
        return {}

    def middle(name):
        return float(np.median([a[0] for a in taken[name]]))

    one, threads, many = (min(taken[name], key=lambda a: a[0]) for name in ("alone", "threads", "together"))
    return {
        "size": size,
        "tilts": tilts,
        "half_precision": half,
        "seconds_one": one[0],
        "seconds_threads": threads[0],
        "seconds_together": many[0],
        "seconds_in_halos": many[1],
        "speedup": one[0] / many[0],
        "speedup_threads": one[0] / threads[0],
        "speedup_of_medians": middle("alone") / middle("together"),
        "speedup_threads_of_medians": middle("alone") / middle("threads"),
        # on a machine that others use as well: what each process worked, waiting for the others left out
        "work_one": one[2],
        "work_together_without_halos": many[2] - many[3],
        "work_of_a_halo": halo,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="ranks against one")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--cached", type=int, default=64, help="a size at which all that a core needs fits its cache")
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--more", action="store_true", help="add to the launches in the output")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    ranks = launched()
    if ranks.size == 1:
        sys.exit("start it by mpirun -n 2 python benchmarks/ranks.py")
    how = (args.tilts, args.iterations, args.rounds)
    cached = (args.tilts, args.iterations, 6 * args.rounds)
    result = {
        "ranks": ranks.size,
        "large": measure(ranks, args.size, *how),
        "16-bit duals": measure(ranks, args.size, *how, half=True),
        "in cache": measure(ranks, args.cached, *cached),
    }
    if ranks.rank:
        return
    output = args.output or Path(__file__).parent / "results" / f"ranks-{args.size}.json"
    launches = json.loads(output.read_text())["launches"] if args.more and output.exists() else []
    launches = sorted([*launches, result], key=lambda r: r["large"]["speedup"])
    print(json.dumps(result, indent=1))
    result = launches[(len(launches) - 1) // 2] | {"launches": launches}
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
