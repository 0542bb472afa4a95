"""What `recon submit` writes, without a scheduler; and its tasks, one after the other in this process."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from pathlib import Path

import pytest
from commands import QUICK, fails, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks

from recon.cluster import follow
from recon.cluster.manifest import read_manifest
from recon.cluster.schedulers import SCHEDULERS
from recon.cluster.settings import Settings, minutes, size
from recon.cluster.submit import combinations
from recon.errors import InputError, JobError


def submitted(*args):
    done = invoke("submit", *args, "--folder", "sub", "--dry-run")
    assert done.exit_code == 0, done.output
    return done.output


def test_one_alignment_then_elements_then_results(folder):
    """Two datasets and two strengths: each dataset is aligned once, every task of the manifest runs, in its order."""
    job("a.toml")
    job("b.toml")
    said = submitted("a.toml", "b.toml", "--grid", "reconstruct.max_iterations=[2, 3]")
    rows = read_manifest(Path("sub"))
    assert [r.unit.stage for r in rows] == ["align"] * 2 + ["element"] * 8 + ["finish"] * 4
    assert [r.row for r in rows] == list(range(1, 15))
    assert len({r.unit.aligned for r in rows}) == 2
    assert "2 tasks" in said
    assert "8 tasks" in said
    for row in rows:
        done = invoke("task", "sub/manifest.csv", row.row)
        assert done.exit_code == 0, done.output
    assert "14 done" in invoke("status", "sub").output
    assert invoke("gather", "sub").exit_code == 0
    with Path("sub/gathered/summary.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 8
    assert {(r["reconstruct.max_iterations"], r["iterations"]) for r in table} == {("2", "2"), ("3", "3")}
    assert len(list(Path("sub/gathered/volumes").glob("*.tif"))) == 4 * 3
    links = re.findall(r'href="([^"]+)"', Path("sub/gathered/report.html").read_text())
    assert len(links) == 4
    assert all((folder / "sub" / "gathered" / link).exists() for link in links)
    assert "sub/gathered exists" in invoke("gather", "sub").stderr
    again = invoke("task", "sub/manifest.csv", 14)
    assert "finished before, left as it is" in again.stderr


def test_a_task_without_what_others_were_to_make(folder):
    job("a.toml")
    submitted("a.toml")
    for row, what in ((2, "the alignment of a.toml is not there"), (4, "the alignment of a.toml is not there")):
        assert what in fails(folder, "task", "sub/manifest.csv", row)
    assert invoke("task", "sub/manifest.csv", 1).exit_code == 0
    assert "Co of a.toml is not there" in fails(folder, "task", "sub/manifest.csv", 4)
    assert "no row 9; its rows are 1 to 4" in fails(folder, "task", "sub/manifest.csv", 9)
    Path("sub/manifest.csv").write_text("a,b\n1,2\n")
    assert "not a manifest" in fails(folder, "task", "sub/manifest.csv", 1)
    assert "gone" in fails(folder, "status", "gone")


@pytest.mark.parametrize(
    ("scheduler", "lines"),
    [
        ("slurm", ["#SBATCH --array=2-3", "#SBATCH --partition=gpu", "#SBATCH --account=tomo", "#SBATCH --time=1:30:00",
                   "#SBATCH --mem=16384M", "#SBATCH --gres=gpu:2", "#SBATCH --cpus-per-task=8", "#SBATCH --requeue",
                   "#SBATCH --signal=B:USR1@120", "#SBATCH --exclusive"]),
        ("pbs", ["#PBS -J 2-3", "#PBS -q gpu", "#PBS -A tomo", "#PBS -l walltime=1:30:00",
                 "#PBS -l select=1:ncpus=8:mem=16384mb:ngpus=2", "#PBS --exclusive"]),
        ("lsf", ["#BSUB -J recon-element[2-3]", "#BSUB -q gpu", "#BSUB -P tomo", "#BSUB -W 1:30", "#BSUB -n 8",
                 "#BSUB -M 16384MB", '#BSUB -gpu "num=2"', '#BSUB -Q "75"', "#BSUB --exclusive"]),
    ],
)  # fmt: skip
def test_scripts(folder, scheduler, lines, monkeypatch):
    """Settings from the site file, the job file and options, the later ones first."""
    site = f'scheduler = "{scheduler}"\npartition = "slow"\naccount = "tomo"\ncores = 2\noptions = ["--exclusive"]\n'
    Path("site.toml").write_text("[cluster]\n" + site)
    monkeypatch.setenv("RECON_SITE", "site.toml")
    own = '[cluster]\npartition = "gpu"\ncores = 4\ngpus = 2\ntime = "1:30"\nsetup = ["module load cuda"]\n'
    job("a.toml", QUICK + own)
    said = submitted("a.toml", "--cores", 8, "--memory", "16 GB")
    script = Path("sub/2-element.sh").read_text()
    assert set(lines) <= set(script.splitlines())
    assert script.index("module load cuda") < script.index("-m recon task")
    assert "2 GPU" in said
    assert "nothing submitted" in said


@pytest.mark.parametrize(
    ("scheduler", "lists", "ends"),
    [
        ("slurm", "squeue --jobs=7,8", "scancel"),
        ("pbs", "qstat -t 7 8", "qdel"),
        ("lsf", "bjobs -A 7 8", "bkill"),
    ],
)
def test_how_jobs_are_seen_and_ended(scheduler, lists, ends):
    kind = SCHEDULERS[scheduler]
    assert kind.follow(["7", "8"]) == [lists, f"{ends} 7 8"]
    assert kind.cancel("7") == [ends, "7"]


def test_forecast_and_cluster_table_change_no_result(folder):
    """Memory and time are the model's, for a GPU that need not be here; `[cluster]` is no parameter."""
    job("a.toml")
    submitted("a.toml", "--gpus", 1)
    rows = read_manifest(Path("sub"))
    assert all(10 < r.minutes < 60 and 1024 <= r.memory_mb < 2048 for r in rows)
    assert invoke("run", "a.toml").exit_code == 0
    job("a.toml", QUICK + '[cluster]\npartition = "gpu"\n')
    assert "left as it is" in invoke("run", "a.toml", "--resume").stderr
    assert "cluster" not in json.loads(Path("a-recon/job.json").read_text())["job"]


def test_wrong_input(folder, monkeypatch):
    job("a.toml")
    assert "is not found; submit from a login node" in _without_scheduler(folder, monkeypatch)
    job("b.toml", QUICK + '[cluster]\ntime = "soon"\n')
    assert "time is 'soon'" in fails(folder, "submit", "b.toml", "--dry-run")
    job("b.toml", QUICK + '[cluster]\npartitoin = "x"\n')
    assert "partition" in fails(folder, "submit", "b.toml", "--dry-run")
    assert "has no list of values" in fails(folder, "submit", "a.toml", "--dry-run", "--grid", "reconstruct.strength=2")
    Path("x").mkdir()
    job("x/a.toml", co="../Co.npy", zn="../Zn.npy", tilts='"../tilts.rawtlt"')
    assert "are the same file" in fails(folder, "submit", "a.toml", "x/../a.toml", "--dry-run")
    Path("sub").mkdir()
    Path("sub/thesis.txt").touch()
    assert "sub exists" in fails(folder, "submit", "a.toml", "--folder", "sub", "--dry-run")
    monkeypatch.setenv("RECON_SITE", "gone.toml")
    assert "gone.toml does not exist" in fails(folder, "submit", "a.toml", "--dry-run")
    Path("gone.toml").write_text("[cluster]\nqueue = 'x'\n")
    assert "queue is unknown" in fails(folder, "submit", "a.toml", "--dry-run")


def test_a_disk_that_fills_leaves_nothing_in_the_way(folder, monkeypatch, tmp_path_factory):
    """While the scripts are written, and when all is submitted but the record of it; then that is taken back."""
    job("a.toml")
    tools = tmp_path_factory.mktemp("bin")
    for name, line in {"sbatch": "echo 7", "sinfo": "exit 1", "scancel": f"echo $1 >> {tools}/cancelled"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", full)
        assert "sub cannot be written, the disk or quota is full" in fails(
            folder, "submit", "a.toml", "--folder", "sub"
        )
    assert not (tools / "cancelled").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert "the disk or quota is full" in fails(folder, "submit", "a.toml", "--folder", "sub")
    assert (tools / "cancelled").read_text().split() == ["7"] * 3
    assert invoke("submit", "a.toml", "--folder", "sub").exit_code == 0
    assert json.loads(Path("sub/submitted.json").read_text())["jobs"] == ["7"] * 3


def test_a_task_that_vanished_says_how_to_go_on(folder, monkeypatch):
    """Its node was lost: the scheduler has it no more, and its log ends without an error."""
    job("a.toml")
    submitted("a.toml")
    Path("sub/logs").mkdir(exist_ok=True)
    Path("sub/logs/2.log").write_text("  12.1 s  Co: iteration 50\n")
    Path("sub/logs/3.log").write_text("error: a.toml: no room\n")
    monkeypatch.setattr(follow, "_queue", lambda folder: {1: "running"})
    done = invoke("status", "sub")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    lost = "ended without a word, as when a node is lost; submit the script of its stage with --array=2 to go on"
    assert lines[2].endswith(f"failed    {lost} (Co: iteration 50)")
    assert lines[3].endswith("failed    error: a.toml: no room")


def _without_scheduler(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(folder))
        done = invoke("submit", "a.toml", "--folder", "none")
    assert done.exit_code == 2
    return done.stderr


def test_values():
    assert [minutes(v) for v in (90, "90", "1:30", "1-00:00:00", "0:00:30", "auto")] == [90, 90, 90, 1440, 1, "auto"]
    assert [size(v) for v in ("16 GB", "512M", "1.5 GiB", "1T")] == [2**34, 2**29, 3 * 2**29, 2**40]
    for wrong in (0, "x", "1:2:3:4", True):
        with pytest.raises(JobError, match="time is"):
            minutes(wrong)
    for wrong in ("16 XB", "-1 GB", 5):
        with pytest.raises(JobError, match="memory is"):
            size(wrong)
    with pytest.raises(JobError, match="letters"):
        Settings().over({"partition": "a; rm -rf"}, "job.toml")
    assert combinations({}) == [{}]
    assert len(combinations({"a.b": [1, 2], "a.c": [3, 4, 5]})) == 6
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(Path("nowhere"))
