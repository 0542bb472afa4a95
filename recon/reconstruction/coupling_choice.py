"""Whether elements are better reconstructed together, told by counts not seen.

Each element's counts are divided as the search for its strength divides them (`recon.reconstruction.strength`); one
part is reconstructed alone and together, by each norm, and the other part says how wrong each volume is. The difference
of two held-out errors is free of the noise in them but for what its scatter between detector lines tells, so a change
is measured in its standard error: where counts are few, the error itself drowns in noise, its change does not.

What helps one element may harm another. Elements are taken together if none of them loses by more than `HARM` standard
errors, and all of them together gain; of two norms by the one that gains more. benchmarks/coupled.py says how good the
choice is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recon.backend import namespace
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import A0_PER_A1, held_out_error, split
from recon.solvers.coupled import COUPLINGS, Channel, CoupledPrimalDual

HARM = 0.5
TOLERANCE, ITERATIONS = 1e-2, 300  # of each reconstruction of a part, at most


def choose_coupling(
    problems: Sequence[Problem],
    a1: Sequence[float],
    counted: Sequence[bool],
    stop: Callable[[], bool],
    log: Callable[[str], None],
    seed: int = 0,
) -> tuple[str, dict[str, tuple[float, ...]]] | None:
    """The coupling of least error, ``"none"`` among them, and what was found of each norm.

    Args:
        problems, a1: of each channel.
        counted: whether a channel is an element; others help in both cases as they are.
        stop: asked now and then; True ends it.
        log: called with a line for each norm.
        seed: of the division.

    Returns:
        The norm, and norm to the change of each element's held-out error in its standard error; None if `stop` said so.
    """
    parts = [split(p, seed) if c else None for p, c in zip(problems, counted, strict=True)]
    kept = [p if s is None else s.kept for p, s in zip(problems, parts, strict=True)]
    weak = [a if s is None else a * s.part / s.unit for a, s in zip(a1, parts, strict=True)]
    alone, before = [], []
    for problem, a, part in zip(kept, weak, parts, strict=True):
        if stop():
            return None
        solver = problem.coarse_to_fine(a, A0_PER_A1 * a, TOLERANCE)
        solver.run(TOLERANCE, ITERATIONS)
        alone.append(solver.value())
        if part is not None:
            room = namespace(part.held.counts).empty_like(part.held.counts)
            before.append(held_out_error(part.held, problem.operator(alone[-1], room)))
    tried: dict[str, tuple[float, ...]] = {}
    for norm in COUPLINGS:
        if stop():
            return None
        channels = [Channel(p.operator, p.data, a) for p, a in zip(kept, weak, strict=True)]
        together = CoupledPrimalDual(channels, norm, regulariser=problems[0].settings.method, start=alone)
        together.run(TOLERANCE, ITERATIONS)
        seen = [(s.held, a) for s, a in zip(parts, together.projections(), strict=True) if s is not None]
        after = [held_out_error(held, projection) for held, projection in seen]
        tried[norm] = tuple(change(b, a) for b, a in zip(before, after, strict=True))
        names = [p.element for p, c in zip(problems, counted, strict=True) if c]
        said = ", ".join(f"{n} {c:+.1f}" for n, c in zip(names, tried[norm], strict=True))
        log(f"coupling by the {norm} norm changes the held-out error, in its standard error, by: {said}")
    harmless = [norm for norm, changes in tried.items() if max(changes) <= HARM and sum(changes) < 0]
    return min(harmless, key=lambda norm: sum(tried[norm]), default="none"), tried


def change(before: np.ndarray, after: np.ndarray) -> float:
    """The change of an error that is a sum of terms, in its standard error."""
    differences = after - before
    scatter = float(np.sqrt(np.sum(np.square(differences - differences.mean()))))
    return float(differences.sum()) / max(scatter, 1e-300)


__all__ = ["choose_coupling"]
