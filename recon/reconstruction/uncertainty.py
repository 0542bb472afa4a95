"""How sure a reconstruction is: standard deviations by a parametric bootstrap.

Replicate counts are drawn from the fitted model, ``Poisson(s A u + b)`` with u the reconstruction, and each is
reconstructed like the data themselves: same strength, same model. The spread of the replicates is that of the
estimate from one recording of the same object to the next (B. Efron, R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 6; for tomography D. R. Haynor, S. D. Woods, IEEE Trans. Med. Imaging 8, 337 (1989)).

This repeatability does not include what would be the same in every recording: the pull of the regulariser, the missing
wedge, errors of alignment, exposure and background. So an interval covers the mean of many independent reconstructions
about as often as it states, and the truth less often; `benchmarks/uncertainty.py` measures both.

The pull is seen where the regulariser has something to pull at: a reconstruction at half of the strength is projected,
and its projections, without noise, are reconstructed at the full strength. What that changes is the bias of the
estimate were the weakly regularised volume the object (the bootstrap's estimate of bias, Efron, Tibshirani, chapter 10,
from a model that is less biased than the estimate itself). With the repeatability it gives an error for each voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recon import backend
from recon.errors import InputError, JobError
from recon.model.assembly import make_data_term, make_operator, reachable
from recon.model.grid import Grid, grid
from recon.reconstruction.keeper import Nothing
from recon.reconstruction.reconstruct import Progress, named
from recon.series.settings import MAX_ITERATIONS, PRIMAL_DUAL, Settings
from recon.series.tilt_series import TiltSeries
from recon.series.units import series_in, unit_of, volume_in
from recon.series.volume import Parameters, Volume
from recon.solvers import Control, Record, Status
from recon.solvers.data_terms import DataTerm
from recon.solvers.pdhg import PrimalDual
from recon.solvers.progress import watching

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.backend import Array
    from recon.operators import Operator
    from recon.reconstruction.keeper import Keeper

LEVEL = 0.68
# A replicate starts at the reconstruction, so one that stops early is too like it. Beside the tolerance it has to
# meet one of two conditions, relative to what it has gained in fit since its start: a certified error of its
# objective below CERTIFIED, or a fall of the objective during the last half of its iterations below SETTLED, since
# the certificate lags. At least 98 % of the variation has developed then (measured from 1 to 400 counts at the peak).
CERTIFIED, SETTLED = 0.1, 0.02
LESS = 0.5  # of the strength: of a volume in which the regulariser has less of its way
PULLED = 200  # iterations of each of two such solutions
EVERY = 50  # iterations between two looks
Figures = Callable[[str, "NDArray[np.float32]"], Mapping[str, float]]


@dataclass(frozen=True)
class Interval:
    """How far a figure moves from one recording of the same object to the next.

    Attributes:
        sd: standard deviation of the replicates.
        low, high: ends of the interval.
        level: how often it covers the mean of many reconstructions.
        bias: mean of the replicates minus the figure itself: how far a second reconstruction moves from the first,
            roughly as the first from the truth.
    """

    sd: float
    low: float
    high: float
    level: float
    bias: float


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Spread of one element's reconstruction, from replicates.

    Attributes:
        element: name.
        sd: ``(z, y, x)`` float32, standard deviation of each voxel, counts per voxel length per unit exposure.
        pull: ``(z, y, x)`` float32, by how much the regulariser makes each voxel too high; None if it was stopped.
        voxel_size_nm: edge of a voxel, nm.
        asked: replicates that were asked for; fewer are behind `sd` if the user stopped.
        figures: name to ``(replicate,)``, values of a figure in each replicate.
        seed: of the random numbers; replicate r of element e draws from the stream ``[seed, e, r]``.
        noise: ``"poisson"`` or ``"gaussian"``.
        converged: how many replicates reached their tolerance.
        iterations: of each replicate.
    """

    element: str
    sd: NDArray[np.float32]
    voxel_size_nm: float
    asked: int
    figures: Mapping[str, NDArray[np.float64]]
    seed: int
    noise: str
    converged: int
    iterations: tuple[int, ...]
    pull: NDArray[np.float32] | None = None

    @property
    def replicates(self) -> int:
        return len(self.iterations)

    @property
    def volume(self) -> Volume:
        """`sd` as a volume, to write."""
        return Volume(self.sd, self.voxel_size_nm, f"{self.element}-uncertainty")

    @property
    def error(self) -> Volume | None:
        """An error estimate of each voxel: the repeatability and the regulariser's pull, as a volume to write."""
        if self.pull is None:
            return None
        return Volume(np.hypot(self.sd, self.pull), self.voxel_size_nm, f"{self.element}-error")

    def within(self, inside: NDArray[np.bool_]) -> Uncertainty:
        """The same with nothing outside the particle ``(z, y, x)``."""
        sd, pull = (None if a is None else np.where(inside, a, np.float32(0)) for a in (self.sd, self.pull))
        assert sd is not None
        return replace(self, sd=sd, pull=pull)

    def interval(self, name: str, value: float, level: float = LEVEL) -> Interval:
        """Interval of a figure whose value in the reconstruction is `value`.

        ``value +- t sd``, with Student's t for the number of replicates.
        """
        from scipy.special import stdtrit

        drawn = np.asarray(self.figures[name])
        sd = float(drawn.std(ddof=1))
        half = float(stdtrit(len(drawn) - 1, 0.5 + level / 2)) * sd
        return Interval(sd, value - half, value + half, level, float(drawn.mean()) - value)


def uncertainty(
    series: TiltSeries,
    volumes: Mapping[str, Volume],
    replicates: int = 20,
    *,
    figures: Figures | None = None,
    seed: int = 0,
    tolerance: float = 1e-2,
    max_iterations: int | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
    checkpoints: Keeper | None = None,
) -> dict[str, Uncertainty]:
    """Bootstrap each element of a reconstruction.

    Args:
        series: what `volumes` were reconstructed from.
        volumes: from `reconstruct` by ``tgv``, ``tv`` or ``none``; strengths, data term and grid are theirs.
        replicates: at least 2; the relative error of a standard deviation from n is about ``1 / sqrt(2 n)``.
        figures: ``(element, values (z, y, x)) -> {name: number}``, taken of every replicate, such as the means of
            regions.
        seed: of the random numbers.
        tolerance: certified relative gap that a replicate must reach at least; see also `SETTLED`.
        max_iterations: of each replicate.
        device, progress: as `reconstruct`.
        checkpoints: where the sums so far are kept and found.

    Returns:
        Element to `Uncertainty`, for scaled maps with Gaussian noise as the least-squares term weighs it. After a
        stop by the user, elements with fewer than two replicates are missing.

    Raises:
        JobError: too few replicates.
        InputError: volumes of another method, or of another series.
    """
    if replicates < 2:
        raise JobError(f"uncertainty is {replicates}; it takes at least 2 replicates, such as 20")
    if isinstance(progress, bool):
        with watching(progress, tolerance) as step:
            return uncertainty(
                series, volumes, replicates, figures=figures, seed=seed, tolerance=tolerance,
                max_iterations=max_iterations, device=device, progress=step, checkpoints=checkpoints,
            )  # fmt: skip
    device, keeper = backend.resolve_device(device), checkpoints or Nothing()
    for element, volume in volumes.items():
        if volume.solution is not None and volume.solution.together:
            raise InputError(
                f"{element} was reconstructed together with others, and replicates are of one element alone; take "
                "volumes from reconstruct without coupling"
            )
    out = {}
    for element, volume in volumes.items():
        unit = unit_of(series, element)
        model = _Model.of(series_in(series, unit), volume_in(volume, unit), device)
        sums = _Sums(volume.values.shape)
        kept = keeper.fetch("uncertainty", element)
        if kept is not None:
            sums.restore(*kept)

        def control(solver: Any, element: str = element, sums: _Sums = sums) -> bool:
            return keeper.stop_wanted and keeper.stop_asked("uncertainty", element, sums.numbers(), sums.arrays())

        while sums.n < replicates:
            if keeper.stopping:
                break
            rng = np.random.default_rng([seed, series.index(element), sums.n])
            name = f"{element} replicate {sums.n + 1}"
            report = None if progress is None else named(progress, name)
            with keeper.patience():
                found = model.replicate(rng, tolerance, max_iterations or MAX_ITERATIONS, report, control)
            if found is None:
                break
            values, iterations, converged = found
            taken = {} if figures is None else figures(element, values * np.float32(unit))
            sums.add(values, iterations, converged, taken)
            keeper.stash("uncertainty", element, sums.numbers(), sums.arrays())
        if sums.n >= 2:
            spread = sums.sd() * np.float32(unit)
            whole = sums.n == replicates and not keeper.stopping
            pull = model.pull() * np.float32(unit) if whole else None
            out[element] = Uncertainty(
                element, spread, volume.voxel_size_nm, replicates, sums.table(), seed, model.noise, sums.converged,
                tuple(sums.iterations), pull,
            )  # fmt: skip
        if sums.n < replicates:
            break
    return out


# ---------------------------------------------------------------- one element


@dataclass(frozen=True, eq=False)
class _Model:
    """The fitted model of one element, on the grid that was solved for.

    Attributes:
        u: ``(z, x, y)``, the reconstruction.
        expected: ``(tilt, u, y)``, ``s A u + b``.
        seen: ``(tilt, u, y)``, weight of each pixel.
        where: the grid.
        settings, parameters: of the reconstruction.
        scaled: whether the maps are no counts.
    """

    operator: Operator
    data: DataTerm
    u: Array
    expected: Array
    seen: Array
    where: Grid
    settings: Settings
    parameters: Parameters
    scaled: bool

    @classmethod
    def of(cls, series: TiltSeries, volume: Volume, device: str) -> _Model:
        made = volume.solution
        if made is None or made.settings is None or made.parameters is None:
            raise InputError(
                f"the volume of {volume.element} was not made by reconstruct with one of {', '.join(PRIMAL_DUAL)}; "
                "only these have an uncertainty"
            )
        where, full = grid(series, made.settings.thickness), volume.solved
        nz, ny, nx = where.shape
        if full.shape != (nz, nx, ny):
            raise InputError(
                f"the volume of {volume.element} has shape {volume.values.shape}, the series gives {where.shape}; pass "
                "the series that it was reconstructed from"
            )
        u = backend.to_device(full, device)
        xp = backend.namespace(u)
        operator = make_operator(series, where.shape, u, made.settings.projector, element=volume.element)
        data = reachable(make_data_term(series, volume.element, made.settings.data_term, device), operator)
        expected = data.scale * operator(u, xp.empty(operator.range_shape, dtype=np.float32)) + data.offset
        seen = backend.to_device(
            np.ascontiguousarray(series.seen_by(series.index(volume.element)).swapaxes(1, 2)), device
        )
        return cls(operator, data, u, expected, seen, where, made.settings, made.parameters, series.scaled)

    @property
    def noise(self) -> str:
        return "gaussian" if self.scaled else "poisson"

    def draw(self, rng: np.random.Generator) -> DataTerm:
        """The data term of a replicate recording."""
        expected, seen = backend.to_host(self.expected).astype(np.float64), backend.to_host(self.seen)
        used = backend.to_host(self.data.scale) > 0
        if self.scaled:
            weight = backend.to_host(self.data.weight)  # type: ignore[attr-defined]
            drawn = expected + rng.standard_normal(expected.shape) / np.sqrt(np.where(used, weight, 1))
        else:
            # a pixel of weight f holds the fraction f of what was counted
            part = np.where(used, seen, 1)
            drawn = part * rng.poisson(np.maximum(expected, 0) / part)
        xp = backend.namespace(self.u)
        return replace(self.data, counts=xp.asarray(np.where(used, drawn, 0), dtype=np.float32))

    def replicate(
        self,
        rng: np.random.Generator,
        tolerance: float,
        max_iterations: int,
        report: Callable[[Record], None] | None,
        control: Control | None,
    ) -> tuple[NDArray[np.float32], int, bool] | None:
        """``(z, y, x)`` values, iterations and whether they converged; None if `control` asked to stop."""
        data = self.draw(rng)
        projection = self.operator(self.u, backend.namespace(self.u).empty_like(data.counts))
        # The dual of the data is noise, and known at the start; the others and the weight had no use for those of
        # the reconstruction.
        solver = PrimalDual(
            self.operator, data, start=self.u, regulariser=self.settings.method, a1=self.parameters.a1,
            a0=self.parameters.a0, half_precision=self.settings.half_precision,
        )  # fmt: skip
        at_start = data.value(projection)
        objectives: list[float] = []
        converged = False
        while not converged and solver.iteration < max_iterations:
            last = min(solver.iteration + EVERY, max_iterations)
            solution = solver.run(0.0, last, check_every=EVERY, callback=report, control=control)
            assert solution.value is not None
            if solution.status is Status.INTERRUPTED:
                return None
            objectives.append(solution.objective)
            gained = at_start - data.value(self.operator(solution.value, projection))
            certified = solution.gap * abs(solution.objective) <= CERTIFIED * gained
            n = len(objectives)
            settled = n >= 4 and objectives[n // 2 - 1] - objectives[-1] <= SETTLED * gained
            converged = solution.gap <= tolerance and (certified or settled)
        assert solution.value is not None
        return self.where.cut(backend.to_host(solution.value)), solution.iterations, converged

    def pull(self) -> NDArray[np.float32]:
        """``(z, y, x)``: what the full strength makes of the projections of a volume of less strength, minus that."""
        less = self._solved(self.data, LESS)
        expected = self.data.scale * self.operator(less, backend.namespace(less).empty_like(self.data.counts))
        expected += self.data.offset
        again = self._solved(replace(self.data, counts=expected), 1.0)
        return self.where.cut(backend.to_host(again - less))

    def _solved(self, data: DataTerm, factor: float) -> Array:
        """``(z, x, y)`` at a multiple of the strength, from the reconstruction on."""
        a1, a0 = self.parameters.a1 * factor, self.parameters.a0 * factor
        half = self.settings.half_precision
        solver = PrimalDual(
            self.operator, data, start=self.u, regulariser=self.settings.method, a1=a1, a0=a0, half_precision=half
        )
        solver.advance(PULLED)
        return solver.u


class _Sums:
    """Mean and summed squared deviations so far (B. P. Welford, Technometrics 4, 419 (1962))."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.mean, self.squares = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.iterations: list[int] = []
        self.converged = 0
        self.figures: list[dict[str, float]] = []

    @property
    def n(self) -> int:
        return len(self.iterations)

    def add(self, values: NDArray[np.float32], iterations: int, converged: bool, figures: Mapping[str, float]) -> None:
        self.iterations.append(iterations)
        self.converged += converged
        self.figures.append({k: float(v) for k, v in figures.items()})
        before = values - self.mean
        self.mean += before / np.float32(self.n)
        before *= values - self.mean
        self.squares += before

    def sd(self) -> NDArray[np.float32]:
        return np.asarray(np.sqrt(np.maximum(self.squares, 0) / np.float32(self.n - 1)))

    def table(self) -> dict[str, NDArray[np.float64]]:
        return {k: np.array([f[k] for f in self.figures]) for k in self.figures[0]}

    def arrays(self) -> dict[str, Array]:
        return {"mean": self.mean, "squares": self.squares}

    def numbers(self) -> dict[str, Any]:
        return {"iterations": self.iterations, "converged": self.converged, "figures": self.figures}

    def restore(self, numbers: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.mean, self.squares = arrays["mean"], arrays["squares"]
        self.iterations, self.converged = list(numbers["iterations"]), numbers["converged"]
        self.figures = list(numbers["figures"])


__all__ = ["Interval", "Uncertainty", "uncertainty"]
