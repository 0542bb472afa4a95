"""The tables of a job file, and `Job`, which holds them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, Strict

from recon.files import Json
from recon.job.file import values
from recon.series.settings import MAX_ITERATIONS, TOLERANCE, DataTermName, Method, Projector, Settings

Names = Annotated[tuple[str, ...], Strict(False)]
Amount = float | dict[str, float] | Literal["auto"]


class Section(BaseModel):
    """A table of the job file: keys that are not known are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Input(Section):
    """``[input]``; every path is absolute."""

    maps: (
        Annotated[
            dict[Annotated[str, AfterValidator(values.element)], Annotated[Path, PlainValidator(values.existing)]],
            AfterValidator(values.distinct),
        ]
        | None
    ) = None
    spectra: Annotated[Path | tuple[Path, ...] | None, PlainValidator(values.spectra)] = None
    lines: Annotated[Names, AfterValidator(values.lines)] | None = None
    tilts: Annotated[Path | tuple[float, ...] | dict[str, float] | None, PlainValidator(values.tilts)] = None
    pixel_size_nm: Annotated[float | None, PlainValidator(values.pixel_size)] = None
    tilt_axis: Literal["y", "x"] = "y"
    background: Annotated[
        Amount, PlainValidator(values.amount("a number of counts per pixel, 0 or more", above=False))
    ] = "auto"
    scaled: bool = False
    leave_out: Annotated[tuple[float, ...] | dict[str, tuple[int, ...]], PlainValidator(values.leave_out)] = ()
    bad_pixels: Annotated[Path | Literal["nan"] | None, PlainValidator(values.bad_pixels)] = None


class Maps(Section):
    """``[maps]``: from spectra to maps, see `recon.maps.Options`."""

    window: Annotated[float, Field(ge=0.2, le=5)] = 1.2
    background: Literal["fit", "windows", "none"] = "fit"
    elements: Names = ()
    bin: Annotated[int, Field(ge=1, le=64)] = 1
    detectors: Literal["sum", "each"] = "sum"
    resolution_ev: Annotated[float | None, Field(gt=20, lt=1000)] = None


class Normalise(Section):
    """``[normalise]``"""

    method: Literal["auto", "constant-total", "none"] = "auto"
    exposures: Annotated[
        Path | tuple[float, ...] | dict[str, tuple[float, ...]] | None, PlainValidator(values.exposures)
    ] = None


class Align(Section):
    """``[align]``; `reference` holds all elements unless some were named. `file` and `upside_down` as in
    `recon.io.alignment.load_alignment`."""

    method: Literal["auto", "cross-correlation", "none"] = "auto"
    reference: Names = ()
    file: Annotated[Path | None, PlainValidator(values.existing)] = None
    upside_down: bool = False
    resample: bool = False


class Reconstruct(Section):
    """``[reconstruct]``"""

    method: Method = "tgv"
    data_term: DataTermName = "poisson"
    strength: Annotated[Amount, PlainValidator(values.amount("a positive number", above=True))] = "auto"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = TOLERANCE
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = MAX_ITERATIONS
    projector: Projector = "auto"
    thickness: Annotated[int | Literal["auto"], PlainValidator(values.thickness)] = "auto"
    half_precision: bool = False
    uncertainty: Annotated[int, PlainValidator(values.replicates)] = 0

    @property
    def settings(self) -> Settings:
        """What they ask of the solver; strengths go by element and are not in it."""
        given = "max_iterations" in self.model_fields_set
        return Settings(
            method=self.method,
            data_term=self.data_term,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations if given else None,
            projector=self.projector,
            thickness=self.thickness,
            half_precision=self.half_precision,
        )


class Mask(Section):
    """``[mask]``"""

    method: Literal["auto", "none"] = "auto"
    apply: bool = False


class Output(Section):
    """``[output]``; `aligned` also writes the aligned stacks, `alignment` the alignment for other programs."""

    formats: Annotated[Names, AfterValidator(values.formats)] = ("tiff",)
    checkpoints: bool = True
    aligned: bool = False
    alignment: Annotated[Names, AfterValidator(values.exports)] = ()


class Cluster(Section):
    """``[cluster]``: what ``recon submit`` asks for; it changes no result. See `recon.cluster.settings.Settings`."""

    scheduler: Literal["slurm", "pbs", "lsf"] | None = None
    partition: str | None = None
    cpu_partition: str | None = None
    account: str | None = None
    time: int | str | None = None
    memory: str | None = None
    gpus: Annotated[int | None, Field(ge=0)] = None
    cores: Annotated[int | None, Field(ge=1)] = None
    at_once: Annotated[int | None, Field(ge=0)] = None
    warning: Annotated[int | None, Field(ge=0)] = None
    setup: Names = ()
    options: Names = ()


class Job(Section):
    """A job file, checked, with its preset worked in. Build one with `load_job`."""

    preset: Literal["longley2018"] | None = None
    input: Input
    maps: Maps = Maps()
    normalise: Normalise = Normalise()
    align: Align = Align()
    reconstruct: Reconstruct = Reconstruct()
    mask: Mask = Mask()
    output: Output = Output()
    cluster: Cluster = Cluster()
    _path: Path = PrivateAttr(default=Path("job.toml"))

    @property
    def path(self) -> Path:
        """The job file, absolute."""
        return self._path

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the maps, in the order of the file."""
        return tuple(self.input.maps or self.input.lines or ())

    @property
    def output_dir(self) -> Path:
        """Where results go unless the user says otherwise: ``particle.toml`` -> ``particle-recon``, beside it."""
        return self._path.with_name(f"{self._path.stem}-recon")

    def resolved(self) -> dict[str, Json]:
        """Every parameter as plain JSON values; paths relative to the job file's folder where they lie in it.

        Without ``[cluster]``, since the result is the same wherever it is made.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, Path):
                inside = value.is_relative_to(self._path.parent)
                return (value.relative_to(self._path.parent) if inside else value).as_posix()
            if isinstance(value, Mapping):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, tuple | list) else value

        return {"job_file": self._path.name, **plain(self.model_dump(exclude={"cluster"}))}
