"""Deep places are asked about on larger voxels: the same question, and answers that hold the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import recon
from recon.analysis import coarser
from recon.analysis.coarser import Question
from recon.analysis.features import features
from recon.analysis.places import Ellipsoid as Ball
from recon.analysis.places import place_of, places
from recon.model.assembly import make_operator
from recon.model.grid import grid
from recon.simulate import Ellipsoid, Particle, simulate

SIZE = 48
RADIUS = 8.0  # voxels, of the place that is asked about
AT = (2.0, 3.0, 4.0)  # from the middle, (z, y, x) voxels
PURE_A, PURE_B = (1.0, 0.0), (0.0, 0.8)


@pytest.fixture(scope="module")
def solved():
    """A large inclusion in a body, beside another body; alignment, exposures and background known."""
    centre = tuple(a / SIZE for a in AT)
    shapes = (
        Ellipsoid((0.0, 0.02, -0.27), (0.20, 0.22, 0.14), PURE_A, (0.0, 0.0, 0.0)),
        Ellipsoid((0.0, 0.0, 0.08), (0.30, 0.33, 0.27), PURE_B, (0.0, 0.0, 0.0)),
        Ellipsoid(centre, (RADIUS / SIZE,) * 3, PURE_A, (0.0, 0.0, 0.0)),
    )
    series, truth = simulate(Particle(("A", "B"), shapes, {}), size=SIZE, dose=40.0, seed=3, rotation_deg=2.0)
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    errors = np.full((series.n_tilts, 2), 0.2)
    alignment = replace(truth.alignment, errors=errors, rotation_error=0.1)
    series = series.evolve(alignment=alignment, exposures=s, background=s * truth.background, isolated=True)
    return series, recon.reconstruct(series, device="cpu", strength=0.7)


@pytest.fixture(scope="module")
def inclusion(solved):
    """The place, as it is found."""
    return max((f for f in features(solved[1]).values() if f.element == "A"), key=lambda f: f.size)


def question(solved, place):
    series, volumes = solved
    return Question(series, volumes, [place_of(place, "it")])


def test_the_question_is_the_same_on_larger_voxels(solved, inclusion):
    """Larger voxels, projected onto larger pixels, show what the voxels showed, summed over these pixels."""
    q = question(solved, inclusion)
    large = q.on_larger_voxels
    assert large.factor == 2
    for name, volume in large.volumes.items():
        assert volume.values.shape == (SIZE // 2,) * 3
        assert volume.voxel_size_nm == 2 * q.volumes[name].voxel_size_nm
        shown = []
        for series, v in ((q.series, q.volumes[name]), (large.series, volume)):
            operator = make_operator(series, grid(series).shape, v.solved, "native", element=name)
            shown.append(operator(v.solved, np.empty(operator.range_shape, np.float32)))
        fine = shown[0].reshape(shown[0].shape[0], SIZE // 2, 2, SIZE // 2, 2).sum(axis=(2, 4))
        # both are models of the same object, each with the blur of its own voxels; a pixel off would be 0.25
        assert np.linalg.norm(shown[1] - fine) < 0.06 * np.linalg.norm(fine)
    assert large.places[0].fraction.sum() * 8 == pytest.approx(q.places[0].fraction.sum(), rel=1e-5)
    np.testing.assert_allclose(large.series.alignment.errors, 0.1)
    assert large.series.counts.sum() == q.series.counts.sum()


def test_the_strength_weighs_the_same_object_alike(solved, inclusion):
    """|grad u| of a density that is eight times as high, over an eighth as many voxels twice as wide."""
    q = question(solved, inclusion)
    a1, a0 = (tuple(getattr(v.made.parameters, k) for v in q.volumes.values()) for k in ("a1", "a0"))
    large = q.on_larger_voxels.volumes.values()
    assert tuple(v.made.parameters.a1 for v in large) == tuple(a / 2 for a in a1)
    assert tuple(v.made.parameters.a0 for v in large) == tuple(a / 4 for a in a0)


def test_voxels_stay_where_larger_ones_would_not_do(solved, inclusion, monkeypatch):
    q = question(solved, inclusion)
    small = Ball.sphere((24, 24, 24), 5.0).fraction((SIZE,) * 3)
    assert question(solved, replace(inclusion, fraction=small)).on_larger_voxels.factor == 1  # not deep enough
    given = replace(q, places=places({"it": Ball.sphere((24, 24, 24), 7.0)}, (SIZE,) * 3))
    assert given.on_larger_voxels.factor == 1  # its border counts
    odd = replace(q, volumes={n: replace(v, values=v.values[:-1]) for n, v in q.volumes.items()})
    assert odd.on_larger_voxels.factor == 1  # of no whole number of them
    weights = (np.random.default_rng(0).random(q.series.counts.shape[1:]) > 0.1).astype(np.float32)
    assert replace(q, series=q.series.evolve(weights=weights)).on_larger_voxels.factor == 1  # few would be left whole
    unknown = replace(q, volumes={n: replace(v, solution=None) for n, v in q.volumes.items()})
    assert unknown.on_larger_voxels.factor == 1
    monkeypatch.setattr(coarser, "DEEP", 2.0)
    assert q.on_larger_voxels.factor == 3  # as 4 would leave it less deep


def test_answers_on_larger_voxels_hold_the_truth(solved, inclusion):
    series, volumes = solved
    said = []
    answers = recon.composition(series, volumes, [inclusion], device="cpu", likelihood=False, log=said.append)
    assert answers.factor == 2
    assert "on voxels 2 times as large" in said[0]
    region = answers[inclusion.name]
    assert region.voxels == pytest.approx(inclusion.size)  # of the volumes that were handed in
    assert answers.labels.shape == (SIZE,) * 3
    for name, true in (("A", 1.0), ("B", 0.0)):
        e = region.elements[name]
        assert e.low95 <= true <= e.high95
        assert e.high95 - e.low95 < 0.3
        # of the pure phase, in counts per voxel length of the volumes that were handed in
        typical = np.median(volumes[name].values[volumes[name].values > 0.5 * volumes[name].values.max()])
        assert e.pure == pytest.approx(typical, rel=0.15)
