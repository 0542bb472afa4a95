"""NumPy's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import StackFile
from recon.io.formats.common import choose

_TILTS = ("tilts", "tilts_deg", "angles")


def read_npy(path: Path, element: str | None = None) -> StackFile:
    """One array; a ``.npy`` has no names."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # mapping compares the header with the file's size
    return StackFile(np.array(mapped))


def read_npz(path: Path, element: str | None = None) -> StackFile:
    """The three-dimensional array of the element's name, or the only one; tilts where an array is called so."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stacks = [name for name, a in arrays.items() if a.ndim == 3] or [n for n, a in arrays.items() if a.ndim == 2]
    if not stacks:
        names = ", ".join(f"{name} {a.shape}" for name, a in arrays.items()) or "nothing"
        raise InputError(f"{path} holds 0 three-dimensional arrays, exactly 1 is needed; it holds {names}")
    name = stacks[choose(stacks, element, path, "arrays", [str(arrays[n].shape) for n in stacks])]
    values = arrays[name]
    angles = next((arrays[n] for n in _TILTS if n in arrays and arrays[n].shape == values.shape[:1]), None)
    return StackFile(values, None, None if angles is None else angles.astype(np.float64), (), name)
