"""Geometries in files: vectors one projection a line, and IMOD's angles and transforms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.errors import GeometryError, InputError
from recon.files import read_text
from recon.geometry.parts import tilts_of
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.folder import whole_file
from recon.io.tilts import TILT_TYPES, read_tilts
from recon.io.transforms import XF_TYPES, from_xf, xf_rows, xf_text
from recon.series.alignment import Alignment

VECTOR_TYPES = (".txt", ".csv", ".npy", ".vec")
HEADER = "ray X Y Z, centre X Y Z, u X Y Z, v X Y Z of each projection, in voxels: ASTRA's parallel3d_vec"


def read_vectors(path: str | os.PathLike[str], detector: Sequence[int], volume: Sequence[int]) -> TiltGeometry:
    """A geometry from a file of vectors, twelve numbers a projection as in ASTRA's ``parallel3d_vec``.

    Args:
        path: text (numbers separated by blanks or commas; what follows a ``#`` does not count), or .npy ``(tilt, 12)``.
        detector: ``(rows, columns)``.
        volume: ``(nz, ny, nx)``.

    Raises:
        InputError: the file cannot be read, a line does not hold twelve numbers, or they make no geometry.
    """
    file = Path(path)
    if file.suffix.lower() not in VECTOR_TYPES:
        raise InputError(f"{file} has type {file.suffix!r}, which is unknown; vectors are {', '.join(VECTOR_TYPES)}")
    rows = _from_npy(file) if file.suffix.lower() == ".npy" else _from_text(file)
    try:
        return TiltGeometry.from_astra(rows, detector, volume)
    except GeometryError as exc:
        raise InputError(f"{file}: {exc}") from exc


def _from_npy(file: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError) as exc:
        raise InputError(f"{file} cannot be read as vectors ({exc}); give an array (tilt, 12)") from exc


def _from_text(file: Path) -> np.ndarray:
    rows = []
    text = read_text(file, "give a file with twelve numbers a line")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 12:
            raise InputError(
                f"{file}:{number}: {line.strip()[:40]!r} is not twelve numbers; a line is the ray, the detector's "
                "centre, u and v of a projection, each X Y Z"
            )
        rows.append(row)
    if not rows:
        raise InputError(f"{file} holds no vectors; a line is the ray, the detector's centre, u and v, each X Y Z")
    return np.array(rows)


def write_vectors(geometry: TiltGeometry, path: str | os.PathLike[str]) -> None:
    """The geometry's vectors as text, or as .npy, that `read_vectors` and ASTRA take.

    Raises:
        InputError: the file's type is unknown.
    """
    file = Path(path)
    if file.suffix.lower() not in VECTOR_TYPES:
        raise InputError(f"{file} has type {file.suffix!r}, which is unknown; vectors are {', '.join(VECTOR_TYPES)}")
    rows = geometry.to_astra()
    comma = ", " if file.suffix.lower() == ".csv" else " "
    lines = [comma.join(f"{a:.17g}" for a in row) for row in rows]
    with whole_file(file) as aside:
        if file.suffix.lower() == ".npy":
            with aside.open("wb") as stream:
                np.save(stream, rows)
        else:
            aside.write_text("\n".join([f"# {HEADER}", *lines, ""]), encoding="utf-8")


def read_imod(
    tilts: str | os.PathLike[str],
    transforms: str | os.PathLike[str] | None,
    detector: Sequence[int],
    volume: Sequence[int] | None = None,
    *,
    tilt_axis: str = "y",
    upside_down: bool = False,
) -> TiltGeometry:
    """A single-axis geometry from IMOD's angles (.rawtlt, .tlt) and transforms (.xf, .prexg, .prexf; or None).

    Args:
        tilts, transforms: files of one series; see `recon.io.transforms` for what their numbers mean.
        detector: ``(ny, nu)`` of the recorded maps.
        volume: ``(nz, ny, nx)``; by default a cube as wide as the maps.
        tilt_axis, upside_down: as for the alignment of a job.

    Raises:
        InputError: a file cannot be read, or the two do not agree.
    """
    for file, types in ((tilts, TILT_TYPES), (transforms, XF_TYPES)):
        if file is not None and Path(file).suffix.lower() not in types:
            raise InputError(f"{file} has type {Path(file).suffix!r}, which is unknown; use {', '.join(types)}")
    angles = read_tilts(tilts)
    geometry = TiltGeometry.from_angles(angles, 0.0, detector, volume)
    if transforms is None:
        return geometry
    found = from_xf(Path(transforms), angles, tilt_axis, upside_down)
    return geometry.moved(found.displacements, found.rotation_deg)


def write_imod(geometry: TiltGeometry, stem: str | os.PathLike[str]) -> list[Path]:
    """IMOD's files of a geometry, ``STEM.tlt`` and ``STEM.xf``; of two axes ``STEMa`` and ``STEMb``, as IMOD has them.

    Returns:
        The files, in the order of the parts.

    Raises:
        InputError: a projection turns about none of the volume's axes in the plane of y and x; IMOD's files hold
            tilts about one axis.
    """
    parts = geometry.parts()
    for part in parts:
        if part.axis not in ("y", "x"):
            raise InputError(
                f"projection {part.index[0] + 1} does not tilt about y or x (its ray is "
                f"{np.round(geometry.ray[part.index[0]], 4)}); IMOD's files hold tilts about one axis, so write vectors"
            )
    out = []
    for letter, part in zip([""] if len(parts) == 1 else "abcdefgh", parts, strict=False):
        tilts = part.angles_deg if part.axis == "y" else tilts_of(part)
        alignment = Alignment(part.shifts, part.rotation_deg)
        for suffix, text in (
            (".tlt", "".join(f"{t:.6g}\n" for t in tilts)),
            (".xf", xf_text(xf_rows(alignment))),
        ):
            file = Path(f"{os.fspath(stem)}{letter}{suffix}")
            with whole_file(file) as aside:
                aside.write_text(text, encoding="utf-8")
            out.append(file)
    return out
