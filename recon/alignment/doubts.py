"""What would make a person doubt an alignment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.axis import COARSE
from recon.alignment.coarse import centre_of_mass, cross_correlation
from recon.alignment.joint import JointFit
from recon.alignment.start import FEWEST_BLOBS, JointStage, Log
from recon.io.alignment import AgreementRecord, AlignmentRecord, by_tilt
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ODD = 0.7  # of the tilts must agree
ODD_RESIDUAL, LEAST_ODD = 2.5, 2.0  # times the typical chi-square, and chi-square, that both make a fit odd
POOR = 2.0  # chi-square of counts, all in all, beyond which the model lacks something
BAND, MOST_ABOVE = 2.0, 1 / 3  # standard errors above 1, and the share of maps that may lie beyond
ROUGHLY = 0.05  # pixels to which shifts are found about either axis, of maps binned to `COARSE`
OFF, SIGMAS = 0.5, 4.0  # pixels, standard errors: a map further than both from its re-projection is told of
DIM = 0.1  # relative difference in brightness, likewise
UNSURE_TURN, LARGE_TURN = 1.5, 10.0  # degrees
UNSURE_SHIFT = 1.0  # pixels


def contradicts(agreement: NDArray[np.float64], i: int) -> bool:
    """Whether a map correlates so much less than the others with what the rest foretell that it can only hurt."""
    typical = float(np.nanmedian(agreement))
    scatter = 1.48 * float(np.nanmedian(np.abs(agreement - typical)))
    return bool(agreement[i] < min(0.6 * typical, typical - 5 * scatter))


def other_axis(combined: TiltSeries, joint: JointStage, say: Log) -> list[str]:
    """Try the tilt axis along the other side of the frame, coarsely; a doubt if that explains the maps better.

    The sign of the angles needs no trial: the mirrored object explains maps with reversed angles exactly as well.
    """

    def turn(a: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if a is None else np.ascontiguousarray(a.swapaxes(-1, -2))

    across = combined.evolve(
        counts=turn(combined.counts), weights=turn(combined.weights), background_maps=turn(combined.background_maps)
    )
    if combined.scene is not None:
        across = across.evolve(scene=replace(combined.scene, empty=combined.scene.empty.swapaxes(-1, -2)))
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
        fit = JointFit(small, start, taken, most=FEWEST_BLOBS * 3, section=joint.fit.section)
        fit.solve(ROUGHLY, hold="rotation")  # or it would turn to the other axis
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


def of_estimate(series: TiltSeries, a: Alignment, taken: NDArray[np.bool_]) -> list[str]:
    """What an estimate says against itself, one line each."""
    out = odd_fits(series.tilts_deg, np.where(taken, np.nan if a.residual is None else a.residual, np.nan))
    out += _turn(a.rotation_error)
    if abs(a.rotation_deg) > LARGE_TURN:
        out.append(
            f"the axis is rotated by {a.rotation_deg:+.1f} degrees, which is a lot; input.tilt_axis is "
            f"'{series.tilt_axis}', check it"
        )
    unsure = 0.0 if a.errors is None else float(np.sqrt(np.mean(a.errors[taken] ** 2)))
    if unsure > UNSURE_SHIFT:
        out.append(f"shifts are known to {unsure:.1f} pixels only (standard error)")
    return out


def _turn(error: float | None) -> list[str]:
    if error is None or error <= UNSURE_TURN:
        return []
    return [f"the rotation of the axis is known to {error:.1f} degrees only (standard error)"]


def odd_fits(
    tilts_deg: NDArray[np.float64], chi_square: NDArray[np.float64], told: NDArray[np.bool_] | None = None
) -> list[str]:
    """Tilts that fit much worse than the others, nan for those without weight; without those already `told` of."""
    if not np.isfinite(chi_square).any():
        return []
    typical = float(np.nanmedian(chi_square))
    odd = _odd(chi_square) & ~(np.zeros(len(chi_square), bool) if told is None else told)
    return [
        f"the map at tilt {tilts_deg[i]:g} fits {chi_square[i] / typical:.1f} times worse than is typical"
        for i in np.flatnonzero(odd)
    ]


def _odd(chi_square: NDArray[np.float64]) -> NDArray[np.bool_]:
    typical = float(np.nanmedian(chi_square)) if np.isfinite(chi_square).any() else np.inf
    return np.asarray(chi_square > max(ODD_RESIDUAL * typical, LEAST_ODD))


def doubts(record: AlignmentRecord) -> tuple[str, ...]:
    """One line for each reason to doubt the alignment of a run, its agreement with the result included."""
    tilts = np.array(record.tilts_deg)
    residual = by_tilt(record.residual_chi_square)
    residual = np.full(len(tilts), np.nan) if residual is None else residual
    out = list(record.doubts)
    if record.converged is False and not any("did not settle" in line for line in out):
        out.append("it did not converge: shifts were still moving when it stopped")
    out += odd_fits(tilts, residual) + _turn(record.rotation_error_deg)
    if record.agreement is not None:
        out += _stray(tilts, record.agreement, _odd(residual))
    if record.isolated is False:
        out.append(
            "the object leaves the frame: its totals say nothing of exposures, and few tilts see what is near the edge"
        )
    return tuple(dict.fromkeys([*out, *left_out_line(record)]))


def left_out_line(record: AlignmentRecord) -> tuple[str, ...]:
    """The tilts left out, in one line; none if there are none."""
    left = record.left_out_deg
    if not left:
        return ()
    return (f"tilt {', '.join(f'{t:g}' for t in left)} {'was' if len(left) == 1 else 'were'} left out",)


def _stray(tilts: NDArray[np.float64], found: AgreementRecord, told: NDArray[np.bool_]) -> list[str]:
    """Tilts that stand out against the re-projections."""
    out = []
    for moves, errors, words in (
        (found.shifts_u_pixels, found.errors_u_pixels, "across"),
        (found.shifts_v_pixels, found.errors_v_pixels, "along"),
    ):
        moved, error = by_tilt(moves), by_tilt(errors)
        if moved is None or error is None or not np.isfinite(moved).any():
            continue
        spread = 1.4826 * float(np.nanmedian(np.abs(moved)))
        if spread > max(OFF, SIGMAS * float(np.nanmedian(error))):
            out.append(f"maps lie {spread:.2f} pixels {words} the axis from their re-projections, all in all")
        far = np.abs(moved) > np.maximum(OFF, SIGMAS * np.hypot(error, spread))
        out += [
            f"the map at tilt {tilts[i]:g} lies {moved[i]:+.2f} pixels {words} the axis from its re-projection"
            for i in np.flatnonzero(far)
        ]
    ratio, error = by_tilt(found.exposures), by_tilt(found.exposure_errors)
    assert ratio is not None
    assert error is not None
    out += [
        f"the map at tilt {tilts[i]:g} is {ratio[i]:.2f} times as bright as its exposure says"
        for i in np.flatnonzero(np.abs(ratio - 1) > np.maximum(DIM, SIGMAS * error))
    ]
    misfit = by_tilt(found.chi_square)
    assert misfit is not None
    out += odd_fits(tilts, misfit, told)
    typical = float(np.nanmedian(misfit)) if np.isfinite(misfit).any() else 0.0
    if typical > POOR and found.noise == "poisson":
        out.append(f"maps fit {typical:.1f} times worse than counts of their number would")
    elif found.noise == "poisson":
        out += _beyond_noise(misfit, by_tilt(found.chi_square_errors))
    return out


def _beyond_noise(misfit: NDArray[np.float64], error: NDArray[np.float64] | None) -> list[str]:
    """Whether too many maps fit worse than counts scatter, though none stands out; nan for those without weight."""
    if error is None:
        return []
    judged = np.isfinite(misfit) & np.isfinite(error)
    above = judged & (misfit > 1 + BAND * error)
    if above.sum() <= MOST_ABOVE * judged.sum():
        return []
    return [
        f"{above.sum()} of {judged.sum()} maps fit worse than the counts' noise allows (chi-square "
        f"{np.median(misfit[above]):.2f} in the middle of these, at most {np.median(1 + BAND * error[above]):.2f} by "
        "chance): the model lacks something"
    ]
