"""What a job cannot do with a scheme of more than one axis, or with elements that differ, said before the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recon.job.file.channels import Image, image_of, own
from recon.job.file.sections import Job

NEEDS: dict[str, tuple[str, ...]] = {
    "single-axis": (),
    "dual-axis": (),
    "conical": ("tilt_deg", "azimuths"),
    "vectors": ("vectors",),
}
TAKES = {**NEEDS, "dual-axis": ("second_tilts", "axis_deg")}


def check_scheme(job: Job, fail: Callable[[tuple[Any, ...], str], None]) -> None:
    """Calls `fail` with a key and what is wrong with it, if ``[geometry]`` lacks something or the job cannot do it."""
    given = job.geometry
    for key in given.model_fields_set - {"scheme", *TAKES[given.scheme]}:
        fail(("geometry", key), f"is not of scheme '{given.scheme}'; leave it out, or set geometry.scheme")
    for key in NEEDS[given.scheme]:
        if getattr(given, key) is None:
            fail(("geometry", "scheme"), f"is '{given.scheme}', which needs geometry.{key}; add it")
    if given.scheme == "single-axis":
        return
    if job.input.spectra is not None:
        fail(("geometry", "scheme"), "is for maps; make maps of the spectra first, with `recon maps`")
    if given.scheme != "dual-axis" and job.input.tilts is not None:
        fail(("input", "tilts"), f"are not of scheme '{given.scheme}', whose [geometry] says it all; leave them out")
    if given.scheme == "dual-axis" and job.input.tilts is None:
        fail(("input", "tilts"), "is missing; a dual-axis scheme needs those of its first axis")
    single = f"serves a single axis, not scheme '{given.scheme}'"
    if job.align.method == "cross-correlation":
        fail(("align", "method"), f"= 'cross-correlation' {single}; use 'auto' or 'none'")
    if job.align.resample:
        fail(("align", "resample"), f"{single}; leave it out, the alignment goes into the model")
    if job.reconstruct.method == "fbp":
        fail(("reconstruct", "method"), f"= 'fbp' {single}; use 'tgv', 'tv' or 'sirt'")
    if job.output.alignment:
        fail(("output", "alignment"), f"{single}; alignment.json holds the vectors of every projection")
    if job.output.aligned:
        fail(("output", "aligned"), f"{single}; leave it out")
    if isinstance(job.input.leave_out, tuple) and job.input.leave_out:
        fail(("input", "leave_out"), "by degrees is not sure to name one map of this scheme; use { number = [1, 15] }")
    if job.align.file is not None and job.align.file.suffix.lower() != ".json":
        fail(("align", "file"), f"of type {job.align.file.suffix} {single}; use an alignment.json")


def check_channels(job: Job, fail: Callable[[tuple[Any, ...], str], None]) -> None:
    """Calls `fail` with a key and what is wrong with it, if elements have what the job cannot give them."""
    scheme = job.geometry.scheme
    for name, given in own(job.input.maps).items():
        if given.tilts is not None and scheme != "single-axis":
            fail(
                ("input", "maps", name),
                f"has tilts of its own, which serves a single axis, not scheme '{scheme}'; leave maps out with "
                "leave_out, or with NaN in them",
            )
        if given.bad_pixels is not None and job.input.bad_pixels == "nan":
            fail(("input", "bad_pixels"), f"= 'nan' is given beside bad_pixels of {name}; leave out one of the two")
    image = image_of(job.align.reference)
    if image is not None and image.tilts is not None and scheme != "single-axis":
        fail(("align", "reference"), f"has tilts of its own, which serves a single axis, not scheme '{scheme}'")
    if isinstance(job.align.reference, Image) and job.input.maps is None:
        fail(("align", "reference"), "with tilts or pixels of its own is for maps; name the image in the files only")
