"""What a job file gives in place of an estimate: tilts and pixels left out, exposures, an alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recon.analysis.places import Box, Ellipsoid, Region, places
from recon.errors import InputError
from recon.io.alignment import load_alignment, load_exposures, load_left_out, load_vectors
from recon.io.exposures import Exposures, read_exposures
from recon.io.stacks import read_stack
from recon.io.volumes import read_volume
from recon.job.file import Job
from recon.job.file.channels import own
from recon.preparation.exclude import exclude
from recon.preparation.normalise import given_exposures
from recon.series.tilt_series import TiltSeries


def leave_out(job: Job, series: TiltSeries) -> TiltSeries:
    """The series without weight where ``[input] leave_out`` and ``bad_pixels`` say so, or an alignment that is given.

    A tilt that an estimate left out has no alignment and no exposure.
    """
    bad = None
    if isinstance(job.input.bad_pixels, Path):
        bad, _ = read_stack(job.input.bad_pixels, image=True)
        if job.input.tilt_axis == "x":
            bad = bad.swapaxes(1, 2)
    series = exclude(series, job.input.leave_out, pixels=bad)
    for name, given in own(job.input.maps).items():
        series = exclude(series, given.leave_out, elements=name)
    if job.align.file is None:
        return series
    return exclude(series, load_left_out(job.align.file), why=f"as {job.align.file.name} says")


def bad_weights(job: Job) -> np.ndarray | str | dict[str, np.ndarray] | None:
    """What `recon.read` has to know of bad pixels, which may hold anything: weights as recorded, or "nan"."""
    marked = job.input.bad_pixels
    masks = {name: given.bad_pixels for name, given in own(job.input.maps).items() if given.bad_pixels is not None}
    if masks:  # those of all are left out later
        found = {name: read_stack(path, image=True)[0] == 0 for name, path in masks.items()}
        return {name: np.asarray(kept[0] if len(kept) == 1 else kept, np.float32) for name, kept in found.items()}
    if not isinstance(marked, Path):
        return marked
    bad, _ = read_stack(marked, image=True)
    return np.asarray(bad == 0, dtype=np.float32)


def known_exposures(job: Job, series: TiltSeries) -> tuple[Exposures | None, np.ndarray | None]:
    """Exposures that the job gives, and their errors ``(element, tilt)`` where it knows them.

    They are those of ``[normalise] exposures``, or else, since an alignment found exposures as well, those of an
    ``alignment.json`` in ``[align] file``, unless ``[normalise] method`` asks for others.
    """
    given = job.normalise.exposures
    if given is not None:
        if isinstance(given, Path):
            return _checked(given, read_exposures(given, series.tilts_deg), series), None
        given_exposures(series, given)
        return given, None
    if job.align.file is None or job.normalise.method != "auto":
        return None, None
    values, errors = load_exposures(job.align.file)
    if not all(name in values for name in series.elements):
        return None, None
    sure = [errors.get(name, ()) for name in series.elements]
    fits = all(len(e) == series.n_tilts for e in sure)
    known = _checked(job.align.file, values, series)
    return known, np.array(sure, dtype=np.float64) if fits else None


def _checked(path: Path, exposures: Exposures, series: TiltSeries) -> Exposures:
    try:
        given_exposures(series, exposures)
    except InputError as exc:
        raise InputError(f"{path}: {exc}") from exc
    return exposures


def align_reference(job: Job, series: TiltSeries) -> tuple[str, ...] | None:
    """The elements to align on; None where the job names all, none or an image: then `recon.align` chooses."""
    named = job.align.elements
    return None if named is None or set(named) == set(series.elements) else named


def given_alignment(job: Job, series: TiltSeries) -> TiltSeries:
    """The series with the alignment of ``[align] file``."""
    assert job.align.file is not None
    found = load_alignment(
        job.align.file, series.tilts_deg, tilt_axis=job.input.tilt_axis, upside_down=job.align.upside_down
    )
    scheme = series.scheme
    if scheme is not None:
        scheme = load_vectors(job.align.file, scheme)
    return series.evolve(f"align: {found.method}", alignment=found, scheme=scheme)


def files_of(job: Job) -> dict[str, Any]:
    """The files behind these, by what they are."""
    return {
        "alignment": job.align.file,
        "bad_pixels": job.input.bad_pixels,
        "exposures": job.normalise.exposures,
    }


def read_regions(job: Job, series: TiltSeries) -> dict[str, Region] | None:
    """The regions that a job names, checked against the volume that it will make; None where it names none.

    Raises:
        InputError: one line that names the region.
    """
    if isinstance(job.regions, str):
        return None
    nz = series.frame[1] if job.reconstruct.thickness == "auto" else int(job.reconstruct.thickness)
    out: dict[str, Region] = {}
    for name, given in job.regions.items():
        if isinstance(given, Path):
            values, _ = read_volume(given)
            out[name] = values if np.issubdtype(values.dtype, np.floating) else values != 0
        elif "low" in given:
            out[name] = Box(_point(given["low"]), _point(given["high"]))
        else:
            axes = given["radius"] * 3 if "radius" in given else given["semi_axes"]
            out[name] = Ellipsoid(_point(given["centre"]), _point(axes))
    places(out, (nz, *series.frame))
    return out


def _point(numbers: tuple[float, ...]) -> tuple[float, float, float]:
    z, y, x = numbers
    return z, y, x
