"""The scheme that ``[geometry]`` of a job file describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.errors import GeometryError, InputError
from recon.geometry.tilt_geometry import Shape2, TiltGeometry
from recon.io.geometry import read_vectors
from recon.io.tilts import read_angles, read_tilts
from recon.job.file import Job


def scheme_of(job: Job) -> Callable[[Shape2], TiltGeometry] | None:
    """What makes the job's geometry from the frame ``(ny, nx)``; None where it is a single axis.

    Raises:
        InputError: a file of tilts cannot be read, or its angles are no tilts.
    """
    given, base = job.geometry, job.path.parent
    if given.scheme == "single-axis":
        return None
    if given.scheme == "vectors":
        assert given.vectors is not None
        vectors: Path = given.vectors
        return lambda frame: read_vectors(vectors, frame, _cube(frame))
    if given.scheme == "conical":
        assert given.tilt_deg is not None
        assert given.azimuths is not None
        tilt, azimuths = given.tilt_deg, read_angles(given.azimuths, base)
        return _made(lambda frame: TiltGeometry.conical(tilt, azimuths, detector=frame, volume=_cube(frame)))
    assert job.input.tilts is not None
    first = read_tilts(job.input.tilts, base)
    second: NDArray[np.float64] = first if given.second_tilts is None else read_tilts(given.second_tilts, base)
    axis = given.axis_deg
    return _made(
        lambda frame: TiltGeometry.dual_axis(first, second, detector=frame, volume=_cube(frame), axis_deg=axis)
    )


def _made(make: Callable[[Shape2], TiltGeometry]) -> Callable[[Shape2], TiltGeometry]:
    def checked(frame: Shape2) -> TiltGeometry:
        try:
            return make(frame)
        except GeometryError as exc:
            raise InputError(f"geometry: {exc}") from exc

    return checked


def _cube(frame: Shape2) -> tuple[int, int, int]:
    """As wide as the longer side of the frame, which some projections show along x and some along y."""
    edge = max(frame)
    return (frame[1], edge, edge)
