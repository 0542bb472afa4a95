"""Arrays of a checkpoint that are read where they are needed, and those that several ranks wrote, each its own part.

Of a solver that ranks share, each rank writes a file of its own slices, ``ELEMENT.state.GENERATION-RANK.part``. The
checkpoint itself, written last, names the generation: what it does not name does not count. Any number of ranks goes
on from them, each reading its slices.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recon.backend import Array
from recon.errors import InputError
from recon.io.folder import discard
from recon.job.checkpoint_file import cut_of, kind_of, read_checkpoint, write_checkpoint
from recon.parallel import Range
from recon.reconstruction.keeper import Parts

SUFFIX = ".part"


@dataclass(frozen=True)
class SavedArray:
    """An array in one file or, by slices of its last axis, in several; what is asked for is read.

    Attributes:
        name: in the files.
        files: with their slices, first and end.
        shape, dtype: of the whole.
    """

    name: str
    files: tuple[tuple[Path, Range], ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.slices(0, self.shape[-1])

    def __getitem__(self, index: Any) -> Array:
        """As of an array; ``[..., begin:end]`` reads these slices only."""
        if isinstance(index, tuple) and len(index) == 2 and index[0] is ... and isinstance(index[1], slice):
            begin, end, step = index[1].indices(self.shape[-1])
            return self.slices(begin, end)[..., ::step]
        found: Array = np.asarray(self)[index]
        return found

    def slices(self, begin: int, end: int) -> Array:
        out = np.empty((*self.shape[:-1], end - begin), self.dtype)
        for path, (first, stop) in self.files:
            low, high = max(begin, first), min(end, stop)
            if low < high:
                out[..., low - begin : high - begin] = cut_of(path, self.name, low - first, high - first)
        return out


class SavedArrays(Mapping[str, Array]):
    """The arrays of a checkpoint, read when they are used, see `SavedArray`.

    Args:
        path: of the checkpoint.
        header: its.

    Raises:
        InputError: a part is missing, damaged, or of another version.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        parts = header.get("parts")
        self._arrays: dict[str, Any] = {}  # of `SavedArray`
        if parts is None:
            for name in read_checkpoint(path)[1]:
                shape, dtype = kind_of(path, name)
                self._arrays[name] = SavedArray(name, ((path, (0, shape[-1])),), shape, dtype)
            return
        where = [part_path(path, parts["generation"], rank) for rank in range(parts["ranks"])]
        ranges = [read_checkpoint(file)[0]["ranges"] for file in where]
        for name, (_, _, n) in ranges[0].items():
            shape, dtype = kind_of(where[0], name)
            files = tuple((file, (r[name][0], r[name][1])) for file, r in zip(where, ranges, strict=True))
            ends = [0, *(end for _, (_, end) in files)]
            if ends[:-1] != [first for _, (first, _) in files] or ends[-1] != n:
                raise InputError(f"{path} is damaged, its parts do not fit; start anew with --overwrite")
            self._arrays[name] = SavedArray(name, files, (*shape[:-1], n), dtype)

    def __getitem__(self, name: str) -> Array:
        found: Array = self._arrays[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def part_path(path: Path, generation: str, rank: int) -> Path:
    return path.with_name(f"{path.stem}.{generation}-{rank}{SUFFIX}")


def write_parts(path: Path, arrays: Parts) -> dict[str, Any]:
    """Let every rank write its part; returns what the header of the checkpoint is to say of them."""
    generation = secrets.token_hex(4)
    arrays.on_each(partial(_write_part, path, generation))
    return {"generation": generation, "ranks": arrays.ranks.size}


def _write_part(path: Path, generation: str, arrays: Parts) -> None:
    header = {"what": "part", "ranges": arrays.ranges}
    write_checkpoint(part_path(path, generation, arrays.ranks.rank), header, arrays)


def discard_parts(path: Path, keep: Mapping[str, Any] | None = None) -> None:
    """Remove the parts of a checkpoint but for those that it names."""
    for part in path.parent.glob(f"{path.stem}.*{SUFFIX}"):
        if keep is None or not part.name.startswith(f"{path.stem}.{keep['generation']}-"):
            discard(part)


__all__ = ["SUFFIX", "SavedArray", "SavedArrays", "discard_parts", "part_path", "write_parts"]
