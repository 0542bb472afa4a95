"""Shifts, tilt-axis offset and rotation, and exposures of a series, from the maps themselves.

Coarse: the centre of mass where the object is isolated, else cross-correlation of neighbours and the axis that leaves
the fewest artefacts. Joint: shifts, exposures and rotation together with a smooth object (`joint`), which also
says how sure they are, and which maps the others contradict. Fine: each map is matched with the re-projection of a
sharp reconstruction (`reprojection`). What fails a check on the way is among the alignment's doubts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.alignment.axis import axis_by_artefacts
from recon.alignment.coarse import cross_correlation
from recon.alignment.doubts import MOST_ODD, contradicts, of_estimate, other_axis
from recon.alignment.exposures import exposures_of
from recon.alignment.on_image import align_on_image
from recon.alignment.reprojection import Matcher, residuals
from recon.alignment.rest import align_rest
from recon.alignment.schemes import align_scheme
from recon.alignment.start import FINE, JointStage, Log, axis_column, check_alignable, joint_stage
from recon.errors import MARK, InputError, JobError, teller
from recon.model.resampling import resample
from recon.preparation.screening import leave_out, screen, warnings
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.channels import common_elements
from recon.series.combine import combine
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, unit_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("auto", "cross-correlation", "none")
ROUNDS, ROUNDS_EXPOSED = 8, 16  # of the matching, at most; and where it finds exposures, too
COMMON = 0.5  # correlation with what the other tilts foretell, below which maps have nothing in common


def align(
    series: TiltSeries,
    method: str = "auto",
    *,
    reference: Sequence[str] | str | None = None,
    resampled: bool = False,
    log: Log | None = None,
    device: str = "auto",
) -> TiltSeries:
    """Estimate the alignment; it goes into the model, the counts stay as they are.

    Args:
        series: after `normalise`.
        method: ``"auto"`` as the module says; ``"cross-correlation"`` as Longley et al. (2018) did:
            neighbours are cross-correlated, then the axis's offset and rotation minimise artefacts;
            ``"none"``.
        reference: elements whose sum is aligned; by default the series' `image`, such as HAADF, if it has one, be it at
            other tilts (see `on_image`), else all elements, since one alone is noisy.
        resampled: interpolate the maps into the aligned frame, as that paper did, instead.
        log: called with a line for each stage; by default the logger ``recon`` gets them, and doubts are a
            `recon.ReconWarning` each.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, where the joint fit and reconstructions are solved.

    A projection of which only some of the reference's elements have a map is aligned by those, see `rest`.

    Returns:
        The series with `alignment` set, which serves every element, with standard errors and whatever makes one doubt
        it. Where the object is not isolated and exposures were not given, `exposures` are found too. Tilts that
        contradict the others get weight 0 and are named in `left_out`. With `resampled`, aligned maps.

    Raises:
        JobError: an unknown method.
        BackendError: CUDA asked for where it cannot be used.
        InputError: an unknown reference element, maps that hold nothing to align on or have nothing in common, fewer
            than three tilts that can be used; with "auto", a frame of fewer than 8 pixels along a side.
    """
    series = TiltSeries.of(series, "align")
    if method not in METHODS:
        raise JobError(f"align method {method!r} is unknown; use one of {', '.join(METHODS)}")
    device = backend.resolve_device(device)
    told = [MARK + line for line in warnings(series)]  # by what found them
    tell = teller(log)

    def say(line: str) -> None:
        told.append(line)
        tell(line)

    if method == "auto":
        check_alignable(series.frame)
    if method != "none":
        backend.compile_kernels(say, solver=device == "cpu")
    recorded, series = series, series_in(series, unit_of(series))
    by_image = reference is None and series.image_tilts_deg is not None
    if reference is None and (series.image is None or by_image) and series.element_weights is not None:
        reference = common_elements(series)  # whatever is left out on the way
    combined = combine(series, reference)
    if series.scheme is not None and (method == "cross-correlation" or resampled):
        raise JobError(
            f"align {'resampled' if resampled else repr(method)} serves a single axis, not {series.scheme}; use 'auto' "
            "or 'none', and the alignment goes into the model"
        )
    if resampled:
        series.check_pixels("align resampled", "leave it out, the alignment goes into the model")
    if method == "none":
        aligned = series.evolve("align: none", alignment=Alignment.identity(series.n_tilts))
    elif by_image:
        aligned = align_on_image(
            series, lambda own: align(own, method, log=lambda line: _plain(say, line), device=device), say, device
        )
    elif method == "cross-correlation":
        start = Alignment(cross_correlation(combined))
        say("align: cross-correlation done")
        final = split_offset(axis_by_artefacts(combined, start), combined.used)
        final = replace(final, method=method, residual=residuals(combined, final, device=device))
        aligned = series.evolve(_note(final), alignment=final)
    elif series.scheme is not None:
        series = screen(series)
        combined = combine(series, reference)
        aligned = align_scheme(series, combined, lambda half: _automatic(half, reference, say, device), say, device)
    else:
        aligned = _automatic(series, reference, say, device)
    if method != "none" and aligned.element_weights is not None and not by_image:
        aligned = align_rest(aligned, combine(aligned, reference).used, say, device=device)
    for doubt in aligned.alignment.doubts:
        if MARK + doubt not in told:
            say(MARK + doubt)
    aligned = replace(
        aligned, counts=recorded.counts, background=recorded.background, background_maps=recorded.background_maps
    )
    return resample(aligned) if resampled else aligned


def _plain(say: Log, line: str) -> None:
    """Say it, unless it is a warning, which is told with the series' own."""
    if not line.startswith(MARK):
        say(line)


def _note(a: Alignment) -> str:
    return f"align: {a}"


# ---------------------------------------------------------------- from nothing to fine


@backend.one_blas_thread()
def _automatic(series: TiltSeries, reference: Sequence[str] | None, say: Log, device: str = "cpu") -> TiltSeries:
    series, joint = _consistent(series, reference, say, device)
    combined = combine(series, reference)
    taken, found = combined.used, joint.bins.up(joint.fit.found())
    covariance = joint.fit.uncertainty()
    turn = joint.rotation_error
    say(
        f"align: joint fit, axis at {axis_column(found, taken):+.2f} pixels, "
        f"rotated by {found.rotation_deg:+.2f} +- {turn:.2f} degrees"
    )
    doubts = [*warnings(series), *other_axis(combined, joint, say)]
    if not joint.settled:
        doubts.append("the joint fit of shifts and rotation did not settle")
    if series.exposures_from in ("open", "re-projections"):
        series, more = exposures_of(series, joint, shared=reference is not None or series.image is None)
        doubts += more
    combined = combine(series, reference)
    # an image of an object that leaves the frame has no total that it could be exposed by
    exposed = reference is None and series.image is not None and combined.exposures_from == "assumed"
    final, settled = _matched(combined, joint, found, covariance, exposed=exposed)
    if not settled:
        doubts.append("the matching of re-projections did not settle")
    final = replace(final, rotation_error=turn, converged=joint.settled and settled)
    doubts += of_estimate(series, final, taken)
    final = replace(final, doubts=tuple(dict.fromkeys(doubts)))
    return series.evolve(_note(final), alignment=final)


def _consistent(
    series: TiltSeries, reference: Sequence[str] | None, say: Log, device: str
) -> tuple[TiltSeries, JointStage]:
    """The series without maps that contradict the others, and the joint fit of the rest."""
    series = screen(series) if series.exposures_from == "assumed" else series  # else `normalise` has
    first = int(combine(series, reference).used.sum())
    while True:
        combined = combine(series, reference)
        joint = joint_stage(combined, say, device)
        agreement, taken = joint.fit.agreement(), combined.used
        typical = float(np.median(agreement[taken]))
        if typical < COMMON or taken.sum() < MOST_ODD * first:
            raise InputError(
                f"the maps have nothing in common: what the other tilts foretell of one correlates {typical:.2f} with "
                "it; check the tilts, their order and the reference elements"
            )
        worst = int(np.nanargmin(agreement))
        if not contradicts(agreement, worst):
            return series, joint
        why = (
            f"it contradicts the others, whose prediction correlates {agreement[worst]:.2f} with it; "
            f"{typical:.2f} is typical"
        )
        series = leave_out(series, {worst: why})
        say(f"warning: tilt {series.tilts_deg[worst]:g} left out: {why}")


def _matched(
    combined: TiltSeries, joint: JointStage, found: Alignment, covariance: NDArray[np.float64], *, exposed: bool
) -> tuple[Alignment, bool]:
    """The alignment after each map was matched with its re-projection, and whether that settled.

    The errors of shifts are those of the matching, in which the object is known, times what it costs that it is not,
    from the joint fit and its `covariance`. With `exposed`, exposures are matched, too.
    """
    taken = combined.used
    fine, bins = binned_to(combined, FINE)
    if exposed:
        fine = fine.evolve(exposures=joint.fit.exposures[None])
    matcher = Matcher(fine, bins.down(found), exposed=exposed, device=joint.fit.device)
    settled = matcher.converge(ROUNDS_EXPOSED if exposed else ROUNDS, 40)
    if exposed:
        combined = combined.evolve(exposures=matcher.series.exposures)
    final = split_offset(bins.up(matcher.alignment), taken)
    spread = np.sqrt(np.diag(covariance)[:-1].reshape(-1, 3)[:, :2])
    errors = matcher.errors() * bins.factor * np.maximum(spread / joint.fit.known(), 1)
    final = replace(
        final,
        method=f"{joint.how}, joint fit, re-projection matching",
        residual=residuals(combined, final, matcher, joint.fit.device),
        errors=np.where(taken[:, None], errors, np.nan),
    )
    return final, settled


def split_offset(alignment: Alignment, taken: NDArray[np.bool_] | None = None) -> Alignment:
    """Displacements as residual shifts plus one axis offset, their median along u; only the sum enters the model.

    The median is that of the tilts that take part, all by default.
    """
    moved = alignment.displacements
    offset = float(np.median(moved[:, 1] if taken is None else moved[taken, 1]))
    return replace(alignment, shifts=moved - [0.0, offset], axis_offset=offset)
