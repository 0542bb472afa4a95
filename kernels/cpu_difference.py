"""Differences on the CPU: the one boundary rule.

The gradient takes forward differences; at the last index of an axis there is none, and neither w's
component along that axis nor p's exists there (both stay 0). The symmetrised gradient takes backward
differences of the components that exist. Hence TGV is zero exactly on affine functions. Along y a row knows
its ends; along z and x the rule is a factor 0 or 1 per row, m where an index before exists, l where one after
exists, and a neighbour that does not exist is replaced by the row itself.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from recon.kernels.compiling import ONE, ROOT_HALF, ZERO, leaf
from recon.kernels.cpu_short import load, wide


@leaf
def _ends(i, n):  # type: ignore[no-untyped-def]
    """(m, l, index before, index after) of an index."""
    return np.float32(i > 0), np.float32(i + 1 < n), max(i - 1, 0), min(i + 1, n - 1)


# ---------------------------------------------------------------- rows with edges
# In a copy with an edge, one expression is the rule at every index. "Bars" have room for PAD elements before and after.

PAD = 16  # elements: a cache line


@leaf
def _edge_forward(bar):  # type: ignore[no-untyped-def]
    """Then the forward difference of `bar` is bar[i + 1] - bar[i]."""
    bar[bar.size - PAD] = bar[bar.size - PAD - 1]


@leaf
def _edge_backward(bar):  # type: ignore[no-untyped-def]
    """Then the backward difference of `bar` is bar[i] - bar[i - 1]."""
    bar[PAD - 1] = bar[PAD]


@leaf
def _forward(a, bar, out):  # type: ignore[no-untyped-def]
    """The forward difference of a row; `bar` is scratch."""
    _into_bar(a, bar)
    _edge_forward(bar)
    for i in range(a.size):
        out[i] = bar[PAD + i + 1] - bar[PAD + i]


@leaf
def _backward(a, bar, out):  # type: ignore[no-untyped-def]
    """The backward difference of a row; `bar` is scratch."""
    _into_bar(a, bar)
    _edge_backward(bar)
    for i in range(a.size):
        out[i] = bar[PAD + i] - bar[PAD + i - 1]


@leaf
def _into_bar(a, bar):  # type: ignore[no-untyped-def]
    for i in range(a.size):
        bar[PAD + i] = a[i]


@leaf
def _edge_forward_adjoint(a, unit, out):  # type: ignore[no-untyped-def]
    """Then the adjoint of the forward difference of `a` is out[i] - out[i + 1]."""
    wide()
    out[0] = ZERO
    for i in range(a.size):
        out[i + 1] = load(a, i, unit)


@leaf
def _without_ends(out):  # type: ignore[no-untyped-def]
    out[0] = out[out.size - 1] = ZERO


@leaf
def _edge_backward_adjoint(a, unit, out):  # type: ignore[no-untyped-def]
    """Then the adjoint of the backward difference of `a` is out[i] - out[i + 1]."""
    wide()
    for i in range(a.size):
        out[i] = load(a, i, unit)
    _without_ends(out)


# ---------------------------------------------------------------- rows of fields


@leaf
def _fill(out, value):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = value


@leaf
def _multiply_by(out, factor):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] *= factor


@leaf
def _difference(out, factor, a, b):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = factor * (a[i] - b[i])


@leaf
def _add_difference(out, factor, a, fa, b, fb):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] += factor * (fa * a[i] - fb * b[i])


@leaf
def _add(out, factor, a):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] += factor * a[i]


@leaf
def _shrink(square, radius):  # type: ignore[no-untyped-def]
    """|v|^2 becomes the factor min(1, radius / |v|) that projects v onto the ball."""
    for i in range(square.size):
        square[i] = radius / max(radius, sqrt(square[i]))


@leaf
def _gradient_row(u, w, z, x, zl, xl, lz, lx, work, bar):  # type: ignore[no-untyped-def]
    """grad u - w of one row into work[0:3]; `bar` is scratch."""
    _difference(work[0], lz, u[zl, x], u[z, x])
    _difference(work[1], lx, u[z, xl], u[z, x])
    _forward(u[z, x], bar, work[2])
    if w.shape[0] > 0:
        for k in range(3):
            _add(work[k], -ONE, w[k, z, x])


@leaf
def _symmetrised_gradient_row(w, z, x, zm, xm, mlz, mlx, mz, mx, work, d, bar):  # type: ignore[no-untyped-def]
    """E w of one row into work[0:6]; `d` and `bar` are scratch."""
    _difference(work[0], mlz, w[0, z, x], w[0, zm, x])
    _difference(work[1], mlx, w[1, z, x], w[1, z, xm])
    _backward(w[2, z, x], bar, work[2])
    work[2, d.size - 1] = ZERO
    _difference(work[3], ROOT_HALF * mz, w[1, z, x], w[1, zm, x])
    _difference(d, ROOT_HALF * mx, w[0, z, x], w[0, z, xm])
    _add(work[3], ONE, d)
    _difference(work[4], ROOT_HALF * mz, w[2, z, x], w[2, zm, x])
    _backward(w[0, z, x], bar, d)
    _add(work[4], ROOT_HALF, d)
    _difference(work[5], ROOT_HALF * mx, w[2, z, x], w[2, z, xm])
    _backward(w[1, z, x], bar, d)
    _add(work[5], ROOT_HALF, d)
