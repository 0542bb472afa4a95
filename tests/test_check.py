"""`recon check` refuses what `recon run` would refuse, before anything is aligned, and forecasts all of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import fails, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks

from recon.job.duration import Duration, duration
from recon.job.file import Job, load_job
from recon.job.inputs import read_job
from recon.job.resources import plan
from recon.simulate import simulate, two_metal_particle

QUICK = '[align]\nmethod = "none"\n[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'


def zero(name):
    np.save(name, np.load(name) * 0 + 1)


WRONG = {
    "poisson of scaled maps": ("scaled = true\n", "least-squares"),
    "poisson of resampled maps": ("[align]\nresample = true\n", "least-squares"),
    "a background above the counts": ("background = 1e6\n", "background of Co is 1e+06"),
    "too many tilts left out": ("leave_out = [-70, -60, -50, -40, -30, -20, -10, 0, 10, 20, 30, 40, 50]\n", "2 of 15"),
    "exposures of another series": ("[normalise]\nexposures = [1, 2, 3]\n", "3 exposures were given"),
    "an exposure of zero": (f"[normalise]\nexposures = {[1.0] * 14 + [0.0]}\n", "it must be positive"),
    "an alignment of other tilts": ("[align]\nfile = 'short.xf'\n", "short.xf aligns 14 tilts"),
    "a volume too thick": ("[reconstruct]\nthickness = 100\n", "thickness is 100"),
    "a reference that is not there": ("[align]\nreference = ['Fe']\n", "'Fe' is not in input.maps"),
    "bad pixels of another frame": ("bad_pixels = 'short.npy'\n", "bad pixels have shape (1, 3, 3)"),
    "a strength for one element only": ("[reconstruct]\nstrength = { Co = 1 }\n", "no value for element 'Zn'"),
    "tilts left out but four degrees": (
        "leave_out = { number = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15] }\n",
        "span 0.4 degrees",
    ),
    "a region beside the volume": ("[regions]\nneck = { centre = [99, 8, 8], radius = 2 }\n", "'neck' holds no voxel"),
    "a region of nothing": ("[regions]\nneck = { centre = [8, 8, 8], radius = 0.1 }\n", "'neck' holds no voxel"),
    "two regions in one place": (
        "[regions]\na = { centre = [8, 8, 8], radius = 3 }\nb = { centre = [8, 8, 9], radius = 3 }\n",
        "'a' and 'b' overlap",
    ),
    "a region of another volume": ("[regions]\nneck = 'other.tif'\n", "has shape (5, 6, 7), the volume (16, 16, 16)"),
    "regions of a baseline": (
        "[reconstruct]\nmethod = 'sirt'\n[regions]\na = { centre = [8, 8, 8], radius = 3 }\n",
        "method is 'sirt'",
    ),
    "an alignment that is no JSON": ("[align]\nfile = 'bad.json'\n", "bad.json"),
    "a name of a result": ("[output]\nformats = ['tif']\n", "did you mean 'tiff'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_and_run_refuse_alike_and_before_aligning(folder, monkeypatch, case):
    extra, words = WRONG[case]
    Path("short.xf").write_text("1 0 0 1 0 0\n" * 14)
    Path("bad.json").write_text('{"shifts": 3')
    Path("near.rawtlt").write_text("\n".join(str(0.2 * i if 7 <= i < 10 else 10 * i - 70) for i in range(15)))
    np.save("short.npy", np.zeros((3, 3)))
    tifffile.imwrite("other.tif", np.ones((5, 6, 7), np.uint8))
    text = job(extra=extra).read_text()
    if "[regions]" in extra:
        text = text.replace('regions = "none"\n', "")
    Path("job.toml").write_text(text.replace("tilts.rawtlt", "near.rawtlt") if "four degrees" in case else text)
    told = fails(folder, "check", "job.toml")
    assert words in told
    monkeypatch.setattr("recon.job.stages.align", lambda *a, **k: pytest.fail("it began to align"))
    assert fails(folder, "run", "job.toml") == told


def test_check_shows_what_the_run_will_find_of_exposures_and_object(folder):
    job(extra=QUICK)
    seen = invoke("check", "job.toml")
    assert seen.exit_code == 0, seen.output
    ran = invoke("run", "job.toml")
    assert ran.exit_code == 0, ran.output
    line = next(x for x in seen.output.splitlines() if x.startswith("normalise: "))
    assert line in ran.output
    report = (folder / "job-recon" / "job.json").read_text()
    assert line.split(";")[0] in report


def test_check_tells_of_a_folder_in_the_way(folder):
    job(extra=QUICK)
    Path("job-recon").mkdir()
    (folder / "job-recon" / "job.json").write_text("{}")
    assert "note: " in invoke("check", "job.toml").output
    (folder / "job-recon" / "job.json").rename(folder / "job-recon" / "thesis.txt")
    done = invoke("check", "job.toml")
    assert done.exit_code == 2
    assert "not a result of recon" in done.stderr


@pytest.mark.parametrize(
    ("files", "tilts", "words"),
    [(16, "[-10, 0, 10]", "3 tilts were given for 16 spectrum images"), (2, "[-10, 0, 10]", "are 2 spectrum images"),
     (3, "[-10, 0, 0.0001]", "have the same tilt")],
)  # fmt: skip
def test_tilts_that_do_not_fit_are_told_before_spectra_are_read(folder, monkeypatch, files, tilts, words):
    for i in range(files):
        (folder / f"map{i:02d}.bcf").write_bytes(b"not to be read")
    text = f"[input]\nspectra = 'map*.bcf'\nlines = ['Fe_Ka']\ntilts = {tilts}\n"
    Path("job.toml").write_text(text)
    monkeypatch.setattr("recon.eds.maps.Apart", lambda *a, **k: pytest.fail("it began to read"))
    assert words in fails(folder, "check", "job.toml")


@pytest.mark.parametrize("command", ["check", "run"])
def test_tilts_that_remain_close_together_are_told(folder, command):
    left_out = [float(t) for t in np.loadtxt("tilts.rawtlt") if abs(t) > 9]
    for name in ("Co", "Zn"):  # five more maps within four degrees
        counts = np.load(f"{name}.npy")
        np.save(f"{name}.npy", np.concatenate([counts, counts[:4]]))
    np.savetxt("tilts.rawtlt", [*np.loadtxt("tilts.rawtlt"), -4, -3, 3, 4])
    job(extra=f"leave_out = {left_out}\n{QUICK}")
    done = invoke(command, "job.toml")
    assert done.exit_code == 0, done.output
    assert "warning: without the tilts left out, tilts span 8 degrees only" in done.output


# ---------------------------------------------------------------- the forecast


def of(size=64, tilts=15, elements=2, device="cpu", cores=1, **changes):
    made = Job.model_construct()
    how = made.reconstruct.model_copy(update=changes)
    return duration(
        (size,) * 3, tilts, (size, size), elements, made.model_copy(update={"reconstruct": how}), device, cores
    )


def test_the_forecast_counts_tilts_alignment_search_and_elements():
    plain = of()
    assert plain.total == pytest.approx(
        plain.reading + plain.alignment + plain.search + plain.reconstruction + plain.uncertainty + plain.regions
        + plain.halves + plain.output
    )  # fmt: skip
    assert of(tilts=71).reconstruction > 2 * plain.reconstruction
    assert of(tilts=71).alignment > 3 * plain.alignment
    assert of(elements=1).search == pytest.approx(plain.search / 2)
    assert of(strength=0.5).search == 0
    assert of(strength={"Co": 0.5}).search == pytest.approx(plain.search / 2)
    assert of(halves=False).halves == 0
    assert 0.1 < plain.halves / (plain.reconstruction + plain.search) < 0.7
    assert of(uncertainty=20).uncertainty == pytest.approx(20 * plain.reconstruction)
    assert of(method="sirt", max_iterations=30).total < plain.total / 2
    assert plain.regions > plain.reconstruction  # ten simulated recordings of each element
    assert of(elements=1).regions == of(method="sirt").regions == 0  # nothing to reach into; no answers from SIRT
    assert of(size=128).reconstruction > 6 * plain.reconstruction
    assert of(cores=4).reconstruction < plain.reconstruction
    assert of(device="cuda").reconstruction < plain.reconstruction


def test_no_alignment_is_no_time(folder):
    found = of().alignment
    made = load_job(job(extra='[align]\nmethod = "none"\n'))
    assert duration((64,) * 3, 15, (64, 64), 2, made, "cpu", 1).alignment < found / 10


def test_an_object_that_leaves_the_frame_takes_longer_to_align(folder):
    """Models of several thicknesses are tried."""
    made = load_job(job())
    made = made.model_copy(update={"align": made.align.model_copy(update={"method": "auto"})})
    series, _ = simulate(two_metal_particle(0), size=32, tilts_deg=np.arange(-60.0, 61, 20), dose=200, seed=0)
    cut = series.evolve(counts=series.counts[..., series.frame[1] // 2 :])
    whole, part = (plan(made, s, "cpu").duration.alignment for s in (series, cut))
    assert part > whole


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "about 1 s"), (40, "about 41 s"), (600, "about 10 min"), (7200, "about 2.0 h")]
)
def test_time_in_words(seconds, words):
    assert str(Duration(0.1, 0.2, 0.3, seconds, 0.0, 0.0, 0.0, 0.2)).startswith(words)


def test_what_reading_took_is_in_the_forecast(folder):
    """`check` has just read the same files as the run will; spectra take longer than anything that sizes could tell."""
    made = load_job(job())
    series = read_job(made)
    guessed, known = plan(made, series, "cpu"), plan(made, series, "cpu", reading=100.0)
    assert known.seconds - guessed.seconds == pytest.approx(100, abs=1)
    assert "reading 100 s" in str(known.duration) or "reading 2 min" in str(known.duration)
