"""Which projections of a geometry turn about one axis of the volume, so that the fast projector serves them.

A single-axis part may lie along any axis of the volume, and carry an alignment: shifts, and an axis that is turned in
the maps. Both are read off the vectors, so a geometry that was put together, moved or turned finds its parts by itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.geometry.projections import Projections

AXES = ("z", "y", "x")
CLOSE = 1e-7  # of a unit vector: what rounding leaves
FEW = 3  # projections that are no part of their own
Key = tuple[str | None, float]  # axis and rotation in the maps
GENERAL: Key = (None, 0.0)


@dataclass(frozen=True, eq=False)
class Part:
    """Projections that one projector serves.

    Attributes:
        index: ``(tilt,)`` int, where they stand in the geometry.
        axis: the volume axis, ``"z"``, ``"y"`` or ``"x"``, that they turn about; None for projections that turn about
            none, or whose pixels are not as large as voxels.
        angles_deg: ``(tilt,)``, of a part with an axis: a point at (p, q), the two other axes of the volume in the
            order (z, y, x), is seen at ``q cos t + p sin t`` across the axis.
        rotation_deg: of the axis in the maps, one for the part; as `recon.Alignment`.
        shifts: ``(tilt, 2)``, ``(v, u)`` in pixels; as `recon.Alignment`.
    """

    index: NDArray[np.intp]
    axis: str | None
    angles_deg: NDArray[np.float64]
    rotation_deg: float
    shifts: NDArray[np.float64]

    @property
    def is_general(self) -> bool:
        return self.axis is None


def parts(geometry: Projections) -> tuple[Part, ...]:
    """The geometry's projections in as few groups as possible, in the order of their first projections."""
    found = {axis: _about(geometry, k) for k, axis in enumerate(AXES)}
    # a projection along an axis fits more than one group; y first, the axis of the volume's own layout
    fitting: list[list[Key]] = [
        [(axis, float(found[axis][1][i])) for axis in ("y", "x", "z") if found[axis][0][i]]
        for i in range(geometry.n_tilts)
    ]
    sizes = Counter(key for keys in fitting for key in keys)
    groups: dict[Key, list[int]] = {}
    for i, keys in enumerate(fitting):
        groups.setdefault(max(keys, key=lambda key: sizes[key], default=GENERAL), []).append(i)
    if GENERAL in groups:  # which serves the few as well, without another copy of the volume
        for key in [k for k, members in groups.items() if len(members) < FEW and k != GENERAL]:
            groups[GENERAL] = sorted(groups[GENERAL] + groups.pop(key))
    out = []
    for (axis, turn), members in groups.items():
        index = np.array(members)
        if axis is None:
            nothing = np.zeros((index.size, 2))
            out.append(Part(index, None, np.full(index.size, np.nan), 0.0, nothing))
        else:
            _, _, angles, shifts = found[axis]
            out.append(Part(index, axis, angles[index], turn, shifts[index]))
    return tuple(out)


def _about(
    g: Projections, k: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each projection: does it turn about axis k, rotation of the axis and angle (degrees), shifts ``(v, u)``."""
    p, q = (i for i in range(3) if i != k)
    # v = c V + s U and u = c U - s V, with V the axis and U across it
    c, s = g.v[:, k], -g.u[:, k]
    across = c[:, None] * g.u + s[:, None] * g.v
    along = c[:, None] * g.v - s[:, None] * g.u
    axis = np.zeros(3)
    axis[k] = 1
    unit = [np.abs(np.linalg.norm(a, axis=1) - 1) < CLOSE for a in (g.u, g.v)]
    fits = np.asarray(
        unit[0]
        & unit[1]
        & (np.abs(along - axis).max(axis=1) < CLOSE)
        & (np.abs(across[:, k]) < CLOSE)
        & (np.abs(np.sum(across * g.ray, axis=1)) < CLOSE)
        & (np.abs(g.ray[:, k]) < CLOSE)
        & (c > -CLOSE)  # an axis upside down is served by the general projector
    )
    # rounded, so that what is one rotation in the scheme is one here, and none is none
    rotation = np.round(np.degrees(np.arctan2(s, c)), 9) + 0.0
    angles = np.degrees(np.arctan2(across[:, p], across[:, q]))
    shifts = -np.stack([np.sum(g.centre * g.v, axis=1), np.sum(g.centre * g.u, axis=1)], axis=1)
    return fits, np.asarray(rotation), np.asarray(angles), np.asarray(np.round(shifts, 9) + 0.0)


def described(geometry: Projections) -> str:
    """What a geometry is, in a few words for people."""
    words = []
    for part in parts(geometry):
        n = part.index.size
        if part.axis is None:
            tilt = np.degrees(np.arccos(np.minimum(1, np.abs(geometry.ray[part.index, 0]))))
            span = f"{tilt.min():.4g}" if np.ptp(tilt) < 1e-3 else f"{tilt.min():.4g} to {tilt.max():.4g}"
            words.append(f"{n} general, beam {span} deg from z")
        else:
            nominal = part.angles_deg if part.axis == "y" else tilts_of(part)
            words.append(f"{n} about {part.axis}, tilts {nominal.min():.4g} to {nominal.max():.4g} deg")
    return f"{geometry.n_tilts} projections: " + " + ".join(words)


def tilts_of(part: Part) -> NDArray[np.float64]:
    """Tilts within +-90 degrees where a part's angles, which say the same, run on beyond."""
    angles = (part.angles_deg + 90) % 360
    return np.asarray(np.where(angles <= 180, angles - 90, 270 - angles))
