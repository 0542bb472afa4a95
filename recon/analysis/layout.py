"""Where to ask: the fields that may stand out of their surroundings, the places and the pure phases, from volumes.

For the data as for recordings simulated from them, whose places are found anew, since how well a border is known shows
in how it moves from one recording to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.features import Feature, features
from recon.analysis.mask import mask
from recon.analysis.phases import core, domains
from recon.analysis.places import Place, place_of
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

WITHIN = 0.8  # of a region's weight in a place that was found, from which its border is not its own
APART = 0.4  # of a place that was found, in a region that was asked for, from which it is no place beside it
SAME = 0.5  # Dice's coefficient of a place with one found anew, from which they are the same


@dataclass(frozen=True, eq=False)
class Sparse:
    """A field that is 0 at most voxels: those of many recordings are kept at once.

    Attributes:
        shape: ``(z, y, x)``.
        at: where it is not 0, positions in the flat array.
        values: there.
    """

    shape: tuple[int, ...]
    at: NDArray[np.intp]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, field: NDArray[np.float32]) -> Sparse:
        at = np.flatnonzero(field)
        return cls(field.shape, at, field.reshape(-1)[at])

    @property
    def full(self) -> NDArray[np.float32]:
        """``(z, y, x)``."""
        out = np.zeros(self.shape, np.float32)
        out.reshape(-1)[self.at] = self.values
        return out


@dataclass(frozen=True, eq=False)
class Layout:
    """What is asked in one recording.

    Attributes:
        weights: ``(z, y, x)`` of each place, over which means are taken.
        cores: element to those of its pure phase.
        fields: fractions of a voxel, disjoint: places, asked about or only found, then domains.
        found: of each place, whether it was found anew.
    """

    weights: Sequence[Sparse]
    cores: Mapping[str, Sparse]
    fields: Sequence[Sparse]
    found: Sequence[bool] = ()

    def weights_of(self, element: str) -> list[NDArray[np.float32]]:
        """Of each place, and of an element's pure phase."""
        return [w.full for w in (*self.weights, self.cores[element])]


def lay_out(
    volumes: Mapping[str, Volume],
    inside: NDArray[np.bool_],
    asked: Sequence[Place],
    found: Mapping[str, Feature],
) -> Layout:
    """What to ask about places in volumes.

    Args:
        volumes: element to volume.
        inside: ``(z, y, x)``, the particle.
        asked: the places.
        found: all places that `recon.features` finds.
    """
    own = domains(volumes, inside)
    fields: list[NDArray[np.float32]] = []
    left = np.ones(inside.shape, np.float32)
    for field in _free(asked, found):
        fields.append(np.minimum(field, left))
        left = left - fields[-1]
    fields += [domain * left for domain in own.values()]
    cores = {n: core(own[n] * left, v.values, [p.weight for p in asked]) for n, v in volumes.items()}
    return Layout(
        [Sparse.of(p.weight) for p in asked], {n: Sparse.of(c) for n, c in cores.items()}, [*map(Sparse.of, fields)]
    )


def lay_out_anew(volumes: Mapping[str, Volume], asked: Sequence[Place], were_found: bool) -> Layout:
    """What to ask in a simulated recording: each place is the one that is found there, if it was found in the data.

    Args:
        volumes: of the recording.
        asked: the places of the data.
        were_found: rather than given.
    """
    inside = mask(volumes)
    found = features(volumes, inside)
    if not were_found:
        return lay_out(volumes, inside, asked, found)
    free = list(found.values())
    new: list[Place] = []
    for place in asked:
        likeness = [_dice(place.fraction, f.fraction) for f in free]
        if not free or max(likeness) < SAME:
            new.append(place)
            continue
        same = free.pop(int(np.argmax(likeness)))
        new.append(place_of(same, place.name))
    return replace(lay_out(volumes, inside, new, found), found=[a is not b for a, b in zip(asked, new, strict=True)])


def _dice(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(2 * (a * b).sum() / max(float(a.sum() + b.sum()), 1e-30))


def _free(asked: Sequence[Place], found: Mapping[str, Feature]) -> list[NDArray[np.float32]]:
    """The places that may stand out.

    A region inside a place that was found has no border of its own: it is the place that stands out.
    """
    used: list[Feature] = []
    own: list[NDArray[np.float32]] = []
    for place in asked:
        total = float(place.weight.sum())
        around = [f for f in found.values() if float((place.weight * f.fraction).sum()) >= WITHIN * total]
        if not around:
            own.append(place.fraction)
        elif around[0] not in used:
            used.append(around[0])
    out = [*own, *(f.fraction for f in used)]
    taken = sum(out, start=np.zeros(asked[0].fraction.shape, np.float32))
    beside = [f for f in found.values() if f not in used and float((f.fraction * taken).sum()) < APART * f.size]
    return [*out, *(f.fraction for f in beside)]


__all__ = ["Layout", "Sparse", "lay_out", "lay_out_anew"]
