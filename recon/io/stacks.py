"""Read a stack of maps from a file.

One reader per format, in `recon.io.formats`; each returns the array with the pixel sizes and tilts the file gives. The
libraries are imported by the function that needs them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import InputError
from recon.io.formats import emd, hdf5, microscope, mrc, numpy_files, ome_zarr, text, tiff, vti
from recon.io.formats.axes import StackFile
from recon.io.formats.common import check_file, explain
from recon.io.formats.declared import check_declared

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def read_stack(path: str | os.PathLike[str], *, image: bool = False) -> tuple[NDArray[Any], float | None]:
    """The values ``(tilt, y, x)`` of `load_stack`, and the edge of a pixel in nm or None."""
    found = load_stack(path, image=image)
    return found.values, found.pixel_nm(Path(path))


def load_stack(path: str | os.PathLike[str], element: str | None = None, *, image: bool = False) -> StackFile:
    """Read a stack of maps; with `image`, a single map ``(y, x)`` is a stack of one.

    Types: TIFF (plain multi-page, ImageJ, OME), MRC (also .mrcs, .ali, .st, .rec), NPY, NPZ, HDF5, HyperSpy's .hspy
    and .zspy, NCEM's .emd, OME-Zarr, .dm3/.dm4, .ser, our .vti; and single maps as .csv, .txt and .png. Axes that a
    file names are put into the order (tilt, y, x); else rows and columns keep the order they have in the file. Python
    objects are never unpickled.

    Args:
        path: the file.
        element: whose maps are meant, where a file holds several stacks by name.

    Returns:
        The stack, its pixels' edges, and the tilts that it carries. An MRC pixel of 0 or exactly 1 Angstrom means
        "not set"; so does a plain TIFF's resolution of 1 um or coarser, which is a printer's.

    Raises:
        InputError: there is no such file, it may not be read, its type is unknown, it is empty, damaged, cut short or
            not three-dimensional, or holds several stacks of which none bears the element's name.
        ResourceError: it does not fit into memory.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if not (path.suffix.lower() in (".zarr", ".zspy") and path.is_dir()):
        check_file(path)
    else:
        check_declared(path)
    if reader is None:
        what = f"type {path.suffix!r}" if path.suffix else "a name without a type"
        known = f"stacks are {', '.join(STACK_TYPES)}; spectrum images go into [input] spectra"
        raise InputError(f"{path} has {what}, which is unknown; {known}")
    with explain(path):
        found = reader(path, element)
    values = found.values
    if image and values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.size == 0:
        more = ", so save each element, and nothing else, to a file of its own" if values.ndim > 3 else ""
        raise InputError(f"{path} holds an array of shape {values.shape}; a stack of maps is (tilt, y, x){more}")
    return found if values is found.values else replace(found, values=values)


_READERS: dict[str, Callable[[Path, str | None], StackFile]] = {
    **dict.fromkeys((".tif", ".tiff"), tiff.read_stack),
    **dict.fromkeys((".mrc", ".mrcs", ".ali", ".st", ".rec", ".map"), mrc.read_stack),
    ".npy": numpy_files.read_npy,
    ".npz": numpy_files.read_npz,
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), hdf5.read_stack),
    ".emd": emd.read_stack,
    ".zarr": ome_zarr.read_stack,
    ".vti": vti.read_stack,
    **dict.fromkeys((".hspy", ".dm3", ".dm4", ".ser", ".emi", ".zspy"), microscope.read_stack),
    **dict.fromkeys((".csv", ".txt"), text.read_text_map),
    ".png": text.read_png,
}
STACK_TYPES = tuple(_READERS)
