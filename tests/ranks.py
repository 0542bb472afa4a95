"""One rank's part of tests/test_ranks.py: every check compares with the same work done by one rank alone.

mpirun -n N python tests/ranks.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from recon.job.checkpoint_file import write_checkpoint
from recon.job.checkpoint_parts import SavedArrays, write_parts
from recon.parallel import ALONE, Ranks, Slab, launched
from recon.reconstruction.keeper import Parts, Shared
from recon.reconstruction.problem import Problem
from recon.reconstruction.reconstruct import reconstruct_with
from recon.reconstruction.spread import SharedFolder
from recon.series.alignment import Alignment
from recon.series.settings import Settings
from recon.simulate import simulate
from recon.solvers.solution import State

f32 = np.float32


def shared_arrays(ranks: Ranks) -> float:
    """Uneven slabs gathered, refreshed, cut and fetched give what the whole array has."""
    whole = np.arange(2 * 17, dtype=f32).reshape(2, 17)
    slab = Slab(ranks, 17, 2)
    part = slab.cut(whole)
    wrong = float(np.abs(slab.gather(part, everywhere=True) - whole).max())
    spoilt = np.full_like(part, -1)
    slab.inner(spoilt)[...] = slab.inner(part)
    slab.refresh(spoilt)
    wrong += float(np.abs(spoilt - part).max())
    want = [(3 * rank, 3 * rank + 8) for rank in range(ranks.size)]
    first, end = want[ranks.rank]
    return wrong + float(np.abs(slab.fetch(part, want) - whole[:, first:end]).max())


def cases() -> dict[str, tuple]:
    series, truth = simulate(size=20, seed=3)
    known = series.evolve(
        alignment=truth.alignment,
        exposures=np.tile(truth.exposures, (len(series.elements), 1)),
        background=np.full_like(series.background, truth.background),
        isolated=True,
    )
    straight = known.evolve(alignment=Alignment.identity(known.n_tilts))
    # not isolated: the volume is wider than the frame, and its margins are cut off
    wide = known.evolve(isolated=False)
    return {"turned": known, "straight": straight, "wide": wide}


def operators(ranks: Ranks) -> float:
    """Projection and its adjoint, halo included, and their dot product over all ranks."""
    rng, wrong = np.random.default_rng(0), 0.0
    for series in cases().values():
        one, many = (Problem.of(series, "Co", ranks=r) for r in (ALONE, ranks))
        x = rng.random(one.operator.domain_shape).astype(f32)
        y = rng.random(one.operator.range_shape).astype(f32)
        ax = one.operator(x, np.empty(one.operator.range_shape, f32))
        aty = one.operator.adjoint(y, np.empty_like(x))
        mine = many.operator(many.slab.cut(x), np.empty(many.operator.range_shape, f32))
        back = many.operator.adjoint(many.rows.cut(y), np.empty(many.operator.domain_shape, f32))
        wrong = max(wrong, float(np.abs(mine - many.rows.cut(ax)).max() / ax.max()))
        wrong = max(wrong, float(np.abs(back - many.slab.cut(aty)).max() / aty.max()))
    return wrong


def volumes(ranks: Ranks, folder: SharedFolder) -> dict[str, list[float]]:
    """Relative difference of volumes, of objectives and of gaps."""
    out = {}
    for name, series, settings, strength in (
        ("tgv turned", "turned", Settings("tgv", max_iterations=60, tolerance=1e-9), 1.0),
        ("tv straight", "straight", Settings("tv", "least-squares", max_iterations=60, tolerance=1e-9), 1.0),
        ("tgv wide", "wide", Settings("tgv", max_iterations=20, tolerance=1e-9), 1.0),
        ("sirt", "turned", Settings("sirt", "least-squares", max_iterations=10), 1.0),
        ("strength", "straight", Settings("tgv", max_iterations=20, tolerance=1e-9), "auto"),
    ):
        how = {"elements": ["Co"], "device": "cpu"}
        data = cases()[series]
        many = reconstruct_with(data, settings, strength, **how, ranks=ranks, checkpoints=Shared(ranks, None, folder))[
            "Co"
        ]
        if ranks.rank:
            continue
        one = reconstruct_with(data, settings, strength, **how)["Co"]
        a, b = one.solution, many.solution
        if a.value is not None:
            assert np.abs(a.value - b.value).max() < 2e-4 * a.value.max()
        out[name] = [
            float(np.abs(one.values - many.values).max() / one.values.max()),
            abs(b.objective / a.objective - 1),
            0.0 if np.isnan(a.gap) else abs(b.gap / a.gap - 1),
        ]
        if a.choice is not None:
            out[name].append(abs(b.choice.strength / a.choice.strength - 1))
    return out


def going_on(ranks: Ranks, folder: Path) -> float:
    """Saved by many, gone on with by one and by as many, and the other way round."""
    series, path = cases()["turned"], folder / f"Co.state-of-{ranks.size}.npz"
    one, many, again = (Problem.of(series, "Co", ranks=r).solver(1.0, 2.0) for r in (ALONE, ranks, ranks))
    one.run(0.0, 20)
    many.run(0.0, 20)
    parts, state = Parts(ranks, many.parts()), many.state()
    header = None
    if ranks.rank == 0:
        header = {"parts": write_parts(path, parts)}
        write_checkpoint(path, header, {})
    else:
        parts.do(ranks.tell(None))
    largest = max(part.nbytes for part in parts.values())
    assert largest <= one.q.nbytes * (1 / ranks.size + 0.1)  # nobody had the whole
    saved = SavedArrays(path, ranks.tell(header))
    again.restore(State(saved, state.numbers, state.history))
    many.restore(_copied(one.state()))
    one.restore(State(saved, state.numbers, state.history))
    for solver in (one, many, again):
        solver.run(0.0, 50)
    wholes = [solver.slab.gather(solver.u, everywhere=True) for solver in (many, again)]
    return max(float(np.abs(whole - one.u).max() / one.u.max()) for whole in wholes)


def _copied(state: State) -> State:
    return State({n: np.array(a) for n, a in state.arrays.items()}, state.numbers, state.history)


def main() -> None:
    ranks = launched()
    found = {
        "ranks": ranks.size,
        "arrays": ranks.max(shared_arrays(ranks)),
        "operators": ranks.max(operators(ranks)),
        "volumes": volumes(ranks, SharedFolder(ranks, Path(sys.argv[1]), "test")),
        "going on": ranks.max(going_on(ranks, Path(sys.argv[1]))),
    }
    if ranks.rank == 0:
        Path(sys.argv[1], f"ranks-{ranks.size}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
