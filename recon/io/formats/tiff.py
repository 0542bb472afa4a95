"""TIFF, ImageJ's kind when written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.common import Stack, quiet, square_edge, tidy, unit_nm

if TYPE_CHECKING:
    from numpy.typing import NDArray


from typing import TYPE_CHECKING

from recon.io.formats.common import Cube

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSIC_LIMIT = 2**32 - 2**25  # bytes; beyond it a TIFF of ImageJ's kind describes only its first slice


def write_tiff(path: Path, cube: Cube) -> None:
    """ImageJ's kind; a stack's slices are labelled with their tilts."""
    import tifffile

    data = cube.data
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "nm"}
    if cube.tilts_deg is None:
        metadata["spacing"] = cube.voxel_nm
    else:
        metadata["Labels"] = [f"{t:g} degrees" for t in cube.tilts_deg]
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(1 / cube.voxel_nm, 1 / cube.voxel_nm),
        metadata=metadata,
        truncate=data.nbytes > CLASSIC_LIMIT,
    )


_BELIEVABLE_NM = 1000.0  # a plain TIFF's resolution is mostly a printer's; below 1 um it is a microscope's


def read_stack(path: Path) -> Stack:
    values, (_, dy, dx) = read_tiff(path)
    return values, square_edge(dy, dx)


def read_tiff(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """A TIFF's values ``(z, y, x)`` as stored and its voxel ``(z, y, x)`` in nm, 0 where not set."""
    import tifffile

    with quiet("tifffile") as complaints, tifffile.TiffFile(path) as tif:
        pages = [(series.asarray(), series.axes) for series in tif.series]
        dz, dy, dx = (tidy(edge) for edge in _tiff_voxel(tif))
    broken = [c for c in complaints if re.search(r"invalid .*offset|corrupted|reshape", c)]
    if broken:
        raise InputError(f"{path} is damaged or cut short, not all of its pages can be found; copy or export it again")
    shapes = sorted({values.shape for values, _ in pages})
    if len(pages) == 1:
        values, axes = pages[0]
    elif len(shapes) == 1 and len(shapes[0]) == 2:
        values, axes = np.stack([v for v, _ in pages]), "I" + pages[0][1]
    else:
        raise InputError(f"{path} holds {len(pages)} images of shapes {shapes}; save one stack (tilt, y, x) per file")
    if "S" in axes and values.shape[axes.index("S")] > 1:
        raise InputError(f"{path} holds a colour picture; export the counts as a grey-scale stack")
    keep = [n for n, axis in zip(values.shape, axes, strict=True) if n > 1 or axis in "YX"]
    return values.reshape(keep), (dz, dy, dx)


def _tiff_voxel(tif: Any) -> tuple[float, float, float]:
    """``(z, y, x)`` in nm from OME, ImageJ or plain TIFF metadata; 0 where there is none."""
    if tif.ome_metadata:
        from xml.etree import ElementTree

        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        if pixels is None:
            return 0.0, 0.0, 0.0
        edges = [
            float(pixels.get(f"PhysicalSize{a}", 0)) * unit_nm(pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "ZYX"
        ]
        return edges[0], edges[1], edges[2]
    tags = tif.pages[0].tags
    rational = [tags[name].value if name in tags else (0, 1) for name in ("YResolution", "XResolution")]
    dy, dx = (d / n if n else 0.0 for n, d in rational)
    if tif.imagej_metadata is not None:
        scale = unit_nm(str(tif.imagej_metadata.get("unit", "")))
        return float(tif.imagej_metadata.get("spacing", 0)) * scale, dy * scale, dx * scale
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1
    scale = {2: 2.54e7, 3: 1e7}.get(unit, 0.0)
    if max(dy, dx) * scale >= _BELIEVABLE_NM:
        return 0.0, 0.0, 0.0
    return 0.0, dy * scale, dx * scale
