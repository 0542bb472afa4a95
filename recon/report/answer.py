"""What the page opens with: the question, what is at each place, what speaks against it, what could not be seen."""

from __future__ import annotations

import html
import math

import numpy as np

from recon.analysis.composition import PRESENT, Analysis, spread_densities
from recon.reconstruction.uncertainty import Interval
from recon.report.drawing import inline, table
from recon.report.run_folder import Amount, Place, RunFolder
from recon.report.slices import region_figure
from recon.report.statistics import percent

PICTURES = 6  # places that get one of their own


def answer_section(run: RunFolder) -> str:
    """The answers, their pictures, warnings and limits."""
    parts = [f"<p>{_question(run)}</p>", _answers(run)]
    parts += [f"<p class=warn>{html.escape(line)}.</p>" for line in warnings(run)]
    parts.append(_pictures(run))
    parts.append(f"<h3>What these data could not have shown</h3>{_limits(run)}")
    return "".join(parts)


def _names(run: RunFolder) -> list[str]:
    return [html.escape(n) for n in run.volumes]


def _question(run: RunFolder) -> str:
    names = _names(run)
    if len(names) < 2:
        return f"Where is {names[0]} in the particle, and how much of it?"
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Where {listed} meet, do they interlock, each phase pure, or are they mixed?"


def _answers(run: RunFolder) -> str:
    lines = [sentence(place) for place in run.places]
    for name, value in run.job.analysis.pairs.items():
        a, b = value.only
        sure = run.job.pairs.get(name)
        if sure is not None:
            parts = [percent(sure[k].value, sure, k) for k in ("both", "only_first", "only_second")]
            what = ", what only blur mixes not counted"
        else:
            parts, what = [f"{v:.0%}" for v in (value.both, value.only[a], value.only[b])], ""
        lines.append(
            f"{html.escape(a)} and {html.escape(b)} share {parts[0]} of the particle{what}; {html.escape(a)} alone has "
            f"{parts[1]}, {html.escape(b)} alone {parts[2]}."
        )
    truth = run.job.analysis.truth
    if truth is not None:
        errors = ", ".join(f"{html.escape(n)} {e:.3f}" for n, e in truth.relative_rms_error.items())
        lines.append(f"Against the truth, relative RMS error: {errors}.")
    if not lines:
        return ""
    spread = any(e.spreads for e in run.job.analysis.elements.values())
    base = "typical density" if spread else "pure phase"
    note = f"Fractions are of each element's {base}; an element counts as present above {PRESENT:g} of it."
    if run.places and not any(a.sure for p in run.places for a in p.amounts.values()):
        note += (
            " These figures have no intervals that cover the truth; in brackets, if at all, stands their "
            "repeatability, see "
            "How the run went."
        )
    return f"<ul class=answer>{''.join(f'<li>{line}</li>' for line in lines)}</ul><p class=note>{note}</p>"


def sentence(place: Place) -> str:
    """The answer at one place, HTML: verdict, then each element with its interval."""
    amounts = "; ".join(
        f"{html.escape(n)} {_amount(a)}{_held(a, place.truth.get(n))}" for n, a in place.amounts.items()
    )
    return f"At <b>{html.escape(place.name)}</b>: <b>{html.escape(place.verdict)}</b>. {amounts}."


def _held(amount: Amount, truth: float | None) -> str:
    """The truth beside an answer, of a simulated run."""
    if truth is None:
        return ""
    outside = amount.sure and not amount.low95 <= truth <= amount.high95
    return f", in truth {truth:.2f}{', <b>outside the interval</b>' if outside else ''}"


def _amount(amount: Amount) -> str:
    said = f"{amount.fraction:.2f}"
    if amount.sure:
        said += f" (95 % sure between {amount.low95:.2f} and {amount.high95:.2f}"
        if math.isfinite(amount.low68) and math.isfinite(amount.high68):
            said += f"; 68 %: {amount.low68:.2f} to {amount.high68:.2f}"
        said += ")"
    elif math.isfinite(amount.low68):
        said += f" [{amount.low68:.2f} to {amount.high68:.2f}]"
    return said.replace("-", "&minus;")


def warnings(run: RunFolder) -> list[str]:
    """What a reader must know before believing the page, in plain words, one line each; no HTML."""
    out = []
    for name, element in run.job.elements.items():
        if element.status not in ("converged", "fixed"):
            last = element.history[-1].gap if element.history else math.nan
            bound = "" if math.isnan(last) else f". Its objective is certified to be within {last:.1e} of the least one"
            out.append(f"{name} is {element.why}{bound}")
    out += [f"{name} was not reconstructed: the user stopped the run before" for name in run.job.missing]
    found = () if run.alignment is None else run.alignment.doubts
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        out.append(f"The alignment is open to doubt: {found[0]}{more}; see Alignment and exposure")
    out += spread_densities(run.job.analysis)
    return out + [f"Missing: {line}" for line in run.missing]


def _pictures(run: RunFolder) -> str:
    if run.labels is None:
        return ""
    out = []
    tops = {n: run.typical(n) or float(v.max()) for n, v in run.volumes.items()}
    for place in run.places[:PICTURES]:
        region = run.labels == place.label
        if not region.any():
            continue
        figure = region_figure(run.volumes, tops, region, run.voxel_nm, run.truth)
        name = f"feature-{place.label}"
        text = f"{place.name}: {place.verdict}. Its border is the white line; all elements add like light."
        out.append(
            f"<div>{inline(figure, f'{place.name} and what surrounds it, in three planes', name, text)}"
            f"<p><button type=button data-region={place.label}>show {html.escape(place.name)} in the "
            f"volume</button></p>"
            "</div>"
        )
    return f"<div class=features>{''.join(out)}</div>" if out else ""


# ---------------------------------------------------------------- limits


def elongation(tilts_deg: tuple[float, ...]) -> float:
    """How much longer than wide a point comes out along the beam; inf where there is one tilt only.

    For a single axis and the largest tilt t: sqrt((t + sin t cos t) / (t - sin t cos t)), M. Radermacher, "Weighted
    back-projection methods", in Electron Tomography (1992), after which linear methods are judged.
    """
    reach = np.radians((max(tilts_deg) - min(tilts_deg)) / 2)
    both = float(np.sin(reach) * np.cos(reach))
    return float(np.sqrt((reach + both) / (reach - both))) if reach > 0 else math.inf


def _limits(run: RunFolder) -> str:
    lines = [
        f"Nothing smaller than about one voxel, {run.voxel_nm:g} nm, and nothing between voxels.",
    ]
    if run.alignment is not None and len(run.alignment.tilts_deg) > 1:
        tilts = run.alignment.tilts_deg
        low, high = min(tilts), max(tilts)
        missing = 180 - (high - low)
        step = float(np.median(np.diff(np.sort(tilts))))
        where = np.argwhere(run.inside)
        size = float(np.max(np.ptp(where[:, [0, 2]], axis=0)) + 1) * run.voxel_nm if len(where) else 0.0
        blur = (
            f", by a factor of about {elongation(tilts):.2f} for methods without a regulariser" if missing > 0 else ""
        )
        lines.append(
            f"Tilts from {low:g} to {high:g} degrees leave a wedge of {missing:g} degrees unseen: faces that lie "
            f"across the beam are blurred along it{blur}."
        )
        lines.append(
            f"Tilts every {step:g} degrees resolve about {float(f'{size * np.radians(step):.2g}'):g} nm at the rim of "
            "this particle by Crowther's rule; a regulariser bridges gaps by assuming smooth densities, and can fill a "
            "small hole or flatten a small peak."
        )
    faint = [
        f"{html.escape(n)} below {least:.2f} of its pure phase at {html.escape(p.name)}"
        for p in run.places
        for n, a in p.amounts.items()
        if math.isfinite(least := a.smallest if math.isfinite(a.smallest) else a.high95 if a.low95 <= 0 else math.nan)
    ]
    if faint:
        lines.append(f"Amounts that the counts cannot tell from none: {'; '.join(faint)}.")
    lines.append(
        "The object's handedness, which is as the signs of the tilts say, and where it lies as a whole; and whatever "
        "changed while it was recorded."
    )
    return "<ul>" + "".join(f"<li>{line.replace(' -', ' &minus;')}</li>" for line in lines) + "</ul>"


# ---------------------------------------------------------------- figures of the whole


def composition_tables(run: RunFolder) -> str:
    """Totals, pure phases and shares of the elements, and of pairs."""
    analysis = run.job.analysis
    rows = [
        [html.escape(n), f"{e.total:.0f}", f"{e.typical_density:.4g}", f"{e.fraction_of_particle:.1%}"]
        for n, e in analysis.elements.items()
    ]
    out = table(
        ["element", "total counts", "typical density, counts per voxel", "present in"], rows, "composition",
        "each element in the particle",
    )  # fmt: skip
    pairs = [[html.escape(p), f"{v.both:.1%}", f"{v.correlation:+.2f}"] for p, v in analysis.pairs.items()]
    if pairs:
        out += table(["pair", "both present", "correlation"], pairs, "pairs", "pairs of elements")
    if run.places:
        out += amounts_table(run)
    return out


def amounts_table(run: RunFolder) -> str:
    """Every region and element, with intervals where there are any."""

    def cell(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.3g}"

    rows = [
        [html.escape(f"{p.name}: {n}"), *map(cell, (a.density, a.fraction, a.low68, a.high68, a.low95, a.high95))]
        for p in run.places
        for n, a in p.amounts.items()
    ]
    heads = ["place", "density", "of pure phase", "68 % from", "to", "95 % from", "to"]
    return table(heads, rows, "regions", "what each place holds")


NOT_INCLUDED = (
    "An interval says how far the figure would move if the same object were recorded again with the same counts and "
    "reconstructed in the same way. It does not include what would be the same in each recording: the smoothing by the "
    "regulariser, the missing wedge, and errors of alignment, exposure and background. So it covers the truth less "
    "often than it states, most where details are fine. The bias is what a second reconstruction adds to the first."
)


def repeatability(analysis: Analysis) -> str:
    """Intervals of figures from replicates, and how many there were."""
    found = analysis.uncertainty

    def row(element: str, name: str, i: Interval) -> list[str]:
        return [html.escape(f"{element}: {name}"), f"{i.low:.4g}", f"{i.high:.4g}", f"{i.sd:.2g}", f"{i.bias:+.2g}"]

    rows = [row(element, name, i) for element, u in found.items() for name, i in u.intervals.items()]
    said = []
    for element, u in found.items():
        short = "" if u.replicates == u.asked else f" of {u.asked} (stopped by the user)"
        loose = u.replicates - u.converged
        late = f"; {loose} of them did not converge" if loose else ""
        said.append(f"{element}: {u.replicates} replicates{short}, {u.noise.capitalize()} noise{late}")
    level = next((i.level for u in found.values() for i in u.intervals.values()), 0.68)
    heads = ["figure", f"{level:.0%} from", "to", "standard deviation", "bias"]
    return (
        f"<p>{html.escape('; '.join(said))}. Each replicate is drawn from the fitted model and reconstructed.</p>"
        f"{table(heads, rows, 'repeatability', 'repeatability of the figures')}<p class=note>{NOT_INCLUDED}</p>"
    )
