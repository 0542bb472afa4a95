"""Figures of series, alignments, volumes and answers, as in the report: ``recon.plot``.

Each function returns a `matplotlib.figure.Figure`, made without pyplot; ``figure.savefig`` writes it. Widths are that
journals print, 89 mm for one column and 183 mm for two.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.answers import Composition
from recon.analysis.mask import mask
from recon.analysis.pairs import pair_phases
from recon.analysis.resolution import ShellCorrelation
from recon.errors import InputError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.alignment import AlignmentRecord, alignment_record
from recon.report.alignment import alignment_figure
from recon.report.drawing import COLOURS, COLUMN_MM, INCH_MM, PAGE_MM, one_axis
from recon.report.resolution import resolution_figure
from recon.report.slices import Sheet, region_figure, scale_bar
from recon.report.slices import projections as projections_figure
from recon.report.slices import slices as slices_figure
from recon.report.statistics import mixing_figure
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "COLUMN_MM", "PAGE_MM", "alignment", "composition", "geometry", "mixing", "projections", "region",
    "resolution", "series", "volumes",
]  # fmt: skip


def series(found: TiltSeries, maps: int = 5, width_mm: float = PAGE_MM) -> Figure:
    """Maps of each element at a few tilts, evenly chosen, from the least to the largest.

    Args:
        found: as from `recon.read`.
        maps: how many tilts.
        width_mm: of the figure.

    Raises:
        InputError: fewer than one map was asked for.
    """
    if maps < 1:
        raise InputError(f"maps is {maps}; show at least one")
    order = np.argsort(found.tilts_deg)
    chosen = order[np.unique(np.linspace(0, found.n_tilts - 1, min(maps, found.n_tilts)).round().astype(int))]
    panels = []
    for stack in found.counts:
        top = max(float(np.percentile(stack, 99.8)), 1e-30)
        panels.append([_inferno(stack[i] / top) for i in chosen])
    titles = [f"{found.tilts_deg[i]:g} degrees".replace("-", "\u2212") for i in chosen]
    figure, axis = Sheet.of(panels).draw(titles, list(found.elements), width_mm)
    scale_bar(axis, found.frame, found.pixel_size_nm)
    return figure


def _inferno(image: NDArray[np.float32]) -> NDArray[np.float64]:
    import matplotlib as mpl

    return np.asarray(mpl.colormaps["inferno"](np.clip(image, 0, 1))[..., :3])


def alignment(found: TiltSeries | AlignmentRecord) -> Figure:
    """Shifts, exposures and what is left of both against the re-projections, by tilt, with standard errors.

    Args:
        found: an aligned series, or the record in a run's ``alignment.json``.
    """
    return alignment_figure(found if isinstance(found, AlignmentRecord) else alignment_record(found))


def volumes(
    found: Mapping[str, Volume], truth: Mapping[str, NDArray[np.float32]] | None = None, width_mm: float = PAGE_MM
) -> Figure:
    """Planes across the three axes through the middle of the particle, each element and all together.

    Args:
        found: element to volume, as from `recon.reconstruct`.
        truth: element to ``(z, y, x)``, drawn below.
        width_mm: of the figure.

    Raises:
        InputError: there are no volumes.
    """
    values, size = _values(found)
    return slices_figure(values, mask(found), size, truth, width_mm)


def projections(
    found: Mapping[str, Volume], truth: Mapping[str, NDArray[np.float32]] | None = None, width_mm: float = PAGE_MM
) -> Figure:
    """Sums along the three axes; arguments as of `volumes`."""
    values, size = _values(found)
    return projections_figure(values, size, truth, width_mm)


def region(
    found: Mapping[str, Volume], inside: NDArray[np.bool_], pure: Mapping[str, float], width_mm: float = PAGE_MM
) -> Figure:
    """A region where it lies, with its border, all elements added as light.

    Args:
        found: element to volume.
        inside: ``(z, y, x)``, the region.
        pure: element to the density of its pure phase, shown as full brightness.
        width_mm: of the figure.

    Raises:
        InputError: the region is empty or of another shape.
    """
    values, size = _values(found)
    shape = next(iter(values.values())).shape
    if inside.shape != shape or not inside.any():
        raise InputError(f"the region has the shape {inside.shape} or is empty; it must be {shape}")
    return region_figure(values, pure, inside.astype(bool), size, None, width_mm)


def mixing(found: Mapping[str, Volume], width_mm: float = PAGE_MM) -> Figure:
    """Phases, map of mixing, and shares of the first two elements.

    Raises:
        InputError: there are fewer than two elements.
    """
    values, size = _values(found)
    pair = next(combinations(values, 2), None)
    if pair is None:
        raise InputError(f"there is one element, {next(iter(values))}; mixing needs two")
    phases = pair_phases(values[pair[0]], values[pair[1]], inside=mask(found))[0]
    return mixing_figure(pair, phases, size, width_mm)


def composition(answers: Composition, width_mm: float = COLUMN_MM) -> Figure:
    """What each region holds of each element: fraction of the pure phase, with 68 and 95 % intervals.

    Args:
        answers: from `recon.composition`.
        width_mm: of the figure.
    """
    names = list(answers.regions)
    elements = list(next(iter(answers.regions.values())).elements) if names else []
    rows = max(1, len(names))
    inches = width_mm / INCH_MM
    height = 0.55 + 0.2 * rows * max(1, len(elements))
    figure, axis = one_axis(width_mm, height, (0.3, 0.42 / height, 0.68, 1 - 0.5 / height))
    for r, name in enumerate(names):
        for e, (element, answer) in enumerate(answers.regions[name].elements.items()):
            at = r + 0.8 * ((e + 0.5) / len(elements) - 0.5)
            colour = COLOURS[e % len(COLOURS)]
            axis.plot([answer.low95, answer.high95], [at, at], color=colour, linewidth=1)
            axis.plot([answer.low68, answer.high68], [at, at], color=colour, linewidth=3, solid_capstyle="butt")
            axis.plot([answer.fraction], [at], "o", color=colour, markersize=4, label=element if r == 0 else None)
    axis.set_yticks(range(len(names)), [f"{n}\n{answers.regions[n].verdict}" for n in names], fontsize=7)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.axvline(0.25, color="0.6", linewidth=0.8, linestyle=":")
    axis.set_xlabel("part of the pure phase", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    if elements:
        axis.legend(fontsize=7, loc="lower right" if inches > 2 else "best")
    return figure


def resolution(found: Mapping[str, ShellCorrelation], width_mm: float = PAGE_MM) -> Figure:
    """Fourier shell correlation of each element's halves, in all directions and along three.

    Args:
        found: from `recon.resolution`.
        width_mm: of the figure.

    Raises:
        InputError: there are no curves.
    """
    if not found:
        raise InputError("there are no curves to show; take them from recon.resolution")
    return resolution_figure(found, width_mm)


def geometry(found: TiltGeometry) -> Figure:
    """The scheme in 3D, what it covers of Fourier space, and the missing wedge."""
    return found.plot()


def _values(found: Mapping[str, Volume]) -> tuple[dict[str, NDArray[np.float32]], float]:
    if not found:
        raise InputError("there are no volumes to show")
    return {n: v.values for n, v in found.items()}, next(iter(found.values())).voxel_size_nm


def __dir__() -> list[str]:
    return list(__all__)
