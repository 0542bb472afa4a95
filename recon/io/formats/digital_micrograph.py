"""What DigitalMicrograph keeps beside the values of a DM3 or DM4 file: tilts, and what a stored number means.

rosettasciio hands on the tags as they are written, such as ``Microscope Info.Stage Position.Stage Alpha``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 10_000  # tilts of a series


def tilts_of(signal: Mapping[str, Any], n: int) -> NDArray[np.float64] | None:
    """Tilts of n images in degrees: those that the tomography plug-in was set to, or the stage's of a single image."""
    setup = _tag(signal, "ImageTags", "Tomography", "Tomography setup", "Tilt angles")
    words = ("Minimum tilt angle (deg)", "Maximum tilt angle (deg)", "Tilt angle step (deg)")
    low, high, step = (_number(_under(setup, word)) for word in words)
    if n > 1 and low is not None and high is not None and step and 0 <= (high - low) / step < _MOST:
        tilts = low + step * np.arange(int(np.floor((high - low) / step + 1e-3)) + 1)
        return np.asarray(tilts, dtype=np.float64) if tilts.size == n else None
    stage = stage_tilt(signal)
    return np.array([stage]) if n == 1 and stage is not None else None


def stage_tilt(signal: Mapping[str, Any]) -> float | None:
    """The stage's alpha, degrees."""
    return _number(_tag(signal, "ImageTags", "Microscope Info", "Stage Position", "Stage Alpha"))


def intensity(signal: Mapping[str, Any]) -> tuple[float, float]:
    """Origin and scale of the stored numbers, which mean ``(stored - origin) * scale``; 0 and 1 by default."""
    found = _tag(signal, "ImageData", "Calibrations", "Brightness")
    origin, scale = _number(_under(found, "Origin")), _number(_under(found, "Scale"))
    return origin or 0.0, scale or 1.0


def calibrated(values: NDArray[Any], signal: Mapping[str, Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """What the stored numbers mean, and a line that says what was done to them; as they are where nothing is said."""
    origin, scale = intensity(signal)
    if (origin, scale) == (0.0, 1.0):
        return values, ()
    note = f"values are (stored - {origin:g}) x {scale:g}, as the file's intensity calibration says"
    if values.dtype.kind in "iu" and scale == 1 and origin == round(origin):
        return values.astype(np.int64) - int(origin), (note,)
    return (values.astype(np.float64) - origin) * scale, (note,)


def _tag(signal: Mapping[str, Any], *path: str) -> Any:
    node = _under(_under(signal.get("original_metadata"), "ImageList"), "TagGroup0")
    for name in path:
        node = _under(node, name)
    return node


def _under(node: Any, name: str) -> Any:
    """A value by its tag; HyperSpy writes the same tag without blanks and brackets."""
    if not hasattr(node, "items"):
        return None
    wanted = _plain(name)
    return next((value for key, value in node.items() if _plain(str(key)) == wanted), None)


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").casefold()


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
