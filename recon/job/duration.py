"""How long a run will take, by stage: `benchmarks/forecast.py` compares it with runs, and its numbers are from there.

Each stage's time is a few terms in the sizes that it depends on: tilts, pixels of the frame that it works on, voxels.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace

from recon.alignment.start import FINE
from recon.analysis.halves import ITERATIONS as ITERATIONS_OF_A_HALF
from recon.job.file import Job
from recon.job.file.sections import Reconstruct
from recon.reconstruction.strength import SLICES
from recon.series.settings import PRIMAL_DUAL

ITERATIONS = 430  # of one element to the default tolerance, on the grid of the result
HALF = 1.2 * ITERATIONS_OF_A_HALF  # with the start on coarser grids and the checks, see benchmarks/resolution.py
SEARCH = 380  # more where the strength is searched for, see benchmarks/strength.py
PER_VOXEL, PER_RAY = 8.6e-9, 0.6e-9  # seconds of one core, an iteration and a voxel: regulariser; and for each tilt
OVERHEAD = 6e-4  # seconds an iteration, whatever the size
CUDA = 1 / 140  # of one core's time, an H100
SHARED = 0.65  # power of the number of cores by which they are faster than one
ALIGN, ALIGN_PIXEL = 0.5, 4e-5  # seconds; and for each tilt and pixel of the frame it is matched on
THICKER = 4.0  # times as long where the object leaves the frame, and models of several thicknesses are tried
# Iterations of an element for regions: its fit and the simulated recordings, and more for each place; how many places
# are found where none are named, typically; and how much longer such an iteration takes, in a box around the particle.
REGIONS, PER_PLACE, PLACES, FREE_STEPS = 1850, 200, 2, 1.0
OUTPUT, OUTPUT_VOXEL = 2.5, 4e-7  # seconds: report and files; and for each voxel and element
READ = 1 / 2e8  # seconds a byte


@dataclass(frozen=True)
class Duration:
    """Seconds of each stage of a run; compilation, which happens once on a machine, aside.

    Attributes:
        reading, alignment, search, reconstruction, uncertainty, regions, halves, output: seconds.
        proposed: whether regions are those that are found in the volumes; where none are, their time is not needed.
    """

    reading: float
    alignment: float
    search: float
    reconstruction: float
    uncertainty: float
    regions: float
    halves: float
    output: float
    proposed: bool = False

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage, by name."""
        return {f.name: float(getattr(self, f.name)) for f in fields(self) if f.name != "proposed"}

    def slower(self, times: float) -> Duration:
        """What it takes if iterations take so many times as long."""
        return replace(self, search=times * self.search, reconstruction=times * self.reconstruction)

    @property
    def total(self) -> float:
        return math.fsum(self.stages.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_time(v)}" for name, v in self.stages.items() if v >= 0.5)
        if self.proposed and self.regions >= 0.5:
            parts = parts.replace("regions ", "regions (where some are found) ")
        return f"about {_time(self.total)}" + (f": {parts}" if parts else "")


def duration(
    shape: tuple[int, int, int], n_tilts: int, frame: tuple[int, int], n_elements: int, job: Job, device: str,
    cores: int | None = None, isolated: bool = True,
) -> Duration:  # fmt: skip
    """What a run will take for a volume ``(z, y, x)``, on `cores` of a CPU, by default those that kernels may use.

    `isolated` is whether the object is wholly in view.
    """
    how = job.reconstruct
    voxels, pixels = math.prod(shape), math.prod(frame)
    faster = (cores or usable_cores()) ** SHARED
    one = OVERHEAD + voxels * (PER_VOXEL + PER_RAY * n_tilts) * (CUDA if device == "cuda" else 1 / faster)
    found = job.align.method == "none" or job.align.file is not None
    small = pixels / max(1, math.ceil(max(frame) / FINE)) ** 2
    most = how.max_iterations
    solved = min(most, ITERATIONS) if how.method not in ("sirt", "fbp") else min(most, 30)
    if how.method == "fbp":
        solved = 5
    places = asked_about(job, n_elements)
    return Duration(
        reading=n_elements * n_tilts * pixels * 4 * READ,
        alignment=0.2 if found else (1 if isolated else THICKER) * (ALIGN + ALIGN_PIXEL * n_tilts * small),
        search=searched(how, n_elements) * SEARCH * one * (SLICES / shape[1] if shape[1] >= 2 * SLICES else 1.0),
        reconstruction=n_elements * solved * one,
        uncertainty=n_elements * solved * how.uncertainty * one,
        regions=n_elements * FREE_STEPS * one * (REGIONS + PER_PLACE * places) if places else 0.0,
        halves=n_elements * 2 * min(solved, HALF) * one if how.halves else 0.0,
        output=OUTPUT + OUTPUT_VOXEL * voxels * n_elements,
        proposed=isinstance(job.regions, str),
    )


def searched(options: Reconstruct, n_elements: int) -> int:
    """How many elements need a search for their strength."""
    if options.method not in ("tgv", "tv"):
        return 0
    if isinstance(options.strength, dict):
        return n_elements - len(options.strength)
    return n_elements if options.strength == "auto" else 0


def asked_about(job: Job, n_elements: int) -> int:
    """How many places a run will ask about: those that are named, or as many as are found typically."""
    if job.reconstruct.method not in PRIMAL_DUAL or job.regions == "none":
        return 0
    if isinstance(job.regions, str):
        return PLACES if n_elements > 1 else 0  # a place is where one element reaches into another
    return len(job.regions)


def usable_cores() -> int:
    """Cores that the kernels run on."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0)) if _affine else _cpus()


_affine = hasattr(os, "sched_getaffinity")


def _cpus() -> int:
    return os.cpu_count() or 1


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
