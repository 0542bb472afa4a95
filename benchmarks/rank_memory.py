"""The memory that each of several ranks takes, checkpoints and the finished volume included, against that of one alone.

    python benchmarks/rank_memory.py [--size 128] [--tilts 15] [--ranks 1 2 4] [--output FILE]

Each number of ranks reconstructs one element in processes of its own, with a checkpoint before every iteration. Peaks
are resident memory beyond what was there after a tiny reconstruction that compiles. Rank 0 keeps the maps as it read
them; the volume that it gets is mapped from the file that all ranks wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from memory import peak, resident, series


def here(size: int, tilts: int, folder: Path) -> None:
    import recon
    from recon.job.checkpoint import Checkpoints, Identity
    from recon.job.schedule import Schedule
    from recon.job.together import Call, serve
    from recon.parallel import launched
    from recon.series.settings import Settings

    ranks = launched()
    recon.reconstruct(series(32, 5, "A"), max_iterations=4, strength=1.0, device="cpu")
    # rank 0 reads the maps, the others get theirs from a file
    recorded, before = series(size, tilts, "A") if ranks.rank == 0 else None, resident()
    if recorded is None:
        serve(ranks)
    else:
        keeper = Checkpoints(folder / "out", Identity({}, {}))
        keeper.schedule = Schedule(lambda: 1e9, share=1e9, shortest=0.0)
        how = Settings(max_iterations=3, tolerance=1e-9)
        Call(recorded, how, 1.0, None, "cpu").run(ranks, keeper.folder, keeper)
        ranks.order(None)
    found = ranks.everyone(peak() - before)
    if ranks.rank == 0:
        print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of ranks")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here is not None:
        here(args.size, args.tilts, args.here)
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    mpirun = shutil.which("mpirun", path=path) or sys.exit("needs an mpirun: the extra mpi, and the package mpich")
    rows = {}
    for n in args.ranks:
        with tempfile.TemporaryDirectory() as name:
            command = [mpirun, "-n", str(n), sys.executable, __file__, "--here", name]
            command += ["--size", str(args.size), "--tilts", str(args.tilts)]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMBA_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(done.stderr)
        peaks = json.loads(done.stdout.splitlines()[-1])
        alone = max(next(iter(rows.values()))["bytes"]) if rows else max(peaks)
        rows[str(n)] = {"bytes": peaks, "largest over one rank's": max(peaks) / alone}
        print(n, rows[str(n)], flush=True)
    result = {"size": args.size, "tilts": args.tilts, "volume_bytes": 4 * args.size**3, "ranks": rows}
    output = args.output or Path(__file__).parent / "results" / "rank-memory.json"
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
