"""Single-axis projection of NumPy volumes as they lie, ``(z, y, x)``, in little more than the kernels' own time.

The kernels take volumes ``(z, x, y)``. To turn a whole volume takes nearly as long as to project it, for the pages of
another volume and for the way to memory and back. So a few planes are turned at a time, in a buffer that stays in the
cache; projection is linear, and what each share of the planes gives is added up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recon.backend import kernels
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators.joseph import rays_of

PLANES = 32  # turned at a time by up to 8 threads: a tile of the projector, and 8 rows of tiles back

Array = NDArray[np.float32]


def project_planes(volume: NDArray[np.generic], geometry: TiltGeometry) -> Array:
    """`volume` ``(z, y, x)`` of real numbers to ``(tilt, y, u)``; the geometry is single-axis, shapes fit."""
    cpu = kernels(volume)
    from recon.kernels.cpu_joseph import project_add

    nz, ny, nx = geometry.volume
    out = cpu.zeros((geometry.n_tilts, geometry.detector[1], ny))
    buffer = cpu.zeros((min(_planes(), nz), nx, ny))
    for some, rays in _shares(geometry):
        turned = buffer[: some.stop - some.start]
        cpu.exchange(np.ascontiguousarray(volume[some], dtype=np.float32), turned, 1)
        project_add(turned, out, rays, geometry.fineness)
    stack = np.empty(geometry.stack_shape, np.float32)
    cpu.exchange(out, stack, 1)
    return stack


def backproject_planes(stack: NDArray[np.generic], geometry: TiltGeometry) -> Array:
    """The exact adjoint of `project_planes`: `stack` ``(tilt, y, u)`` to ``(z, y, x)``."""
    cpu = kernels(stack)
    nz, ny, nx = geometry.volume
    turned_stack = cpu.zeros((geometry.n_tilts, geometry.detector[1], ny))
    cpu.exchange(np.ascontiguousarray(stack, dtype=np.float32), turned_stack, 1)
    out = np.empty(geometry.volume, np.float32)
    buffer = cpu.zeros((min(_planes(), nz), nx, ny))
    for some, rays in _shares(geometry):
        turned = buffer[: some.stop - some.start]
        cpu.backproject(turned_stack, turned, rays, geometry.fineness)
        cpu.exchange(turned, out[some], 1)
    return out


def _planes() -> int:
    from numba import get_num_threads

    threads: int = get_num_threads()
    return PLANES * -(-threads // 8)


def _shares(geometry: TiltGeometry) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Planes after planes, each with the rays as they pass a volume of these planes alone."""
    nz, rays = geometry.volume[0], rays_of(geometry)
    for first in range(0, nz, _planes()):
        end = min(first + _planes(), nz)
        beside = rays.copy()
        beside[:, 2] -= ((first + end - nz) / 2) * rays[:, 1]  # of the middle of the planes from that of the volume
        yield slice(first, end), beside
