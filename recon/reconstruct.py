"""From a tilt series to one volume per element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon import backend
from recon.errors import InputError, JobError
from recon.operators import AlignedProjector, DetectorWarp, Operator, make_projector
from recon.prox import DataTerm, LeastSquares, Poisson
from recon.solvers import Record, Solution, Status
from recon.solvers.baseline import fbp, sirt
from recon.tiltseries import TiltSeries, Volume

if TYPE_CHECKING:
    from recon.backend import Array
    from recon.geometry import Shape3

METHODS = ("tgv", "tv", "none", "sirt", "fbp")
DATA_TERMS = ("poisson", "least-squares")
Strength = str | float | Mapping[str, float]
Progress = Callable[[str, Record], None]

# Calibrated on simulated particles, see benchmarks/strength.py.
STRENGTH_PER_NOISE = 1.0
A0_PER_A1 = 2.0
SIRT_ITERATIONS = 30
MAX_ITERATIONS = 5000


@dataclass(frozen=True)
class Grid:
    """The volume that is solved for, and the part of it that is the result.

    Attributes:
        shape: ``(nz, ny, nx)``; wider than the frame where material outside it is seen at high tilt.
        margin: ``(y, x)`` voxels on each side that are cut off at the end.
    """

    shape: Shape3
    margin: tuple[int, int]


def grid(series: TiltSeries, thickness: int | str = "auto") -> Grid:
    """The grid for a series; `thickness` is the extent along the beam in voxels."""
    ny, nx = series.frame
    nz = nx if thickness == "auto" else int(thickness)
    if not 1 <= nz <= 4 * nx:
        raise JobError(f"thickness is {nz} voxels; it must be between 1 and {4 * nx} (four times the frame)")
    if series.isolated:
        return Grid((nz, ny, nx), (0, 0))
    t = np.radians(series.tilts_deg)
    dv, du = np.abs(series.alignment.displacements).max(axis=0)
    tilted = abs(np.sin(np.radians(series.alignment.rotation_deg)))
    # a section that leaves the frame is thin, unless the user says how thick; a wider margin would hold
    # voxels that no ray meets
    half = nx / 32 if thickness == "auto" else nz / 2
    reach = (nx / 2 + du + ny / 2 * tilted + half * np.abs(np.sin(t))) / np.maximum(np.abs(np.cos(t)), 0.1)
    my = min(int(np.ceil(dv + nx / 2 * tilted)), ny // 4)
    mx = min(int(np.ceil(reach.max() - nx / 2)), nx // 2)
    return Grid((nz, ny + 2 * my, nx + 2 * mx), (my, mx))


def make_operator(series: TiltSeries, shape: Shape3, like: Array, projector: str = "auto") -> Operator:
    """``A_i = W_i P_i`` of a series onto a volume ``(nz, ny, nx)``, in the solver's layout."""
    geometry = series.geometry(shape)
    operator = make_projector(geometry, like, projector)
    if series.alignment.is_identity and geometry.detector == series.frame:
        return operator
    return AlignedProjector(operator, DetectorWarp(series.alignment, series.frame, geometry.detector, like), like)


def noise_weights(series: TiltSeries, element: str) -> np.ndarray:
    """Inverse variance of a bright pixel of each map ``(tilt,)``.

    For counts it is one over the mean count, each pixel weighted by its counts; for scaled maps it comes
    from the differences of neighbouring pixels.
    """
    e = series.index(element)
    maps = series.counts[e].astype(np.float64)
    if series.weights is not None:
        maps = np.where(series.weights > 0, maps, 0)
    if series.scaled:
        step = maps[:, 1:, 1:] - maps[:, 1:, :-1] - maps[:, :-1, 1:] + maps[:, :-1, :-1]
        bright = maps[:, 1:, 1:] > np.percentile(maps, 75, axis=(1, 2), keepdims=True)
        sigma = np.array([np.median(np.abs(s[b])) for s, b in zip(step, bright, strict=True)]) / 0.6745 / 2
        sigma = np.where(sigma > 0, sigma, max(float(sigma.max()), 1e-3 * float(np.abs(maps).max()), 1e-12))
        return np.asarray(1 / sigma**2)
    first, second = maps.sum(axis=(1, 2)), np.square(maps).sum(axis=(1, 2))
    mean = np.where(first > 0, (second - first) / np.maximum(first, 1), 0)
    return np.asarray(1 / np.maximum(mean, 0.2))


def automatic_strength(series: TiltSeries, element: str) -> float:
    """The a1 of ``strength = "auto"``: a constant times the noise in the gradient of the data term.

    At a good fit the gradient ``A^T s y`` of the data term is noise with variance
    ``sum_t s_t^2 w_t`` per voxel, w_t the inverse variance of a bright pixel; the regulariser must
    just outweigh it. So a1 scales with dose^-1/2, as the noise does, and with the root of the number of
    tilts.
    """
    weights = noise_weights(series, element)
    s = series.exposures[series.index(element)]
    return float(STRENGTH_PER_NOISE * np.sqrt(np.sum(s**2 * weights)))


def make_data_term(series: TiltSeries, element: str, data_term: str, device: str = "cpu") -> DataTerm:
    """The data term of one element, arrays ``(tilt, u, y)`` on a device."""
    e = series.index(element)
    counts = series.counts[e]
    seen = np.ones_like(counts) if series.weights is None else series.weights
    scale = seen * series.exposures[e][:, None, None]
    offset = seen * series.offset(e)

    def place(a: np.ndarray) -> Array:
        return backend.to_device(np.ascontiguousarray(a.swapaxes(1, 2), dtype=np.float32), device)

    # a pixel of weight f counts like one that was exposed for the fraction f
    used = place(counts * seen), place(scale), place(offset)
    if data_term == "poisson":
        return Poisson(*used)
    variance = np.broadcast_to(seen / noise_weights(series, element)[:, None, None], counts.shape)
    return LeastSquares(*used, weight=place(np.where(seen > 0, 1 / np.where(seen > 0, variance, 1), 0)))


def reconstruct(
    series: TiltSeries,
    method: str = "tgv",
    *,
    data_term: str = "poisson",
    strength: Strength = "auto",
    tolerance: float = 1e-2,
    max_iterations: int | None = None,
    projector: str = "auto",
    thickness: int | str = "auto",
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Volume]:
    """Reconstruct each element on its own.

    Args:
        series: aligned and normalised as far as it needs to be.
        method: ``"tgv"``, ``"tv"`` or ``"none"`` (no regulariser) by PDHG; ``"sirt"``, ``"fbp"``.
        data_term: ``"poisson"`` for counts, ``"least-squares"`` else; for the PDHG methods.
        strength: a1 of the regulariser, or ``"auto"`` (see `automatic_strength`), or a table by element.
        tolerance: certified relative gap at which a PDHG method stops.
        max_iterations: safety net of the PDHG methods (5000), number of iterations of SIRT (30).
        projector: ``"auto"``, ``"native"`` or ``"astra"``.
        thickness: extent along the beam in voxels; the frame's width by default.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: called with the element's name and a `Record` at every check.

    Returns:
        Element to `Volume`, values ``(z, y, x)`` in counts per voxel length per unit exposure. A PDHG run
        that did not converge, or was stopped with Ctrl-C, says so in ``volume.solution.status``; after
        Ctrl-C the elements that had not begun are missing.

    Raises:
        JobError: an option out of range.
        InputError: an element that does not exist, or Poisson statistics asked of scaled maps.
    """
    if method not in METHODS:
        raise JobError(f"reconstruct method {method!r} is unknown; use one of {', '.join(METHODS)}")
    if data_term not in DATA_TERMS:
        raise JobError(f"data_term {data_term!r} is unknown; use one of {', '.join(DATA_TERMS)}")
    if not 0 < tolerance < 1:
        raise JobError(f"tolerance is {tolerance:g}; a relative gap lies between 0 and 1, such as 1e-2")
    if max_iterations is not None and max_iterations < 1:
        raise JobError(f"max_iterations is {max_iterations}; it must be at least 1")
    if series.scaled and data_term == "poisson" and method in ("tgv", "tv", "none"):
        raise InputError("the maps are scaled, so they are not Poisson counts; use data_term = 'least-squares'")
    device = backend.resolve_device(device)
    strengths = resolve_strengths(series, strength)
    where = grid(series, thickness)
    like = backend.to_device(np.empty(0, np.float32), device)
    if method == "fbp":
        from recon.align import resample

        series = resample(series, where.shape[1:])
    operator = make_operator(series, where.shape, like, projector)
    volumes = {}
    for element in series.elements:
        report = None if progress is None else _named(progress, element)
        data = make_data_term(series, element, "least-squares" if method in ("fbp", "sirt") else data_term, device)
        data = reachable(data, operator)
        solution = _solve(series, operator, data, method, strengths[element], tolerance, max_iterations, report)
        my, mx = where.margin
        values = backend.to_host(solution.value).swapaxes(1, 2)
        values = values[:, my : values.shape[1] - my, mx : values.shape[2] - mx]
        values = np.ascontiguousarray(values, dtype=np.float32)
        volumes[element] = Volume(values, series.pixel_size_nm, element, replace(solution, value=None))
        if solution.status is Status.INTERRUPTED:
            break
    return volumes


def resolve_strengths(series: TiltSeries, strength: Strength) -> dict[str, float]:
    """a1 for each element."""
    table = strength if isinstance(strength, Mapping) else dict.fromkeys(series.elements, strength)
    for name in table:
        series.index(name)
    out = {}
    for element in series.elements:
        value = table.get(element, "auto")
        try:
            number = automatic_strength(series, element) if value == "auto" else float(value)
        except (TypeError, ValueError) as exc:
            raise JobError(f"strength of {element} is {value!r}; it must be a positive number, or 'auto'") from exc
        if not (np.isfinite(number) and number > 0):
            raise JobError(f"strength of {element} is {number:g}; it must be positive, or 'auto'")
        out[element] = number
    return out


def reachable(data: DataTerm, operator: Operator) -> DataTerm:
    """The data term without pixels that no voxel reaches: drift carried them out of the volume."""
    xp = backend.namespace(data.counts)
    ones = xp.ones(operator.domain_shape, dtype=np.float32)
    seen = operator(ones, xp.empty(operator.range_shape, dtype=np.float32)) > 0
    if bool(seen.all()):
        return data
    return replace(data, counts=data.counts * seen, scale=data.scale * seen, offset=data.offset * seen)


def first_guess(operator: Operator, data: DataTerm) -> tuple[Array, float]:
    """A few iterations of SIRT ``(z, x, y)``, and the bound on u that the model states: 4 times its maximum.

    The bound tightens the certificate, as u has no other bound than its total. A solver that meets it
    doubles it and goes on, so the minimiser lies well inside.
    """
    guess = sirt(operator, data, iterations=10).value
    return guess, 4 * max(float(backend.namespace(guess).max(guess)), 1e-12)


def _named(progress: Progress, element: str) -> Callable[[Record], None]:
    return lambda record: progress(element, record)


def _solve(
    series: TiltSeries,
    operator: Operator,
    data: DataTerm,
    method: str,
    a1: float,
    tolerance: float,
    max_iterations: int | None,
    report: Callable[[Record], None] | None,
) -> Solution:
    if method == "fbp":
        xp = backend.namespace(data.counts)
        used = data.scale > 0
        aligned = xp.where(used, (data.counts - data.offset) / xp.where(used, data.scale, 1), 0)
        return fbp(operator, aligned, series.tilts_deg, callback=report)
    if method == "sirt":
        return sirt(operator, data, iterations=max_iterations or SIRT_ITERATIONS, callback=report)
    from recon.solvers.pdhg import PrimalDual

    guess, upper = first_guess(operator, data)
    solver = PrimalDual(operator, data, regulariser=method, a1=a1, a0=A0_PER_A1 * a1, upper=upper, start=guess)
    del guess
    return solver.run(tolerance, max_iterations or MAX_ITERATIONS, callback=report)
