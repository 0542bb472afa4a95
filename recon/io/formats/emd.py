"""NCEM's EMD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError
from recon.io.formats.axes import Axis, StackFile, arranged
from recon.io.formats.common import Cube, Read, choose, symbol


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
        for subject, text in cube.provenance.items():
            file["comments"].attrs[subject] = text


def read_emd(path: Path) -> Read:
    """The only volume ``(z, y, x)`` of an NCEM EMD, in order by the names of its axes; the voxel in nm."""
    found = read_stack(path)
    return np.ascontiguousarray(found.values), found.pixel_nm(path)


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """The data of an NCEM EMD that bear the element's name, or the only ones; tilts from an axis in degrees."""
    import h5py

    with h5py.File(path) as file:
        groups: list[Any] = []
        file.visititems(lambda _, g: groups.append(g)
                        if isinstance(g, h5py.Group) and "emd_group_type" in g.attrs else None)  # fmt: skip
        stacks = [g for g in groups if _data(g) is not None]
        if not stacks:
            raise InputError(
                f"{path} holds no three-dimensional EMD data; for Velox's spectrum images use [input] spectra"
            )
        group = stacks[choose([_name(g) for g in stacks], element, path, "groups")]
        data = _data(group)
        first = 0 if "dim0" in group else 1
        axes = [_dimension(group.get(f"dim{i + first}"), n) for i, n in enumerate(data.shape)]
        return arranged(data[()], axes, path, _name(group))


def _data(group: Any) -> Any:
    """The stack of a group, whatever it is called."""
    import h5py

    found = [d for n, d in group.items() if isinstance(d, h5py.Dataset) and not n.startswith("dim")
             and d.ndim in (3, 4) and sum(s > 1 for s in d.shape) == 3]  # fmt: skip
    return found[0] if len(found) == 1 else group.get("data") if found else None


def _name(group: Any) -> str:
    """What the data are called: their own name, unless it says nothing, else the group's."""
    own = _text(_data(group).attrs.get("name", "")).strip()
    return own if symbol(own) else str(group.name).rpartition("/")[2]


def _dimension(dim: Any, size: int) -> Axis:
    if dim is None:
        return Axis()
    positions = np.asarray(dim[()], dtype=np.float64).ravel()
    if positions.size == 2 and size > 2:  # the format allows begin and next
        positions = positions[0] + (positions[1] - positions[0]) * np.arange(size)
    name, unit = (_text(dim.attrs.get(k, "")) for k in ("name", "units"))
    step = float(positions[1] - positions[0]) if positions.size > 1 else 0.0
    return Axis(name, unit.strip("[]").replace("_", ""), step, positions if positions.size == size else None)


def _text(value: Any) -> str:
    value = value[0] if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode() if isinstance(value, bytes) else str(value)
