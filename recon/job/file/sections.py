"""The tables of a job file, and `Job`, which holds them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, Strict

from recon.files import Json
from recon.job.file import channels, values
from recon.series.settings import MAX_ITERATIONS, TOLERANCE, CouplingName, DataTermName, Method, Projector, Settings

Names = Annotated[tuple[str, ...], Strict(False)]
Amount = float | dict[str, float] | Literal["auto"]


class Section(BaseModel):
    """A table of the job file: keys that are not known are errors, and nothing is converted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Input(Section):
    """``[input]``: what was recorded."""

    maps: (
        Annotated[
            dict[
                Annotated[str, AfterValidator(values.element)],
                Annotated[Path | tuple[Path, ...] | channels.OwnMaps, PlainValidator(channels.maps_of)],
            ],
            AfterValidator(values.distinct),
        ]
        | None
    ) = None
    """Element to a file of counts, a stack `(tilt, y, x)`: TIFF, MRC, NPY, NPZ, HSPY, EMD, OME-Zarr, DM, SER, VTI. Or
    to a table of what is its own: `{ files = "Zn.tif", tilts = "Zn.rawtlt", pixel_size_nm = 10 }`, of which tilts,
    pixel_size_nm, bad_pixels and leave_out may be left out."""
    spectra: Annotated[Path | tuple[Path, ...] | None, PlainValidator(values.spectra)] = None
    """In place of maps, EDS spectrum images: a folder, a pattern such as `"tilt_*.bcf"` or a list of files."""
    lines: Annotated[Names, AfterValidator(values.lines)] | None = None
    """With spectra: X-ray lines as HyperSpy writes them, such as `["Fe_Ka", "Si_Ka"]`."""
    tilts: Annotated[Path | tuple[float, ...] | dict[str, float] | None, PlainValidator(values.tilts)] = None
    """Degrees: a file (.rawtlt, .tlt, .mdoc), a list or `{ start = -70, stop = 70, step = 10 }`."""
    pixel_size_nm: Annotated[float | None, PlainValidator(values.pixel_size)] = None
    """Edge of a recorded pixel; what the files say, where they do."""
    tilt_axis: Literal["y", "x"] = "y"
    """Side of the maps that the tilt axis is parallel to: `"y"` is vertical, tilting compresses x."""
    background: Annotated[
        Amount, PlainValidator(values.amount("a number of counts per pixel, 0 or more", above=False))
    ] = "auto"
    """Counts per pixel that are not of the object, one number or by element."""
    scaled: bool = False
    """Whether the maps are no longer counts; then `data_term = "least-squares"`."""
    leave_out: Annotated[tuple[float, ...] | dict[str, tuple[int, ...]], PlainValidator(values.leave_out)] = ()
    """Tilts without weight, in degrees, or `{ number = [1, 10] }`, counted from 1 in the order of the maps."""
    bad_pixels: Annotated[Path | Literal["nan"] | None, PlainValidator(values.bad_pixels)] = None
    """An image for all tilts, or one for each, other than 0 where a pixel has no weight; or `"nan"`: pixels that
    hold no number."""


Angles = Annotated[Path | tuple[float, ...] | dict[str, float] | None, PlainValidator(values.tilts)]


class Geometry(Section):
    """``[geometry]``: how the maps were taken, where that was not by tilting about one axis; see `recon.job.geometry`.

    Of a dual-axis series the maps about the second axis, `axis_deg` from y towards x, follow those about the first.
    """

    scheme: Literal["single-axis", "dual-axis", "conical", "vectors"] = "single-axis"
    """`"dual-axis"`: two series of one specimen, turned in its holder in between. `"conical"`: one tilt, the specimen
    turned about the beam's axis between maps. `"vectors"`: each map as a file says."""
    second_tilts: Angles = None
    """Of a dual-axis series, tilts about the second axis, as `input.tilts`; the same ones by default."""
    axis_deg: Annotated[float, Field(gt=-180, lt=180)] = 90.0
    """Of a dual-axis series, the direction of the second axis in the specimen, degrees from y towards x."""
    tilt_deg: Annotated[float | None, Field(gt=0, lt=90)] = None
    """Of a conical series, the tilt of all maps, degrees."""
    azimuths: Angles = None
    """Of a conical series, the direction of the tilt axis in the specimen at each map, degrees from y towards x: a
    file, a list or a range."""
    vectors: Annotated[Path | None, PlainValidator(values.existing)] = None
    """Twelve numbers a map, as ASTRA's `parallel3d_vec`: beam, detector's centre, column and row step, each X Y Z in
    pixels; text, .csv or .npy."""


class Maps(Section):
    """``[maps]``: from spectra to maps, see `recon.eds.windows.Options`."""

    window: Annotated[float, Field(ge=0.2, le=5)] = 1.2
    """Whole width of a line's window, in units of its FWHM, 0.2 to 5."""
    background: Literal["fit", "windows", "none"] = "fit"
    """What is in a window beside its line: `"fit"` all lines and continuum of the spectrum, `"windows"` a straight
    line between two windows beside it, or `"none"`."""
    elements: Names = ()
    """Others that may be in the spectrum; the lines' and the files' are known."""
    bin: Annotated[int, Field(ge=1, le=64)] = 1
    """Pixels added up along each edge, 1 to 64."""
    detectors: Literal["sum", "each"] = "sum"
    """`"each"` keeps the detectors of Velox files apart, for `recon maps`."""
    resolution_ev: Annotated[float | None, Field(gt=20, lt=1000)] = None
    """FWHM at Mn Ka, where the files do not tell."""


class Normalise(Section):
    """``[normalise]``: how much each map was exposed."""

    method: Literal["auto", "constant-total", "none"] = "auto"
    """How exposures are found: `"constant-total"` where the object is isolated; `"auto"` tests that on the data."""
    exposures: Annotated[
        Path | tuple[float, ...] | dict[str, tuple[float, ...]] | None, PlainValidator(values.exposures)
    ] = None
    """Known ones: a file (.csv, .txt, alignment.json), a number for each tilt, or a table of these by element. Only
    ratios matter."""


class Align(Section):
    """``[align]``: where each map lies, see `recon.io.alignment.load_alignment` for files."""

    method: Literal["auto", "cross-correlation", "none"] = "auto"
    """`"cross-correlation"` as in Longley et al. (2018); `"none"` for maps that are aligned."""
    reference: Annotated[Names | str | channels.Image, PlainValidator(channels.reference)] = ()
    """Elements that are added up for the alignment, all, unless some are named; or an image that was recorded with the
    maps: its file, such as `"haadf.mrc"`, a pattern, or with spectra its name in their files, such as `"HAADF"`.
    One that has tilts or pixels of its own: `{ image = "haadf.mrc", tilts = "haadf.rawtlt", pixel_size_nm = 1.2 }`."""
    file: Annotated[Path | None, PlainValidator(values.existing)] = None
    """An alignment in place of an estimate: `alignment.json`, IMOD's .xf, .prexg, .prexf, or JSON of shifts."""
    upside_down: bool = False
    """Whether the program that made the file sees the rows of the maps in the opposite order."""
    resample: bool = False
    """Interpolate the maps into the aligned frame instead of putting the alignment into the model."""

    @property
    def elements(self) -> tuple[str, ...] | None:
        """Elements of the reference; None where it is an image."""
        return self.reference or None if isinstance(self.reference, tuple) else None

    @property
    def image(self) -> channels.Image | None:
        """The image that is the reference, if it is one."""
        return channels.image_of(self.reference)


class Reconstruct(Section):
    """``[reconstruct]``: how each element is computed."""

    method: Method = "tgv"
    """`"tgv"`, `"tv"` and `"none"` (no regulariser) by the certified solver; `"sirt"` and `"fbp"` as baselines."""
    data_term: DataTermName = "poisson"
    """`"poisson"` for counts."""
    strength: Annotated[Amount, PlainValidator(values.amount("a positive number", above=True))] = "auto"
    """a1 of the regulariser, found from the data, or one number, or by element."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = TOLERANCE
    """Certified relative gap at which the solver stops."""
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = MAX_ITERATIONS
    """Safety net of the solver; number of iterations of SIRT (then 30 by default)."""
    projector: Projector = "auto"
    """Our own where the geometry allows it, or ASTRA."""
    thickness: Annotated[int | Literal["auto"], PlainValidator(values.thickness)] = "auto"
    """Voxels along the beam; the frame's width by default."""
    half_precision: bool = False
    """The regulariser's duals in 16 bits, where memory is short and counts are few."""
    memory: Annotated[int | None, PlainValidator(values.memory)] = None
    """Most that a reconstruction may take, such as `"8 GB"`, of the GPU's memory where one computes: with less than it
    needs, slabs wait in a file or on the host. By default what is free. It changes a result by rounding only."""
    coupling: CouplingName = "none"
    """`"none"`: each element on its own. `"frobenius"` or `"nuclear"`: all together, their edges sought in the same
    places, by that norm of their gradients. `"auto"`: together where held-out counts gain by it."""
    couple_image: bool = False
    """Whether the image of `align.reference` is one more channel that is coupled."""
    uncertainty: Annotated[int, PlainValidator(values.replicates)] = 0
    """Replicates behind standard deviations and intervals, such as 20; 0 for none."""
    halves: bool = True
    """Whether each element is reconstructed twice more, from independent halves of its counts, for at most 200
    iterations: for its resolution and for the intervals of what two elements share. Takes about half as long again as
    the reconstruction with its search."""

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
            memory=self.memory,
            coupling=self.coupling,
            couple_image=self.couple_image,
        )


class Mask(Section):
    """``[mask]``: the particle."""

    method: Literal["auto", "none"] = "auto"
    """How the particle's shape is found."""
    apply: bool = False
    """Whether all outside the particle is set to zero."""


class Output(Section):
    """``[output]``: what is written."""

    formats: Annotated[Names, AfterValidator(values.formats)] = ("tiff",)
    """Of the volumes: `"tiff"`, `"mrc"`, `"ome-zarr"` (0.5), `"ome-zarr-0.4"`, `"hspy"`, `"emd"`, `"vti"`."""
    report: bool = True
    """Whether `report.html` is written, which takes seconds; `recon report` writes it later."""
    checkpoints: bool = True
    """Whether a run that is stopped can go on."""
    aligned: bool = False
    """Whether the aligned stacks are written, too."""
    alignment: Annotated[Names, AfterValidator(values.exports)] = ()
    """The alignment for other programs: `"xf"`, `"prexg"`, `"shifts"`."""


class Cluster(Section):
    """``[cluster]``: what ``recon submit`` asks for; it changes no result. See `recon.cluster.settings.Settings`."""

    scheduler: Literal["slurm", "pbs", "lsf"] | None = None
    """Of the computing centre."""
    partition: str | None = None
    """Queue of the tasks that reconstruct."""
    cpu_partition: str | None = None
    """Queue of the tasks that need no GPU."""
    account: str | None = None
    """Whom the time is charged to."""
    time: int | str | None = None
    """Limit of a task, minutes or `"HH:MM:SS"`; from the forecast by default."""
    memory: str | None = None
    """Limit of a task, such as `"16G"`; from the forecast by default."""
    gpus: Annotated[int | None, Field(ge=0)] = None
    """For each task that reconstructs."""
    cores: Annotated[int | None, Field(ge=1)] = None
    """For each task."""
    at_once: Annotated[int | None, Field(ge=0)] = None
    """Tasks of an array that may run together, 0 for all."""
    warning: Annotated[int | None, Field(ge=0)] = None
    """Seconds before the time limit at which a task saves its state."""
    setup: Names = ()
    """Lines of shell before each task, such as `"module load cuda"`."""
    options: Names = ()
    """Further lines for the head of the script."""


class Job(Section):
    """A job file, checked, with its preset worked in. Build one with `load_job`."""

    preset: Literal["longley2018"] | None = None
    """`"longley2018"`: the choices of the paper; keys that are given win over it."""
    input: Input
    geometry: Geometry = Geometry()
    maps: Maps = Maps()
    normalise: Normalise = Normalise()
    align: Align = Align()
    reconstruct: Reconstruct = Reconstruct()
    mask: Mask = Mask()
    regions: Annotated[values.RegionTable, PlainValidator(values.regions)] = "auto"
    """Places to ask about, by name: an ellipsoid, sphere or box in voxels (z, y, x), or a mask file; without it, the
    largest places that are found; `"none"` asks about none."""
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

        Without ``[cluster]`` and the memory that it may take, since the result is the same wherever it is made.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, Path):
                inside = value.is_relative_to(self._path.parent)
                return (value.relative_to(self._path.parent) if inside else value).as_posix()
            if isinstance(value, Mapping):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, tuple | list) else value

        made = self.model_dump(exclude={"cluster": True, "reconstruct": {"memory"}}, warnings=False)
        return {"job_file": self._path.name, **plain(made)}
