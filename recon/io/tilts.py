"""Tilt angles from a file, a list or a range."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.files import read_text
from recon.series.checks import check_tilts

if TYPE_CHECKING:
    from numpy.typing import NDArray

TiltSpec = str | os.PathLike[str] | Sequence[float] | Mapping[str, float] | np.ndarray[Any, np.dtype[Any]]

TILT_TYPES = (".rawtlt", ".tlt", ".txt", ".csv", ".mdoc")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
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
    if isinstance(spec, str | os.PathLike):
        path = Path(base_dir).expanduser() / Path(spec).expanduser()
        values = _from_file(path)
        try:
            return check_tilts(values)
        except InputError as exc:
            raise InputError(f"{path}: {exc}") from exc
    if isinstance(spec, Mapping):
        return check_tilts(_from_range(spec))
    array = np.asarray(spec)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise InputError("tilts must be a file, a flat list of degrees, or a range { start, stop, step }")
    return check_tilts(array)


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
    """Tilt and file name (or "") of each section of a SerialEM ``.mdoc``, in the order of the file.

    Raises:
        InputError: it cannot be read, or a section lacks its TiltAngle.
    """
    out: list[tuple[float, str]] = []
    inside, angle, name, start = False, None, "", 0

    def close() -> None:
        if inside:
            if angle is None:
                raise InputError(f"{path}:{start}: this section has no TiltAngle; add one, in degrees")
            out.append((angle, name))

    for number, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if text.startswith("["):
            close()
            inside, angle, name, start = bool(re.match(r"\[\s*(ZValue|FrameSet|Image)", text)), None, "", number
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (inside and equals):
            continue
        if key == "TiltAngle":
            if not _NUMBER.fullmatch(value):
                raise InputError(f"{path}:{number}: TiltAngle {value[:40]!r} is not a number of degrees; correct it")
            angle = float(value)
        elif key in ("SubFramePath", "ImageFile"):
            name = re.split(r"[\\/]", value)[-1]
    close()
    if not out:
        raise InputError(f"{path} holds no section with a TiltAngle; give a .rawtlt file instead")
    return out
