"""The manifest of a submission: one row for each dataset, element and set of parameters, and for what comes around."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.cluster.units import STAGES, Unit
from recon.errors import InputError
from recon.files import explain_reading

NAME = "manifest.csv"
COLUMNS = ("row", "dataset", "stage", "element", "parameters", "job", "out", "aligned", "minutes", "memory_mb")


@dataclass(frozen=True)
class Row:
    """One task of an array.

    Attributes:
        row: its number, which the scheduler counts up.
        dataset: short name of job and parameters.
        unit: what it runs.
        minutes, memory_mb: forecast.
    """

    row: int
    dataset: str
    unit: Unit
    minutes: int
    memory_mb: int


def write_manifest(rows: Sequence[Row], path: Path) -> None:
    """As CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for r in rows:
            u = r.unit
            changes = json.dumps(dict(u.changes)) if u.changes else ""
            paths = ["" if p is None else str(p) for p in (u.out, u.aligned)]
            writer.writerow([r.row, r.dataset, u.stage, u.element, changes, u.job, *paths, r.minutes, r.memory_mb])


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest.

    Raises:
        InputError: it is not one.
    """
    with explain_reading(path, f"name the {NAME} that `recon submit` wrote, or its folder"):
        if path.is_dir():
            path = path / NAME
        with path.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
    try:
        return [_row(line) for line in lines]
    except (KeyError, ValueError, TypeError) as exc:
        raise InputError(f"{path} is not a manifest of `recon submit` ({exc!r}); write it anew") from exc


def _row(line: Mapping[str, str]) -> Row:
    changes: dict[str, Any] = json.loads(line["parameters"]) if line["parameters"] else {}
    if line["stage"] not in STAGES:
        raise ValueError(line["stage"])
    out, aligned = (Path(line[n]) if line[n] else None for n in ("out", "aligned"))
    unit = Unit(line["job"], line["stage"], line["element"], out, changes, aligned)
    return Row(int(line["row"]), line["dataset"], unit, int(line["minutes"]), int(line["memory_mb"]))


__all__ = ["NAME", "Row", "read_manifest", "write_manifest"]
