"""Maps that cannot take part: blank, saturated, carried out of the frame, or so shadowed that they only hurt.

Rules on the counts themselves, before anything is estimated. What contradicts the other tilts is found later,
by `recon.align`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.series.channels import check_each, share_of_all, together
from recon.series.checks import remaining
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

BORDER = "the object touches the frame's border, there only"  # why a map is left out
BLANK = 0.02  # of the typical total
JUMP = 4.0  # times a total may differ from those of its neighbours
PLATEAU = 0.005  # of all pixels at exactly the largest value
BLOCKS = 8  # along a frame's edge, whose totals tell whether a map shows anything


def leave_out(series: TiltSeries, reasons: dict[int, str]) -> TiltSeries:
    """Give every pixel of some tilts weight 0, and say why: in `left_out`, and in the history.

    Args:
        series: any.
        reasons: position of a tilt to why it is left out.

    Raises:
        InputError: fewer than three tilts would remain, or these too close together.
    """
    if not reasons:
        return series
    weights = series.seen.copy()
    weights[list(reasons)] = 0
    more = tuple((int(i), why) for i, why in sorted(reasons.items()))
    lines = [_line(series, i, why) for i, why in more]
    used, single = np.asarray(weights.any(axis=(1, 2))), series.scheme is None
    told = remaining(series.tilts_deg, used, single, f"(the first problem: {lines[0]})")
    remarks = tuple(dict.fromkeys((*series.remarks, *told)))
    history = (*series.history, *(f"warning: {line}" for line in (*lines, *told)))
    out = series.evolve(weights=weights, left_out=(*series.left_out, *more), history=history, remarks=remarks)
    return out if series.element_weights is None else check_each(out, f"(the first problem: {lines[0]})")


def screen(series: TiltSeries) -> TiltSeries:
    """The series without the maps that cannot take part; `left_out` names each, with the reason.

    Raises:
        InputError: fewer than three tilts remain.
    """
    return leave_out(series, unusable(series))


def unusable(series: TiltSeries) -> dict[int, str]:
    """Position of a tilt to why its map cannot take part."""
    total, there = together(series)
    seen = series.seen * there if series.element_weights is not None else series.seen.astype(np.float64)
    area = seen.sum(axis=(1, 2), dtype=np.float64)
    take = area > 0
    level = np.where(take, (total * seen).sum(axis=(1, 2)) / np.maximum(area, 1), 0) / share_of_all(series)
    if series.scaled:  # values without a unit: only their absence says anything
        return {int(i): "blank, every pixel is 0" for i in np.flatnonzero(take & ~(total * seen).any(axis=(1, 2)))}
    typical = float(np.median(level[take])) if take.any() else 0.0
    structure = np.array([_structure(m, s) for m, s in zip(total, seen, strict=True)])
    shown = float(np.median(structure[take])) if take.any() else 1.0
    order = np.argsort(series.tilts_deg)
    order = order[(take & (level > BLANK * typical))[order]]
    out: dict[int, str] = {}
    for i in np.flatnonzero(take):
        near = level[_neighbours(order, int(i))]
        counts = float((total[i] * seen[i]).sum())
        if level[i] <= BLANK * typical:
            out[int(i)] = f"blank, {counts:.0f} counts in all where {typical * area[i]:.0f} are typical"
            if not counts:
                hidden = total[i].any()
                out[int(i)] = (
                    "all its counts are in pixels that are left out" if hidden else "blank, it holds no counts"
                )
        elif shown > 4 and structure[i] < 1.5:
            out[int(i)] = f"blank, its {counts:.0f} counts are spread like noise over the frame"
        elif (plateau := _plateau(total[i], seen[i])) > 0:
            out[int(i)] = f"saturated, {plateau} pixels share the largest value {float((total[i] * seen[i]).max()):.0f}"
        elif len(near) >= 2 and not near.min() / JUMP < level[i] < near.max() * JUMP:
            out[int(i)] = f"{counts:.0f} counts in all, its neighbours {float(np.median(near)) * area[i]:.0f}"
    return out


def _neighbours(order: NDArray[np.intp], i: int) -> NDArray[np.intp]:
    """Up to two tilts on each side of tilt i, of those in `order`."""
    at = np.flatnonzero(order == i)
    if not at.size:
        return order[:0]
    k = int(at[0])
    return np.concatenate([order[max(k - 2, 0) : k], order[k + 1 : k + 3]])


def _structure(image: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Variance of the counts of large blocks over their mean: 1 for a map of nothing but noise."""
    rows, columns = (np.linspace(0, n, BLOCKS + 1).astype(int)[:-1] for n in image.shape)

    def totals(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.add.reduceat(a, np.unique(rows)), np.unique(columns), axis=1).ravel())

    blocks, areas = totals(image * seen), totals(seen)
    whole = areas > 0.5 * areas.max() if areas.max() > 0 else areas > 0
    if whole.sum() < 3:
        return 1.0
    expected = blocks[whole].sum() * areas[whole] / areas[whole].sum()
    return float(np.sum((blocks[whole] - expected) ** 2 / np.maximum(expected, 1e-9)) / (whole.sum() - 1))


def _plateau(image: NDArray[np.float64], seen: NDArray[np.float64]) -> int:
    """Pixels at exactly the largest value, where that is more than chance would put there; else 0."""
    values = image[seen > 0]
    top = values.max()
    if top < 16:
        return 0
    count = int((values == top).sum())
    return count if count >= max(8, PLATEAU * values.size) else 0


def warnings(series: TiltSeries) -> tuple[str, ...]:
    """What a person should be told of the maps, one line each: tilts left out, and other remarks."""
    return (*(_line(series, i, why) for i, why in series.left_out), *series.remarks)


def _line(series: TiltSeries, i: int, why: str) -> str:
    return f"tilt {series.tilts_deg[i]:g} left out: {why}"
