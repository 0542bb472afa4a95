"""The remedy that a message names works: keys that exist, settings as the job has them, what people type."""

from __future__ import annotations

import ast
import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, contents, fails, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks

import recon
from recon.eds.lines import find_line, lines_of
from recon.errors import InputError
from recon.files import unreadable
from recon.job.file import Job, load_job
from recon.series import TiltSeries

# ---------------------------------------------------------------- keys


def words_of(path):
    """Every text in a source file but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_every_key_of_a_job_file_that_a_message_names_exists():
    sections = {n: f.annotation for n, f in Job.model_fields.items() if n != "preset"}
    named, wrong = set(), []
    # `maps.` and `input.` are also names in code, never in words followed by a key that is none
    pattern = re.compile(rf"(?<![\w./])\[?({'|'.join(sections)})(?:\.|\] )([a-z_]+)\b(?!\()")
    for path in (ROOT / "recon").rglob("*.py"):
        for text in words_of(path):
            for section, key in pattern.findall(text):
                named.add((section, key))
                fields = getattr(sections[section], "model_fields", None)
                if (
                    fields is not None
                    and key not in fields
                    and key not in ("rawtlt", "ome", "json", "html", "png", "tif")
                ):
                    wrong.append((str(path.relative_to(ROOT)), f"{section}.{key}"))
    assert ("input", "bad_pixels") in named
    assert ("reconstruct", "thickness") in named
    allowed = {("input", "and"), ("input", "maps"), ("cluster", "sweep"), ("geometry", "says")}
    assert not [w for w in wrong if tuple(w[1].split(".")) not in allowed], wrong


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Fe_K\u03b1", "Fe_Ka"), ("Fe_K\u03b2", "Fe_Kb"), ("Fe K\u03b1", "Fe_Ka"), ("Fe_K\u03b11", "Fe_Ka"),
        ("Fe-K\u03b1\u2081", "Fe_Ka"), ("FeK\u03b1\u2081,\u2082", "Fe_Ka"), ("Fe_K", "Fe_Ka"), ("FeKa", "Fe_Ka"),
        ("Fe Ka", "Fe_Ka"), ("Fe-Ka", "Fe_Ka"), ("fe_ka", "Fe_Ka"), ("FE_KA", "Fe_Ka"), ("Fe_Ka1", "Fe_Ka"),
        ("Fe_Kalpha", "Fe_Ka"), ("Fe K-alpha", "Fe_Ka"), ("Fe Kbeta", "Fe_Kb"), ("Fe", "Fe_Ka"), ("Fe_L", "Fe_La"),
        ("Au_M\u03b1", "Au_Ma"), ("Au_L\u03b3", "Au_Lg"), ("Pt_Mz", "Pt_Mz"), ("Si_L\u03b1", "Si_"), ("Fe_Kz", "Fe_Ka"),
        ("Fe (K)", "Fe_Ka"),
    ],
)  # fmt: skip
def test_a_line_as_people_write_it_leads_to_the_line_that_is_meant(typed, meant):
    if typed in lines_of("Pt"):
        assert find_line(typed).name == meant
        return
    with pytest.raises(InputError) as caught:
        find_line(typed)
    offered = re.findall(r"'([^']+)'", str(caught.value).split("did you mean")[1])
    assert any(o.startswith(meant) for o in offered), caught.value
    for name in offered:
        find_line(name)


@pytest.mark.parametrize("typed", ["", "Xx_Ka", "iron", "_Ka", "6.4", "K\u03b1", "Fe_Ka Fe_Kb"])
def test_what_is_no_line_gets_an_example(typed):
    with pytest.raises(InputError, match=r"Fe_Ka|did you mean"):
        find_line(typed)


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (r'"C:\Users\me\Co.tif"', r"single quotes: 'C:\Users\me\Co.tif'"),
        (r'"C:\data\Co.tif"', r"single quotes: 'C:\data\Co.tif'"),
        (r'"C:\temp\new.tif"', r"single quotes: 'C:\temp\new.tif'"),
        (r'"..\maps\Co.tif"', r"single quotes: '..\maps\Co.tif'"),
        (r"'C:\Users\me\Co.tif'", "path of Windows"),
        (r"'\\server\share\Co.tif'", "path of Windows"),
        (r"'maps\Co.tif'", "separated by /"),
        ('"Co?.tif"', "matches no file"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="these are Windows' own paths")
def test_a_path_as_windows_has_it(folder, written, says):
    Path("job.toml").write_text(f"[input]\nmaps = {{ Co = {written} }}\ntilts = 'tilts.rawtlt'\n")
    said = fails(folder, "check", "job.toml")
    assert "job.toml:2" in said
    assert says in said


def test_a_file_that_another_program_holds(folder):
    code = "import h5py, sys; held = h5py.File('Co.emd', 'w'); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        job(co="Co.emd")
        said = fails(folder, "check", "job.toml")
    finally:
        holder.communicate()
    assert "Co.emd is open in another program" in said


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("Unable to synchronously open file (unable to lock file, errno = 11, error message = '...')"), "open"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "open in another program"),
        (OSError(errno.EIO, "Input/output error"), "disk fails"),
        (OSError(errno.ESTALE, "Stale file handle"), "disk fails"),
        (OSError("can't read data (errno = 5, error message = 'Input/output error')"), "disk fails"),
        (ModuleNotFoundError("no module", name="imagecodecs"), "imagecodecs, which is not installed"),
        (ValueError("magic number"), "is damaged"),
    ],
)
def test_why_a_file_cannot_be_read(error, says):
    assert says in str(unreadable("Co.emd", error, "is damaged; copy it again"))


# ---------------------------------------------------------------- values


def test_nan_from_a_shift_is_left_out_as_the_message_says(folder):
    a = np.load("Co.npy").astype(np.float32)
    a[:, :2] = np.nan
    np.save("Co.npy", a)
    job()
    said = fails(folder, "check", "job.toml")
    assert "bad_pixels = 'nan'" in said
    for remedy in ("bad_pixels = 'nan'\n", "bad_pixels = 'bad.npy'\n"):
        np.save("bad.npy", np.isnan(a))
        Path("job.toml").write_text(job().read_text().replace("[align]", remedy + "[align]", 1))
        done = invoke("check", "job.toml")
        assert done.exit_code == 0, done.output
    series = recon.read({"Co": a, "Zn": "Zn.npy"}, "tilts.rawtlt", 5.0, weights="nan")
    assert np.array_equal(series.weights == 0, np.isnan(a))
    assert np.isfinite(series.counts).all()
    assert "12.50% of the pixels left out" in series.history[-1]


def test_values_that_are_left_out_may_be_anything_and_others_not():
    maps = np.ones((3, 5, 6), np.float32)
    maps[1, 2, 3] = np.inf
    weights = np.ones_like(maps)
    with pytest.raises(InputError, match="tilt 2, pixel"):
        TiltSeries.create({"Co": maps}, [0, 10, 20], 1.0, weights=weights)
    weights[1, 2, 3] = 0
    assert TiltSeries.create({"Co": maps}, [0, 10, 20], 1.0, weights=weights).counts[0, 1, 2, 3] == 0
    with pytest.raises(InputError, match="'nan'"):
        TiltSeries.create({"Co": maps}, [0, 10, 20], 1.0, weights="infinite")


def test_negative_counts_say_which_keys_and_these_work(folder):
    a = np.load("Co.npy").astype(np.float32)
    a[0, 0, 0] = -1
    np.save("Co.npy", a)
    job()
    said = fails(folder, "check", "job.toml")
    keys = re.findall(r"(\w+)\.(\w+) = ([\w'-]+)", said)
    assert {(s, k) for s, k, _ in keys} == {("input", "scaled"), ("reconstruct", "data_term")}
    text = job(extra="").read_text() + "".join(f"[{s}]\n{k} = {v}\n" for s, k, v in keys if s != "input")
    Path("job.toml").write_text(text.replace("[input]\n", "[input]\nscaled = true\n"))
    assert load_job("job.toml").reconstruct.data_term == "least-squares"
    assert invoke("check", "job.toml").exit_code == 0


@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_wrong_tilt_axis_is_told_as_the_job_has_it(axis):
    from recon.alignment.doubts import series_axes

    maps = np.random.default_rng(0).poisson(5.0, (3, 6, 8))
    series = recon.read({"Co": maps}, [0, 10, 20], 1.0, tilt_axis=axis)
    assert series.tilt_axis == axis
    assert series_axes(series.evolve("later")) == (axis, "x" if axis == "y" else "y")


# ---------------------------------------------------------------- nothing of a library's


def test_a_fault_of_ours_is_one_line(folder, monkeypatch):
    job()
    monkeypatch.setattr("recon.job.pipeline.read_job", lambda *a, **k: [][1])
    before = contents(folder)
    done = invoke("run", "job.toml")
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    last = done.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("error: job.toml: unexpected IndexError (list index out of range)")
    assert "RECON_DEBUG=1" in last
    assert contents(folder) == before
    monkeypatch.setenv("RECON_DEBUG", "1")
    assert isinstance(invoke("run", "job.toml").exception, IndexError)


def test_warnings_of_libraries_stay_off_the_terminal(folder, monkeypatch, capfd):
    import warnings

    def noisy(*args, **kwargs):
        warnings.warn("invalid value encountered in divide", RuntimeWarning, stacklevel=1)
        raise InputError("that is all")

    job()
    monkeypatch.setattr("recon.job.pipeline.read_job", noisy)
    assert fails(folder, "run", "job.toml") == "job.toml: that is all"
    assert "divide" not in "".join(capfd.readouterr())


def test_tracebacks_of_a_librarys_tasks_stay_off_the_terminal(tmp_path):
    """zarr's reading of a damaged .zspy leaves tasks behind, which Python tells of when it throws them away."""
    code = (
        "import asyncio, gc\nfrom recon.cli import foreign_warnings\n"
        "async def fail():\n    raise ValueError('zarr')\n"
        "async def begin():\n    asyncio.ensure_future(fail())\n    await asyncio.sleep(0.01)\n"
        "with foreign_warnings():\n    asyncio.run(begin())\ngc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


def test_a_spectrum_image_named_as_a_map_is_sent_to_spectra(tmp_path):
    (tmp_path / "Fe.bcf").write_bytes(b"AAMVHFSS")
    with pytest.raises(InputError, match=r"spectrum images go into \[input\] spectra"):
        recon.read(tmp_path / "Fe.bcf", [-10, 0, 10], 1.0)
