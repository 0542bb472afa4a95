"""NumPy's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon.errors import InputError
from recon.io.formats.common import Stack


def read_npy(path: Path) -> Stack:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # mapping compares the header with the file's size
    return np.array(mapped), None


def read_npz(path: Path) -> Stack:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stacks = [name for name, a in arrays.items() if a.ndim == 3]
    if len(stacks) != 1:
        names = ", ".join(f"{name} {a.shape}" for name, a in arrays.items()) or "nothing"
        raise InputError(
            f"{path} holds {len(stacks)} three-dimensional arrays, exactly 1 is needed; it holds {names}; "
            "save each stack to a file of its own"
        )
    return arrays[stacks[0]], None
