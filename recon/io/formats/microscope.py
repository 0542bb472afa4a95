"""HyperSpy's files and microscopes' own formats, through rosettasciio."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import StackFile, of_signal
from recon.io.formats.common import choose, quiet
from recon.io.formats.digital_micrograph import calibrated

_READERS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".ser": "tia",
    ".emi": "tia",
    ".hspy": "hspy",
    ".hdf5": "hspy",
    ".h5": "hspy",
    ".hdf": "hspy",
    ".zspy": "zspy",
}


def signals_of(path: Path) -> list[dict[str, Any]]:
    """Everything that a file holds, as rosettasciio gives it; nothing is printed."""
    reader = importlib.import_module(f"rsciio.{_READERS[path.suffix.lower()]}").file_reader
    with quiet("rsciio"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(reader(str(path)))


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """The stack that bears the element's name, or the only one; of a file of single images, the image."""
    signals = signals_of(path)
    stacks = [s for s in signals if sum(n > 1 for n in np.shape(s["data"])) == 3]
    stacks = stacks or [s for s in signals if np.ndim(s["data"]) == 2 and min(np.shape(s["data"])) > 1]
    if not stacks:
        raise InputError(f"{path} holds 0 three-dimensional arrays, exactly 1 is needed; export one")
    titles = [_title(s) or f"number {i}" for i, s in enumerate(stacks, start=1)]
    if len(stacks) == 1:
        titles = [t if _called(signals, t) else "" for t in titles]
    chosen = stacks[choose(titles, element, path, "three-dimensional arrays")]
    if path.suffix.lower() not in (".dm3", ".dm4"):
        return of_signal(chosen, path)
    values, notes = calibrated(np.asarray(chosen["data"]), chosen)
    found = of_signal({**chosen, "data": values}, path)
    return replace(found, notes=(*notes, *found.notes))


def _title(signal: dict[str, Any]) -> str:
    return str((((signal.get("metadata") or {}).get("General")) or {}).get("title") or "")


def _called(signals: list[dict[str, Any]], title: str) -> bool:
    """Whether a title was chosen for what it names: among several signals, or where recon wrote it."""
    return len(signals) > 1 and bool(title)
