"""Plain HDF5, by the names of its data sets; HyperSpy's and NCEM's by their own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.io.formats import emd, microscope
from recon.io.formats.axes import StackFile
from recon.io.formats.common import choose


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """The three-dimensional data set of the element's name, or the only one."""
    import h5py

    with h5py.File(path) as file:
        if "Experiments" in file:
            return microscope.read_stack(path, element)
        found: dict[str, Any] = {}
        kinds: list[bool] = []

        def see(name: str, item: Any) -> None:
            kinds.append("emd_group_type" in item.attrs)
            if isinstance(item, h5py.Dataset) and item.ndim == 3 and item.dtype.kind in "biuf":
                found[name] = item

        file.visititems(see)
        if any(kinds):
            return emd.read_stack(path, element)
        if not found:
            raise InputError(f"{path} holds 0 three-dimensional data sets, exactly 1 is needed")
        leaves = [_telling(name) for name in found]
        at = choose(leaves, element, path, "data sets")
        return StackFile(list(found.values())[at][()], name=leaves[at])


def _telling(name: str) -> str:
    """The part of a path that tells data sets apart: ``maps/Co/data`` is Co, ``maps/Co`` too."""
    *parents, last = name.split("/")
    return parents[-1] if parents and last.casefold() in ("data", "counts", "values", "map", "maps") else last
