"""What is said of tilts and pixel sizes, by whoever reads the maps and by their sources: taken, compared, told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import check_size
from recon.io.formats.common import SAME_SIZE
from recon.io.sources import Source
from recon.io.tilts import compare, read_tilts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.io.tilts import TiltSpec


def tilts_of(
    given: NDArray[np.float64] | None, sources: Sequence[Source]
) -> tuple[NDArray[np.float64], str, list[str]]:
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
                f"{line.partition('; taken from')[0]}; give tilts ([input] tilts), by element if each has its own, or "
                "leave one element out"
            )
        remarks += [] if line is None else [line]
    return taken, "" if given is not None else f"; tilts from {name}", remarks


def own_tilts(
    given: Mapping[str, TiltSpec | None], sources: Sequence[Source], base: Path
) -> tuple[dict[str, NDArray[np.float64]], str, list[str]]:
    """Tilts by element, a line for the history, and what contradicts them.

    Args:
        given: a source of tilts for an element, or None for what its maps' source says.
        sources: of the maps.
        base: folder that relative paths start from.

    Raises:
        InputError: tilts of an element that has no maps, or that nothing tells.
    """
    names = [s.element for s in sources]
    for name in given:
        if name not in names:
            raise InputError(f"tilts were given for {name}, which has no maps; there are {', '.join(names)}")
    out, remarks = dict[str, "NDArray[np.float64]"](), list[str]()
    for source in sources:
        spec = given.get(source.element)
        try:
            found, _, odd = tilts_of(None if spec is None else read_tilts(spec, base), [source])
        except InputError as exc:
            raise InputError(f"{source.element}: {exc}") from exc
        out[source.element] = found
        remarks += odd
    return out, "; tilts by element", remarks


def own_pixels(given: Mapping[str, float | None], sources: Sequence[Source]) -> tuple[dict[str, float], str, list[str]]:
    """Pixel sizes by element, nm, a line for the history, and what contradicts them; None for what the source says.

    Raises:
        InputError: a size of an element that has no maps, or that nothing tells.
    """
    names = [s.element for s in sources]
    for name in given:
        if name not in names:
            raise InputError(f"a pixel size was given for {name}, which has no maps; there are {', '.join(names)}")
    out, odd = dict[str, float](), list[str]()
    for source in sources:
        try:
            out[source.element], _, more = pixel_size(given.get(source.element), [source])
        except InputError as exc:
            raise InputError(f"{source.element}: {exc}") from exc
        odd += [f"{source.element}: {line}" for line in more]
    return out, "pixel sizes " + ", ".join(f"{n} {size:g} nm" for n, size in out.items()), odd


def pixel_size(given: float | None, sources: Sequence[Source]) -> tuple[float, str, list[str]]:
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
