"""What tests of job files share: files that exist, a job from text, the message of a wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import HANGS

import recon
from recon.errors import JobError
from recon.job.file import Job, load_job

INPUT = '[input]\nmaps = { Co = "Co.tif", Zn = "maps/Zn.mrc" }\ntilts = "tilts.rawtlt"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    for name in ("Co.tif", "maps/Zn.mrc", "tilts.rawtlt", "alignment.json"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str) -> Job:
    Path("job.toml").write_text(text, encoding="utf-8")
    return load_job("job.toml")


def message(text: str | bytes) -> str:
    Path("job.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    before = sorted(os.listdir("."))
    with pytest.raises(JobError) as caught:
        load_job("job.toml")
    assert sorted(os.listdir(".")) == before
    said = str(caught.value)
    assert "\n" not in said
    return said


def run(code: str, *args: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(recon.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
