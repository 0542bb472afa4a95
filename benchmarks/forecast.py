"""What `recon check` forecasts against what a run takes, by stage: ``python benchmarks/forecast.py 32x15 64x31 ...``.

Each argument is SIZExTILTS of the demo's particle. Seconds are those of the process on one thread, so that a busy
machine changes little; each case runs after a small one that compiles and loads everything. Results go to
``benchmarks/results/forecast.json``, one entry a case, old ones kept.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import recon.job.pipeline
from recon.job.file import Job
from recon.job.pipeline import process
from recon.job.resources import plan
from recon.job.results import write_result
from recon.simulate import simulate

RESULTS = Path(__file__).parent / "results" / "forecast.json"


@dataclass(frozen=True)
class Measured:
    """Seconds of each stage; iterations of each element; places that were asked about, and iterations for them."""

    stages: dict[str, float]
    iterations: dict[str, int]
    regions: dict[str, int]


def measured(size: int, tilts: int, seed: int = 0) -> Measured:
    """A run with the default options; seconds are those of the process, not of the clock."""
    series, _ = simulate(size=size, tilts_deg=np.linspace(-70, 70, tilts), seed=seed)
    recon.job.pipeline.time.perf_counter = time.process_time  # type: ignore[attr-defined]
    result = process(series, Job.model_construct(), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        write_result(result, Path(folder) / "out")
        written = time.process_time() - started
    asked = result.composition
    return Measured(
        {**result.timings, "write": written},
        {n: v.made.iterations for n, v in result.volumes.items()},
        {} if asked is None else {"places": len(asked.regions), **asked.iterations},
    )


def main(cases: list[str]) -> None:
    """Measure and print; the ratio of forecast to measured is what counts."""
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    measured(16, 7)
    for case in cases:
        size, tilts = map(int, case.split("x"))
        series, _ = simulate(size=size, tilts_deg=np.linspace(-70, 70, tilts), seed=0)
        told = plan(Job.model_construct(), series, "cpu")
        run = measured(size, tilts)
        taken = sum(run.stages.values())
        stages = {k: round(v, 1) for k, v in run.stages.items()}
        forecast = {k: round(v, 1) for k, v in told.duration.stages.items() if v} if told.duration else {}
        found[case] = {"measured_s": round(taken, 1), "forecast_s": round(told.seconds, 1), "stages_s": stages,
                       "forecast_stages_s": forecast, "iterations": run.iterations, "regions": run.regions}  # fmt: skip
        print(
            f"{case}: forecast {told.seconds:.1f} s, measured {taken:.1f} s, ratio {told.seconds / taken:.2f}; "
            f"measured {stages}, forecast {forecast}, iterations {run.iterations}, regions {run.regions}",
            flush=True,
        )
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
