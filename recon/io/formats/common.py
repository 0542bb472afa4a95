"""What the formats share: what is written, what is read, units, and how a bad file is told of."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError, ReconError, ResourceError
from recon.files import explain_reading, reason, unreadable
from recon.files import quiet as quiet
from recon.io.formats.declared import check_declared

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Read = tuple["NDArray[Any]", "float | None"]


@dataclass(frozen=True)
class Cube:
    """What is written to one file.

    Attributes:
        name: of the element or line.
        values: ``(z, y, x)``, or ``(tilt, y, x)`` where `tilts_deg` is given; bool is written as 0 and 255 (8 bit),
            all else as float32.
        voxel_nm: edge of a voxel or pixel.
        tilts_deg: of the images of a stack.
    """

    name: str
    values: NDArray[Any]
    voxel_nm: float
    tilts_deg: NDArray[np.float64] | None = None

    @property
    def data(self) -> NDArray[Any]:
        """The values as they are written."""
        if self.values.dtype == bool:
            return np.asarray(self.values.astype(np.uint8) * np.uint8(255))
        return np.ascontiguousarray(self.values, dtype=np.float32)


Stack = tuple["NDArray[Any]", float | None]
SAME_SIZE = 5e-3  # pixel sizes that differ by less, relatively, count as equal
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


def parse(path: Path, reader: Callable[[Path], Stack]) -> Stack:
    """Run a reader; whatever a library raises on a bad file becomes a one-line InputError."""
    try:
        values, size = reader(path)
    except ReconError:
        raise
    except MemoryError as exc:
        raise ResourceError(f"{path} does not fit into memory, or is damaged; bin the maps first") from exc
    except Exception as exc:  # a damaged file makes a library raise nearly any type
        what = f"cannot be read, it is damaged, cut short or of another type ({reason(exc)}); copy or export it again"
        raise unreadable(path, exc, what) from exc
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
        raise InputError(f"{path} is a folder; {remedy}")
    if info.st_size == 0:
        raise InputError(f"{path} is empty; copy or export it again")
    check_declared(path)


def unit_nm(unit: str) -> float:
    """Length of a unit, such as ``"um"``, in nm; 0 for an unknown one."""
    name = (
        unit.strip().casefold().replace("\\u00b5", "u").replace("\u03bc", "u")
    )  # casefold makes both micro signs a mu
    return _NM.get(name) or _NM.get(name.removesuffix("s"), 0.0)


def tidy(size: float) -> float:
    """Without the digits that a single-precision number or a ratio of integers does not hold."""
    return float(f"{size:.7g}")


def square_edge(dy: float, dx: float) -> float | None:
    return dx if dx > 0 and abs(dy - dx) <= SAME_SIZE * dx else None
