"""Where the time of a blind job goes: CPU seconds by stage, from maps on disk to the report.

    python benchmarks/stages.py [--size 64] [--dose 40] [--output FILE]

The demo's particle is simulated, its maps are written as TIFF, and a job file without options is run as `recon run`
runs it, in this process, kernels compiled before. Each second counts for the innermost stage: what is imported, or
loaded of compiled kernels, within a stage counts as that. CPU seconds say what a quiet machine with one core would
take; threads are those that the environment allows.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGUN = time.process_time()
# Function by the name under which it is called, and the stage that it is.
STAGES = {
    "recon.job.pipeline:read_job": "read",
    "recon.job.stages:normalise": "normalise",
    "recon.job.stages:align": "alignment",
    "recon.job.together:Call.run": "reconstruction",
    "recon.reconstruction.reconstruct:chosen": "strength search",
    "recon.job.stages:agreement": "agreement",
    "recon.job.stages:features": "regions",
    "recon.job.stages:composition": "regions",
    "recon.job.stages:halves": "halves",
    "recon.job.pipeline:correlations": "halves",
    "recon.job.pipeline:analyse": "analysis",
    "recon.job.pipeline:pair_estimates": "analysis",
    "recon.job.pipeline:write_result": "output",
    "recon.report.page:write_report": "report",
    "numba.core.dispatcher:Dispatcher._compile_for_args": "kernels loaded",
}


class Stopwatch:
    """CPU seconds of the innermost stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack, self.since = ["other"], BEGUN

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            # the halves of the counts are reconstructed, too, and that is theirs
            self.stack.append("halves" if stage == "reconstruction" and "halves" in self.stack else stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self.stack.pop()

        return call

    def watch(self, name: str, stage: str) -> None:
        """Time a function from now on."""
        module, path = name.split(":")
        owner: Any = importlib.import_module(module)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, self.timed(getattr(owner, last), stage))


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of a blind job by stage")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--dose", type=float, default=40.0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    watch = Stopwatch()
    builtins.__import__ = watch.timed(builtins.__import__, "imports")
    import numpy as np
    import tifffile

    from kernels import device_name
    from recon.job.file import load_job
    from recon.job.pipeline import run_job
    from recon.simulate import simulate

    tilts = np.linspace(-70, 70, 15)
    series, _ = simulate(size=args.size, tilts_deg=tilts, dose=args.dose, seed=0)
    for name, stage in STAGES.items():
        watch.watch(name, stage)
    with tempfile.TemporaryDirectory() as folder:
        for element, maps in zip(series.elements, series.counts, strict=True):
            tifffile.imwrite(f"{folder}/{element}.tif", maps.astype(np.uint16))
        maps_of = ", ".join(f'{e} = "{e}.tif"' for e in series.elements)
        job = Path(folder) / "job.toml"
        job.write_text(
            f"[input]\nmaps = {{ {maps_of} }}\ntilts = {tilts.tolist()}\npixel_size_nm = {series.pixel_size_nm}\n"
        )
        watch._turn()
        simulated = watch.seconds.pop("other", 0.0)
        record = Path(run_job(load_job(job), out=Path(folder) / "out", device="cpu")) / "job.json"
        timings = json.loads(record.read_text())["timings_s"]
    watch._turn()
    total = sum(watch.seconds.values())
    print(f"{args.size}^3, {len(tilts)} tilts: {total:.1f} CPU s, beside {simulated:.1f} for the simulation")
    for stage, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"{stage:>18} {seconds:7.2f}  {seconds / total:5.1%}")
    result = {
        "size": args.size, "dose": args.dose, "machine": device_name("cpu"), "cpu_seconds": dict(watch.seconds),
        "total": total, "wall_seconds_by_stage_of_the_record": timings,
    }  # fmt: skip
    output = args.output or Path(__file__).parent / "results" / f"stages-{args.size}.json"
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
