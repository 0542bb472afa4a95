"""The image that was recorded with a spectrum image, such as HAADF, in the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.read import READERS, check_bcf, check_hdf5, is_velox, signals_of
from recon.errors import InputError
from recon.io.formats.common import check_file

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_image(path: Path, name: str) -> NDArray[np.float64]:
    """The image ``(y, x)`` of a name in a microscope's file; of several frames their mean.

    Raises:
        InputError: the file holds no image of that name, or several; the message has the names.
    """
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} has type {path.suffix!r}, which is unknown")
    if not path.is_dir():
        check_file(path, "a spectrum image")
    options: dict[str, Any] = {}
    if path.suffix.lower() == ".bcf":
        check_bcf(path)
        options = {"select_type": "image"}
    if path.suffix.lower() in (".hspy", ".hdf5", ".emd"):
        check_hdf5(path)
    if path.suffix.lower() == ".emd" and is_velox(path):
        options = {"select_type": "images"}
    found = [(_title(s), np.asarray(s["data"])) for s in signals_of(path, options) if _is_image(s)]
    same = [data for title, data in found if title.casefold() == name.casefold()]
    if not same:
        held = ", ".join(dict.fromkeys(t for t, _ in found)) or "none"
        raise InputError(f"{path} holds no image called {name}; its images are {held} ([align] reference)")
    if len(same) > 1 and any(a.shape != same[0].shape or (a != same[0]).any() for a in same):
        raise InputError(f"{path} holds {len(same)} images called {name}; export the one to use ([align] reference)")
    data = same[0].astype(np.float64)
    return np.asarray(data if data.ndim == 2 else data.mean(axis=0))


def _title(signal: dict[str, Any]) -> str:
    return str(((signal.get("metadata") or {}).get("General") or {}).get("title") or "").strip()


def _is_image(signal: dict[str, Any]) -> bool:
    units = [str(a.get("units") or "").strip().casefold() for a in signal["axes"]]
    return np.ndim(signal["data"]) in (2, 3) and not {"ev", "kev", "mev"} & set(units)
