"""Pixels summed to larger ones: coarse grids, on which alignment and reconstruction start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Binning:
    """Pixels summed by `factor`; `centre` is how far the frame's centre moved, ``(v, u)`` in old pixels."""

    factor: int
    centre: tuple[float, float]

    def down(self, alignment: Alignment) -> Alignment:
        """The alignment of the binned maps."""
        dv, du = self.centre
        shifts = (alignment.shifts - [dv, 0.0]) / self.factor
        errors = None if alignment.errors is None else alignment.errors / self.factor
        return replace(alignment, shifts=shifts, axis_offset=(alignment.axis_offset - du) / self.factor, errors=errors)

    def up(self, alignment: Alignment) -> Alignment:
        """The alignment of the maps as they were."""
        dv, du = self.centre
        shifts = alignment.shifts * self.factor + [dv, 0.0]
        errors = None if alignment.errors is None else alignment.errors * self.factor
        return replace(alignment, shifts=shifts, axis_offset=alignment.axis_offset * self.factor + du, errors=errors)


def binned_to(series: TiltSeries, edge: int) -> tuple[TiltSeries, Binning]:
    """The series with pixels summed so that a frame has at most about `edge` of them along its edge, and how."""
    return binned(series, max(1, int(np.ceil(max(series.frame) / edge))))


def binned(series: TiltSeries, factor: int) -> tuple[TiltSeries, Binning]:
    """The series with ``factor x factor`` pixels summed to one, and how; its alignment stays that of `series`."""
    if factor == 1:
        return series, Binning(1, (0.0, 0.0))
    ny, nx = (n // factor for n in series.frame)
    y0, x0 = ((n - k * factor) // 2 for n, k in zip(series.frame, (ny, nx), strict=True))
    centre = tuple(
        first + (k * factor - 1) / 2 - (n - 1) / 2 for first, k, n in zip((y0, x0), (ny, nx), series.frame, strict=True)
    )

    def reduce(a: NDArray[np.float32]) -> NDArray[np.float32]:
        cut = a[..., y0 : y0 + ny * factor, x0 : x0 + nx * factor]
        blocks = cut.reshape(*a.shape[:-2], ny, factor, nx, factor)
        return np.asarray(blocks.sum(axis=(-3, -1)), dtype=np.float32)

    def kept(weights: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """A block with a pixel left out is left out."""
        if weights is None or weights.shape[-2:] == (1, 1):
            return weights
        return np.asarray(reduce(weights) >= factor**2 * 0.999, dtype=np.float32)

    scene = series.scene
    if scene is not None:  # a block that holds a bit of the object is not empty
        whole = np.asarray(reduce(scene.empty.astype(np.float32)) == factor**2)
        scene = replace(scene, empty=whole)
    scheme = series.scheme
    if scheme is not None:
        scheme = scheme.binned(factor, [max(1, n // factor) for n in scheme.volume], (ny, nx))
    small = series.evolve(
        counts=reduce(series.counts),
        scene=scene,
        scheme=scheme,
        weights=kept(series.weights),
        element_weights=kept(series.element_weights),
        footprints=tuple(None if f is None else f.binned(factor, (y0, x0)) for f in series.footprints),
        background=series.background * factor**2,
        background_maps=None if series.background_maps is None else reduce(series.background_maps),
        pixel_size_nm=series.pixel_size_nm * factor,
    )
    return small, Binning(factor, (centre[0], centre[1]))
