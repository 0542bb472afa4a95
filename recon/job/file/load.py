"""A job file read, worked into its preset's keys and checked as a whole."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from recon.errors import JobError
from recon.files import explain_reading
from recon.job.file.channels import is_file
from recon.job.file.messages import REMEDY, line_of, one_line, syntax, worst
from recon.job.file.schemes import check_channels, check_scheme
from recon.job.file.sections import Job
from recon.job.file.values import nearest

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # Longley et al., Nat. Commun. 9:2135 (2018), Methods
    "longley2018": {
        "normalise": {"method": "constant-total"},
        "align": {"method": "cross-correlation", "resample": True},
        "reconstruct": {"method": "tgv", "data_term": "least-squares"},
        "mask": {"method": "auto", "apply": True},
    },
}


def load_job(path: str | os.PathLike[str], *, changes: Mapping[str, Any] | None = None) -> Job:
    """Read and check a job file.

    Paths in it are relative to its folder and become absolute; files they name must exist. Keys that the
    file gives win over its preset.

    Args:
        path: of the file.
        changes: keys with other values than in the file, ``{"reconstruct.strength": 2.0}``.

    Raises:
        JobError: one line, ``FILE:LINE: KEY: what is wrong; what to do``.
    """
    shown = os.fspath(path)
    text = _text(shown)
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also numbers and nesting beyond Python's limits
        raise JobError(syntax(shown, text, str(exc))) from exc

    def fail(loc: tuple[Any, ...], message: str) -> NoReturn:
        raise JobError(one_line(shown, line_of(text, loc), loc, message))

    for key, value in (changes or {}).items():
        _change(raw, key, value)
    full = Path(os.path.abspath(Path(shown).expanduser()))
    try:
        job = Job.model_validate(_with_defaults(raw), context={"base": full.parent})
    except ValidationError as exc:
        loc, message = worst(exc, text)
        raise JobError(one_line(shown, line_of(text, loc), loc, message)) from exc
    job._path = full
    _cross_check(job, raw, fail)
    check_scheme(job, fail)
    check_channels(job, fail)
    return job


def _change(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of ``table.key``, or of ``table.key.element``."""
    *tables, last = key.split(".")
    inner = raw
    for name in tables:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise JobError(f"{key} cannot be set, since {name} is no table; check the key")
    inner[last] = value


def _text(shown: str) -> str:
    with explain_reading(shown, "name a job file (TOML, saved as UTF-8)", JobError):
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
        fail(("input", "maps"), "is missing; " + REMEDY["input", "maps"])
    if given.maps is not None and given.spectra is not None:
        fail(("input", "spectra"), "is given beside maps; leave out one of the two")
    if given.maps is not None:
        if given.lines is not None:
            fail(("input", "lines"), "are for spectra, not for maps; leave them out")
        if raw.get("maps"):
            fail(("maps",), "is for spectra; name the maps in [input] maps")
    elif given.lines is None:
        fail(("input", "lines"), 'is missing; add lines = ["Fe_Ka", "Si_Ka"], the X-ray lines to map')
    elif given.scaled:
        fail(("input", "scaled"), "is true, but maps from spectra are counts; leave it out")
    if not job.align.reference:
        fail(("align", "reference"), f"is empty; name some of {', '.join(elements)}, or leave it out for all")
    image = job.align.image
    if image is not None and (given.maps is None) == is_file(image):
        what = (
            "the file of an image" if given.maps is not None else "the name of an image in the files, such as 'HAADF'"
        )
        fail(("align", "reference"), f"must be a list in [ ], not {Path(image.image).name!r}, or {what}")
    for name in job.align.elements or ():
        if name not in elements:
            fail(("align", "reference"), f"element '{name}' is not in input.{where}; {nearest(name, elements)}")
    for loc, table in (
        (("input", "background"), job.input.background),
        (("reconstruct", "strength"), job.reconstruct.strength),
        (("normalise", "exposures"), job.normalise.exposures),
    ):
        if isinstance(table, dict):
            for name in table:
                if name not in elements:
                    fail((*loc, name), f"element '{name}' is not in input.{where}; {nearest(name, elements)}")
            for name in elements:
                if name not in table:
                    fail(loc, f"has no value for element '{name}'; give one for each of {', '.join(elements)}")
    if job.reconstruct.uncertainty and job.reconstruct.method in ("sirt", "fbp"):
        message = (
            f"is given, but reconstruct.method is '{job.reconstruct.method}'; use tgv, tv or none, or leave it out"
        )
        fail(("reconstruct", "uncertainty"), message)
    if isinstance(job.regions, dict) and job.reconstruct.method in ("sirt", "fbp"):
        message = (
            f"are named, but reconstruct.method is '{job.reconstruct.method}'; use tgv, tv or none, or leave it out"
        )
        fail(("regions",), message)
    _check_coupling(job, elements, fail)
    if job.reconstruct.half_precision and job.reconstruct.method not in ("tgv", "tv"):
        message = f"is for the duals of tgv and tv, but reconstruct.method is '{job.reconstruct.method}'; leave it out"
        fail(("reconstruct", "half_precision"), message)
    if job.reconstruct.data_term == "poisson" and job.reconstruct.method in ("tgv", "tv", "none"):
        for loc, scaled in ((("input", "scaled"), given.scaled), (("align", "resample"), job.align.resample)):
            if scaled:
                message = "is 'poisson', which is for counts as recorded, but {}.{} is true; use 'least-squares'"
                fail(("reconstruct", "data_term"), message.format(*loc))
    if job.align.file is not None and job.align.method == "none":
        fail(("align", "file"), "is given, but align.method is 'none'; leave out one of the two")
    if job.align.upside_down and job.align.file is None and not job.output.alignment:
        fail(("align", "upside_down"), "is about files of other programs; give align.file or output.alignment, too")
    if job.normalise.exposures is not None and job.normalise.method != "auto":
        message = f"are given, but normalise.method is '{job.normalise.method}'; leave out one of the two"
        fail(("normalise", "exposures"), message)
    if job.mask.method == "none" and raw.get("mask", {}).get("apply"):
        fail(("mask", "apply"), "is true, but mask.method is 'none'; use method = 'auto'")


def _check_coupling(job: Job, elements: Sequence[str], fail: Callable[[tuple[Any, ...], str], NoReturn]) -> None:
    """What couples elements needs some, and goes without what works on one at a time."""
    asked = job.reconstruct
    if why := asked.settings.why_not_coupled():
        fail(("reconstruct", "couple_image" if asked.coupling == "none" else "coupling"), f"cannot be: {why}")
    if asked.coupling == "none":
        return
    if asked.couple_image and job.align.image is None:
        message = "is true, but no image was recorded with the maps; name its file in align.reference, or leave it out"
        fail(("reconstruct", "couple_image"), message)
    if len(elements) + asked.couple_image < 2:
        message = f"is '{asked.coupling}', which needs two channels or more, and there is only {elements[0]}"
        fail(("reconstruct", "coupling"), f"{message}; name more elements, or leave it out")
    if asked.uncertainty:
        message = f"is for elements on their own, but coupling is '{asked.coupling}'; leave out one of the two"
        fail(("reconstruct", "uncertainty"), message)
