"""The data term's dual step in a metric that is a ramp along the detector, see `recon.solvers.ramp`, on the CPU.

With smooth = (1 + l^2 D* D)^-1 along u, D the differences of neighbours, the metric is R = 1 - rest smooth. A smooth is
a recursion up and one down, each a row along y at a time (the tridiagonal system's LU decomposition):
``b_i = gain_i a_i + pass_i b_(i-1)``, then ``x_i = b_i + pass_i x_(i+1)``.
"""

from __future__ import annotations

from recon.kernels.compiling import ONE, ZERO, jit, leaf
from recon.kernels.cpu_parallel import all_of, in_parallel


@leaf
def _add(row, factor, other):  # type: ignore[no-untyped-def]
    for j in range(row.size):
        row[j] += factor * other[j]


@leaf
def _differ(stack, kept, scale, gain, less, out):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        out[j] = gain * (scale[j] * stack[j] - less * kept[j])


@leaf
def _take(x, scale, rest, stack):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        s = scale[j]
        part = rest * x[j] / (s if s > ZERO else ONE)
        stack[j] -= part if s > ZERO else ZERO


@jit
def _ramp_filter(t, stack, kept, scale, room, factors, rest, less):  # type: ignore[no-untyped-def]
    if t < 0:
        in_parallel(t)
        return
    n = stack.shape[1]
    for i in range(n):
        _differ(stack[t, i], kept[t, i], scale[t, i], factors[0, i], less, room[t, i])
        if i > 0:
            _add(room[t, i], factors[1, i], room[t, i - 1])
    for i in range(n - 1, -1, -1):
        if i + 1 < n:
            _add(room[t, i], factors[1, i], room[t, i + 1])
        _take(room[t, i], scale[t, i], rest, stack[t, i])


def ramp_filter(stack, kept, scale, room, factors, rest, less):  # type: ignore[no-untyped-def]
    """``stack -= rest smooth(scale stack - less kept) / scale`` where the scale is not 0.

    Arrays (tilt, u, y), `room` is overwritten; `factors` (2, u) are gain and pass, see `recon.kernels.cpu_ramp`.
    """
    _ramp_filter(all_of(len(stack)), stack, kept, scale, room, factors, rest, less)


@leaf
def _move(y, kept, ahead, stack, scale, gain, one_over_sigma, rho):  # type: ignore[no-untyped-def]
    for j in range(y.size):
        back = y[j] - ahead[j]
        move = scale[j] * stack[j] - kept[j] + back * one_over_sigma
        kept[j] += rho * move
        y[j] -= rho * back
        ahead[j] = gain * move


@leaf
def _raise(x, scale, factor, y):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        y[j] += factor * x[j] if scale[j] > ZERO else ZERO


@jit
def _ramp_dual(t, y, kept, ahead, stack, scale, factors, rest, sigma, rho):  # type: ignore[no-untyped-def]
    if t < 0:
        in_parallel(t)
        return
    n, one_over_sigma, step = y.shape[1], ONE / sigma, rho * rest * sigma
    for i in range(n):
        _move(y[t, i], kept[t, i], ahead[t, i], stack[t, i], scale[t, i], factors[0, i], one_over_sigma, rho)
        if i > 0:
            _add(ahead[t, i], factors[1, i], ahead[t, i - 1])
    for i in range(n - 1, -1, -1):
        if i + 1 < n:
            _add(ahead[t, i], factors[1, i], ahead[t, i + 1])
        _raise(ahead[t, i], scale[t, i], step, y[t, i])


def ramp_dual(y, kept, ahead, stack, scale, factors, rest, sigma, rho):  # type: ignore[no-untyped-def]
    """``move = scale stack - kept + (y - ahead) / sigma``, ``kept += rho move``,
    ``y += rho (ahead - y + rest sigma smooth(move))``; where the scale is 0, all are 0 and stay so.

    Arrays (tilt, u, y), `ahead` is overwritten; `factors` (2, u) are gain and pass, see `recon.kernels.cpu_ramp`.
    """
    _ramp_dual(all_of(len(y)), y, kept, ahead, stack, scale, factors, rest, sigma, rho)


__all__ = ["ramp_dual", "ramp_filter"]
