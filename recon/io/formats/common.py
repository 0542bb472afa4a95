"""What the formats share: what is written, what is read, units, and how a bad file is told of."""

from __future__ import annotations

import contextlib
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError, ReconError, ResourceError
from recon.files import explain_reading, reason, unreadable
from recon.files import quiet as quiet
from recon.io.formats.declared import check_declared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
        provenance: how it was made, by subject, for the file's own metadata.
    """

    name: str
    values: NDArray[Any]
    voxel_nm: float
    tilts_deg: NDArray[np.float64] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_nm(self) -> tuple[float, float, float]:
        """Where the first voxel is centred ``(z, y, x)``; the volume's centre is the origin in every format."""
        z, y, x = (-(n - 1) / 2 * self.voxel_nm for n in self.values.shape)
        return z, y, x

    @property
    def told(self) -> str:
        """The provenance as text, a subject a line."""
        return "\n".join(f"{subject}: {' '.join(text.split())}" for subject, text in self.provenance.items())

    @property
    def data(self) -> NDArray[Any]:
        """The values as they are written."""
        if self.values.dtype == bool:
            return np.asarray(self.values.astype(np.uint8) * np.uint8(255))
        return np.ascontiguousarray(self.values, dtype=np.float32)


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


@contextlib.contextmanager
def explain(path: Path) -> Iterator[None]:
    """Whatever a library raises on a bad file becomes a one-line InputError."""
    try:
        yield
    except ReconError:
        raise
    except MemoryError as exc:
        raise ResourceError(f"{path} does not fit into memory, or is damaged; bin the maps first") from exc
    except Exception as exc:  # a damaged file makes a library raise nearly any type
        what = f"cannot be read, it is damaged, cut short or of another type ({reason(exc)}); copy or export it again"
        raise unreadable(path, exc, what) from exc


def parse(path: Path, reader: Callable[[Path], Read]) -> Read:
    """Run a reader of volumes; a bad file becomes a one-line InputError."""
    with explain(path):
        values, size = reader(path)
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
    written = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), unit)  # as ImageJ writes them
    name = written.strip().casefold().replace("\u03bc", "u")  # casefold makes both micro signs a mu
    return _NM.get(name) or _NM.get(name.removesuffix("s"), 0.0)


def tidy(size: float) -> float:
    """Without the digits that a single-precision number or a ratio of integers does not hold."""
    return float(f"{size:.7g}")


def choose(
    names: Sequence[str], element: str | None, path: str | Path, what: str = "stacks", shapes: Sequence[str] = ()
) -> int:
    """Which of several data sets of a file an element's maps are, by its name.

    The name must be the element's, or its symbol with something after it (``Co_Ka``, ``Co map``); of one data set
    only, that it does not bear the name of another element.

    Raises:
        InputError: none or several serve; the message has the names.
    """
    told = ", ".join(map(" ".join, zip(names, shapes, strict=True)) if shapes else names) or "none"
    if element is not None:
        exact = [i for i, n in enumerate(names) if n.strip().casefold() == element.casefold()]
        near = exact or [i for i, n in enumerate(names) if symbol(n) and symbol(n) == symbol(element)]
        if len(near) == 1:
            return near[0]
        if len(names) == 1 and (not symbol(names[0]) or not symbol(element)):
            return 0
        if len(near) > 1:
            raise InputError(f"{path} holds {len(near)} {what} named {element} ({told}); export one to a file")
        raise InputError(
            f"{path} holds no {element} but the {what} {told}; call the element so, or export one to a file"
        )
    if len(names) == 1:
        return 0
    raise InputError(f"{path} holds {len(names)} {what} ({told}), exactly 1 is needed; export one to a file")


_SYMBOLS = (
    " H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U "
)


def symbol(name: str) -> str:
    """The element that a name begins with (``Co_Ka``, ``Zn map 3``), or ""."""
    first = name.strip().replace("-", " ").replace("_", " ").split(" ")[0]
    return first if first and f" {first} " in _SYMBOLS else ""
