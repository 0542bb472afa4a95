"""``report.html``: one self-contained page made from the files of a finished run."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.analysis.composition import Analysis
from recon.errors import InputError
from recon.files import read_record
from recon.io import find_volume, whole_file
from recon.io.alignment import AlignmentRecord
from recon.reconstruction.uncertainty import Interval
from recon.report.alignment import STYLE as ALIGNMENT_STYLE
from recon.report.alignment import alignment_section
from recon.report.drawing import COLOURS, inline, new_figure
from recon.report.record import REMEDY, JobRecord, read_job_record
from recon.series.volume import Record, StrengthChoice

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PLANES = ("z", "y", "x")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .6em 0; } td, th { padding: .2em .9em .2em 0; text-align: left; }
th { font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .warn { background: #fff3d6; padding: .5em .8em; border-left: 4px solid #d90; }
.note { color: #666; font-size: .92em; }
"""


def rebuild_report(folder: Path) -> Path:
    """Write the report of a finished run anew; returns its path.

    Raises:
        InputError: the folder is not a finished run.
        OutputError: the report cannot be written.
    """
    if not (folder / "job.json").is_file() or not (folder / "alignment.json").is_file():
        raise InputError(f"{folder} is not a finished run: it lacks job.json or alignment.json; name an output folder")
    return write_report(folder, name=folder.resolve().name)


def write_report(folder: Path, name: str) -> Path:
    """Write ``report.html`` from the volumes, ``job.json`` and ``alignment.json`` in `folder`."""
    job = read_job_record(folder / "job.json")
    alignment = read_record(AlignmentRecord, folder / "alignment.json", REMEDY)
    volumes = {n: _volume(folder, n) for n in job.elements}
    inside = _volume(folder, "mask") > 0
    truth = {n: _volume(folder, f"truth-{n}") for n in volumes if any(folder.glob(f"truth-{n}.*"))}
    parts = [f"<h1>{html.escape(name)}: {', '.join(map(html.escape, volumes))}</h1>", _headline(job)]
    parts += _warnings(job, alignment)
    voxel = job.voxel_size_nm
    parts.append("<h2>Slices through the middle of the particle</h2>")
    parts.append(inline(slices(volumes, inside, voxel, truth), "slices of each element and both together"))
    parts.append("<h2>Projections</h2>")
    parts.append(inline(projections(volumes, voxel, truth), "projections along the three axes"))
    parts.append("<h2>Composition</h2>" + _composition(job.analysis))
    if job.analysis.uncertainty:
        spread = {n: _volume(folder, f"{n}-uncertainty") for n in job.analysis.uncertainty}
        figure = slices(spread, inside, voxel, {})
        parts.append("<h2>Uncertainty</h2>" + inline(figure, "slices of each voxel's standard deviation"))
        parts.append(_uncertainty(job.analysis))
    parts.append("<h2>Alignment and exposure</h2>" + alignment_section(alignment, folder))
    searched = {n: e.choice for n, e in job.elements.items() if e.choice is not None and e.choice.error}
    if searched:
        parts.append(
            "<h2>Strength of the regulariser</h2>" + inline(strength_figure(searched), "held-out error by strength")
        )
        parts.append(
            "<p class=note>A part of the counts was reconstructed at several strengths, another part tells which one "
            "predicts it best. The vertical line is the strength chosen, its band one standard error of the split.</p>"
        )
    parts.append("<h2>Convergence</h2>" + _convergence(job))
    parts.append("<h2>What was done</h2><ol>" + "".join(f"<li>{html.escape(s)}</li>" for s in job.stages) + "</ol>")
    parts.append(
        f"<p class=note>recon {html.escape(job.version)} on {html.escape(job.device)}; "
        f"{sum(job.timings_s.values()):.1f} s. Densities are {html.escape(job.unit)}. "
        "All parameters are in job.json.</p>"
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(name)}</title><style>{STYLE}{ALIGNMENT_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    target = folder / "report.html"
    with whole_file(target) as aside:
        aside.write_text(page, encoding="utf-8")
    return target


# ---------------------------------------------------------------- words


def _volume(folder: Path, name: str) -> NDArray[Any]:
    return find_volume(folder, name)[0]


def _headline(job: JobRecord) -> str:
    """The answer first: regions if any were asked about, else how far the elements mix."""
    analysis = job.analysis
    lines = []
    for name, region in analysis.regions.items():
        intervals = {n: u.intervals.get(f"region {name}") for n, u in analysis.uncertainty.items()}
        parts = ", ".join(
            f"{html.escape(n)} {region.mean[n]:.2f} &plusmn; {region.spread[n]:.2f}{_between(intervals.get(n))}"
            for n in region.mean
        )
        lines.append(f"<li>At <b>{html.escape(name)}</b>: <b>{html.escape(region.verdict)}</b> ({parts})</li>")
    for value in analysis.pairs.values():
        a, b = value.only
        lines.append(
            f"<li>{html.escape(a)} and {html.escape(b)} share {value.both:.0%} of the particle; {html.escape(a)} "
            f"alone has {value.only[a]:.0%}, {html.escape(b)} alone {value.only[b]:.0%}.</li>"
        )
    if analysis.truth is not None:
        errors = analysis.truth.relative_rms_error
        lines.append(
            "<li>Against the truth, relative RMS error: "
            + ", ".join(f"{html.escape(n)} {e:.3f}" for n, e in errors.items())
            + "</li>"
        )
    sure = next((i.level for u in analysis.uncertainty.values() for i in u.intervals.values()), None)
    note = (
        "<p class=note>Values are relative to each element's pure phase; &plusmn; is the spread between voxels, not a "
        "standard error"
        + (f"; in brackets the {sure:.0%} interval of the mean, see Uncertainty. " if sure else ". ")
        + "An element counts as present above a quarter of its pure phase.</p>"
    )
    return f"<ul>{''.join(lines)}</ul>{note}" if lines else ""


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.2f} to {interval.high:.2f}]"


NOT_INCLUDED = (
    "An interval says how far the figure would move if the same object were recorded again with the same counts and "
    "reconstructed in the same way. It does not include what would be the same in each recording: the smoothing by the "
    "regulariser, the missing wedge, and errors of alignment, exposure and background. So it covers the truth less "
    "often than it states, most where details are fine. The bias is what a second reconstruction adds to the first."
)


def _uncertainty(analysis: Analysis) -> str:
    found = analysis.uncertainty
    rows = ""
    for element, u in found.items():
        for name, i in u.intervals.items():
            rows += (
                f"<tr><td>{html.escape(element)}</td><td>{html.escape(name)}</td><td class=n>{i.low:.4g}</td>"
                f"<td class=n>{i.high:.4g}</td><td class=n>{i.sd:.2g}</td><td class=n>{i.bias:+.2g}</td></tr>"
            )
    said = []
    for element, u in found.items():
        short = "" if u.replicates == u.asked else f" of {u.asked} (stopped by the user)"
        loose = u.replicates - u.converged
        late = f"; {loose} of them did not converge" if loose else ""
        said.append(f"{element}: {u.replicates} replicates{short}, {u.noise.capitalize()} noise{late}")
    level = next(i.level for u in found.values() for i in u.intervals.values())
    return (
        f"<p>{html.escape('; '.join(said))}. Each replicate is drawn from the fitted model and reconstructed.</p>"
        f"<table><tr><th>element</th><th>figure</th><th>{level:.0%} from</th><th>to</th><th>standard deviation</th>"
        f"<th>bias</th></tr>{rows}</table><p class=note>{NOT_INCLUDED}</p>"
    )


def _warnings(job: JobRecord, alignment: AlignmentRecord) -> list[str]:
    out = []
    for name, element in job.elements.items():
        if element.status not in ("converged", "fixed"):
            last = element.history[-1].gap if element.history else math.nan
            bound = "" if math.isnan(last) else f". Its objective is certified to be within {last:.1e} of the least one"
            out.append(f"{name} is {element.why}{bound}")
    out += [f"{name} was not reconstructed: the user stopped the run before" for name in job.missing]
    found = alignment.doubts
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        out.append(f"The alignment is open to doubt: {found[0]}{more}; see Alignment and exposure")
    return [f"<p class=warn>{html.escape(line)}.</p>" for line in out]


def _composition(analysis: Analysis) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(n)}</td><td class=n>{e.total:.0f}</td><td class=n>{e.typical_density:.4g}</td>"
        f"<td class=n>{e.fraction_of_particle:.1%}</td></tr>"
        for n, e in analysis.elements.items()
    )
    pairs = "".join(
        f"<tr><td>{html.escape(p)}</td><td class=n>{v.both:.1%}</td><td class=n>{v.correlation:+.2f}</td></tr>"
        for p, v in analysis.pairs.items()
    )
    table = (
        "<table><tr><th>element</th><th>total counts</th><th>pure phase, counts per voxel</th>"
        f"<th>present in</th></tr>{rows}</table>"
    )
    if pairs:
        table += f"<table><tr><th>pair</th><th>both present</th><th>correlation</th></tr>{pairs}</table>"
    return table


def _convergence(job: JobRecord) -> str:
    rows = ""
    for name, e in job.elements.items():
        last = e.history[-1] if e.history else Record(0, math.nan, math.nan, 0.0)
        how = "" if e.choice is None else f" ({e.choice.split})"
        strength = None if e.parameters is None or e.settings.method == "none" else e.parameters.a1
        cells = [
            "" if strength is None else f"{strength:.3g}{how}",
            str(e.iterations),
            "" if math.isnan(last.objective) else f"{last.objective:.6g}",
            "none" if math.isnan(last.gap) else f"{last.gap:.1e}",
        ]
        rows += f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td class=n>{c}</td>" for c in cells)
        rows += f"<td>{html.escape(e.why)}</td></tr>"
    return (
        "<table><tr><th>element</th><th>strength</th><th>iterations</th><th>objective</th><th>certified gap</th>"
        f"<th>why it stopped</th></tr>{rows}</table>"
    )


# ---------------------------------------------------------------- figures


def composite(images: Mapping[str, NDArray[Any]], tops: Mapping[str, float]) -> NDArray[np.float64]:
    """Images of several elements added in colours, each at most `tops`; ``(y, x, 3)``."""
    first = next(iter(images.values()))
    out = np.zeros((*first.shape, 3))
    for i, (name, image) in enumerate(images.items()):
        level = np.clip(image / max(tops[name], 1e-30), 0, 1)
        out += level[..., None] * np.array(COLOURS[i % len(COLOURS)])
    return np.clip(out, 0, 1)


def _grid_of_images(
    sources: list[tuple[str, dict[str, NDArray[Any]]]], cuts: list[Any], titles: list[str], voxel: float
) -> Figure:
    names = list(sources[0][1])
    tops = {n: float(np.percentile(sources[0][1][n], 99.8)) for n in names}
    rows = [(label, n, images) for label, images in sources for n in ([*names, None] if len(names) > 1 else names)]
    figure, axes = new_figure(len(rows), len(cuts))
    for r, (label, element, images) in enumerate(rows):
        for c, cut in enumerate(cuts):
            axis = axes[r, c]
            taken = {n: cut(images[n]) for n in names}
            limits = {n: max(float(np.percentile(cut(sources[0][1][n]), 99.8)), 0.05 * tops[n]) for n in names}
            if element is None:
                axis.imshow(composite(taken, limits), interpolation="nearest")
            else:
                axis.imshow(taken[element], cmap="inferno", vmin=0, vmax=limits[element], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if r == 0:
                axis.set_title(titles[c], fontsize=10)
            if c == 0:
                axis.set_ylabel(" + ".join(names) + label if element is None else element + label, fontsize=10)
    shape = sources[0][1][names[0]].shape
    bar = _nice(0.3 * shape[2] * voxel)
    axes[0, 0].plot([2, 2 + bar / voxel], [shape[1] - 3] * 2, color="white", linewidth=3, solid_capstyle="butt")
    axes[0, 0].text(2, shape[1] - 5, f"{bar:g} nm", color="white", fontsize=9, va="bottom")
    return figure


def _nice(length: float) -> float:
    step = 10 ** np.floor(np.log10(length))
    return float(max(k * step for k in (1, 2, 5) if k * step <= length * 1.0001))


def slices(
    volumes: dict[str, NDArray[Any]], inside: NDArray[Any], voxel: float, truth: dict[str, NDArray[Any]]
) -> Figure:
    """Planes across the three axes through the middle of the mask, truth below where it is known."""
    where = np.argwhere(inside) if inside.any() else np.argwhere(np.ones_like(inside))
    middle = np.round(where.mean(axis=0)).astype(int)
    cuts, titles = [], []
    for axis, plane in enumerate(PLANES):
        cuts.append(lambda v, axis=axis: np.take(v, middle[axis], axis=axis))
        titles.append(f"{plane} = {middle[axis]}: " + {"z": "y down, x right", "y": "z down, x right",
                                                       "x": "z down, y right"}[plane])  # fmt: skip
    sources = [("", volumes)] + ([(", truth", truth)] if truth else [])
    return _grid_of_images(sources, cuts, titles, voxel)


def projections(volumes: dict[str, NDArray[Any]], voxel: float, truth: dict[str, NDArray[Any]]) -> Figure:
    """Sums along the three axes, truth below where it is known."""
    cuts = [lambda v, axis=axis: v.sum(axis=axis) for axis in range(3)]
    sources = [("", volumes)] + ([(", truth", truth)] if truth else [])
    return _grid_of_images(sources, cuts, [f"sum along {p}" for p in PLANES], voxel)


def strength_figure(searched: Mapping[str, StrengthChoice]) -> Figure:
    """Held-out error of each strength tried, above the least, and the strength chosen."""
    figure, axes = new_figure(1, len(searched), 3.4)
    for i, (axis, (name, choice)) in enumerate(zip(axes[0], searched.items(), strict=True)):
        tried, error = choice.unit * np.array(choice.factors), np.array(choice.error)
        colour = COLOURS[i % len(COLOURS)]
        axis.semilogx(tried, error - error.min(), "o-", markersize=4, color=colour)
        axis.axvspan(*choice.interval, color="0.8")
        axis.axvline(choice.strength, color="0.3", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("strength a1 (voxel per count)")
    axes[0][0].set_ylabel("held-out error, above the least")
    return figure
