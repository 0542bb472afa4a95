"""Write volumes so that other programs open them to scale, and read them back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.backend import to_host
from recon.errors import InputError, JobError
from recon.files import reserved
from recon.io.folder import MARK, OutputFolder, check_disk, whole_file
from recon.io.formats.common import Cube, check_file, parse
from recon.io.formats.emd import read_emd, write_emd
from recon.io.formats.hspy import read_hspy, write_hspy
from recon.io.formats.mrc import read_mrc, write_mrc
from recon.io.formats.ome_zarr import LATEST, OLDER, read_ome_zarr, write_ome_zarr
from recon.io.formats.tiff import read_tiff, write_tiff
from recon.io.formats.vti import read_vti, write_vti
from recon.series.volume import by_element

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from recon.series.tilt_series import TiltSeries
    from recon.series.volume import Volume

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")


def write(
    volumes: Mapping[str, Volume] | Volume,
    folder: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("tiff",),
    overwrite: bool = False,
    mask: ArrayLike | None = None,
) -> Path:
    """Write volumes, ``mask.tif`` and a short ``job.json`` to a new folder, whole or not at all.

    Args:
        volumes: element to `Volume`, or one by itself; each becomes ``ELEMENT.tif`` and so on.
        folder: must not exist, unless `overwrite` is True and it is a result of recon.
        formats: some of `FORMATS`; see `write_volume`.
        mask: ``(z, y, x)`` bool, the voxels that belong to the object, or None.

    Returns:
        The folder.

    Raises:
        InputError: no volumes, names that cannot be file names, or shapes that differ.
        JobError: an unknown format.
        OutputError, ResourceError: see `OutputFolder`.
    """
    check_formats(formats)
    volumes = by_element(volumes)
    _check_volumes(volumes, mask)
    if not Path(folder).is_dir() and any(str(folder).lower().endswith(ending) for ending, _ in FORMATS.values()):
        raise InputError(
            f"{folder} is the name of a file, and recon.write makes a folder with a file for each element; name a "
            'folder, and the format as formats=["tiff"]'
        )
    needed = sum(v.values.size for v in volumes.values()) * 4 * len(formats)
    check_disk(folder, needed)
    summary = {
        "program": "recon",
        "version": __version__,
        "written_by": "recon.write",
        "elements": list(volumes),
        "voxel_size_nm": {element: volume.voxel_size_nm for element, volume in volumes.items()},
        "formats": list(formats),
        "provenance": {element: volume.provenance for element, volume in volumes.items()},
    }
    with OutputFolder(folder, overwrite=overwrite) as partial:
        write_volumes(volumes, partial, formats=formats, mask=mask)
        (partial / MARK).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return Path(folder)


def write_volumes(
    volumes: Mapping[str, Volume],
    folder: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("tiff",),
    mask: ArrayLike | None = None,
) -> list[str]:
    """Write volumes, and ``mask.tif``, into a folder that exists (an open `OutputFolder`); see `write`.

    Returns:
        The names of the files.
    """
    check_formats(formats)
    _check_volumes(volumes, mask)
    names = []
    for kind in formats:
        if kind in TOGETHER:
            names.append(TOGETHER[kind])
            cubes = [
                Cube(n, np.asarray(to_host(v.values)), v.voxel_size_nm, provenance=v.provenance)
                for n, v in volumes.items()
            ]
            with whole_file(Path(folder, names[-1])) as aside:
                write_ome_zarr(aside, cubes, VERSIONS[kind])
            continue
        for element, volume in volumes.items():
            names.append(element + FORMATS[kind][0])
            write_volume(
                Path(folder, names[-1]),
                volume.values,
                volume.voxel_size_nm,
                kind,
                name=element,
                provenance=volume.provenance,
            )
    if mask is not None:
        names.append("mask.tif")
        voxel = next(iter(volumes.values())).voxel_size_nm
        write_volume(Path(folder, names[-1]), np.asarray(to_host(mask), dtype=bool), voxel, "tiff")
    return names


def write_stacks(series: TiltSeries, folder: str | os.PathLike[str], formats: Sequence[str] = ("tiff",)) -> list[str]:
    """Write each element's maps as ``ELEMENT-aligned`` into a folder that exists, tilts included; returns the names.

    Beside a format that cannot hold tilts (TIFF, MRC, vti) lies ``aligned.rawtlt``, one for all.
    """
    check_formats(formats)
    names = []
    for kind in formats:
        for e, element in enumerate(series.elements):
            names.append(f"{element}-aligned{FORMATS[kind][0]}")
            made = {"program": f"recon {__version__}", "element": element, "history": "; then ".join(series.history)}
            cube = Cube(f"{element} aligned", series.counts[e], series.pixel_size_nm, series.tilts_deg, made)
            write_cube(Path(folder, names[-1]), cube, kind)
    Path(folder, "aligned.rawtlt").write_text("".join(f"{t:g}\n" for t in series.tilts_deg), encoding="utf-8")
    return [*names, "aligned.rawtlt"]


def write_cube(path: str | os.PathLike[str], cube: Cube, format: str) -> None:
    """Write a `Cube` to one file (OME-Zarr: one folder), whole or not at all."""
    with whole_file(path) as aside:
        FORMATS[format][1](aside, cube)


def write_volume(
    path: str | os.PathLike[str],
    values: ArrayLike,
    voxel_size_nm: float,
    format: str = "tiff",
    *,
    name: str | None = None,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write one volume to one file, whole or not at all.

    ``"tiff"``: ImageJ's kind of TIFF, float32 or, for a bool volume, 8 bit with 0 and 255; it opens in Fiji
    as a z stack, to scale in nm. Above 4 GB it follows ImageJ's own convention, one page description
    followed by all slices: Fiji and tifffile read it, other programs see the first slice only; use
    ``"mrc"`` for them. ``"mrc"``: MRC2014 mode 2, float32, voxel size in Angstrom. ``"ome-zarr"``: OME-Zarr
    0.5, a folder; ``"ome-zarr-0.4"`` for programs that know no later one. ``"hspy"``: HyperSpy. ``"emd"``: NCEM's,
    axes ``(x, y, z)`` as tomviz wants them. ``"vti"``: VTK's ImageData, for ParaView.

    Args:
        path: file to write; replaced if it exists.
        values: ``(z, y, x)``, real numbers.
        voxel_size_nm: edge of a voxel, nm.
        name: of what it holds, where the format stores one; by default the file's.
        provenance: how it was made, by subject, kept in the file: ImageJ's Info, MRC's labels, `original_metadata` of
            HyperSpy, comments of EMD, field data of VTK, attributes of OME-Zarr.

    Raises:
        InputError: `values` is not a volume, or the voxel size not a positive number.
        JobError: an unknown format.
        OutputError, ResourceError: the file cannot be written.
    """
    check_formats([format])
    array = np.asarray(to_host(values))
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(f"a volume of shape {array.shape} and type {array.dtype} cannot be written; it is (z, y, x)")
    if not (np.isfinite(voxel_size_nm) and voxel_size_nm > 0):
        raise InputError(f"voxel size is {voxel_size_nm} nm; it must be a positive number of nanometres")
    title = name or Path(path).name.split(".")[0]
    write_cube(path, Cube(title, array, float(voxel_size_nm), provenance=provenance or {}), format)


def find_volume(folder: Path, name: str) -> tuple[NDArray[Any], float | None]:
    """Read a volume of a finished run, whichever format it was written in.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    for suffix in (".tif", ".mrc", ".hspy", ".emd", ".vti"):
        if (folder / f"{name}{suffix}").exists():
            return read_volume(folder / f"{name}{suffix}")
    for together in TOGETHER.values():
        if (folder / together).is_dir():
            return parse(folder / together, lambda p: read_ome_zarr(p, name))
    raise InputError(f"{folder} lacks {name}.tif and {name}.mrc; the run is not whole")


def read_volume(path: str | os.PathLike[str]) -> tuple[NDArray[Any], float | None]:
    """Read a volume in one of the formats that `write_volume` writes.

    Returns:
        ``(z, y, x)``, dtype as stored, and the edge of a voxel in nm; None if the file does not say.

    Raises:
        InputError: as `read_stack`.
    """
    path = Path(path)
    if path.suffix.lower() == ".zarr" and path.is_dir():
        return parse(path, read_ome_zarr)
    check_file(path, "a volume")
    single = {".hspy": read_hspy, ".emd": read_emd, ".vti": read_vti}.get(path.suffix.lower())
    if single is not None:
        return parse(path, single)
    reader = {".tif": read_tiff, ".tiff": read_tiff, ".mrc": read_mrc}.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} has type {path.suffix!r}, which is unknown; volumes are .tif, .mrc, .hspy, .emd, .vti and .zarr"
        )

    def read_one(path: Path) -> tuple[NDArray[Any], float | None]:
        values, voxel = reader(path)
        return values[None] if values.ndim == 2 else values, voxel[2] or None

    return parse(path, read_one)


def check_formats(formats: Sequence[str]) -> None:
    """Raise JobError unless every format can be written, and at least one is named."""
    known = ", ".join(FORMATS)
    if isinstance(formats, str) or not formats:
        raise JobError(f"formats is {formats!r}; name at least one in a list: {known}")
    for name in formats:
        if name not in FORMATS:
            raise JobError(f"format {name!r} is unknown; use {known}")


def _check_volumes(volumes: Mapping[str, Volume], mask: ArrayLike | None) -> None:
    if not volumes:
        raise InputError("there are no volumes to write")
    seen: dict[str, str] = {}
    for name in volumes:
        if not _NAME.fullmatch(name):
            raise InputError(f"element {name!r} cannot be a file name; use letters and digits, as in Fe or Fe_Ka")
        if taken := reserved(name, whole_run=False):
            raise InputError(f"element {name!r} cannot be a file name, {taken}; rename it")
        if name.casefold() in seen:
            raise InputError(f"elements {seen[name.casefold()]} and {name} differ in case only; rename one")
        seen[name.casefold()] = name
    shapes = {v.values.shape for v in volumes.values()} | (set() if mask is None else {np.shape(to_host(mask))})
    if len(shapes) > 1:
        raise InputError(f"volumes and mask have the shapes {sorted(shapes)}; they must agree")


FORMATS: dict[str, tuple[str, Callable[[Path, Cube], None]]] = {
    "tiff": (".tif", write_tiff),
    "mrc": (".mrc", write_mrc),
    "ome-zarr": (".ome.zarr", lambda path, cube: write_ome_zarr(path, [cube])),
    "ome-zarr-0.4": ("-0.4.ome.zarr", lambda path, cube: write_ome_zarr(path, [cube], OLDER)),
    "hspy": (".hspy", write_hspy),
    "emd": (".emd", write_emd),
    "vti": (".vti", write_vti),
}
TOGETHER = {"ome-zarr": "volumes.ome.zarr", "ome-zarr-0.4": "volumes-0.4.ome.zarr"}  # all elements, as channels
VERSIONS = {"ome-zarr": LATEST, "ome-zarr-0.4": OLDER}
