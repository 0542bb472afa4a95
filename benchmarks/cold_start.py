"""What a first run costs on a machine that has compiled nothing yet: the demo with an empty cache, and again with it.

    python benchmarks/cold_start.py [--size 32] [--repeat 3] [--out results/cold_start.json]

Each pair of runs has a temporary folder as NUMBA_CACHE_DIR. Seconds are those of the wall clock, and of all processes
on the processors, which depend less on what else the machine does. Both runs have to give the same volumes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tifffile

ROOT = Path(__file__).resolve().parent.parent


def seconds(size: int, folder: Path, name: str) -> dict[str, float]:
    """Of one demo in a process of its own, by the clock and on the processors."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "recon", "demo", "--size", str(size), "--device", "cpu", "--out", name]
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cold_start.json")
    args = parser.parse_args()
    pairs = []
    for _ in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append({name: seconds(args.size, Path(folder), name) for name in ("cold", "warm")})
            cold, warm = (tifffile.imread(Path(folder) / name / "Co.tif") for name in ("cold", "warm"))
            pairs[-1]["same_bits"] = bool((cold == warm).all())
        print(json.dumps(pairs[-1]), flush=True)
    extra = {kind: statistics.median(p["cold"][kind] - p["warm"][kind] for p in pairs) for kind in ("wall", "cpu")}
    found = {"size": args.size, "cores": len(os.sched_getaffinity(0)), "extra_s": extra, "pairs": pairs,
             "load": os.getloadavg()[0]}  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({"extra_s": extra}))


if __name__ == "__main__":
    main()
