"""Microscopes' own formats, through rosettasciio."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from recon.errors import InputError
from recon.io.formats.common import Stack, quiet, square_edge, tidy, unit_nm


def read_stack(path: Path) -> Stack:
    """A stack of images in a microscope's own format."""
    import importlib

    name = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".ser": "tia", ".zspy": "zspy"}
    reader = importlib.import_module(f"rsciio.{name[path.suffix.lower()]}").file_reader
    with quiet("rsciio"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = [s for s in reader(str(path)) if np.ndim(s["data"]) == 3]
    if len(signals) != 1:
        raise InputError(f"{path} holds {len(signals)} three-dimensional arrays, exactly 1 is needed; export one")
    edges = [abs(float(a.get("scale") or 0)) * unit_nm(str(a.get("units") or "")) for a in signals[0]["axes"][-2:]]
    return np.asarray(signals[0]["data"]), square_edge(tidy(edges[0]), tidy(edges[1]))
