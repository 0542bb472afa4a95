"""What angles and vectors must be like: one line that names the projection and the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.errors import GeometryError

FEWEST_TO_JUDGE = 5  # angles: fewer say nothing about their unit
NARROW = 0.6  # degrees, or radians, over which they say nothing, and the most between two of a series in radians
WHOLE = 0.02  # degrees by which a step that is read from an instrument may differ from a whole number
PARALLEL = 1e-6  # sine of the least angle between directions that must differ


def check_angles(name: str, degrees: NDArray[np.float64], most: float = 180.0) -> None:
    """Raise unless `degrees` are finite and plausible as degrees.

    Raises:
        GeometryError: none, one that is not finite or beyond `most`, or all of them so small that they are radians.
    """
    if degrees.size == 0:
        raise GeometryError(f"there is no {name}; give one angle in degrees for every projection")
    if not np.isfinite(degrees).all():
        bad = int(np.argmin(np.isfinite(degrees)))
        raise GeometryError(
            f"the {name} of projection {bad + 1} is {degrees[bad]}; it must be a finite number of degrees"
        )
    worst = int(np.abs(degrees).argmax())
    if abs(degrees[worst]) > most:
        raise GeometryError(
            f"the {name} of projection {worst + 1} is {degrees[worst]:g}; angles are in degrees, within +-{most:g}"
        )
    values = np.unique(degrees)
    turn = np.pi / 2 if most <= 180 else 2 * np.pi  # what a full range would be in radians
    few = values.size < FEWEST_TO_JUDGE or np.abs(values).max() > turn
    if not few and np.diff(values).max() < NARROW < np.ptp(values):
        raise GeometryError(
            f"{name} angles from {values[0]:.3g} to {values[-1]:.3g} look like radians; give degrees "
            f"({np.degrees(values[0]):.1f} to {np.degrees(values[-1]):.1f})"
        )


def check_azimuths(degrees: NDArray[np.float64]) -> None:
    """Raise if azimuths of a cone are radians: within 2 pi, over some of it, in steps that are no whole degrees.

    A small part of a circle is recorded in whole degrees; all of it, in radians, has none.

    Raises:
        GeometryError: as it says.
    """
    values = np.unique(degrees)
    if values.size < FEWEST_TO_JUDGE or np.abs(values).max() >= 2 * np.pi or np.ptp(values) <= NARROW:
        return
    steps = np.diff(values)
    if np.abs(steps - np.maximum(np.round(steps), 1)).max() > WHOLE:
        raise GeometryError(
            f"azimuths from {values[0]:.3g} to {values[-1]:.3g} hardly turn the specimen and look like radians; give "
            f"degrees ({np.degrees(values[0]):.1f} to {np.degrees(values[-1]):.1f})"
        )


def check_vectors(
    vectors: Sequence[NDArray[np.float64]],
    detector: tuple[int, ...],
    volume: tuple[int, ...],
    *,
    all_meet: bool = True,
) -> None:
    """Raise unless `vectors`, ray, centre, u and v ``(tilt, 3)``, are projections of the volume.

    Raises:
        GeometryError: shapes differ, a value is not finite, a vector is zero, u and v are parallel, the ray lies in the
            detector, or, with `all_meet`, no ray of a projection meets the volume.
    """
    n = len(vectors[0])
    for name, a in zip(("ray", "centre", "u", "v"), vectors, strict=True):
        if a.shape != (n, 3) or n == 0:
            raise GeometryError(f"{name} has shape {a.shape}; every vector array must be ({max(n, 1)}, 3)")
        if not np.isfinite(a).all():
            bad = int(np.argmin(np.isfinite(a).all(axis=1)))
            raise GeometryError(
                f"{name} of projection {bad + 1} is {_text(a[bad])}; it holds values that are not finite"
            )
    if len(detector) != 2 or len(volume) != 3 or min(*detector, *volume) < 1:
        raise GeometryError(
            f"detector {detector} must be (rows, columns) and volume {volume} (z, y, x), each at least 1"
        )
    ray, centre, u, v = vectors
    length = [np.linalg.norm(a, axis=1) for a in (ray, u, v)]
    meanings = (("ray", "beam direction"), ("u", "step of a column"), ("v", "step of a row"))
    for (name, what), size in zip(meanings, length, strict=True):
        if not size.all():
            bad = int(np.argmin(size))
            raise GeometryError(f"{name} of projection {bad + 1} has length 0; give the {what} of every projection")
    normal = np.cross(u, v)
    flat = np.linalg.norm(normal, axis=1) / (length[1] * length[2])
    if flat.min() < PARALLEL:
        bad = int(np.argmin(flat))
        raise GeometryError(
            f"u {_text(u[bad])} and v {_text(v[bad])} of projection {bad + 1} are parallel; they must span the detector"
        )
    # the sine of the angle between ray and detector
    into = np.abs(np.sum(normal * ray, axis=1)) / (length[0] * np.linalg.norm(normal, axis=1))
    if into.min() < PARALLEL:
        bad = int(np.argmin(into))
        raise GeometryError(
            f"the ray {_text(ray[bad])} of projection {bad + 1} lies in the plane of its detector, u {_text(u[bad])} "
            f"and v {_text(v[bad])}; it must cross it"
        )
    if all_meet:
        _check_meeting(ray, centre, u, v, detector, volume)


def _check_meeting(
    ray: NDArray[np.float64],
    centre: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    detector: tuple[int, ...],
    volume: tuple[int, ...],
) -> None:
    """Where the volume's box is seen, in columns and rows from the middle of each detector."""
    inverse = np.linalg.inv(np.stack([ray, u, v], axis=2))[:, 1:]
    middle = -np.einsum("tij,tj->ti", inverse, centre)
    reach = np.abs(inverse) @ (np.array(volume) / 2)
    room = np.array(detector[::-1]) / 2
    missed = (np.abs(middle) > reach + room).any(axis=1)
    if missed.any():
        bad = int(np.argmax(missed))
        raise GeometryError(
            f"no ray of projection {bad + 1} meets the volume {volume}: it is seen at column {middle[bad, 0]:.4g} and "
            f"row {middle[bad, 1]:.4g} from the middle of a detector of {detector[1]} columns and {detector[0]} rows; "
            "centres are in voxels"
        )


def _text(vector: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.4g}" for x in vector) + ")"
