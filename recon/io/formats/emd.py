"""NCEM's EMD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError
from recon.io.formats.common import Cube, Read


def write_emd(path: Path, cube: Cube) -> None:
    """NCEM's EMD 0.2 as tomviz reads it: volumes ``(x, y, z)``, tilt series ``(angles, y, x)``, dimensions named."""
    import h5py

    n = cube.values.shape
    centred = [(np.arange(s) - (s - 1) / 2) * cube.voxel_nm for s in n]
    if cube.tilts_deg is None:
        values = cube.data.transpose(2, 1, 0)
        dims = [("x", centred[2], "[n_m]"), ("y", centred[1], "[n_m]"), ("z", centred[0], "[n_m]")]
    else:
        values = cube.data
        dims = [("angles", np.asarray(cube.tilts_deg), "[deg]"), ("y", centred[1], "[n_m]"), ("x", centred[2], "[n_m]")]
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = np.int32(0), np.int32(2)
        group = file.create_group("data/tomography")
        group.attrs["emd_group_type"] = np.int32(1)
        group.create_dataset("data", data=np.ascontiguousarray(values)).attrs["name"] = cube.name
        for i, (name, positions, units) in enumerate(dims, start=1):
            dim = group.create_dataset(f"dim{i}", data=np.asarray(positions, dtype=np.float32))
            dim.attrs["name"], dim.attrs["units"] = name, units
        for other in ("microscope", "sample", "user", "comments"):
            file.create_group(other)
        file["comments"].attrs["recon"] = f"{cube.name}, written by recon {__version__}"


def read_emd(path: Path) -> Read:
    """The first three-dimensional group of an NCEM EMD, axes put into the order (z or tilt, y, x) by their names."""
    import h5py

    from recon.io.formats.common import unit_nm

    with h5py.File(path) as file:
        found: list[Any] = []
        file.visititems(lambda _, g: found.append(g)
                        if isinstance(g, h5py.Group) and g.attrs.get("emd_group_type") == 1 else None)  # fmt: skip
        for group in found:
            data = group.get("data")
            if data is None or data.ndim != 3:
                continue
            names, scales = [], []
            for i in range(1, 4):
                dim = group[f"dim{i}"]
                names.append(_text(dim.attrs.get("name", "")).casefold())
                unit = _text(dim.attrs.get("units", "")).strip("[]").replace("_", "")
                positions = dim[:]
                step = float(positions[1] - positions[0]) if len(positions) > 1 else 0.0
                scales.append(abs(step) * unit_nm(unit))
            values, voxel = data[()], float(f"{scales[-1]:.7g}")
            if names == ["x", "y", "z"]:
                values, voxel = values.transpose(2, 1, 0), float(f"{scales[0]:.7g}")
            return np.ascontiguousarray(values), voxel or None
    raise InputError(f"{path} holds no three-dimensional EMD data; for Velox's spectrum images use [input] spectra")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
