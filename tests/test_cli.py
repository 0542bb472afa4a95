"""The command line: what it writes and what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, RECORDS, ROOT, N, contents, fails, invoke, job, recon_, strict
from commands import folder as folder  # a fixture
from commands import stacks as stacks

import recon.job.resources
import recon.job.results
import recon.solvers.memory
from recon.cluster.units import names_of
from recon.io import read_volume
from recon.solvers import Record
from recon.solvers.progress import forecast

HEAVY = {
    "astra", "cupy", "matplotlib", "mrcfile", "numba", "numpy", "psutil", "pydantic", "rich", "rsciio", "scipy",
    "skimage", "tifffile",
}  # fmt: skip


# ---------------------------------------------------------------- help


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], *([c, "--help"] for c in ("run", "check", "demo", "report"))]
)
def test_help_imports_nothing_heavy(args, tmp_path):
    program = (
        "import sys\nfrom recon.cli import main\n"
        f"sys.argv = ['recon', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    print('STATUS', exc.code)\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert not done.stderr
    assert "STATUS 0" in done.stdout
    loaded = set(done.stdout.split("LOADED", 1)[1].split())
    assert "recon" in loaded
    assert not HEAVY & loaded


def test_help_names_every_command():
    said = invoke("--help").output
    for command in ("run", "check", "demo", "report"):
        assert f"\n  {command} " in said


# ---------------------------------------------------------------- whole runs


def test_run_from_the_shell(folder):
    """A subprocess, TGV, certified; the folder holds what the design says."""
    job(extra='[align]\nmethod = "none"\n[reconstruct]\ntolerance = 0.05\n[output]\nformats = ["tiff", "mrc"]\n')
    done = recon_("run", "job.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    assert all(re.match(r" *\d+\.\d s  ", line) for line in done.stderr.splitlines())
    assert "results in " in done.stderr
    out = folder / "job-recon"
    assert contents(out) == sorted(["Co.tif", "Co.mrc", "Zn.tif", "Zn.mrc", "mask.tif", "report.html", *RECORDS])
    for name in ("Co", "Zn"):
        values, size = read_volume(out / f"{name}.tif")
        assert values.shape == (N, N, N)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert size == pytest.approx(5.0)
        np.testing.assert_array_equal(read_volume(out / f"{name}.mrc")[0], values)
    record = strict(out / "job.json")
    assert record["program"] == "recon"
    assert record["version"] == recon.__version__
    assert record["job"]["reconstruct"]["tolerance"] == 0.05
    assert record["job"]["input"]["maps"] == {"Co": "Co.npy", "Zn": "Zn.npy"}
    assert set(record["inputs"]) == {"Co", "Zn", "tilts"}
    assert all(re.fullmatch("[0-9a-f]{64}", h) for h in record["inputs"].values())
    assert record["device"] == "cpu"
    assert record["versions"]["numpy"] == np.__version__
    assert set(record["timings_s"]) == {"read", "normalise", "align", "reconstruct", "halves", "analyse"}
    assert set(record["resolution"]) == set(record["elements"]) == {"Co", "Zn"}
    assert record["pairs"]["Co-Zn"]["figures"]["both"]["low95"] is not None
    for element in record["elements"].values():
        assert element["status"] == "converged"
        assert element["history"][-1]["gap"] <= 0.05
        assert element["history"][-1]["iteration"] == element["iterations"]
        assert element["parameters"]["a1"] > 0
    assert [s.split(":")[0].split()[0] for s in record["stages"]] == ["read", "pixel", "normalise", "align"]
    alignment = strict(out / "alignment.json")
    assert alignment["shifts_v_pixels"] == [0.0] * 15
    assert alignment["tilts_deg"] == list(range(-70, 71, 10))
    assert set(alignment["exposures"]) == {"Co", "Zn"}
    assert len(alignment["background_counts_per_pixel"]["Zn"]) == 15


def test_check_shows_the_plan_and_writes_nothing(folder):
    job()
    before = contents(folder)
    done = invoke("check", "job.toml", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert contents(folder) == before
    said = done.stdout
    assert "Co, Zn; 15 tilts of 16 x 16 pixels, 5 nm" in said
    for words in ("volume: 16 x ", "memory: ", "disk: ", "time: about", "sirt", "object: "):
        assert words in said
    counts = np.load("Zn.npy")
    row = next(line for line in said.splitlines() if line.strip().startswith("-70.00"))
    assert row.split()[3:5] == [f"{counts[0].sum():.0f}", f"{counts[0].max():.0f}"]
    assert "Co.npy, 1; Zn.npy, 1" in row


def test_the_preset_of_the_paper(folder):
    job(extra="[reconstruct]\nmax_iterations = 20\n", top='preset = "longley2018"\n')
    done = invoke("run", "job.toml", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    record = strict(folder / "job-recon" / "job.json")
    assert record["job"]["preset"] == "longley2018"
    assert record["job"]["reconstruct"]["data_term"] == "least-squares"
    assert record["job"]["align"]["resample"] is True
    stages = " ".join(record["stages"])
    for words in ("constant-total", "align: cross-correlation", "resampled"):
        assert words in stages
    inside = read_volume(folder / "job-recon" / "mask.tif")[0] > 0
    values = read_volume(folder / "job-recon" / "Co.tif")[0]
    assert not values[~inside].any()
    assert values[inside].any()


def test_the_preset_of_the_paper_keeps_the_alignment_it_found(folder):
    job(top='preset = "longley2018"\n', extra='[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n')
    assert invoke("run", "job.toml").exit_code == 0
    found = strict(folder / "job-recon" / "alignment.json")
    assert any(found["shifts_v_pixels"])
    assert len(set(found["exposures"]["Co"])) > 1


def test_an_alignment_can_be_used_again(folder):
    job(extra='[align]\nmethod = "cross-correlation"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n')
    assert invoke("run", "job.toml").exit_code == 0
    first = strict(folder / "job-recon" / "alignment.json")
    assert any(first["shifts_v_pixels"])
    shutil.copy(folder / "job-recon" / "alignment.json", "mine.json")
    job("again.toml", '[align]\nfile = "mine.json"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n')
    done = invoke("run", "again.toml")
    assert done.exit_code == 0, done.stderr
    second = strict(folder / "again-recon" / "alignment.json")
    for key in ("shifts_v_pixels", "shifts_u_pixels", "rotation_deg", "axis_offset_pixels", "exposures"):
        assert second[key] == first[key]
    a, b = (read_volume(folder / f / "Co.tif")[0] for f in ("job-recon", "again-recon"))
    np.testing.assert_allclose(a, b, atol=2e-3 * a.max())


@pytest.mark.slow
def test_the_demo_from_the_shell(tmp_path):
    """It asks about what it finds, and shows each answer beside the truth, in its lines and in the record."""
    done = recon_("demo", "--size", 32, "--seed", 1, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "demo-out"
    expected = ["Co.tif", "Zn.tif", "mask.tif", "regions.tif", "truth-Co.tif", "truth-Zn.tif", "report.html", *RECORDS]
    assert contents(out) == sorted(expected)
    for words in ("RMS error against the truth: Co 0.", "intervals (95 %) hold the truth", "report.html written"):
        assert words in done.stderr
    record = strict(out / "job.json")
    truth = record["analysis"]["truth"]
    assert 0 < truth["relative_rms_error"]["Co"] < 0.6
    assert record["composition"]
    for name, region in record["composition"].items():
        for element in ("Co", "Zn"):
            a = region[element]
            assert a["low95"] <= a["low68"] <= a["fraction"] <= a["high68"] <= a["high95"]
            shown = f"[{a['low95']:.2f} to {a['high95']:.2f}], truth {truth['fractions'][name][element]:.2f}"
            assert shown in done.stderr
        assert region["verdict"] in done.stderr
    assert read_volume(out / "regions.tif")[0].max() == len(record["composition"])
    page = (out / "report.html").read_text()
    assert "Against the truth" in page
    again = recon_("demo", "--size", N, cwd=tmp_path)
    assert again.returncode == 2
    assert "demo-out exists" in again.stderr


# ---------------------------------------------------------------- several jobs, existing folders


def test_one_job_goes_into_the_folder_that_is_named(folder):
    job("a.toml")
    assert invoke("run", "a.toml", "--out", "just-a").exit_code == 0
    assert (folder / "just-a" / "job.json").is_file()


def test_several_jobs_go_into_one_folder_that_is_named(folder):
    """Two of the same name, which do not replace each other, and one that fails, which does not stop the others."""
    job("c.toml", co="Co-gone.npy")
    for name in ("a", "b"):
        Path(name).mkdir()
        job(f"{name}/job.toml", co="../Co.npy", zn="../Zn.npy", tilts='"../tilts.rawtlt"')
    jobs = ["c.toml", "a/job.toml", "b/job.toml"]
    assert names_of(jobs) == ["c", "a-job", "b-job"]
    done = invoke("run", *jobs, "--out", "all", "--workers", 1)
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "c.toml" in errors[0]
    assert "Co-gone.npy" in errors[0]
    assert done.stderr.rstrip().endswith("2 of 3 jobs finished")
    assert {p.name for p in (folder / "all").iterdir()} == {"a-job-recon", "b-job-recon", "recon-summary.csv"}
    for name in ("a-job-recon", "b-job-recon"):
        assert {"Co.tif", "Zn.tif", "mask.tif", "job.json"} <= set(contents(folder / "all" / name))
    assert strict(folder / "all" / "b-job-recon" / "job.json")["status"] == "done"
    done = invoke("run", "a/job.toml", "a/../a/job.toml", "--out", "twice")
    assert done.exit_code == 2
    assert "a/job.toml and a/../a/job.toml are the same file; name it once" in done.stderr
    assert not (folder / "twice").exists()


def test_an_existing_folder_is_left_alone(folder):
    job()
    assert invoke("run", "job.toml").exit_code == 0
    said = fails(folder, "run", "job.toml")
    assert "job-recon exists" in said
    assert "--overwrite" in said
    stamp = (folder / "job-recon" / "job.json").stat().st_mtime_ns
    done = invoke("run", "job.toml", "--resume")
    assert done.exit_code == 0
    assert "finished before, left as it is" in done.stderr
    assert (folder / "job-recon" / "job.json").stat().st_mtime_ns == stamp
    done = invoke("run", "job.toml", "--overwrite")
    assert done.exit_code == 0
    assert (folder / "job-recon" / "job.json").stat().st_mtime_ns != stamp


@pytest.mark.parametrize("what", ["job", "input", "version", "broken"])
def test_resume_refuses_the_folder_of_another_job(folder, what, monkeypatch):
    job()
    assert invoke("run", "job.toml").exit_code == 0
    if what == "job":
        job(extra=QUICK.replace("3", "4"))
    elif what == "input":
        np.save("Co.npy", np.load("Co.npy") + 1)
    elif what == "version":
        monkeypatch.setattr(recon.job.results, "__version__", "999")
    else:
        (folder / "job-recon" / "job.json").write_text("{")
    said = fails(folder, "run", "job.toml", "--resume")
    assert "job-recon exists but is of another job" in said
    assert invoke("run", "job.toml", "--resume", "--overwrite").exit_code == 0
    record = strict(folder / "job-recon" / "job.json")
    assert record["job"]["reconstruct"]["max_iterations"] == (4 if what == "job" else 3)


def test_a_folder_that_is_not_ours_is_never_replaced(folder):
    job()
    (folder / "job-recon").mkdir()
    (folder / "job-recon" / "thesis.txt").write_text("mine")
    assert "not a result of recon" in fails(folder, "run", "job.toml", "--overwrite")


# ---------------------------------------------------------------- time left


def test_the_forecast_follows_the_gap():
    """The gap falls tenfold every 100 iterations and 10 s: at 1e-3 another 10 s to 1e-4."""
    history = [Record(50 * k, 1.0, 10.0 ** (-k / 2), 5.0 * k) for k in range(1, 7)]
    done, left = forecast(history, 1e-4)
    assert left == pytest.approx(10)
    assert done == pytest.approx(2.5 / 3.5)
    assert forecast(history[:1], 1e-4) == (0.0, None)
    assert forecast([*history, Record(350, 1.0, 1e-5, 35.0)], 1e-4)[1] == 0
    worse = [Record(50 * k, 1.0, 0.1 * k, 5.0 * k) for k in range(1, 4)]
    assert forecast(worse, 1e-4)[1] is None
    sirt = [Record(k, 1.0, float("nan"), float(k)) for k in range(3)]
    assert forecast(sirt, 1e-2) == (0.0, None)
