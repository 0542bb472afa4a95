"""What `recon check` forecasts against what a run takes, by stage: ``python benchmarks/forecast.py 32x15 64x31 ...``.

Each argument is SIZExTILTS of the demo's particle; without any, stored runs are forecast anew. Seconds are those of the
process on one thread, so that a busy machine changes little (up to half more where caches are shared); each case runs
after a small one that compiles and loads everything. Results go to ``benchmarks/results/forecast.json``, one entry a
case, old ones kept; stages that an older run did not have are left out of its forecast.
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


# stage of a forecast to that of a run
OF_RUN = {"reading": "read", "alignment": "align", "search": "reconstruct", "reconstruction": "reconstruct",
          "uncertainty": "uncertainty", "regions": "regions", "halves": "halves", "output": "write"}  # fmt: skip


def forecast(case: str, stages: dict[str, float]) -> dict[str, float]:
    """Seconds of the stages that a run had, as `recon check` forecasts them; older runs knew fewer stages."""
    size, tilts = map(int, case.split("x"))
    series, _ = simulate(size=size, tilts_deg=np.linspace(-70, 70, tilts), seed=0)
    told = plan(Job.model_construct(), series, "cpu").duration
    assert told is not None
    return {k: round(v, 1) for k, v in told.stages.items() if v and OF_RUN[k] in stages}


def main(cases: list[str]) -> None:
    """Measure, then forecast all stored cases anew; the ratio of forecast to measured is what counts."""
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if cases:
        measured(16, 7)
    for case in cases:
        run = measured(*map(int, case.split("x")))
        found[case] = {"stages_s": {k: round(v, 1) for k, v in run.stages.items()}, "iterations": run.iterations,
                       "regions": run.regions}  # fmt: skip
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for case, stored in found.items():
        stages = {k: round(v, 1) for k, v in stored["stages_s"].items() if isinstance(v, int | float)}
        told = forecast(case, stages)
        stored |= {"stages_s": stages, "measured_s": round(sum(stages.values()), 1), "forecast_stages_s": told,
                   "forecast_s": round(sum(told.values()), 1)}  # fmt: skip
        ratio = stored["forecast_s"] / stored["measured_s"]
        print(f"{case}: forecast {stored['forecast_s']} s, measured {stored['measured_s']} s, ratio {ratio:.2f}; "
              f"measured {stages}, forecast {told}", flush=True)  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
