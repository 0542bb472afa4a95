"""HyperSpy's HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recon._version import __version__
from recon.io.formats.common import Cube, Read


def write_hspy(path: Path, cube: Cube) -> None:
    """HyperSpy's HDF5: a Signal2D whose navigation axis is z, or the tilt."""
    from rsciio.hspy import file_writer

    file_writer(str(path), signal_dict(cube), compression=None)


def signal_dict(cube: Cube) -> dict[str, Any]:
    """The dictionary that rosettasciio and ``hyperspy.signals.Signal2D(**d)`` take."""
    n = cube.values.shape[0]
    if cube.tilts_deg is None:
        first = _axis("z", n, cube.voxel_nm, "nm", centred=True)
        extra: dict[str, Any] = {}
    else:
        tilts = np.asarray(cube.tilts_deg, dtype=np.float64)
        even = n > 1 and np.allclose(np.diff(tilts), tilts[1] - tilts[0], atol=1e-3) and tilts[1] != tilts[0]
        first = (
            {**_axis("tilt", n, float(tilts[1] - tilts[0]), "degrees"), "offset": float(tilts[0])}
            if even
            else _axis("tilt", n, 1.0, "")
        )
        extra = {"tilts_deg": tilts.tolist()}
    axes = [first, *(_axis(a, s, cube.voxel_nm, "nm", centred=True)
                     for a, s in zip("yx", cube.values.shape[1:], strict=True))]  # fmt: skip
    for i, axis in enumerate(axes):
        axis["navigate"] = i == 0
    return {
        "data": cube.data,
        "axes": axes,
        "metadata": {
            "General": {"title": cube.name},
            "Signal": {"signal_type": ""},
            "_HyperSpy": {},
        },
        "original_metadata": {
            "recon": {"version": __version__, "name": cube.name, "provenance": dict(cube.provenance), **extra}
        },
        "attributes": {"_lazy": False},
        "package_info": {"package": "recon", "package_version": __version__},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


def _axis(name: str, size: int, scale: float, units: str, *, centred: bool = False) -> dict[str, Any]:
    offset = -(size - 1) / 2 * scale if centred else 0.0
    return {"_type": "UniformDataAxis", "name": name, "size": size, "scale": scale, "offset": offset, "units": units,
            "navigate": False}  # fmt: skip


def read_hspy(path: Path) -> Read:
    """The only volume ``(z, y, x)`` of a file, and its voxel in nm."""
    from recon.io.formats.microscope import read_stack

    found = read_stack(path)
    return found.values, found.pixel_nm(path)
