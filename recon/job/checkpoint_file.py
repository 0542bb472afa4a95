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
                np.lib.format.write_array(stream, np.ascontiguousarray(to_host(array)), allow_pickle=False)


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
