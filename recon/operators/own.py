"""A projector of a user's own: what it has to be, the check that it is that, and its place in a reconstruction."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recon.backend import Array, namespace
from recon.errors import JobError
from recon.operators.base import Shape

ALIKE = 1e-4  # of its norm: float32 sums of a volume's size leave ten times less


class LinearOperator(Protocol):
    """A projector: a linear map with entries that are not negative, and its adjoint.

    ``A(volume)`` takes an array ``(z, y, x)`` and returns maps ``(tilt, y, u)``; ``A.adjoint(maps)`` goes back.
    Arrays are float32, NumPy or, in a reconstruction on a GPU, CuPy; what is handed in must not be changed.
    """

    def __call__(self, volume: Array, /) -> Array: ...

    def adjoint(self, maps: Array, /) -> Array: ...


class OwnOperator:
    """A `LinearOperator` in the solver's layout, volumes ``(z, x, y)`` and stacks ``(tilt, u, y)``.

    Args:
        own: the projector.
        volume: ``(z, y, x)``, the shape of what it projects.
        maps: ``(tilt, y, u)``, the shape of what it gives.
        like: an array of the kind that it will be given.

    Raises:
        JobError: it is no such projector.
    """

    def __init__(self, own: LinearOperator, volume: Shape, maps: Shape, like: Array) -> None:
        self._own, self._volume, self._maps = own, volume, maps
        self.domain_shape, self.range_shape = turned(volume), turned(maps)
        self._check(like)

    def __call__(self, x: Array, out: Array) -> Array:
        out[...] = self._own(x.swapaxes(1, 2)).swapaxes(1, 2)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        out[...] = self._own.adjoint(y.swapaxes(1, 2)).swapaxes(1, 2)
        return out

    def _check(self, like: Array) -> None:
        xp = namespace(like)
        ones = xp.ones(self._volume, dtype=np.float32)
        try:
            shadow = self._own(ones)
        except Exception as exc:  # whatever a user's code raises
            raise JobError(f"the projector fails on a volume (z, y, x) of shape {self._volume}: {exc}") from exc
        shaped("the projector", shadow, self._maps)
        least, most = float(shadow.min()), float(shadow.max())
        if least < 0 or not most > 0:
            raise JobError(
                f"the projector maps a volume of ones to values from {least:.3g} to {most:.3g}; line integrals of it "
                "are not negative, and some are positive"
            )
        check_adjoint("the projector", self._own, self._own.adjoint, (self._volume, self._maps), xp)


def turned(shape: Shape) -> Shape:
    """A shape with its last two axes exchanged."""
    return (*shape[:-2], shape[-1], shape[-2])


def shaped(name: str, a: Array, shape: Shape) -> Array:
    """`a`, or a JobError if it has another shape or is not finite."""
    if tuple(getattr(a, "shape", ())) != tuple(shape):
        raise JobError(f"{name} gives an array of shape {getattr(a, 'shape', None)}; it must be {tuple(shape)}")
    if not bool(namespace(a).isfinite(a).all()):
        raise JobError(f"{name} gives values that are not finite")
    return a


def random(xp: object, shape: Shape, seed: int) -> Array:
    """Normal numbers for a check, float32."""
    out: Array = xp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))  # type: ignore[attr-defined]
    return out


def inner(a: Array, b: Array) -> float:
    """``<a, b>``, summed in float64."""
    return float(namespace(a).sum(a.astype(np.float64) * b))


def check_adjoint(name: str, forward: object, adjoint: object, shapes: tuple[Shape, Shape], xp: object) -> None:
    """JobError unless the two are linear and adjoint to each other, tried on normal numbers."""
    x, other = random(xp, shapes[0], 1), random(xp, shapes[0], 2)
    image = shaped(name, forward(x), shapes[1])  # type: ignore[operator]
    # to its own image an array is far from orthogonal, so a wrong factor shows; to another one, a wrong place
    for y in (image, random(xp, shapes[1], 3)):
        back = shaped(f"the adjoint of {name}", adjoint(y), shapes[0])  # type: ignore[operator]
        there, here = inner(image, y), inner(x, back)
        if abs(there - here) > ALIKE * max((inner(image, image) * inner(y, y)) ** 0.5, 1e-30):
            raise JobError(
                f"{name} and its adjoint do not belong together: for random x and y, <A x, y> = {there:.6g} and "
                f"<x, A* y> = {here:.6g}; they must be equal"
            )
    both = forward(x + 2 * other)  # type: ignore[operator]
    rest = both - image - 2 * forward(other)  # type: ignore[operator]
    if inner(rest, rest) ** 0.5 > ALIKE * max(inner(both, both) ** 0.5, 1e-30):
        raise JobError(f"{name} is not linear: A (x + 2 y) is not A x + 2 A y for random x and y")


__all__ = ["LinearOperator", "OwnOperator"]
