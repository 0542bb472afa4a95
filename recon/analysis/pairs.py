"""Statistics of two elements: what they share, how their phases lie, how sharply they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.composition import PRESENT
from recon.analysis.connectivity import Connectivity, connectivity, left_over, without_specks
from recon.analysis.interfaces import SPREAD, Width, area, border_width, edge_width, surface
from recon.analysis.pair_phases import BOTH, EMPTY, FIRST, MATTER, SECOND, Phases, check_pair, phases

if TYPE_CHECKING:
    from numpy.typing import NDArray


NOT_PURE = 0.42  # of the other's pure phase, beside an element at its densest: then it is nowhere pure


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
        interface: area between the two phases, where they touch and, where a mixed phase lies between them or beside
            one, the mean of its two borders.
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
    interface: float
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

    @property
    def true_width(self) -> float:
        """Width of the border with the resolution taken out, voxels; 0 where it is as sharp as that, nan if unknown."""
        return float(np.sqrt(np.maximum(self.width.width**2 - self.edge.width**2, 0)))


def pure_densities(
    first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Densities of the two pure phases.

    An element's is the median where its density is highest. If there the other one is present too, the element is
    nowhere pure; then its density is such that both together fill the particle, ``first / p + second / q = 1``, by
    least absolute deviations over the voxels away from the surface.

    Args:
        first, second: ``(z, y, x)`` densities.
        inside: ``(z, y, x)``, where matter may be; everywhere by default.
    """
    everywhere = np.ones(first.shape, bool) if inside is None else inside
    volumes = (first, second)
    highest = [_highest(v, everywhere) for v in volumes]
    peaks = [float(np.median(v[h])) if h.any() else 0.0 for v, h in zip(volumes, highest, strict=True)]
    if not all(peaks):
        return peaks[0], peaks[1]
    beside = [float(np.median(volumes[1 - k][highest[k]])) / peaks[1 - k] for k in range(2)]
    if max(beside) < NOT_PURE:
        return peaks[0], peaks[1]
    filled = _filling(first / peaks[0], second / peaks[1], everywhere)
    return tuple(p / f if b >= NOT_PURE else p for p, f, b in zip(peaks, filled, beside, strict=True))  # type: ignore[return-value]


def _highest(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a density is near the highest that holds over a few voxels."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(values, 1.0)
    return np.asarray(inside & (smooth > 0.8 * float(np.max(smooth, where=inside, initial=0))) & (smooth > 0))


def _filling(first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Factors that make two densities add up to 1 away from the surface; 1 and 1 where that has no one answer."""
    from scipy import ndimage

    deep = ndimage.binary_erosion((first + second > MATTER) & inside, iterations=2)
    rows = np.stack([first[deep], second[deep]], axis=1).astype(np.float64)
    weights: NDArray[np.float64] = np.ones(len(rows))
    factors: NDArray[np.float64] = np.ones(2)
    for _ in range(30 if len(rows) >= 50 else 0):  # least absolute deviations by reweighting
        normal = (rows * weights[:, None]).T @ rows
        if np.linalg.cond(normal) > 1e3:
            return 1.0, 1.0
        factors = np.linalg.solve(normal, rows.T @ weights).astype(np.float64)
        weights = 1 / np.maximum(np.abs(rows @ factors - 1), 0.02)
    usual = factors.min() > 0.25 and factors.max() < 4  # else it is not two phases that fill a particle
    return (float(factors[0]), float(factors[1])) if usual else (1.0, 1.0)


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
    check_pair(first, second, pure)
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
    touching, one_side, other_side = area(labels, FIRST, SECOND), area(labels, FIRST, BOTH), area(labels, SECOND, BOTH)
    return PairStatistics(
        pure, only_first, only_second, both, before,
        (_part(a, has_b), _part(b, has_a)),
        float((a @ b) / np.sqrt((a @ a) * (b @ b))) if varied else float("nan"),
        float(np.corrcoef(a, b)[0, 1]) if varied else float("nan"),
        touching + (one_side + other_side) / 2, touching, one_side, other_side, surface(found),
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
