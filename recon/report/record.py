"""``job.json``: the record of a run, enough to repeat it and to judge it. The job writes it, the report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recon.analysis.composition import Analysis
from recon.analysis.pair_estimates import PairEstimates
from recon.analysis.resolution import ShellCorrelation
from recon.backend import Array
from recon.errors import InputError
from recon.files import read_record
from recon.series.settings import Settings
from recon.series.volume import Coupling, Parameters, Record, Solution, Status, StrengthChoice

REMEDY = "the run is not whole, run the job again"


@dataclass(frozen=True)
class ElementRecord:
    """How one element was reconstructed, see `recon.series.volume.Solution`; `why` says in words why it stopped."""

    status: str
    why: str
    iterations: int
    settings: Settings
    parameters: Parameters | None
    choice: StrengthChoice | None
    history: tuple[Record, ...]
    coupling: Coupling | None = None

    @classmethod
    def of(cls, solution: Solution) -> ElementRecord:
        return cls(
            status=solution.status.name.lower(),
            why=solution.status.value,
            iterations=solution.iterations,
            settings=solution.settings or Settings(),
            parameters=solution.parameters,
            choice=solution.choice,
            history=tuple(solution.history),
            coupling=solution.coupling,
        )

    def solution(self, value: Array | None) -> Solution:
        """The solution that it describes, with its volume ``(z, x, y)`` or None."""
        status = Status[self.status.upper()]
        how = (self.parameters, self.settings, self.choice, self.coupling)
        return Solution(value, status, self.iterations, self.history, *how)


@dataclass(frozen=True)
class JobRecord:
    """What a run did.

    Attributes:
        program, version: who wrote it.
        status: ``"done"`` or ``"interrupted"``.
        missing: elements that had not begun when the user stopped.
        job: every parameter of the job file, resolved; None of the demo.
        inputs: SHA-256 of each input file.
        device, machine, versions: what it ran on.
        voxel_size_nm: edge of a voxel.
        unit: of the volumes.
        elements: by name.
        analysis: what the volumes say.
        stages: what was done to the series, one line each.
        timings_s: seconds of each stage.
        composition: what regions hold, see `recon.analysis.answers.Composition`, which reads it.
        resolution: Fourier shell correlation of each element's halves, where there were any.
        pairs: ``"Co-Zn"`` and so on to the statistics of two elements with their intervals.
    """

    program: str
    version: str
    status: str
    missing: tuple[str, ...]
    job: Mapping[str, object] | None
    inputs: dict[str, str]
    device: str
    machine: dict[str, str]
    versions: dict[str, str | None]
    voxel_size_nm: float
    unit: str
    elements: dict[str, ElementRecord]
    analysis: Analysis
    stages: tuple[str, ...]
    timings_s: dict[str, float]
    composition: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resolution: dict[str, ShellCorrelation] = field(default_factory=dict)
    pairs: dict[str, PairEstimates] = field(default_factory=dict)


def read_job_record(path: Path) -> JobRecord:
    """The record in a ``job.json``.

    Raises:
        InputError: it cannot be read, or is not whole.
    """
    found = read_record(JobRecord, path, REMEDY)
    if not found.elements:
        raise InputError(f"{path}: elements is empty; {REMEDY}")
    for name, pair in found.analysis.pairs.items():
        if len(pair.only) != 2:
            raise InputError(f"{path}: analysis.pairs.{name}.only is not about two elements; {REMEDY}")
    if not found.voxel_size_nm > 0:
        raise InputError(f"{path}: voxel_size_nm is {found.voxel_size_nm:g}, which must be positive; {REMEDY}")
    return found
