"""The projector of a single-axis series on windows of slices, for a volume that is not in memory as a whole.

A window has slices of its own and a halo on both sides. Several iterations may run on it before the halo is used up:
each of them makes as many slices wrong at the borders of the window as `WindowedProjector.reach` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recon.backend import Array, kernels, namespace
from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry
from recon.operators.base import AT_LEAST, SETTLED, Operator
from recon.operators.single_axis import single_axis_projector
from recon.operators.warp import affine, ideal_geometry, tilts_of
from recon.parallel import Range
from recon.series.alignment import Alignment

LINE = 16  # slices of a cache line


@dataclass(frozen=True, eq=False)
class Window:
    """Slices of a volume that are in memory together.

    Attributes:
        number: of the windows of a volume, from 0.
        own: first slice and end of those that are its own; the windows share the volume.
        held: the same with the halo.
        rows: of the recorded maps, those that show what it holds.
        own_rows: ``(tilt, 2)`` first row and end of those that are its own, of each map.
        operator: of the slices held onto these rows; see `WindowedProjector` for what is right of it.
    """

    number: int
    own: Range
    held: Range
    rows: Range
    own_rows: NDArray[np.intp]
    operator: Operator

    @property
    def halo(self) -> tuple[int, int]:
        """Slices that it holds before and after its own."""
        return self.own[0] - self.held[0], self.held[1] - self.own[1]

    @property
    def within(self) -> Range:
        """Its own slices among those that it holds."""
        return self.own[0] - self.held[0], self.own[1] - self.held[0]


def spans(n: int, windows: int, halo: int) -> list[tuple[Range, Range]]:
    """Own slices of each of so many windows on n slices, and those that it holds, `halo` more on each side at least.

    Kernels are up to twice as fast on rows that fill vectors, so each holds a multiple of `LINE`, halos being wider.
    """
    room = -(-(n + 2 * halo * (windows - 1)) // windows)
    held = min(n, -(-room // LINE) * LINE)
    sizes = [held - halo * (1 if k in (0, windows - 1) else 2) for k in range(windows)]
    sizes = sizes if min(sizes) > 0 else [1] * windows
    bounds = [round(sum(sizes[:k]) * n / sum(sizes)) for k in range(windows + 1)]
    found = []
    for k in range(windows):
        first, end = max(0, bounds[k] - halo), min(n, bounds[k + 1] + halo)
        size = min(n, -(-(end - first) // LINE) * LINE)
        first = max(0, min(first - (size - (end - first)) // 2, n - size))
        end = first + size
        found.append(((bounds[k], bounds[k + 1]), (first, end)))
    return found


class WindowedProjector:
    """``A = W P`` of a volume that is worked on window by window.

    In ``window.operator`` a recorded row is right if all slices that it shows are held, and a slice of the adjoint if
    all rows that show it are among the window's.

    Args:
        tilts_deg, alignment, frame, volume, like, projector: as `aligned_projector`, of the whole.

    Attributes:
        reach: slices by which one iteration of a solver moves what is wrong at a window's border inwards.
    """

    def __init__(
        self, tilts_deg: ArrayLike, alignment: Alignment, frame: Shape2, volume: Shape3, like: Array, projector: str
    ) -> None:
        nz, ny, nx = volume
        self.frame, self.volume, self._like, self._how = frame, volume, like, projector
        self.domain_shape: Shape3 = (nz, nx, ny)
        self.whole = ideal_geometry(tilts_deg, alignment, frame, volume)
        self.range_shape: Shape3 = (self.whole.n_tilts, frame[1], frame[0])
        self.tilts_across = tilts_of(alignment, self.whole.n_tilts)
        straight = alignment.rotation_deg == 0 and not alignment.shifts[:, 0].any() and self.whole.detector == frame
        whole = self.whole
        self._maps = None if straight else affine(alignment, frame, whole.detector, whole.offsets, whole.fineness)
        # rows that one row of the maps shows to each side of the one in its middle
        self._spread = (
            0 if self._maps is None else math.ceil(float(np.abs(self._maps[:, 3]).max()) * (frame[1] - 1) / 2)
        )
        self.reach = 2 * self._spread + 1
        self._ideal = None if straight else kernels(like).zeros(self._ideal_shape(ny))
        self._scratch: Array = namespace(like).empty(0, dtype=np.float32)
        self.windows: tuple[Window, ...] = ()

    def halo(self, iterations: int) -> int:
        """Slices on each side with which so many iterations and a certificate after them are right."""
        return iterations * self.reach + self._spread + 1

    def split(self, windows: int, halo: int) -> None:
        """Share the volume among so many windows."""
        found = spans(self.volume[1], windows, halo)
        self.windows = tuple(self._window(n, *span, last=n + 1 == windows) for n, span in enumerate(found))

    # ------------------------------------------------------------------ of the whole volume

    def __call__(self, x: Array, out: Array) -> Array:
        return self.forward(lambda w: namespace(x).ascontiguousarray(x[..., slice(*w.own)]), out)

    def adjoint(self, y: Array, out: Array) -> Array:
        nz, _, nx = self.volume
        for w, part in self.backward(y, lambda w: namespace(y).empty((nz, nx, w.own[1] - w.own[0]), dtype=np.float32)):
            out[..., slice(*w.own)] = part
        return out

    def forward(self, slices: Callable[[Window], Array], out: Array) -> Array:
        """``A x``, from each window's own slices of x, ``(z, x, own)`` in C order."""
        ideal = out if self._ideal is None else self._ideal
        for w in self.windows:
            part = namespace(out).empty(self._ideal_shape(w.own[1] - w.own[0]), dtype=np.float32)
            ideal[..., slice(*w.own)] = self._plain(w.own)(slices(w), part)
        if self._maps is not None:
            kernels(out).warp(ideal, out, namespace(out).asarray(self._maps))
        return out

    def backward(self, y: Array, room: Callable[[Window], Array]) -> Iterator[tuple[Window, Array]]:
        """Each window's own slices of ``A^T y``, written into the room for them, ``(z, x, own)`` in C order."""
        ideal = y
        if self._maps is not None:
            assert self._ideal is not None
            ideal = self._ideal
            kernels(y).warp_adjoint(y, ideal, namespace(y).asarray(self._maps))
        for w in self.windows:
            part = namespace(y).ascontiguousarray(ideal[..., slice(*w.own)])
            yield w, self._plain(w.own).adjoint(part, room(w))

    def gram(self, y: Array, out: Array, room: Callable[[Window], Array]) -> Array:
        """``A A^T y``; `room` as of `backward`."""
        parts = self.backward(y, room)
        return self.forward(lambda _: next(parts)[1], out)

    def ones(self, w: Window) -> Array:
        """A window's own slices, all 1."""
        nz, _, nx = self.volume
        found: Array = namespace(self._like).ones((nz, nx, w.own[1] - w.own[0]), dtype=np.float32)
        return found

    # ------------------------------------------------------------------ one window

    def _room(self, shape: Shape3) -> Array:
        """Scratch for the ideal projection of a window; only one is worked on at a time."""
        size = math.prod(shape)
        if self._scratch.size < size:
            self._scratch = namespace(self._like).empty(size, dtype=np.float32)
        found: Array = self._scratch[:size].reshape(shape)
        return found

    def _ideal_shape(self, slices: int) -> Shape3:
        return (self.whole.n_tilts, self.whole.detector[1], slices)

    def _plain(self, held: Range) -> Operator:
        """P on some slices."""
        nz, _, nx = self.volume
        whole, n = self.whole, held[1] - held[0]
        geometry = TiltGeometry.single_axis(
            whole.tilts_deg, (n, whole.detector[1]), (nz, n, nx), offsets=whole.offsets, fineness=whole.fineness
        )
        return single_axis_projector(geometry, self._like, self._how, keep=False)  # it is here for want of memory

    def _window(self, number: int, own: Range, held: Range, *, last: bool) -> Window:
        if self._maps is None:
            rows = np.tile(np.array(own, dtype=np.intp), (self.whole.n_tilts, 1))
            return Window(number, own, held, held, rows, self._plain(held))
        j, middle = np.arange(self.frame[0]), (self.frame[1] - 1) / 2
        shown = np.floor(self._maps[:, 3, None] * middle + self._maps[:, 4, None] * j + self._maps[:, 5, None])
        bounds = [np.array([np.searchsorted(row, b) for row in shown], dtype=np.intp) for b in own]
        if number == 0:
            bounds[0][:] = 0
        if last:
            bounds[1][:] = self.frame[0]
        low, high = shown.min(axis=0) - self._spread, shown.max(axis=0) + self._spread + 1
        found = np.flatnonzero((high >= held[0]) & (low < held[1]))
        # all of its own among them, though the first and last window's may show nothing
        first = min(int(found[0]) if found.size else 0, int(bounds[0].min()))
        end = max(int(found[-1]) + 1 if found.size else 1, int(bounds[1].max()))
        operator = _Warped(self._plain(held), self._shifted(first, held[0]), (end - first, self.frame[1]), self._room)
        return Window(number, own, held, (first, end), np.stack(bounds, axis=1), operator)

    def _shifted(self, recorded: int, ideal: int) -> NDArray[np.float64]:
        """The maps between parts of the frames that begin at these rows."""
        assert self._maps is not None
        maps = self._maps.copy()
        maps[:, 2] += maps[:, 1] * recorded
        maps[:, 5] += maps[:, 4] * recorded - ideal
        return maps


class _Warped:
    """A projector, and the warp of its rows into some of the recorded ones."""

    def __init__(
        self, plain: Operator, maps: NDArray[np.float64], rows: Shape2, room: Callable[[Shape3], Array]
    ) -> None:
        self._plain_of, self._room = plain, room
        self.domain_shape = plain.domain_shape
        self._ideal_shape: Shape3 = (plain.range_shape[0], plain.range_shape[1], plain.range_shape[2])
        self.range_shape = (plain.range_shape[0], rows[1], rows[0])
        self._maps = maps

    def __call__(self, x: Array, out: Array) -> Array:
        ideal = self._plain_of(x, self._room(self._ideal_shape))
        kernels(out).warp(ideal, out, namespace(out).asarray(self._maps))
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        ideal = self._room(self._ideal_shape)
        kernels(y).warp_adjoint(y, ideal, namespace(y).asarray(self._maps))
        return self._plain_of.adjoint(ideal, out)


def scaled_norm(
    operator: WindowedProjector,
    scale: Array,
    room: Callable[[Window], Array],
    y: Array,
    work: Array,
    iterations: int = 20,
) -> float:
    """``|s A|`` as `norm_estimate` finds it.

    The vector of its power iteration is never whole: ``(s A)(s A)^T`` is applied window by window.

    Args:
        scale: s, ``(tilt, u, y)``.
        room: for a window's own slices, see `WindowedProjector.backward`.
        y, work: scratch, like s.
    """

    def ones(w: Window) -> Array:
        part = room(w)
        part[...] = 1
        return part

    operator.forward(ones, y)
    size = math.prod(operator.volume) ** 0.5
    for n in range(iterations):
        if size == 0:
            return 0.0
        y *= scale / np.float32(size)
        y *= scale
        squares: list[float] = []
        parts = operator.backward(y, room)

        def part_of(w: Window, parts: Iterator[tuple[Window, Array]] = parts, squares: list[float] = squares) -> Array:
            _, part = next(parts)
            squares.append(sum_of_squares(part))
            return part

        if n + 1 < iterations:
            operator.forward(part_of, work)
            y[...] = work
        else:
            squares.extend(sum_of_squares(part) for _, part in parts)
        before, size = size, math.fsum(squares) ** 0.5
        if n + 1 >= AT_LEAST and size <= (1 + SETTLED) * before:
            break
    return float(1.01 * size**0.5)


def sum_of_squares(a: Array) -> float:
    """In float64, plane by plane, so that little is copied."""
    xp = namespace(a)
    return math.fsum(float(xp.sum(xp.square(plane), dtype=np.float64)) for plane in a)


__all__ = ["Window", "WindowedProjector", "scaled_norm", "sum_of_squares"]
