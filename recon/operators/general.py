"""Our own projector of any parallel rays: Joseph's model in three dimensions, exact adjoint, CPU and CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from recon.backend import Array, is_device_array, kernels, namespace
from recon.errors import BackendError
from recon.geometry.tilt_geometry import Shape3, TiltGeometry
from recon.operators.base import check_array

FINENESS = 2  # lines on a voxel's edge where pixels do not lie on lines: leaves a quarter of the blur
LEAST = 0.3  # slope of what lines follow along the slices, at most one over it
CLOSE = 1e-9  # of a voxel: what rounding leaves
VECTOR = 16  # elements of a vector in the CPU's kernel
MOST = 2**31 - 1  # elements that the kernels can address on the CPU


@dataclass(frozen=True, eq=False)
class Lattice:
    """Rays on a lattice that the kernels can follow, and where the detector's pixels lie on it.

    Attributes:
        rays: ``(tilt, 8)`` float64, see `recon.kernels.cpu_general`.
        affine: ``(tilt, 6)`` float64, see `recon.kernels.cpu_warp`: pixel (column, row) to (line, row of the lattice).
        shape: ``(lines, rows)``.
        pairs: of lines that pass within a voxel of one.
        needed: ``(tilt, line, 2)`` int32, first and last-but-one row that some pixel takes; none where they are equal.
    """

    rays: NDArray[np.float64]
    affine: NDArray[np.float64]
    shape: tuple[int, int]
    pairs: int
    needed: NDArray[np.int32]


def lattice(geometry: TiltGeometry, fast: int) -> Lattice:
    """The lattice for projections whose dominant axis is not `fast`, the axis 0, 1 or 2 of (z, y, x) along its rows.

    Neighbours on a line pass neighbouring voxels along `fast`. Where a detector's rows do so too, its columns are the
    lines and nothing is interpolated between rays: this is Joseph's model. Else the lines are `FINENESS` to a voxel.
    """
    found = [_of_projection(geometry, i, fast) for i in range(geometry.n_tilts)]
    rays, affine = (np.array([f[k] for f in found]) for k in (0, 1))
    reach = np.ceil(2 / np.abs(rays[:, 2]) - CLOSE).max()
    lines, rows = (max(f[2][k] for f in found) for k in (0, 1))
    rows += -rows % VECTOR  # the CPU's kernel adds them by whole vectors
    needed = np.stack([_rows_needed(a, geometry.detector, (lines, rows)) for a in affine])
    return Lattice(rays, affine, (lines, rows), ceil(reach / 2), needed)


def _rows_needed(affine: NDArray[np.float64], detector: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.int32]:
    """First and last-but-one row of each line that the detector's pixels ``(rows, columns)`` lie beside.

    On a lattice ``(lines, rows)`` the detector is a parallelogram; within a line of line i lies what is between two
    straight lines, and a row is least and greatest at a corner of that.
    """
    (a, b, c, d, e, f), (rows, columns), (lines, most) = affine, detector, shape
    column, row = np.array([0, columns - 1, columns - 1, 0.0]), np.array([0, 0, rows - 1, rows - 1.0])
    line, height = a * column + b * row + c, d * column + e * row + f
    strip = np.arange(lines)[:, None, None] + np.array([-1.0, 1.0])[:, None]  # (line, side, corner)
    following, next_height = np.roll(line, -1), np.roll(height, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (strip - line) / (following - line)
        cut = np.where((part >= 0) & (part <= 1), height + part * (next_height - height), np.nan)
    inside = np.where(np.abs(np.arange(lines)[:, None] - line) <= 1, height, np.nan)
    all_ = np.concatenate([cut.reshape(lines, -1), inside], axis=1)
    met = np.isfinite(all_).any(axis=1)
    low, high = np.where(np.isnan(all_), np.inf, all_).min(axis=1), np.where(np.isnan(all_), -np.inf, all_).max(axis=1)
    first, end = np.where(met, np.floor(low) - 1, 0), np.where(met, np.floor(high) + 3, 0)  # one to spare
    return np.stack([np.clip(first, 0, most), np.clip(end, 0, most)], axis=1).astype(np.int32)


def _of_projection(g: TiltGeometry, i: int, fast: int) -> tuple[list[float], list[float], tuple[int, int]]:
    across = [k for k in range(3) if k != fast]
    plane = max(across, key=lambda k: abs(g.ray[i, k]))
    other = next(k for k in across if k != plane)
    half = (np.array(g.volume) - 1) / 2
    step = g.ray[i] / g.ray[i, plane]  # along the ray, from plane to plane

    def met(a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where a line along the ray through `a` passes the plane through the origin."""
        return np.asarray(a - step * a[plane])

    middle = [(n - 1) / 2 for n in g.detector]
    du, dv = met(g.u[i]), met(g.v[i])
    first = met(g.centre[i]) - middle[1] * du - middle[0] * dv - step * half[plane] + half
    du, dv = (np.where(np.abs(a) < CLOSE, 0, a) for a in (du, dv))
    rows, columns = g.detector
    n_other, n_fast, n_planes = (g.volume[k] for k in (other, fast, plane))
    # lines that follow the detector's columns up or down, so that its rows stay rows of the lattice
    slope = du[fast] / du[other] if abs(du[other]) > LEAST * abs(du[fast]) else 0.0
    if dv[other] == 0 and du[other] != 0:  # columns are lines
        start, width, lines = first[other], du[other], columns
        a = [1.0, 0.0, 0.0]
    else:
        width = 1 / FINENESS
        corners = first[other] + np.array([0, du[other] * (columns - 1)])[:, None]
        corners = corners + np.array([0, dv[other] * (rows - 1)])
        seen = np.array([0, n_other - 1])[:, None] - step[other] * np.array([0, n_planes - 1])
        low, high = max(corners.min(), seen.min() - 1), min(corners.max(), seen.max() + 1)
        start, lines = low - width, max(1, ceil((high - low) / width) + 3)
        a = [du[other] / width, dv[other] / width, (first[other] - start) / width]
    skew = slope * width
    by_column, by_row = du[fast] - slope * du[other], dv[fast] - slope * dv[other]
    if abs(abs(by_row) - 1) < CLOSE:  # a whole number but for rounding is one, so that nothing is interpolated
        by_row = float(np.sign(by_row))
    # the lattice's first row of line 0 in plane 0: such that the middle of the detector lies on a row
    lift = first[fast] - slope * (first[other] - start) + middle[0] * (by_row - np.sign(by_row))
    shifts = lift + np.array([0.0, skew * (lines - 1)])[:, None] + step[fast] * np.array([0.0, n_planes - 1])
    above = 2 + ceil(shifts.max())  # so that each voxel lies between two rows, with one to spare
    if skew == 0 and lift % 1 == 0 and step[fast] == 0:  # rows pass the voxels' centres: they begin a cache line
        above += -(above - round(lift)) % VECTOR
    count = floor(n_fast - 1 - shifts.min()) + above + 3
    rays = [across.index(plane), start, width, step[other], lift - above, skew, step[fast]]
    affine = [*a, 0.0 if slope else by_column, by_row, above - middle[0] * (by_row - np.sign(by_row))]
    return [*rays, float(np.linalg.norm(step))], [float(x) for x in affine], (lines, count)


def fast_axis(geometry: TiltGeometry) -> NDArray[np.intp]:
    """For each projection the axis 0, 1 or 2 of (z, y, x) that rows of its lattice follow, ``(tilt,)``.

    It is not the dominant axis of the ray, and of the two others the one along which the detector's rows step further.
    """
    index = np.arange(geometry.n_tilts)
    dominant = np.abs(geometry.ray).argmax(axis=1)
    along = geometry.ray / geometry.ray[index, dominant][:, None]
    steps = np.abs(geometry.v - along * geometry.v[index, dominant][:, None])
    steps[:, 1] *= 1 + 1e-6  # y where there is nothing to choose: the axis of the volume's own layout
    steps[index, dominant] = -1
    return np.asarray(steps.argmax(axis=1))


class GeneralProjector:
    """Line integrals along any parallel rays, in units of a voxel's edge.

    Volumes are ``(p, q, fast)``, where p and q are the two other axes of the volume in the order z, y, x. A ray takes
    from each plane across its dominant axis what bilinear interpolation gives there, times its length from plane to
    plane (Joseph, IEEE Trans. Med. Imaging 1, 192 (1982)), and both directions use the same weights. The rays lie on a
    `Lattice`; where the detector's pixels do not, a bilinear detector warp takes them from it, as for a rotated axis in
    `recon.operators.warp`.

    Raises:
        BackendError: the volume is too large for the kernels; later, an array that is not float32 in C order where the
            operator is.
        GeometryError: later, an array does not fit it.
    """

    def __init__(self, geometry: TiltGeometry, fast: int, like: Array) -> None:
        xp = namespace(like)
        p, q = (k for k in range(3) if k != fast)
        self.domain_shape: Shape3 = (geometry.volume[p], geometry.volume[q], geometry.volume[fast])
        rows, columns = geometry.detector
        self.range_shape: Shape3 = (geometry.n_tilts, columns, rows)
        self.lattice = lattice(geometry, fast)
        self._kernels, self._on_device = kernels(like), is_device_array(like)
        self._margin = margin(self.lattice.rays)
        padded = (*self.domain_shape[:2], self.domain_shape[2] + 2 * self._margin)
        stack = (geometry.n_tilts, *self.lattice.shape)
        for what, shape in (("volume", padded), ("stack", stack)):
            if not self._on_device and np.prod(shape, dtype=np.int64) > MOST:
                raise BackendError(
                    f"a {what} of {shape} is too large for this projector: it takes {MOST} elements at most"
                )
        self._rays, self._affine = xp.asarray(self.lattice.rays), xp.asarray(self.lattice.affine)
        self._needed = xp.asarray(self.lattice.needed)
        self._padded, self._stack = (self._kernels.zeros(shape) for shape in (padded, stack))

    def __call__(self, x: Array, out: Array) -> Array:
        check_array("volume", x, self.domain_shape, on_device=self._on_device)
        check_array("stack (tilt, u, y)", out, self.range_shape, on_device=self._on_device)
        self._kernels.pad_rows(x, self._padded, self._margin)
        return self._project(out)

    def exchanged(self, x: Array, axis: int, out: Array) -> Array:
        """The same of a volume whose `axis`, 0 or 1, and last one are to be exchanged first."""
        self._kernels.exchange(x, self._padded, axis, self._margin)
        return self._project(out)

    def _project(self, out: Array) -> Array:
        self._kernels.project_rays(self._padded, self._stack, self._rays, self._margin, self._needed)
        self._kernels.warp(self._stack, out, self._affine)
        return out

    def adjoint(self, y: Array, out: Array) -> Array:
        check_array("stack (tilt, u, y)", y, self.range_shape, on_device=self._on_device)
        check_array("volume", out, self.domain_shape, on_device=self._on_device)
        self._kernels.warp_adjoint(y, self._stack, self._affine)
        self._kernels.backproject_rays(self._stack, out, self._rays, self.lattice.pairs)
        return out


def margin(rays: NDArray[np.float64]) -> int:
    """Zeros at both ends of a volume's rows: the kernels read as far, by whole vectors and 8 planes at a time.

    So of rays that rise; of those that hardly do, a tile, which is within 8 voxels (`recon.kernels.cpu_general`).
    """
    return VECTOR * ceil((8 * max(1.0, float(np.abs(rays[:, 6]).max())) + 4 + VECTOR) / VECTOR)
