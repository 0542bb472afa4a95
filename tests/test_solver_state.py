"""A solver's state goes on to the same bits."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_runs import f32, fresh, loaded, problem, same, saved, spoil_scratch
from saved_runs import one_thread as one_thread  # a fixture

from recon.solvers.data_terms import LeastSquares, Poisson

# ---------------------------------------------------------------- the solver's state


@pytest.mark.parametrize("method", ["relaxed", "plain"])
@pytest.mark.parametrize("term", [Poisson, LeastSquares])
@pytest.mark.parametrize("regulariser", ["tgv", "tv", "none"])
def test_a_run_of_two_hundred_is_two_of_one_hundred(tmp_path, one_thread, regulariser, term, method):
    data = problem(term=term)
    whole = fresh(data, regulariser=regulariser, method=method)
    expected = whole.run(1e-12, 200, check_every=25)
    saved(fresh(data, regulariser=regulariser, method=method), tmp_path / "a.npz", 100)
    # another start, bound and weight: all must come from the file
    other = fresh(data, regulariser=regulariser, method=method, upper=3.0, omega=77.0, start=np.ones((8, 9, 6), f32))
    loaded(other, tmp_path / "a.npz")
    spoil_scratch(other)
    same(other.run(1e-12, 200, check_every=25), expected)
    for name, array in whole.state().arrays.items():
        assert np.array_equal(array, other.state().arrays[name]), name
    numbers = dict(other.state().numbers) | {"seconds": whole.state().numbers["seconds"]}
    assert numbers == whole.state().numbers


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 199), min_size=1, max_size=3, unique=True))
def test_any_iterations_to_stop_at(tmp_path_factory, stops):
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        path = tmp_path_factory.mktemp("state") / "a.npz"
        data = problem()
        expected = fresh(data).run(1e-12, 200, check_every=25)
        solver = fresh(data)
        for at in sorted(stops):
            saved(solver, path, at)
            solver = loaded(fresh(data, upper=2.0), path)
            spoil_scratch(solver)
        same(solver.run(1e-12, 200, check_every=25), expected)
    finally:
        numba.set_num_threads(before)


def test_the_bound_found_before_counts_after(tmp_path, one_thread):
    """A best bound that came early is part of the certificate of the resumed run."""
    data = problem()
    saved(fresh(data), tmp_path / "a.npz", 100)
    solver = loaded(fresh(data), tmp_path / "a.npz")
    assert np.isfinite(solver.state().numbers["bound"])
    assert [r.iteration for r in solver.state().history] == [25, 50, 75, 100]
    solver.run(1e-12, 110, check_every=25)
    again = solver.run(1e-12, 135, check_every=25)  # a second run of the same solver begins a history of its own
    assert [r.iteration for r in again.history] == [125, 135]


def test_a_state_of_another_problem(tmp_path, one_thread):
    data = problem()
    state = fresh(data, regulariser="tv").state()
    with pytest.raises(ValueError, match=r"[pwq] of the state has shape"):
        fresh(data).restore(state)
    with pytest.raises(ValueError, match="the state holds"):
        fresh(data).restore(fresh(data, method="plain").state())


@pytest.mark.gpu
def test_two_of_one_hundred_on_a_gpu(tmp_path):
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no CUDA device")
    data = problem(cupy)
    expected = fresh(data).run(1e-12, 200, check_every=25)
    saved(fresh(data), tmp_path / "a.npz", 100)
    other = loaded(fresh(data, upper=3.0), tmp_path / "a.npz")
    spoil_scratch(other)
    same(other.run(1e-12, 200, check_every=25), expected)
