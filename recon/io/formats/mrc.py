"""MRC2014."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import StackFile, edges
from recon.io.formats.common import Cube, tidy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_mrc(path: Path, cube: Cube) -> None:
    """MRC2014 mode 2, Angstrom; the provenance in the labels, as far as ten of 80 letters hold it."""
    import mrcfile

    with mrcfile.new(path) as mrc:
        mrc.set_data(np.asarray(cube.values, dtype=np.float32))
        if cube.tilts_deg is None:
            mrc.set_volume()
        else:
            mrc.set_image_stack()
        mrc.voxel_size = cube.voxel_nm * 10
        if cube.tilts_deg is None:
            for axis, start in zip("zyx", cube.start_nm, strict=True):
                mrc.header.origin[axis] = start * 10
        for line in textwrap.wrap(cube.told.replace("\n", "; ").encode("ascii", "replace").decode(), 79)[:9]:
            mrc.add_label(line)


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """The stack in the order that MAPC, MAPR and MAPS say; tilts from an extended header."""
    import mrcfile

    values, (_, dy, dx), notes = _read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as mrc:
            tilts = header_tilts(mrc) if values.ndim in (2, 3) else None
    if (dy, dx) == (0.1, 0.1):  # 1 Angstrom is what is written when nobody knows
        return StackFile(values, None, tilts, notes)
    return StackFile(values, edges(dy, dx), tilts, notes)


def read_mrc(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """An MRC file's values ``(z, y, x)`` and its voxel ``(z, y, x)`` in nm, 0 where not set."""
    values, voxel, _ = _read(path)
    return values, voxel


def _read(path: Path) -> tuple[NDArray[Any], tuple[float, float, float], tuple[str, ...]]:
    import mrcfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as mrc:
            header, values, voxel = mrc.header, mrc.data, mrc.voxel_size
            nm = tuple(tidy(float(voxel[axis]) / 10) for axis in "zyx")
    if values is None:
        need = 1024 + int(header.nsymbt)
        raise InputError(
            f"{path} is cut short or not an MRC file: its header tells of {header.nz} x {header.ny} x {header.nx} "
            f"values after {need} bytes, the file has {path.stat().st_size} bytes; copy it again"
        )
    stamp, flags = np.frombuffer(header["extra2"].tobytes(), dtype=header.dtype["nx"])[10:12]
    notes: tuple[str, ...] = ()
    if values.dtype == np.int8:
        if stamp == IMOD and not flags & 1:
            values, notes = values.view(np.uint8), ("bytes without a sign, as IMOD's header says",)
        else:
            notes = ("bytes with a sign (mode 0); if values come out below 0, save it as mode 6 (newstack -mode 6)",)
    values, turned = _turned(path, values, [int(header[k]) for k in ("maps", "mapr", "mapc")])
    return values, (nm[0], nm[1], nm[2]), (*notes, *turned)


IMOD = 1146047817  # its stamp in the header


def _turned(path: Path, values: NDArray[Any], order: list[int]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Sections, rows and columns as z, y and x (axes 3, 2 and 1 of the header)."""
    if order in ([3, 2, 1], [0, 0, 0]) or values.ndim != 3:
        return values, ()
    if sorted(order) != [1, 2, 3]:
        raise InputError(
            f"{path} says that columns, rows and sections are the axes {order[::-1]} (MAPC, MAPR, MAPS), which must be "
            "1, 2 and 3 in some order; correct its header"
        )
    note = f"sections, rows and columns are {', '.join('xyz'[n - 1] for n in order)} and put in the order z, y, x"
    return values.transpose([order.index(n) for n in (3, 2, 1)]), (note,)


def header_tilts(mrc: Any) -> NDArray[np.float64] | None:
    """Tilts in degrees from an extended header: FEI's (``FEI1``, ``FEI2``), SerialEM's (``SERI``), Agard's (``AGAR``).

    Agard's and SerialEM's are often not named; then their sizes tell (as in IMOD): two numbers in the header give
    bytes, or integers and reals, of each section.
    """
    n, kind = max(int(mrc.header.nz), 1), bytes(mrc.header.exttyp).strip(b"\0 ")
    if kind in (b"FEI1", b"FEI2"):
        table = mrc.indexed_extended_header
        tilts = np.array(table["Alpha tilt"][:n], dtype=np.float64) if table is not None and len(table) >= n else None
        return _checked(tilts, n)
    if kind not in (b"SERI", b"AGAR", b"MRCO", b""):
        return None
    order = mrc.header.dtype["nx"].str[0]
    raw = mrc.extended_header.tobytes()
    size, flags = (int(v) for v in np.frombuffer(mrc.header["extra2"].tobytes(), dtype=f"{order}i2")[8:10])
    parts = sum(b for bit, b in ((1, 2), (2, 6), (4, 4), (8, 2), (16, 2), (32, 4)) if flags & bit)
    if size > 0 and parts == size and flags & 1:
        if len(raw) < size * n:
            return None
        words = np.frombuffer(raw[: size * n], dtype=f"{order}i2").reshape(n, -1)
        return _checked(words[:, 0] / 100.0, n)
    step = 4 * (size + flags)
    if size < 0 or flags < 1 or step < 8 or len(raw) < step * n:
        return None
    words = np.frombuffer(raw[: step * n], dtype=f"{order}f4").reshape(n, -1)
    return _checked(words[:, size].astype(np.float64), n)


def _checked(tilts: NDArray[np.float64] | None, n: int) -> NDArray[np.float64] | None:
    """Tilts that a microscope can have recorded; FEI stores radians in some versions, never believed here."""
    if tilts is None or tilts.size != n or not np.isfinite(tilts).all():
        return None
    varied = n == 1 or (np.unique(tilts).size == n and np.ptp(tilts) > 2 * np.pi)
    believable = np.abs(tilts).max() <= 180 and varied
    return np.round(tilts, 4) if believable else None
