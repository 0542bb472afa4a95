"""What a finished run left behind, read for its report; what is lacking is named, not fatal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.analysis.resolution import ShellCorrelation
from recon.errors import InputError
from recon.files import read_record
from recon.io import find_volume
from recon.io.alignment import AlignmentRecord
from recon.report.record import REMEDY, JobRecord, read_job_record

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Amount:
    """What a region holds of one element.

    Attributes:
        density: counts per voxel length per unit exposure; nan if only the fraction was recorded.
        fraction: of the element's pure phase.
        low68, high68, low95, high95: intervals of the fraction; nan where there are none. Of a run without answers by
            `recon.composition` the first two are the repeatability, where it was asked for.
        smallest: the least fraction that these data would have shown here; nan where unknown.
    """

    density: float
    fraction: float
    low68: float = np.nan
    high68: float = np.nan
    low95: float = np.nan
    high95: float = np.nan
    smallest: float = np.nan

    @property
    def sure(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite([self.low95, self.high95]).all())


@dataclass(frozen=True)
class Place:
    """A region that was asked about.

    Attributes:
        name: as the user or the search called it.
        verdict: such as "Co alone".
        amounts: element to what is there.
        label: its number in `RunFolder.labels`.
        truth: element to the true fraction, of a simulated run.
    """

    name: str
    verdict: str
    amounts: Mapping[str, Amount]
    label: int
    truth: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The parts of an output folder that a report is made from.

    Attributes:
        folder, name: where it lies, and what it is called.
        job: ``job.json``.
        alignment: ``alignment.json``; None if there is none that can be read.
        volumes, truth, spread: element to ``(z, y, x)``: result, truth of a simulation, standard deviation.
        inside: ``(z, y, x)`` bool, the particle; everything where there is no mask.
        labels: ``(z, y, x)`` numbers of the regions, from 1; None where there are none.
        places: the regions, in the order of their answers.
        missing: one line for each part that is lacking.
    """

    folder: Path
    name: str
    job: JobRecord
    alignment: AlignmentRecord | None
    volumes: dict[str, NDArray[np.float32]]
    truth: dict[str, NDArray[np.float32]]
    spread: dict[str, NDArray[np.float32]]
    inside: NDArray[np.bool_]
    labels: NDArray[np.integer[Any]] | None
    places: tuple[Place, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def voxel_nm(self) -> float:
        """Edge of a voxel, nm."""
        return self.job.voxel_size_nm

    @property
    def unit(self) -> str:
        """Of the densities."""
        return self.job.unit

    @property
    def resolution(self) -> dict[str, ShellCorrelation]:
        """Fourier shell correlation of the halves of each element that has a volume."""
        return {n: c for n, c in self.job.resolution.items() if n in self.volumes}

    def typical(self, element: str) -> float:
        """Density of an element's pure phase; 0 where the run did not find one."""
        found = self.job.analysis.elements.get(element)
        return 0.0 if found is None else found.typical_density


def read_run(folder: Path, name: str) -> RunFolder:
    """Read what a report needs.

    Raises:
        InputError: there is no ``job.json`` that describes a run, or no volume at all.
    """
    if not (folder / "job.json").is_file():
        raise InputError(f"{folder} is not a finished run: it lacks job.json; name an output folder")
    job = read_job_record(folder / "job.json")
    missing: list[str] = []
    alignment = _alignment(folder, missing)
    volumes = _volumes(folder, list(job.elements), "{}", missing)
    if not volumes:
        raise InputError(f"{missing[-1]}; there is no volume to report on")
    shape = next(iter(volumes.values())).shape
    truth = _volumes(folder, [n for n in volumes if any(folder.glob(f"truth-{n}.*"))], "truth-{}", missing)
    spread = _volumes(folder, [n for n in volumes if n in job.analysis.uncertainty], "{}-uncertainty", missing)
    inside = _optional(folder, "mask", missing, "slices are then laid through the middle of the volume")
    labels = None
    if any(folder.glob("regions.*")):
        labels = _optional(folder, "regions", missing, "the regions are then not drawn")
        if labels is not None:
            labels = labels.astype(np.int32)
    cubes: dict[str, NDArray[Any] | None] = {"mask": inside, "regions": labels}
    for what, cube in cubes.items():
        if cube is not None and cube.shape != shape:
            missing.append(f"{what} has the shape {cube.shape}, the volumes {shape}; it is left out")
            cubes[what] = None
    inside, labels = cubes["mask"], cubes["regions"]
    return RunFolder(
        folder, name, job, alignment, volumes, truth, spread,
        np.ones(shape, bool) if inside is None else inside > 0, labels, _places(job), tuple(missing),
    )  # fmt: skip


def _alignment(folder: Path, missing: list[str]) -> AlignmentRecord | None:
    try:
        found = read_record(AlignmentRecord, folder / "alignment.json", REMEDY)
        found.check(folder / "alignment.json")
        return found
    except InputError as exc:
        missing.append(f"{exc}; the alignment is not shown")
        return None


def _volumes(folder: Path, names: list[str], pattern: str, missing: list[str]) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for name in names:
        values = _optional(folder, pattern.format(name), missing, f"{name} is not shown")
        if values is None:
            continue
        if found and values.shape != next(iter(found.values())).shape:
            missing.append(f"{name} has the shape {values.shape}, unlike the others; it is not shown")
            continue
        if not np.isfinite(values).all():
            missing.append(f"{pattern.format(name)} holds values that are not finite; it is not shown")
            continue
        found[name] = values.astype(np.float32, copy=False)
    return found


def _optional(folder: Path, name: str, missing: list[str], so: str) -> NDArray[Any] | None:
    try:
        return find_volume(folder, name)[0]
    except InputError as exc:
        missing.append(f"{exc}; {so}")
        return None


def _places(job: JobRecord) -> tuple[Place, ...]:
    """Answers of `recon.composition`."""
    found = job.composition
    out = []
    for k, (name, record) in enumerate(found.items(), 1):
        amounts = {
            element: Amount(*(_number(values.get(f.name)) for f in fields(Amount)))
            for element, values in record.items()
            if isinstance(values, dict) and "fraction" in values
        }
        truth = {} if job.analysis.truth is None else job.analysis.truth.fractions.get(name, {})
        out.append(Place(name, str(record.get("verdict", "")), amounts, k, truth))
    return tuple(out)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
