"""The memory that `recon check` states, against the peak that is measured.

    python benchmarks/memory.py [--sizes 128 192] [--methods tgv tv none sirt fbp] [--tilts 15]

Each reconstruction of two elements runs in a process of its own, after a tiny one that compiles; its peak resident
memory beyond what was there then is compared with `recon.solvers.memory.needed`. Two checks of the certificate are
in it. With a GPU (--device cuda) the peak is that of CuPy's pool, and from 512^3 on the run is one element's, to the
certified gap, with its time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np


def series(n: int, n_tilts: int, elements: str = "AB"):
    from recon.series.tilt_series import TiltSeries

    u = (np.arange(n, dtype=np.float32) - (n - 1) / 2) / (0.35 * n)
    chord = np.sqrt(np.maximum(1 - u[:, None] ** 2 - u**2, 0)) * 40 + 0.4
    maps = np.random.default_rng(0).poisson(np.broadcast_to(chord, (len(elements), n_tilts, n, n)))
    maps = maps.astype(np.float32)
    return TiltSeries.create(dict(zip(elements, maps, strict=True)), np.linspace(-70, 70, n_tilts), 1.0).evolve(
        isolated=True
    )


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    if not sys.platform.startswith("linux"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Linux's ru_maxrss begins at that of the process that started this one
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def here(n: int, n_tilts: int, method: str, device: str, half: bool = False) -> dict:
    import time

    import recon
    from recon.model.grid import grid
    from recon.solvers.memory import needed

    if device == "cpu":  # one element after the other, as is stated; at a time they take so many times as much
        import numba

        numba.set_num_threads(1)
    iterations = {"sirt": 3}.get(method, 100)
    large = n >= 512  # one element, to a certified gap of 1e-2
    how = {"device": device, "strength": 1.0, "half_precision": half}
    recon.reconstruct(series(16, 5), method, max_iterations=iterations, **how)
    recorded = series(n, n_tilts, "A" if large else "AB")
    stated = needed(grid(recorded).shape, n_tilts, (n, n), len(recorded.elements), method, device, half)
    if device == "cuda":
        import cupy

        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        start = time.perf_counter()
        found = recon.reconstruct(recorded, method, max_iterations=None if large else iterations, **how)["A"].solution
        seconds = round(time.perf_counter() - start, 1)
        last = {
            "seconds": seconds,
            "iterations": found.iterations,
            "gap": found.history[-1].gap if found.history else None,
        }
        return {"stated": stated.device, "measured": pool.total_bytes(), "run": last}
    before = resident()
    recon.reconstruct(recorded, method, max_iterations=2 if n > 200 else 52, **how)
    return {"stated": stated.host, "measured": peak() - before}


def measure(n: int, n_tilts: int, method: str, device: str = "cpu", half: bool = False) -> dict:
    """Stated and measured bytes of one reconstruction, in a process of its own."""
    for size in (16, n):  # the first compiles, which takes more memory than a small reconstruction
        command = [sys.executable, __file__, "--here", json.dumps([size, n_tilts, method, device, half])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"n": n, "tilts": n_tilts, "method": method, "device": device, "half_precision": half, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description="memory stated against memory measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 192])
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--methods", nargs="+", default=["tgv", "tv", "none", "sirt", "fbp"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--half", action="store_true", help="duals in 16 bits (tgv, tv)")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(here(*json.loads(args.here))))
        return
    results = []
    print(f"{'N':>5}{'method':>8}{'stated, MiB':>14}{'measured':>12}{'ratio':>8}")
    for n in args.sizes:
        for method in args.methods:
            r = measure(n, args.tilts, method, args.device, args.half)
            results.append(r)
            ratio = r["stated"] / r["measured"]
            print(
                f"{n:>5}{method:>8}{r['stated'] / 2**20:>14.0f}{r['measured'] / 2**20:>12.0f}{ratio:>8.2f}  "
                f"{r.get('run', '')}",
                flush=True,
            )
    output = args.output or Path(__file__).parent / "results" / f"memory-{args.device}{'-half' * args.half}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
