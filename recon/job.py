"""Job files: TOML in, a checked `Job` out, or one line that says what is wrong and where."""

from __future__ import annotations

import difflib
import math
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    Strict,
    ValidationError,
    ValidationInfo,
)

from recon.errors import JobError
from recon.reading import explain_reading

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # Longley et al., Nat. Commun. 9:2135 (2018), Methods
    "longley2018": {
        "normalise": {"method": "constant-total"},
        "align": {"method": "cross-correlation", "resample": True},
        "reconstruct": {"method": "tgv", "data_term": "least-squares"},
        "mask": {"method": "auto", "apply": True},
    },
}
_ELEMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_RESERVED = ("mask", "job", "alignment", "report")  # files of a finished run
_FORMATS = ("tiff", "mrc", "ome-zarr", "hspy", "emd", "vti")
_EXPORTS = ("xf", "prexg", "shifts")
_RANGE = ("start", "stop", "step")


def _number(value: Any, what: str, low: float, *, above: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {what}, not {_describe(value)}")
    if not abs(value) <= sys.float_info.max or value < low or (above and value == low):
        raise ValueError(f"is {_describe(value)}; it must be {what}")
    return float(value)


def _amount(what: str, *, above: bool) -> Callable[[Any], float | str | dict[str, float]]:
    """ "auto", a number, or a table of numbers by element."""
    full = f"'auto', {what}, or a table of these by element"

    def check(value: Any) -> float | str | dict[str, float]:
        if value == "auto":
            return "auto"
        if isinstance(value, dict) and value:
            for element, number in value.items():
                try:
                    _number(number, what, 0.0, above=above)
                except ValueError as exc:
                    raise ValueError(f"of {element} {exc}") from exc
            return {element: float(number) for element, number in value.items()}
        return _number(value, full, 0.0, above=above)

    return check


def _base(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "."))


def _existing(value: Any, info: ValidationInfo) -> Path:
    """A path relative to the job file, made absolute."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the path of a file, not {_describe(value)}")
    path = Path(os.path.abspath(_base(info) / Path(value).expanduser()))
    try:
        found = path.exists()
    except OSError as exc:
        raise ValueError(f"{value} cannot be opened ({exc.strerror})") from exc
    if not found:
        raise ValueError(f"{value} does not exist; paths are relative to the job file")
    if path.is_dir():
        raise ValueError(f"{value} is a folder; name a file")
    return path


def _element(name: str) -> str:
    if not _ELEMENT.fullmatch(name) or name.casefold() in _RESERVED:
        raise ValueError("cannot name a file of results; use letters, digits, _, + and -, as in Fe or Fe_Ka")
    return name


def _distinct(maps: dict[str, Path]) -> dict[str, Path]:
    if not maps:
        raise ValueError('is empty; name at least one map, such as { Co = "Co.tif" }')
    seen: dict[str, str] = {}
    for name in maps:
        if name.casefold() in seen:
            raise ValueError(f"names {seen[name.casefold()]} and {name}, which differ in case only; rename one")
        seen[name.casefold()] = name
    return maps


def _tilts(value: Any, info: ValidationInfo) -> Path | tuple[float, ...] | dict[str, float]:
    if isinstance(value, str):
        return _existing(value, info)
    if isinstance(value, list) and value:
        return tuple(_number(t, f"a finite number of degrees (tilt {i})", -math.inf) for i, t in enumerate(value, 1))
    if isinstance(value, dict):
        for key in value:
            if key not in _RANGE:
                raise ValueError(f"has the unknown key '{key}'; {_nearest(key, _RANGE)}")
        for key in _RANGE:
            if key not in value:
                raise ValueError(f"lacks {key}; a range is {{ start = -70, stop = 70, step = 10 }}")
        return {key: _number(value[key], f"a finite number of degrees ({key})", -math.inf) for key in _RANGE}
    raise ValueError(
        "must be a file, a list of degrees or a range { start = -70, stop = 70, step = 10 }, not " + _describe(value)
    )


def _pixel_size(value: Any) -> float:
    return _number(value, "a positive number of nanometres", 0.0, above=True)


def _thickness(value: Any) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be 'auto' or a whole number of voxels, not {_describe(value)}")
    if value < 1:
        raise ValueError(f"is {value}; it must be at least 1 voxel")
    return value


def _replicates(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number of replicates, not {_describe(value)}")
    if value < 0 or value == 1 or value > 10_000:
        raise ValueError(f"is {value}; it must be 0 (none), or 2 to 10000 replicates, such as 20")
    return value


def _formats(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in _FORMATS:
            raise ValueError(f"names {name!r}, which is unknown; {_nearest(name, _FORMATS)}")
    if not names:
        raise ValueError(f"is empty; use {', '.join(_FORMATS)}")
    return tuple(dict.fromkeys(names))


def _exports(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in _EXPORTS:
            raise ValueError(f"names {name!r}, which is unknown; {_nearest(name, _EXPORTS)}")
    return tuple(dict.fromkeys(names))


def _leave_out(value: Any) -> tuple[float, ...] | dict[str, tuple[int, ...]]:
    """Tilts in degrees, or a table of their numbers."""
    if isinstance(value, list | tuple):
        return tuple(_number(t, f"a finite number of degrees (entry {i})", -math.inf) for i, t in enumerate(value, 1))
    if isinstance(value, dict) and set(value) == {"number"} and isinstance(value["number"], list):
        for number in value["number"]:
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"holds {_describe(number)}; tilts are numbered from 1 in the order of the maps")
        return {"number": tuple(value["number"])}
    raise ValueError(f"must be a list of tilts in degrees, or {{ number = [1, 15] }}, not {_describe(value)}")


def _exposures(value: Any, info: ValidationInfo) -> Path | tuple[float, ...] | dict[str, tuple[float, ...]]:
    """A file, a number for each tilt, or a table of these by element."""
    if isinstance(value, str):
        return _existing(value, info)

    def curve(numbers: Any, whose: str) -> tuple[float, ...]:
        if not isinstance(numbers, list) or not numbers:
            raise ValueError(f"{whose}must be a list with a number for each tilt, not {_describe(numbers)}")
        what = "a number, 0 or more"
        return tuple(_number(n, f"{what} ({whose}entry {i})", 0.0) for i, n in enumerate(numbers, 1))

    if isinstance(value, dict) and value:
        return {element: curve(numbers, f"of {element} ") for element, numbers in value.items()}
    if isinstance(value, list):
        return curve(value, "")
    raise ValueError(f"must be a file, a list with a number for each tilt, or lists by element, not {_describe(value)}")


def _spectra(value: Any, info: ValidationInfo) -> Path | tuple[Path, ...]:
    """A folder, a file, a pattern or a list of files, absolute."""
    if isinstance(value, str) and value and "\0" not in value:
        return Path(os.path.abspath(_base(info) / Path(value).expanduser()))
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(_existing(v, info) for v in value)
    raise ValueError(f'must be a folder, a pattern such as "tilt_*.bcf" or a list of files, not {_describe(value)}')


def _lines(names: tuple[str, ...]) -> tuple[str, ...]:
    seen = dict.fromkeys(names)
    if not names:
        raise ValueError('is empty; name lines, such as ["Fe_Ka", "Si_Ka"]')
    if len(seen) < len(names):
        raise ValueError(f"names one line twice ({', '.join(names)}); leave one out")
    return names


Names = Annotated[tuple[str, ...], Strict(False)]
Amount = float | dict[str, float] | Literal["auto"]


class Section(BaseModel):
    """A table of the job file: keys that are not known are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Input(Section):
    """``[input]``; every path is absolute."""

    maps: (
        Annotated[
            dict[Annotated[str, AfterValidator(_element)], Annotated[Path, PlainValidator(_existing)]],
            AfterValidator(_distinct),
        ]
        | None
    ) = None
    spectra: Annotated[Path | tuple[Path, ...] | None, PlainValidator(_spectra)] = None
    lines: Annotated[Names, AfterValidator(_lines)] | None = None
    tilts: Annotated[Path | tuple[float, ...] | dict[str, float] | None, PlainValidator(_tilts)] = None
    pixel_size_nm: Annotated[float | None, PlainValidator(_pixel_size)] = None
    tilt_axis: Literal["y", "x"] = "y"
    background: Annotated[Amount, PlainValidator(_amount("a number of counts per pixel, 0 or more", above=False))] = (
        "auto"
    )
    scaled: bool = False
    leave_out: Annotated[tuple[float, ...] | dict[str, tuple[int, ...]], PlainValidator(_leave_out)] = ()
    bad_pixels: Annotated[Path | None, PlainValidator(_existing)] = None


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
    exposures: Annotated[Path | tuple[float, ...] | dict[str, tuple[float, ...]] | None, PlainValidator(_exposures)] = (
        None
    )


class Align(Section):
    """``[align]``; `reference` holds all elements unless some were named. `file` and `upside_down` as in
    `recon.io.alignment.load_alignment`."""

    method: Literal["auto", "cross-correlation", "none"] = "auto"
    reference: Names = ()
    file: Annotated[Path | None, PlainValidator(_existing)] = None
    upside_down: bool = False
    resample: bool = False


class Reconstruct(Section):
    """``[reconstruct]``"""

    method: Literal["tgv", "tv", "none", "sirt", "fbp"] = "tgv"
    data_term: Literal["poisson", "least-squares"] = "poisson"
    strength: Annotated[Amount, PlainValidator(_amount("a positive number", above=True))] = "auto"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-2
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    projector: Literal["auto", "native", "astra"] = "auto"
    thickness: Annotated[int | Literal["auto"], PlainValidator(_thickness)] = "auto"
    half_precision: bool = False
    uncertainty: Annotated[int, PlainValidator(_replicates)] = 0


class Mask(Section):
    """``[mask]``"""

    method: Literal["auto", "none"] = "auto"
    apply: bool = False


class Output(Section):
    """``[output]``; `aligned` also writes the aligned stacks, `alignment` the alignment for other programs."""

    formats: Annotated[Names, AfterValidator(_formats)] = ("tiff",)
    checkpoints: bool = True
    aligned: bool = False
    alignment: Annotated[Names, AfterValidator(_exports)] = ()


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

    def resolved(self) -> dict[str, Any]:
        """Every parameter as plain JSON values; paths relative to the job file's folder where they lie in it."""

        def plain(value: Any) -> Any:
            if isinstance(value, Path):
                inside = value.is_relative_to(self._path.parent)
                return (value.relative_to(self._path.parent) if inside else value).as_posix()
            if isinstance(value, Mapping):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, tuple | list) else value

        return {"job_file": self._path.name, **plain(self.model_dump())}


def load_job(path: str | os.PathLike[str]) -> Job:
    """Read and check a job file.

    Paths in it are relative to its folder and become absolute; files they name must exist. Keys that the
    file gives win over its preset.

    Raises:
        JobError: one line, ``FILE:LINE: KEY: what is wrong; what to do``.
    """
    shown = os.fspath(path)
    text = _text(shown)
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also numbers and nesting beyond Python's limits
        raise JobError(_syntax(shown, text, str(exc))) from exc

    def fail(loc: tuple[Any, ...], message: str) -> NoReturn:
        raise JobError(_one_line(shown, _line(text, loc), loc, message))

    full = Path(os.path.abspath(Path(shown).expanduser()))
    try:
        job = Job.model_validate(_with_defaults(raw), context={"base": full.parent})
    except ValidationError as exc:
        loc, message = _worst(exc, text)
        raise JobError(_one_line(shown, _line(text, loc), loc, message)) from exc
    job._path = full
    _cross_check(job, raw, fail)
    return job


def _text(shown: str) -> str:
    with explain_reading(shown, "name a job file (TOML)", JobError):
        return Path(shown).expanduser().read_bytes().decode("utf-8-sig").replace("\r\n", "\n")


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """The file's keys over those of its preset, and all elements as reference."""
    preset = raw.get("preset")
    sections = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    merged = dict(raw)
    for name, keys in sections.items():
        given = raw.get(name, {})
        merged[name] = {**keys, **given} if isinstance(given, dict) else given
    given = raw["input"] if isinstance(raw.get("input"), dict) else {}
    maps = given.get("maps", given.get("lines"))
    align = merged.get("align", {})
    if isinstance(maps, dict | list) and isinstance(align, dict):
        merged["align"] = {"reference": list(maps), **align}
    return merged


def _cross_check(job: Job, raw: dict[str, Any], fail: Callable[[tuple[Any, ...], str], NoReturn]) -> None:
    """What one section asks of another."""
    elements = job.elements
    given = job.input
    where = "maps" if given.maps is not None else "lines"
    if given.maps is None and given.spectra is None:
        if given.lines is not None:
            fail(("input", "lines"), 'need spectra to come from; add spectra = "tilt_*.bcf"')
        fail(("input", "maps"), "is missing; " + _REMEDY["input", "maps"])
    if given.maps is not None and given.spectra is not None:
        fail(("input", "spectra"), "is given beside maps; leave out one of the two")
    if given.maps is not None:
        if given.lines is not None:
            fail(("input", "lines"), "are for spectra, not for maps; leave them out")
        if given.tilts is None:
            fail(("input", "tilts"), "is missing; " + _REMEDY["input", "tilts"])
        if raw.get("maps"):
            fail(("maps",), "is for spectra; name the maps in [input] maps")
    elif given.lines is None:
        fail(("input", "lines"), 'is missing; add lines = ["Fe_Ka", "Si_Ka"], the X-ray lines to map')
    elif given.scaled:
        fail(("input", "scaled"), "is true, but maps from spectra are counts; leave it out")
    if not job.align.reference:
        fail(("align", "reference"), f"is empty; name some of {', '.join(elements)}, or leave it out for all")
    for name in job.align.reference:
        if name not in elements:
            fail(("align", "reference"), f"element '{name}' is not in input.{where}; {_nearest(name, elements)}")
    for loc, table in (
        (("input", "background"), job.input.background),
        (("reconstruct", "strength"), job.reconstruct.strength),
        (("normalise", "exposures"), job.normalise.exposures),
    ):
        if isinstance(table, dict):
            for name in table:
                if name not in elements:
                    fail((*loc, name), f"element '{name}' is not in input.{where}; {_nearest(name, elements)}")
            for name in elements:
                if name not in table:
                    fail(loc, f"has no value for element '{name}'; give one for each of {', '.join(elements)}")
    if job.reconstruct.uncertainty and job.reconstruct.method in ("sirt", "fbp"):
        message = (
            f"is given, but reconstruct.method is '{job.reconstruct.method}'; use tgv, tv or none, or leave it out"
        )
        fail(("reconstruct", "uncertainty"), message)
    if job.reconstruct.half_precision and job.reconstruct.method not in ("tgv", "tv"):
        message = f"is for the duals of tgv and tv, but reconstruct.method is '{job.reconstruct.method}'; leave it out"
        fail(("reconstruct", "half_precision"), message)
    if job.align.file is not None and job.align.method == "none":
        fail(("align", "file"), "is given, but align.method is 'none'; leave out one of the two")
    if job.align.upside_down and job.align.file is None and not job.output.alignment:
        fail(("align", "upside_down"), "is about files of other programs; give align.file or output.alignment, too")
    if job.normalise.exposures is not None and job.normalise.method != "auto":
        message = f"are given, but normalise.method is '{job.normalise.method}'; leave out one of the two"
        fail(("normalise", "exposures"), message)
    if job.mask.method == "none" and raw.get("mask", {}).get("apply"):
        fail(("mask", "apply"), "is true, but mask.method is 'none'; use method = 'auto'")


# ---- messages ----


def _one_line(shown: str, line: int | None, loc: tuple[Any, ...], message: str) -> str:
    where = shown if line is None else f"{shown}:{line}"
    return " ".join(f"{where}: {'.'.join(map(str, loc))}: {message}".split())


def _syntax(shown: str, text: str, message: str) -> str:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: found.start()] if found else message
    line = found[1] if found and found[1] else str(len(text.rstrip("\n").split("\n")))
    column = f" at column {found[2]}" if found and found[2] else ""
    return " ".join(f"{shown}:{line}: not valid TOML{column}: {what[:1].lower()}{what[1:]}".split())


def _line(text: str, loc: tuple[Any, ...]) -> int | None:
    """Line on which a key is given, or else the table around it.

    The parser itself looks: of the beginnings of the file that are valid TOML, the first that holds the key
    ends with the statement that gives it.
    """
    lines = text.split("\n")
    if len(lines) > 2000:
        return None
    keys = [part for part in loc if isinstance(part, str)]
    found: dict[int, int] = {}
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            table: Any = tomllib.loads("\n".join(lines[:end]))
        except ValueError:
            continue  # inside a value of several lines
        for depth, key in enumerate(keys, start=1):
            if not isinstance(table, dict) or key not in table:
                break
            table = table[key]
            found.setdefault(depth, start)
        start = end + 1
    return found[max(found)] if found else None


def _worst(error: ValidationError, text: str) -> tuple[tuple[Any, ...], str]:
    """The error to report: an unknown key, which explains others, or else the first in the file; missing ones last."""
    found, order = [], {"extra_forbidden": 0, "missing": 2}
    for item in error.errors():
        loc = tuple(part for part in item["loc"] if part != "[key]")
        found.append((order.get(item["type"], 1), _line(text, loc) or math.inf, loc, _say(item, loc)))
    _, _, loc, message = min(found, key=lambda entry: entry[:2])
    return loc, message


def _say(item: Any, loc: tuple[Any, ...]) -> str:
    """One of pydantic's errors in plain words."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_where_to(str(loc[-1]), loc[:-1])}"
    if kind == "missing":
        return "is missing; " + _REMEDY.get(loc, "give it")
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = _choices(loc)
        hint = _nearest(value, choices) if isinstance(value, str) else f"use {', '.join(choices)}"
        return f"{_describe(value)} is not one of its values; {hint}"
    if loc in _LIMITS and not kind.endswith("_type"):
        return f"is {_describe(value)}; it must be {_LIMITS[loc]}"
    wanted = _TYPES.get(kind)
    return f"must be {wanted}, not {_describe(value)}" if wanted else str(item["msg"])


_TYPES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "tuple_type": "a list in [ ]",
    "dict_type": 'a table, such as { Co = "Co.tif" }',
    "model_type": "a table, with its keys below [name]",
    "model_attributes_type": "a table, with its keys below [name]",
}
_LIMITS = {
    ("reconstruct", "tolerance"): "above 0 and below 1, such as 1e-2",
    ("reconstruct", "max_iterations"): "from 1 to 1000000",
    ("maps", "window"): "from 0.2 to 5, in units of the line's FWHM",
    ("maps", "bin"): "from 1 to 64 pixels",
    ("maps", "resolution_ev"): "above 20 and below 1000 eV",
}
_REMEDY = {
    ("input",): "begin the file with [input], maps and tilts",
    ("input", "maps"): 'add maps = { Co = "Co.tif" }, or spectra = "tilt_*.bcf" and lines = ["Co_Ka"]',
    ("input", "tilts"): 'add tilts = "tilts.rawtlt", a list, or { start = -70, stop = 70, step = 10 }',
}


def _describe(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)[:60]
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"


def _nearest(name: str, choices: tuple[str, ...]) -> str:
    """The remedy for a name that is not one of `choices`."""
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean '{folded[near[0]]}'?" if near else f"use {', '.join(choices)}"


def _model(loc: tuple[Any, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Job
    for part in loc:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    return model


def _choices(loc: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']+)'", repr(_model(loc[:-1]).model_fields[loc[-1]].annotation)))


def _where_to(key: str, section: tuple[Any, ...]) -> str:
    """The nearest key of the same section, or the section that has this key."""
    here = tuple(_model(section).model_fields)
    if not difflib.get_close_matches(key.casefold(), here, n=1, cutoff=0.5):
        for name in (n for n in Job.model_fields if n != "preset"):
            if (name,) != section and key in _model((name,)).model_fields:
                return f"it belongs in [{name}]"
    return _nearest(key, here)
