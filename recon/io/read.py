"""The element maps of one tilt series, from files, arrays or signals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.backend import to_host
from recon.errors import MARK, InputError, teller
from recon.io.formats.axes import check_size
from recon.io.formats.common import SAME_SIZE
from recon.io.sources import Source, source_of
from recon.io.stacks import read_stack
from recon.io.tilts import compare, read_tilts
from recon.series.combine import fitted
from recon.series.counts import alike, count_doubts
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from recon.geometry.tilt_geometry import Shape2, TiltGeometry
    from recon.io.tilts import TiltSpec

PathLike = str | os.PathLike[str]
FEW = 50  # counts of an element in all maps: too few for any volume


def read(
    maps: Mapping[str, PathLike | Sequence[PathLike] | ArrayLike] | PathLike,
    tilts: TiltSpec | None = None,
    pixel_size_nm: float | None = None,
    *,
    tilt_axis: str = "y",
    weights: PathLike | ArrayLike | None = None,
    scaled: bool = False,
    geometry: TiltGeometry | Callable[[Shape2], TiltGeometry] | None = None,
    image: PathLike | Sequence[PathLike] | ArrayLike | None = None,
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
            the first file.
        pixel_size_nm: edge of a pixel, nm; by default what the files say.
        tilt_axis: ``"y"`` (vertical in the maps) or ``"x"``.
        weights: ``(tilt, y, x)`` in 0..1, a file or an array, swapped with the maps; 0 leaves a pixel out, whatever
            it holds. ``"nan"`` leaves out the pixels that are not finite in some map.
        scaled: True if the maps are no longer counts.
        geometry: how the maps were taken, in place of tilts, where that was not by tilting about one axis; or a
            function that makes it from the frame ``(ny, nx)``. Its rows and columns are the maps' after any swap.
        image: recorded with the maps, such as HAADF, to align on, never an element: a source like those of `maps`, as
            large as these or a whole number of times larger.
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
    given = None if tilts is None else read_tilts(tilts, base)
    sources = [source_of(element, source, base) for element, source in maps.items()]
    how: ArrayLike | TiltGeometry
    told, remarks = "", list[str]()
    if geometry is None:
        how, told, remarks = _tilts(given, sources)
    if isinstance(weights, str) and weights == "nan":
        pass
    elif isinstance(weights, str | os.PathLike):
        weights = read_stack(base / Path(weights).expanduser())[0]
    elif weights is not None:
        weights = np.asarray(to_host(weights))
    if tilt_axis == "x":
        sources = [replace(s, stack=replace(s.stack, values=_swap(s.stack.values))) for s in sources]
        weights = weights if weights is None or isinstance(weights, str) else _swap(np.asarray(weights))
    size, note, odd = _pixel_size(pixel_size_nm, sources)
    stacks: dict[str, ArrayLike] = {s.element: s.stack.values for s in sources}
    where = {s.element: s.where for s in sources if s.where}
    if geometry is not None:
        shape = np.shape(next(iter(stacks.values()))) if stacks else ()
        frame = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
        how = geometry(frame) if callable(geometry) else geometry
    series = TiltSeries.create(stacks, how, size, weights=weights, scaled=scaled, where=where)
    seen = None if image is None else _image(image, base, series, remarks, swapped=tilt_axis == "x")
    remarks += odd + [r for s in sources for r in s.remarks]
    notes = [f"{s.element}: {n}" for s in sources for n in s.stack.notes]
    note += told + "".join(f"; {n}" for n in notes + remarks)
    remarks += _doubts(series, [s.stack.values for s in sources])
    if isinstance(weights, str) and series.weights is not None:
        note += f"; {1 - float(series.weights.mean()):.2%} of the pixels left out, not finite in some map"
    if tilt_axis == "x":
        note += "; rows and columns swapped, since the tilt axis was x"
    numbers = tuple(f"map {i}" for i in range(1, series.n_tilts + 1))
    origins = tuple(s.origins or numbers for s in sources)
    told_once = tuple(dict.fromkeys([*series.remarks, *remarks]))
    for remark in told_once:
        teller(None)(MARK + remark)
    return series.evolve(note, tilt_axis=tilt_axis, remarks=told_once, origins=origins, image=seen)


def _image(source: object, base: Path, series: TiltSeries, remarks: list[str], *, swapped: bool) -> NDArray[np.float32]:
    """The image to align on ``(tilt, y, x)`` in the pixels of the maps; what contradicts them goes to `remarks`."""
    found = source_of("HAADF", source, base)
    values, where, n = found.stack.values, found.where or "the reference image", series.n_tilts
    if values.ndim != 3 or len(values) != n or values.dtype.kind not in "biuf":
        raise InputError(f"{where} has the shape {values.shape}; it must hold one image for each of {n} tilts")
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds values that are not finite; export the image again")
    if found.stack.tilts_deg is not None and series.scheme is None:
        labels = found.origins or tuple(f"image {i}" for i in range(1, n + 1))
        line = compare(series.tilts_deg, found.stack.tilts_deg, "the maps", where, labels)
        remarks += [] if line is None else [line]
    return fitted(_swap(values) if swapped else values, series.frame)


def _element_of(path: Path) -> str:
    """The name of an element from that of its file: ``Fe.tif``, ``Fe.ome.zarr`` and ``Fe_*.tif`` are Fe."""
    return path.name.split(".")[0].rstrip("*?_- ") or "map"


def _swap(stack: NDArray[np.generic]) -> NDArray[np.generic]:
    return stack.swapaxes(-1, -2) if stack.ndim >= 2 else stack


def _tilts(given: NDArray[np.float64] | None, sources: Sequence[Source]) -> tuple[NDArray[np.float64], str, list[str]]:
    """The tilts that are taken, where they come from for the history, and what contradicts them."""
    owned = [(s, s.stack.tilts_deg) for s in sources if s.stack.tilts_deg is not None]
    beside = next((s.beside for s in sources if s.beside is not None), None)
    found = [(own, f"{s.element}, {s.tilts_from}" if len(owned) > 1 else s.tilts_from) for s, own in owned]
    found += [] if beside is None else [(beside[1], beside[0])]
    if given is not None:
        taken, name = given, "the tilts given"
    elif found:
        taken, name = found.pop(0)
    else:
        reason = next((r for s in sources for r in s.remarks), "")
        raise InputError(
            "no tilts were given, and neither a signal, the files nor a .rawtlt, .tlt or .mdoc beside the first has "
            f"them{' (' + reason + ')' if reason else ''}; give tilts ([input] tilts), one in degrees for each map"
        )
    numbers = tuple(f"map {i}" for i in range(1, len(taken) + 1))
    labels = next((s.origins for s in sources if len(s.origins) == len(taken)), numbers)
    remarks = []
    for k, (other, source) in enumerate(found):
        line = compare(taken, other, name, source, labels)
        if line is not None and given is None and k < len(owned) - 1:  # two elements, and nobody chose between them
            raise InputError(
                f"{line.partition('; taken from')[0]}; give tilts ([input] tilts), or leave one element out"
            )
        remarks += [] if line is None else [line]
    return taken, "" if given is not None else f"; tilts from {name}", remarks


def _doubts(series: TiltSeries, stacks: Sequence[NDArray[np.generic]]) -> list[str]:
    """What is odd about the maps themselves."""
    out = alike(stacks, series.elements)
    if not series.scaled:
        for name, stack in zip(series.elements, stacks, strict=True):
            out += count_doubts(stack, name, series.tilts_deg)
            if (total := float(stack.sum(dtype=np.float64))) < FEW:
                out.append(f"{name}: {total:.3g} counts in all, which say next to nothing of where the element is")
    return out


def _pixel_size(given: float | None, sources: Sequence[Source]) -> tuple[float, str, list[str]]:
    """The pixel size in nm, a line for the history that says where it came from, and what contradicts it."""
    sizes = dict[str, float]()
    for s in sources:
        size = s.stack.pixel_nm(s.where)
        if size is not None:
            sizes[s.where] = size
    told = ", ".join(f"{w} {size:g} nm" for w, size in sizes.items())
    if given is not None:
        try:
            edge = float(given)
        except (TypeError, ValueError) as exc:
            raise InputError(f"pixel_size_nm is {given!r}; it must be a number of nanometres") from exc
        if np.isfinite(edge) and edge > 0:
            check_size(edge, "pixel_size_nm says that a pixel is")
        odd = [f"pixel_size_nm is {edge:g}, taken, but {w} says {size:g} nm{_factor(edge, size)}"
               for w, size in sizes.items() if not abs(size - edge) <= SAME_SIZE * edge]  # fmt: skip
        return edge, f"pixel size {edge:g} nm as given" + (f" (files: {told})" if told else ""), odd
    if not sizes:
        raise InputError(
            "none of the maps says how large its (square) pixels are; give pixel_size_nm, the edge of a pixel in nm"
        )
    for where, size in sizes.items():
        check_size(size, f"{where} says that a pixel is")
    low, high = min(sizes, key=lambda w: sizes[w]), max(sizes, key=lambda w: sizes[w])
    if sizes[high] > (1 + SAME_SIZE) * sizes[low]:
        raise InputError(
            f"pixel sizes differ by more than {SAME_SIZE:.1%}: {low} has {sizes[low]:g} nm, {high} has "
            f"{sizes[high]:g} nm; give pixel_size_nm if the files are wrong"
        )
    first = next(iter(sizes))
    return sizes[first], f"pixel size {sizes[first]:g} nm from {first}", []


def _factor(given: float, size: float) -> str:
    """What a ratio of sizes looks like."""
    ratio = max(given, size) / min(given, size)
    for power, unit in ((10, "Angstrom and nm"), (1000, "nm and um, or nm and pm")):
        if abs(ratio / power - 1) < 0.01:
            return f", {power} times {'less' if size < given else 'more'}: {unit} mixed up?"
    return f", {ratio:.3g} times {'less' if size < given else 'more'}" + (
        ": were the maps binned?" if abs(ratio - round(ratio)) < 0.01 else ""
    )
