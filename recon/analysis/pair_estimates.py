"""Statistics of two elements with their intervals, from two reconstructions of independent halves of the counts.

Each half of the first element with each half of the second gives every figure once more, so four times. What the halves
differ in is noise: half the counts have twice the variance of all, and each element's share of it has one degree of
freedom. What the halves have in common but the whole has not is the pull of noise and regulariser: borders that are
wider, small phases that shrink. It is stronger in the halves, so the step from them to the whole, taken once more, is
an estimate of the truth (the jackknife: M. H. Quenouille, Biometrika 43, 353 (1956)); the length of the step counts as
its standard error. What neither shows, such as borders within voxels, is `Kind.unseen`, from simulations:
benchmarks/pair_statistics.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.halves import Halves
from recon.analysis.pairs import PairStatistics, pair_statistics
from recon.errors import InputError
from recon.files import Number
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 3  # pairs of elements that are looked at, the first ones
MARGIN = 3  # voxels around the particle
FREEDOM = 2  # degrees of freedom of the noise: one for each element


@dataclass(frozen=True)
class Kind:
    """A figure of a pair.

    Attributes:
        of: takes it from the statistics.
        unit: ``""`` of a part, ``"voxel"`` of a length, ``"face"`` of an area.
        unseen: its standard error that halves do not show: in its unit, and as a part of the figure itself.
        least, most: that it can be.
    """

    of: Callable[[PairStatistics], float]
    unit: str
    unseen: tuple[float, float]
    least: float = 0.0
    most: float = np.inf


KINDS: dict[str, Kind] = {
    "only_first": Kind(lambda s: s.only_first, "", (0.02, 0.0), 0.0, 1.0),
    "only_second": Kind(lambda s: s.only_second, "", (0.02, 0.0), 0.0, 1.0),
    "both": Kind(lambda s: s.both, "", (0.02, 0.0), 0.0, 1.0),
    "manders_first": Kind(lambda s: s.manders[0], "", (0.02, 0.0), 0.0, 1.0),
    "manders_second": Kind(lambda s: s.manders[1], "", (0.02, 0.0), 0.0, 1.0),
    "overlap": Kind(lambda s: s.overlap, "", (0.02, 0.0), 0.0, 1.0),
    "correlation": Kind(lambda s: s.correlation, "", (0.02, 0.0), -1.0, 1.0),
    "interface": Kind(lambda s: s.interface, "face", (0.0, 0.06)),
    "width": Kind(lambda s: s.width.width, "voxel", (0.3, 0.05)),
    "edge": Kind(lambda s: s.edge.width, "voxel", (0.3, 0.05)),
}


PARTS = ("only_first", "only_second", "both")  # that add up to 1


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is; nan for what is unknown.

    Attributes:
        value: estimate of the truth; `shown` where there were no halves.
        shown: of the volumes as they are.
        noise: standard error from the counts' noise.
        pull: by how much noise and regulariser pull the figure, so that of the correction is no smaller.
        low68, high68, low95, high95: intervals for the truth.
    """

    value: Number
    shown: Number
    noise: Number = np.nan
    pull: Number = np.nan
    low68: Number = np.nan
    high68: Number = np.nan
    low95: Number = np.nan
    high95: Number = np.nan

    @property
    def sure(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite([self.low95, self.high95]).all())


@dataclass(frozen=True)
class PairEstimates:
    """Two elements.

    Attributes:
        first, second: their names.
        figures: by the names of `KINDS`; lengths in voxels, areas in faces of a voxel.
    """

    first: str
    second: str
    figures: Mapping[str, Estimate]

    def __getitem__(self, name: str) -> Estimate:
        return self.figures[name]


def pair_estimates(
    volumes: Mapping[str, Volume], inside: NDArray[np.bool_] | None = None, found: Halves | None = None
) -> dict[str, PairEstimates]:
    """Statistics of the first pairs of elements, with intervals where there are halves.

    Args:
        volumes: element to volume.
        inside: ``(z, y, x)``, the particle; everything by default.
        found: of the same series, see `recon.analysis.halves.halves`.

    Returns:
        ``"Co-Zn"`` and so on to `PairEstimates`, at most `MOST`; without pairs of which one element has no density.
    """
    out = {}
    for a, b in list(combinations(volumes, 2))[:MOST]:
        shape = volumes[a].values.shape
        everywhere = np.ones(shape, bool) if inside is None else inside
        window = around(everywhere)

        def of(
            one: Volume, other: Volume, window: tuple[slice, ...] = window, all_: NDArray[np.bool_] = everywhere
        ) -> NDArray[np.float64]:
            return figures(pair_statistics(one.values[window], other.values[window], None, all_[window]))

        try:
            value = of(volumes[a], volumes[b])
        except InputError:
            continue
        of_halves = None
        if found is not None and a in found.first and b in found.first:
            pairs = product((found.first[a], found.second[a]), (found.first[b], found.second[b]))
            try:
                of_halves = np.array([of(one, other) for one, other in pairs]).reshape(2, 2, -1)
            except InputError:
                of_halves = None
        out[f"{a}-{b}"] = PairEstimates(a, b, estimates(value, of_halves))
    return out


def figures(stats: PairStatistics) -> NDArray[np.float64]:
    """The figures of `KINDS`, in their order."""
    return np.array([kind.of(stats) for kind in KINDS.values()])


def estimates(value: NDArray[np.float64], of_halves: NDArray[np.float64] | None) -> dict[str, Estimate]:
    """Figures with intervals.

    Args:
        value: ``(figure,)`` of the whole.
        of_halves: ``(half of the first, half of the second, figure)``; None where there are none.
    """
    shown = np.asarray(value, np.float64)
    if of_halves is None:
        return {name: Estimate(float(v), float(v)) for name, v in zip(KINDS, shown, strict=True)}
    means = of_halves.mean(axis=(0, 1))
    corrected = np.where(np.isfinite(means), 2 * shown - means, shown)
    least, most = (np.array([getattr(k, end) for k in KINDS.values()]) for end in ("least", "most"))
    corrected = np.clip(corrected, least, most)
    parts = [list(KINDS).index(name) for name in PARTS]
    if np.isfinite(corrected[parts]).all() and corrected[parts].sum() > 0:
        corrected[parts] /= corrected[parts].sum()  # what was cut off at 0 belongs to the others
    # each difference of two halves has twice the variance of one, and one has twice that of the whole
    steps = np.stack([np.diff(of_halves.mean(axis=1 - axis), axis=0)[0] for axis in (0, 1)])
    noise = np.hypot(*steps) / 2
    return {
        name: _interval(kind, *map(float, row))
        for (name, kind), *row in zip(KINDS.items(), corrected, shown, noise, np.abs(shown - means), strict=True)
    }


def _interval(kind: Kind, value: float, shown: float, noise: float, pull: float) -> Estimate:
    from scipy.special import ndtri, stdtrit

    if not np.isfinite([value, noise, pull]).all():
        return Estimate(value, shown)
    rest = float(np.hypot(pull, np.hypot(kind.unseen[0], kind.unseen[1] * value)))
    at68, at95 = (np.hypot(stdtrit(FREEDOM, p) * noise, ndtri(p) * rest) for p in (0.84, 0.975))
    ends = [float(np.clip(value + by, kind.least, kind.most)) for by in (-at68, at68, -at95, at95)]
    return Estimate(value, shown, noise, pull, *ends)


def around(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The box of a particle ``(z, y, x)`` with a margin; everything where there is none."""
    where = [np.flatnonzero(inside.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    if not len(where[0]):
        return tuple(slice(0, n) for n in inside.shape)
    return tuple(slice(max(int(w[0]) - MARGIN, 0), int(w[-1]) + 1 + MARGIN) for w in where)


__all__ = ["KINDS", "Estimate", "PairEstimates", "around", "estimates", "pair_estimates"]
