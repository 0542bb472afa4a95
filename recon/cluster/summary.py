"""The table of many jobs: one row for each element of each, on a page and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recon.io.folder import whole_file


@dataclass(frozen=True)
class Row:
    """One element of one job with one set of parameters.

    Attributes:
        job: the job file.
        element: its name; empty where the job could not be read.
        parameters: keys of the job file with other values.
        state: of the job: ``done``, ``failed``, ``stopped``, ``waiting``, ``running``.
        status: why the solver stopped.
        iterations, objective, gap: where it stopped.
        strength: a1 of the regulariser.
        voxel_size_nm: nm.
        seconds: of the whole job.
        device: that it ran on.
        out: folder of results.
        message: what went wrong.
    """

    job: str
    element: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    status: str = ""
    iterations: int | None = None
    objective: float | None = None
    gap: float | None = None
    strength: float | None = None
    voxel_size_nm: float | None = None
    seconds: float | None = None
    device: str = ""
    out: str = ""
    message: str = ""


def rows_of(
    job: str,
    out: Path | None,
    elements: Sequence[str],
    *,
    state: str,
    changes: Mapping[str, Any] | None = None,
    message: str = "",
) -> list[Row]:
    """The rows of one job, with what its folder of results says if it is done."""
    common = Row(job, parameters=dict(changes or {}), state=state, out="" if out is None else str(out), message=message)
    found = record(out) if out is not None and state in ("done", "stopped") else None
    rows = []
    for name in elements or ("",):
        values: dict[str, Any] = {"element": name}
        if found is not None:
            made = found.get("elements", {}).get(name, {})
            last = (made.get("history") or [{}])[-1]
            values |= {
                "status": made.get("status", "not begun"),
                "iterations": made.get("iterations"),
                "objective": last.get("objective"),
                "gap": last.get("gap"),
                "strength": (made.get("parameters") or {}).get("a1"),  # SIRT and FBP have none
                "voxel_size_nm": found.get("voxel_size_nm"),
                "seconds": round(sum(v for v in found.get("timings_s", {}).values() if v), 1),
                "device": found.get("device", ""),
            }
        rows.append(Row(**{**{f.name: getattr(common, f.name) for f in fields(Row)}, **values}))
    return rows


def record(out: Path) -> dict[str, Any] | None:
    """``job.json`` of a folder of results, if there is one."""
    try:
        found = json.loads((out / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def columns(rows: Sequence[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names and values of all columns; every parameter that was changed has its own."""
    changed = list(dict.fromkeys(key for row in rows for key in row.parameters))
    names = [f.name for f in fields(Row)]
    at = names.index("parameters")
    names[at : at + 1] = changed
    cells = []
    for row in rows:
        values = {f.name: getattr(row, f.name) for f in fields(Row) if f.name != "parameters"}
        cells.append({n: row.parameters.get(n) if n in changed else values[n] for n in names})
    return names, cells


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The table as CSV, whole or not at all.

    Raises:
        OutputError, ResourceError: it cannot be written.
    """
    from recon.io.folder import explain

    names, cells = columns(rows)
    with explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({n: "" if v is None else v for n, v in row.items()} for row in cells)


def table(rows: Sequence[Row]) -> list[str]:
    """The table as lines of text, without the columns that are empty or long."""
    names, cells = columns(rows)
    left_out = ("out", "message", "voxel_size_nm", "objective")
    shown = [n for n in names if n not in left_out and any(c[n] not in (None, "") for c in cells)]

    def text(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [shown, *([text(c[n]) for n in shown] for c in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]


__all__ = ["Row", "columns", "record", "rows_of", "table", "write_csv"]
