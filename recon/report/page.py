"""``report.html``: one self-contained page made from the files of a finished run."""

from __future__ import annotations

import gc
import html
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.io import whole_file
from recon.report.alignment import alignment_section
from recon.report.answer import answer_section, composition_tables, repeatability
from recon.report.drawing import COLOURS, inline, legend, new_figure, table
from recon.report.judge import judge_section
from recon.report.methods import methods_section
from recon.report.resolution import resolution_section
from recon.report.run_folder import RunFolder, read_run
from recon.report.slices import projections, slices
from recon.report.statistics import statistics_section
from recon.report.viewer import SCRIPTS, page, viewer_section
from recon.series.volume import Record, StrengthChoice

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rebuild_report(folder: Path) -> Path:
    """Write the report of a finished run anew; returns its path.

    Raises:
        InputError: the folder is not a finished run.
        OutputError: the report cannot be written.
    """
    return write_report(folder, name=folder.resolve().name)


def write_report(folder: Path, name: str) -> Path:
    """Write ``report.html`` from the volumes, ``job.json`` and ``alignment.json`` in `folder`.

    Raises:
        InputError: the folder is not a finished run, or holds no volume.
        OutputError: the report cannot be written.
    """
    with _no_collection():
        text = report_page(read_run(folder, name))
    target = folder / "report.html"
    with whole_file(target) as aside:
        aside.write_text(text, encoding="utf-8")
    return target


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without a look for what is no longer used among the many small objects of figures."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def report_page(run: RunFolder) -> str:
    """The whole page: the answer, the volume, how the run went, how to cite it."""
    sections = {
        "answer": ("The answer", answer_section(run)),
        "volume": ("The volume", viewer_section(run) + _pictures(run)),
        "composition": ("Composition", composition_tables(run) + statistics_section(run)),
        "run": ("How the run went", _run(run)),
        "cite": ("What was done, and how to cite it", methods_section(run)),
    }
    title = f"{html.escape(run.name)}: {', '.join(map(html.escape, run.volumes))}"
    links = "".join(f"<li><a href='#{key}'>{head}</a></li>" for key, (head, _) in sections.items())
    body = "".join(
        f"<section aria-labelledby={key}><h2 id={key}>{head}</h2>{text}</section>"
        for key, (head, text) in sections.items()
    )
    return page(
        title,
        f"<a class=skip href='#answer'>to the answer</a><header><h1>{title}</h1>"
        f"<nav aria-label='sections'><ul>{links}</ul></nav></header><main>{body}</main>",
        (*SCRIPTS, "flip.js", "takeaway.js"),
    )


def _pictures(run: RunFolder) -> str:
    """The same as pictures, for paper and for readers without scripts."""
    parts = [
        "<details><summary>Slices and projections as figures</summary>",
        inline(
            slices(run.volumes, run.inside, run.voxel_nm, run.truth),
            "slices of each element and all together", "slices",
            "Planes through the middle of the particle.",
        ),
        inline(
            projections(run.volumes, run.voxel_nm, run.truth), "projections along the three axes", "projections",
            "Sums along the three axes.",
        ),
    ]  # fmt: skip
    if run.spread:
        figure = slices(run.spread, run.inside, run.voxel_nm)
        text = "One standard deviation of each voxel from recording to recording, the regulariser's pull not included."
        parts.append(inline(figure, "slices of each voxel's standard deviation", "repeatability", text))
    return "".join(parts) + "</details>"


# ---------------------------------------------------------------- how it went


def _run(run: RunFolder) -> str:
    parts = ["<h3>Alignment and exposure</h3>"]
    if run.alignment is None:
        parts.append("<p class=warn>The record of the alignment is missing, so nothing can be said about it.</p>")
    else:
        parts.append(alignment_section(run.alignment, run.folder))
        parts.append("<h3>Residuals, and what no tilt saw</h3>" + judge_section(run.alignment, run.folder))
    parts.append("<h3>Resolution</h3>" + resolution_section(run.resolution))
    searched = {n: e.choice for n, e in run.job.elements.items() if e.choice is not None and e.choice.error}
    if searched:
        parts.append("<h3>Strength of the regulariser</h3>")
        text = (
            "A part of the counts was reconstructed at several strengths, another part tells which one predicts it "
            "best. "
            "A good curve has its least value between the strengths tried, not at the end. "
            "The vertical line is the strength chosen, its band one standard error of the split. "
            "They need not lie where the curve is lowest: both are moved towards the strength that is usual for such "
            "noise, the farther the fewer counts there are."
        )
        parts.append(inline(strength_figure(searched), "held-out error by strength", "strength", text))
    parts.append("<h3>Convergence</h3>" + _convergence(run))
    if run.job.analysis.uncertainty:
        parts.append("<h3>Repeatability</h3>" + repeatability(run.job.analysis))
    return "".join(parts)


def _convergence(run: RunFolder) -> str:
    rows = []
    for name, e in run.job.elements.items():
        last = e.history[-1] if e.history else Record(0, math.nan, math.nan, 0.0)
        how = "" if e.choice is None else f" ({html.escape(e.choice.split)})"
        strength = None if e.parameters is None or e.settings.method == "none" else e.parameters.a1
        rows.append([
            html.escape(name),
            "" if strength is None else f"{strength:.3g}{how}",
            str(e.iterations),
            "" if math.isnan(last.objective) else f"{last.objective:.6g}",
            "none" if math.isnan(last.gap) else f"{last.gap:.1e}",
            html.escape(e.why),
        ])  # fmt: skip
    heads = ["element", "strength", "iterations", "objective", "certified gap", "why it stopped"]
    out = table(heads, rows, "convergence", "how each element converged")
    traced = {n: e.history for n, e in run.job.elements.items() if len(e.history) > 1}
    if traced:
        text = (
            "The objective, above the least that the run saw, and the certified relative gap: no volume is better "
            "by more. A "
            "good run falls all the way and ends with the gap below its tolerance."
        )
        out += inline(convergence_figure(traced), "objective and gap by iteration", "convergence", text)
    return out


# ---------------------------------------------------------------- figures


def strength_figure(searched: Mapping[str, StrengthChoice]) -> Figure:
    """Held-out error of each strength tried, above the least, and the strength chosen."""
    figure, axes = new_figure(1, max(2, len(searched)), 0.7)
    for axis in axes[0, len(searched) :]:
        axis.remove()
    for i, (axis, (name, choice)) in enumerate(zip(axes[0], searched.items(), strict=False)):
        tried, error = choice.unit * np.array(choice.factors), np.array(choice.error)
        colour = COLOURS[i % len(COLOURS)]
        axis.semilogx(tried, error - error.min(), "o-", markersize=4, color=colour)
        axis.axvspan(*choice.interval, color="0.8")
        axis.axvline(choice.strength, color="0.3", linewidth=1)
        axis.set_title(name)
        axis.set_xlabel("strength a1 (voxel per count)")
    axes[0][0].set_ylabel("held-out error, above the least")
    return figure


def convergence_figure(traced: Mapping[str, tuple[Record, ...]]) -> Figure:
    """Objective above its least value, and certified gap, by iteration."""
    figure, ((falls, gaps),) = new_figure(1, 2, 0.62)
    for i, (name, history) in enumerate(traced.items()):
        colour = COLOURS[i % len(COLOURS)]
        steps = np.array([r.iteration for r in history])
        objective, gap = np.array([r.objective for r in history]), np.array([r.gap for r in history])
        if np.isfinite(objective).any():
            least = np.nanmin(objective)
            above = np.where(objective > least, (objective - least) / max(abs(least), 1e-30), np.nan)
            falls.semilogy(steps, above, "o-", markersize=3, color=colour, label=name)
        if np.isfinite(gap).any():
            gaps.semilogy(steps, gap, "o-", markersize=3, color=colour, label=name)
    falls.set_ylabel("objective above its least, relative")
    gaps.set_ylabel("certified relative gap")
    from matplotlib.ticker import NullFormatter

    for axis in (falls, gaps):
        axis.yaxis.set_minor_formatter(NullFormatter())  # they would run into the next figure
        axis.set_xlabel("iteration")
        if axis.get_legend_handles_labels()[0]:
            legend(axis)
    return figure
