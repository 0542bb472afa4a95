"""The command line: what it writes, what it says, and what wrong input gets."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import recon.pipeline
import recon.resources
import recon.results
from recon.cli import cli, forecast
from recon.io import folder as output
from recon.io import read_volume
from recon.simulate import simulate
from recon.solvers import Record

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "astra", "cupy", "matplotlib", "mrcfile", "numba", "numpy", "psutil", "pydantic", "rich", "rsciio", "scipy",
    "skimage", "tifffile",
}  # fmt: skip
N = 16
RECORDS = ["alignment-frames.npz", "alignment.json", "job.json", "report.html"]
QUICK = '[align]\nmethod = "none"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'


def recon_(*args, cwd=None, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recon", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=300, **options
    )


def invoke(*args):
    return CliRunner().invoke(cli, [str(a) for a in args])


def contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def fails(folder, *args, status=2):
    """Run in this process; one line of error, nothing written. Returns that line without its `error: `."""
    before = contents(folder)
    done = invoke(*args)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == status
    assert "Traceback" not in done.output
    *logged, last = done.stderr.rstrip("\n").split("\n")
    assert last.startswith("error: ")
    assert all(re.match(r" *\d+\.\d s  ", line) for line in logged), logged
    assert contents(folder) == before
    return last.removeprefix("error: ")


def strict(path):
    """JSON without NaN and infinity."""

    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="session")
def stacks():
    series, _ = simulate(size=N, seed=0, drift=1)
    return dict(zip(series.elements, series.counts, strict=True)), series.tilts_deg


@pytest.fixture
def folder(tmp_path, monkeypatch, stacks):
    """A folder with two stacks and tilts; the working directory."""
    maps, tilts = stacks
    for name, counts in maps.items():
        np.save(tmp_path / f"{name}.npy", counts)
    np.savetxt(tmp_path / "tilts.rawtlt", tilts)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(name="job.toml", extra=QUICK, tilts='"tilts.rawtlt"', co="Co.npy", zn="Zn.npy", top=""):
    Path(name).write_text(
        f'{top}[input]\nmaps = {{ Co = "{co}", Zn = "{zn}" }}\ntilts = {tilts}\npixel_size_nm = 5.0\n{extra}'
    )
    return Path(name)


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
    assert contents(out) == sorted(["Co.tif", "Co.mrc", "Zn.tif", "Zn.mrc", "mask.tif", *RECORDS])
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
    assert set(record["timings_s"]) == {"read", "normalise", "align", "reconstruct", "analyse"}
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
    for words in ("volume: 16 x 16 x 16", "memory: ", "disk: ", "time: about", "sirt", "object: isolated"):
        assert words in said
    counts = np.load("Zn.npy")
    row = next(line for line in said.splitlines() if line.strip().startswith("-70.00"))
    assert row.split()[3:] == [f"{counts[0].sum():.0f}", f"{counts[0].max():.0f}"]


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
    done = recon_("demo", "--size", N, "--seed", 1, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "demo-out"
    assert contents(out) == sorted(["Co.tif", "Zn.tif", "mask.tif", "truth-Co.tif", "truth-Zn.tif", *RECORDS])
    for words in ("relative RMS error against the truth: Co 0.", "'interlocked'", "'mixed'", "report.html written"):
        assert words in done.stderr
    analysis = strict(out / "job.json")["analysis"]
    assert set(analysis["regions"]) == {"interlocked", "mixed"}
    assert 0 < analysis["truth"]["relative_rms_error"]["Co"] < 0.6
    page = (out / "report.html").read_text()
    assert "Against the truth" in page
    again = recon_("demo", "--size", N, cwd=tmp_path)
    assert again.returncode == 2
    assert "demo-out exists" in again.stderr


# ---------------------------------------------------------------- several jobs, existing folders


def test_one_job_that_fails_does_not_stop_the_others(folder):
    job("a.toml")
    job("b.toml", co="Co-gone.npy")
    job("c.toml")
    done = invoke("run", "a.toml", "b.toml", "c.toml")
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "b.toml" in errors[0]
    assert "Co-gone.npy" in errors[0]
    assert done.stderr.rstrip().endswith("2 of 3 jobs finished")
    for name in ("a-recon", "c-recon"):
        assert {"Co.tif", "Zn.tif", "mask.tif", "job.json", "report.html"} <= set(contents(folder / name))
    assert not (folder / "b-recon").exists()


def test_several_jobs_go_into_one_folder_that_is_named(folder):
    job("a.toml")
    job("b.toml")
    assert invoke("run", "a.toml", "b.toml", "--out", "all").exit_code == 0
    assert sorted(p.name for p in (folder / "all").iterdir()) == ["a-recon", "b-recon"]
    assert invoke("run", "a.toml", "--out", "just-a").exit_code == 0
    assert (folder / "just-a" / "job.json").is_file()


def test_jobs_of_the_same_name_do_not_replace_each_other(folder):
    for name in ("a", "b"):
        Path(name).mkdir()
        job(f"{name}/job.toml", co="../Co.npy", zn="../Zn.npy", tilts='"../tilts.rawtlt"')
    done = invoke("run", "a/job.toml", "b/job.toml", "--out", "all", "--overwrite")
    kept = list((folder / "all").glob("*")) if (folder / "all").exists() else []
    assert done.exit_code == 2 or len(kept) == 2


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
        monkeypatch.setattr(recon.results, "__version__", "999")
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


# ---------------------------------------------------------------- Ctrl-C


def started(folder, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "recon", "run", *map(str, args)], stderr=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def interrupted(process, wanted, limit=60.0):
    """Wait for a line, send SIGINT; returns status, all lines and the seconds it took to end."""
    lines = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if re.search(wanted, line):
                break
        else:
            raise AssertionError(lines)
        clock = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=limit)
        return process.returncode, lines + rest.splitlines(), time.monotonic() - clock
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
    status, lines, _ = interrupted(started(folder, "a.toml", "b.toml", "c.toml"), "Zn: iteration")
    assert status == 3
    assert {p.name for p in folder.iterdir()} == before | {"a-recon", "b-recon", "b-recon.partial"}
    assert {"Co.tif", "Zn.tif", "job.json", "report.html"} <= set(contents(folder / "a-recon"))
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
    process = started(folder, "b.toml")
    try:
        status, lines, _ = interrupted(process, "Co: iteration", limit=10)
    except subprocess.TimeoutExpired:
        raise AssertionError("still running ten seconds after Ctrl-C") from None
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
    from recon.solvers import baseline

    job(extra='[align]\nmethod = "cross-correlation"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n')
    namespace, seen = baseline.namespace, []

    class Interrupting:
        def __getattr__(self, name):
            return getattr(np, name)

        def maximum(self, *args, **kwargs):
            if "out" in kwargs and not seen:
                seen.append(1)
                raise KeyboardInterrupt
            return np.maximum(*args, **kwargs)

    monkeypatch.setattr(baseline, "namespace", lambda *a: Interrupting() if not seen else namespace(*a))
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

    module = recon.results if stage in ("write_volumes", "job_record") else recon.pipeline
    monkeypatch.setattr(module, stage, stop)
    before = contents(folder)
    done = invoke("run", "job.toml")
    assert done.exit_code == 130
    assert contents(folder) == before
    assert done.stderr.splitlines()[-1] == "job.toml: stopped by Ctrl-C; nothing of this job was written"


# ---------------------------------------------------------------- wrong input


def test_a_job_file_that_is_missing(folder):
    assert "no.toml does not exist" in fails(folder, "run", "no.toml")
    assert "no.toml does not exist" in fails(folder, "check", "no.toml")


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_map_that_is_missing(folder, command):
    job(co="Cu.npy")
    said = fails(folder, command, "job.toml")
    assert "job.toml:2" in said
    assert "Cu.npy does not exist" in said


def spoil(change):
    """A change to Co's stack, as an array."""
    np.save("Co.npy", change(np.load("Co.npy")))


def put(value):
    def change(a):
        a[3, 5, 7] = value
        return a

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:14], ["Co", "14 maps", "15 tilts"]),
        (put(np.nan), ["Co", "not finite", "tilt 4", "(5, 7)"]),
        (put(np.inf), ["Co", "not finite", "tilt 4"]),
        (put(-2), ["Co", "negative", "-2", "tilt 4", "(5, 7)"]),
        (lambda a: a * 0, ["Co", "zero everywhere"]),
        (lambda a: a * 1j, ["Co", "complex"]),
        (lambda a: a.astype("U8"), ["Co", "text"]),
        (lambda a: a[:, :, 1:], ["Zn", "(15, 16, 16)", "Co", "(15, 16, 15)"]),
        (lambda a: a[0], ["Co.npy", "(16, 16)", "(tilt, y, x)"]),
        (lambda a: a[:, :3, :3], ["Co", "3 x 3", "4 x 4"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_stack_that_cannot_be(folder, command, change, words):
    job()
    spoil(change)
    said = fails(folder, command, "job.toml")
    assert all(w in said for w in ["job.toml", *words]), said


def test_python_objects_and_damaged_files(folder):
    job()
    np.save("Co.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    assert "Co.npy" in fails(folder, "run", "job.toml")
    Path("Co.npy").write_bytes(b"\x93NUMPY")
    assert "Co.npy" in fails(folder, "run", "job.toml")
    Path("Co.npy").write_bytes(b"")
    assert "Co.npy is empty" in fails(folder, "run", "job.toml")
    shutil.copy("Zn.npy", "Co.txt")
    job(co="Co.txt")
    assert "'.txt'" in fails(folder, "run", "job.toml")


def test_a_tiff_of_pictures(folder):
    tifffile.imwrite("Co.tif", np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    job(co="Co.tif")
    assert "colour picture" in fails(folder, "run", "job.toml")


@pytest.mark.parametrize(
    ("tilts", "words"),
    [
        (np.radians(np.arange(-70, 71, 10.0)), ["radians", "degrees", "-70.0 to 70.0"]),
        ([0.0, 0, *range(10, 140, 10)], ["tilt 0 appears more than once"]),
        ([0.0, 10.0], ["2 tilts", "at least 3"]),
        ([0.0, 10.0, 400.0], ["400", "180"]),
        ([0.0, 10.0, 20.0], ["15 maps", "3 tilts"]),
    ],
)
def test_tilts_that_cannot_be(folder, tilts, words):
    np.savetxt("tilts.rawtlt", tilts)
    job()
    from_file = fails(folder, "run", "job.toml")
    assert all(w in from_file for w in words), from_file
    job(tilts=str([float(t) for t in tilts]))
    from_list = fails(folder, "run", "job.toml")
    assert all(w in from_list for w in words), from_list


def test_tilts_that_are_words(folder):
    Path("tilts.rawtlt").write_text("angle\n1\n2\n")
    job()
    assert "tilts.rawtlt:1: 'angle' is not one number" in fails(folder, "run", "job.toml")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[reconstruct]\nstrenght = 1\n", ["job.toml:6", "reconstruct.strenght", "did you mean 'strength'"]),
        ("[reconstuct]\nmethod = 'tv'\n", ["job.toml:5", "reconstuct", "did you mean 'reconstruct'"]),
        ("[align]\nreference = ['Fe']\n", ["job.toml:6", "'Fe'", "input.maps"]),
        ("[reconstruct]\nstrength = { Co = 1, Fe = 2 }\n", ["'Fe'"]),
        ("[reconstruct]\nmethod = 'art'\n", ["job.toml:6", "'art'", "sirt"]),
        ("[reconstruct]\nthickness = 65\n", ["thickness is 65", "64"]),
        ("[reconstruct\n", ["job.toml:5", "TOML"]),
    ],
)
def test_a_job_file_that_is_wrong(folder, extra, words):
    job(extra=extra)
    said = fails(folder, "run", "job.toml")
    assert all(w in said for w in words), said


def test_scaled_maps_need_least_squares(folder):
    job(extra="scaled = true\n")
    said = fails(folder, "run", "job.toml")
    assert "least-squares" in said


def test_no_room_on_the_disk(folder, monkeypatch):
    job()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    monkeypatch.setattr(recon.pipeline, "process", lambda *a, **k: pytest.fail("it started"))
    for command in ("run", "check"):
        said = fails(folder, command, "job.toml")
        assert "need 49.2 kB, the disk has 1 kB free" in said  # 3 volumes of 16^3 float32


def test_a_disk_that_fills_up_while_writing(folder, monkeypatch):
    job()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "_flush", full)
    assert "full" in fails(folder, "run", "job.toml")


def test_more_memory_than_there_is(folder, monkeypatch):
    job(extra="")
    monkeypatch.setattr(recon.resources, "available_memory", lambda device="cpu": 2**19)
    monkeypatch.setattr(recon.pipeline, "process", lambda *a, **k: pytest.fail("it started"))
    for command in ("run", "check"):
        said = fails(folder, command, "job.toml")
        assert re.search(r"16 x 16 x 16 voxels needs \d+ MiB of memory, 0 MiB are free", said)


def test_memory_that_runs_out_after_all(folder, monkeypatch):
    job()

    def run_out(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(recon.pipeline, "process", run_out)
    assert "out of memory" in fails(folder, "run", "job.toml")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that may not be written")
def test_a_folder_that_may_not_be_written(folder):
    job()
    (folder / "locked").mkdir(mode=0o500)
    assert "may not be written" in fails(folder, "run", "job.toml", "--out", "locked/out")


def test_no_cuda_device(folder, monkeypatch):
    from recon import backend

    job()
    if backend.resolve_device("auto") == "cuda":
        pytest.skip("there is one")
    assert re.search("cuda", fails(folder, "run", "job.toml", "--device", "cuda"), re.IGNORECASE)


def test_a_demo_too_small(tmp_path):
    assert "size is 8" in fails(tmp_path, "demo", "--size", 8, "--out", tmp_path / "out")


def test_a_demo_with_a_negative_seed(tmp_path):
    done = invoke("demo", "--size", N, "--seed", -1, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)


def test_a_demo_that_needs_more_memory_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(recon.resources, "available_memory", lambda device="cpu": 2**19)
    monkeypatch.setattr("recon.demo.process", lambda *a, **k: pytest.fail("it started"))
    assert "memory" in fails(tmp_path, "demo", "--size", N, "--out", tmp_path / "out")


def test_wrong_input_from_the_shell(folder):
    """Once as a user would: one line, status 2, no traceback, nothing on stdout."""
    job()
    spoil(put(np.nan))
    before = contents(folder)
    done = recon_("run", "job.toml", cwd=folder)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: job.toml: Co (")
    assert contents(folder) == before


# ---------------------------------------------------------------- the report


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
