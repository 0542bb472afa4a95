"""Maps aligned by an image that has tilts of its own, such as 71 HAADF images with 15 maps among them.

The image is a tilt series by itself: all its tilts serve its alignment and the axis. A map that was recorded with one
of its images lies where that image lies; a map at a tilt that the image has not is matched with re-projections, see
`rest`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.exposures import exposures_of
from recon.alignment.joint import JointFit
from recon.alignment.reprojection import residuals
from recon.alignment.rest import align_rest
from recon.alignment.start import FINE, JointStage, Log, as_thick_as_told, blobs_for
from recon.errors import InputError
from recon.preparation.isolation import look
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.channels import common_elements
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.series.union import SAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

Align = Callable[[TiltSeries], TiltSeries]


def image_series(series: TiltSeries) -> TiltSeries:
    """The image as a series of its own, to be aligned on itself.

    Raises:
        InputError: fewer than three tilts, or such as are none.
    """
    assert series.image is not None
    assert series.image_tilts_deg is not None
    try:
        own = TiltSeries.create(
            {"image": series.image - series.image.min()}, series.image_tilts_deg, series.pixel_size_nm, scaled=True
        )
    except InputError as exc:
        raise InputError(f"the reference image: {exc}") from exc
    return own.evolve(isolated=series.isolated, tilt_axis=series.tilt_axis, image=series.image)


def looked_at(own: TiltSeries) -> TiltSeries:
    """The images' series, in which they themselves tell whether the object is wholly in view.

    Among more tilts, more may have drifted out of the frame than of the maps. Where that are few, they are aligned with
    the others.
    """
    return own.evolve(isolated=look(own).isolated(own.used))


def align_on_image(series: TiltSeries, align: Align, say: Log, device: str = "cpu") -> TiltSeries:
    """The series with the alignment of its image.

    Args:
        series: with an image that has its own tilts, normalised.
        align: of a series on its image.
        say: called with a line for each stage.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: the image cannot be aligned, or has fewer than three tilts in common with the maps.
    """
    own = align(looked_at(image_series(series)))
    found = own.alignment
    apart = np.abs(series.tilts_deg[:, None] - own.tilts_deg)
    nearest = apart.argmin(axis=1)
    shared = (apart.min(axis=1) < SAME) & own.used[nearest]
    shifts = np.where(shared[:, None], found.displacements[nearest] - [0.0, found.axis_offset], 0.0)
    errors = np.full(shifts.shape, np.nan)
    if found.errors is not None:
        errors[shared] = found.errors[nearest[shared]]
    n = int((shared & series.used).sum())
    say(f"align: {own.used.sum()} images show where {n} of {series.used.sum()} maps lie")
    final = replace(
        found,
        shifts=shifts,
        errors=errors,
        residual=None,
        method=f"{found.method}, of {own.used.sum()} images",
        doubts=tuple(f"image: {doubt}" for doubt in found.doubts),
    )
    own_shifts = np.where(own.used[:, None], found.shifts, np.nan)
    series = series.evolve(alignment=final, image_shifts=own_shifts)
    if series.exposures_from in ("open", "re-projections"):
        series, doubts = _exposed(series, shared & series.used, device)
        final = replace(final, doubts=(*final.doubts, *doubts))
        series = series.evolve(alignment=final)
    if not (shared | ~series.used).all():
        series = align_rest(series, shared & series.used, say, device=device)
    combined = combine(series, common_elements(series))
    final = replace(series.alignment, residual=residuals(combined, series.alignment, device=device))
    return series.evolve(f"align: {final}", alignment=final)


def _exposed(series: TiltSeries, aligned: NDArray[np.bool_], device: str) -> tuple[TiltSeries, list[str]]:
    """Exposures of an object that leaves the frame, from the maps whose alignment is known."""
    combined = combine(series, common_elements(series))
    small, bins = binned_to(combined, FINE)
    at: Alignment = bins.down(series.alignment)
    taken = combined.used & aligned
    most = blobs_for(small, taken)

    def fitted(section: float) -> JointStage:
        fit = JointFit(small, at, taken, most, section, device)
        settled = fit.solve(hold="geometry")
        return JointStage(fit, bins, "image", settled)

    return exposures_of(series, as_thick_as_told(fitted, small.isolated))


__all__ = ["align_on_image", "image_series", "looked_at"]
