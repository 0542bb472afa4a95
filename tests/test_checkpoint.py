"""Checkpoints: a run that was stopped or killed goes on to the same bits; what is wrong with one is said."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import recon.job.checkpoint
import recon.job.checkpoint_file
import recon.job.schedule
from recon.cli import cli
from recon.errors import InputError, OutputError, SuspendedError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io import read_volume
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.checkpoint_file import read_checkpoint, write_checkpoint
from recon.job.interrupts import Interrupts
from recon.job.schedule import Schedule
from recon.operators import make_projector
from recon.series.alignment import Alignment
from recon.simulate import simulate
from recon.solvers import State
from recon.solvers.data_terms import LeastSquares, Poisson
from recon.solvers.pdhg import PrimalDual

ROOT = Path(__file__).resolve().parent.parent
f32 = np.float32
TILTS = (-60, -25, 5, 40, 70)
IDENTITY = Identity({"job_file": "job.toml", "reconstruct": {"tolerance": 0.01}}, {"Co": "c0", "tilts": "71"})
posix = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture
def one_thread():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def problem(xp=np, term=Poisson, seed=0):
    like = xp.empty(0, f32)
    operator = make_projector(TiltGeometry.single_axis(TILTS, (6, 9), (8, 6, 9)), like)
    rng = np.random.default_rng(seed)
    truth = np.zeros(operator.domain_shape, f32)
    truth[2:6, 2:7, 1:5] = 1.0
    truth[3:5, 3:6] *= 3
    scale = xp.asarray(rng.uniform(0.5, 1.5, (len(TILTS), 1, 1)) * np.ones(operator.range_shape), dtype=f32)
    clean = operator(xp.asarray(truth), xp.empty(operator.range_shape, dtype=f32)) * scale
    clean = clean if xp is np else clean.get()
    counts = xp.asarray(rng.poisson(clean + 0.3), dtype=f32)
    arrays = counts, scale, xp.full_like(counts, 0.3)
    data = arrays if term is Poisson else (*arrays, 1 / xp.maximum(counts, 1))
    return operator, term(*data)


def fresh(data, **options):
    return PrimalDual(*data, a1=0.5, a0=0.7, upper=options.pop("upper", 50.0), **options)


def stop_at(iteration):
    return lambda solver: solver.iteration == iteration


class StopHere(BaseException):
    pass


def saved(solver, path, at):
    """Run to an iteration, save there without another check, and forget the solver."""

    def control(running):
        if running.iteration == at:
            state = running.state()
            numbers = {k: v.item() if isinstance(v, np.generic) else v for k, v in state.numbers.items()}
            write_checkpoint(path, {"numbers": numbers, "history": [dataclasses.asdict(r) for r in state.history]},
                             state.arrays)  # fmt: skip
            raise StopHere
        return False

    with pytest.raises(StopHere):
        solver.run(1e-12, 10**6, check_every=25, control=control)


def loaded(solver, path):
    header, arrays = read_checkpoint(path)
    from recon.solvers import Record

    solver.restore(State(arrays, header["numbers"], [Record(**r) for r in header["history"]]))
    return solver


def spoil_scratch(solver):
    """NaN in every array that is not state: if one mattered, the result would tell."""
    kept = {id(a) for a in solver.state().arrays.values()} | {id(solver._sensitivity)}
    for value in vars(solver).values():
        for array in value if isinstance(value, list) else [value]:
            if isinstance(array, type(solver.u)) and id(array) not in kept:
                array[...] = np.nan


def host(a):
    return a if isinstance(a, np.ndarray) else a.get()


def same(first, second):
    assert [dataclasses.replace(r, seconds=0) for r in first.history] == [
        dataclasses.replace(r, seconds=0) for r in second.history
    ]
    assert first.status is second.status
    assert first.iterations == second.iterations
    assert first.parameters == second.parameters
    assert np.array_equal(host(first.value), host(second.value))


# ---------------------------------------------------------------- the solver's state


@pytest.mark.parametrize("method", ["relaxed", "plain"])
@pytest.mark.parametrize("term", [Poisson, LeastSquares])
@pytest.mark.parametrize("regulariser", ["tgv", "tv", "none"])
def test_a_run_of_two_hundred_is_two_of_one_hundred(tmp_path, one_thread, regulariser, term, method):
    data = problem(term=term)
    whole = fresh(data, regulariser=regulariser, method=method)
    expected = whole.run(1e-12, 200, check_every=25)
    saved(fresh(data, regulariser=regulariser, method=method), tmp_path / "a.npz", 100)
    # another start, bound and weight: all must come from the file
    other = fresh(data, regulariser=regulariser, method=method, upper=3.0, omega=77.0, start=np.ones((8, 9, 6), f32))
    loaded(other, tmp_path / "a.npz")
    spoil_scratch(other)
    same(other.run(1e-12, 200, check_every=25), expected)
    for name, array in whole.state().arrays.items():
        assert np.array_equal(array, other.state().arrays[name]), name
    numbers = dict(other.state().numbers) | {"_seconds": whole.state().numbers["_seconds"]}
    assert numbers == whole.state().numbers


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 199), min_size=1, max_size=3, unique=True))
def test_any_iterations_to_stop_at(tmp_path_factory, stops):
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        path = tmp_path_factory.mktemp("state") / "a.npz"
        data = problem()
        expected = fresh(data).run(1e-12, 200, check_every=25)
        solver = fresh(data)
        for at in sorted(stops):
            saved(solver, path, at)
            solver = loaded(fresh(data, upper=2.0), path)
            spoil_scratch(solver)
        same(solver.run(1e-12, 200, check_every=25), expected)
    finally:
        numba.set_num_threads(before)


def test_the_bound_found_before_counts_after(tmp_path, one_thread):
    """A best bound that came early is part of the certificate of the resumed run."""
    data = problem()
    saved(fresh(data), tmp_path / "a.npz", 100)
    solver = loaded(fresh(data), tmp_path / "a.npz")
    assert np.isfinite(solver.state().numbers["_bound"])
    assert [r.iteration for r in solver.state().history] == [25, 50, 75, 100]
    solver.run(1e-12, 110, check_every=25)
    again = solver.run(1e-12, 135, check_every=25)  # a second run of the same solver begins a history of its own
    assert [r.iteration for r in again.history] == [125, 135]


def test_a_state_of_another_problem(tmp_path, one_thread):
    data = problem()
    state = fresh(data, regulariser="tv").state()
    with pytest.raises(ValueError, match=r"[pwq] of the state has shape"):
        fresh(data).restore(state)
    with pytest.raises(ValueError, match="the state holds"):
        fresh(data).restore(fresh(data, method="plain").state())


@pytest.mark.gpu
def test_two_of_one_hundred_on_a_gpu(tmp_path):
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no CUDA device")
    data = problem(cupy)
    expected = fresh(data).run(1e-12, 200, check_every=25)
    saved(fresh(data), tmp_path / "a.npz", 100)
    other = loaded(fresh(data, upper=3.0), tmp_path / "a.npz")
    spoil_scratch(other)
    same(other.run(1e-12, 200, check_every=25), expected)


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
            if not schedule.early and schedule.due(int(n_bytes)):
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
    kept.keep_series(series, done, {"timings": {"align": 1.5}})
    again, extra = checkpoints(tmp_path).series(series)
    assert extra == {"timings": {"align": 1.5}}
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

    monkeypatch.setattr(np.lib.format, "write_array", full)
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


# ---------------------------------------------------------------- signals


@posix
def test_outside_patience_a_signal_ends_the_run():
    for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SuspendedError)):
        before = signal.getsignal(number)
        with pytest.raises(error), Interrupts():
            signal.raise_signal(number)
        assert signal.getsignal(number) is before


@posix
def test_inside_patience_the_first_is_noted():
    with Interrupts() as interrupts, interrupts.patience():
        signal.raise_signal(signal.SIGINT)
        assert interrupts.wish == "keep"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts, interrupts.patience():
        for _ in range(3):  # Slurm may send several
            signal.raise_signal(signal.SIGUSR1)
        assert (interrupts.wish, interrupts.cause) == ("leave", "SIGUSR1")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts:
        with interrupts.patience():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SuspendedError):  # the result is being written, the machine goes
            signal.raise_signal(signal.SIGTERM)


def test_in_another_thread_nothing_is_installed():
    import threading

    seen = []

    def work():
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


# ---------------------------------------------------------------- whole jobs

JOB = """[input]
maps = { Co = "Co.npy", Zn = "Zn.npy" }
tilts = "tilts.rawtlt"
pixel_size_nm = 5.0
[reconstruct]
strength = 1.0
tolerance = 1e-9
max_iterations = ITERATIONS
"""
# a checkpoint before every iteration, so that a random moment often lies within a write
EAGER = (
    "from recon import cli; from recon.job import checkpoint; checkpoint.Schedule.__init__.__defaults__ = (1e9, 0.0); "
    "cli.Lines.__init__.__defaults__ = (0.0,); cli.main()"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    series, _ = simulate(size=16, seed=0, drift=1)
    for name, counts in zip(series.elements, series.counts, strict=True):
        np.save(tmp_path / f"{name}.npy", counts)
    np.savetxt(tmp_path / "tilts.rawtlt", series.tilts_deg)
    (tmp_path / "job.toml").write_text(JOB.replace("ITERATIONS", "400"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(folder, *args):
    return subprocess.Popen(
        [sys.executable, "-c", EAGER, "run", "job.toml", *args], stderr=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def until(process, wanted, or_end=False):
    """Lines up to the one that is wanted; each check of a solver writes one."""
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if re.search(wanted, line):
            return lines
    assert or_end, lines
    return lines


def compare(first, second):
    """Volumes bit for bit, and the history apart from its times."""
    for name in ("Co.tif", "Zn.tif", "mask.tif"):
        assert np.array_equal(read_volume(first / name)[0], read_volume(second / name)[0]), name
    records = [json.loads((f / "job.json").read_text()) for f in (first, second)]
    for record in records:
        for element in record["elements"].values():
            for line in element["history"]:
                line.pop("seconds")
        record.pop("timings_s")
    assert records[0] == records[1]
    assert (first / "alignment.json").read_text() == (second / "alignment.json").read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The same job in one go, in a process of its own like the others."""
    folder = tmp_path_factory.mktemp("whole")
    series, _ = simulate(size=16, seed=0, drift=1)
    for name, counts in zip(series.elements, series.counts, strict=True):
        np.save(folder / f"{name}.npy", counts)
    np.savetxt(folder / "tilts.rawtlt", series.tilts_deg)
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "400"))
    process = start(folder)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert not (folder / "job-recon.partial").exists()
    return folder / "job-recon"


@posix
@pytest.mark.slow
def test_killed_at_random_moments(folder, uninterrupted):
    rng = random.Random(5)
    killed, aligned, from_file, going_on = 0, 0, 0, 0
    for _ in range(30):
        process = start(folder, "--resume")
        # first anywhere, then in the first element and in the second, however long it takes here to get there
        begun = ["s  ", "s  ", "Co: iteration", "Zn: iteration", "s  "][killed]
        lines = until(process, begun, or_end=True)
        timer = time.monotonic() + rng.uniform(0.0, 2.0 if killed < 2 else 0.5)
        while time.monotonic() < timer and process.poll() is None:
            time.sleep(0.01)
        if killed < 4:
            process.kill()
            killed += 1
        _, rest = process.communicate(timeout=120)
        said = "\n".join(lines + rest.splitlines())
        aligned += "normalise:" in said
        from_file += "finished before, taken from" in said
        going_on += "going on from iteration" in said
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "job-recon").exists()
    assert (folder / "job-recon").is_dir()
    assert aligned < killed + 1  # the alignment was not found anew each time
    assert going_on > 0
    assert from_file > 0
    assert {p.name for p in folder.iterdir()} == {"Co.npy", "Zn.npy", "tilts.rawtlt", "job.toml", "job-recon"}
    compare(folder / "job-recon", uninterrupted)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_stopped_by_a_signal_and_resumed(folder, uninterrupted, name):
    process = start(folder)
    until(process, "align")
    state = folder / "job-recon.partial" / "Zn.state.npz"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(getattr(signal, name))
    _, rest = process.communicate(timeout=60)
    last = rest.splitlines()[-1]
    if name == "SIGINT":
        assert process.returncode == 3
        assert "Co finished, Zn not converged (certified gap " in last
        assert last.endswith("; --resume goes on")
        assert (folder / "job-recon" / "Zn.tif").exists()
    else:
        assert process.returncode == 75
        assert last == f"job.toml: stopped by {name}; run it again with --resume to go on"
        assert not (folder / "job-recon").exists()
        again = start(folder)
        _, rest = again.communicate(timeout=60)
        assert again.returncode == 2
        assert "holds checkpoints of a run that was stopped; go on with --resume" in rest
    process = start(folder, "--resume")
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Co: finished before, taken from" in rest
    assert "normalise:" not in rest
    assert re.search(r"Zn: going on from iteration \d+", rest)
    assert not (folder / "job-recon.partial").exists()
    compare(folder / "job-recon", uninterrupted)


@posix
def test_a_second_ctrl_c_stops_at_once(folder):
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "100000"))
    process = start(folder)
    until(process, "align")
    while not (folder / "job-recon.partial" / "Co.state.npz").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    until(process, "finishing the check")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    # between the two signals the run may have got as far as its last file
    assert process.returncode in (130, 3)
    if process.returncode == 130:
        assert rest.splitlines()[-1] == (
            "job.toml: stopped by Ctrl-C; nothing of this job was written; --resume goes on"
        )  # fmt: skip
        assert not (folder / "job-recon").exists()
    assert "Traceback" not in rest


def test_a_short_run_writes_no_checkpoint(folder, monkeypatch):
    """Short: of less than an hour, here, as the machine that tests may be a busy one."""
    written = []
    monkeypatch.setattr(Schedule.__init__, "__defaults__", (recon.job.schedule.SHARE, 3600.0))
    monkeypatch.setattr(recon.job.checkpoint, "write_checkpoint", lambda *args: written.append(args))
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "20"))
    assert CliRunner().invoke(cli, ["run", "job.toml"]).exit_code == 0
    assert not written
    assert not (folder / "job-recon.partial").exists()
