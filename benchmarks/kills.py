"""kill -9 at random moments of a batch, one of its processes, a run, a checkpoint and a write.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--more] [--output FILE]

Each time a fresh folder of jobs is begun, killed, looked at and gone on with by the same command. What must hold: no
folder of results is half there, nothing is locked any more, the second run ends with status 0 and the volumes of a run
that was never killed, bit for bit, and nothing is left beside the results. With --more, and another seed, the kills of
an earlier run that are stored in FILE count as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recon.io import read_volume
from recon.simulate import simulate

ROOT = Path(__file__).resolve().parent.parent
JOB = (
    'regions = "none"\n[input]\nmaps = { Co = "../Co.npy", Zn = "../Zn.npy" }\n'
    'tilts = "../tilts.rawtlt"\npixel_size_nm = 5.0\n'
    '[align]\nmethod = "none"\n[reconstruct]\nstrength = 1.0\ntolerance = 1e-9\nmax_iterations = 150\n'
)
PAGE = ("write", "run")  # modes whose jobs write their report, which takes half of a small job's time
# a checkpoint before every iteration, so that a random moment often lies within a write
EAGER = (
    "from recon import cli; from recon.job import checkpoint; checkpoint.Schedule.__init__.__defaults__ = (1e9, 0.0); "
    "cli.main()"
)
MODES = ("batch", "process", "run", "checkpoint", "write")
FILES = ("Co.tif", "Zn.tif", "mask.tif", "alignment.json", "job.json")


def command(mode: str) -> list[str]:
    if mode in ("batch", "process"):
        return [sys.executable, "-m", "recon", "run", "a.toml", "b.toml", "--workers", "2", "--resume"]
    start = ["-c", EAGER] if mode == "checkpoint" else ["-m", "recon"]
    return [sys.executable, *start, "run", "a.toml", "--resume"]


def begin(mode: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(mode), cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1" if mode not in MODES[:2] else "2"},
    )  # fmt: skip


def children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def gone(pids: list[int], limit: float = 60.0) -> bool:
    until = time.monotonic() + limit
    while any(Path(f"/proc/{p}").exists() for p in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def kill(mode: str, process: subprocess.Popen[str], rng: random.Random, length: float) -> bool:
    """Whether there was anything left to kill."""
    assert process.stderr is not None
    if mode == "write":  # the last element is done: what follows is judged, drawn and written
        for line in process.stderr:
            if re.search(r"Zn: \d+ iterations", line):
                break
        time.sleep(rng.uniform(0, 0.3 * length))
    else:
        time.sleep(rng.uniform(0, length))
    if process.poll() is not None:
        return False
    below = children(process.pid)
    victim = rng.choice(below) if mode == "process" and below else process.pid
    os.kill(victim, signal.SIGKILL)
    if victim == process.pid:
        process.communicate()
        return gone(below)
    process.communicate()
    return True


def job_of(mode: str) -> str:
    return JOB + ("" if mode in PAGE else "[output]\nreport = false\n")


def faults(folder: Path, reference: Path, mode: str, *, whole: bool) -> list[str]:
    """What must not be."""
    outs = [out for out in folder.glob("*-recon") if out.is_dir()]
    files = (*FILES, "report.html") if mode in PAGE else FILES
    found = [f"{out.name} is half there" for out in outs if any(not (out / name).exists() for name in files)]
    if not whole:
        return found
    for name in [p.stem for p in folder.glob("*.toml")] if (folder / "b-recon").exists() else ["a"]:
        for what in ("Co", "Zn", "mask"):
            path = folder / f"{name}-recon" / f"{what}.tif"
            same = path.exists() and np.array_equal(read_volume(path)[0], read_volume(reference / f"{what}.tif")[0])
            if not same:
                found.append(f"{path.name} of {name} differs")
    expected = {"a.toml", "b.toml", "a-recon", "b-recon", "recon-summary.csv"}
    found += [f"{p.name} is left" for p in folder.iterdir() if p.name not in expected]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 at random moments")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    args = parser.parse_args()
    earlier = json.loads(args.output.read_text()) if args.more else None
    rng = random.Random(args.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        series, _ = simulate(size=16, seed=0, drift=1)
        for element, counts in zip(series.elements, series.counts, strict=True):
            np.save(base / f"{element}.npy", counts)
        np.savetxt(base / "tilts.rawtlt", series.tilts_deg)
        lengths = {}
        for mode in MODES:
            folder = base / f"whole-{mode}"
            folder.mkdir()
            for job in "ab":
                (folder / f"{job}.toml").write_text(job_of(mode))
            clock = time.monotonic()
            process = begin(mode, folder)
            process.communicate()
            assert process.returncode == 0
            lengths[mode] = time.monotonic() - clock
        reference = base / "whole-run" / "a-recon"
        for n in range(args.kills):
            mode = MODES[n % len(MODES)]
            folder = base / f"kill-{n}"
            folder.mkdir()
            for job in "ab":
                (folder / f"{job}.toml").write_text(job_of(mode))
            killed = kill(mode, begin(mode, folder), rng, lengths[mode])
            wrong = faults(folder, reference, mode, whole=False)
            again = begin(mode, folder)
            _, said = again.communicate()
            if again.returncode:
                wrong.append(f"the second run ended with {again.returncode}: {said.splitlines()[-3:]}")
            wrong += faults(folder, reference, mode, whole=True)
            rows.append({"mode": mode, "killed": killed, "went_on": "taken from" in said, "faults": wrong})
            print(json.dumps(rows[-1]), flush=True)
            shutil.rmtree(folder)
            keep(rows, args.output, earlier)


def keep(rows: list[dict[str, Any]], path: Path, earlier: dict[str, Any] | None = None) -> None:
    """Store what there is, so that a run that is stopped has its result, too."""
    before = earlier or {"kills": 0, "by_mode": dict.fromkeys(MODES, 0), "went_on_from_a_checkpoint": 0, "faults": []}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    result = {
        "commit": commit.stdout.strip(),
        "kills": before["kills"] + sum(r["killed"] for r in rows),
        "by_mode": {m: before["by_mode"][m] + sum(r["killed"] and r["mode"] == m for r in rows) for m in MODES},
        "went_on_from_a_checkpoint": before["went_on_from_a_checkpoint"] + sum(r["went_on"] for r in rows),
        "faults": before["faults"] + [f for r in rows for f in r["faults"]],
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
