"""Statistics of two elements: what they share, how their phases lie, how sharply they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.composition import PRESENT, typical_density
from recon.analysis.connectivity import Connectivity, connectivity, left_over, without_specks
from recon.analysis.interfaces import SPREAD, Width, area, border_width, edge_width, surface
from recon.analysis.phases import BOTH, EMPTY, FIRST, MATTER, SECOND, Phases, phases

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PairStatistics:
    """Two elements in one particle. Fractions are parts of the matter, lengths voxels, areas faces of a voxel.

    Attributes:
        pure: densities of the pure phases, in the unit of the volumes.
        only_first, only_second, both: parts of the matter that hold one alone, the other alone, both, after borders
            that blur alone has mixed were given to the pure phases beside them.
        both_before: as `both`, before that.
        manders: part of each element's amount that lies where the other is present (M1, M2 of E. Manders et al., J.
            Microsc. 169, 375 (1993)), a quarter of the pure phase being present.
        overlap: Manders' overlap coefficient.
        correlation: Pearson's, over the matter.
        area, area_first_both, area_second_both, outside: between the pure phases, of each with the mixed one, and of
            the particle's surface.
        width: of the border between the pure phases, 10 to 90 %.
        edge: of the particle's surface: the resolution, if the surface is sharp in truth.
        thinnest: a mixed layer between two pure phases that is thinner cannot be told from blur.
        first, second, mixed: how each phase hangs together.
        without_first, without_second: pieces of the rest when a phase is taken away, and the part in the largest.
        chords: mean length of a line inside each phase (first, second, both), 4 V / S: how large its domains are.
    """

    pure: tuple[float, float]
    only_first: float
    only_second: float
    both: float
    both_before: float
    manders: tuple[float, float]
    overlap: float
    correlation: float
    area: float
    area_first_both: float
    area_second_both: float
    outside: float
    width: Width
    edge: Width
    thinnest: float
    first: Connectivity
    second: Connectivity
    mixed: Connectivity
    without_first: tuple[int, float]
    without_second: tuple[int, float]
    chords: tuple[float, float, float]


def pure_densities(
    first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Densities of the two pure phases, where together they fill the particle: ``first / p + second / q = 1``.

    Fitted by least absolute deviations to the voxels away from the surface, in which an element may be pure, mixed or
    absent. A particle in which the two always come in one proportion does not tell them apart; then, and for one too
    small to have an inside, each is the typical density of its element.

    Args:
        first, second: ``(z, y, x)`` densities.
        inside: ``(z, y, x)``, where matter may be; everywhere by default.
    """
    from scipy import ndimage

    everywhere = np.ones(first.shape, bool) if inside is None else inside
    typical = np.array([typical_density(first, everywhere), typical_density(second, everywhere)])
    if not typical.all():
        return float(typical[0]), float(typical[1])
    a, b = first / typical[0], second / typical[1]
    deep = ndimage.binary_erosion((a + b > MATTER) & everywhere, iterations=2)
    rows = np.stack([a[deep], b[deep]], axis=1).astype(np.float64)
    if len(rows) < 50:
        return float(typical[0]), float(typical[1])
    weights: NDArray[np.float64] = np.ones(len(rows))
    inverse: NDArray[np.float64] = np.ones(2)
    for _ in range(30):  # least absolute deviations by reweighting
        normal = (rows * weights[:, None]).T @ rows
        if np.linalg.cond(normal) > 1e3:
            return float(typical[0]), float(typical[1])
        inverse = np.linalg.solve(normal, rows.T @ weights).astype(np.float64)
        weights = 1 / np.maximum(np.abs(rows @ inverse - 1), 0.02)
    if inverse.min() < 0.25 or inverse.max() > 4:  # not what two phases look like
        return float(typical[0]), float(typical[1])
    return float(typical[0] / inverse[0]), float(typical[1] / inverse[1])


def pair_phases(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    pure: tuple[float, float] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> tuple[Phases, Width, tuple[float, float]]:
    """Phases, the width of the particle's surface that stands for the blur, and the pure phases' densities.

    Arguments as of `pair_statistics`.
    """
    if pure is None:
        pure = pure_densities(first, second, inside)
    edge = edge_width(first, second, pure)
    blur = edge.width / SPREAD if np.isfinite(edge.width) else 1.0
    return phases(first, second, pure, inside=inside, blur=blur), edge, pure


def pair_statistics(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    pure: tuple[float, float] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> PairStatistics:
    """Statistics of two elements of a reconstruction.

    Args:
        first, second: ``(z, y, x)`` densities.
        pure: densities of their pure phases; by default `pure_densities`.
        inside: ``(z, y, x)``, where matter may be; everywhere by default.

    Raises:
        InputError: shapes that differ, or an element without density.
    """
    found, edge, pure = pair_phases(first, second, pure, inside)
    labels = found.labels
    matter = without_specks(labels != EMPTY)[0]
    labels = np.where(matter, labels, EMPTY).astype(np.uint8)
    found = Phases(labels, found.blurred & matter, found.share, found.thinnest)
    only_first, only_second, both = found.fractions()
    before = float(np.mean(found.blurred[matter] | (labels[matter] == BOTH))) if matter.any() else float("nan")
    a, b = (np.maximum(v, 0)[matter].astype(np.float64) for v in (first, second))
    has_a, has_b = a > PRESENT * pure[0], b > PRESENT * pure[1]
    varied = a.size > 1 and a.std() > 0 and b.std() > 0
    phase = {k: labels == k for k in (FIRST, SECOND, BOTH)}
    chords = []
    for k, voxels in phase.items():
        border = sum(area(labels, k, other) for other in (EMPTY, FIRST, SECOND, BOTH) if other != k)
        chords.append(4 * float(np.count_nonzero(voxels)) / border if border else float("nan"))
    return PairStatistics(
        pure, only_first, only_second, both, before,
        (_part(a, has_b), _part(b, has_a)),
        float((a @ b) / np.sqrt((a @ a) * (b @ b))) if varied else float("nan"),
        float(np.corrcoef(a, b)[0, 1]) if varied else float("nan"),
        area(labels, FIRST, SECOND), area(labels, FIRST, BOTH), area(labels, SECOND, BOTH), surface(found),
        border_width(found), edge, found.thinnest,
        connectivity(phase[FIRST]), connectivity(phase[SECOND]), connectivity(phase[BOTH]),
        left_over(matter, phase[FIRST]), left_over(matter, phase[SECOND]),
        (chords[0], chords[1], chords[2]),
    )  # fmt: skip


def _part(amount: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    total = float(amount.sum())
    return float(amount[where].sum()) / total if total > 0 else float("nan")


def mixing(found: Phases) -> NDArray[np.float32]:
    """Map of mixing ``(z, y, x)``: 0 in pure phases, 1 where both share a place evenly, 0 where there is no matter."""
    share = np.nan_to_num(found.share, nan=0.0)
    return (4 * share * (1 - share)).astype(np.float32)


__all__ = ["MATTER", "PairStatistics", "mixing", "pair_phases", "pair_statistics"]
