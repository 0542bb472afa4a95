"""The report of a run: it stands alone, is rebuilt, and shows no more than there is."""

from __future__ import annotations

import json
import re

import pytest
from commands import QUICK, contents, fails, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks


@pytest.fixture
def finished(folder):
    job()
    assert invoke("run", "job.toml").exit_code == 0
    return folder / "job-recon"


def test_the_report_stands_alone(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png;base64,") == 5
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//|<script[^>]|<link|@import|url\(|fetch|import\(", text)
    for words in ("job-recon: Co, Zn", "Alignment and exposure", "Convergence", "What was done", "constant-total"):
        assert words in text
    assert str(finished.parent) not in text  # no paths of this machine


def test_the_report_is_rebuilt(finished):
    first = (finished / "report.html").read_text()
    (finished / "report.html").unlink()
    done = invoke("report", finished)
    assert done.exit_code == 0, done.stderr
    assert "report.html written" in done.stderr
    assert (finished / "report.html").read_text() == first
    assert not list(finished.glob(".*"))


def test_the_report_escapes_names(finished):
    """Of the folder and of whatever a hand-edited JSON holds."""
    evil = "<b>&'\"<img src=x>"
    moved = finished.with_name("<b>&bold")
    finished.rename(moved)
    for name, key in (("job.json", "version"), ("job.json", "unit"), ("alignment.json", "method")):
        value = json.loads((moved / name).read_text())
        value[key] = evil
        (moved / name).write_text(json.dumps(value))
    value = json.loads((moved / "job.json").read_text())
    value["stages"].append(evil)
    value["elements"]["Co"]["why"] = evil
    (moved / "job.json").write_text(json.dumps(value))
    assert invoke("report", moved).exit_code == 0
    page = (moved / "report.html").read_text()
    assert "<b>&bold" not in page
    assert "&lt;b&gt;&amp;bold" in page
    assert "<img src=x>" not in page
    assert page.count("&lt;img src=x&gt;") >= 5


def test_a_folder_that_is_no_run(folder):
    assert "not a finished run" in fails(folder, "report", folder)
    assert "not a finished run" in fails(folder, "report", folder / "nowhere")


@pytest.mark.parametrize(
    ("spoiled", "word"),
    [
        (("job.json", "{"), "job.json"),
        (("Zn.tif", None), "Zn.tif"),
        (("mask.tif", None), "mask.tif"),
        (("Co.tif", "not a tiff"), "Co.tif"),
        (("job.json", "{}"), "job.json"),
        (("alignment.json", "{}"), "alignment.json"),
        (("job.json", "[]"), "job.json"),
    ],
)
def test_a_run_that_was_spoiled(finished, spoiled, word):
    name, text = spoiled
    if text is None:
        (finished / name).unlink()
    else:
        (finished / name).write_text(text)
    assert word in fails(finished, "report", finished)


def test_a_run_with_mrc_files_only_has_a_report(folder):
    job(extra=QUICK + '[output]\nformats = ["mrc"]\n')
    done = invoke("run", "job.toml")
    assert done.exit_code == 0, done.stderr
    assert "report.html" in contents(folder / "job-recon")
    assert sorted(p.name for p in (folder / "job-recon").glob("*.tif")) == ["mask.tif"]
