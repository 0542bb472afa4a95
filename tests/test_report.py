"""The report of a run: it stands alone, is rebuilt, and shows no more than there is."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import QUICK, contents, fails, filled, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks
from runs import amount, write_run

from recon.job.file import load_job
from recon.report.answer import _limits
from recon.report.run_folder import read_run


@pytest.fixture(scope="module")
def ran(tmp_path_factory, stacks):
    """The folder of a run, which no test changes."""
    folder = filled(tmp_path_factory.mktemp("ran"), stacks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job(report=True)
        assert invoke("run", "job.toml").exit_code == 0
    return folder / "job-recon"


@pytest.fixture
def finished(ran, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ran, tmp_path / "job-recon"))


def text_of(page):
    """The page without pictures, voxels, scripts and styles."""
    page = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", page)
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


def test_the_report_stands_alone(ran):
    page = (ran / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page  # the browser itself refuses whatever would be fetched
    assert page.count("data:image/svg+xml;base64,") >= 4
    text = text_of(page)
    assert not re.search(r"https?:|//|<script[^>]+src|<link [^>]*stylesheet|@import|url\(|fetch|import\(", text)
    for words in ("job-recon: Co, Zn", "Alignment and exposure", "Convergence", "What was done", "normalise: "):
        assert words in text
    assert text.index("The answer</h2>") < text.index("The volume</h2>") < text.index("How the run went</h2>")
    assert str(ran.parent) not in page  # no paths of this machine


def test_the_report_is_rebuilt(finished):
    first = (finished / "report.html").read_text()
    (finished / "report.html").unlink()
    done = invoke("report", finished)
    assert done.exit_code == 0, done.stderr
    assert "report.html written" in done.stderr
    assert (finished / "report.html").read_text() == first
    assert not list(finished.glob(".*"))


def test_the_job_file_repeats_the_run(ran):
    """What the page saves is a job file that resolves to the same parameters, beside the data."""
    page = (ran / "report.html").read_text(encoding="utf-8")
    text = html.unescape(re.search(r"<pre id=job tabindex=0>(.*?)</pre>", page, flags=re.DOTALL)[1])
    again = ran.parent / "again.toml"
    again.write_text(text, encoding="utf-8")
    record = json.loads((ran / "job.json").read_text())["job"]
    found = json.loads(json.dumps(load_job(again).resolved()))
    assert found | {"job_file": "job.toml"} == record


def test_a_folder_that_is_no_run(folder):
    assert "not a finished run" in fails(folder, "report", folder)
    assert "not a finished run" in fails(folder, "report", folder / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [("job.json", "{", "job.json"), ("job.json", "{}", "job.json"), ("job.json", "[]", "job.json")],
)
def test_a_record_that_was_spoiled(finished, name, text, word):
    (finished / name).write_text(text)
    assert word in fails(finished, "report", finished)


DAMAGES = (
    {
        "Zn.tif": (None, "lacks Zn.tif"),
        "mask.tif": (None, "lacks mask.tif"),
        "alignment.json": ("{}", "alignment.json"),
        "regions.tif": ("no tiff", "regions.tif"),
        "Co-uncertainty.tif": (None, "lacks Co-uncertainty.tif"),
    },
    {
        "Co.tif": ("not a tiff", "Co.tif"),
        "alignment.json": (None, "alignment.json"),
        "truth-Zn.tif": ("no tiff", "truth-Zn.tif"),
    },
    {"alignment-frames.npz": ("no archive", "alignment-frames.npz")},
)


@pytest.mark.parametrize("damage", DAMAGES, ids=["five things", "three things", "frames"])
def test_a_report_says_what_is_missing(tmp_path, undrawn, damage):
    folder = write_run(tmp_path / "run", size=16)
    for name, (text, _) in damage.items():
        (folder / name).unlink() if text is None else (folder / name).write_text(text)
    assert invoke("report", folder).exit_code == 0
    page = text_of((folder / "report.html").read_text(encoding="utf-8"))
    warned = re.findall(r"<p class=warn>(.*?)</p>", page)
    for _, word in damage.values():
        assert any(word in line for line in warned), (word, warned)


def test_a_run_without_volumes_has_no_report(tmp_path):
    folder = write_run(tmp_path / "run", size=16)
    for name in ("Co", "Zn"):
        (folder / f"{name}.tif").unlink()
    assert "no volume" in fails(folder, "report", folder)


def test_the_truth_of_a_simulation_stands_beside_each_answer(tmp_path, undrawn):
    folder = write_run(tmp_path / "run", size=16)
    assert invoke("report", folder).exit_code == 0
    page = text_of((folder / "report.html").read_text(encoding="utf-8"))
    assert "Co 1.00 (95 % sure between 0.90 and 1.10; 68 %: 0.95 to 1.05), in truth 1.00;" in page
    assert "in truth 0.30, <b>outside the interval</b>" in page


def test_resolution_and_intervals_are_told(tmp_path, undrawn):
    """Halves cross 0.143 between shells 9 and 10 of 20 voxels' width: 20 / 9.57 voxels of 5 nm; squared, before 7.3."""
    folder = write_run(tmp_path / "run", size=16)
    assert invoke("report", folder).exit_code == 0
    page = text_of((folder / "report.html").read_text(encoding="utf-8"))
    row = re.search(r"<th scope=row>Co</th>((?:<td class=n>[^<]*</td>){4})</tr>", page)
    assert re.findall(r">([^<]+)<", row[1]) == ["10.4", "10.4", "10.4", "13.8"]
    assert "Co alone fills 40.0% (95 %: 30 to 50%) of the matter" in page
    assert "share 40.0% (95 %: 30 to 50%) of the particle, what only blur mixes not counted" in page
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(record | {"resolution": {}, "pairs": {}}))
    assert invoke("report", folder).exit_code == 0
    page = text_of((folder / "report.html").read_text(encoding="utf-8"))
    assert "The resolution was not measured" in page
    assert "There are no intervals: the run made no halves." in page


def test_lengths_are_written_as_people_write_them(tmp_path):
    """Crowther's rule at 500 nm to a voxel, without a power of ten."""
    run = read_run(write_run(tmp_path / "run", size=16), "run")
    said = _limits(replace(run, job=replace(run.job, voxel_size_nm=500.0)))
    assert "resolve about 870 nm" in said  # 10 voxels of 500 nm times 10 degrees


def test_runs_stand_side_by_side(tmp_path, undrawn):
    one, other = write_run(tmp_path / "<i>one", size=16), write_run(tmp_path / "two", size=16)
    assert "two folders" in fails(tmp_path, "report", one, "--out", tmp_path / "both.html")
    assert invoke("report", one, other, "--out", tmp_path / "both.html").exit_code == 0
    page = text_of((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert "<i>one" not in page
    assert page.count("<th scope=row>&lt;i&gt;one</th><td class=n>mixed</td><td class=n>Co and Zn</td>") == 2
    assert page.count("<th scope=row>two</th>") == 4 + 1 + 2 + 2  # answers, what is shared, resolution, elements
    assert page.count("<td class=n>0.4</td><td class=n>0.3</td><td class=n>0.5</td>") == 2 * 3
    assert page.count("<td class=n>13.8</td>") == 4
    assert not (one / "report.html").exists()


MARKUP = "<img src=x onerror=alert(1)>&'\"</script><script>alert(2)</script>"


def test_whatever_a_user_wrote_is_escaped(tmp_path, undrawn):
    """Names of places, files, stages, units, doubts, methods and of the folder."""
    amounts = {"Co": amount(1.0), "Zn": amount(0.0), "verdict": MARKUP}
    folder = write_run(tmp_path / "a <b>bold</b> run", size=16, places={MARKUP: amounts, "b": amounts})
    job = json.loads((folder / "job.json").read_text())
    job |= {"unit": MARKUP, "version": MARKUP, "device": MARKUP, "stages": [MARKUP], "missing": [MARKUP]}
    job["inputs"], job["versions"] = {MARKUP: MARKUP}, {MARKUP: MARKUP}
    job["job"] = {"input": {"maps": {MARKUP: MARKUP}}}
    job["elements"]["Co"] |= {"why": MARKUP, "status": "max_iterations"}
    job["elements"]["Co"]["choice"]["split"] = MARKUP
    job["analysis"]["uncertainty"]["Co"]["intervals"] = {
        MARKUP: {"low": 0.0, "high": 1.0, "level": 0.68, "sd": 0.1, "bias": 0.0}
    }
    (folder / "job.json").write_text(json.dumps(job))
    alignment = json.loads((folder / "alignment.json").read_text())
    alignment |= {"method": MARKUP, "doubts": [MARKUP]}
    (folder / "alignment.json").write_text(json.dumps(alignment))
    assert invoke("report", folder).exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "alert(2)</script>" not in page
    assert "<b>bold" not in page
    assert page.count("&lt;img src=x") >= 10


def test_a_run_with_mrc_files_only_has_a_report(folder, undrawn):
    job(extra=QUICK + '[output]\nformats = ["mrc"]\n')
    done = invoke("run", "job.toml")
    assert done.exit_code == 0, done.stderr
    assert "report.html" in contents(folder / "job-recon")
    assert sorted(p.name for p in (folder / "job-recon").glob("*.tif")) == ["mask.tif"]
