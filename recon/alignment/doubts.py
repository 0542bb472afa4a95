"""What would make a person doubt an alignment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.axis import COARSE
from recon.alignment.coarse import centre_of_mass, cross_correlation
from recon.alignment.joint import JointFit
from recon.alignment.start import FEWEST_BLOBS, Log, _Joint
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ODD = 0.7  # of the tilts must agree
ODD_RESIDUAL = 2.5  # times the typical one
UNSURE_TURN, LARGE_TURN = 1.5, 10.0  # degrees
UNSURE_SHIFT = 1.0  # pixels


def _contradicts(agreement: NDArray[np.float64], i: int) -> bool:
    """Whether a map correlates so much less than the others with what the rest foretell that it can only hurt."""
    typical = float(np.nanmedian(agreement))
    scatter = 1.48 * float(np.nanmedian(np.abs(agreement - typical)))
    return bool(agreement[i] < min(0.6 * typical, typical - 5 * scatter))


def _other_axis(combined: TiltSeries, joint: _Joint, say: Log) -> list[str]:
    """Try the tilt axis along the other side of the frame, coarsely; a doubt if that explains the maps better.

    The sign of the angles needs no trial: the mirrored object explains maps with reversed angles exactly as well.
    """

    def turn(a: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if a is None else np.ascontiguousarray(a.swapaxes(-1, -2))

    across = combined.evolve(
        counts=turn(combined.counts), weights=turn(combined.weights), background_maps=turn(combined.background_maps)
    )
    taken = combined.used
    scores = []
    for trial in (combined, across):
        small, bins = binned_to(trial, COARSE)
        if trial is combined:
            start = bins.down(joint.bins.up(joint.fit.found()))
            start = replace(start, rotation_deg=float(np.clip(start.rotation_deg, -LARGE_TURN, LARGE_TURN)))
        elif trial.isolated:
            start = Alignment(centre_of_mass(small))
        else:
            start = Alignment(cross_correlation(small))
        fit = JointFit(small, start, taken, most=FEWEST_BLOBS * 3)
        fit.solve(hold="rotation")  # or it would turn to the other axis
        scores.append(float(np.nanmedian(fit.agreement())))
    own, other = series_axes(combined)
    say(
        f"align: maps correlate {scores[0]:.3f} with what the others foretell with the tilt axis along {own}, "
        f"{scores[1]:.3f} along {other}; the sign of the angles, and with it the object's hand, cannot be told from "
        "the maps"
    )
    if 1 - scores[1] < 0.5 * (1 - scores[0]):
        return [
            f"the maps agree better with a tilt axis along {other} (correlation {scores[1]:.3f}, along {own} "
            f"{scores[0]:.3f}); input.tilt_axis is '{own}', try '{other}'"
        ]
    return []


def series_axes(series: TiltSeries) -> tuple[str, str]:
    """The side of the recorded maps that the tilt axis was said to be parallel to, and the other one."""
    return (series.tilt_axis, "x" if series.tilt_axis == "y" else "y")


def _doubts(series: TiltSeries, a: Alignment, taken: NDArray[np.bool_]) -> list[str]:
    """What would make a person doubt the alignment, one line each."""
    assert a.residual is not None
    assert a.errors is not None
    assert a.rotation_error is not None
    typical = float(np.median(a.residual[taken]))
    out = [
        f"tilt {series.tilts_deg[i]:g} fits {a.residual[i] / typical:.1f} times worse than is typical"
        for i in np.flatnonzero(taken)
        if a.residual[i] > max(ODD_RESIDUAL * typical, 2.0)
    ]
    if a.rotation_error > UNSURE_TURN:
        out.append(f"the rotation of the axis is known to {a.rotation_error:.1f} degrees only (standard error)")
    if abs(a.rotation_deg) > LARGE_TURN:
        out.append(
            f"the axis is rotated by {a.rotation_deg:+.1f} degrees, which is a lot; input.tilt_axis is "
            f"'{series.tilt_axis}', check it"
        )
    unsure = float(np.sqrt(np.mean(a.errors[taken] ** 2)))
    if unsure > UNSURE_SHIFT:
        out.append(f"shifts are known to {unsure:.1f} pixels only (standard error)")
    return out
