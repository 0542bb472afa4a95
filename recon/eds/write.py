"""Write the maps that were made from spectrum images, and the picture that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError
from recon.io.folder import MARK, OutputFolder, check_disk, whole_file
from recon.io.formats.common import Cube
from recon.io.volumes import FORMATS, check_formats, write_cube

if TYPE_CHECKING:
    from recon.eds.maps import LineMaps


def write_picture(maps: LineMaps, path: str | Path) -> None:
    """Draw spectrum and thumbnails to a PNG, whole or not at all."""
    from recon.eds.preview import picture

    figure = picture(maps)
    with whole_file(path) as aside:
        figure.savefig(aside, format="png", dpi=100)


def write_maps(
    maps: LineMaps,
    folder: str | Path,
    formats: Sequence[str] = ("tiff",),
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write each line's counts and its background as stacks, the tilts, what was found, and a picture.

    The folder holds ``LINE`` and ``LINE-background`` in each format, ``tilts.rawtlt``, ``spectra.csv`` (a
    column of counts for each tilt), ``job.json`` and ``maps.png``; it appears whole or not at all.

    Raises:
        InputError: the pixel size is unknown.
        OutputError, ResourceError: see `OutputFolder`.
    """
    check_formats(formats)
    size = maps.pixel_size_nm if pixel_size_nm is None else pixel_size_nm * maps.binning
    if size is None:
        raise InputError(
            f"{maps.recordings[0].path} does not say how large its pixels are; give pixel_size_nm, the edge of a "
            "recorded pixel in nm"
        )
    check_disk(folder, sum(c.size for c in maps.counts.values()) * 8 * len(formats))
    with OutputFolder(folder, overwrite=overwrite) as partial:
        for name in maps.counts:
            for kind in formats:
                for suffix, values in (("", maps.counts[name]), ("-background", maps.background[name])):
                    cube = Cube(name + suffix, values, size, maps.tilts_deg)
                    write_cube(partial / f"{name}{suffix}{FORMATS[kind][0]}", cube, kind)
        tilts = "".join(f"{t:g}\n" for t in maps.tilts_deg)
        (partial / "tilts.rawtlt").write_text(tilts, encoding="utf-8")
        _write_spectra(maps, partial / "spectra.csv")
        (partial / MARK).write_text(json.dumps(record(maps, size), indent=1) + "\n", encoding="utf-8")
        write_picture(maps, partial / "maps.png")
    return Path(folder)


def _write_spectra(maps: LineMaps, path: Path) -> None:
    first = maps.spectra[0].energies_kev
    columns = [np.interp(first, s.energies_kev, s.counts) for s in maps.spectra]
    head = "energy_keV," + ",".join(f"tilt_{t:g}" for t in maps.tilts_deg)
    np.savetxt(path, np.column_stack([first, *columns]), delimiter=",", header=head, comments="", fmt="%.7g")


def record(maps: LineMaps, pixel_size_nm: float) -> dict[str, Any]:
    """What ``job.json`` holds beside the maps: recordings, windows, fits and warnings, plain JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        if isinstance(value, Path):
            return value.name
        return value.isoformat() if isinstance(value, datetime) else value

    return {
        "program": "recon",
        "version": __version__,
        "written_by": "recon maps",
        "maps": list(maps.counts),
        "pixel_size_nm": pixel_size_nm,
        "tilts_deg": maps.tilts_deg.tolist(),
        "tilt_sources": list(maps.tilt_sources),
        "recordings": [plain(asdict(r)) for r in maps.recordings],
        "windows": {
            n: [{"first": w.first, "last": w.last - 1, "low_kev": w.low_kev, "high_kev": w.high_kev} for w in ws]
            for n, ws in maps.windows.items()
        },
        "fits": [
            {
                "counts": {f.name: round(float(a), 1) for f, a in zip(s.families, s.amounts, strict=True)},
                "standard_error": {f.name: round(float(a), 1) for f, a in zip(s.families, s.errors, strict=True)},
                "energy_offset_ev": round(s.offset_kev * 1e3, 2),
                "energy_gain": round(s.gain, 6),
            }
            for s in maps.spectra
        ],
        "warnings": list(maps.warnings),
        "history": list(maps.history),
    }
