"""Several runs side by side, of a sweep or of several particles: one page with a row for each."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from recon.analysis.pair_estimates import PARTS, Estimate
from recon.errors import InputError
from recon.io import whole_file
from recon.report.answer import warnings
from recon.report.drawing import PAGE_MM, inline, table
from recon.report.resolution import CURVES, period
from recon.report.run_folder import RunFolder, read_run
from recon.report.slices import slices
from recon.report.viewer import page


def compare_runs(folders: Sequence[Path], target: Path) -> Path:
    """Write one page with the answers, strengths, gaps and slices of several runs; returns its path.

    Args:
        folders: finished runs.
        target: the page to write, such as ``compare.html``.

    Raises:
        InputError: fewer than two folders, or one that is not a finished run.
        OutputError: the page cannot be written.
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} run to compare; name two folders at least")
    runs = [read_run(folder, folder.resolve().name) for folder in folders]
    title = f"{len(runs)} runs side by side"
    parts = [
        f"<header><h1>{title}</h1></header><main>",
        f"<section aria-labelledby=answers><h2 id=answers>What each place holds</h2>{_answers(runs)}</section>",
        f"<section aria-labelledby=pairs><h2 id=pairs>What two elements share</h2>{_pairs(runs)}</section>",
        f"<section aria-labelledby=resolution><h2 id=resolution>Resolution</h2>{_resolution(runs)}</section>",
        f"<section aria-labelledby=runs><h2 id=runs>How each run ended</h2>{_ends(runs)}</section>",
        "<section aria-labelledby=slices><h2 id=slices>Slices</h2>",
    ]
    for k, run in enumerate(runs, 1):
        name = html.escape(run.name)
        figure = slices(run.volumes, run.inside, run.voxel_nm, None, PAGE_MM)
        parts.append(f"<h3>{name}</h3>{inline(figure, f'slices of {run.name}', f'slices-{k}')}")
        parts += [f"<p class=warn>{html.escape(line)}.</p>" for line in warnings(run)]
    with whole_file(target) as aside:
        aside.write_text(page(title, "".join([*parts, "</section></main>"]), ["takeaway.js"]), encoding="utf-8")
    return target


def _answers(runs: Sequence[RunFolder]) -> str:
    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.2f}".replace("-", "&minus;")

    rows = [
        [html.escape(r.name), html.escape(p.name), html.escape(p.verdict), html.escape(n),
         *map(number, (a.fraction, a.low95, a.high95))]
        for r in runs
        for p in r.places
        for n, a in p.amounts.items()
    ]  # fmt: skip
    heads = ["run", "place", "verdict", "element", "of pure phase", "95 % from", "to"]
    return table(heads, rows, "answers", "what each place holds, run by run") if rows else "<p>No run asked.</p>"


def _pairs(runs: Sequence[RunFolder]) -> str:
    def cells(e: Estimate) -> list[str]:
        return ["" if math.isnan(v) else f"{v:.3g}".replace("-", "&minus;") for v in (e.value, e.low95, e.high95)]

    rows = [
        [html.escape(r.name), html.escape(f"{p.first} and {p.second}"), *(c for k in PARTS for c in cells(p[k]))]
        for r in runs
        for p in r.job.pairs.values()
        if set(PARTS) <= set(p.figures)
    ]
    heads = ["run", "pair"]
    for words in ("the first alone", "the second alone", "both"):
        heads += [f"{words}, part of the matter", "95 % from", "to"]
    return table(heads, rows, "pairs", "what two elements share, run by run") if rows else "<p>No run tells.</p>"


def _resolution(runs: Sequence[RunFolder]) -> str:
    rows = [
        [html.escape(r.name), html.escape(n), *(period(c, key) for key in CURVES)]
        for r in runs
        for n, c in r.resolution.items()
    ]
    heads = ["run", "element", *(f"{words}, nm" for words, _ in CURVES.values())]
    return table(heads, rows, "resolution", "resolution, run by run") if rows else "<p>No run made halves.</p>"


def _ends(runs: Sequence[RunFolder]) -> str:
    rows = []
    for run in runs:
        for name, e in run.job.elements.items():
            gap = e.history[-1].gap if e.history else math.nan
            strength = "" if e.parameters is None else f"{e.parameters.a1:.3g}"
            rows.append([
                html.escape(run.name), html.escape(name), html.escape(e.settings.method), strength, str(e.iterations),
                "none" if math.isnan(gap) else f"{gap:.1e}", html.escape(e.why),
                f"{sum(run.job.timings_s.values()):.1f}",
            ])  # fmt: skip
    heads = ["run", "element", "method", "strength", "iterations", "certified gap", "why it stopped", "seconds"]
    return table(heads, rows, "runs", "how each run ended")
