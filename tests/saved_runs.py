"""What tests of checkpoints share: a small problem, a solver saved and loaded."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numba
import numpy as np
import pytest

from recon.geometry.tilt_geometry import TiltGeometry
from recon.job.checkpoint import Identity
from recon.job.checkpoint_file import read_checkpoint, write_checkpoint
from recon.operators import make_projector
from recon.solvers import State
from recon.solvers.data_terms import Poisson
from recon.solvers.pdhg import PrimalDual

ROOT = Path(__file__).resolve().parent.parent


f32 = np.float32


TILTS = (-60, -25, 5, 40, 70)


IDENTITY = Identity({"job_file": "job.toml", "reconstruct": {"tolerance": 0.01}}, {"Co": "c0", "tilts": "71"})


posix = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture
def one_thread():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def problem(xp=np, term=Poisson, seed=0):
    like = xp.empty(0, f32)
    operator = make_projector(TiltGeometry.single_axis(TILTS, (6, 9), (8, 6, 9)), like)
    rng = np.random.default_rng(seed)
    truth = np.zeros(operator.domain_shape, f32)
    truth[2:6, 2:7, 1:5] = 1.0
    truth[3:5, 3:6] *= 3
    scale = xp.asarray(rng.uniform(0.5, 1.5, (len(TILTS), 1, 1)) * np.ones(operator.range_shape), dtype=f32)
    clean = operator(xp.asarray(truth), xp.empty(operator.range_shape, dtype=f32)) * scale
    clean = clean if xp is np else clean.get()
    counts = xp.asarray(rng.poisson(clean + 0.3), dtype=f32)
    arrays = counts, scale, xp.full_like(counts, 0.3)
    data = arrays if term is Poisson else (*arrays, 1 / xp.maximum(counts, 1))
    return operator, term(*data)


def fresh(data, **options):
    return PrimalDual(*data, a1=0.5, a0=0.7, upper=options.pop("upper", 50.0), **options)


def stop_at(iteration):
    return lambda solver: solver.iteration == iteration


class StopHere(BaseException):
    pass


def saved(solver, path, at):
    """Run to an iteration, save there without another check, and forget the solver."""

    def control(running):
        if running.iteration == at:
            state = running.state()
            history = [dataclasses.asdict(r) for r in state.history]
            write_checkpoint(path, {"numbers": state.numbers, "history": history}, state.arrays)
            raise StopHere
        return False

    with pytest.raises(StopHere):
        solver.run(1e-12, 10**6, check_every=25, control=control)


def loaded(solver, path):
    header, arrays = read_checkpoint(path)
    from recon.solvers import Record

    solver.restore(State(arrays, header["numbers"], [Record(**r) for r in header["history"]]))
    return solver


def spoil_scratch(solver):
    """NaN in every array that is not state: if one mattered, the result would tell."""
    kept = {id(a) for a in solver.state().arrays.values()} | {id(solver._sensitivity)}
    for value in vars(solver).values():
        for array in value if isinstance(value, list) else [value]:
            if isinstance(array, type(solver.u)) and id(array) not in kept:
                array[...] = np.nan


def host(a):
    return a if isinstance(a, np.ndarray) else a.get()


def same(first, second):
    assert [dataclasses.replace(r, seconds=0) for r in first.history] == [
        dataclasses.replace(r, seconds=0) for r in second.history
    ]
    assert first.status is second.status
    assert first.iterations == second.iterations
    assert first.parameters == second.parameters
    assert np.array_equal(host(first.value), host(second.value))
