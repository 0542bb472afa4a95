"""One checkpoint file, and when it is written."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_runs import f32

import recon.job.checkpoint
import recon.job.checkpoint_file
import recon.job.schedule
from recon.errors import InputError
from recon.job.checkpoint_file import read_checkpoint, write_checkpoint
from recon.job.schedule import Schedule

# ---------------------------------------------------------------- one file


def some_arrays():
    rng = np.random.default_rng(3)
    return {"u": rng.normal(size=(4, 3, 5)).astype(f32), "empty": np.zeros((0, 3), f32), "n": np.arange(7.0)}


def test_a_file_gives_back_what_was_put_in(tmp_path):
    write_checkpoint(tmp_path / "a.npz", {"numbers": {"x": float("inf"), "none": None, "third": 1 / 3}}, some_arrays())
    header, arrays = read_checkpoint(tmp_path / "a.npz")
    assert header["numbers"] == {"x": float("inf"), "none": None, "third": 1 / 3}
    assert set(arrays) == set(some_arrays())
    for name, expected in some_arrays().items():
        assert arrays[name].dtype == expected.dtype
        assert np.array_equal(arrays[name], expected)
    with np.load(tmp_path / "a.npz") as other:  # any NumPy opens it
        assert np.array_equal(other["u"], some_arrays()["u"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_that_was_cut_or_spoilt(tmp_path_factory, data):
    """It is recognised, or, where the archive has bytes that mean nothing, the content is right."""
    path = tmp_path_factory.mktemp("file") / "a.npz"
    write_checkpoint(path, {"numbers": {}}, some_arrays())
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    if cut:
        path.write_bytes(content[:at])
    else:
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
    said = ""
    try:
        header, arrays = read_checkpoint(path)
        content = {name: arrays[name] for name in arrays}
    except InputError as exc:
        said = str(exc)
    if said:
        assert re.fullmatch("[^\n]*cut short or damaged; delete it[^\n]*", said)
    else:
        assert not cut
        assert header["numbers"] == {}
        for a, b in zip(content.values(), some_arrays().values(), strict=True):
            assert np.array_equal(a, b)


# ---------------------------------------------------------------- when


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@settings(max_examples=50, deadline=None)
@given(
    st.floats(1e7, 1e10), st.floats(3e7, 3e9), st.floats(1, 3), st.integers(60, 4000), st.floats(0.01, 20),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_checkpoints_take_at_most_a_fiftieth_of_the_time(n_bytes, rate, noise, steps, seconds, rng):
    """A solver whose iterations take `seconds`, on a disk of `rate`, up to `noise` times slower now and then."""
    clock, spent, worst, last = Clock(), 0.0, 0.0, 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recon.job.checkpoint, "time", clock)
        patch.setattr(recon.job.schedule, "time", clock)
        schedule = Schedule(lambda: rate)
        for _ in range(steps):
            clock.now += seconds
            if not schedule.early() and schedule.due(int(n_bytes)):
                assert clock.now - last >= recon.job.schedule.SHORTEST
                duration = n_bytes / rate * rng.uniform(1, noise)
                clock.now += duration
                spent, worst, last = spent + duration, max(worst, duration), clock.now
                schedule.wrote(int(n_bytes), duration)
    # one write that took longer than the one before it cannot be foreseen
    assert spent <= clock.now / 50 + (noise - 1) * n_bytes / rate
    if steps * seconds < 10:
        assert spent == 0


def test_small_files_say_nothing_of_the_disk():
    schedule = Schedule(lambda: 1e9, shortest=0.0)
    assert schedule.due(10**6, work=1.0)
    schedule.wrote(1000, 0.02)  # 50 kB a second
    assert schedule.due(10**7, work=1.0)


def test_a_write_of_one_element_puts_off_nothing_of_another(monkeypatch):
    """Side by side, each due every ten seconds: each is written so often, whoever asks more often."""
    clock, written = Clock(), {"Co": [], "Zn": []}
    monkeypatch.setattr(recon.job.schedule, "time", clock)
    schedule = Schedule(lambda: 1e9)
    for element in written:
        schedule.begin(element)
    for tick in range(1, 400):
        clock.now += 0.1
        for element, every in (("Co", 1), ("Zn", 10)):
            if tick % every == 0 and not schedule.early(element) and schedule.due(1000, element=element):
                schedule.wrote(1000, 0.0, element)
                written[element].append(round(clock.now))
    assert [len(times) for times in written.values()] == [3, 3]
