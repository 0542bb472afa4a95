"""How a run is judged: maps against re-projections in standard deviations, and what no tilt saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.agreement import STEPS, ZERO
from recon.io.alignment import AlignmentRecord
from recon.report.alignment import FRAMES
from recon.report.drawing import PAGE_MM, inline, legend, new_figure
from recon.report.slices import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LIMIT = 4.0  # standard deviations that the colours span


def judge_section(alignment: AlignmentRecord, folder: Path) -> str:
    """Residuals and the missing wedge, with a sentence each that says what a good one looks like."""
    parts = []
    frames = _frames(folder, len(alignment.tilts_deg))
    if frames:
        text = (
            "Maps, re-projections of the result, and their difference in standard deviations of the noise, at the "
            "outer "
            "tilts and the middle one. A good one is grain without shape: an outline or a domain in the last column is "
            "something that the model does not explain."
        )
        figure = residual_figure(frames, alignment.tilts_deg)
        parts.append(inline(figure, "maps, re-projections and residuals", "residuals", text))
    text = (
        "Left, all residuals against what noise alone would give: in a good run the bars follow the line; wider means "
        "misfit, narrower that the result follows the noise. Right, the part of Fourier space that the tilts see, "
        "across "
        "the tilt axis: each line is a tilt; faces whose normals point into the grey wedge are blurred along the beam."
    )
    residual = frames.get("residual")
    parts.append(inline(wedge_figure(alignment.tilts_deg, residual), "residuals and missing wedge", "wedge", text))
    return "".join(parts)


def _frames(folder: Path, n_tilts: int) -> dict[str, NDArray[np.uint8]]:
    """Maps, re-projections and residuals; none where the run kept no such pictures, which the alignment tells of."""
    try:
        with np.load(folder / FRAMES, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("after", "model", "residual")}
    except Exception:  # a damaged archive makes NumPy raise nearly any type
        return {}
    return found if all(f.ndim == 3 and len(f) == n_tilts for f in found.values()) else {}


def residual_figure(
    frames: dict[str, NDArray[np.uint8]], tilts_deg: tuple[float, ...], width_mm: float = PAGE_MM
) -> Figure:
    """Map, re-projection and standardised residual at the lowest, middle and highest tilt.

    Args:
        frames: ``after``, ``model``, ``residual`` ``(tilt, y, x)``, see `recon.analysis.agreement.Agreement.frames`.
        tilts_deg: ``(tilt,)``.
        width_mm: of the figure.
    """
    import matplotlib as mpl

    order = np.argsort(tilts_deg)
    chosen = list(dict.fromkeys(int(order[k]) for k in (0, len(order) // 2, -1)))
    panels, names = [], []
    for i in chosen:
        maps = [mpl.colormaps["inferno"](frames[n][i] / 255)[..., :3] for n in ("after", "model")]
        level = frames["residual"][i].astype(np.float64)
        shade = mpl.colormaps["RdBu_r"](0.5 + (level - ZERO) / STEPS / (2 * LIMIT))[..., :3]
        panels.append([*maps, np.where((level > 0)[..., None], shade, 0.85)])
        names.append(f"{tilts_deg[i]:g} degrees".replace("-", "\u2212"))
    titles = ["map, aligned, per exposure", "re-projection", f"difference, \u2212{LIMIT:g} to {LIMIT:g} deviations"]
    return Sheet.of(panels).draw(titles, names, width_mm)[0]


def wedge_figure(tilts_deg: tuple[float, ...], residual: NDArray[np.uint8] | None, width_mm: float = PAGE_MM) -> Figure:
    """Residuals against a normal distribution, and what the tilts see of Fourier space.

    Args:
        tilts_deg: ``(tilt,)``.
        residual: see `residual_figure`; None where it was not kept.
        width_mm: of the figure.
    """
    figure, ((bars, wedge),) = new_figure(1, 2, 0.6, width_mm)
    if residual is not None and (residual > 0).any():
        deviations = (residual[residual > 0].astype(np.float64) - ZERO) / STEPS
        edges = np.linspace(-5, 5, 41)
        bars.hist(deviations, bins=edges, density=True, color="0.7", label=f"found, deviation {deviations.std():.2f}")
        bars.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="0.1", linewidth=1.2, label="noise alone")
        legend(bars)
    bars.set_xlabel("residual (standard deviations)")
    bars.set_ylabel("part of the pixels per deviation")
    low, high = min(tilts_deg), max(tilts_deg)
    if high - low < 180:
        # at tilt t the detector's axis, the line of Fourier space that is seen, is (x, z) = (cos t, sin t)
        unseen = np.radians(np.linspace(high, low + 180, 60))
        for turn in (0, np.pi):
            x, z = np.cos(unseen + turn), np.sin(unseen + turn)
            wedge.fill(np.append(x, 0), np.append(z, 0), color="0.82")
    for t in np.radians(tilts_deg):
        wedge.plot([-np.cos(t), np.cos(t)], [-np.sin(t), np.sin(t)], color="0.2", linewidth=0.8)
    wedge.set_aspect("equal")
    wedge.set_xlabel("frequency along x")
    wedge.set_ylabel("frequency along z (beam)")
    wedge.set_xticks([])
    wedge.set_yticks([])
    return figure
