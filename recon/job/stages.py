"""The stages of a job between reading and writing, and how long each takes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from recon import backend
from recon.alignment.align import align
from recon.alignment.doubts import doubts, left_out_line
from recon.analysis.agreement import Agreement, agreement
from recon.analysis.answers import Composition
from recon.analysis.composition import figures
from recon.analysis.features import features
from recon.analysis.halves import Halves, halves, not_divisible
from recon.analysis.regions import REPLICATES, composition
from recon.errors import InputError, StoppedError
from recon.io.alignment import AlignmentRecord, alignment_record
from recon.job.checkpoint import Checkpoints
from recon.job.file import Job
from recon.job.overrides import align_reference, given_alignment, known_exposures, read_regions
from recon.job.progress import Watcher
from recon.job.resources import gib
from recon.job.together import Call
from recon.model.grid import grid
from recon.parallel import ALONE, Ranks, local_ranks
from recon.preparation.normalise import normalise
from recon.reconstruction.reconstruct import Progress, Strength
from recon.reconstruction.uncertainty import Uncertainty, uncertainty
from recon.series.settings import PRIMAL_DUAL, Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Status, Volume
from recon.solvers.memory import available, needed, needed_for_regions


def compile_ahead(job: Job, device: str, log: Callable[[str], None]) -> None:
    """Begin to compile what a job needs of the CPU, if this machine has not done so yet; see `compile_kernels`."""
    if device == "cpu":
        how = job.reconstruct
        solver = how.method not in ("sirt", "fbp")
        backend.compile_kernels(log, solver=solver, half_precision=how.half_precision, coupled=how.coupling != "none")


@dataclass
class Stages:
    """What the stages of one run share, and how long each took.

    Attributes:
        job: the options.
        device: ``"cpu"`` or ``"cuda"``.
        watch: where progress goes.
        keeper: checkpoints of the run, or None.
        ranks: that share each volume.
        budget: bytes that a reconstruction may take; None for all that are free.
        timings: seconds by stage.
    """

    job: Job
    device: str
    watch: Watcher
    keeper: Checkpoints | None
    ranks: Ranks = ALONE
    budget: int | None = None
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A job that is read from memory has compiled nothing so far."""
        compile_ahead(self.job, self.device, self.watch.log)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of what is done in here to that of a stage."""
        clock = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - clock, 3)

    def prepare(self, series: TiltSeries) -> TiltSeries:
        """Exposures and background."""
        job = self.job
        with self.timed("normalise"):
            background = job.input.background if getattr(job, "input", None) is not None else "auto"
            exposures, errors = known_exposures(job, series)
            series = normalise(series, job.normalise.method, background, exposures, self.watch.log)
            if errors is not None:
                series = series.evolve(exposure_errors=errors)
        return series

    def align(self, series: TiltSeries) -> TiltSeries:
        """The alignment, given or found."""
        job = self.job
        with self.timed("align"), backend.device_errors():
            if job.align.file is not None:
                series = given_alignment(job, series)
            else:
                series = align(
                    series, job.align.method, reference=align_reference(job, series), log=self.watch.log,
                    device=self.device,
                )  # fmt: skip
            self.watch.log(series.history[-1])
        return series

    def aligned(self, read: TiltSeries) -> tuple[TiltSeries, AlignmentRecord]:
        """The series prepared and aligned, or taken from where an earlier run kept it, and the record of it."""
        kept = self.keeper.series(read) if self.keeper is not None else None
        if kept is not None:
            series, timings = kept
            self.timings |= timings
        else:
            series = self.align(self.prepare(read))
            if self.keeper is not None:
                self.keeper.keep_series(read, series, self.timings)
        return series, alignment_record(series)  # before resampling takes it out of the series

    def reconstruct(self, series: TiltSeries, elements: Sequence[str] | None = None) -> dict[str, Volume]:
        """One volume for each element, or for each of some."""
        options = self.job.reconstruct
        self.watch.tolerance = options.tolerance
        with self.timed("reconstruct"), backend.device_errors():
            settings = replace(options.settings, memory=self.budget)
            call = Call(series, settings, options.strength, elements, self.device)
            volumes = call.run(self.ranks, self._folder, self.keeper, self.watch)
            for name, volume in volumes.items():
                solution = volume.made
                self.watch.log(f"{name}: {solution.iterations} iterations; {solution.status.value}")
                if solution.status is Status.INTERRUPTED and self.keeper is None:
                    raise StoppedError(
                        f"stopped by Ctrl-C while reconstructing {name}; nothing of this job was written"
                    )
        return volumes

    def agree(
        self, read: TiltSeries, series: TiltSeries, volumes: Mapping[str, Volume], record: AlignmentRecord
    ) -> tuple[AlignmentRecord, Agreement | None]:
        """Maps against re-projections, and the record with what that says of the alignment."""
        with self.timed("analyse"):
            agreed = agreement(read, series, volumes, self.job.align.elements or series.elements, self.device)
            record = replace(record, agreement=None if agreed is None else agreed.record)
            # those of an estimate, and tilts left out, were told when they were found
            told = (*left_out_line(record), *(() if self.job.align.file is not None else record.doubts))
            record = replace(record, doubts=doubts(record))
            for doubt in record.doubts:
                if doubt not in told:
                    self.watch.log(f"warning: alignment: {doubt}")
        return record, agreed

    def ask(self, series: TiltSeries, volumes: Mapping[str, Volume]) -> Composition | None:
        """What the regions hold that the job names, or that are found."""
        job, stopped = self.job, len(volumes) < len(series.elements)
        stopped = stopped or any(v.made.status is Status.INTERRUPTED for v in volumes.values())
        if job.regions == "none" or stopped or job.reconstruct.method not in PRIMAL_DUAL:
            return None
        with self.timed("regions"), backend.device_errors():
            regions = read_regions(job, series)
            found_there = features(volumes)
            if regions is None and not found_there:
                return None
            fields = len(regions or ()) + len(found_there) + len(volumes)
            shape = grid(series, job.reconstruct.thickness).shape
            need = needed_for_regions(
                shape,
                series.n_tilts,
                series.frame,
                fields,
                job.reconstruct.method,
                self.device,
                len(volumes),
                REPLICATES,
            )
            free = min(available(self.device), self.budget or need)
            if need > free:
                self.watch.log(
                    f"warning: regions not asked about: that needs {gib(need)} of memory, {gib(free)} are free"
                )
                return None
            try:
                found = composition(series, volumes, regions, device=self.device, log=self.watch.log)
            except InputError as exc:  # of a place; volumes of hours are not lost for it
                self.watch.log(f"warning: regions not asked about: {exc}")
                return None
            for line in found.lines():
                self.watch.log(line)
        return found

    def halve(self, series: TiltSeries, volumes: Mapping[str, Volume]) -> Halves | None:
        """Each element twice more, from independent halves of its counts, if the job wants that and it can be done."""
        options, stopped = self.job.reconstruct, len(volumes) < len(series.elements)
        if not options.halves or stopped or any(v.made.status is Status.INTERRUPTED for v in volumes.values()):
            return None
        why = not_divisible(series, volumes)
        shape = grid(series, options.thickness).shape
        coupled = sum(bool(v.made.together) for v in volumes.values())
        sizes = (shape, series.n_tilts, series.frame, 2 * len(volumes), options.method, self.device)
        memory = needed(*sizes, channels=coupled)
        need, free = memory.device if self.device == "cuda" else memory.host, available(self.device)
        need = need * local_ranks() // self.ranks.size
        if self.budget is not None:  # in slabs, too
            need = min(need, self.budget + 2 * len(volumes) * 4 * math.prod(shape))
        if not why and need > free:
            why = f"that needs {gib(need)} of memory, {gib(free)} are free"
        if why:
            self.watch.log(f"resolution not measured: {why}")
            return None
        with self.timed("halves"), backend.device_errors():
            if self.ranks.size == 1:
                return halves(series, volumes, device=self.device)
            return halves(series, volumes, device=self.device, solve=self._solve)

    @property
    def _folder(self) -> Path | None:
        """Where ranks leave files for each other."""
        return None if self.keeper is None else self.keeper.folder

    def _solve(
        self, series: TiltSeries, settings: Settings, strength: Strength, *, elements: Sequence[str], device: str,
        progress: Progress | None, log: Callable[[str], None],
    ) -> dict[str, Volume]:  # fmt: skip
        """As `reconstruct_with`, by all ranks."""
        watch = Watcher(log, progress or Watcher().step)
        return Call(series, settings, strength, elements, device).run(self.ranks, self._folder, watch=watch)

    def sure(self, series: TiltSeries, volumes: Mapping[str, Volume], inside: np.ndarray) -> dict[str, Uncertainty]:
        """The uncertainty that was asked for."""
        options = self.job.reconstruct
        if not options.uncertainty:
            return {}
        with self.timed("uncertainty"):
            found = uncertainty(
                series,
                volumes,
                options.uncertainty,
                figures=lambda element, values: figures(values, inside),
                tolerance=options.tolerance,
                max_iterations=options.max_iterations,
                device=self.device,
                progress=self.watch.step,
                checkpoints=self.keeper,
            )
            for name, spread in found.items():
                self.watch.log(f"{name}: repeatability from {spread.replicates} replicates")
        return found
