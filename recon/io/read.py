"""The element maps of one tilt series, from files, arrays or signals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from recon.backend import to_host
from recon.errors import MARK, InputError, teller
from recon.io.said import own_pixels, own_tilts, pixel_size, tilts_of
from recon.io.sources import Source, source_of
from recon.io.stacks import read_stack
from recon.io.tilts import compare, read_tilts
from recon.series.combine import fitted
from recon.series.counts import alike, count_doubts
from recon.series.tilt_series import TiltSeries
from recon.series.union import SAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from recon.geometry.tilt_geometry import Shape2, TiltGeometry
    from recon.io.tilts import TiltSpec

PathLike = str | os.PathLike[str]
Weights = str | None | np.ndarray[Any, np.dtype[Any]] | dict[str, np.ndarray[Any, np.dtype[Any]]]
FEW = 50  # counts of an element in all maps: too few for any volume


def read(
    maps: Mapping[str, PathLike | Sequence[PathLike] | ArrayLike] | PathLike,
    tilts: TiltSpec | Mapping[str, TiltSpec | None] | None = None,
    pixel_size_nm: float | Mapping[str, float | None] | None = None,
    *,
    tilt_axis: str = "y",
    weights: PathLike | ArrayLike | Mapping[str, PathLike | ArrayLike] | None = None,
    scaled: bool = False,
    geometry: TiltGeometry | Callable[[Shape2], TiltGeometry] | None = None,
    image: PathLike | Sequence[PathLike] | ArrayLike | None = None,
    image_tilts: TiltSpec | None = None,
    image_pixel_size_nm: float | None = None,
    base_dir: PathLike = ".",
) -> TiltSeries:
    """Read the element maps of one tilt series.

    With ``tilt_axis="x"`` (tilting compresses y) every map has its rows and columns swapped exactly,
    no value changes. The series then lives in the swapped frame, the mirror image of the recorded one:
    its y is the recorded x, its x the recorded y, and at a positive tilt a point at larger z moves down
    the recorded map (a tilt axis along y moves it to the right). ``volume.swapaxes(1, 2)`` shows a
    volume in the recorded frame. If the microscope counts tilts the other way round, negate them.

    What is odd about the maps (values that cannot be counts) and where sources contradict each other (tilts or pixel
    sizes given and those of the files) is among the `remarks` of the series.

    Args:
        maps: element name to a file (see `recon.io.stacks.load_stack`), a pattern (``"Fe_*.tif"``) or a list of files
            with one map each, an array ``(tilt, y, x)`` or a HyperSpy signal, counts. A single path is the element that
            its name says, as ``"Fe.tif"`` does. Files of a pattern are sorted by the tilts in their names where the
            names have them, else as people number files.
        tilts: a file, a sequence of degrees, or ``{"start": .., "stop": .., "step": ..}``; see `read_tilts`. By
            default what a signal, the files or their names carry, else a ``.rawtlt``, ``.tlt`` or ``.mdoc`` named like
            the first file. Or a table of these by element, None for what its source says: then elements may have tilts
            of their own; at the same tilt (to 0.05 degrees) their maps were recorded together.
        pixel_size_nm: edge of a pixel, nm; by default what the files say. Or a table of these by element, whose pixels
            and frames may differ then, the middle of each frame being the same place; see `recon.series.footprint`.
        tilt_axis: ``"y"`` (vertical in the maps) or ``"x"``.
        weights: ``(tilt, y, x)`` in 0..1, a file or an array, swapped with the maps; 0 leaves a pixel out, whatever
            it holds. Or a table of these by element, ``(tilt, y, x)``, ``(y, x)`` or ``(tilt,)`` of its own maps.
            ``"nan"`` leaves out the pixels that are not finite in some map, and maps of nothing else.
        scaled: True if the maps are no longer counts.
        geometry: how the maps were taken, in place of tilts, where that was not by tilting about one axis; or a
            function that makes it from the frame ``(ny, nx)``. Its rows and columns are the maps' after any swap.
        image: recorded with the maps, such as HAADF, to align on, never an element: a source like those of `maps`. It
            may have tilts and pixels of its own, and show more.
        image_tilts: of the image, like `tilts`; by default what its source says if it has another number of images,
            else those of the maps.
        image_pixel_size_nm: edge of its pixels; by default it shows what the maps show, or else what its source says.
        base_dir: folder that relative paths start from.

    Raises:
        InputError: a file cannot be read, the pixel size is unknown, not square, or differs between files, tilts are
            unknown or those of the files in another order, or the data fail the checks of `TiltSeries.create`.
    """
    if tilt_axis not in ("x", "y"):
        raise InputError(f"tilt_axis is {tilt_axis!r}; it must be 'y' (vertical in the maps) or 'x'")
    base = Path(base_dir).expanduser()
    if isinstance(maps, str | os.PathLike):
        maps = {_element_of(Path(maps)): maps}
    if not isinstance(maps, Mapping) or not all(isinstance(name, str) for name in maps):
        raise InputError(
            f"maps is a {type(maps).__name__}; name the maps of each element, as in "
            '{"Co": maps}, or give the path of one file'
        )
    if geometry is not None and tilts is not None:
        raise InputError("both tilts and a geometry were given; the geometry says how each map was taken")
    table, spec = _by_element(tilts)
    given = None if spec is None else read_tilts(spec, base)
    sources = [source_of(element, source, base) for element, source in maps.items()]
    how: ArrayLike | TiltGeometry | dict[str, NDArray[np.float64]]
    told, remarks = "", list[str]()
    if table is not None:
        how, told, remarks = own_tilts(table, sources, base)
    elif geometry is None:
        how, told, remarks = tilts_of(given, sources)
    if isinstance(weights, Mapping):
        weighed: Weights = {n: _weights(w, base, tilt_axis) for n, w in weights.items()}
    elif weights is None or (isinstance(weights, str) and weights == "nan"):
        weighed = weights
    else:
        weighed = _weights(weights, base, tilt_axis)
    if tilt_axis == "x":
        sources = [replace(s, stack=replace(s.stack, values=_swap(s.stack.values))) for s in sources]
    size: float | dict[str, float]
    if isinstance(pixel_size_nm, Mapping):
        size, note, odd = own_pixels(pixel_size_nm, sources)
    else:
        size, note, odd = pixel_size(pixel_size_nm, sources)
    stacks: dict[str, ArrayLike] = {s.element: s.stack.values for s in sources}
    where = {s.element: s.where for s in sources if s.where}
    if geometry is not None:
        shape = np.shape(next(iter(stacks.values()))) if stacks else ()
        frame = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
        how = geometry(frame) if callable(geometry) else geometry
    series = TiltSeries.create(stacks, how, size, weights=weighed, scaled=scaled, where=where)
    seen, at = None, None
    if image is not None:
        own = None if image_tilts is None else read_tilts(image_tilts, base)
        seen, at = _image(image, own, image_pixel_size_nm, base, series, remarks, swapped=tilt_axis == "x")
    remarks += odd + [r for s in sources for r in s.remarks]
    notes = [f"{s.element}: {n}" for s in sources for n in s.stack.notes]
    note += told + "".join(f"; {n}" for n in notes + remarks)
    remarks += _doubts(series, [s.stack.values for s in sources])
    if isinstance(weights, str) and series.weights is not None:
        note += f"; {1 - float(series.weights.mean()):.2%} of the pixels left out, not finite in some map"
    if tilt_axis == "x":
        note += "; rows and columns swapped, since the tilt axis was x"
    origins = tuple(_origins(s, how, series) for s in sources)
    told_once = tuple(dict.fromkeys([*series.remarks, *remarks]))
    for remark in told_once:
        teller(None)(MARK + remark)
    return series.evolve(note, tilt_axis=tilt_axis, remarks=told_once, origins=origins, image=seen, image_tilts_deg=at)


def _by_element(
    tilts: TiltSpec | Mapping[str, TiltSpec | None] | None,
) -> tuple[Mapping[str, TiltSpec | None] | None, TiltSpec | None]:
    """Tilts as a table by element, or those of all: a table of start, stop and step is one of these."""
    if isinstance(tilts, Mapping) and not set(tilts) & {"start", "stop", "step"}:
        return cast("Mapping[str, TiltSpec | None]", tilts), None
    return None, cast("TiltSpec | None", tilts)


def _weights(given: PathLike | ArrayLike, base: Path, tilt_axis: str) -> NDArray[np.generic]:
    if isinstance(given, str | os.PathLike):
        given = read_stack(base / Path(given).expanduser())[0]
    found = np.asarray(to_host(given))
    return _swap(found) if tilt_axis == "x" else found


def _origins(source: Source, how: object, series: TiltSeries) -> tuple[str, ...]:
    """Where each of an element's maps came from; "" where it has none."""
    n = len(source.stack.values)
    own = source.origins or tuple(f"map {i}" for i in range(1, n + 1))
    if not isinstance(how, dict):
        return own
    at = np.abs(series.tilts_deg[:, None] - how[source.element]).argmin(axis=0)
    names = [""] * series.n_tilts
    for i, name in zip(at, own, strict=True):
        names[i] = name
    return tuple(names)


def _image(
    source: object,
    tilts: NDArray[np.float64] | None,
    size_nm: float | None,
    base: Path,
    series: TiltSeries,
    remarks: list[str],
    *,
    swapped: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """The image to align on ``(tilt, y, x)`` in the pixels of the maps, and its tilts where they are its own.

    What contradicts the maps goes to `remarks`.
    """
    found = source_of("HAADF", source, base)
    values, where, n = found.stack.values, found.where or "the reference image", series.n_tilts
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        raise InputError(
            f"{where} has the shape {values.shape}, {values.dtype}; it must hold images (tilt, y, x) of numbers"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds values that are not finite; export the image again")
    if tilts is None and len(values) != n:
        tilts = found.stack.tilts_deg if found.beside is None else found.beside[1]
        if tilts is None:
            raise InputError(
                f"{where} holds {len(values)} images, the maps have {n} tilts, and nothing says at which tilts they "
                "were recorded; give image_tilts (in a job file [align] reference = { image = .., tilts = .. })"
            )
    if tilts is not None:
        if len(tilts) != len(values):
            raise InputError(f"{where} holds {len(values)} images but {len(tilts)} tilts were given; they must agree")
        if series.scheme is not None:
            raise InputError(
                f"{where} has tilts of its own, which serves a single axis, not {series.scheme}; give one image for "
                "each map"
            )
        if len(tilts) == n and np.abs(tilts - series.tilts_deg).max() < SAME:
            tilts = None
    elif found.stack.tilts_deg is not None and series.scheme is None:
        labels = found.origins or tuple(f"image {i}" for i in range(1, n + 1))
        line = compare(series.tilts_deg, found.stack.tilts_deg, "the maps", where, labels)
        remarks += [] if line is None else [line]
    return fitted(_swap(values) if swapped else values, series.frame, _pitch(found, size_nm, series)), tilts


def _pitch(found: Source, size_nm: float | None, series: TiltSeries) -> float | None:
    """Edge of an image's pixels in those of the maps; None where it shows just what they show."""
    if size_nm is not None:
        if not (np.isfinite(size_nm) and size_nm > 0):
            raise InputError(f"pixel size of the image is {size_nm} nm; it must be a positive number of nanometres")
        return float(size_nm) / series.pixel_size_nm
    shape, size = found.stack.values.shape[1:], found.stack.pixel_nm(found.where)
    factor = max(1, shape[0] // series.frame[0])
    if size is None or shape == tuple(factor * k for k in series.frame):
        return None
    return size / series.pixel_size_nm


def _element_of(path: Path) -> str:
    """The name of an element from that of its file: ``Fe.tif``, ``Fe.ome.zarr`` and ``Fe_*.tif`` are Fe."""
    return path.name.split(".")[0].rstrip("*?_- ") or "map"


def _swap(stack: NDArray[np.generic]) -> NDArray[np.generic]:
    return stack.swapaxes(-1, -2) if stack.ndim >= 2 else stack


def _doubts(series: TiltSeries, stacks: Sequence[NDArray[np.generic]]) -> list[str]:
    """What is odd about the maps themselves."""
    out = alike(stacks, series.elements)
    if not series.scaled:
        for e, (name, stack) in enumerate(zip(series.elements, stacks, strict=True)):
            there = series.present[e] if len(stack) < series.n_tilts else np.ones(series.n_tilts, bool)
            out += count_doubts(stack, name, series.tilts_deg[there])
            if (total := float(stack.sum(dtype=np.float64))) < FEW:
                out.append(f"{name}: {total:.3g} counts in all, which say next to nothing of where the element is")
    return out
