"""Time and memory from a folder of spectrum images to maps of all lines: ``python benchmarks/raw_maps.py FOLDER``.

FOLDER holds one series, such as the 16 Bruker files L2083-K-4-1 of openNCEM (256 x 256 pixels, 2048 channels). Every
repeat is a fresh process, imports and line table included; its peak memory is what the system saw. The counts are
compared with a sum over the same windows of what rosettasciio reads, done here. Writes
``benchmarks/results/raw-maps.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

LINES = ["C_Ka", "O_Ka", "Na_Ka", "Mg_Ka", "Al_Ka", "Si_Ka", "S_Ka", "Ca_Ka", "Ti_Ka", "Cr_Ka", "Fe_Ka", "Cu_Ka"]
LINES += ["Ga_Ka", "Pt_La", "Pt_Ma"]
CHILD = """
import json, resource, sys, time
clock, cpu = time.perf_counter(), time.process_time()
from recon.maps import line_maps
maps = line_maps(sys.argv[1], sys.argv[2].split(","))
seconds = time.perf_counter() - clock
child = resource.getrusage(resource.RUSAGE_CHILDREN)  # it reads the files
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + child.ru_maxrss) * 1024
print(json.dumps([seconds, time.process_time() - cpu + child.ru_utime + child.ru_stime, peak, len(maps.recordings)]))
"""


def independent_difference(folder: Path) -> int:
    """Largest difference of any pixel of any map from a plain sum of the file's counts in the same energies."""
    from rsciio.bruker import file_reader

    from recon.eds.maps import line_maps

    maps = line_maps(folder, LINES)
    worst = 0
    for i, recording in enumerate(maps.recordings):
        signal = next(s for s in file_reader(str(recording.path)) if s["data"].ndim == 3)
        axis = signal["axes"][2]
        energies = axis["offset"] + axis["scale"] * np.arange(axis["size"])
        for name in LINES:
            window = maps.windows[name][i]
            chosen = signal["data"][:, :, (energies >= window.low_kev) & (energies <= window.high_kev)]
            difference = maps.counts[name][i].astype(np.int64) - chosen.astype(np.int64).sum(axis=2)
            worst = max(worst, int(np.abs(difference).max()))
    return worst


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    runs = []
    loads = round(os.getloadavg()[0], 1)  # on a machine with other work, wall times are not the program's
    for _ in range(args.repeats):
        command = [sys.executable, "-c", CHILD, str(args.folder), ",".join(LINES)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    seconds, cpu, peaks, files = zip(*runs, strict=True)
    result = {
        "files": files[0],
        "lines": len(LINES),
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_all": [round(s, 2) for s in seconds],
        "cpu_seconds_median": round(statistics.median(cpu), 2),
        "peak_memory_bytes_max": max(peaks),
        "largest_difference_from_independent_sum": independent_difference(args.folder),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load_average_before": loads,
    }
    print(json.dumps(result, indent=1))
    target = Path(__file__).parent / "results" / "raw-maps.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
