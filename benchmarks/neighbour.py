"""What a busy neighbour costs: the blind demo alone, and beside a process for each core that never rests.

    python benchmarks/neighbour.py [--size 64] [--repeat 3] [--output results/neighbour.json]

Alternating, after a run that compiles. Seconds are those of the wall clock, and of the demo's processes on the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cold_start import ROOT, seconds

BUSY = "import numpy as np\na = np.ones(1 << 16, np.float32)\nwhile True: np.sqrt(a, out=a)"


def beside(size: int, folder: Path, cores: int) -> dict[str, float]:
    """The demo while all cores are kept busy by others."""
    single = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    others = [subprocess.Popen([sys.executable, "-c", BUSY], env=single) for _ in range(cores)]
    try:
        return seconds(size, folder, "beside")
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "neighbour.json")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    runs = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        seconds(16, folder, "first")
        for _ in range(args.repeat):
            runs.append({"alone": seconds(args.size, folder, "alone"), "beside": beside(args.size, folder, cores)})
            print(json.dumps(runs[-1]), flush=True)
            for name in ("alone", "beside"):
                shutil.rmtree(folder / name)
    wall = {name: statistics.median(r[name]["wall"] for r in runs) for name in ("alone", "beside")}
    found = {"size": args.size, "cores": cores, "wall_s": wall, "ratio": wall["beside"] / wall["alone"], "runs": runs}
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({"wall_s": wall, "ratio": found["ratio"]}))


if __name__ == "__main__":
    main()
