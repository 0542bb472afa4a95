"""Tilt angles from a file, a list or a range."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.files import read_text
from recon.series.checks import check_tilts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TiltSpec = str | os.PathLike[str] | Sequence[float] | Mapping[str, float] | np.ndarray[Any, np.dtype[Any]]

TILT_TYPES = (".rawtlt", ".tlt", ".txt", ".csv", ".mdoc")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
AGREE = 1.0  # degrees by which what the stage reached may differ from what it was told
_MOST = 100_000  # angles in a range; a step far too small is a slip


def read_tilts(spec: TiltSpec, base_dir: str | os.PathLike[str] = ".") -> NDArray[np.float64]:
    """Tilts ``(tilt,)`` float64 in degrees, in the order of the maps.

    Args:
        spec: a file (.rawtlt, .tlt, .txt or .csv, one number a line; blank lines and what follows a
            ``#`` do not count; or SerialEM's .mdoc), a sequence of degrees, or
            ``{"start": .., "stop": .., "step": ..}``, both ends included.
        base_dir: folder that a relative path starts from.

    Raises:
        InputError: the file cannot be read or a line is not one number (the message has file and line),
            the range does not reach its stop by whole steps, or the tilts fail `check_tilts`.
    """
    return _read(spec, base_dir, check_tilts)


def read_angles(spec: TiltSpec, base_dir: str | os.PathLike[str] = ".") -> NDArray[np.float64]:
    """Angles of another kind, such as azimuths, from the same sources; any number of degrees.

    Raises:
        InputError: the file cannot be read, or a line is not one number.
    """
    return _read(spec, base_dir, lambda values: np.asarray(values, dtype=np.float64))


def _read(
    spec: TiltSpec, base_dir: str | os.PathLike[str], check: Callable[[ArrayLike], NDArray[np.float64]]
) -> NDArray[np.float64]:
    if isinstance(spec, str | os.PathLike):
        path = Path(base_dir).expanduser() / Path(spec).expanduser()
        values = _from_file(path)
        try:
            return check(values)
        except InputError as exc:
            raise InputError(f"{path}: {exc}") from exc
    if isinstance(spec, Mapping):
        return check(_from_range(spec))
    array = np.asarray(spec)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise InputError("tilts must be a file, a flat list of degrees, or a range { start, stop, step }")
    return check(array)


def _from_file(path: Path) -> list[float]:
    if path.is_file() and path.suffix.lower() not in TILT_TYPES:
        raise InputError(f"{path} has type {path.suffix!r}, which is unknown; tilts are {', '.join(TILT_TYPES)}")
    if path.suffix.lower() == ".mdoc":
        return [angle for angle, _ in read_mdoc(path)]
    lines = _lines(path)
    tilts = []
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        if not _NUMBER.fullmatch(text):
            raise InputError(
                f"{path}:{number}: {text[:40]!r} is not one number; give one tilt a line, in degrees with a decimal "
                "point, and put # before headings"
            )
        tilts.append(float(text))
    if not tilts:
        raise InputError(f"{path} holds no tilts; give one a line, in degrees")
    return tilts


def _from_range(spec: Mapping[str, float]) -> NDArray[np.float64]:
    keys = ("start", "stop", "step")
    if set(spec) != set(keys):
        raise InputError(f"a range of tilts needs exactly start, stop and step; it has {', '.join(map(str, spec))}")
    for key in keys:
        value = spec[key]
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise InputError(f"{key} of the tilts is {value!r}; it must be a number of degrees")
    start, stop, step = (float(spec[key]) for key in keys)
    if step == 0:
        raise InputError("step of the tilts is 0; give the degrees between two maps")
    if (stop - start) * step < 0:
        raise InputError(f"step {step:g} leads from {start:g} away from {stop:g}; change its sign")
    steps = (stop - start) / step
    if steps > _MOST:
        raise InputError(f"tilts from {start:g} to {stop:g} in steps of {step:g} are more than {_MOST}; check the step")
    whole = round(steps)
    if abs(steps - whole) > 1e-6 * max(1.0, steps):
        last = start + step * np.floor(steps)
        raise InputError(
            f"steps of {step:g} from {start:g} do not reach {stop:g}; the last tilt before it is {last:g}, so give "
            f"stop = {last:g} or another step"
        )
    return np.linspace(start, stop, whole + 1)


def _lines(path: Path) -> list[str]:
    return read_text(path, "name a file with one tilt a line, in degrees").split("\n")


def read_mdoc(path: Path) -> list[tuple[float, str]]:
    """Tilt and file name (or "") of each section of a SerialEM ``.mdoc``.

    Sections ``[ZValue = n]`` are about image n of the stack and come in that order, wherever they stand in the file;
    others (``[FrameSet = ..]``, ``[Image = ..]``) in the order of the file.

    Raises:
        InputError: it cannot be read, a section lacks its TiltAngle, or the numbers of the images have gaps or repeat.
    """
    sections = list[tuple[int | None, float, str]]()
    number: int | None = None
    inside, angle, name, start = False, None, "", 0

    def close() -> None:
        if inside:
            if angle is None:
                raise InputError(f"{path}:{start}: this section has no TiltAngle; add one, in degrees")
            sections.append((number, angle, name))

    for at, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if text.startswith("["):
            close()
            head = re.match(r"\[\s*(ZValue|FrameSet|Image)\s*(?:=\s*(-?\d+))?", text)
            number = int(head[2]) if head and head[1] == "ZValue" and head[2] else None
            inside, angle, name, start = head is not None, None, "", at
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (inside and equals):
            continue
        if key == "TiltAngle":
            if not _NUMBER.fullmatch(value):
                raise InputError(f"{path}:{at}: TiltAngle {value[:40]!r} is not a number of degrees; correct it")
            angle = float(value)
        elif key in ("SubFramePath", "ImageFile"):
            name = re.split(r"[\\/]", value)[-1]
    close()
    if not sections:
        raise InputError(f"{path} holds no section with a TiltAngle; give a .rawtlt file instead")
    return [(tilt, file) for _, tilt, file in _by_image(path, sections)]


def _by_image(path: Path, sections: list[tuple[int | None, float, str]]) -> list[tuple[int | None, float, str]]:
    """Sections of an ``.mdoc`` in the order of the images that they are about."""
    numbers = [n for n, _, _ in sections if n is not None]
    if not numbers or len({file for *_, file in sections if file}) == len(sections):
        return sections  # or each is about a file of its own, which is named
    if len(numbers) < len(sections):
        raise InputError(f"{path} numbers some of its images and some not; give each section its [ZValue = n]")
    for n in numbers:
        if numbers.count(n) > 1:
            tilts = " and ".join(f"{t:g}" for k, t, _ in sections if k == n)
            raise InputError(
                f"{path} has ZValue {n} more than once, with tilts {tilts}; keep the section of the image in the stack"
            )
    ordered = sorted(sections, key=lambda section: section[0] or 0)
    first = min(numbers)
    missing = sorted(set(range(first, first + len(numbers))) - set(numbers))
    if missing or first not in (0, 1):
        raise InputError(
            f"{path} has no section for image {missing[0] if missing else 0} (ZValue), the last is {max(numbers)}; add "
            "it, or if the image is gone from the stack, number the sections anew"
        )
    return ordered


def compare(
    taken: NDArray[np.float64], other: NDArray[np.float64], source: str, other_source: str, labels: Sequence[str]
) -> str | None:
    """What a user must know where two sources give tilts to the same maps; None if they agree.

    Args:
        taken: ``(tilt,)`` degrees, the tilts that are used, from `source`.
        other: those of `other_source`.
        labels: a name for each map.

    Raises:
        InputError: the two hold the same tilts in another order, so that maps would get those of others.
    """
    if len(other) != len(taken):
        return f"{other_source} holds {len(other)} tilts for {len(taken)} maps; those of {source} are taken"
    worst = int(np.abs(other - taken).argmax())
    if abs(other[worst] - taken[worst]) <= AGREE:
        return None
    both = f"{labels[worst]} is at {taken[worst]:g} degrees by {source} and at {other[worst]:g} by {other_source}"
    if np.abs(other + taken).max() <= AGREE:
        return f"{both}, all signs the other way round; taken from {source}: if that is wrong, volumes are mirrored"
    if np.abs(np.sort(other) - np.sort(taken)).max() <= AGREE:
        raise InputError(
            f"{both}: the same tilts in another order; correct one of them, or leave out the one that is wrong"
        )
    return f"{both}; taken from {source}"
