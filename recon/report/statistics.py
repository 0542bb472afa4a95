"""Two elements in the report: how they share the particle, how their phases lie, and how sharp the border is."""

from __future__ import annotations

import html
import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.connectivity import Connectivity
from recon.analysis.pair_estimates import KINDS, MOST, Estimate, PairEstimates, around
from recon.analysis.pair_phases import Phases
from recon.analysis.pairs import PairStatistics, mixing, pair_phases, pair_statistics
from recon.errors import InputError
from recon.report.drawing import COLOURS, PAGE_MM, inline, new_figure, table
from recon.report.run_folder import RunFolder
from recon.report.slices import PLANES, plane, scale_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_HALVES = "There are no intervals: the run made no halves."
BENCHMARKED = (
    "Estimates and intervals come from two reconstructions of independent halves of the counts: what is more wrong in "
    "the halves is taken off once more. On simulated particles of 48 voxels along an edge, 40 counts and 15 tilts, "
    "estimated fractions came out within 3 percentage points of the truth, areas within 10 %, widths within one voxel, "
    "see benchmarks/pair_statistics.py. Features less than about 8 voxels across keep a rest of the other element and "
    "read as more mixed than they are."
)


def statistics_section(run: RunFolder) -> str:
    """Each pair of elements: sentences, a table, pictures."""
    parts = []
    for a, b in list(combinations(run.volumes, 2))[:MOST]:
        title = f"<h3>{html.escape(a)} and {html.escape(b)}</h3>" if len(run.volumes) > 2 else ""
        window = around(run.inside)
        first, second, inside = run.volumes[a][window], run.volumes[b][window], run.inside[window]
        try:
            found, _, pure = pair_phases(first, second, inside=inside)
            stats = pair_statistics(first, second, pure, inside)
        except InputError as exc:
            parts.append(f"{title}<p class=warn>{html.escape(str(exc))}.</p>")
            continue
        sure = run.job.pairs.get(f"{a}-{b}")
        parts += [title, _sentences(a, b, stats, sure, run.voxel_nm), _table(a, b, stats, sure, run.voxel_nm)]
        figure = mixing_figure((a, b), found, run.voxel_nm)
        text = (
            "Left, phases: one element alone in its colour, both in white, what only blur mixes shaded. Middle, the "
            "map of "
            "mixing: bright where both share a place evenly. Right, how much of the matter has which share of "
            f"{a}: two peaks at the ends are phases that interlock, a hill between them is a mixed phase."
        )
        parts.append(inline(figure, f"phases and mixing of {a} and {b}", f"mixing-{a}-{b}", text))
    return "".join(parts)


def percent(value: float, sure: PairEstimates | None, name: str) -> str:
    """A part in percent, with its 95 % interval where there is one."""
    if sure is None or name not in sure.figures or not sure[name].sure:
        return f"{value:.1%}"
    found = sure[name]
    return f"{found.value:.1%} (95 %: {100 * found.low95:.0f} to {found.high95:.0%})"


def _nm(voxels: float, size: float, digits: int = 3) -> str:
    return "unknown" if math.isnan(voxels) else f"{voxels * size:.{digits}g} nm"


def _sentences(first: str, second: str, s: PairStatistics, sure: PairEstimates | None, size: float) -> str:
    a, b = html.escape(first), html.escape(second)

    def part(name: str) -> str:
        return percent(KINDS[name].of(s), sure, name)

    lines = [
        f"{a} alone fills {part('only_first')} of the matter, {b} alone {part('only_second')}, both together "
        f"{part('both')}; "
        f"another {s.both_before - s.both:.1%} looks mixed only because a border is blurred and was given to the "
        f"phases "
        "beside it.",
        f"{s.manders[0]:.0%} of {a} lies where {b} is present, {s.manders[1]:.0%} of {b} where {a} is (Manders).",
    ]
    if s.width.profiles:
        wide, how = s.width.width, f" &plusmn; {_nm(s.width.error, size, 1)} wide"
        if sure is not None and sure["width"].sure:
            e = sure["width"]
            wide, how = e.value, f" wide (95 %: {e.low95 * size:.3g} to {e.high95 * size:.3g})"
        width = (
            f"The border between the phases is {_nm(wide, size)}{how}, from 10 to 90 %; the particle's own surface is "
            f"{_nm(s.edge.width, size)}, and what is sharp cannot look sharper. "
        )
        own = float(np.sqrt(max(wide**2 - s.edge.width**2, 0.0))) if not math.isnan(s.edge.width) else math.nan
        sharp = own < max(1.0, 0.7 * s.edge.width)
        lines.append(
            width + ("So it may be sharp." if sharp else f"So about {_nm(own, size)} of it is the specimen's own.")
        )
    lines += [_hangs(a, s.first), _hangs(b, s.second)]
    for name, other, (pieces, largest) in ((a, b, s.without_first), (b, a, s.without_second)):
        if pieces:
            whole = "in one piece" if pieces == 1 else f"in {pieces} pieces, {_part(largest)} of it in the largest"
            lines.append(f"With {name} taken away, what is left ({other} and what is mixed) stays {whole}.")
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines if line) + "</ul>"


def _part(value: float) -> str:
    return "over 99%" if 0.995 <= value < 1 else f"{value:.0%}"


def _hangs(name: str, found: Connectivity) -> str:
    if not found.pieces:
        return f"{name} has no phase of its own."
    pieces = "one piece" if found.pieces == 1 else f"{found.pieces} pieces, {_part(found.largest)} of it in the largest"
    more = []
    if found.handles:
        more.append(f"{found.handles} handle{'s' if found.handles > 1 else ''}, so it runs around something")
    if found.cavities:
        more.append(f"{found.cavities} enclosed place{'s' if found.cavities > 1 else ''}")
    return f"{name} alone is {pieces}{'; it has ' + ' and '.join(more) if more else ''}."


def _table(first: str, second: str, s: PairStatistics, sure: PairEstimates | None, size: float) -> str:
    a, b = html.escape(first), html.escape(second)
    factor = {"": 1.0, "voxel": size}

    def number(value: float, digits: int = 3) -> str:
        return "" if math.isnan(value) else f"{value:.{digits}g}".replace("-", "&minus;")

    def of(text: str, name: str) -> list[str]:
        """A figure of `KINDS` with its intervals."""
        kind = KINDS[name]
        shown = kind.of(s)
        found = sure[name] if sure is not None and name in sure.figures else Estimate(shown, shown)
        cells = (shown, found.value, found.low68, found.high68, found.low95, found.high95)
        if kind.unit == "face":
            return [text, *("" if math.isnan(v) else f"{v * size * size:.0f}" for v in cells)]
        return [text, *(number(v * factor[kind.unit]) for v in cells)]

    def plain(text: str, said: str) -> list[str]:
        return [text, said, "", "", "", "", ""]

    chords = zip((f"{a} alone", f"{b} alone", "both"), s.chords, strict=True)
    rows = [
        of(f"{a} alone, part of the matter", "only_first"),
        of(f"{b} alone, part of the matter", "only_second"),
        of("both, part of the matter", "both"),
        plain("both, before blur was taken out", number(s.both_before)),
        of(f"Manders' M1 ({a} where {b} is)", "manders_first"),
        of(f"Manders' M2 ({b} where {a} is)", "manders_second"),
        of("Manders' overlap", "overlap"),
        of("correlation", "correlation"),
        of("interface, nm&sup2;", "interface"),
        plain(f"of it {a} against {b} directly, nm&sup2;", f"{s.area * size * size:.0f}"),
        plain("surface of the particle, nm&sup2;", f"{s.outside * size * size:.0f}"),
        of("width of the border, nm", "width"),
        of("width of the surface (resolution), nm", "edge"),
        plain("thinnest mixed layer that is told from blur, nm", number(s.thinnest * size)),
        *(plain(f"mean chord in {name}, nm", number(c * size)) for name, c in chords),
        *(
            plain(f"pieces, handles, enclosed places of {name}", f"{c.pieces}, {c.handles}, {c.cavities}")
            for name, c in ((f"{a} alone", s.first), (f"{b} alone", s.second), ("both", s.mixed))
        ),
        plain(f"pure {a}, counts per voxel", number(s.pure[0], 4)),
        plain(f"pure {b}, counts per voxel", number(s.pure[1], 4)),
    ]
    heads = ["figure", "of the volumes", "estimate", "68 % from", "to", "95 % from", "to"]
    caption = f"statistics of {first} and {second}"
    note = (
        BENCHMARKED if sure is not None and any(e.sure for e in sure.figures.values()) else f"{NO_HALVES} {BENCHMARKED}"
    )
    return table(heads, rows, f"statistics-{first}-{second}", caption) + f"<p class=note>{note}</p>"


def mixing_figure(names: tuple[str, str], found: Phases, voxel_nm: float, width_mm: float = PAGE_MM) -> Figure:
    """Phases and map of mixing across the beam through the middle, and how much matter has which share.

    Args:
        names: of the two elements.
        found: their phases.
        voxel_nm: edge of a voxel.
        width_mm: of the figure.
    """
    matter = found.labels > 0
    middle = int(np.round(np.argwhere(matter).mean(axis=0))[0]) if matter.any() else found.labels.shape[0] // 2
    labels, blurred = plane(found.labels, 0, middle), plane(found.blurred, 0, middle)
    colours = np.array([(0, 0, 0), COLOURS[0], COLOURS[1], (1, 1, 1)])
    picture = colours[labels] * np.where(blurred, 0.6, 1.0)[..., None]
    figure, ((phase, mixed, shares),) = new_figure(1, 3, 0.9, width_mm)
    phase.imshow(picture, interpolation="none")
    mixed.imshow(plane(mixing(found), 0, middle), cmap="inferno", vmin=0, vmax=1, interpolation="none")
    for axis, title in ((phase, "phases"), (mixed, "mixing")):
        axis.set_title(f"{title}, {PLANES[0]} = {middle}")
        axis.set_axis_off()
        scale_bar(axis, labels.shape, voxel_nm)
    if matter.any():
        counts, edges = np.histogram(found.share[matter], bins=40, range=(0, 1))
        shares.bar(edges[:-1], counts / counts.sum(), width=1 / 40, align="edge", color="0.35")
    shares.set_xlabel(f"share of {names[0]} against {names[1]}")
    shares.set_ylabel("part of the matter")
    return figure
