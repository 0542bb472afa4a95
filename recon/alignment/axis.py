"""The tilt axis of the paper's route: the offset and rotation that leave the fewest artefacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.reprojection import MIDDLE, Matcher
from recon.model.assembly import make_data_term, make_operator
from recon.model.grid import grid
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries
from recon.solvers.sirt import sirt

if TYPE_CHECKING:
    from numpy.typing import NDArray

COARSE = 32  # pixels along a frame's edge for the offset
ROTATIONS = (-8.0, 8.0)  # degrees within which the rotation is looked for
SMOOTHING = 1.5  # pixels, of the maps whose likelihoods are compared for the rotation


def axis_by_artefacts(series: TiltSeries, start: Alignment, *, rotate: bool = True) -> Alignment:
    """Offset and rotation of the axis that leave the fewest artefacts in a quick reconstruction.

    Artefacts are what the re-projection of a few SIRT iterations cannot explain of the maps. The offset
    is sought by steps of 1/16 of the frame and less; the rotation by `rotation_by_profile`, since what
    SIRT leaves says next to nothing about it; without `rotate` it stays.
    """
    small, bins = binned_to(series, COARSE)
    middle, middle_bins = binned_to(series, MIDDLE)

    def misfit(offset: float, rotation: float) -> float:
        trial = bins.down(replace(start, axis_offset=offset, rotation_deg=rotation))
        volume = grid(small.evolve(isolated=True)).shape
        data = make_data_term(small, small.elements[0], "least-squares")
        operator = make_operator(small.evolve(alignment=trial), volume, data.counts)
        return sirt(operator, data, iterations=12).objective

    offset, rotation, step = start.axis_offset, start.rotation_deg, series.frame[1] / 16
    for _ in range(2):
        for _ in range(3):
            offsets = offset + step * np.arange(-3.0, 4.0)
            offset = vertex(offsets, np.array([misfit(o, rotation) for o in offsets]))
            step /= 2.5
        if not rotate:
            break
        step *= 2.5**2
        trial = middle_bins.down(replace(start, axis_offset=offset, rotation_deg=rotation))
        rotation = float(np.clip(rotation_by_profile(middle, trial, 2.0), *ROTATIONS))
    return replace(start, axis_offset=offset, rotation_deg=rotation)


def vertex(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Minimum of a parabola through the least value and its neighbours; x evenly spaced."""
    i = int(np.argmin(y))
    if i in (0, len(x) - 1):
        return float(x[i])
    curvature = y[i - 1] - 2 * y[i] + y[i + 1]
    shift = 0.5 * (y[i - 1] - y[i + 1]) / curvature if curvature > 0 else 0.0
    return float(x[i] + np.clip(shift, -1, 1) * (x[1] - x[0]))


def rotation_by_profile(series: TiltSeries, alignment: Alignment, step: float) -> float:
    """Rotation with the best penalised likelihood, shifts matched anew at each of five.

    The maps are smoothed first: the warp's interpolation blurs by fractions of a pixel, which differs
    with the rotation and would outweigh what the object says. A weak regulariser keeps the object from
    taking up the misfit.
    """
    base = Matcher(series, alignment, SMOOTHING, 0.3)
    base.converge(3, 40)
    rotations = alignment.rotation_deg + step * np.arange(-2, 3)
    scores = []
    for rotation in rotations:
        matcher = base.at(float(rotation))
        matcher.converge(2, 40, accuracy=0.01)
        scores.append(matcher.reconstruct(100))
    fit = np.polyfit(rotations - alignment.rotation_deg, scores, 2)
    if fit[0] > 0:
        return float(alignment.rotation_deg + np.clip(-fit[1] / (2 * fit[0]), -2 * step, 2 * step))
    return float(rotations[int(np.argmin(scores))])
