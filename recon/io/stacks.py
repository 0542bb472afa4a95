"""Read a stack of maps from a file.

One reader per format, in `recon.io.formats`; each returns the array as stored and the pixel size the file gives, if
any. The libraries are imported by the function that needs them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import InputError
from recon.io.formats import emd, hspy, microscope, mrc, numpy_files, ome_zarr, tiff, vti
from recon.io.formats.common import Stack, check_file, parse
from recon.io.formats.declared import check_declared

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def read_stack(path: str | os.PathLike[str], *, image: bool = False) -> Stack:
    """Read a stack of maps; with `image`, a single map ``(y, x)`` is a stack of one.

    Types: TIFF (plain multi-page, ImageJ, OME), MRC (also .mrcs, .ali, .st, .rec), NPY, NPZ with exactly one
    three-dimensional array, HyperSpy's .hspy and .zspy, NCEM's .emd, OME-Zarr, .dm3/.dm4, .ser and our
    .vti. Rows and columns keep the order they have in the file. Python objects are never unpickled.

    Returns:
        The stack ``(tilt, y, x)``, dtype as stored, and the edge of a pixel in nm, or None where the
        file does not say or its pixels are not square. An MRC pixel of 0 or exactly 1 Angstrom means
        "not set"; so does a plain TIFF's resolution of 1 um or coarser, which is a printer's.

    Raises:
        InputError: there is no such file, it may not be read, its type is unknown, or it is empty,
            damaged, cut short or not three-dimensional.
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
        raise InputError(f"{path} has {what}, which is unknown; stacks are {', '.join(STACK_TYPES)}")
    return parse(path, (lambda p: _lifted(*reader(p))) if image else reader)


def _lifted(values: NDArray[Any], size: float | None) -> Stack:
    return (values[None] if values.ndim == 2 else values), size


_READERS: dict[str, Callable[[Path], Stack]] = {
    **dict.fromkeys((".tif", ".tiff"), tiff.read_stack),
    **dict.fromkeys((".mrc", ".mrcs", ".ali", ".st", ".rec"), mrc.read_stack),
    ".npy": numpy_files.read_npy,
    ".npz": numpy_files.read_npz,
    ".hspy": hspy.read_hspy,
    ".emd": emd.read_emd,
    ".zarr": ome_zarr.read_ome_zarr,
    ".vti": vti.read_vti,
    **dict.fromkeys((".dm3", ".dm4", ".ser", ".zspy"), microscope.read_stack),
}
STACK_TYPES = tuple(_READERS)
