"""Whole jobs that were stopped or killed go on to the same bits."""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner
from commands import HANGS, fails
from forked import Run
from saved_runs import posix

import recon.cli
import recon.job.checkpoint
import recon.job.checkpoint_file
import recon.job.schedule
from recon.cli import cli
from recon.io import read_volume
from recon.job.schedule import Schedule
from recon.simulate import simulate

# ---------------------------------------------------------------- whole jobs

JOB = """regions = "none"
[input]
maps = { Co = "Co.npy", Zn = "Zn.npy" }
tilts = "tilts.rawtlt"
pixel_size_nm = 5.0
[align]
method = "none"
[reconstruct]
strength = 1.0
tolerance = 1e-9
max_iterations = ITERATIONS
[output]
report = false
"""


# a checkpoint before every iteration, so that a random moment often lies within a write
EAGER = (
    "from recon import cli; from recon.job import checkpoint, progress; "
    "checkpoint.Schedule.__init__.__defaults__ = (1e9, 0.0); progress.Lines.__init__.__defaults__ = (0.0,); cli.main()"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    series, _ = simulate(size=16, seed=0, drift=1)
    for name, counts in zip(series.elements, series.counts, strict=True):
        np.save(tmp_path / f"{name}.npy", counts)
    np.savetxt(tmp_path / "tilts.rawtlt", series.tilts_deg)
    (tmp_path / "job.toml").write_text(JOB.replace("ITERATIONS", "100"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(folder, *args):
    return Run(["run", "job.toml", *args], folder, EAGER)


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
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "100"))
    process = start(folder)
    process.communicate(timeout=HANGS)
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
        # in the first element and in the second, however long it takes here to get there
        begun = ["Co: iteration", "Zn: iteration", "s  "][killed]
        lines = until(process, begun, or_end=True)
        timer = time.monotonic() + rng.uniform(0.0, 0.2)
        while killed < 2 and time.monotonic() < timer and process.poll() is None:
            time.sleep(0.01)
        if killed < 2:
            process.kill()
            killed += 1
        _, rest = process.communicate(timeout=HANGS)
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
    _, rest = process.communicate(timeout=HANGS)
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
        if name == "SIGTERM":
            assert "holds checkpoints of a run that was stopped; go on with --resume" in fails(
                folder, "run", "job.toml"
            )
    if name == "SIGUSR1":  # it ends as SIGTERM does, and goes on as that
        return
    process = start(folder, "--resume")
    _, rest = process.communicate(timeout=HANGS)
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
    _, rest = process.communicate(timeout=HANGS)
    # between the two signals the run may have got as far as its last file
    assert process.returncode in (130, 3)
    if process.returncode == 130:
        assert rest.splitlines()[-1] == (
            "job.toml: stopped by Ctrl-C; nothing of this job was written; --resume goes on"
        )  # fmt: skip
        assert not (folder / "job-recon").exists()
    assert "Traceback" not in rest


@posix
@pytest.mark.parametrize("until_line", ["align", "Co: iteration"])
def test_ctrl_c_pressed_again_and_again_is_no_failure(folder, until_line):
    """Whatever it meets, a solver, a file, the last line or Python's own end, the status is that of a stop."""
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "100000"))
    process = start(folder)
    lines = until(process, until_line)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    lines += process.communicate(timeout=HANGS)[1].splitlines()
    assert process.returncode in (130, 3)
    assert not [line for line in lines if "Traceback" in line or "Aborted" in line]


@pytest.mark.parametrize(
    ("raised", "status"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3), (click.UsageError("no such option"), 2)]
)
def test_the_status_of_what_happens_outside_of_a_job(monkeypatch, raised, status):
    def stop(*args, **kwargs):
        raise raised

    monkeypatch.setattr(recon.cli.cli, "invoke", stop)
    monkeypatch.setattr(recon.cli, "ignore_ctrl_c", lambda: None)
    monkeypatch.setattr(sys, "argv", ["recon", "check", "job.toml"])
    with pytest.raises(SystemExit) as end:
        recon.cli.main()
    assert end.value.code == status


def test_a_short_run_writes_no_checkpoint(folder, monkeypatch):
    """Short: of less than an hour, here, as the machine that tests may be a busy one."""
    written = []
    monkeypatch.setattr(Schedule.__init__, "__defaults__", (recon.job.schedule.SHARE, 3600.0))
    monkeypatch.setattr(recon.job.checkpoint, "write_checkpoint", lambda *args: written.append(args))
    (folder / "job.toml").write_text(JOB.replace("ITERATIONS", "20"))
    assert CliRunner().invoke(cli, ["run", "job.toml"]).exit_code == 0
    assert not written
    assert not (folder / "job-recon.partial").exists()
