"""A volume in slabs that wait in a file: the answer of the one in memory, in the memory that was allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, fails, invoke
from problems import HOST, TILTS, data_for, drifted, projector
from problems import one_thread as one_thread  # a fixture

from recon.errors import ResourceError
from recon.io import read_volume
from recon.operators import windows
from recon.operators.windows import WindowedProjector, spans
from recon.series.alignment import Alignment
from recon.simulate import simulate
from recon.solvers import scratch
from recon.solvers.memory import needed, streaming
from recon.solvers.pdhg import PrimalDual
from recon.solvers.resident import Place
from recon.solvers.scratch import AtOnce, Beside, FileStore
from recon.solvers.solution import State
from recon.solvers.streaming import StreamedPrimalDual

NZ, NX, NY = 7, 9, 64
STRAIGHT = Alignment.identity(len(TILTS))
SHIFTED = Alignment(np.random.default_rng(1).uniform(-3, 3, (len(TILTS), 2)), 0.0)
TURNED = drifted(len(TILTS))


class Both:
    """A problem in memory, and in slabs."""

    def __init__(self, folder, alignment=STRAIGHT, term="poisson", n=3, block=4, lane=AtOnce, slots=1, less=0, **how):
        self.operator = projector((NZ, NX, NY), alignment=alignment)
        self.data = data_for(self.operator, term)
        how = {"a1": 0.5, "a0": 1.0, **how}
        self.core = PrimalDual(self.operator, self.data, **how)
        parts = split(alignment, n, block, less)
        size = 1 << 16
        self.make = lambda: StreamedPrimalDual(
            parts, self.data, Place(FileStore(folder, size), lane(), slots, block), **how
        )
        self.slabs = self.make()


def split(alignment, n, block, less):
    parts = WindowedProjector(TILTS, alignment, (NY, NX), (NZ, NY, NX), HOST, "auto")
    parts.split(n, parts.halo(block) - less)
    return parts


@pytest.fixture
def tight(monkeypatch):
    """Halos no wider than they must be, where they are otherwise widened to fill vectors."""
    monkeypatch.setattr(windows, "LINE", 1)


def apart(a, b):
    return float(np.abs(a - b).max() / np.abs(a).max())


CASES = {
    "straight": {},
    "two in memory": {"lane": Beside, "slots": 2},
    "shifted": {"alignment": SHIFTED},
    "turned": {"alignment": TURNED, "block": 1, "n": 2},
    "TV": {"alignment": SHIFTED, "regulariser": "tv", "term": "least-squares"},
    "no regulariser": {"regulariser": "none", "n": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_slabs_give_what_all_in_memory_gives(tmp_path, one_thread, tight, name):
    """Iterations with balances of the weights, certificates, and others after a change of strength."""
    both = Both(tmp_path, **CASES[name])
    assert all(w.held != (0, NY) for w in both.slabs.operator.windows)
    assert both.slabs.weights.norm_a == pytest.approx(both.core.weights.norm_a, rel=1e-6)
    one, many = both.core.run(0.0, 60, 30), both.slabs.run(0.0, 60, 30)
    assert apart(one.value, many.value) < 1e-5
    for a, b in zip(one.history, many.history, strict=True):
        assert b.objective == pytest.approx(a.objective, rel=1e-6)
        assert b.gap == pytest.approx(a.gap, rel=1e-4)
    for solver in (both.core, both.slabs):
        solver.change_strength(0.25, 0.5)
    assert both.slabs.travel(25) == pytest.approx(both.core.travel(25), rel=1e-4)
    shown = [solver.projection(np.empty_like(both.core.y)) for solver in (both.core, both.slabs)]
    assert apart(*shown) < 1e-5


def test_the_halo_is_as_wide_as_it_must_be(tmp_path, one_thread, tight):
    """With one slice less the answer is another one: the test above can fail."""
    exact, short = (Both(tmp_path, alignment=SHIFTED, less=less) for less in (0, 1))
    right = apart(exact.core.run(0.0, 60, 30).value, exact.slabs.run(0.0, 60, 30).value)
    wrong = apart(short.core.run(0.0, 60, 30).value, short.slabs.run(0.0, 60, 30).value)
    assert wrong > 10 * right


def test_half_precision_rounds_alike(tmp_path, one_thread):
    both = Both(tmp_path, half_precision=True)
    assert apart(both.core.run(0.0, 40).value, both.slabs.run(0.0, 40).value) < 1e-3


def copied(solver):
    state = solver.state()
    return State({n: np.array(a) for n, a in state.arrays.items()}, state.numbers, state.history)


def test_a_state_goes_from_slabs_to_memory_and_back(tmp_path, one_thread):
    both = Both(tmp_path, alignment=SHIFTED)
    both.core.run(0.0, 30)
    both.slabs.run(0.0, 30)
    a, b = copied(both.core), copied(both.slabs)
    assert list(a.arrays) == list(b.arrays)
    both.core.restore(b)
    both.slabs.restore(a)
    assert apart(both.core.run(0.0, 70).value, both.slabs.run(0.0, 70).value) < 1e-5


def test_it_goes_on_to_the_bit(tmp_path, one_thread):
    both = Both(tmp_path, alignment=SHIFTED)
    saved = []

    def control(solver):
        if solver.iteration >= 23 and not saved:
            saved.append(copied(solver))
        return False

    whole = both.slabs.run(0.0, 60, control=control).value
    again = both.make()
    again.restore(saved[0])
    assert np.array_equal(again.run(0.0, 60).value, whole)


def test_windows_share_the_slices_and_fill_vectors():
    for n in (20, 64, 100, 256):
        for many in (2, 3, 5):
            for halo in (3, 6):
                found = spans(n, many, halo)
                assert [o[1] for o, _ in found][:-1] == [o[0] for o, _ in found][1:]
                assert (found[0][0][0], found[-1][0][1]) == (0, n)
                for own, held in found:
                    assert held[0] <= max(0, own[0] - halo)
                    assert held[1] >= min(n, own[1] + halo)
                    assert (held[1] - held[0]) % 16 == 0 or held == (0, n)


# ---------------------------------------------------------------- memory and disk


def test_a_budget_is_kept_and_less_costs_more():
    shape, frame = (256, 256, 256), (256, 256)
    need = needed(shape, 15, frame, 1).host
    plans = [streaming(int(need * part), shape, 15, frame, "tgv", "cpu", lambda k: k + 1) for part in (0.5, 0.33, 0.25)]
    assert all(p.memory <= need * part for p, part in zip(plans, (0.5, 0.33, 0.25), strict=True))
    assert plans[0].cost < plans[1].cost < plans[2].cost
    with pytest.raises(ResourceError, match="not even in slabs, which take"):
        streaming(need // 50, shape, 15, frame, "tgv", "cpu", lambda k: k + 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_measured_peak_is_within_the_budget(tmp_path):
    case = {"size": 80, "tilts": 15, "iterations": 2, "rotation": 0.0, "drift": 2.0}
    budget = needed((80,) * 3, 15, (80, 80), 1).host // 3
    here = json.dumps([case, budget, str(tmp_path / "a.npy")])
    command = [sys.executable, str(ROOT / "benchmarks" / "streaming.py"), "--here", here]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["windows"] > 1
    assert found["stated"] <= budget
    assert found["peak"] < 1.15 * budget


def test_a_store_keeps_arrays_and_leaves_no_file(tmp_path):
    store = FileStore(tmp_path, 1 << 20)
    a = np.arange(1000, dtype=np.float32).reshape(10, 100)
    store.put("a", a)
    store.put("b", -a)
    out = np.empty_like(a)
    store.get("a", out)
    assert np.array_equal(out, a)
    store.get("none", out)
    assert not out.any()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_at_once(tmp_path, monkeypatch):
    def full(fd, begin, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full, raising=False)
    with pytest.raises(ResourceError, match=r"2.0 GiB of slabs \(No space left on device\).*RECON_SCRATCH"):
        FileStore(tmp_path, 2 << 30)
    with pytest.raises(ResourceError, match="does not take"):
        FileStore(tmp_path / "gone", 1)


# ---------------------------------------------------------------- the command


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A folder with one element of 48^3."""
    monkeypatch.chdir(tmp_path)
    series, _ = simulate(size=48, seed=0, drift=0)
    np.save("Co.npy", series.counts[0])
    np.savetxt("tilts.rawtlt", series.tilts_deg)
    return tmp_path


PLACE = "[regions]\nmiddle = { centre = [24, 24, 24], semi_axes = [3, 3, 3] }\n"


def with_memory(name, memory, more=""):
    text = (
        '[input]\nmaps = { Co = "Co.npy" }\ntilts = "tilts.rawtlt"\npixel_size_nm = 5.0\n[align]\nmethod = "none"\n'
        f"[reconstruct]\nstrength = 1.0\nmax_iterations = 40\ntolerance = 1e-9\n{memory}{more}"
    )
    Path(name).write_text(text)


def test_a_job_in_slabs(large):
    quick = "halves = false\n[output]\nreport = false\n"
    with_memory("whole.toml", "", quick)
    with_memory("slabs.toml", 'memory = "6 MB"\n', quick + PLACE)
    shown = invoke("check", "slabs.toml")
    assert "slabs: " in shown.output
    assert "slabs: " not in invoke("check", "whole.toml").output
    assert invoke("run", "whole.toml").exit_code == 0
    done = invoke("run", "slabs.toml")
    assert done.exit_code == 0, done.output
    assert "the volume is worked on in" in done.stderr
    assert "regions not asked about" in done.stderr
    one, many = (read_volume(Path(f"{n}-recon/Co.tif"))[0] for n in ("whole", "slabs"))
    assert apart(one, many) < 1e-5
    record = json.loads(Path("slabs-recon/job.json").read_text())
    assert record["elements"]["Co"]["parameters"]["windows"] > 1
    assert "memory" not in record["job"]["reconstruct"]


@pytest.mark.parametrize(
    ("memory", "more", "said"),
    [
        ("memory = 8\n", "", "must be an amount of memory such as '8 GB', not 8"),
        ('memory = "much"\n', "", "must be an amount of memory such as '8 GB', not 'much'"),
        ('memory = "300 kB"\n', "", "not even in slabs, which take"),
        ('memory = "1 MB"\n', 'method = "sirt"\n', "slabs are for tgv, tv and none"),
        ('memory = "4 MB"\n', "uncertainty = 5\n", "without uncertainty"),
    ],
)
def test_wrong_memory_is_one_line(large, memory, more, said):
    with_memory("a.toml", memory, more)
    assert said in fails(large, "check", "a.toml")
    assert said in fails(large, "run", "a.toml")
