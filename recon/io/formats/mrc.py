"""MRC2014."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.common import Stack, square_edge, tidy

if TYPE_CHECKING:
    from numpy.typing import NDArray


from typing import TYPE_CHECKING

from recon.io.formats.common import Cube

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_mrc(path: Path, cube: Cube) -> None:
    """MRC2014 mode 2, Angstrom."""
    import mrcfile

    with mrcfile.new(path) as mrc:
        mrc.set_data(np.asarray(cube.values, dtype=np.float32))
        if cube.tilts_deg is None:
            mrc.set_volume()
        else:
            mrc.set_image_stack()
        mrc.voxel_size = cube.voxel_nm * 10


def read_stack(path: Path) -> Stack:
    values, (_, dy, dx) = read_mrc(path)
    return values, None if dx == 0.1 else square_edge(dy, dx)  # 1 Angstrom is what is written when nobody knows


def read_mrc(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """An MRC file's values as stored ``(z, y, x)`` and its voxel ``(z, y, x)`` in nm, 0 where not set."""
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
    if values.dtype == np.int8 and stamp == 1146047817 and not flags & 1:
        values = values.view(np.uint8)  # IMOD wrote it, and says that its bytes are unsigned
    return values, (nm[0], nm[1], nm[2])
