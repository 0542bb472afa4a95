"""How far a submission has come, and its results in one place."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recon.cluster.manifest import Row, read_manifest
from recon.cluster.submit import SUBMITTED
from recon.cluster.summary import Row as Result
from recon.cluster.summary import columns, record, rows_of, write_csv
from recon.errors import OutputError


@dataclass(frozen=True)
class Progress:
    """One task, as far as its files and the scheduler tell.

    Attributes:
        row: of the manifest.
        state: ``done``, ``failed``, ``running``, ``waiting`` or ``unknown``.
        said: the last line of its log that tells something.
    """

    row: Row
    state: str
    said: str


def status(folder: Path) -> list[Progress]:
    """Every task of a submission.

    Raises:
        InputError: the folder holds no manifest.
    """
    rows = read_manifest(folder)
    found = _queue(folder)
    asked, queue = found is not None, found or {}
    out = []
    for row in rows:
        said = _last_line(folder / "logs" / f"{row.row}.log")
        state = queue.get(row.row)
        if _done(row):
            state = "done"
        elif state is None:
            told = said.startswith("error: ")
            state = "failed" if told or asked else "unknown"
            if asked and said and not told:
                how = f"submit the script of its stage with --array={row.row} to go on"
                said = f"ended without a word, as when a node is lost; {how} ({said})"
        out.append(Progress(row, state, said))
    return out


def _done(row: Row) -> bool:
    unit = row.unit
    assert unit.out is not None
    if (unit.out / "job.json").is_file():
        return True
    if unit.stage == "align":
        return unit.aligned is not None and unit.aligned.is_file()
    partial = unit.out.with_name(f"{unit.out.name}.partial")
    return unit.stage == "element" and (partial / f"{unit.element}.volume.npz").is_file()


def _queue(folder: Path) -> dict[int, str] | None:
    """Rows that Slurm still has, with their states; None where it cannot be asked."""
    try:
        jobs = json.loads((folder / SUBMITTED).read_text(encoding="utf-8"))
        if jobs["scheduler"] != "slurm":
            return None
        words = ["squeue", "--noheader", "--array", "--format=%K %T", f"--jobs={','.join(jobs['jobs'])}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:  # which Slurm forgets some time after their end
        return None
    found = {}
    for line in done.stdout.splitlines():
        index, _, state = line.strip().partition(" ")
        if index.isdigit() and state not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"):
            found[int(index)] = "running" if state in ("RUNNING", "COMPLETING") else "waiting"
    return found


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 4096))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((re.sub(r"^ *\d+\.\d s  ", "", line) for line in reversed(lines) if line.strip()), "")


def describe(found: Sequence[Progress]) -> list[str]:
    """Lines for people: counts, then every task that is not done."""
    counts = {s: sum(p.state == s for p in found) for s in ("done", "running", "waiting", "failed", "unknown")}
    lines = [", ".join(f"{n} {s}" for s, n in counts.items() if n)]
    width = max((len(p.row.dataset) for p in found), default=0)
    for p in found:
        if p.state != "done":
            what = p.row.unit.element or {"align": "alignment", "finish": "results", "all": "all"}[p.row.unit.stage]
            lines.append(f"{p.row.row:5d}  {p.row.dataset:{width}}  {what:10}  {p.state:8}  {p.said}".rstrip())
    return lines


# ---------------------------------------------------------------- results


def gather(folder: Path, target: Path, *, overwrite: bool = False) -> list[Result]:
    """Volumes of all datasets in one folder, as links where the disk has them, one table and one page.

    Raises:
        OutputError: nothing is finished yet, or `target` cannot be written.
    """
    from recon.io import OutputFolder

    finish = [row for row in read_manifest(folder) if row.unit.stage in ("finish", "all")]
    elements: dict[str, list[str]] = {}
    for row in read_manifest(folder):
        if row.unit.stage == "element":
            elements.setdefault(row.dataset, []).append(row.unit.element)
    progress = {p.row.dataset: p for p in status(folder) if p.row.unit.stage in ("finish", "all")}
    results: list[Result] = []
    whole: list[Row] = []
    for row in finish:
        unit = row.unit
        assert unit.out is not None
        is_done = record(unit.out) is not None
        state = "done" if is_done else progress[row.dataset].state
        said = "" if is_done else progress[row.dataset].said
        names = elements.get(row.dataset) or _elements(unit.out)
        results += rows_of(unit.job, unit.out, names, state=state, changes=unit.changes, message=said)
        whole += [row] * is_done
    if not whole:
        raise OutputError(f"no task of {folder} has finished yet; see recon status {folder}")
    with OutputFolder(target, overwrite=overwrite) as made:
        (made / "volumes").mkdir()
        for row in whole:
            assert row.unit.out is not None
            for path in sorted(p for p in row.unit.out.iterdir() if p.is_file() and p.suffix not in (".json", ".html")):
                _link(path, made / "volumes" / f"{row.dataset}-{path.name}")
        write_csv(results, made / "summary.csv")
        (made / "report.html").write_text(_page(results, whole, target), encoding="utf-8")
        record_of = {"program": "recon", "gathered": [r.dataset for r in whole]}
        (made / "job.json").write_text(json.dumps(record_of) + "\n", encoding="utf-8")
    return results


def _elements(out: Path) -> list[str]:
    """Those of a folder of results."""
    return list((record(out) or {}).get("elements", {}))


def _link(path: Path, target: Path) -> None:
    import shutil

    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _page(results: Sequence[Result], whole: Sequence[Row], target: Path) -> str:
    """One page: the table, and each report behind a link."""
    names, cells = columns(results)
    shown = [n for n in names if n != "out"]

    def cell(value: object) -> str:
        text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"<td>{html.escape(text)}</td>"

    body = "".join("<tr>" + "".join(cell(row[n]) for n in shown) + "</tr>\n" for row in cells)
    links = ""
    for row in whole:
        assert row.unit.out is not None
        page = row.unit.out / "report.html"
        where = os.path.relpath(page if page.exists() else row.unit.out, target.resolve())
        links += f'<li><a href="{html.escape(where)}">{html.escape(row.dataset)}</a></li>\n'
    head = "".join(f"<th>{html.escape(n)}</th>" for n in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>recon: all datasets</title>\n'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left}</style></head><body>\n"
        f"<h1>All datasets</h1>\n<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"
        f"<h2>Reports</h2>\n<ul>\n{links}</ul>\n</body></html>\n"
    )


__all__ = ["Progress", "describe", "gather", "status"]
