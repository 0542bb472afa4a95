"""The joint fit of shifts, exposures and rotation, from a coarse start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.axis import axis_by_artefacts
from recon.alignment.coarse import centre_of_mass, cross_correlation
from recon.alignment.joint import MOST_BLOBS, JointFit
from recon.series.alignment import Alignment
from recon.series.binning import Binning, binned_to
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINE = 96  # pixels along a frame's edge for the last matching
COUNTS_PER_BLOB = 33.0  # at least, of the joint fit's object: with fewer it fits noise, and errors come out too small
FEWEST_BLOBS = 100
Log = Callable[[str], None]


@dataclass(frozen=True)
class JointStage:
    """A joint fit, the grid it was made on, how it started, and whether it settled."""

    fit: JointFit
    bins: Binning
    how: str
    settled: bool


def joint_stage(combined: TiltSeries, say: Log) -> JointStage:
    """The joint fit from a coarse start, first with few blobs."""
    taken = combined.used
    if combined.isolated:
        start, how = Alignment(centre_of_mass(combined)), "centre of mass"
    else:
        start, how = Alignment(cross_correlation(combined)), "cross-correlation"
        start = axis_by_artefacts(combined, start, rotate=False)
    say(f"align: coarse shifts by {how}, axis at {axis_column(start, taken):+.2f} pixels")
    small, bins = binned_to(combined, FINE)
    counts = float(small.counts[:, taken].sum())
    most = MOST_BLOBS if small.scaled else int(np.clip(counts / COUNTS_PER_BLOB, FEWEST_BLOBS, MOST_BLOBS))
    present = bins.down(start)
    for share in (8, 1):
        fit = JointFit(small, present, taken, most=max(most // share, FEWEST_BLOBS))
        hold = "rotation" if share > 1 else ""  # what few blobs cannot draw would turn the axis
        settled = fit.solve(hold=hold)
        if share > 1 and fit.relocate():
            settled = fit.solve(hold=hold)
        present = fit.found()
    fit.correct()
    return JointStage(fit, bins, how, settled)


def axis_column(alignment: Alignment, taken: NDArray[np.bool_]) -> float:
    """Column of the axis: the middle of the displacements along u."""
    return float(np.median(alignment.displacements[taken, 1]))
