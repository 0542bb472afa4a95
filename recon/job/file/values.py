"""Single values of a job file: checked, or told of in words."""

from __future__ import annotations

import difflib
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationInfo

from recon.files import bytes_of, matching, reserved

_ELEMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
FORMATS = ("tiff", "mrc", "ome-zarr", "ome-zarr-0.4", "hspy", "emd", "vti")  # those of recon.io, which brings NumPy
_EXPORTS = ("xf", "prexg", "shifts")
_RANGE = ("start", "stop", "step")


def _number(value: Any, what: str, low: float, *, above: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {what}, not {describe(value)}")
    if not abs(value) <= sys.float_info.max or value < low or (above and value == low):
        raise ValueError(f"is {describe(value)}; it must be {what}")
    return float(value)


def amount(what: str, *, above: bool) -> Callable[[Any], float | str | dict[str, float]]:
    """ "auto", a number, or a table of numbers by element."""
    full = f"'auto', {what}, or a table of these by element"

    def check(value: Any) -> float | str | dict[str, float]:
        if value == "auto":
            return "auto"
        if isinstance(value, dict) and value:
            for element, number in value.items():
                try:
                    _number(number, what, 0.0, above=above)
                except ValueError as exc:
                    raise ValueError(f"of {element} {exc}") from exc
            return {element: float(number) for element, number in value.items()}
        return _number(value, full, 0.0, above=above)

    return check


def _base(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "."))


def existing(value: Any, info: ValidationInfo) -> Path:
    """A path relative to the job file, made absolute."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the path of a file, not {describe(value)}")
    path = Path(os.path.abspath(_base(info) / Path(value).expanduser()))
    try:
        found = path.exists()
    except OSError as exc:
        raise ValueError(f"{value} cannot be opened ({exc.strerror})") from exc
    if not found:
        raise ValueError(_missing(value))
    if path.is_dir():
        raise ValueError(f"{value} is a folder; name a file")
    return path


def maps_of(value: Any, info: ValidationInfo) -> Path | tuple[Path, ...]:
    """A file with all maps of an element; or a pattern or a list of files with one map each, absolute."""
    if isinstance(value, list) and value:
        return tuple(existing(v, info) for v in value)
    if isinstance(value, str) and "\0" not in value and any(c in value for c in "*?["):
        found = [Path(os.path.abspath(p)) for p in matching(value, _base(info))]
        if not found:
            raise ValueError(f"{value} matches no file; paths are relative to the job file")
        from recon.io.names import by_tilt

        return found[0] if len(found) == 1 else tuple(by_tilt(found))
    return existing(value, info)


def reference(value: Any, info: ValidationInfo) -> tuple[str, ...] | str:
    """Names of elements, or an image: a path that is made absolute where it is one of a file or files."""
    if isinstance(value, str) and value:
        path = Path(value)
        if path.suffix or path.parent != Path("."):
            maps_of(value, info)  # or says what is wrong with it
            return os.path.abspath(_base(info) / path.expanduser())
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of elements in [ ] or the file of an image, not {describe(value)}")
    for i, name in enumerate(value):
        if not isinstance(name, str):
            raise ValueError(f"entry {i + 1} must be text in quotes, not {describe(name)}")
    return tuple(value)


def _missing(value: str) -> str:
    """Why a file may not be there."""
    if any(ord(c) < 32 for c in value):
        shown = value.encode("unicode_escape").decode()
        return f"holds a tab or line break: \\t and \\n mean that in double quotes; use single quotes: '{shown}'"
    if os.name == "posix" and re.match(r"[A-Za-z]:[\\/]|\\\\", value):
        return f"{value} is a path of Windows, and this system is none; name the file as it is called here"
    if os.name == "posix" and "\\" in value:
        return f"{value} does not exist; here folders are separated by /, not by \\"
    if any(c in value for c in "*?["):
        return f"{value} does not exist; a pattern of several files is not taken here, name one file"
    return f"{value} does not exist; paths are relative to the job file"


def bad_pixels(value: Any, info: ValidationInfo) -> Path | Literal["nan"]:
    """An image that marks them, or "nan" for those that are not finite in some map."""
    return "nan" if value == "nan" else existing(value, info)


def element(name: str) -> str:
    """A name that can name a file of results."""
    if not _ELEMENT.fullmatch(name):
        raise ValueError("cannot name a file of results; use letters, digits, _, + and -, as in Fe or Fe_Ka")
    taken = reserved(name)
    if taken:
        other = name.replace("-", "_") if "-" in name else f"{name}_map"
        raise ValueError(f"cannot name an element, {taken}; choose another name, such as {other}")
    return name


def distinct(maps: dict[str, Any]) -> dict[str, Any]:
    """Maps whose names differ by more than case."""
    if not maps:
        raise ValueError('is empty; name at least one map, such as { Co = "Co.tif" }')
    seen: dict[str, str] = {}
    for name in maps:
        if name.casefold() in seen:
            raise ValueError(f"names {seen[name.casefold()]} and {name}, which differ in case only; rename one")
        seen[name.casefold()] = name
    return maps


def tilts(value: Any, info: ValidationInfo) -> Path | tuple[float, ...] | dict[str, float]:
    """A file, a list of degrees or a range, as `recon.io.read_tilts` takes them."""
    if isinstance(value, str):
        return existing(value, info)
    if isinstance(value, list) and value:
        return tuple(_number(t, f"a finite number of degrees (tilt {i})", -math.inf) for i, t in enumerate(value, 1))
    if isinstance(value, dict):
        for key in value:
            if key not in _RANGE:
                raise ValueError(f"has the unknown key '{key}'; {nearest(key, _RANGE)}")
        for key in _RANGE:
            if key not in value:
                raise ValueError(f"lacks {key}; a range is {{ start = -70, stop = 70, step = 10 }}")
        return {key: _number(value[key], f"a finite number of degrees ({key})", -math.inf) for key in _RANGE}
    raise ValueError(
        "must be a file, a list of degrees or a range { start = -70, stop = 70, step = 10 }, not " + describe(value)
    )


def pixel_size(value: Any) -> float:
    """Nanometres."""
    return _number(value, "a positive number of nanometres", 0.0, above=True)


def thickness(value: Any) -> int | Literal["auto"]:
    """Voxels along the beam, or 'auto'."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be 'auto' or a whole number of voxels, not {describe(value)}")
    if value < 1:
        raise ValueError(f"is {value}; it must be at least 1 voxel")
    return value


def memory(value: Any) -> int | None:
    """Bytes of a text such as '8 GB'; None for what there is."""
    if value is None:
        return None
    found = bytes_of(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be an amount of memory such as '8 GB', not {describe(value)}")
    return found


def replicates(value: Any) -> int:
    """How many replicates, 0 for none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number of replicates, not {describe(value)}")
    if value < 0 or value == 1 or value > 10_000:
        raise ValueError(f"is {value}; it must be 0 (none), or 2 to 10000 replicates, such as 20")
    return value


def _known(names: tuple[str, ...], choices: tuple[str, ...]) -> tuple[str, ...]:
    """Names out of `choices`, each once."""
    for name in names:
        if name not in choices:
            raise ValueError(f"names {name!r}, which is unknown; {nearest(name, choices)}")
    return tuple(dict.fromkeys(names))


def formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """Formats of the results; at least one."""
    if not names:
        raise ValueError(f"is empty; use {', '.join(FORMATS)}")
    return _known(names, FORMATS)


def exports(names: tuple[str, ...]) -> tuple[str, ...]:
    """Formats of the alignment."""
    return _known(names, _EXPORTS)


def leave_out(value: Any) -> tuple[float, ...] | dict[str, tuple[int, ...]]:
    """Tilts in degrees, or a table of their numbers."""
    if isinstance(value, list | tuple):
        return tuple(_number(t, f"a finite number of degrees (entry {i})", -math.inf) for i, t in enumerate(value, 1))
    if isinstance(value, dict) and set(value) == {"number"} and isinstance(value["number"], list):
        for number in value["number"]:
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"holds {describe(number)}; tilts are numbered from 1 in the order of the maps")
        return {"number": tuple(value["number"])}
    raise ValueError(f"must be a list of tilts in degrees, or {{ number = [1, 15] }}, not {describe(value)}")


def exposures(value: Any, info: ValidationInfo) -> Path | tuple[float, ...] | dict[str, tuple[float, ...]]:
    """A file, a number for each tilt, or a table of these by element."""
    if isinstance(value, str):
        return existing(value, info)

    def curve(numbers: Any, whose: str) -> tuple[float, ...]:
        if not isinstance(numbers, list) or not numbers:
            raise ValueError(f"{whose}must be a list with a number for each tilt, not {describe(numbers)}")
        what = "a number, 0 or more"
        return tuple(_number(n, f"{what} ({whose}entry {i})", 0.0) for i, n in enumerate(numbers, 1))

    if isinstance(value, dict) and value:
        return {element: curve(numbers, f"of {element} ") for element, numbers in value.items()}
    if isinstance(value, list):
        return curve(value, "")
    raise ValueError(f"must be a file, a list with a number for each tilt, or lists by element, not {describe(value)}")


_SHAPES = (("centre", "semi_axes"), ("centre", "radius"), ("low", "high"))
RegionTable = Literal["auto", "none"] | dict[str, Path | dict[str, tuple[float, ...]]]


def regions(value: Any, info: ValidationInfo) -> RegionTable:
    """ "auto" to ask about what is found, "none", or name to a label or mask file or to a shape in voxels (z, y, x)."""
    if value in ("auto", "none"):
        return "auto" if value == "auto" else "none"
    if not isinstance(value, dict) or not value:
        raise ValueError(
            "must be 'auto', 'none', or a table with a region by name, such as "
            f"neck = {{ centre = [31, 40, 22], semi_axes = [3, 5, 3] }}, not {describe(value)}"
        )
    out: dict[str, Path | dict[str, tuple[float, ...]]] = {}
    for name, region in value.items():
        if not _ELEMENT.fullmatch(name):
            raise ValueError(f"has the name {name!r}; use letters, digits, _, + and -, as in neck-1")
        try:
            out[name] = _shape(region) if isinstance(region, dict) else existing(region, info)
        except ValueError as exc:
            raise ValueError(f"{name} {exc}") from exc
    return out


def _shape(region: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    for keys in _SHAPES:
        if set(region) == set(keys):
            out = {}
            for key in keys:
                numbers = region[key] if isinstance(region[key], list) else [region[key]]
                if len(numbers) != (1 if key == "radius" else 3):
                    raise ValueError(f"needs three numbers as {key}, voxels (z, y, x), not {describe(region[key])}")
                positive = key in ("radius", "semi_axes")
                low = 0.0 if positive else -math.inf
                what = f"a {'positive ' * positive}number of voxels ({key})"
                out[key] = tuple(_number(n, what, low, above=positive) for n in numbers)
            return out
    raise ValueError(
        "must have centre and semi_axes, centre and radius, or low and high (corners of a box), in voxels (z, y, x)"
    )


def spectra(value: Any, info: ValidationInfo) -> Path | tuple[Path, ...]:
    """A folder, a file, a pattern or a list of files, absolute."""
    if isinstance(value, str) and value and "\0" not in value:
        return Path(os.path.abspath(_base(info) / Path(value).expanduser()))
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(existing(v, info) for v in value)
    raise ValueError(f'must be a folder, a pattern such as "tilt_*.bcf" or a list of files, not {describe(value)}')


def lines(names: tuple[str, ...]) -> tuple[str, ...]:
    """X-ray lines, each named once."""
    seen = dict.fromkeys(names)
    if not names:
        raise ValueError('is empty; name lines, such as ["Fe_Ka", "Si_Ka"]')
    if len(seen) < len(names):
        raise ValueError(f"names one line twice ({', '.join(names)}); leave one out")
    return names


def describe(value: Any) -> str:
    """What was given, for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)[:60]
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"


def nearest(name: str, choices: tuple[str, ...]) -> str:
    """The remedy for a name that is not one of `choices`."""
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean '{folded[near[0]]}'?" if near else f"use {', '.join(choices)}"
