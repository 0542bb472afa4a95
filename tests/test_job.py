"""Job files: what they give."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_text import INPUT, load, message, run
from job_text import folder as folder  # a fixture

import recon.io
from recon.errors import JobError
from recon.job.file import PRESETS, load_job, values


def test_the_shortest_job_takes_the_defaults_of_the_design(folder):
    job = load(INPUT)
    assert job.path == folder / "job.toml"
    assert job.output_dir == folder / "job-recon"
    assert job.preset is None
    assert job.elements == ("Co", "Zn")
    assert job.input.maps == {"Co": folder / "Co.tif", "Zn": folder / "maps" / "Zn.mrc"}
    assert job.input.tilts == folder / "tilts.rawtlt"
    assert (job.input.pixel_size_nm, job.input.tilt_axis) == (None, "y")
    assert (job.input.background, job.input.scaled) == ("auto", False)
    assert (job.normalise.method, job.align.method, job.align.file) == ("auto", "auto", None)
    assert (job.align.reference, job.align.resample) == (("Co", "Zn"), False)
    r = job.reconstruct
    assert (r.method, r.data_term, r.strength) == ("tgv", "poisson", "auto")
    assert (r.tolerance, r.max_iterations, r.projector, r.thickness) == (1e-2, 5000, "auto", "auto")
    assert (job.mask.method, job.mask.apply) == ("auto", False)
    assert job.output.formats == ("tiff",)


def test_every_key(folder):
    job = load(
        'preset = "longley2018"\n'
        + INPUT
        + 'pixel_size_nm = 5\ntilt_axis = "x"\nbackground = { Co = 0.5, Zn = 0 }\nscaled = true\n'
        '[normalise]\nmethod = "none"\n'
        '[align]\nmethod = "auto"\nreference = ["Zn"]\nfile = "alignment.json"\nresample = false\n'
        '[reconstruct]\nmethod = "tv"\ndata_term = "least-squares"\nstrength = { Co = 1, Zn = 2.5 }\ntolerance = 1e-3\n'
        'max_iterations = 1_000_000\nprojector = "native"\nthickness = 40\n'
        '[mask]\nmethod = "none"\napply = false\n'
        '[output]\nformats = ["tiff", "mrc", "tiff"]\n'
    )
    assert job.input.pixel_size_nm == 5.0
    assert job.input.background == {"Co": 0.5, "Zn": 0.0}
    assert job.input.scaled
    assert job.normalise.method == "none"
    assert (job.align.method, job.align.reference, job.align.resample) == ("auto", ("Zn",), False)
    assert job.align.file == folder / "alignment.json"
    assert (job.reconstruct.method, job.reconstruct.data_term) == ("tv", "least-squares")
    assert job.reconstruct.strength == {"Co": 1.0, "Zn": 2.5}
    assert (job.reconstruct.max_iterations, job.reconstruct.thickness) == (1_000_000, 40)
    assert (job.mask.method, job.mask.apply) == ("none", False)
    assert job.output.formats == ("tiff", "mrc")


def test_the_preset_and_what_wins_over_it(folder):
    job = load('preset = "longley2018"\n' + INPUT)
    assert job.normalise.method == "constant-total"
    assert (job.align.method, job.align.resample) == ("cross-correlation", True)
    assert (job.reconstruct.method, job.reconstruct.data_term) == ("tgv", "least-squares")
    assert job.mask.apply
    assert job.align.reference == ("Co", "Zn")
    for section, keys in PRESETS["longley2018"].items():
        for key in keys:
            other = {"method": '"none"', "resample": "false", "data_term": '"poisson"', "apply": "false"}[key]
            text = f'preset = "longley2018"\n{INPUT}[{section}]\n{key} = {other}\n'
            if key == "data_term":  # maps that are interpolated are no counts
                assert "align.resample is true" in message(text)
                continue
            changed = load(text)
            assert changed.resolved()[section][key] == tomllib.loads(f"x = {other}")["x"]
            for name, rest in PRESETS["longley2018"].items():
                for k, v in rest.items():
                    assert (name, k) == (section, key) or changed.resolved()[name][k] == v


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[-10, 0, 10.5]", (-10.0, 0.0, 10.5)),
        ("{ start = -70, stop = 70, step = 10 }", {"start": -70.0, "stop": 70.0, "step": 10.0}),
    ],
)
def test_tilts_in_the_file(folder, text, expected):
    assert load(f'[input]\nmaps.Co = "Co.tif"\ntilts = {text}\n').input.tilts == expected


def test_paths_start_at_the_job_file(folder, tmp_path_factory, monkeypatch):
    load(INPUT)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    job = load_job(folder / "job.toml")
    assert job.input.maps["Co"] == folder / "Co.tif"
    monkeypatch.chdir(folder / "maps")
    assert load_job("../job.toml").path == folder / "job.toml"
    monkeypatch.setenv("HOME", str(folder))
    (folder / "home.toml").write_text('[input]\nmaps.Co = "~/Co.tif"\ntilts = [1, 20, 40]\n')
    assert load_job("~/home.toml").input.maps["Co"] == folder / "Co.tif"


def test_resolved_is_plain_and_can_be_run_again(folder):
    job = load(INPUT + 'background = { Co = 1, Zn = 2 }\n[align]\nfile = "alignment.json"\n')
    plain = job.resolved()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["job_file"] == "job.toml"
    assert plain["input"]["maps"] == {"Co": "Co.tif", "Zn": "maps/Zn.mrc"}
    assert plain["input"]["background"] == {"Co": 1.0, "Zn": 2.0}
    assert plain["align"]["file"] == "alignment.json"
    assert str(folder) not in json.dumps(plain)


def test_a_job_cannot_be_changed(folder):
    with pytest.raises(ValueError):
        load(INPUT).reconstruct.method = "tv"  # type: ignore[misc]


def test_windows_line_ends_and_marks(folder):
    Path("job.toml").write_bytes(b"\xef\xbb\xbf" + INPUT.replace("\n", "\r\n").encode())
    assert load_job("job.toml").elements == ("Co", "Zn")
    assert message("# a\r\n" + INPUT.replace("\n", "\r\n") + "[mask]\r\naply = true").startswith(
        "job.toml:6: mask.aply:"
    )


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(["strength", "tolerance", "max_iterations", "data_term", "projector", "thickness", "method"]),
    at=st.integers(0, 20),
    letter=st.sampled_from("aeioust_"),
    before=st.lists(
        st.sampled_from(
            [
                "",
                "# [reconstruct]",
                "thickness = 3",
                'data_term = "poisson"',
                'projector = """\\\n  auto\\\n  """',
            ]
        ),
        unique=True,
        max_size=4,
    ),
)
def test_a_slip_of_one_letter_is_found_on_its_line(tmp_path_factory, key, at, letter, before):
    """The line number is that of the text, whatever stands before it."""
    folder = tmp_path_factory.mktemp("slip")
    for name in ("Co.tif", "tilts.rawtlt"):
        (folder / name).touch()
    slip = key[: at % len(key)] + letter + key[at % len(key) :]
    text = "\n".join(['[input]\nmaps.Co = "Co.tif"\ntilts = "tilts.rawtlt"\n[mask]\n[reconstruct]', *before])
    number = text.count("\n") + 2
    (folder / "job.toml").write_text(f"{text}\n{slip} = 1\n[align]\n")
    with pytest.raises(JobError) as caught:
        load_job(folder / "job.toml")
    assert str(caught.value) == (
        f"{folder / 'job.toml'}:{number}: reconstruct.{slip}: unknown key; did you mean '{key}'?"
    )


def test_it_imports_neither_numpy_nor_anything_heavier():
    code = (
        "import sys, recon.job\nprint([m for m in ('numpy', 'scipy', 'tifffile', 'cupy', 'numba') if m in sys.modules])"
    )
    assert run(code) == "[]\n"


def test_the_formats_are_those_that_can_be_written():
    """Named twice, since a job file is read without NumPy."""
    assert set(values.FORMATS) == set(recon.io.FORMATS)
