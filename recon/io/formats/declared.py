"""What a file's header declares, before anything is read: its size against the file's and the memory, and other files.

A header of a few bytes can ask for gigabytes, and an HDF5 file can name others to take its values from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recon.backend import free_memory
from recon.errors import InputError, ReconError, ResourceError
from recon.files import quiet

DENSEST = 2000  # bytes that one byte of a file can stand for: deflate's 1032 and some, zeros aside
SMALL = 2**26  # bytes that are not worth a word


def check_declared(path: Path) -> None:
    """Look at the header of a file, or of a folder of Zarr arrays.

    Raises:
        InputError: it declares more values than the file can hold, or takes them from other files.
        ResourceError: it declares more than fits into memory.
    """
    sizes = _SIZES.get(path.suffix.lower())
    if sizes is None:
        return
    try:
        found = list(sizes(path))
    except ReconError:
        raise
    except Exception:  # a damaged header makes libraries raise nearly any type; the reader puts it into words
        return
    for what, declared, stored in found:
        if declared <= SMALL:
            continue
        if declared > DENSEST * max(stored, 1):
            raise InputError(
                f"{path} is damaged or cut short: its header declares {declared / 2**30:.1f} GiB{what}, the file holds "
                f"{stored} bytes for them; copy or export it again"
            )
        if declared > (free := free_memory()):
            raise ResourceError(
                f"{path} holds {declared / 2**30:.1f} GiB{what}, {free / 2**30:.1f} GiB of memory are free; bin the "
                "maps, or use a larger machine"
            )


Sizes = Iterator[tuple[str, int, int]]  # which array, bytes declared, bytes in the file


def _mrc(path: Path) -> Sizes:
    head = np.fromfile(path, "<i4", 256)
    if not 0 <= head[3] <= 127:
        head = head.byteswap()
    width = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2, 101: 1}.get(int(head[3]), 1)
    declared, stored = math.prod(map(int, head[:3])) * width, path.stat().st_size - 1024
    if declared > SMALL and stored < declared:
        raise InputError(
            f"{path} is cut short or not an MRC file: its header tells of {' x '.join(map(str, head[2::-1]))} values, "
            f"the file has {path.stat().st_size} bytes; copy it again"
        )
    yield "", declared, stored


def _tiff(path: Path) -> Sizes:
    import tifffile

    with quiet("tifffile"), tifffile.TiffFile(path) as tif:
        yield "", sum(int(s.nbytes) for s in tif.series), path.stat().st_size


def _npz(path: Path) -> Sizes:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read: Any = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, _, dtype = read(stream)
            yield f" as {info.filename}", max(math.prod(shape) * dtype.itemsize, info.file_size), info.compress_size


def _hdf5(path: Path) -> Sizes:
    import h5py

    def walk(group: Any) -> Sizes:
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                raise InputError(f"{path} takes {where} from another file ({link.filename}); export all to one file")
            if not isinstance(link, h5py.HardLink):
                continue  # leads to something that is met by its own name
            item = group[name]
            if isinstance(item, h5py.Group):
                if item.id not in seen:
                    seen.add(item.id)
                    yield from walk(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    files = [e[0] for e in item.external or []] or [v.file_name for v in item.virtual_sources()]
                    if any(f != "." for f in files):
                        raise InputError(
                            f"{path} takes the values of {where} from another file ({files[0]}); export all to one file"
                        )
                if item.dtype.kind != "O" and item.size:
                    yield f" as {where}", int(item.nbytes), int(item.id.get_storage_size())

    seen: set[Any] = set()
    with h5py.File(path, "r") as file:
        yield from walk(file)


def _zarr(path: Path) -> Sizes:
    for meta in [*path.rglob("zarr.json"), *path.rglob(".zarray")]:
        about = json.loads(meta.read_text(encoding="utf-8"))
        shape = about.get("shape")
        if shape:
            kept = sum(p.stat().st_size for p in meta.parent.rglob("*") if p.is_file())
            yield f" as {meta.parent.name}", math.prod(map(int, shape)), kept


_SIZES: dict[str, Callable[[Path], Sizes]] = {
    **dict.fromkeys((".mrc", ".mrcs", ".ali", ".st", ".rec", ".map"), _mrc),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    **dict.fromkeys((".hspy", ".hdf5", ".h5", ".emd"), _hdf5),
    **dict.fromkeys((".zarr", ".zspy"), _zarr),
    ".npz": _npz,
}
