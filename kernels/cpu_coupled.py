"""Norms and projections of the gradients of several channels together, voxel by voxel, see `recon.solvers.coupled`.

In each voxel the fields of all channels are the rows of a matrix M, ``channels x components``. The Frobenius norm is
its own dual. The nuclear norm is the sum of M's singular values, its dual norm the largest of them. Singular values
come from the small matrix ``M M^T = V diag(s^2) V^T`` by Jacobi's rotations (G. H. Golub, C. F. Van Loan, "Matrix
Computations", section 8.5), of which two channels need one.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from recon.kernels.compiling import FOUR, ONE, TINY, TWO, ZERO, jit, leaf
from recon.kernels.cpu_difference import _fill
from recon.kernels.cpu_parallel import all_of, in_parallel

SWEEPS = 5  # over all pairs of channels, if there are more than two; they converge quadratically


@leaf
def _gram_row(v, z, x, unit, gram):  # type: ignore[no-untyped-def]
    """M M^T of the voxels of a row, in the type of `unit`."""
    for a in range(v.shape[0]):
        for b in range(a, v.shape[0]):
            out = gram[a, b]
            _fill(out, ZERO)
            for k in range(v.shape[1]):
                left, right = v[a, k, z, x], v[b, k, z, x]
                for i in range(out.size):
                    out[i] += (unit * left[i]) * right[i]
            if b > a:
                same = gram[b, a]
                for i in range(out.size):
                    same[i] = out[i]


@leaf
def _angles(first, second, mixed, sines, cosines):  # type: ignore[no-untyped-def]
    """The rotations that make the mixed elements of 2 x 2 matrices vanish, and what becomes of the others."""
    for i in range(mixed.size):
        d, b = second[i] - first[i], mixed[i]
        size = abs(d) + sqrt(d * d + FOUR * b * b)
        t = TWO * (b if d >= ZERO else -b) / max(size, TINY)
        c = ONE / sqrt(ONE + t * t)
        first[i] -= t * b
        second[i] += t * b
        cosines[i] = c
        sines[i] = t * c


@leaf
def _turn(one, two, sines, cosines):  # type: ignore[no-untyped-def]
    for i in range(one.size):
        a, b = one[i], two[i]
        one[i] = cosines[i] * a - sines[i] * b
        two[i] = sines[i] * a + cosines[i] * b


@leaf
def _diagonalise(gram, vectors, angles):  # type: ignore[no-untyped-def]
    """``gram = V diag V^T`` by row; the diagonal is left in `gram`. Without rows, `vectors` is not wanted."""
    n = gram.shape[0]
    for i in range(vectors.shape[0]):
        for j in range(n):
            _fill(vectors[i, j], ONE if i == j else ZERO)
    for _ in range(1 if n == 2 else SWEEPS):
        for a in range(n):
            for b in range(a + 1, n):
                _angles(gram[a, a], gram[b, b], gram[a, b], angles[0], angles[1])
                _fill(gram[a, b], ZERO)
                for r in range(n):
                    if r != a and r != b:
                        left, right = gram[min(r, a), max(r, a)], gram[min(r, b), max(r, b)]
                        _turn(left, right, angles[0], angles[1])
                for r in range(vectors.shape[0]):
                    _turn(vectors[r, a], vectors[r, b], angles[0], angles[1])


@leaf
def _factors(gram, vectors, radius, out):  # type: ignore[no-untyped-def]
    """``out = V diag(min(1, radius / s)) V^T``, s the roots of the diagonal of `gram`."""
    n = gram.shape[0]
    for k in range(n):
        square = gram[k, k]
        for i in range(square.size):
            square[i] = radius / max(radius, sqrt(max(square[i], ZERO)))
    for a in range(n):
        for b in range(n):
            target = out[a, b]
            _fill(target, ZERO)
            for k in range(n):
                left, right, shrink = vectors[a, k], vectors[b, k], gram[k, k]
                for i in range(target.size):
                    target[i] += left[i] * right[i] * shrink[i]


@leaf
def _frobenius(gram, out):  # type: ignore[no-untyped-def]
    _fill(out, ZERO)
    for a in range(gram.shape[0]):
        square = gram[a, a]
        for i in range(out.size):
            out[i] += square[i]
    for i in range(out.size):
        out[i] = sqrt(out[i])


@leaf
def _move(dual, ahead, z, x, factors, shrink, rho, work):  # type: ignore[no-untyped-def]
    """dual += rho (F ahead - dual), with F a matrix of each voxel (nuclear), or a number (Frobenius)."""
    for k in range(dual.shape[1]):
        for a in range(dual.shape[0]):
            target = dual[a, k, z, x]
            if factors.shape[0] == 0:
                new = ahead[a, k, z, x]
                for i in range(target.size):
                    target[i] += rho * (shrink[i] * new[i] - target[i])
                continue
            _fill(work, ZERO)
            for b in range(dual.shape[0]):
                factor, new = factors[a, b], ahead[b, k, z, x]
                for i in range(target.size):
                    work[i] += factor[i] * new[i]
            for i in range(target.size):
                target[i] += rho * (work[i] - target[i])


@jit
def _coupled_dual(z, dual, ahead, radius, nuclear, rho):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    n, nx, ny = dual.shape[0], dual.shape[3], dual.shape[4]
    gram, vectors = np.empty((n, n, ny), np.float32), np.empty((n, n, ny), np.float32)
    factors, work = np.empty((n if nuclear else 0, n, ny), np.float32), np.empty((3, ny), np.float32)
    for x in range(nx):
        _gram_row(ahead, z, x, ONE, gram)
        if nuclear:
            _diagonalise(gram, vectors, work[:2])
            _factors(gram, vectors, radius, factors)
        else:
            _frobenius(gram, work[0])
            for i in range(ny):
                work[0, i] = radius / max(radius, work[0, i])
        _move(dual, ahead, z, x, factors, work[0], rho, work[2])


def coupled_dual(dual, ahead, radius, nuclear, rho):  # type: ignore[no-untyped-def]
    """dual <- dual + rho (P(ahead) - dual), P the projection onto the ball of the dual norm in each voxel.

    Arrays ``(channel, component, z, x, y)``. The ball is that of the Frobenius norm, or with `nuclear` that of the
    largest singular value.
    """
    _coupled_dual(all_of(dual.shape[2]), dual, ahead, radius, nuclear, rho)


@jit
def _coupled_norms(z, v, nuclear, sums):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    n, nx, ny = v.shape[0], v.shape[3], v.shape[4]
    gram, work = np.empty((n, n, ny)), np.empty((2, ny))
    total, largest = 0.0, 0.0
    for x in range(nx):
        _gram_row(v, z, x, 1.0, gram)
        if nuclear:
            _diagonalise(gram, gram[:0], work)
            for k in range(n):
                for i in range(ny):
                    s = sqrt(max(gram[k, k, i], 0.0))
                    total += s
                    largest = max(largest, s)
        else:
            _frobenius(gram, work[0])
            for i in range(ny):
                total += work[0, i]
                largest = max(largest, work[0, i])
    sums[z, 0] = total
    sums[z, 1] = largest


def coupled_norms(v, nuclear, sums):  # type: ignore[no-untyped-def]
    """``sums[z] = (sum of the norms, largest dual norm)`` of a plane, in float64; arrays as in `coupled_dual`."""
    _coupled_norms(all_of(v.shape[2]), v, nuclear, sums)
