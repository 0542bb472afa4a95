"""The element maps of one tilt series, from files, arrays or signals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.backend import to_host
from recon.errors import InputError
from recon.io.formats.common import SAME_SIZE
from recon.io.stacks import read_stack
from recon.io.tilts import read_tilts
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from recon.io.tilts import TiltSpec


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
        weights: ``(tilt, y, x)`` in 0..1, a file or an array, swapped with the maps; 0 leaves a pixel out, whatever
            it holds. ``"nan"`` leaves out the pixels that are not finite in some map.
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
    if isinstance(weights, str) and weights == "nan":
        pass
    elif isinstance(weights, str | os.PathLike):
        weights = read_stack(base / Path(weights).expanduser())[0]
    elif weights is not None:
        weights = np.asarray(to_host(weights))
    if tilt_axis == "x":
        stacks = {element: _swap(stack) for element, stack in stacks.items()}
        weights = weights if weights is None or isinstance(weights, str) else _swap(weights)
    size, note = _pixel_size(pixel_size_nm, sizes, where)
    series = TiltSeries.create(stacks, tilts_deg, size, weights=weights, scaled=scaled, where=where)
    if tilts is None and found is not None:
        note += f"; tilts from {found[0]}"
    if isinstance(weights, str) and series.weights is not None:
        note += f"; {1 - float(series.weights.mean()):.2%} of the pixels left out, not finite in some map"
    if tilt_axis == "x":
        note += "; rows and columns swapped, since the tilt axis was x"
    return series.evolve(note, tilt_axis=tilt_axis)


def _tilts_beside(path: Path) -> Path | None:
    beside = [path.with_suffix(s) for s in (".rawtlt", ".tlt", ".mdoc")] + [Path(f"{path}.mdoc")]
    return next((p for p in beside if p.is_file()), None)


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
