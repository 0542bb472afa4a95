"""SIRT and filtered back projection: what the field uses, as baselines."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, namespace, to_host
from recon.operators import Operator
from recon.prox import DataTerm
from recon.solvers.solution import Callback, Record, Solution, Status


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
    xp = namespace(data.counts)
    clock = time.perf_counter()
    u = xp.zeros(operator.domain_shape, dtype=np.float32) if start is None else xp.array(start, dtype=np.float32)
    stack, step = xp.empty(operator.range_shape, dtype=np.float32), xp.empty_like(u)
    rows = data.scale * operator(xp.ones_like(u), stack)
    rows = xp.where(rows > 1e-3 * rows.max(), 1 / xp.maximum(rows, 1e-12), 0).astype(np.float32)
    columns = operator.adjoint(data.scale, step)
    columns = xp.where(columns > 1e-3 * columns.max(), 1 / xp.maximum(columns, 1e-12), 0).astype(np.float32)
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
            value = data.value(operator(u, stack))
            history.append(Record(done, value, float("nan"), time.perf_counter() - clock))
        if callback is not None:
            callback(history[-1])
    return Solution(u, Status.FIXED, iterations, history, {"iterations": iterations})


def fbp(
    operator: Operator, stack: Array, tilts_deg: NDArray[np.float64], *, callback: Callback | None = None
) -> Solution:
    """Filtered back projection with a Hann-windowed ramp, each tilt weighted by the angle it stands for.

    Args:
        operator: the projector of aligned maps.
        stack: ``(tilt, u, y)`` aligned maps per unit exposure, background removed.
        tilts_deg: ``(tilt,)``, any order and spacing.
    """
    xp = namespace(stack)
    clock = time.perf_counter()
    n = stack.shape[1]
    size = 2 * int(2 ** np.ceil(np.log2(n)))
    # the ramp as the transform of its exact samples, so that its zero frequency is right (Kak, Slaney 1988)
    k = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.zeros(size)
    kernel[0] = 0.25
    odd = k % 2 == 1
    kernel[odd] = -1 / (np.pi * k[odd]) ** 2
    ramp = np.fft.rfft(kernel).real * (0.5 + 0.5 * np.cos(2 * np.pi * np.fft.rfftfreq(size)))
    # on the host: CuPy's transforms need a library that its wheels do not bring
    spectrum = np.fft.rfft(to_host(stack), size, axis=1) * ramp.astype(np.float32)[None, :, None]
    filtered = np.fft.irfft(spectrum, size, axis=1)[:, :n]
    order = np.argsort(tilts_deg)
    angle = np.radians(tilts_deg[order])
    edges = np.concatenate([[angle[0]], (angle[1:] + angle[:-1]) / 2, [angle[-1]]])
    weight = np.empty_like(angle)
    weight[order] = np.diff(edges)
    weight[order[[0, -1]]] *= 2  # the outer tilts stand for as much on their other side
    filtered = np.ascontiguousarray(filtered * weight[:, None, None], dtype=np.float32)
    u = operator.adjoint(xp.asarray(filtered), xp.empty(operator.domain_shape, dtype=np.float32))
    history = [Record(1, float("nan"), float("nan"), time.perf_counter() - clock)]
    if callback is not None:
        callback(history[-1])
    return Solution(u, Status.FIXED, 1, history, {"filter": "ramp, Hann window"})
