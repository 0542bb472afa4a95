"""The folder of checkpoints: what comes back, and what is wrong with one is said."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from saved_runs import IDENTITY

import recon.job.checkpoint
import recon.job.checkpoint_file
import recon.job.schedule
from recon.errors import InputError, OutputError
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.schedule import Schedule
from recon.series.alignment import Alignment
from recon.series.volume import Solution, Status, Volume
from recon.simulate import simulate

# ---------------------------------------------------------------- the folder


def checkpoints(tmp_path, identity=IDENTITY, **options):
    out = Checkpoints(tmp_path / "out", identity, **options)
    out.schedule = Schedule(lambda: 1e9, share=1e9, shortest=0.0)
    return out


def test_the_aligned_series_comes_back(tmp_path):
    series, _ = simulate(size=16, seed=1)
    rng = np.random.default_rng(0)
    n = series.n_tilts
    done = series.evolve(
        "aligned",
        exposures=rng.uniform(0.5, 1, series.exposures.shape),
        isolated=True,
        alignment=Alignment(rng.normal(size=(n, 2)), 1 / 3, -0.1, "fit", rng.uniform(size=n)),
    )
    kept = checkpoints(tmp_path)
    kept.keep_series(series, done, {"align": 1.5})
    again, extra = checkpoints(tmp_path).series(series)
    assert extra == {"align": 1.5}
    assert again.counts is series.counts
    for f in dataclasses.fields(done):
        a, b = getattr(done, f.name), getattr(again, f.name)
        if f.name == "alignment":
            for g in dataclasses.fields(a):
                assert np.array_equal(getattr(a, g.name), getattr(b, g.name)), g.name
        else:
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, f.name


def test_a_full_disk_ends_the_checkpoints_not_the_run(tmp_path, monkeypatch):
    import errno

    said = []
    kept = checkpoints(tmp_path, log=said.append)
    series, _ = simulate(size=16, seed=1)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    kept.keep_series(series, series.evolve("aligned", exposures=series.exposures + 1), {})
    assert len(said) == 1
    assert "no more checkpoints" in said[0]
    assert "full" in said[0]
    assert not list(kept.folder.iterdir())
    monkeypatch.undo()
    kept.keep_series(series, series, {})
    assert not list(kept.folder.iterdir())


def test_what_was_left_needs_a_word(tmp_path):
    series, _ = simulate(size=16, seed=1)
    checkpoints(tmp_path).keep_series(series, series, {})
    with pytest.raises(OutputError, match=r"out\.partial holds checkpoints .* --resume, .* --overwrite"):
        checkpoints(tmp_path).open(resume=False, overwrite=False)
    (tmp_path / "out.partial" / ".Co.state.npz.partial-1").write_text("of a killed process")
    checkpoints(tmp_path).open(resume=True, overwrite=False)
    assert [p.name for p in (tmp_path / "out.partial").iterdir()] == ["series.npz"]
    checkpoints(tmp_path).open(resume=False, overwrite=True)
    assert not (tmp_path / "out.partial").exists()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OutputError, match="in the way"):
            checkpoints(tmp_path).open(resume=resume, overwrite=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("job", r"another job \(reconstruct\.tolerance differs\)"),
        ("input", r"another input \(Co differs\)"),
        ("version", r"was written by recon 0\.0\.1 .* finish with that version"),
        ("format", r"format 99"),
        ("cut", "cut short or damaged; delete it"),
        ("name", "has been renamed"),
    ],
)
def test_a_checkpoint_that_will_not_do(tmp_path, monkeypatch, change, words):
    series, _ = simulate(size=16, seed=1)
    if change == "version":
        monkeypatch.setattr(recon.job.checkpoint_file, "__version__", "0.0.1")
    if change == "format":
        monkeypatch.setattr(recon.job.checkpoint_file, "FORMAT", 99)
    checkpoints(tmp_path).keep_series(series, series, {})
    monkeypatch.undo()
    path = tmp_path / "out.partial" / "series.npz"
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    if change == "name":
        path.rename(path.with_name("Co.volume.npz"))
    identity = {
        "job": Identity(IDENTITY.job | {"reconstruct": {"tolerance": 0.02}}, IDENTITY.inputs),
        "input": Identity(IDENTITY.job, {"Co": "c1", "tilts": "71"}),
    }.get(change, IDENTITY)
    with pytest.raises(InputError, match=words) as caught:
        checkpoints(tmp_path, identity).open(resume=True, overwrite=False)
    assert "\n" not in str(caught.value)
    assert "out.partial" in str(caught.value)
    checkpoints(tmp_path, identity).open(resume=True, overwrite=True)  # anew
    assert not (tmp_path / "out.partial").exists()


def test_off_writes_and_finds_nothing(tmp_path):
    series, _ = simulate(size=16, seed=1)
    checkpoints(tmp_path, on=False).keep_series(series, series, {})
    assert not (tmp_path / "out.partial").exists()
    checkpoints(tmp_path).keep_series(series, series, {})
    assert checkpoints(tmp_path, on=False).series(series) is None


def test_what_an_element_took_is_its_own(tmp_path, monkeypatch):
    """One that begins later, side by side, changes nothing of what another's volume is worth."""
    kept = checkpoints(tmp_path)
    kept.schedule.shortest = 100.0
    clock = iter((0.0, 90.0))
    monkeypatch.setattr(recon.job.checkpoint.time, "perf_counter", lambda: next(clock, 101.0))
    for element in ("Co", "Zn"):
        assert kept.volume(element) is None
    for element in ("Zn", "Co"):
        kept.keep_volume(Volume(np.ones((2, 2, 2), np.float32), 1.0, element, Solution(None, Status.CONVERGED, 1, [])))
    assert [kept.has("volume", element) for element in ("Co", "Zn")] == [True, False]
