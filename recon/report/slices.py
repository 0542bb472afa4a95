"""Pictures of volumes: planes through the particle, projections, and each region where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.report.drawing import COLOURS, INCH_MM, PAGE_MM, one_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PLANES = ("z", "y", "x")
DIRECTIONS = {"z": "y down, x right", "y": "z down, x right", "x": "y down, z right"}
Volumes = Mapping[str, "NDArray[np.float32]"]
Cut = Callable[["NDArray[Any]"], "NDArray[Any]"]


def plane(values: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """One plane of a volume ``(z, y, x)``, turned as the page shows it: see `DIRECTIONS`."""
    found: NDArray[Any] = np.take(values, at, axis=axis)
    return found.T if axis == 2 else found


def _sum(values: NDArray[Any], axis: int) -> NDArray[Any]:
    return plane(values.sum(axis=axis, keepdims=True), axis, 0)


def composite(images: Volumes, tops: Mapping[str, float]) -> NDArray[np.float64]:
    """Images of several elements added as light, full at `tops`; ``(row, column, 3)``."""
    first = next(iter(images.values()))
    out = np.zeros((*first.shape, 3))
    for i, (name, image) in enumerate(images.items()):
        level = np.clip(image / max(tops[name], 1e-30), 0, 1)
        out += level[..., None] * np.array(COLOURS[i % len(COLOURS)])
    return np.clip(out, 0, 1)


def nice(length: float) -> float:
    """1, 2 or 5 times a power of ten, at most `length`."""
    step = 10 ** np.floor(np.log10(length))
    return float(max(k * step for k in (1, 2, 5) if k * step <= length * 1.0001))


def scale_bar(axis: Axes, shape: tuple[int, ...], voxel_nm: float) -> None:
    """A bar in the lower left of a picture of `shape` pixels."""
    rows, columns = shape[:2]
    bar = nice(0.3 * columns * voxel_nm)
    left, low = 0.04 * columns, 0.95 * rows
    axis.plot([left, left + bar / voxel_nm], [low] * 2, color="white", linewidth=2.5, solid_capstyle="butt")
    axis.text(left, low - 0.02 * rows, f"{bar:g} nm", color="white", fontsize=7, va="bottom")


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures in rows and columns as one image: an axis for each of them would take ten times as long to draw.

    Attributes:
        picture: ``(row, column, 3)``.
        tops, lefts: where each row and column begins, pixels.
    """

    picture: NDArray[np.float64]
    tops: list[int]
    lefts: list[int]

    @classmethod
    def of(cls, panels: list[list[NDArray[np.float64]]]) -> Sheet:
        """Lay out panels ``(row, column, 3)``; those of a row may differ in size."""
        heights = [max(p.shape[0] for p in row) for row in panels]
        widths = [max(row[c].shape[1] for row in panels) for c in range(len(panels[0]))]
        gap = max(1, round(0.03 * max(widths)))
        tops = [sum(heights[:r]) + gap * r for r in range(len(heights))]
        lefts = [sum(widths[:c]) + gap * c for c in range(len(widths))]
        picture = np.ones((tops[-1] + heights[-1], lefts[-1] + widths[-1], 3))
        for top, row in zip(tops, panels, strict=True):
            for left, panel in zip(lefts, row, strict=True):
                picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        return cls(picture, tops, lefts)

    def draw(self, titles: list[str], names: list[str], width_mm: float) -> tuple[Figure, Axes]:
        """A figure with a title above each column and a name beside each row."""
        rows, columns = self.picture.shape[:2]
        inches = width_mm / INCH_MM
        left, top = 0.22 / inches, 0.22  # inches for names and titles
        tall = (inches - 0.22) * rows / columns
        figure, axis = one_axis(width_mm, tall + top, (left, 0.0, 1 - left, tall / (tall + top)))
        axis.imshow(self.picture, interpolation="none", aspect="auto")
        axis.set_axis_off()
        edges = [*self.lefts[1:], columns]
        for title, start, stop in zip(titles, self.lefts, edges, strict=True):
            axis.text((start + stop - 1) / 2, -0.5 - 0.01 * rows, title, ha="center", va="bottom", fontsize=7)
        edges = [*self.tops[1:], rows]
        for name, start, stop in zip(names, self.tops, edges, strict=True):
            axis.text(
                -0.5 - 0.01 * columns, (start + stop - 1) / 2, name, ha="right", va="center", fontsize=7, rotation=90
            )
        return figure, axis


def _coloured(image: NDArray[Any], top: float) -> NDArray[np.float64]:
    import matplotlib as mpl

    return np.asarray(mpl.colormaps["inferno"](np.clip(image / max(top, 1e-30), 0, 1))[..., :3])


def _grid(
    sources: list[tuple[str, Volumes]], cuts: Sequence[Cut], titles: list[str], voxel: float, width_mm: float
) -> Figure:
    names = list(sources[0][1])
    tops = {n: float(np.percentile(sources[0][1][n], 99.8)) for n in names}
    planes = [[{n: cut(images[n]) for n in names} for cut in cuts] for _, images in sources]
    limits = [{n: max(float(np.percentile(p[n], 99.8)), 0.05 * tops[n]) for n in names} for p in planes[0]]
    panels, said = [], []
    for (label, _), row in zip(sources, planes, strict=True):
        for name in names:
            panels.append([_coloured(p[name], limit[name]) for p, limit in zip(row, limits, strict=True)])
            said.append(name + label)
        if len(names) > 1:
            panels.append([composite(p, limit) for p, limit in zip(row, limits, strict=True)])
            said.append(" + ".join(names) + label)
    figure, axis = Sheet.of(panels).draw(titles, said, width_mm)
    scale_bar(axis, panels[0][0].shape, voxel)
    return figure


def _sources(volumes: Volumes, truth: Volumes) -> list[tuple[str, Volumes]]:
    return [("", volumes)] + ([(", truth", truth)] if truth and set(truth) == set(volumes) else [])


def slices(
    volumes: Volumes, inside: NDArray[Any], voxel: float, truth: Volumes | None = None, width_mm: float = PAGE_MM
) -> Figure:
    """Planes across the three axes through the middle of the mask, truth below where it is known.

    Args:
        volumes, truth: element to ``(z, y, x)``.
        inside: ``(z, y, x)`` bool.
        voxel: edge, nm.
        width_mm: of the figure.
    """
    where = np.argwhere(inside) if inside.any() else np.argwhere(np.ones_like(inside))
    middle = np.round(where.mean(axis=0)).astype(int)
    cuts = [partial(plane, axis=axis, at=int(middle[axis])) for axis in range(3)]
    titles = [f"{p} = {middle[axis]}: {DIRECTIONS[p]}" for axis, p in enumerate(PLANES)]
    return _grid(_sources(volumes, truth or {}), cuts, titles, voxel, width_mm)


def projections(volumes: Volumes, voxel: float, truth: Volumes | None = None, width_mm: float = PAGE_MM) -> Figure:
    """Sums along the three axes, truth below where it is known; arguments as of `slices`."""
    cuts = [partial(_sum, axis=axis) for axis in range(3)]
    titles = [f"sum along {p}: {DIRECTIONS[p]}" for p in PLANES]
    return _grid(_sources(volumes, truth or {}), cuts, titles, voxel, width_mm)


def region_figure(
    volumes: Volumes,
    tops: Mapping[str, float],
    region: NDArray[np.bool_],
    voxel: float,
    truth: Volumes | None = None,
    width_mm: float = PAGE_MM,
) -> Figure:
    """A region where it lies: three planes through its middle with its border, truth below where it is known.

    Args:
        volumes, truth: element to ``(z, y, x)``.
        tops: density that is shown as full brightness: that of the pure phase.
        region: ``(z, y, x)``.
        voxel: edge, nm.
    """
    where = np.argwhere(region)
    middle = np.round(where.mean(axis=0)).astype(int)
    middle = where[np.argmin(np.abs(where - middle).sum(axis=1))]  # of a bent region the mean may lie outside
    reach = int(np.ceil(1.0 * (where.max(axis=0) - where.min(axis=0)).max())) + 3
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, region.shape)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    sources = _sources(volumes, truth or {})
    panels = []
    borders = [plane(region[window], k, int(middle[k] - low[k])) for k in range(3)]
    for _, images in sources:
        cuts = [{n: plane(v[window], k, int(middle[k] - low[k])) for n, v in images.items()} for k in range(3)]
        panels.append([composite(c, tops) for c in cuts])
    titles = [f"{p} = {middle[k]}: {DIRECTIONS[p]}" for k, p in enumerate(PLANES)]
    names = ["reconstruction", "truth"][: len(sources)] if len(sources) > 1 else [""]
    sheet = Sheet.of(panels)
    figure, drawn = sheet.draw(titles, names, width_mm)
    lines = [
        [(x + left, y + top) for x, y in line]
        for top in sheet.tops
        for left, border in zip(sheet.lefts, borders, strict=True)
        for line in outline(border)
    ]
    from matplotlib.collections import LineCollection

    drawn.add_collection(LineCollection(lines, colors="white", linewidths=1))
    scale_bar(drawn, panels[0][0].shape, voxel)
    return figure


def outline(inside: NDArray[np.bool_]) -> list[list[tuple[float, float]]]:
    """The border of a set of pixels ``(row, column)``: lines from ``(x, y)`` to ``(x, y)`` along their edges."""
    padded = np.pad(inside, 1)
    lines = []
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        lines.append([(column - 0.5, row - 0.5), (column - 0.5, row + 0.5)])
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        lines.append([(column - 0.5, row - 0.5), (column + 0.5, row - 0.5)])
    return lines
