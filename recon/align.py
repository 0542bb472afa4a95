"""Shifts, tilt-axis offset and rotation, and exposures of a series, from the maps themselves.

Coarse: the centre of mass where the object is isolated, else cross-correlation of neighbours and the axis that leaves
the fewest artefacts. Joint: shifts, exposures and rotation together with a smooth object (`recon.joint`), which also
says how sure they are, and which maps the others contradict. Fine: each map is matched with the re-projection of a
sharp reconstruction (`recon.refine`). What fails a check on the way is among the alignment's doubts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.artefacts import COARSE, axis_by_artefacts
from recon.binning import Binning, binned_to
from recon.coarse import centre_of_mass, cross_correlation
from recon.errors import InputError, JobError
from recon.joint import MOST_BLOBS, JointFit
from recon.normalise import OPEN, asymmetry
from recon.operators import affine
from recon.refine import Matcher, residuals
from recon.screening import leave_out, screen, warnings
from recon.tiltseries import Alignment, TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("auto", "cross-correlation", "none")
COMBINED = "reference"
FINE = 96  # pixels along a frame's edge for the last matching
COUNTS_PER_BLOB = 33.0  # at least, of the joint fit's object: with fewer it fits noise, and errors come out too small
FEWEST_BLOBS = 100
COMMON = 0.5  # correlation with what the other tilts foretell, below which maps have nothing in common
WELL_KNOWN = 0.1  # relative error up to which an exposure found from re-projections is used
MOST_ODD = 0.7  # of the tilts must agree
ODD_RESIDUAL = 2.5  # times the typical one
UNSURE_TURN, LARGE_TURN = 1.5, 10.0  # degrees
UNSURE_SHIFT = 1.0  # pixels
Log = Callable[[str], None]


def align(
    series: TiltSeries,
    method: str = "auto",
    *,
    reference: Sequence[str] | None = None,
    resampled: bool = False,
    log: Log | None = None,
) -> TiltSeries:
    """Estimate the alignment; it goes into the model, the counts stay as they are.

    Args:
        series: after `normalise`.
        method: ``"auto"`` as the module says; ``"cross-correlation"`` as Longley et al. (2018) did:
            neighbours are cross-correlated, then the axis's offset and rotation minimise artefacts;
            ``"none"``.
        reference: elements whose sum is aligned; all by default, since one alone is noisy.
        resampled: interpolate the maps into the aligned frame, as that paper did, instead.
        log: called with a line for each stage.

    Returns:
        The series with `alignment` set, which serves every element, with standard errors and whatever makes one doubt
        it. Where the object is not isolated and exposures were not given, `exposures` are found too. Tilts that
        contradict the others get weight 0, with a warning in the history. With `resampled`, aligned maps.

    Raises:
        JobError: an unknown method.
        InputError: an unknown reference element, maps that hold nothing to align on or have nothing in common, fewer
            than three tilts that can be used.
    """
    if method not in METHODS:
        raise JobError(f"align method {method!r} is unknown; use one of {', '.join(METHODS)}")
    say = log or (lambda line: None)
    combined = combine(series, reference)
    if method == "none":
        aligned = series.evolve("align: none", alignment=Alignment.identity(series.n_tilts))
    elif method == "cross-correlation":
        start = Alignment(cross_correlation(combined))
        say("align: cross-correlation done")
        final = split_offset(axis_by_artefacts(combined, start), series.used)
        final = replace(final, method=method, residual=residuals(combined, final))
        aligned = series.evolve(_note(final), alignment=final)
    else:
        aligned = _automatic(series, reference, say)
    for doubt in aligned.alignment.doubts:
        say(f"warning: {doubt}")
    return resample(aligned) if resampled else aligned


def _note(a: Alignment) -> str:
    sure = "" if a.rotation_error is None else f" +- {a.rotation_error:.2f}"
    return (
        f"align: {a.method}; axis at {a.axis_offset:+.2f} pixels, rotated by {a.rotation_deg:+.2f}{sure} degrees; "
        f"largest shift {np.abs(a.shifts).max():.1f} pixels"
    )


def combine(series: TiltSeries, reference: Sequence[str] | None = None) -> TiltSeries:
    """The sum of some elements' maps as a series of one element, for alignment only."""
    pick = [series.index(name) for name in (reference or series.elements)]
    counts = series.counts[pick]
    signal = counts.sum(axis=(1, 2, 3), dtype=np.float64)
    if not counts.any():
        raise InputError("the reference maps are zero everywhere; choose another align reference")
    exposures = (signal[:, None] * series.exposures[pick]).sum(axis=0) / signal.sum()
    of_pixels = series.background_maps
    return series.evolve(
        elements=(COMBINED,),
        counts=counts.sum(axis=0, keepdims=True),
        exposures=exposures[None],
        exposure_errors=None,
        background=series.background[pick].sum(axis=0, keepdims=True),
        background_maps=None if of_pixels is None else of_pixels[pick].sum(axis=0, keepdims=True),
    )


# ---------------------------------------------------------------- from nothing to fine


@dataclass(frozen=True)
class _Joint:
    """A joint fit, the grid it was made on, how it started, and whether it settled."""

    fit: JointFit
    bins: Binning
    how: str
    settled: bool


def _automatic(series: TiltSeries, reference: Sequence[str] | None, say: Log) -> TiltSeries:
    series = screen(series)
    first = int(series.used.sum())
    while True:
        combined, taken = combine(series, reference), series.used
        joint = _joint(combined, say)
        agreement = joint.fit.agreement()
        typical = float(np.median(agreement[taken]))
        if typical < COMMON or taken.sum() < MOST_ODD * first:
            raise InputError(
                f"the maps have nothing in common: what the other tilts foretell of one correlates {typical:.2f} with "
                "it; check the tilts, their order and the reference elements"
            )
        worst = int(np.nanargmin(agreement))
        if not _contradicts(agreement, worst):
            break
        why = (
            f"it contradicts the others, whose prediction correlates {agreement[worst]:.2f} with it; "
            f"{typical:.2f} is typical"
        )
        series = leave_out(series, {worst: why})
        say(series.history[-1])
    fit, bins = joint.fit, joint.bins
    covariance = fit.uncertainty()
    found = bins.up(fit.found())
    turn = float(np.degrees(np.sqrt(covariance[-1, -1])))
    say(
        f"align: joint fit, axis at {_axis(found, taken):+.2f} pixels, "
        f"rotated by {found.rotation_deg:+.2f} +- {turn:.2f} degrees"
    )
    doubts = list(warnings(series)) + _other_axis(combined, joint, say)
    if not joint.settled:
        doubts.append("the joint fit of shifts and rotation did not settle")
    if OPEN in "".join(series.history):
        series, more = _exposures(series, joint)
        doubts += more
        combined = combine(series, reference)
    fine, fine_bins = binned_to(combined, FINE)
    matcher = Matcher(fine, fine_bins.down(found))
    converged = matcher.converge(8, 40)
    if not converged:
        doubts.append("the matching of re-projections did not settle")
    final = split_offset(fine_bins.up(matcher.alignment), taken)
    # what it costs that the object is unknown, from the joint fit
    spread = np.sqrt(np.diag(covariance)[:-1].reshape(-1, 3)[:, :2])
    final = replace(
        final,
        method=f"{joint.how}, joint fit, re-projection matching",
        residual=residuals(combined, final),
        errors=np.where(
            taken[:, None], matcher.errors() * fine_bins.factor * np.maximum(spread / fit.known(), 1), np.nan
        ),
        rotation_error=turn,
        converged=joint.settled and converged,
    )
    doubts += _doubts(series, final, taken)
    final = replace(final, doubts=tuple(dict.fromkeys(doubts)))
    return series.evolve(_note(final), alignment=final)


def _joint(combined: TiltSeries, say: Log) -> _Joint:
    """The joint fit from a coarse start, first with few blobs."""
    taken = combined.used
    if combined.isolated:
        start, how = Alignment(centre_of_mass(combined)), "centre of mass"
    else:
        start, how = Alignment(cross_correlation(combined)), "cross-correlation"
        start = axis_by_artefacts(combined, start, rotate=False)
    say(f"align: coarse shifts by {how}, axis at {_axis(start, taken):+.2f} pixels")
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
    return _Joint(fit, bins, how, settled)


def _axis(alignment: Alignment, taken: NDArray[np.bool_]) -> float:
    """Column of the axis: the middle of the displacements along u."""
    return float(np.median(alignment.displacements[taken, 1]))


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
    say(
        f"align: maps correlate {scores[0]:.3f} with what the others foretell with the tilt axis along y, "
        f"{scores[1]:.3f} along x; the sign of the angles, and with it the object's hand, cannot be told from the maps"
    )
    if 1 - scores[1] < 0.5 * (1 - scores[0]):
        return [
            f"the maps agree better with a tilt axis along x (correlation {scores[1]:.3f}, along y {scores[0]:.3f}); "
            "check input.tilt_axis"
        ]
    return []


def _exposures(series: TiltSeries, joint: _Joint) -> tuple[TiltSeries, list[str]]:
    """Exposures of an object that is not wholly in view, from what re-projections agree on, element by element.

    Where an element is too weak for that, the curve that all of them share serves it; where that is not known either,
    exposures stay 1.
    """
    taken = series.used
    exposures, errors = series.exposures.copy(), np.full(series.exposures.shape, np.nan)
    shared, shared_errors = joint.fit.exposures, _exposure_errors(joint.fit)
    weak, unknown = [], []
    for e, name in enumerate(series.elements):
        small, _ = binned_to(combine(series, [name]), FINE)
        fit = JointFit(small, joint.fit.found(), taken, most=joint.fit.most // 2)
        fit.solve(hold="geometry")
        own = _exposure_errors(fit, hold="geometry")
        if np.median(own[taken]) < WELL_KNOWN and fit.log_exposures.std() < 1:
            exposures[e], errors[e] = fit.exposures, own
        elif np.median(shared_errors[taken]) < WELL_KNOWN:
            exposures[e], errors[e] = shared, shared_errors
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
    note += asymmetry(series.tilts_deg[taken], exposures[:, taken])
    return series.evolve(f"normalise: {note}", exposures=exposures, exposure_errors=errors), doubts


def _exposure_errors(fit: JointFit, hold: str = "") -> NDArray[np.float64]:
    variance = np.diag(fit.uncertainty(hold))[:-1].reshape(-1, 3)[:, 2]
    return np.asarray(np.sqrt(np.maximum(variance, 0)) * fit.exposures)


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
        out.append(f"the axis is rotated by {a.rotation_deg:+.1f} degrees, which is a lot; check input.tilt_axis")
    unsure = float(np.sqrt(np.mean(a.errors[taken] ** 2)))
    if unsure > UNSURE_SHIFT:
        out.append(f"shifts are known to {unsure:.1f} pixels only (standard error)")
    return out


def split_offset(alignment: Alignment, taken: NDArray[np.bool_] | None = None) -> Alignment:
    """Displacements as residual shifts plus one axis offset, their median along u; only the sum enters the model.

    The median is that of the tilts that take part, all by default.
    """
    moved = alignment.displacements
    offset = float(np.median(moved[:, 1] if taken is None else moved[taken, 1]))
    return replace(alignment, shifts=moved - [0.0, offset], axis_offset=offset)


def resample(series: TiltSeries, frame: tuple[int, int] | None = None) -> TiltSeries:
    """Maps in the aligned frame, per unit exposure and without background: no counts any more.

    Args:
        series: aligned.
        frame: ``(ny, nx)`` of the aligned frame; the recorded one by default.

    Returns:
        A scaled series with identity alignment, exposures 1 and background 0 (cubic splines).
    """
    from scipy import ndimage

    ideal = frame or series.frame
    # recorded = A^-1 (ideal - b), indices (u, y); ndimage wants (y, u)
    a = affine(series.alignment, series.frame, ideal)
    counts = np.empty((len(series.elements), series.n_tilts, *ideal), np.float32)
    seen = np.ones(series.counts.shape[1:], np.float32) if series.weights is None else series.weights
    weights = np.empty((series.n_tilts, *ideal), np.float32)
    for t, (a0, a1, b0, a3, a4, b1) in enumerate(a):
        inverse = np.linalg.inv([[a4, a3], [a1, a0]])
        shift = -inverse @ [b1, b0]
        # pixels that no map covers, or that are next to one left out, are left out
        weights[t] = ndimage.affine_transform(seen[t], inverse, shift, ideal, order=1, mode="constant") > 0.999
        for e in range(len(series.elements)):
            image = (series.counts[e, t] - series.offset(e)[t]) / series.exposures[e, t]
            counts[e, t] = ndimage.affine_transform(image, inverse, shift, ideal, order=3, mode="constant")
    return series.evolve(
        "resampled into the aligned frame",
        counts=counts,
        exposures=np.ones_like(series.exposures),
        background=np.zeros_like(series.background),
        background_maps=None,
        alignment=Alignment.identity(series.n_tilts),
        weights=None if weights.all() else weights,
        scaled=True,
    )
