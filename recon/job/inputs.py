"""What a job names as its input: the series it is about, and the hashes of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recon.eds.maps import LineMaps, line_maps
from recon.eds.read import find_spectra
from recon.eds.windows import Options
from recon.errors import JobError
from recon.files import explain_reading, matching
from recon.io import read
from recon.job.file import Job
from recon.job.file.channels import files_of, is_file, own, paths_of
from recon.job.geometry import scheme_of
from recon.job.overrides import bad_weights, leave_out
from recon.job.overrides import files_of as override_files
from recon.series.tilt_series import TiltSeries

Log = Callable[[str], None]


def read_job(job: Job, log: Log | None = None) -> TiltSeries:
    """The series that a job file names."""
    if job.input.maps is None:
        if job.maps.detectors == "each":
            raise JobError("maps.detectors = 'each' keeps detectors apart for `recon maps`; use 'sum' to reconstruct")
        maps = read_spectra_job(job, log)
        return _told(spectra_series(job, maps), log, maps.warnings)
    scheme, given, tilts, size = scheme_of(job), own(job.input.maps), job.input.tilts, job.input.pixel_size_nm
    image = job.align.image
    maps_of = {name: files_of(maps) for name, maps in job.input.maps.items()}
    # what an element has not of its own is as for all
    own_tilts = dict.fromkeys(maps_of, tilts) | {n: g.tilts for n, g in given.items() if g.tilts is not None}
    own_sizes = dict.fromkeys(maps_of, size) | {n: g.pixel_size_nm for n, g in given.items() if g.pixel_size_nm}
    series = read(
        {name: list(path) if isinstance(path, tuple) else path for name, path in maps_of.items()},
        None if scheme else own_tilts if any(g.tilts is not None for g in given.values()) else tilts,
        own_sizes if any(g.pixel_size_nm for g in given.values()) else size,
        tilt_axis=job.input.tilt_axis,
        weights=bad_weights(job),
        scaled=job.input.scaled,
        geometry=scheme,
        image=None if image is None else image.image,
        image_tilts=None if image is None else image.tilts,
        image_pixel_size_nm=None if image is None else image.pixel_size_nm,
        base_dir=job.path.parent,
    )
    return _told(leave_out(job, series), log)


def _told(series: TiltSeries, log: Log | None, others: Sequence[str] = ()) -> TiltSeries:
    if log is not None:
        for line in dict.fromkeys((*others, *series.remarks)):
            log(f"warning: {line}")
    return series


def spectra_series(job: Job, maps: LineMaps) -> TiltSeries:
    """The series of a job's line maps."""
    return leave_out(job, maps.series(tilt_axis=job.input.tilt_axis, pixel_size_nm=job.input.pixel_size_nm))


def read_spectra_job(job: Job, log: Log | None = None) -> LineMaps:
    """Maps of the lines that a job file names, from its spectrum images."""
    source, options = job.input.spectra, job.maps
    assert source is not None
    return line_maps(
        list(source) if isinstance(source, tuple) else source,
        job.input.lines or (),
        tilts=job.input.tilts,
        options=Options(**options.model_dump()),
        image=None if job.align.image is None else job.align.image.image,
        base=job.path.parent,
        log=log,
    )


def input_hashes(job: Job) -> dict[str, str]:
    """SHA-256 of every file that the job reads."""
    files: dict[str, Any] = {"tilts": job.input.tilts, **override_files(job)}
    files |= {name: getattr(job.geometry, name) for name in ("second_tilts", "azimuths", "vectors")}
    files |= paths_of(job.input.maps, job.align.reference)
    if job.align.image is not None and is_file(job.align.image):
        files |= {f"image: {p.name}": p for p in matching(job.align.image.image)}
    for element, given in (job.input.maps or {}).items():
        maps = files_of(given)
        files |= {f"{element}: {p.name}": p for p in maps} if isinstance(maps, tuple) else {element: maps}
    if job.input.spectra is not None:
        source = job.input.spectra
        files |= {p.name: p for p in (source if isinstance(source, tuple) else find_spectra(source))}
    out = {}
    for name, path in files.items():
        if isinstance(path, Path):
            with explain_reading(path, "name a file", JobError):
                out[name] = folder_hash(path) if path.is_dir() else file_hash(path)  # a .zspy is a folder
    return out


def file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
