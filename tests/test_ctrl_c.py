"""Ctrl-C at any moment keeps what there is, or leaves nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import HANGS, contents, fails, invoke, job, strict
from commands import folder as folder  # a fixture
from commands import stacks as stacks
from forked import Run

import recon.job.pipeline
import recon.job.results
import recon.job.stages


def interrupted(process, wanted, limit=HANGS):
    """Wait for a line, send SIGINT; returns status and all lines."""
    lines = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if re.search(wanted, line):
                break
        else:
            raise AssertionError(lines)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=limit)
        return process.returncode, lines + rest.splitlines()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


ENDLESS = '[align]\nmethod = "none"\n[reconstruct]\ntolerance = 1e-12\nmax_iterations = 1000000\n'


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_keeps_what_there_is(folder):
    """One job finished before, one would come after."""
    job("a.toml")
    job("c.toml")
    Path("b.toml").write_text(
        '[input]\nmaps = { Zn = "Zn.npy" }\ntilts = "tilts.rawtlt"\npixel_size_nm = 5.0\n' + ENDLESS
    )
    before = {"a.toml", "b.toml", "c.toml", "Co.npy", "Zn.npy", "tilts.rawtlt"}
    status, lines = interrupted(Run(["run", "a.toml", "b.toml", "c.toml"], folder), "Zn: iteration")
    assert status == 3
    assert {p.name for p in folder.iterdir()} == before | {"a-recon", "b-recon", "b-recon.partial", "recon-summary.csv"}
    assert {"Co.tif", "Zn.tif", "job.json"} <= set(contents(folder / "a-recon"))
    assert {"Zn.tif", "job.json", "report.html"} <= set(contents(folder / "b-recon"))
    record = strict(folder / "b-recon" / "job.json")
    assert record["status"] == "interrupted"
    assert record["missing"] == []
    assert record["elements"]["Zn"]["status"] == "interrupted"
    gap = record["elements"]["Zn"]["history"][-1]["gap"]
    assert 0 < gap < 1
    assert not any("Traceback" in line for line in lines)
    said = [line for line in lines if line.startswith("b.toml: ")]
    assert said == [
        f"b.toml: stopped by Ctrl-C; {folder / 'b-recon'} holds what there was: Zn not converged (certified gap "
        f"{gap:.2g}); --resume goes on"
    ]
    assert lines[-1] == "1 of 3 jobs finished"
    page = (folder / "b-recon" / "report.html").read_text()
    assert "Zn is not converged: stopped by the user" in page
    assert f"{gap:.1e}" in page


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_in_the_first_element_ends_the_job(folder):
    job("b.toml", ENDLESS + "[output]\ncheckpoints = false\n")
    process = Run(["run", "b.toml"], folder)
    status, lines = interrupted(process, "Co: iteration")
    assert status == 3
    assert lines[-1].endswith(", Zn not begun")
    assert not (folder / "b-recon.partial").exists()
    assert not (folder / "b-recon" / "Zn.tif").exists()
    assert strict(folder / "b-recon" / "job.json")["missing"] == ["Zn"]
    assert "Zn was not reconstructed" in (folder / "b-recon" / "report.html").read_text()
    assert "Traceback" not in " ".join(lines)
    assert "b-recon exists" in fails(folder, "run", "b.toml")


def test_ctrl_c_in_the_alignment_is_not_lost(folder, monkeypatch):
    """The interrupt arrives inside the first SIRT of the axis search."""
    from recon.solvers import sirt

    job(extra='[align]\nmethod = "cross-correlation"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n')
    namespace, seen = sirt.namespace, []

    class Interrupting:
        def __getattr__(self, name):
            return getattr(np, name)

        def maximum(self, *args, **kwargs):
            if "out" in kwargs and not seen:
                seen.append(1)
                raise KeyboardInterrupt
            return np.maximum(*args, **kwargs)

    monkeypatch.setattr(sirt, "namespace", lambda *a: Interrupting() if not seen else namespace(*a))
    done = invoke("run", "job.toml")
    assert seen
    assert done.exit_code == 130
    assert not (folder / "job-recon").exists()


@pytest.mark.parametrize(
    "stage", ["read_job", "normalise", "align", "reconstruct", "mask", "write_volumes", "job_record"]
)
def test_ctrl_c_at_any_stage(folder, monkeypatch, stage):
    job()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    of_results, of_stages = ("write_volumes", "job_record"), ("normalise", "align", "reconstruct")
    module = recon.job.results if stage in of_results else recon.job.pipeline
    if stage in of_stages:
        module = recon.job.stages.Stages if stage == "reconstruct" else recon.job.stages
    monkeypatch.setattr(module, stage, stop)
    before = contents(folder)
    done = invoke("run", "job.toml")
    assert done.exit_code == 130
    assert contents(folder) == before
    assert done.stderr.splitlines()[-1] == "job.toml: stopped by Ctrl-C; nothing of this job was written"
