"""Where exposures come from is a field of the series, so that `align` never estimates over what is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import recon
from recon.job.checkpoint import Checkpoints, Identity, Schedule
from recon.preparation.screening import leave_out, warnings
from recon.series.tilt_series import TiltSeries

TILTS = np.linspace(-45, 45, 7)


@pytest.fixture(scope="module")
def film() -> TiltSeries:
    """A film of grains that fills the frame, its maps shadowed towards one side."""
    random = np.random.default_rng(5)
    volume = np.kron(random.random((1, 7, 10)) ** 2, np.ones((3, 3, 3))).astype(np.float32)
    volume = np.pad(volume, ((13, 14), (0, 0), (0, 0)))
    maps = np.asarray(recon.project(volume, recon.TiltGeometry.single_axis(TILTS, (21, 30))))
    shadow = np.linspace(0.6, 1.4, TILTS.size)[:, None, None]
    counts = random.poisson(maps / maps.max() * shadow * 60)[:, :, 5:-5]
    return TiltSeries.create({"Fe": counts.astype(np.float32)}, TILTS, 2.0)


def test_known_exposures_given_later_are_not_estimated_over(film):
    first = recon.normalise(film)
    assert (first.isolated, first.exposures_from) == (False, "open")
    known = np.linspace(0.6, 1.4, TILTS.size)
    given = recon.normalise(first, exposures=known)
    assert given.exposures_from == "given"
    aligned = recon.align(given)
    assert aligned.exposures_from == "given"
    np.testing.assert_array_equal(aligned.exposures, given.exposures)
    np.testing.assert_allclose(aligned.exposures[0], known / known.mean())
    by_hand = recon.align(first.evolve(exposures=known[None] / known.mean()))
    np.testing.assert_allclose(by_hand.exposures[0], known / known.mean())


def test_open_exposures_are_found_and_found_again(film):
    aligned = recon.align(recon.normalise(film))
    assert aligned.exposures_from == "re-projections"
    again = recon.align(aligned)
    assert again.exposures_from == "re-projections"
    assert not np.array_equal(again.exposures, np.ones_like(again.exposures))


@pytest.mark.parametrize(("method", "source"), [("none", "assumed"), ("constant-total", "totals"), ("auto", "open")])
def test_each_method_names_its_source(film, method, source):
    assert film.exposures_from == "assumed"
    assert recon.normalise(film, method).exposures_from == source


def test_no_sentence_of_the_history_decides(film):
    plain = recon.normalise(film, "none")
    told = plain.evolve("exposures are left to the alignment").evolve("warning: tilt 3 left out: it is a story")
    assert warnings(told) == warnings(plain)
    assert recon.align(told).exposures_from == "assumed"


def test_the_fields_survive_a_checkpoint(film, tmp_path):
    kept = leave_out(recon.normalise(film), {2: "the holder was in the way"}).evolve(remarks=("odd",))
    out = Checkpoints(tmp_path / "out", Identity({}, {}))
    out.schedule = Schedule(lambda: 1e9, share=1e9, shortest=0.0)
    out.keep_series(film, kept, {})
    found, _ = out.series(film) or (None, None)
    assert found is not None
    for f in dataclasses.fields(kept):
        if f.name not in ("counts", "alignment", "weights", "exposures", "background", "tilts_deg", "scene"):
            assert getattr(found, f.name) == getattr(kept, f.name), f.name
    assert warnings(found) == warnings(kept)
    assert "tilt -15 left out: the holder was in the way" in warnings(found)
