"""The mask and the composition of regions, on boxes with known contents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.analysis.composition import Analysis, ElementFigures, analyse
from recon.analysis.mask import apply_mask, mask
from recon.errors import InputError, JobError
from recon.files import from_json, to_json
from recon.series.volume import Volume

# ---------------------------------------------------------------- mask, analyse


@pytest.fixture
def boxes():
    """Two touching boxes, 600 voxels of A alone, 100 of both, 500 of B alone."""
    a, b = np.zeros((2, 20, 20, 24), np.float32)
    a[5:15, 5:15, 4:10] = 2.0
    b[5:15, 5:15, 11:16] = 0.5
    a[5:15, 5:15, 10] = 1.0
    b[5:15, 5:15, 10] = 0.25
    inside = np.zeros(a.shape, bool)
    inside[5:15, 5:15, 4:16] = True
    return {"A": Volume(a, 1.0, "A"), "B": Volume(b, 1.0, "B")}, inside


def test_composition_of_two_touching_boxes(boxes):
    volumes, inside = boxes
    found = analyse(volumes, inside)
    assert found.mask_fraction == pytest.approx(1200 / 9600)
    assert found.elements["A"] == ElementFigures(1300.0, 2.0, 700 / 1200, pytest.approx(2.0, rel=0.02))
    assert found.elements["B"].total == pytest.approx(275)
    assert found.elements["B"].typical_density == 0.5
    pair = found.pairs["A-B"]
    assert pair.only["A"] == pytest.approx(600 / 1200)
    assert pair.only["B"] == pytest.approx(500 / 1200)
    assert pair.both == pytest.approx(100 / 1200)
    a, b = volumes["A"].values[inside], volumes["B"].values[inside]
    assert pair.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert pair.correlation < -0.9
    assert from_json(Analysis, to_json(found), "it", "") == found


def test_an_element_that_is_not_there(boxes):
    volumes, inside = boxes
    volumes = volumes | {"C": Volume(np.zeros(inside.shape, np.float32), 1.0, "C")}
    found = analyse(volumes, inside)
    assert found.elements["C"] == ElementFigures(0.0, 0.0, 0.0)
    assert found.pairs["A-C"].both == 0
    assert list(found.pairs) == ["A-B", "A-C", "B-C"]
    assert from_json(Analysis, to_json(found), "it", "") == found


def test_the_mask_is_the_particle(boxes):
    """Though B has a sixteenth of A's density: the elements weigh the same. 0.99 of the union is shared."""
    volumes, inside = boxes
    weak = volumes | {"B": replace(volumes["B"], values=volumes["B"].values / 16)}
    for given in (volumes, weak):
        found = mask(given)
        assert found.dtype == bool
        assert (found & inside).sum() / (found | inside).sum() > 0.95
    np.testing.assert_array_equal(mask(volumes), mask(weak))
    assert mask(volumes, "none").all()


def test_the_mask_drops_specks_and_keeps_holes(boxes):
    volumes, _ = boxes
    a = volumes["A"].values.copy()
    a[1, 1, 22] = 6.0
    a[7:13, 7:13, 4:10] = 0  # a hole
    found = mask({"A": replace(volumes["A"], values=a), "B": volumes["B"]})
    assert not found[:4, :4, 20:].any()
    assert not found[9:11, 9:11, 5:8].any()
    assert found[6, 6, 5]


def test_the_mask_of_nothing(boxes):
    volumes, _ = boxes
    flat = Volume(np.ones((8, 8, 8), np.float32), 1.0, "A")
    assert mask({"A": flat}).all()
    assert mask({"A": replace(flat, values=flat.values * 0)}).all()
    with pytest.raises(InputError, match="no volumes"):
        mask({})
    with pytest.raises(JobError, match="'otsu'"):
        mask(volumes, "otsu")


def test_the_mask_takes_what_is_outside_and_touches_nothing_inside(boxes):
    volumes, inside = boxes
    noisy = {n: replace(v, values=v.values + np.float32(0.01)) for n, v in volumes.items()}
    found = apply_mask(noisy, inside)
    for n in volumes:
        np.testing.assert_array_equal(found[n].values[inside], noisy[n].values[inside])
        assert not found[n].values[~inside].any()
        assert found[n].values.dtype == np.float32
        assert (found[n].element, found[n].voxel_size_nm) == (n, 1.0)
