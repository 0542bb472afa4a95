"""The joint fit of shifts, exposures and rotation, from a coarse start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.axis import axis_by_artefacts
from recon.alignment.coarse import centre_of_mass, cross_correlation
from recon.alignment.joint import MOST_BLOBS, JointFit
from recon.alignment.samples import SECTION, with_scene
from recon.errors import InputError
from recon.series.alignment import Alignment
from recon.series.binning import Binning, binned_to
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINE = 96  # pixels along a frame's edge for the last matching
COUNTS_PER_BLOB = 33.0  # at least, of the joint fit's object: with fewer it fits noise, and errors come out too small
FEWEST_BLOBS = 100
# sections of an object that leaves the frame, one after the other
THICKER = (2 * SECTION, 4 * SECTION, 8 * SECTION)
FORETOLD = 1.2  # error of what maps foretell of each other, 1 if noise, that asks for no thicker model
CLEARLY = 0.75  # times that error: what a thicker model has to reach, see tests/test_thick_sections.py
DRAWN = 2.0  # median misfit, 1 if noise, up to which a model draws the maps
SMALLEST = 8  # pixels of a frame's shorter side, after binning to `FINE`: smoothed samples need room on all sides
ELSE = "use [align] method = 'none', or [align] file for shifts that are known (in Python: align(series, 'none'))"
Log = Callable[[str], None]


@dataclass(frozen=True)
class JointStage:
    """A joint fit, the grid it was made on, how it started, and whether it settled.

    `apart` is by how much another thickness of the object would turn the axis, radians; 0 where none was tried.
    """

    fit: JointFit
    bins: Binning
    how: str
    settled: bool
    apart: float = 0.0

    @property
    def rotation_error(self) -> float:
        """Standard error of the axis's rotation, degrees: of the noise, and of a thickness that nobody knows."""
        noise = float(np.sqrt(self.fit.uncertainty()[-1, -1]))
        return float(np.degrees(np.hypot(noise, self.apart)))


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


def joint_stage(combined: TiltSeries, say: Log, device: str = "cpu") -> JointStage:
    """The joint fit from a coarse start, first with few blobs, on a device."""
    taken = combined.used
    if combined.isolated:
        start, how = Alignment(centre_of_mass(combined)), "centre of mass"
    else:
        start, how = Alignment(cross_correlation(combined)), "cross-correlation"
        start = axis_by_artefacts(combined, start, rotate=False)
    say(f"align: coarse shifts by {how}, axis at {axis_column(start, taken):+.2f} pixels")
    small, bins = binned_to(combined, FINE)
    small = with_scene(small)
    most = blobs_for(small, taken)

    def fitted(section: float) -> JointStage:
        present = bins.down(start)
        for share in (8, 1):
            fit = JointFit(small, present, taken, max(most // share, FEWEST_BLOBS), section, device)
            hold = "rotation" if share > 1 else ""  # what few blobs cannot draw would turn the axis
            settled = fit.solve(hold=hold)
            if share > 1 and fit.relocate():
                settled = fit.solve(hold=hold)
            present = fit.found()
        fit.correct()
        return JointStage(fit, bins, how, settled)

    return as_thick_as_told(fitted, combined.isolated)


def blobs_for(small: TiltSeries, taken: NDArray[np.bool_]) -> int:
    """How many blobs the counts of the maps that take part can tell."""
    counts = float(small.counts[:, taken].sum())
    return MOST_BLOBS if small.scaled else int(np.clip(counts / COUNTS_PER_BLOB, FEWEST_BLOBS, MOST_BLOBS))


def as_thick_as_told(fitted: Callable[[float], JointStage], isolated: bool | None) -> JointStage:
    """The fit, `fitted` of a section, in which the maps foretell each other best.

    Of an object that leaves the frame nobody knows the thickness. Blobs in too thin a section cannot draw it, and
    displacements, rotation and exposures make up for that; in too thick a one they say nothing about each other. A
    thicker one is believed where it settles (or none did so far), foretells clearly better and draws the maps: what is
    finer than the blobs would ask for more of them anyhow.
    """
    thin = best = fitted(SECTION)
    other: JointStage | None = None  # that was tried beside the best
    for section in THICKER if not isolated else ():
        if best.fit.foretelling() < FORETOLD:
            break
        next_ = fitted(section)
        if (next_.settled or not best.settled) and next_.fit.foretelling() < CLEARLY * best.fit.foretelling():
            best, other = next_, best
        elif next_.settled or other is None:
            other = next_
        if _drawn(best):  # thicker ones would draw the maps as well, and say less
            break
    if not _drawn(best):
        best, other = thin, best if best is not thin else other
    apart = 0.0 if other is None else abs(best.fit.pose.rotation - other.fit.pose.rotation)
    return replace(best, apart=apart)


def _drawn(stage: JointStage) -> bool:
    return float(np.nanmedian(stage.fit.misfit())) < DRAWN


def axis_column(alignment: Alignment, taken: NDArray[np.bool_]) -> float:
    """Column of the axis: the middle of the displacements along u."""
    return float(np.median(alignment.displacements[taken, 1]))
