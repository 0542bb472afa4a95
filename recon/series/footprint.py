"""Maps whose pixels are not those of the series: dealt out among its pixels, so that counts stay counts.

The counts of a recorded pixel are Poisson. Dealt out at random among the pixels of the series' grid that it covers,
each with a chance in proportion to the area shared, they are independent Poisson counts again (a Poisson count that is
split at random splits into independent ones, and sums of independent ones are Poisson). Their mean is that of
the pixels which the grid would have recorded, averaged over the recorded pixels: ``S m`` with ``S = O^T O / q^2``, O
the areas shared and q the edge of a recorded pixel. So the model of such an element is ``s S W P u + b``, and S is
symmetric. Where whole pixels of the grid fill a recorded one, nothing is lost: the likelihood depends on their sum
alone. A pixel of the grid that two recorded ones share is taken as even, which at a ratio of 1.5 makes the model of a
map with sharp edges 3 % wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Shape2 = tuple[int, int]

SAME = 1e-3  # relative difference of pixel sizes that are one
COVERED = 0.999  # of a pixel of the grid must be recorded, or it has no weight
MOST_APART = 4.0  # times by which fields of view may differ


@dataclass(frozen=True)
class Footprint:
    """Where the pixels of an element's own maps lie on the series' grid; lengths in pixels of the grid.

    Attributes:
        first: ``(y, x)`` upper left corner of the own frame, from that of the grid.
        pitch: edge of an own pixel.
        shape: ``(ny, nx)`` own pixels.
    """

    first: tuple[float, float]
    pitch: float
    shape: tuple[int, int]

    @classmethod
    def centred(cls, shape: Shape2, pitch: float, frame: Shape2) -> Footprint:
        """Own maps whose frame has its centre where the grid's is."""
        y, x = ((n - k * pitch) / 2 for n, k in zip(frame, shape, strict=True))
        return cls((y, x), pitch, shape)

    def binned(self, factor: int, cut: Shape2) -> Footprint:
        """On a grid of pixels `factor` times as large, which begins at pixel `cut` of this one."""
        y, x = ((a - c) / factor for a, c in zip(self.first, cut, strict=True))
        return Footprint((y, x), self.pitch / factor, self.shape)

    def shared(self, axis: int, n: int) -> NDArray[np.float64]:
        """Lengths ``(own, grid)`` that own pixels share with the n pixels of the grid along y (0) or x (1)."""
        low = self.first[axis] + self.pitch * np.arange(self.shape[axis])
        j = np.arange(n)
        both = np.minimum(low[:, None] + self.pitch, j + 1) - np.maximum(low[:, None], j)
        return np.where(both > 1e-9, both, 0.0)

    def covered(self, frame: Shape2) -> NDArray[np.bool_]:
        """``(y, x)`` pixels of the grid that were recorded."""
        y, x = (self.shared(k, n).sum(axis=0) for k, n in enumerate(frame))
        return np.asarray(np.outer(y, x) > COVERED)

    def spread(self, frame: Shape2) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """S along y and along x, square and symmetric: of a map m that the grid would have recorded, ``S_y m S_x``."""
        y, x = (o.T @ o / self.pitch for o in (self.shared(k, n) for k, n in enumerate(frame)))
        return y.astype(np.float32), x.astype(np.float32)

    def dealt(self, stack: NDArray[np.float32], frame: Shape2, *, scaled: bool, seed: int = 0) -> NDArray[np.float32]:
        """Own maps ``(tilt, y, x)`` on the grid: whole counts dealt out at random, other values averaged by area."""
        whole = not scaled and bool((stack == np.round(stack)).all())
        rng = np.random.default_rng(seed)
        out = stack.astype(np.float64)
        for axis, n in enumerate(frame):
            shares = self.shared(axis, n)
            lines = np.moveaxis(out, axis + 1, 0)
            if whole:
                found = _dealt_along(lines, shares / self.pitch, rng)
            elif scaled:
                found = np.tensordot((shares / np.maximum(shares.sum(axis=0), 1e-9)).T, lines, 1)
            else:
                found = np.tensordot(shares.T / self.pitch, lines, 1)
            out = np.moveaxis(found, 0, axis + 1)
        return np.ascontiguousarray(out, dtype=np.float32)

    def weights(self, own: NDArray[np.float32], frame: Shape2) -> NDArray[np.float32]:
        """Weights ``(tilt, y, x)`` on the grid: the least of the own pixels that share a pixel, 0 outside them."""
        out = np.asarray(np.broadcast_to(own, (len(own), *self.shape)), dtype=np.float32)
        for axis, n in enumerate(frame):
            shares, lines = self.shared(axis, n) > 1e-6, np.moveaxis(out, axis + 1, 0)
            least = [lines[shares[:, j]].min(axis=0, initial=1.0) for j in range(n)]
            out = np.moveaxis(np.stack(least), 0, axis + 1)
        return np.ascontiguousarray(out * self.covered(frame))


def _dealt_along(
    lines: NDArray[np.float64], chance: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Counts ``(own, ...)`` dealt out along the first axis by the chances ``(own, grid)``; others are lost."""
    out = np.zeros((chance.shape[1], *lines.shape[1:]))
    for counts, row in zip(lines.astype(np.int64), chance, strict=True):
        rest, left = counts, 1.0
        for j in np.flatnonzero(row):
            part = rng.binomial(rest, min(1.0, row[j] / left)) if row[j] < left - 1e-12 else rest
            out[j] += part
            rest, left = rest - part, left - row[j]
    return out


def common_grid(
    shapes: Mapping[str, Shape2], sizes_nm: Mapping[str, float]
) -> tuple[float, Shape2, dict[str, Footprint | None]]:
    """The pixels of a series whose elements have pixels of their own: the finest ones, over the largest field of view.

    Args:
        shapes: frame of each element, own pixels.
        sizes_nm: edge of a pixel of each.

    Returns:
        Pixel size, frame, and where each element's pixels lie on it, None where they are its own.

    Raises:
        InputError: an element without a size or with one that is none, or fields of view that cannot be of one object.
    """
    for name in shapes:
        if name not in sizes_nm:
            raise InputError(f"no pixel size was given for {name}; give one for each of {', '.join(shapes)}")
    for name, size in sizes_nm.items():
        if name not in shapes:
            raise InputError(f"a pixel size was given for {name}, which has no maps; there are {', '.join(shapes)}")
        if not (np.isfinite(size) and size > 0):
            raise InputError(f"pixel size of {name} is {size} nm; it must be a positive number of nanometres")
    fine = min(sizes_nm.values())
    views = {n: [k * sizes_nm[n] for k in shape] for n, shape in shapes.items()}
    for axis in (0, 1):
        least, most = (pick(views, key=lambda n: views[n][axis]) for pick in (min, max))
        if views[most][axis] > MOST_APART * views[least][axis]:
            told = " and ".join(f"{views[n][0]:g} x {views[n][1]:g} nm of {n}" for n in (most, least))
            raise InputError(
                f"the maps show {told} (y, x), which cannot be the same place with the object wholly in it; check "
                f"pixel_size_nm, {sizes_nm[most]:g} and {sizes_nm[least]:g}"
            )
    ny, nx = (int(np.ceil(max(v[k] for v in views.values()) / fine - SAME)) for k in (0, 1))
    found: dict[str, Footprint | None] = {}
    for name, shape in shapes.items():
        own = shape == (ny, nx) and abs(sizes_nm[name] / fine - 1) < SAME
        found[name] = None if own else Footprint.centred(shape, sizes_nm[name] / fine, (ny, nx))
    return fine, (ny, nx), found


def on_grid(
    stacks: Mapping[str, NDArray[np.float32]],
    weights: Mapping[str, ArrayLike],
    sizes_nm: Mapping[str, float],
    *,
    scaled: bool,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, ArrayLike], float, dict[str, Footprint | None]]:
    """Maps and weights of elements on the grid of `common_grid`, its pixel size, and the elements' footprints.

    Raises:
        InputError: as `common_grid`; or weights that do not fit the element's own maps.
    """
    size, frame, prints = common_grid({n: (s.shape[1], s.shape[2]) for n, s in stacks.items()}, sizes_nm)
    maps, own = dict(stacks), dict(weights)
    for k, (name, found) in enumerate(prints.items()):
        if found is None:
            continue
        given = np.ones((len(stacks[name]), 1, 1), np.float32)
        if name in weights:
            w = np.asarray(weights[name], dtype=np.float32)
            try:
                w = np.broadcast_to(w[:, None, None] if w.ndim == 1 else w, stacks[name].shape)
            except ValueError as exc:
                raise InputError(
                    f"weights of {name} have shape {w.shape}, its maps {stacks[name].shape}; they must agree"
                ) from exc
            given = w
        kept = np.where(np.broadcast_to(given, stacks[name].shape) > 0, stacks[name], 0)
        maps[name] = found.dealt(kept, frame, scaled=scaled, seed=k)
        own[name] = found.weights(given, frame)
    return maps, own, size, prints
