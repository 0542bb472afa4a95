"""Pieces of work side by side: results, errors, signals, and when they are done one after the other."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
from saved_runs import posix

import recon
from recon.analysis.halves import halves
from recon.errors import InputError, SuspendedError
from recon.job.duration import asked_about
from recon.job.file import Job
from recon.job.file.sections import Reconstruct
from recon.job.resources import Plan, forecast
from recon.parallel import at_once, side_by_side, stop_if_unwanted
from recon.parallel.beside import SMALL
from recon.series.settings import Settings
from recon.series.volume import Solution, Status, Volume
from recon.simulate import simulate, two_metal_particle
from recon.solvers.memory import needed, needed_for_regions

GIB = 2**30


@pytest.fixture
def two_cores(monkeypatch):
    """Two workers, whatever the machine has."""
    monkeypatch.setattr("recon.parallel.beside._cores", lambda: 2)


def endless() -> None:
    for _ in range(10_000):  # or a test that fails would never end
        stop_if_unwanted()
        time.sleep(0.001)
    pytest.fail("nobody ended it")


def test_results_keep_the_order_and_pieces_run_at_a_time(two_cores):
    both = threading.Barrier(2, timeout=20)  # passed by two threads at once only

    def piece(k: int) -> int:
        both.wait()
        time.sleep(0.02 * (1 - k))  # the first ends last
        return k

    assert side_by_side([lambda: piece(0), lambda: piece(1)], 1000, 1, "cpu") == [0, 1]


def test_a_piece_may_have_pieces(two_cores):
    inner = lambda: sum(side_by_side([lambda: 1, lambda: 2], 1000, 1, "cpu"))  # noqa: E731
    assert side_by_side([inner, inner], 1000, 1, "cpu") == [3, 3]


def test_an_error_ends_the_others(two_cores):
    def wrong() -> None:
        raise InputError("no such map")

    with pytest.raises(InputError, match="no such map"):
        side_by_side([endless, wrong], 1000, 1, "cpu")


def test_each_saves_its_state_when_the_run_is_to_leave(two_cores):
    saved, both = [], threading.Barrier(2, timeout=20)

    def leave(k: int) -> None:
        both.wait()
        time.sleep(0.05 * k)
        stop_if_unwanted()
        saved.append(k)
        raise SuspendedError("SIGTERM")

    with pytest.raises(SuspendedError):
        side_by_side([lambda: leave(0), lambda: leave(1)], 1000, 1, "cpu")
    assert saved == [0, 1]


@posix
def test_a_signal_ends_all(two_cores):
    # of a shell's background jobs Ctrl-C is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side([endless, endless], 1000, 1, "cpu")
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_after_the_other_where_nothing_is_gained():
    free = 16 * GIB
    assert at_once(2, 4, 64**3, GIB, free, "cpu") == 2
    assert at_once(4, 2, 64**3, GIB, free, "cpu") == 2
    assert at_once(2, 1, 64**3, GIB, free, "cpu") == 1
    assert at_once(2, 4, SMALL + 1, GIB, free, "cpu") == 1
    assert at_once(2, 4, 64**3, 5 * GIB, free, "cpu") == 1  # memory
    assert at_once(2, 4, 64**3, GIB, free, "cuda") == 1


def test_the_plan_counts_what_is_there_at_a_time():
    def memory(n: int, elements: int) -> int:
        return forecast((n, n, n), 15, (n, n), elements, Job.model_construct(), "cpu", free=64 * GIB).memory_bytes

    one = memory(64, 1)
    assert memory(64, 2) > 1.9 * one  # two cores are taken for granted where the memory is given
    assert memory(64, 3) < 2.2 * one
    assert memory(256, 2) < 1.2 * memory(256, 1)


@pytest.mark.parametrize("n", [48, 64])
def test_the_plan_counts_regions_and_halves_that_are_there_at_a_time(n):
    """Two at a time, on two cores; of what stays of both, nothing twice."""

    def plan(elements: int, **options: object) -> Plan:
        job = Job.model_construct(reconstruct=Reconstruct(**options))
        return forecast((n, n, n), 15, (n, n), elements, job, "cpu", free=64 * GIB)

    two, apart = plan(2), plan(2, memory="32 GB")
    sizes = ((n, n, n), 15, (n, n))
    fields = asked_about(Job.model_construct(), 2) + 2
    together = [needed_for_regions(*sizes, fields, "tgv", "cpu", elements, 10) for elements in (1, 2)]
    assert apart.regions_bytes == together[1]
    assert together[1] + 0.4 * together[0] < two.regions_bytes < 2 * together[1]
    assert apart.halves_bytes == needed(*sizes, 4, "tgv").host
    assert two.halves_bytes == needed(*sizes, 4, "tgv").host + needed(*sizes, 1, "tgv").host
    assert plan(1).halves_bytes > 1.8 * plan(1, memory="32 GB").halves_bytes  # its two halves
    coupled = plan(2, coupling="frobenius")
    assert coupled.halves_bytes > 1.8 * needed(*sizes, 2, "tgv", channels=2).host


def test_with_limited_memory_elements_are_asked_about_one_after_the_other(monkeypatch):
    """The first stops the second; side by side nothing is done."""
    particle = two_metal_particle(0)
    series, _ = simulate(particle, size=16, seed=0)
    made = Solution(None, Status.CONVERGED, 0, (), settings=Settings(memory=GIB))
    volumes = {n: Volume(v, 1.0, n, made) for n, v in zip(series.elements, particle.volume(16), strict=True)}
    monkeypatch.setattr("recon.analysis.regions.side_by_side", None)
    began = []

    def no_more(*args: object) -> None:
        began.append(args)
        raise InputError("no more")

    monkeypatch.setattr("recon.analysis.regions._asking", no_more)
    with pytest.raises(InputError, match="no more"):
        recon.composition(series, volumes, {"a": _middle()}, replicates=4, device="cpu")
    assert len(began) == 1


def test_elements_side_by_side_are_the_same_to_the_last_bit(monkeypatch):
    series, _ = simulate(two_metal_particle(0), size=16, seed=0)
    series = recon.normalise(series)
    found = []
    for cores in (1, 2):
        monkeypatch.setattr("recon.parallel.beside._cores", lambda cores=cores: cores)
        volumes = recon.reconstruct(series, device="cpu")
        found.append((volumes, recon.composition(series, volumes, {"a": _middle()}, replicates=4, device="cpu")))
    (alone, asked), (beside, asked_beside) = found
    for name in series.elements:
        assert np.array_equal(alone[name].values, beside[name].values)
    assert str(asked) == str(asked_beside)


def test_an_error_of_one_element_ends_the_iterations_of_the_other(two_cores):
    series = recon.normalise(simulate(two_metal_particle(0), size=16, seed=0)[0])
    seen = []

    def progress(element: str, record: recon.Record) -> None:
        seen.append((element, record.iteration))
        if element == "Co":
            raise InputError("no more")

    most = 20_000
    with pytest.raises(InputError, match="no more"):
        recon.reconstruct(
            series, strength=1.0, tolerance=1e-9, max_iterations=most, device="cpu", progress=progress
        )  # fmt: skip
    assert max((n for element, n in seen if element == "Zn"), default=0) < most


def _middle() -> np.ndarray:
    region = np.zeros((16, 16, 16), bool)
    region[6:9, 6:9, 6:9] = True
    return region


@posix
@pytest.mark.parametrize("cores", [1, 2])
def test_ctrl_c_keeps_what_there_is_of_elements_that_have_begun(monkeypatch, cores):
    """As of one element; of those that have not begun there is nothing."""
    monkeypatch.setattr("recon.parallel.beside._cores", lambda: cores)
    two = recon.normalise(simulate(two_metal_particle(0), size=16, seed=0)[0])
    maps = dict(zip("abc", (two.counts[0], two.counts[1], two.counts[1]), strict=True))
    series = recon.TiltSeries.create(maps, two.tilts_deg, 1.0)
    seen = set()

    def progress(element: str, record: recon.Record) -> None:
        if element not in seen:
            seen.add(element)
            if len(seen) == cores:
                _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        volumes = recon.reconstruct(
            series, "tv", strength=1.0, tolerance=1e-12, max_iterations=2000, device="cpu", progress=progress
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(volumes) == ["a", "b"][:cores]
    for volume in volumes.values():
        assert volume.made.status is recon.Status.INTERRUPTED
        assert np.isfinite(volume.made.gap)


@posix
def test_a_second_ctrl_c_ends_all(two_cores):
    before, asked = signal.signal(signal.SIGINT, signal.default_int_handler), []
    timers = [threading.Timer(t, _thread.interrupt_main) for t in (0.1, 0.4)]
    for timer in timers:
        timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side([endless, endless], 1000, 1, "cpu", end=lambda: asked.append(1))
        for timer in timers:
            timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [1]


@pytest.mark.parametrize("error", [SuspendedError("SIGTERM"), InputError("no such map")])
def test_after_an_error_none_is_begun(two_cores, error):
    begun, both = [], threading.Barrier(2, timeout=20)

    def piece(k: int) -> None:
        begun.append(k)
        if k < 2:
            both.wait()
            raise error
        time.sleep(0.01)

    with pytest.raises(type(error)):
        side_by_side([partial(piece, k) for k in (1, 0, 2, 3)], 1000, 1, "cpu")
    assert sorted(begun) == [0, 1]


def test_halves_are_side_by_side_where_auto_is_a_cpu(two_cores, monkeypatch):
    """And with one live display for all of them."""
    series = recon.normalise(simulate(two_metal_particle(0), size=16, seed=0)[0])
    volumes = recon.reconstruct(series, "tv", elements="Co", strength=1.0, tolerance=0.5, device="cpu")
    devices = []

    def beside(pieces, voxels, need, device):
        devices.append(device)
        return side_by_side(pieces, voxels, need, device)

    monkeypatch.setattr("recon.analysis.halves.side_by_side", beside)
    monkeypatch.setattr("recon.backend.resolve_device", lambda device: "cpu" if device == "auto" else device)
    found = halves(series, volumes, iterations=20, progress=True)
    assert devices == ["cpu"]
    assert list(found.first) == ["Co"]
