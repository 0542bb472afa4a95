"""Directions from angles in degrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recon.errors import GeometryError

Vectors = NDArray[np.float64]


def sin(degrees: ArrayLike) -> Vectors:
    """Sine; exact at multiples of 90 degrees, where rounding would turn a fast part into a general one."""
    angle = np.asarray(degrees, dtype=np.float64)
    quarter = np.mod(angle, 360) / 90
    exact = np.take([0.0, 1.0, 0.0, -1.0], np.rint(quarter).astype(int) % 4)
    return np.asarray(np.where(quarter == np.rint(quarter), exact, np.sin(np.radians(angle))))


def cos(degrees: ArrayLike) -> Vectors:
    """Cosine, exact likewise."""
    return sin(np.asarray(degrees, dtype=np.float64) + 90)


def directions(tilts: Vectors, axes: Vectors) -> tuple[Vectors, Vectors, Vectors]:
    """Ray, u and v ``(tilt, 3)`` of tilts about axes in the plane of y and x, `axes` from y towards x."""
    t, zero = np.radians(tilts), np.zeros_like(tilts)
    c, s, ca, sa = np.cos(t), np.sin(t), cos(axes), sin(axes)
    return (
        np.stack([c, s * sa, -s * ca], axis=1),
        np.stack([s, -c * sa, c * ca], axis=1),
        np.stack([zero, ca, sa], axis=1),
    )


def rotation(degrees: float, axis: str) -> Vectors:
    """The matrix of a turn about a volume axis: about z from y towards x, about y from x to z, about x from z to y.

    Raises:
        GeometryError: an unknown axis.
    """
    pairs = {"z": (1, 2), "y": (2, 0), "x": (0, 1)}
    if axis not in pairs:
        raise GeometryError(f"axis {axis!r} is unknown; use z, y or x")
    start, to = pairs[axis]
    turn = np.eye(3)
    turn[start, start] = turn[to, to] = cos(degrees)
    turn[to, start], turn[start, to] = sin(degrees), -sin(degrees)
    return turn
