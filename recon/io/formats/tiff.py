"""TIFF, ImageJ's kind when written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import Axis, StackFile, arranged
from recon.io.formats.common import Cube, choose, quiet, symbol, tidy, unit_nm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CLASSIC_LIMIT = 2**32 - 2**25  # bytes; beyond it a TIFF of ImageJ's kind describes only its first slice


LOSSY = (6, 7, 34892)  # JPEG's schemes for bytes; those for 12 and 16 bits are lossless in files of this field


def write_tiff(path: Path, cube: Cube) -> None:
    """ImageJ's kind; a stack's slices are labelled with their tilts."""
    import tifffile

    data = cube.data
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "nm"}
    if cube.provenance:
        metadata["Info"] = cube.told
    if cube.tilts_deg is None:
        metadata["spacing"] = cube.voxel_nm
        # ImageJ counts origins in pixels
        metadata |= {f"{a}origin": -s / cube.voxel_nm for a, s in zip("zyx", cube.start_nm, strict=True)}
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


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """A TIFF's stack by the axes it names, calibrated as ImageJ notes it; the channel or image of the element's name.

    Slices labelled as `write_tiff` does, ``-70 degrees``, carry their tilts.
    """
    import tifffile

    with quiet("tifffile") as complaints, tifffile.TiffFile(path) as tif:
        if any(series.keyframe.compression in LOSSY and series.dtype == np.uint8 for series in tif.series):
            raise InputError(f"{path} is compressed as JPEG is, which changes counts; export it with LZW, or none")
        pages = [(series.asarray(), series.axes, str(series.name)) for series in tif.series]
        channels = _channels(tif)
        _, dy, dx = (tidy(edge) for edge in _tiff_voxel(tif))
        values, note = _calibrated(path, tif.imagej_metadata or {})
        labels = (tif.imagej_metadata or {}).get("Labels")
    broken = [c for c in complaints if re.search(r"invalid .*offset|corrupted|reshape", c)]
    if broken:
        raise InputError(f"{path} is damaged or cut short, not all of its pages can be found; copy or export it again")
    array, axes, name = _one_image(path, pages, element)
    if "C" in axes and len(channels) == array.shape[axes.index("C")] and sum(n > 1 for n in array.shape) > 3:
        at = choose(channels, element, path, "channels")
        array, name = array.take(at, axis=axes.index("C")), channels[at]
        axes = axes.replace("C", "")
    if "S" in axes and array.shape[axes.index("S")] > 1:
        raise InputError(f"{path} holds a colour picture; export the counts as a grey-scale stack")
    size = {"Y": dy, "X": dx}
    found = arranged(array, [Axis(a, "nm", size.get(a, 0.0)) for a in axes], path, name)
    notes = (*found.notes, *note)
    return replace(found, values=values(found.values), tilts_deg=_labelled(labels, len(found.values)), notes=notes)


def read_tiff(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """A TIFF's values ``(z, y, x)`` and its voxel ``(z, y, x)`` in nm, 0 where not set."""
    import tifffile

    found = read_stack(path)
    with quiet("tifffile"), tifffile.TiffFile(path) as tif:
        dz, dy, dx = (tidy(edge) for edge in _tiff_voxel(tif))
    return found.values, (dz, dy, dx)


def _one_image(
    path: Path, pages: list[tuple[NDArray[Any], str, str]], element: str | None
) -> tuple[NDArray[Any], str, str]:
    """The array, axes and name of the stack: one image, pages of one shape, or the image of the element's name."""
    shapes = sorted({values.shape for values, _, _ in pages})
    if len(pages) == 1:
        return pages[0]
    if len(shapes) == 1 and len(shapes[0]) == 2:
        return np.stack([v for v, _, _ in pages]), "I" + pages[0][1], ""
    stacks = [p for p in pages if sum(n > 1 for n in p[0].shape) == 3]
    if element is not None and len(stacks) > 1 and any(symbol(name) for _, _, name in stacks):
        return stacks[choose([name for _, _, name in stacks], element, path, "images")]
    raise InputError(f"{path} holds {len(pages)} images of shapes {shapes}; save one stack (tilt, y, x) per file")


def _channels(tif: Any) -> list[str]:
    """Names of an OME-TIFF's channels, or of ImageJ's, where its labels of slices tell them."""
    if not tif.ome_metadata:
        found = tif.imagej_metadata or {}
        labels, n = list(found.get("Labels") or ()), int(found.get("channels", 1))
        names = [set(labels[k::n]) for k in range(n)]  # a channel is the fastest of ImageJ's axes
        return [name.pop() for name in names] if n > 1 and all(len(name) == 1 for name in names) else []
    from xml.etree import ElementTree

    return [c.get("Name") or f"channel {i}" for i, c in
            enumerate(ElementTree.fromstring(tif.ome_metadata).iterfind(".//{*}Channel"), start=1)]  # fmt: skip


def _calibrated(path: Path, metadata: dict[str, Any]) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], tuple[str, ...]]:
    """What ImageJ's density calibration makes of stored values: ``c0 + c1 v`` (its signed 16 bits have c0 = -32768)."""
    kind = metadata.get("cf")
    if kind is None or kind == 20:  # ImageJ's number for no calibration
        return lambda v: v, ()
    c0, c1 = float(metadata.get("c0", 0.0)), float(metadata.get("c1", 1.0))
    if kind != 0:
        raise InputError(
            f"{path} has values calibrated by a curve (ImageJ's function {kind}), which cannot be counts; save raw "
            "counts, without Analyze > Calibrate"
        )
    if (c0, c1) == (0.0, 1.0):
        return lambda v: v, ()
    note = (f"values are {c0:g} + {c1:g} x stored, as ImageJ's calibration says",)
    if c1 == 1 and c0 == round(c0):
        return lambda v: v.astype(np.int64) + int(c0) if v.dtype.kind in "iu" else v + c0, note
    return lambda v: np.asarray(c0 + c1 * v.astype(np.float64)), note


def _labelled(labels: Any, n: int) -> NDArray[np.float64] | None:
    found = [re.fullmatch(r"(-?[0-9.]+(?:e-?[0-9]+)?) degrees", str(text)) for text in labels or ()]
    if len(found) != n or not all(found):
        return None
    tilts = np.array([float(m[1]) for m in found if m])
    return tilts if np.unique(tilts).size == n else None


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
    scan = (tif.fei_metadata or {}).get("Scan", {})  # Velox and other programs of Thermo Fisher, in m
    if all(isinstance(scan.get(f"Pixel{side}"), float) for side in ("Height", "Width")):
        return 0.0, scan["PixelHeight"] * 1e9, scan["PixelWidth"] * 1e9
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
