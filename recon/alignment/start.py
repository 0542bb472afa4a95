"""The joint fit of shifts, exposures and rotation, from a coarse start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.axis import axis_by_artefacts
from recon.alignment.coarse import centre_of_mass, cross_correlation
from recon.alignment.joint import MOST_BLOBS, JointFit
from recon.errors import InputError
from recon.series.alignment import Alignment
from recon.series.binning import Binning, binned_to
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINE = 96  # pixels along a frame's edge for the last matching
COUNTS_PER_BLOB = 33.0  # at least, of the joint fit's object: with fewer it fits noise, and errors come out too small
FEWEST_BLOBS = 100
SMALLEST = 8  # pixels of a frame's shorter side, after binning to `FINE`: smoothed samples need room on all sides
ELSE = "use [align] method = 'none', or [align] file for shifts that are known (in Python: align(series, 'none'))"
Log = Callable[[str], None]


@dataclass(frozen=True)
class JointStage:
    """A joint fit, the grid it was made on, how it started, and whether it settled."""

    fit: JointFit
    bins: Binning
    how: str
    settled: bool


def check_alignable(frame: tuple[int, int]) -> None:
    """Raise unless maps ``(ny, nx)`` are large enough to be aligned by themselves.

    Raises:
        InputError: a side is too short.
    """
    least = SMALLEST * max(1, -(-max(frame) // FINE))
    if min(frame) < least:
        raise InputError(
            f"maps of {frame[0]} x {frame[1]} pixels are too small to be aligned by themselves, which takes at least "
            f"{least} along the shorter side; {ELSE}"
        )


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
