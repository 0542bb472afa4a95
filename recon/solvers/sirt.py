"""SIRT, what the field uses, as a baseline."""

from __future__ import annotations

import time

import numpy as np

from recon.backend import Array, namespace
from recon.operators import Operator
from recon.parallel import slab_of
from recon.series.volume import Record, Solution, Status
from recon.solvers.data_terms import DataTerm
from recon.solvers.solution import Callback


def sirt(
    operator: Operator,
    data: DataTerm,
    *,
    iterations: int = 30,
    start: Array | None = None,
    callback: Callback | None = None,
) -> Solution:
    """Simultaneous iterative reconstruction with u >= 0 (Gilbert, J. Theor. Biol. 36, 105 (1972)).

    ``u <- max(0, u + C A^T s R (c - b - s A u))``, R and C the inverse row and column sums of ``s A``.
    The number of iterations is its only regularisation. The history's objective is the data term.
    """
    xp, slab = namespace(data.counts), slab_of(operator, operator.domain_shape[-1])
    clock = time.perf_counter()
    u = xp.zeros(operator.domain_shape, dtype=np.float32) if start is None else xp.array(start, dtype=np.float32)
    stack, step = xp.empty(operator.range_shape, dtype=np.float32), xp.empty_like(u)
    rows = data.scale * operator(xp.ones_like(u), stack)
    rows = xp.where(rows > 1e-3 * slab.max(rows.max()), 1 / xp.maximum(rows, 1e-12), 0).astype(np.float32)
    columns = operator.adjoint(data.scale, step)
    columns = xp.where(columns > 1e-3 * slab.max(columns.max()), 1 / xp.maximum(columns, 1e-12), 0).astype(np.float32)
    history: list[Record] = []
    for done in range(1, iterations + 1):
        operator(u, stack)
        stack *= -data.scale
        stack += data.counts - data.offset
        stack *= rows * data.scale
        operator.adjoint(stack, step)
        step *= columns
        u += step
        xp.maximum(u, 0, out=u)
        if callback is not None or done == iterations:
            value = slab.sum(data.value(operator(u, stack)))
            history.append(Record(done, value, float("nan"), time.perf_counter() - clock))
        if callback is not None:
            callback(history[-1])
    return Solution(u, Status.FIXED, iterations, history)
