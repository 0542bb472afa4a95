"""What a run made, and the folder that it is written to."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from recon._version import __version__
from recon.analysis.agreement import Agreement
from recon.analysis.answers import Composition
from recon.analysis.composition import Analysis
from recon.analysis.pair_estimates import PairEstimates
from recon.analysis.resolution import ShellCorrelation
from recon.files import json_text
from recon.io import OutputFolder, write_volumes
from recon.io.alignment import AlignmentRecord, write_exports
from recon.io.folder import MARK
from recon.io.volumes import write_stacks, write_volume
from recon.job.file import Job
from recon.model.resampling import resample
from recon.reconstruction.uncertainty import Uncertainty
from recon.report.alignment import FRAMES
from recon.report.record import ElementRecord, JobRecord
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.solvers import Status


@dataclass(frozen=True)
class Result:
    """Everything a run made; what `write_result` writes."""

    series: TiltSeries
    volumes: dict[str, Volume]
    inside: np.ndarray
    analysis: Analysis
    timings: dict[str, float]
    device: str
    aligned: AlignmentRecord
    uncertainties: dict[str, Uncertainty] = field(default_factory=dict)
    replicates: int = 0  # that were asked for
    agreement: Agreement | None = None
    composition: Composition | None = None  # where regions were asked about
    resolution: dict[str, ShellCorrelation] = field(default_factory=dict)  # where there were halves
    pairs: dict[str, PairEstimates] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Elements that had not begun when the user stopped."""
        return tuple(e for e in self.series.elements if e not in self.volumes)

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run before everything had been done."""
        return (
            bool(self.missing)
            or any(v.made.status is Status.INTERRUPTED for v in self.volumes.values())
            or not self.sure
        )

    @property
    def sure(self) -> bool:
        """Whether every element has all the replicates that were asked for."""
        return not self.replicates or all(
            e in self.uncertainties and self.uncertainties[e].replicates == self.replicates for e in self.volumes
        )


def state_of(result: Result) -> str:
    """How far each element came, in words."""
    said = []
    for name, volume in result.volumes.items():
        s = volume.made
        stopped = s.status is Status.INTERRUPTED
        said.append(f"{name} not converged (certified gap {s.gap:.2g})" if stopped else f"{name} finished")
    said += [f"{name} not begun" for name in result.missing]
    if not result.sure:
        done = ", ".join(f"{n} {u.replicates}" for n, u in result.uncertainties.items()) or "none"
        said.append(f"replicates of the uncertainty done: {done} of {result.replicates}")
    return ", ".join(said)


def write_result(
    result: Result,
    target: Path,
    *,
    job: Job | None = None,
    hashes: Mapping[str, str] | None = None,
    overwrite: bool = False,
    truth: Mapping[str, Volume] | None = None,
) -> None:
    """Volumes, mask, ``alignment.json``, ``job.json`` and ``report.html`` as one folder."""
    from recon.report.page import write_report

    formats = job.output.formats if job is not None else ("tiff",)
    with OutputFolder(target, overwrite=overwrite) as folder:
        write_volumes(result.volumes, folder, formats=formats, mask=result.inside)
        if result.composition is not None and len(result.composition):
            write_volume(folder / "regions.tif", result.composition.labels, result.series.pixel_size_nm, "tiff")
        if result.uncertainties:
            made = [v for u in result.uncertainties.values() for v in (u.volume, u.error) if v is not None]
            write_volumes({v.element: v for v in made}, folder, formats=formats)
        if job is not None and job.output.aligned:
            aligned = result.series if result.series.scaled else resample(result.series)
            write_stacks(aligned, folder, formats)
        if truth is not None:
            write_volumes({f"truth-{n}": v for n, v in truth.items()}, folder)
        (folder / "alignment.json").write_text(json_text(result.aligned), encoding="utf-8")
        if result.agreement is not None:
            np.savez_compressed(folder / FRAMES, allow_pickle=False, **result.agreement.frames)
        if job is not None and job.output.alignment:
            write_exports(
                folder,
                result.aligned.alignment("alignment.json", "this run"),
                job.output.alignment,
                tilt_axis=job.input.tilt_axis,
                upside_down=job.align.upside_down,
            )
        (folder / MARK).write_text(json_text(job_record(result, job, hashes or {})), encoding="utf-8")
        if job is None or job.output.report:
            write_report(folder, name=target.name)


def job_record(result: Result, job: Job | None, hashes: Mapping[str, str]) -> JobRecord:
    """The record of a run."""
    return JobRecord(
        program="recon",
        version=__version__,
        status="interrupted" if result.interrupted else "done",
        missing=result.missing,
        job=None if job is None else job.resolved(),
        inputs=dict(hashes),
        device=result.device,
        machine={"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        versions={n: installed(n) for n in ("numpy", "numba", "scipy", "scikit-image", "astra-toolbox")},
        voxel_size_nm=result.series.pixel_size_nm,
        unit="counts per voxel length per unit exposure",
        elements={name: ElementRecord.of(volume.made) for name, volume in result.volumes.items()},
        analysis=result.analysis,
        stages=tuple(result.series.history),
        timings_s=dict(result.timings),
        composition={} if result.composition is None else result.composition.record,
        resolution=result.resolution,
        pairs=result.pairs,
    )


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def finished(target: Path, job: Job, hashes: Mapping[str, str]) -> str | None:
    """``"done"`` or ``"interrupted"`` if `target` holds results of this job on these inputs by this version."""
    try:
        record = json.loads((target / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = json.loads(json.dumps(job.resolved()))
    if record.get("job") != same or record.get("inputs") != dict(hashes) or record.get("version") != __version__:
        return None
    return str(record.get("status", "done"))
