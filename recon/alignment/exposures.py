"""Exposures of an object that leaves the frame, from what re-projections agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.joint import JointFit
from recon.alignment.start import FINE, JointStage
from recon.preparation.normalise import asymmetry
from recon.series.binning import binned_to
from recon.series.checks import MIN_TILTS
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

WELL_KNOWN = 0.1  # relative error up to which an exposure found from re-projections is used


def exposures_of(series: TiltSeries, joint: JointStage, *, shared: bool = True) -> tuple[TiltSeries, list[str]]:
    """Exposures of an object that is not wholly in view, from what re-projections agree on, element by element.

    Where an element is too weak for that, the curve that all of them share serves it; where that is not known either,
    exposures stay 1. Without `shared`, the joint fit was made on an image, whose curve is not that of the elements.
    """
    taken = joint.fit.used
    exposures, errors = series.exposures.copy(), np.full(series.exposures.shape, np.nan)
    common, common_errors = joint.fit.exposures, exposure_errors_of(joint.fit)
    weak, unknown = [], []
    for e, name in enumerate(series.elements):
        small, _ = binned_to(combine(series, [name]), FINE)
        mine = taken & small.used
        if mine.sum() < MIN_TILTS:
            unknown.append(name)
            continue
        like = joint.fit
        fit = JointFit(small, like.found(), mine, like.most // 2, like.section, like.device)
        fit.solve(hold="geometry")
        own = exposure_errors_of(fit, hold="geometry")
        if np.median(own[mine]) < WELL_KNOWN and fit.pose.log_exposures[mine].std() < 1:
            exposures[e], errors[e] = np.where(mine, fit.exposures, 1.0), np.where(mine, own, np.nan)
        elif shared and np.median(common_errors[taken]) < WELL_KNOWN:
            exposures[e], errors[e] = common, common_errors
            weak.append(name)
        else:
            unknown.append(name)
    exposures, errors = np.where(taken, exposures, 1.0), np.where(taken, errors, np.nan)
    doubts = []
    if unknown:
        doubts.append(
            f"exposures of {', '.join(unknown)} cannot be told from the maps and stay 1; give live times or a curve"
        )
    note = "exposures from the re-projections' own consistency"
    if weak:
        note += f"; {', '.join(weak)} shares the curve of all elements"
    known = np.where(series.present, exposures, np.nan)[:, taken]
    note += asymmetry(series.tilts_deg[taken], known)
    found = {"exposures": exposures, "exposure_errors": errors}
    return series.evolve(f"normalise: {note}", exposures_from="re-projections", **found), doubts


def exposure_errors_of(fit: JointFit, hold: str = "") -> NDArray[np.float64]:
    variance = np.diag(fit.uncertainty(hold))[:-1].reshape(-1, 3)[:, 2]
    return np.asarray(np.sqrt(np.maximum(variance, 0)) * fit.exposures)
