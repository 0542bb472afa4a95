"""The lattice of rays beside the detector: of its rows only those are projected that some pixel takes."""

from __future__ import annotations

import numpy as np
import pytest

from recon.geometry.tilt_geometry import TiltGeometry
from recon.kernels import cpu
from recon.operators.general import GeneralProjector

SIZE = 24
GEOMETRIES = {
    "cone": TiltGeometry.conical(55, np.arange(0, 360, 40.0), detector=(SIZE, SIZE + 3)),
    "off axis": TiltGeometry.from_angles(np.arange(-60, 61, 20.0), 12.0, detector=(SIZE, SIZE)),
    "small detector": TiltGeometry.conical(30, np.arange(0, 360, 60.0), detector=(7, 5)),
}


@pytest.fixture(params=GEOMETRIES)
def projector(request):
    g = GEOMETRIES[request.param]
    volume = TiltGeometry.from_vectors(g.ray, g.centre, g.u, g.v, g.detector, (SIZE,) * 3)
    dominant = np.abs(volume.ray).argmax(axis=1)
    serves = np.flatnonzero(dominant != 1)
    part = TiltGeometry.from_vectors(*(a[serves] for a in (g.ray, g.centre, g.u, g.v)), g.detector, (SIZE,) * 3)
    return GeneralProjector(part, 1, np.zeros(0, np.float32))


def test_no_pixel_takes_a_row_that_is_not_needed(projector):
    x = np.random.default_rng(0).random(projector.domain_shape, dtype=np.float32)
    out = projector(x, np.empty(projector.range_shape, np.float32))
    found, needed = projector._stack, projector.lattice.needed
    rows = np.arange(found.shape[2])
    taken = (rows >= needed[..., :1]) & (rows < needed[..., 1:])
    assert 0.05 < taken.mean() < 0.95  # else this would say nothing
    spoilt = np.where(taken, found, np.nan).astype(np.float32)
    again = np.empty_like(out)
    cpu.warp(spoilt, again, projector.lattice.affine)
    assert np.array_equal(again, out)


def test_rows_that_are_needed_are_as_if_all_were(projector):
    x = np.random.default_rng(1).random(projector.domain_shape, dtype=np.float32)
    pad = projector._margin
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    some, whole = (np.full_like(projector._stack, np.nan) for _ in range(2))
    cpu.project_rays(padded, some, projector.lattice.rays, pad, projector.lattice.needed)
    cpu.project_rays(padded, whole, projector.lattice.rays, pad)
    rows, needed = np.arange(some.shape[2]), projector.lattice.needed
    taken = (rows >= needed[..., :1]) & (rows < needed[..., 1:])
    assert np.abs(some[taken] - whole[taken]).max() < 1e-4
    assert np.isfinite(some).all()


def test_few_rows_are_needed_in_vain(projector):
    """Each line's rows are those of the pixels beside it, and three to either side at most."""
    _, columns, rows = projector.range_shape
    r, c = np.meshgrid(np.arange(0, rows - 1 + 1e-9, 1 / 16), np.arange(0, columns - 1 + 1e-9, 1 / 16), indexing="ij")
    for (a, b, at, d, e, f), needed in zip(projector.lattice.affine, projector.lattice.needed, strict=True):
        line, row = a * c + b * r + at, d * c + e * r + f
        for i, (first, end) in enumerate(needed):
            beside = row[np.abs(line - i) <= 1]
            if beside.size == 0:
                assert end - first <= 8
            else:
                assert max(beside.min() - 3, 0) <= first + 1 <= beside.min() + 1
                assert beside.max() + 1 <= end <= beside.max() + 5 or end == projector.lattice.shape[1]
