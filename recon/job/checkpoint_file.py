"""One checkpoint as a file: a header of JSON values, and arrays."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recon._version import __version__
from recon.backend import Array, to_host
from recon.errors import InputError, ReconError
from recon.files import refuse_pipes
from recon.io.folder import whole_file

FORMAT = 1
HEADER = "header.json"
AT_ONCE = 1 << 24  # bytes read, or written


class StoredArrays(Mapping[str, Array]):
    """The arrays of a checkpoint, each read when it is asked for."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        with _reading(self._path) as archive, archive.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read(1)  # the checksum is compared at the end
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_checkpoint(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a header (JSON values) and arrays to one file, whole or not at all.

    Raises:
        OutputError, ResourceError: the file cannot be written, the disk is full.
    """
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        archive.writestr(HEADER, json.dumps({"program": "recon", "format": FORMAT, "version": __version__, **header}))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                kind = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(stream, kind | {"shape": array.shape})
                for part in _in_order(array):
                    stream.write(np.ascontiguousarray(to_host(part)).data)


def _in_order(array: Array) -> Iterator[Array]:
    """An array in pieces of a few MB, one after the other in C order: a slab of a volume is no piece of memory."""
    if array.ndim < 2 or array.nbytes <= AT_ONCE:
        yield array
    else:
        for part in array:
            yield from _in_order(part)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], StoredArrays]:
    """Header and arrays of a file of `write_checkpoint`.

    Raises:
        InputError: cut short, damaged, or written by another version.
    """
    with _reading(path) as archive:
        header = json.loads(archive.read(HEADER))
        names = [n.removesuffix(".npy") for n in archive.namelist() if n != HEADER]
    if header.get("version") != __version__ or header.get("format") != FORMAT:
        raise InputError(
            f"{path} was written by recon {header.get('version')} (format {header.get('format')}), this is "
            f"{__version__} (format {FORMAT}); finish with that version, or start anew with --overwrite"
        )
    return header, StoredArrays(path, names)


def kind_of(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array of a checkpoint, without reading it."""
    with _reading(path) as archive, archive.open(f"{name}.npy") as stream:
        return _kind(stream)


def cut_of(path: Path, name: str, begin: int, end: int) -> Array:
    """``[..., begin:end]`` of an array of a checkpoint; no more of it is in memory at a time than a few MB."""
    with _reading(path) as archive, archive.open(f"{name}.npy") as stream:
        shape, dtype = _kind(stream)
        out = np.empty((int(np.prod(shape[:-1])), end - begin), dtype)
        row = shape[-1] * dtype.itemsize
        step = max(1, AT_ONCE // max(row, 1))
        for k in range(0, len(out), step):
            part = out[k : k + step]
            read = np.frombuffer(stream.read(len(part) * row), dtype)
            part[...] = read.reshape(len(part), shape[-1])[:, begin:end]
        stream.read(1)  # the checksum is compared at the end
    return out.reshape(*shape[:-1], end - begin)


def _kind(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type, from the head of an array that `write_checkpoint` wrote."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_columns, dtype = read[np.lib.format.read_magic(stream)](stream)
    if by_columns or not shape:
        raise ValueError("no array of a solver")
    return tuple(shape), dtype


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        refuse_pipes(path, "delete it, or start anew with --overwrite")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ReconError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror})") from exc
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError) as exc:
        raise InputError(f"{path} is cut short or damaged; delete it, or start anew with --overwrite") from exc
