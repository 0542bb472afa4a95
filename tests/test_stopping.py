"""How a run ends, and what data no model explains."""

from __future__ import annotations

import numpy as np
import pytest
from problems import HOST, TERMS, data_for, projector
from problems import one_thread as one_thread  # a fixture

from recon.model.assembly import make_data_term, make_operator
from recon.reconstruction.reconstruct import reconstruct
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Record
from recon.solvers import Status
from recon.solvers.pdhg import PrimalDual

# ---------------------------------------------------------------- how a run ends


def small_solver(**options):
    operator = projector((6, 7, 5))
    return PrimalDual(operator, data_for(operator, "poisson"), a1=0.5, a0=1.0, upper=10.0, **options)


def test_converged():
    solution = small_solver().run(1e-2, 5000)
    assert solution.status is Status.CONVERGED
    assert solution.gap <= 1e-2 < solution.history[-2].gap
    assert solution.iterations == solution.history[-1].iteration < 5000
    assert solution.value.min() >= 0
    assert solution.parameters.a1 == 0.5


def test_max_iterations():
    solution = small_solver().run(1e-2, 25, check_every=10)
    assert solution.status is Status.MAX_ITERATIONS
    assert [r.iteration for r in solution.history] == [10, 20, 25]
    assert solution.value.min() >= 0


def test_interrupted_by_a_callback():
    def stop(record):
        if record.iteration == 20:
            raise KeyboardInterrupt

    solution = small_solver().run(1e-6, 5000, check_every=10, callback=stop)
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 20
    assert len(solution.history) == 2


def interrupting(solver, *when):
    """A Ctrl-C in the middle of the given iterations, once each."""
    projection, left = type(solver.operator).adjoint, list(when)

    def adjoint(y, out):
        if solver.iteration in left:
            left.remove(solver.iteration)
            raise KeyboardInterrupt
        return projection(solver.operator, y, out)

    solver.operator.adjoint = adjoint
    return solver


def test_interrupted_between_checks_leaves_a_certified_volume():
    """Relaxed iterates leave u >= 0; a volume that is kept must not."""
    best = small_solver().run(1e-6, 20000).objective
    for stop in range(2, 40, 3):
        solution = interrupting(small_solver(), stop).run(1e-9, 5000)
        assert solution.status is Status.INTERRUPTED
        assert solution.iterations == stop + 1 == solution.history[-1].iteration
        assert solution.value.min() >= 0
        assert solution.gap * solution.objective >= solution.objective - best > 0


def test_a_second_interruption_is_raised():
    with pytest.raises(KeyboardInterrupt):
        interrupting(small_solver(), 17, 17).run(1e-9, 5000)


def test_a_stop_that_control_asks_for():
    asked = []

    def control(solver):
        asked.append(solver.iteration)
        return solver.iteration == 33

    solution = small_solver().run(1e-9, 5000, control=control)
    assert asked == list(range(34))
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 34 == solution.history[-1].iteration
    assert solution.value.min() >= 0


# ---------------------------------------------------------------- from a series


def little_series(weights=None, counts_at_rim=0.0):
    operator = projector((8, 8, 6), np.arange(-60, 61, 20))
    data = data_for(operator, "poisson", dose=60, background=0.0)
    maps = np.where(data.scale > 0, data.counts, 0).swapaxes(1, 2)
    maps[3, :, 0] += counts_at_rim
    return TiltSeries.create({"Fe": maps}, np.arange(-60, 61, 20), 1.0, weights=weights)


def test_counts_that_no_ray_explains():
    """Counts where the aligned frame ends, no background: D is infinite for every u, so no bound ever stops the run."""
    shifts = np.zeros((7, 2))
    shifts[3, 1] = 3
    series = little_series(counts_at_rim=1.0).evolve(alignment=Alignment(shifts), isolated=True)
    volume = reconstruct(series, "tv", max_iterations=2000, device="cpu")["Fe"]
    assert np.isfinite(volume.solution.objective)
    assert volume.solution.status is Status.CONVERGED


@pytest.mark.parametrize("term", TERMS)
def test_half_the_weight_everywhere_changes_nothing(term):
    """Without a regulariser a weight of all pixels alike is a factor of the objective."""
    densities = []
    for value in (1.0, 0.5):
        series = little_series(np.full((7, 6, 8), value))
        data = make_data_term(series, "Fe", term)
        operator = make_operator(series, (8, 6, 8), HOST)
        solution = PrimalDual(operator, data, regulariser="tv", a1=1e-6, upper=1e4).run(1e-9, 500)
        densities.append(float(solution.value.sum()))
    assert abs(densities[1] / densities[0] - 1) <= 1e-2


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([0.08], 150),
        ([0.08, 0.02], 130),  # half as much again in 25 iterations
        ([0.08, 0.0101], 110),
        ([0.08, 0.07], 150),  # so slow that it is not due before
        ([0.07, 0.08], 150),
        ([np.inf, 0.08], 150),
    ],
)
def test_the_last_check_comes_when_the_gap_is_due(gaps, expected):
    solver = small_solver()
    solver.history = [Record(50 * k, 1.0, gap, 0.0) for k, gap in enumerate(gaps, start=3 - len(gaps))]
    for solver.iteration in (100, 105):
        assert solver._next_check(1e-2, 50) == expected


def test_a_check_that_is_due_early_ends_the_run():
    solution = small_solver().run(1e-4, 5000, check_every=170)
    assert solution.status is Status.CONVERGED
    assert [r.iteration % 170 for r in solution.history[:2]] == [0, 0]
    assert [r.iteration for r in solution.history if r.iteration % 170] != []
