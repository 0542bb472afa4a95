"""Read a stack of maps from a file, and a tilt series from several.

One function per format; each returns the array as stored and the pixel size the file gives, if any.
The libraries are imported by the function that needs them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.backend import to_host
from recon.errors import InputError, ReconError, ResourceError
from recon.io.tilts import read_tilts
from recon.reading import explain_reading, reason
from recon.tiltseries import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from recon.io.tilts import TiltSpec

Stack = tuple["NDArray[Any]", float | None]

SAME_SIZE = 5e-3  # pixel sizes that differ by less, relatively, count as equal
_BELIEVABLE_NM = 1000.0  # a plain TIFF's resolution is mostly a printer's; below 1 um it is a microscope's
_NM = {
    "pm": 1e-3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}


def read(
    maps: Mapping[str, str | os.PathLike[str] | ArrayLike],
    tilts: TiltSpec | None = None,
    pixel_size_nm: float | None = None,
    *,
    tilt_axis: str = "y",
    weights: str | os.PathLike[str] | ArrayLike | None = None,
    scaled: bool = False,
    base_dir: str | os.PathLike[str] = ".",
) -> TiltSeries:
    """Read the element maps of one tilt series.

    With ``tilt_axis="x"`` (tilting compresses y) every map has its rows and columns swapped exactly,
    no value changes. The series then lives in the swapped frame, the mirror image of the recorded one:
    its y is the recorded x, its x the recorded y, and at a positive tilt a point at larger z moves down
    the recorded map (a tilt axis along y moves it to the right). ``volume.swapaxes(1, 2)`` shows a
    volume in the recorded frame. If the microscope counts tilts the other way round, negate them.

    Args:
        maps: element name to a file (see `read_stack`), an array ``(tilt, y, x)`` or a HyperSpy signal, counts.
        tilts: a file, a sequence of degrees, or ``{"start": .., "stop": .., "step": ..}``; see `read_tilts`. By
            default what a signal carries, else a ``.rawtlt``, ``.tlt`` or ``.mdoc`` named like the first file.
        pixel_size_nm: edge of a pixel, nm; by default what the files say.
        tilt_axis: ``"y"`` (vertical in the maps) or ``"x"``.
        weights: ``(tilt, y, x)`` in 0..1, a file or an array, swapped with the maps; 0 leaves a pixel out.
        scaled: True if the maps are no longer counts.
        base_dir: folder that relative paths start from.

    Raises:
        InputError: a file cannot be read, the pixel size is unknown or differs between files, or
            the data fail the checks of `TiltSeries.create`.
    """
    from recon.io.signals import is_signal, stack_of

    if tilt_axis not in ("x", "y"):
        raise InputError(f"tilt_axis is {tilt_axis!r}; it must be 'y' (vertical in the maps) or 'x'")
    base = Path(base_dir).expanduser()
    tilts_deg = None if tilts is None else read_tilts(tilts, base)
    found: tuple[str, Any] | None = None
    stacks: dict[str, ArrayLike] = {}
    where, sizes = dict[str, str](), dict[str, float]()
    for element, source in maps.items():
        if isinstance(source, str | os.PathLike):
            where[element] = str(source)
            stacks[element], size = read_stack(base / Path(source).expanduser())
            if size is not None:
                sizes[element] = size
            if tilts_deg is None and found is None:
                beside = _tilts_beside(base / Path(source).expanduser())
                found = None if beside is None else (beside.name, read_tilts(beside))
        elif is_signal(source):
            stacks[element], size, own = stack_of(source, element)
            where[element] = "a signal"
            if size is not None:
                sizes[element] = size
            if own is not None and found is None:
                found = ("the signal", own)
        else:
            stacks[element] = np.asarray(to_host(source))
    if tilts_deg is None:
        if found is None:
            raise InputError(
                "no tilts were given, and neither a signal nor a .rawtlt, .tlt or .mdoc beside the first map has them; "
                "give tilts, one in degrees for each map"
            )
        tilts_deg = found[1]
    if isinstance(weights, str | os.PathLike):
        weights = read_stack(base / Path(weights).expanduser())[0]
    elif weights is not None:
        weights = np.asarray(to_host(weights))
    if tilt_axis == "x":
        stacks = {element: _swap(stack) for element, stack in stacks.items()}
        weights = None if weights is None else _swap(weights)
    size, note = _pixel_size(pixel_size_nm, sizes, where)
    series = TiltSeries.create(stacks, tilts_deg, size, weights=weights, scaled=scaled, where=where)
    if tilts is None and found is not None:
        note += f"; tilts from {found[0]}"
    if tilt_axis == "x":
        note += "; rows and columns swapped, since the tilt axis was x"
    return series.evolve(note)


def _tilts_beside(path: Path) -> Path | None:
    beside = [path.with_suffix(s) for s in (".rawtlt", ".tlt", ".mdoc")] + [Path(f"{path}.mdoc")]
    return next((p for p in beside if p.is_file()), None)


def read_stack(path: str | os.PathLike[str], *, image: bool = False) -> Stack:
    """Read a stack of maps; with `image`, a single map ``(y, x)`` is a stack of one.

    Types: TIFF (plain multi-page, ImageJ, OME), MRC (also .mrcs, .ali, .st, .rec), NPY, NPZ with exactly one
    three-dimensional array, HyperSpy's .hspy and .zspy, NCEM's .emd, OME-Zarr, .dm3/.dm4, .ser and our
    .vti. Rows and columns keep the order they have in the file. Python objects are never unpickled.

    Returns:
        The stack ``(tilt, y, x)``, dtype as stored, and the edge of a pixel in nm, or None where the
        file does not say or its pixels are not square. An MRC pixel of 0 or exactly 1 Angstrom means
        "not set"; so does a plain TIFF's resolution of 1 um or coarser, which is a printer's.

    Raises:
        InputError: there is no such file, it may not be read, its type is unknown, or it is empty,
            damaged, cut short or not three-dimensional.
        ResourceError: it does not fit into memory.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if not (path.suffix.lower() in (".zarr", ".zspy") and path.is_dir()):
        check_file(path)
    if reader is None:
        what = f"type {path.suffix!r}" if path.suffix else "a name without a type"
        raise InputError(f"{path} has {what}, which is unknown; stacks are {', '.join(STACK_TYPES)}")
    return parse(path, (lambda p: _lifted(*reader(p))) if image else reader)


def _lifted(values: NDArray[Any], size: float | None) -> Stack:
    return (values[None] if values.ndim == 2 else values), size


def parse(path: Path, reader: Callable[[Path], Stack]) -> Stack:
    """Run a reader; whatever a library raises on a bad file becomes a one-line InputError."""
    try:
        values, size = reader(path)
    except ReconError:
        raise
    except MemoryError as exc:
        raise ResourceError(f"{path} does not fit into memory, or is damaged; bin the maps first") from exc
    except Exception as exc:  # a damaged file makes a library raise nearly any type
        raise InputError(f"{path} cannot be read, it is damaged, cut short or of another type ({reason(exc)})") from exc
    if values.ndim != 3 or values.size == 0:
        raise InputError(f"{path} holds an array of shape {values.shape}; a stack of maps is (tilt, y, x)")
    if size is not None and not (np.isfinite(size) and size > 0):
        size = None
    return values, size


def check_file(path: Path, holds: str = "a stack of maps") -> None:
    """Raise InputError unless `path` is a regular file that is not empty and may be read."""
    remedy = f"name a file that holds {holds}"
    with explain_reading(path, remedy):
        info = path.stat()
        if stat.S_ISREG(info.st_mode):
            with path.open("rb"):
                pass
    if not stat.S_ISREG(info.st_mode):
        what = "a folder" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise InputError(f"{path} is {what}; {remedy}")
    if info.st_size == 0:
        raise InputError(f"{path} is empty; copy or export it again")


def _read_npy(path: Path) -> Stack:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # mapping compares the header with the file's size
    return np.array(mapped), None


def _read_npz(path: Path) -> Stack:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stacks = [name for name, a in arrays.items() if a.ndim == 3]
    if len(stacks) != 1:
        names = ", ".join(f"{name} {a.shape}" for name, a in arrays.items()) or "nothing"
        raise InputError(
            f"{path} holds {len(stacks)} three-dimensional arrays, exactly 1 is needed; it holds {names}; "
            "save each stack to a file of its own"
        )
    return arrays[stacks[0]], None


def _read_mrc(path: Path) -> Stack:
    values, (_, dy, dx) = read_mrc(path)
    return values, None if dx == 0.1 else _square(dy, dx)  # 1 Angstrom is what is written when nobody knows


def read_mrc(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """An MRC file's values as stored ``(z, y, x)`` and its voxel ``(z, y, x)`` in nm, 0 where not set."""
    import mrcfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as mrc:
            header, values, voxel = mrc.header, mrc.data, mrc.voxel_size
            nm = tuple(_tidy(float(voxel[axis]) / 10) for axis in "zyx")
    if values is None:
        need = 1024 + int(header.nsymbt)
        raise InputError(
            f"{path} is cut short or not an MRC file: its header tells of {header.nz} x {header.ny} x {header.nx} "
            f"values after {need} bytes, the file has {path.stat().st_size} bytes; copy it again"
        )
    stamp, flags = np.frombuffer(header["extra2"].tobytes(), dtype=header.dtype["nx"])[10:12]
    if values.dtype == np.int8 and stamp == 1146047817 and not flags & 1:
        values = values.view(np.uint8)  # IMOD wrote it, and says that its bytes are unsigned
    return values, (nm[0], nm[1], nm[2])


def _read_hspy(path: Path) -> Stack:
    from recon.io.exports import read_hspy

    return read_hspy(path)


def _read_zspy(path: Path) -> Stack:
    return _read_rsciio(path)


def _read_emd(path: Path) -> Stack:
    from recon.io.exports import read_emd

    return read_emd(path)


def _read_zarr(path: Path) -> Stack:
    from recon.io.exports import read_ome_zarr

    return read_ome_zarr(path)


def _read_vti(path: Path) -> Stack:
    from recon.io.exports import read_vti

    return read_vti(path)


def _read_rsciio(path: Path) -> Stack:
    """A stack of images in a microscope's own format."""
    import importlib

    name = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".ser": "tia", ".zspy": "zspy"}
    reader = importlib.import_module(f"rsciio.{name[path.suffix.lower()]}").file_reader
    with quiet("rsciio"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = [s for s in reader(str(path)) if np.ndim(s["data"]) == 3]
    if len(signals) != 1:
        raise InputError(f"{path} holds {len(signals)} three-dimensional arrays, exactly 1 is needed; export one")
    edges = [abs(float(a.get("scale") or 0)) * unit_nm(str(a.get("units") or "")) for a in signals[0]["axes"][-2:]]
    return np.asarray(signals[0]["data"]), _square(_tidy(edges[0]), _tidy(edges[1]))


def _read_tiff(path: Path) -> Stack:
    values, (_, dy, dx) = read_tiff(path)
    return values, _square(dy, dx)


def read_tiff(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """A TIFF's values ``(z, y, x)`` as stored and its voxel ``(z, y, x)`` in nm, 0 where not set."""
    import tifffile

    with quiet("tifffile") as complaints, tifffile.TiffFile(path) as tif:
        pages = [(series.asarray(), series.axes) for series in tif.series]
        dz, dy, dx = (_tidy(edge) for edge in _tiff_voxel(tif))
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


def unit_nm(unit: str) -> float:
    """Length of a unit, such as ``"um"``, in nm; 0 for an unknown one."""
    name = (
        unit.strip().casefold().replace("\\u00b5", "u").replace("\u03bc", "u")
    )  # casefold makes both micro signs a mu
    return _NM.get(name) or _NM.get(name.removesuffix("s"), 0.0)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[list[str]]:
    """Collect what a library logs instead of letting it print."""
    logger, messages = logging.getLogger(name), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _tidy(size: float) -> float:
    """Without the digits that a single-precision number or a ratio of integers does not hold."""
    return float(f"{size:.7g}")


def _square(dy: float, dx: float) -> float | None:
    return dx if dx > 0 and abs(dy - dx) <= SAME_SIZE * dx else None


def _swap(stack: Any) -> Any:
    return stack.swapaxes(-1, -2) if stack.ndim >= 2 else stack


def _pixel_size(given: float | None, sizes: dict[str, float], where: dict[str, str]) -> tuple[float, str]:
    """The pixel size in nm and a line for the history that says where it came from."""
    told = ", ".join(f"{where[e]} {size:g} nm" for e, size in sizes.items())
    if given is not None:
        try:
            return float(given), f"pixel size {float(given):g} nm as given" + (f" (files: {told})" if told else "")
        except (TypeError, ValueError) as exc:
            raise InputError(f"pixel_size_nm is {given!r}; it must be a number of nanometres") from exc
    if not sizes:
        raise InputError(
            "none of the maps says how large its (square) pixels are; give pixel_size_nm, the edge of a pixel in nm"
        )
    low, high = min(sizes, key=lambda e: sizes[e]), max(sizes, key=lambda e: sizes[e])
    if sizes[high] > (1 + SAME_SIZE) * sizes[low]:
        raise InputError(
            f"pixel sizes differ by more than {SAME_SIZE:.1%}: {where[low]} has {sizes[low]:g} nm, {where[high]} has "
            f"{sizes[high]:g} nm; give pixel_size_nm if the files are wrong"
        )
    first = next(iter(sizes))
    return sizes[first], f"pixel size {sizes[first]:g} nm from {where[first]}"


_READERS: dict[str, Callable[[Path], Stack]] = {
    **dict.fromkeys((".tif", ".tiff"), _read_tiff),
    **dict.fromkeys((".mrc", ".mrcs", ".ali", ".st", ".rec"), _read_mrc),
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".hspy": _read_hspy,
    ".zspy": _read_zspy,
    ".emd": _read_emd,
    ".zarr": _read_zarr,
    ".vti": _read_vti,
    **dict.fromkeys((".dm3", ".dm4", ".ser"), _read_rsciio),
}
STACK_TYPES = tuple(_READERS)
