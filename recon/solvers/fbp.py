"""Filtered back projection, as a baseline."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, namespace, to_host
from recon.operators import Operator
from recon.series.volume import Record, Solution, Status
from recon.solvers.solution import Callback


def fbp(
    operator: Operator,
    stack: Array,
    tilts_deg: NDArray[np.float64],
    there: NDArray[np.bool_] | None = None,
    *,
    callback: Callback | None = None,
) -> Solution:
    """Filtered back projection with a Hann-windowed ramp, each tilt weighted by the angle it stands for.

    Args:
        operator: the projector of aligned maps.
        stack: ``(tilt, u, y)`` aligned maps per unit exposure, background removed.
        tilts_deg: ``(tilt,)``, any order and spacing.
        there: ``(tilt,)``, False for maps that were not recorded; all were by default.
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
    order = order if there is None else order[there[order]]
    angle = np.radians(tilts_deg[order])
    edges = np.concatenate([[angle[0]], (angle[1:] + angle[:-1]) / 2, [angle[-1]]])
    weight = np.zeros_like(tilts_deg)
    weight[order] = np.diff(edges)
    weight[order[[0, -1]]] *= 2  # the outer tilts stand for as much on their other side
    filtered = np.ascontiguousarray(filtered * weight[:, None, None], dtype=np.float32)
    u = operator.adjoint(xp.asarray(filtered), xp.empty(operator.domain_shape, dtype=np.float32))
    history = [Record(1, float("nan"), float("nan"), time.perf_counter() - clock)]
    if callback is not None:
        callback(history[-1])
    return Solution(u, Status.FIXED, 1, history)
