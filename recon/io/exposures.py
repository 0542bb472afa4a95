"""Exposures or live times that the user knows: from a file, a list, or a table by element."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.files import read_text
from recon.io.alignment import load_exposures

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPOSURE_TYPES = (".json", ".csv", ".txt", ".dat")
Exposures = Sequence[float] | Mapping[str, Sequence[float]]
_TILT = ("tilt", "tilts", "tilt_deg", "tilts_deg", "angle")


def read_exposures(path: str | Path, tilts_deg: NDArray[np.float64]) -> Exposures:
    """Exposures of a file, as `recon.normalise` takes them.

    Args:
        path: an ``alignment.json``; or a table, one line for each tilt, columns separated by commas, semicolons, tabs
            or blanks. One column serves all elements; several need a first line with their names. A column ``tilt``
            (degrees) says which line is which; otherwise lines are in the order of the maps.
        tilts_deg: of the series.

    Raises:
        InputError: it cannot be read, or lines and tilts do not agree.
    """
    path = Path(path)
    if path.suffix.lower() not in EXPOSURE_TYPES:
        raise InputError(
            f"{path} has type {path.suffix!r}, which is unknown; exposures are {', '.join(EXPOSURE_TYPES)}"
        )
    if path.suffix.lower() == ".json":
        found, _ = load_exposures(path)
        if not found:
            raise InputError(f"{path} holds no exposures; give an alignment.json of a finished run, or a .csv")
        return found
    names, rows = _table(path)
    if names is None:
        if rows.shape[1] != 1:
            raise InputError(
                f"{path} has {rows.shape[1]} columns without names; name them in its first line, as in tilt,Co,Zn"
            )
        return [float(v) for v in rows[:, 0]]
    columns = dict(zip(names, rows.T, strict=True))
    given = next((columns.pop(n) for n in names if n.casefold() in _TILT), None)
    if given is not None:
        order = [int(np.argmin(np.abs(given - t))) for t in tilts_deg]
        for tilt, row in zip(tilts_deg, order, strict=True):
            if abs(given[row] - tilt) > 0.01:
                raise InputError(f"{path} has no line for tilt {tilt:g}; give one for each tilt of the series")
        columns = {n: c[order] for n, c in columns.items()}
    if len(columns) == 1 and next(iter(columns)).casefold() in ("exposure", "exposures", "live_time", "live_time_s"):
        return [float(v) for v in next(iter(columns.values()))]
    return {n: [float(v) for v in c] for n, c in columns.items()}


def _table(path: Path) -> tuple[list[str] | None, NDArray[np.float64]]:
    text = read_text(path, "name a file with one line of numbers for each tilt")
    separator = next((s for s in (";", "\t", ",") if s in text), None)
    names: list[str] | None = None
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        words = [w.strip() for w in (next(csv.reader([line], delimiter=separator)) if separator else line.split())]
        try:
            rows.append([float(w) for w in words])
        except ValueError as exc:
            if names is not None or rows or len(set(words)) < len(words):
                raise InputError(
                    f"{path}:{number}: {line[:40]!r} is not numbers; name the elements once, in the first line"
                ) from exc
            names = words
            continue
        if len(rows[-1]) != len(names or rows[0]):
            raise InputError(
                f"{path}:{number}: {len(words)} columns, but {len(names or rows[0])} before; fill every column"
            )
    if not rows:
        raise InputError(f"{path} holds no exposures; give one line of numbers for each tilt")
    return names, np.array(rows)
