"""Alignment of a series that was not taken about one axis.

Each axis about which three maps or more were tilted, a *half* of a dual-axis series, is aligned by itself, as a
single-axis series is; but how the axis is rotated in the maps, all halves tell together. Then they are brought
together: the rigid motion of the specimen between them is the one by which a reconstruction of either half foretells
the maps of the other best, so that no reconstruction is judged by the maps that it was made from. Maps that belong to
no half (a cone has an axis for every map) start from their centres of mass. At last every map is matched with the
re-projection of a reconstruction of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.alignment.coarse import centre_of_mass
from recon.alignment.reprojection import Matcher, residuals
from recon.alignment.rest import align_rest
from recon.alignment.start import FINE, Log
from recon.errors import InputError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import make_projector
from recon.preparation.screening import BORDER
from recon.series.alignment import Alignment
from recon.series.binning import binned_to
from recon.series.checks import MIN_TILTS
from recon.series.combine import combine
from recon.series.selection import select
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGES = (24, 48)  # pixels along a frame's edge where halves are brought together, coarse first
ROUNDS = 6  # of Gauss and Newton for a motion
STEP = (1.0, 0.5)  # degrees and voxels, for differences that stand for derivatives
MOST = (8.0, 6.0)  # degrees and voxels that a round may move
SAME = 0.5  # degrees by which axes are rotated unlike in their maps
ROUNDS_EXPOSED = 16  # of the last matching where it finds exposures, too
UNLIKE = 2.5  # times the others' misfit, above which a map that the frame cuts does not serve
DISAGREE = 1.0  # degrees by which the motions found from either half may differ

Align = Callable[[TiltSeries], TiltSeries]


@dataclass(frozen=True, eq=False)
class Half:
    """Maps that were tilted about one axis: where they stand, and their tilts."""

    index: NDArray[np.intp]
    tilts_deg: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Motion:
    """How the specimen moved: turned by the rotation vector `turn` (degrees), then shifted by `shift` (voxels).

    Components are ``(z, y, x)``; about each axis the sense is that of `TiltGeometry.turned`.
    """

    turn: NDArray[np.float64]
    shift: NDArray[np.float64]

    def of(self, geometry: TiltGeometry) -> TiltGeometry:
        """The geometry as the moved specimen met it."""
        from scipy.spatial.transform import Rotation

        matrix = Rotation.from_rotvec(self.turn, degrees=True).as_matrix()
        return geometry.transformed(matrix, self.shift)


def halves(scheme: TiltGeometry) -> list[Half]:
    """The groups of at least three projections that were tilted about one axis, in the order of their first maps."""
    out: list[Half] = []
    free = np.ones(len(scheme), bool)
    for i in range(len(scheme)):
        if not free[i]:
            continue
        axis = scheme.v[i] / np.linalg.norm(scheme.v[i])
        upright = np.array([1.0, 0, 0]) - axis[0] * axis
        if np.linalg.norm(upright) < 1e-6:
            continue
        upright /= np.linalg.norm(upright)
        turn = np.stack([upright, axis, np.cross(upright, axis)])  # to a frame in which the axis is y
        index = np.flatnonzero(free & (np.abs(scheme.v - scheme.v[i]).max(axis=1) < 1e-6))
        if index.size < MIN_TILTS:
            continue
        found = scheme[index].transformed(turn).parts()
        if len(found) == 1 and found[0].axis == "y" and not found[0].shifts.any():
            out.append(Half(index, found[0].angles_deg))
            free[index] = False
    return out


def align_scheme(series: TiltSeries, combined: TiltSeries, align: Align, say: Log, device: str = "cpu") -> TiltSeries:
    """The series with its alignment, and with the scheme as it really was.

    Args:
        series: with a scheme, normalised.
        combined: the sum of its reference elements, as one element.
        align: of a single-axis series.
        say: called with a line for each stage.
        device: of the last matching, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: a half cannot be aligned; or maps belong to no half and the object is not isolated: it fills a map,
            or there are halves as well, whose exposures would not be those of the others.
    """
    assert series.scheme is not None
    groups = halves(series.scheme)
    scheme = series.scheme
    grouped = [h.index for h in groups]
    lone = np.setdiff1d(np.arange(series.n_tilts), np.concatenate(grouped) if grouped else np.empty(0, np.intp))
    shifts = np.zeros((series.n_tilts, 2))
    doubts: list[str] = []
    if lone.size:
        if not series.isolated and (groups or series.scene is None or (series.scene.reach[series.used] == 2).any()):
            raise InputError(
                f"projection {lone[0] + 1} shares its tilt axis with fewer than {MIN_TILTS} others, and the object is "
                "not wholly in view: such maps are aligned from their centres of mass; use align method 'none', or "
                "tilt about one axis or two"
            )
        shifts[lone] = centre_of_mass(combined)[lone]
        say(f"align: {lone.size} maps start from their centres of mass")
    parts = [align(select(series, half.index, half.tilts_deg)) for half in groups]
    rotations = in_common([part.alignment for part in parts])
    for number, (half, part, rotation) in enumerate(zip(groups, parts, rotations, strict=True)):
        name = f"axis {number + 1}"
        shifts[half.index] = part.alignment.displacements
        turned = scheme[half.index].moved(np.zeros((half.index.size, 2)), rotation)
        scheme = _replaced(scheme, half.index, turned)
        series = _merged(series, half, part)
        doubts += [f"{name}: {doubt}" for doubt in part.alignment.doubts]
        say(f"align: {name} of {len(groups)}, rotated by {rotation:+.2f} degrees in its maps")
    combined = combined.evolve(exposures=series.exposures[:1], weights=_both(combined.weights, series.weights))
    for number, half in enumerate(groups[1:], start=2):
        motion, apart, factor = _motion(combined.evolve(scheme=scheme), shifts, groups[0], half)
        if series.exposures_from == "re-projections":  # found for each half by itself, so up to a factor
            exposures = series.exposures.copy()
            exposures[:, half.index] *= factor
            series = series.evolve(exposures=exposures, exposures_from="re-projections")
            combined = combined.evolve(exposures=exposures[:1])
            say(f"align: axis {number} was exposed {factor:.3f} times as much as axis 1")
        moved = Motion(motion.turn, np.zeros(3)).of(scheme[half.index])
        # shifts of the specimen are shifts of its maps
        shifts[half.index] += np.stack([moved.v @ motion.shift, moved.u @ motion.shift], axis=1)
        scheme = _replaced(scheme, half.index, moved)
        z, y, x = motion.turn
        say(f"align: axis {number} against axis 1: turned by {z:+.2f}, {y:+.2f}, {x:+.2f} degrees about z, y, x")
        if apart > DISAGREE:
            doubts.append(
                f"the motion between axis 1 and axis {number} is not sure: found from either half, its rotations "
                f"differ by {apart:.1f} degrees"
            )
    series, combined = series.evolve(scheme=scheme), combined.evolve(scheme=scheme)
    fine, bins = binned_to(combined, FINE)
    exposed = lone.size > 0 and series.exposures_from == "open"  # else totals say it, or the halves' fits have
    matcher = Matcher(fine, bins.down(Alignment(shifts)), exposed=exposed, device=device)
    converged = matcher.converge(ROUNDS_EXPOSED if exposed else 8, 40)
    if exposed:
        exposures = np.broadcast_to(matcher.series.exposures, series.exposures.shape).copy()
        series = series.evolve(exposures=exposures, exposures_from="re-projections")
        combined = combined.evolve(exposures=exposures[:1])
    if not converged:
        doubts.append("the matching of re-projections did not settle")
    final = bins.up(matcher.alignment)
    final = replace(
        final,
        shifts=final.displacements,
        axis_offset=0.0,
        method=f"{len(groups)} axes by themselves, their motion, re-projection matching"
        if groups
        else "centre of mass, re-projection matching",
        residual=residuals(combined, final, matcher, device),
        errors=matcher.errors() * bins.factor,
        converged=converged,
        doubts=tuple(dict.fromkeys(doubts)),
    )
    note = f"align: {final.method}; largest shift {np.abs(final.shifts).max():.1f} pixels"
    return _taken_back(series.evolve(note, alignment=final), say, device)


def _taken_back(series: TiltSeries, say: Log, device: str = "cpu") -> TiltSeries:
    """The series in which maps serve again that the frame cuts, matched with what the others say of them.

    By their totals they could not be exposed, nor placed by their centres of mass; but of the few maps of a scheme each
    shows what no other does. Those that do not fit stay out, as do all where masks differ from map to map.
    """
    taken, back = series.used, [i for i, why in series.left_out if why == BORDER]
    if not back or series.weights is None or series.exposures_from != "totals":
        return series
    mask = series.weights[taken][0]
    if not (series.weights[taken] == mask).all():
        return series
    weights = series.weights.copy()
    weights[back] = mask
    left_out = tuple((i, why) for i, why in series.left_out if i not in back)
    try:
        tried = align_rest(series.evolve(weights=weights, left_out=left_out), taken, say, cut=True, device=device)
    except InputError as exc:  # too few of the others show what they show; without them it is aligned
        say(f"align: maps in which the frame cuts the object stay left out: {exc}")
        return series
    found = residuals(combine(tried), tried.alignment, device=device)
    odd = [i for i in back if found[i] > UNLIKE * float(np.median(found[taken]))]
    told = [i + 1 for i in back if i not in odd]
    if not told:
        return series
    weights[odd] = 0
    left_out = tuple(pair for pair in series.left_out if pair[0] not in back or pair[0] in odd)
    known = series.alignment.residual
    note = f"align: projections {', '.join(map(str, told))}, in which the frame cuts the object, serve again"
    say(note)
    return tried.evolve(
        note,
        weights=weights,
        left_out=left_out,
        alignment=replace(tried.alignment, residual=found if known is None else np.where(taken, known, found)),
    )


def in_common(found: Sequence[Alignment]) -> list[float]:
    """How each axis is rotated in its maps, degrees, given that the axes differ by about `SAME`.

    The rod and the scan are those of all axes; what a specimen was turned by is in its motion. A few tilts tell the
    rotation to several degrees only, so each estimate moves towards the mean of all as far as its error asks for.
    """
    own = np.array([a.rotation_deg for a in found])
    errors = np.array([0.0 if a.rotation_error is None else a.rotation_error for a in found])
    if own.size < 2:
        return [float(r) for r in own]
    weights = 1 / (errors**2 + SAME**2)
    mean = float((weights * own).sum() / weights.sum())
    return [float(r) for r in mean + (own - mean) * SAME**2 * weights]


def _replaced(scheme: TiltGeometry, index: NDArray[np.intp], some: TiltGeometry) -> TiltGeometry:
    """The scheme with some of its projections replaced."""
    others = np.setdiff1d(np.arange(len(scheme)), index)
    if others.size == 0:
        return some
    order = np.argsort(np.concatenate([others, index]))
    return (scheme[others] + some)[order]


def _merged(series: TiltSeries, half: Half, part: TiltSeries) -> TiltSeries:
    """What the alignment of a half found, put back: exposures and maps left out."""
    if part.exposures_from == "re-projections":
        exposures = series.exposures.copy()
        exposures[:, half.index] = part.exposures
        series = series.evolve(exposures=exposures, exposures_from=part.exposures_from)
    if part.weights is not None:
        weights = np.ones(series.counts.shape[1:], np.float32) if series.weights is None else series.weights.copy()
        weights[half.index] = part.weights
        series = series.evolve(weights=weights)
    more = tuple((int(half.index[k]), why) for k, why in part.left_out)
    return series.evolve(left_out=tuple(dict.fromkeys((*series.left_out, *more))))


def _both(a: NDArray[np.float32] | None, b: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """The least weights."""
    return b if a is None else a if b is None else np.minimum(a, b)


# ---------------------------------------------------------------- the motion between two halves


def _motion(
    combined: TiltSeries, shifts: NDArray[np.float64], first: Half, second: Half
) -> tuple[Motion, float, float]:
    """How the specimen moved between two halves.

    Returns the motion; by how much two estimates of its rotation differ, degrees; and the factor by which the second
    half was exposed more than its exposures say against those of the first.
    """
    motion, apart, factor = Motion(np.zeros(3), np.zeros(3)), 0.0, 1.0
    for edge in EDGES:
        small, bins = binned_to(combined, edge)
        assert small.scheme is not None
        at = bins.down(Alignment(shifts)).displacements
        scheme = small.scheme
        parts = [select(small, h.index, scheme_tilts(small, h), scheme[h.index]) for h in (first, second)]
        start = Motion(motion.turn, motion.shift / bins.factor)
        back = Motion(-start.turn, -start.shift)
        there, more = _foretold(parts[0], at[first.index], parts[1], at[second.index], start)
        again, less = _foretold(parts[1], at[second.index], parts[0], at[first.index], back)
        apart = float(np.abs(there.turn + again.turn).max())
        factor = float(np.sqrt(more / less))
        motion = Motion((there.turn - again.turn) / 2, (there.shift - again.shift) / 2 * bins.factor)
    return motion, apart, factor


def scheme_tilts(series: TiltSeries, half: Half) -> NDArray[np.float64]:
    """For people: the angles from z that a series shows."""
    return series.tilts_deg[half.index]


def _foretold(
    known: TiltSeries, known_at: NDArray[np.float64], other: TiltSeries, other_at: NDArray[np.float64], start: Motion
) -> tuple[Motion, float]:
    """The motion of the specimen by which a reconstruction of `known` foretells the maps of `other` best.

    And the factor between these maps and what is foretold of them.
    """
    matcher = Matcher(known, Alignment(known_at))
    matcher.reconstruct(60)
    image, like = matcher.image, np.empty(0, np.float32)
    assert image is not None
    assert other.scheme is not None
    nz, nx, ny = image.shape
    scheme = other.scheme.on((nz, ny, nx))
    seen = other.seen
    exposed = (seen * other.exposures[0][:, None, None]).swapaxes(1, 2)
    counts = ((other.counts[0] - other.offset(0)) * seen).swapaxes(1, 2)
    weight = 1 / np.maximum(counts + other.offset(0).swapaxes(1, 2), 0.05 * float(counts.max()))

    def foretell(p: NDArray[np.float64]) -> NDArray[np.float64]:
        operator = make_projector(Motion(p[:3], p[3:]).of(scheme).moved(other_at), like)
        out = operator(image, np.empty(operator.range_shape, np.float32))
        return np.asarray(out * exposed, dtype=np.float64)

    def fitted(a: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
        """The misfit with the best common factor, its square, and the factor."""
        factor = float(np.sum(weight * a * counts) / max(float(np.sum(weight * a * a)), 1e-12))
        misfit = counts - factor * a
        return misfit, float(np.sum(weight * misfit**2)), factor

    p = np.concatenate([start.turn, start.shift])
    steps = np.repeat(STEP, 3)
    here = foretell(p)
    misfit, cost, factor = fitted(here)
    for _ in range(ROUNDS):
        slope = np.stack([foretell(p + h) - foretell(p - h) for h in np.diag(steps)]) / (2 * steps)[:, None, None, None]
        slope = np.concatenate([slope, here[None]])  # the factor is free
        normal = np.einsum("atij,btij,tij->ab", slope, slope, weight)
        right = np.einsum("atij,tij,tij->a", slope, misfit, weight)
        normal += 1e-6 * np.diag(np.diag(normal)) + 1e-12 * np.eye(7)
        step = np.linalg.solve(normal, right)[:6]
        step /= max(1.0, float(np.max(np.abs(step) / np.repeat(MOST, 3))))
        moved = False
        for share in (1.0, 0.5, 0.25):
            there = foretell(p + share * step)
            new_misfit, new_cost, new_factor = fitted(there)
            if new_cost < cost:
                p, here, misfit, cost, moved = p + share * step, there, new_misfit, new_cost, True
                factor = new_factor
                break
        if not moved or np.all(np.abs(step) < 0.02):
            break
    return Motion(p[:3], p[3:]), max(factor, 1e-6)
