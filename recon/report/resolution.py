"""Resolution in the report: how two halves of the counts agree, frequency by frequency."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.resolution import CONE_DEG, THRESHOLD, ShellCorrelation
from recon.report.drawing import COLOURS, PAGE_MM, inline, new_figure, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "whole": ("all directions", "-"),
    "across": ("across beam and tilt axis (x)", "--"),
    "axis": ("along the tilt axis (y)", "-."),
    "along": ("along the beam (z)", ":"),
}


def resolution_section(found: Mapping[str, ShellCorrelation]) -> str:
    """Curves and the periods at which they fall below the threshold; what a run without halves lacks."""
    if not found:
        return (
            "<p class=note>The resolution was not measured: the run made no halves (halves = false in [reconstruct], "
            "maps that are no counts, too little memory, or an older version).</p>"
        )
    rows = [[html.escape(name), *(period(curves, key) for key in CURVES)] for name, curves in found.items()]
    heads = ["element", *(f"{words}, nm" for words, _ in CURVES.values())]
    text = (
        "The counts were divided by chance into two independent halves, each half was reconstructed, and the two "
        "volumes are compared frequency by frequency (Fourier shell correlation): 1 where they agree, 0 where there "
        f"is only noise. A good curve stays near 1 and falls once; where it crosses {THRESHOLD:g} lies the resolution "
        "of all counts together. The curve along the beam falls first, for there the missing wedge lies. Both halves "
        "share the regulariser, which smooths both alike, so these numbers say what the counts repeat, not that it is "
        "right: read them beside the width of the particle's surface."
    )
    figure = resolution_figure(found)
    caption = f"resolution at a correlation of {THRESHOLD:g}, within {CONE_DEG:g} degrees of each direction"
    curves = inline(figure, "Fourier shell correlation of two halves of the counts", "resolution", text)
    return curves + table(heads, rows, "resolution", caption)


def period(curves: ShellCorrelation, key: str = "whole") -> str:
    """Where a curve falls below the threshold, nm, in words."""
    found, least = curves.resolution_nm(key), 2 * curves.voxel_size_nm
    if np.isinf(found):
        return "none"
    return f"{least:.3g} or better" if found <= least else f"{found:.3g}"


def resolution_figure(found: Mapping[str, ShellCorrelation], width_mm: float = PAGE_MM) -> Figure:
    """Fourier shell correlation of each element's halves, in all directions and along three.

    Args:
        found: element to curves, as from `recon.resolution`.
        width_mm: of the figure.
    """
    figure, axes = new_figure(1, max(2, len(found)), 0.75, width_mm)
    for axis in axes[0, len(found) :]:
        axis.remove()
    for i, (axis, (name, curves)) in enumerate(zip(axes[0], found.items(), strict=False)):
        frequency = np.array(curves.frequency) / curves.voxel_size_nm
        for key, (words, style) in CURVES.items():
            colour = COLOURS[i % len(COLOURS)] if key == "whole" else "0.25"
            wide = 1.8 if key == "whole" else 1.0
            axis.plot(frequency, getattr(curves, key), style, color=colour, linewidth=wide, label=words)
        axis.axhline(THRESHOLD, color="0.6", linewidth=0.8)
        axis.set_ylim(-0.1, 1.03)
        axis.set_xlim(0, None)
        axis.set_title(name)
        axis.set_xlabel("frequency (1 / nm)")
        axis.legend(fontsize=6, loc="lower left")
    axes[0][0].set_ylabel("correlation of the halves")
    return figure
