"""The bootstrap against linear theory, against tightly converged replicates, and through the whole job."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numba
import numpy as np
import pytest
import reference
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.cli import cli
from recon.errors import InputError, JobError, SuspendedError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io import read_volume
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.interrupts import Interrupts
from recon.job.schedule import Schedule
from recon.operators import make_projector
from recon.reconstruction.reconstruct import reconstruct
from recon.reconstruction.uncertainty import Uncertainty, _Model, _Sums, uncertainty
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle, simulate
from recon.solvers.data_terms import LeastSquares, Poisson
from recon.solvers.pdhg import PrimalDual

f32 = np.float32
STRENGTH = 1.0  # about what these doses ask for; finding it takes as long as all else together


@pytest.fixture(autouse=True)
def one_thread():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def known(size=16, dose=40.0, seed=0):
    """A simulated series with the true alignment, exposures and background."""
    series, truth = simulate(size=size, dose=dose, seed=seed, drift=1)
    unit = float(truth.exposures.mean())
    exposures = np.broadcast_to(truth.exposures / unit, series.exposures.shape).copy()
    return series.evolve(
        alignment=truth.alignment, exposures=exposures, background=exposures * unit * truth.background, isolated=True
    )


def one_element(series, element="Co"):
    """The series of one of its elements."""
    e = series.index(element)
    return dataclasses.replace(
        series, elements=(element,), counts=series.counts[e : e + 1], exposures=series.exposures[e : e + 1],
        background=series.background[e : e + 1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def solved():
    """One element and its volume, to a loose gap."""
    series = one_element(known())
    return series, reconstruct(series, strength=STRENGTH, tolerance=0.05, device="cpu")


# ---------------------------------------------------------------- the pieces


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.floats(0, 1e3), st.integers(0, 100))
def test_sums_are_mean_and_standard_deviation(n, level, seed):
    drawn = (np.random.default_rng(seed).normal(size=(n, 2, 3, 4)) + level).astype(f32)
    sums = _Sums((2, 3, 4))
    for values in drawn:
        sums.add(values, 1, True, {"mean": float(values.mean())})
    assert np.allclose(sums.mean, drawn.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert np.allclose(sums.sd(), drawn.astype(float).std(axis=0, ddof=1), rtol=1e-3, atol=1e-6 * level + 1e-6)
    assert np.allclose(sums.table()["mean"], drawn.mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("term", [Poisson, LeastSquares])
def test_derivative_of_a_data_term(term):
    """Against a difference quotient of its value."""
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    scale = rng.uniform(0.5, 1.5, shape) * (rng.uniform(size=shape) > 0.2)
    counts = rng.poisson(4.0, shape) * (scale > 0)
    arrays = [a.astype(f32) for a in (counts, scale, 0.3 * (scale > 0))]
    data = term(*arrays, **({"weight": rng.uniform(0.5, 2, shape).astype(f32)} if term is LeastSquares else {}))
    projection = rng.uniform(1, 5, shape).astype(f32)
    found = data.derivative(projection)
    for _ in range(5):
        direction = rng.normal(size=shape).astype(f32)
        h = 1e-2
        slope = (data.value(projection + f32(h) * direction) - data.value(projection - f32(h) * direction)) / (2 * h)
        assert np.isclose(np.sum(found * scale * direction), slope, rtol=1e-3, atol=1e-3)


def test_an_interval_holds_as_often_as_it_says():
    """Figures drawn from a normal distribution; 5000 trials, so 68 % +- 0.7 %."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(5000):
        value, drawn = rng.normal(), rng.normal(size=6)  # the replicates' own level does not matter
        u = Uncertainty("Co", np.zeros((1, 1, 1), f32), 1.0, 6, {"x": drawn + 3}, 0, "poisson", 6, (1,) * 6)
        interval = u.interval("x", value)
        hits += interval.low <= 0 <= interval.high
    assert abs(hits / 5000 - 0.68) < 0.02


@pytest.mark.parametrize("scaled", [False, True])
def test_replicates_have_the_noise_of_the_model(scaled):
    series = one_element(known())
    weights = np.ones(series.counts.shape[1:], f32)
    weights[:, :, 8:] = 0.5
    weights[3, 4:6] = 0
    series = series.evolve(weights=weights, scaled=scaled)
    term = "least-squares" if scaled else "poisson"
    volumes = reconstruct(series, data_term=term, strength=STRENGTH, max_iterations=50, device="cpu")
    model = _Model.of(series, volumes["Co"], "cpu")
    rng = np.random.default_rng(0)
    drawn = np.array([model.draw(rng).counts for _ in range(400)], float)
    mean = model.expected.astype(float)
    part = np.swapaxes(weights, 1, 2)
    used = model.data.scale > 0
    assert not used[part == 0].any()
    assert not drawn[:, ~used].any()
    variance = np.where(used, 1 / np.where(used, model.data.weight, 1), 0) if scaled else part * mean
    some = used & (variance > 0.2)
    assert some.sum() > 500
    z = (drawn.mean(axis=0) - mean)[some] / np.sqrt(variance[some] / 400)
    assert abs(z.mean()) < 0.2
    assert 0.9 < z.std() < 1.1
    assert abs((drawn.var(axis=0)[some] / variance[some]).mean() - 1) < 0.03


# ---------------------------------------------------------------- is it the right spread?


def test_spread_is_that_of_linear_theory():
    """Least squares without a regulariser, u far from zero: the covariance is ``(A^T W A)^-1``."""
    tilts = np.arange(-80, 81, 20.0)
    ny, n = 4, 4
    operator = make_projector(TiltGeometry.single_axis(tilts, (ny, n), (n, ny, n)), np.empty(0, f32))
    rng = np.random.default_rng(1)
    u = np.full(operator.domain_shape, 100, f32)  # even, as the noise is estimated from differences of pixels
    clean = operator(u, np.empty(operator.range_shape, f32))
    counts = np.swapaxes(rng.normal(clean, 1.0), 1, 2)
    series = TiltSeries.create({"Co": counts}, tilts, 1.0, scaled=True).evolve(isolated=True)
    volumes = reconstruct(series, "none", data_term="least-squares", tolerance=1e-4, device="cpu")
    found = uncertainty(series, volumes, 16, tolerance=0.03, device="cpu")["Co"]
    assert found.noise == "gaussian"
    model = _Model.of(series, volumes["Co"], "cpu")
    out = np.empty(operator.range_shape, f32)
    matrix = reference.matrix(lambda x: operator(x.astype(f32), out).astype(float), operator.domain_shape)
    weight = np.asarray(model.data.weight, float).ravel()
    covariance = np.linalg.inv(matrix.T @ (weight[:, None] * matrix))

    def volume(a):
        return a.reshape(operator.domain_shape).swapaxes(1, 2)

    # the minimiser is a matrix times the data: the same draws, solved exactly
    draws = [np.asarray(model.draw(np.random.default_rng([0, 0, r])).counts, float).ravel() for r in range(16)]
    exact = np.std([covariance @ matrix.T @ (weight * d) for d in draws], axis=0, ddof=1)
    assert abs(np.mean(found.sd / volume(exact)) - 1) < 0.06  # measured: 0.03
    expected = volume(np.sqrt(np.diag(covariance)))
    assert (volumes["Co"].values > 5 * expected).all()
    assert abs(np.mean(found.sd / expected) - 1) < 0.15
    assert np.abs(found.sd / expected - 1).max() < 0.6  # one from 16 replicates is right to 18 %


@pytest.mark.parametrize("dose", [20.0])
def test_warm_started_replicates_have_developed(dose):
    """The same draws, solved cold and to a gap of 5e-4, spread as much: a replicate does not stop near its start."""
    series = one_element(known(dose=dose))
    volumes = reconstruct(series, strength=STRENGTH, device="cpu")
    found = uncertainty(
        series, volumes, 4, device="cpu", figures=lambda e, v: {"corner": float(v[6:9, 6:9, 6:9].mean())}
    )
    model = _Model.of(series, volumes["Co"], "cpu")
    tight = []
    for r in range(4):
        data = model.draw(np.random.default_rng([0, 0, r]))
        options = {"a1": model.parameters.a1, "a0": model.parameters.a0, "regulariser": model.settings.method}
        tight.append(PrimalDual(model.operator, data, **options).run(5e-4, 5000).value.swapaxes(1, 2).copy())
    sd = np.std(tight, axis=0, ddof=1)
    assert np.linalg.norm(found["Co"].sd - sd) < 0.08 * np.linalg.norm(sd)
    assert abs(np.linalg.norm(found["Co"].sd) / np.linalg.norm(sd) - 1) < 0.03
    corner = [float(v[6:9, 6:9, 6:9].mean()) for v in tight]
    assert np.allclose(found["Co"].figures["corner"], corner, atol=0.15 * np.std(corner))


def test_the_same_seed_gives_the_same(solved):
    series, volumes = solved
    first, again = (uncertainty(series, volumes, 3, device="cpu")["Co"] for _ in range(2))
    other = uncertainty(series, volumes, 3, seed=1, device="cpu")["Co"]
    assert np.array_equal(first.sd, again.sd)
    assert not np.array_equal(first.sd, other.sd)


def test_an_object_that_leaves_the_frame():
    """The volume that was solved for is wider than the result; the part outside belongs to the model."""
    series = one_element(known()).evolve(isolated=False)
    volumes = reconstruct(series, strength=STRENGTH, tolerance=0.05, device="cpu")
    model = _Model.of(series, volumes["Co"], "cpu")
    assert model.u.shape[1] > volumes["Co"].values.shape[2]
    my, mx = model.where.margin
    cut = model.u.swapaxes(1, 2)[:, my : model.u.shape[2] - my, mx : model.u.shape[1] - mx]
    assert np.array_equal(cut, volumes["Co"].values)
    assert uncertainty(series, volumes, 2, device="cpu")["Co"].sd.shape == volumes["Co"].values.shape


def test_the_pull_is_that_of_the_truth():
    """The regulariser fills a hole: by how much is known here, and found from the maps alone."""
    hole = Ellipsoid((0, 0, -0.15), (0.14, 0.14, 0.14), (0.0,))
    particle = Particle(("A",), (Ellipsoid((0, 0, 0), (0.4, 0.4, 0.4), (1.0,)), hole), {})
    series, truth = simulate(particle, size=16, dose=60, drift=0, rotation_deg=0, axis_offset=0, seed=1)
    exposures = truth.exposures[None]
    series = series.evolve(exposures=exposures, background=exposures * truth.background, isolated=True)
    volumes = reconstruct(series, strength=1.0, device="cpu")
    found = uncertainty(series, volumes, 2, device="cpu")["A"]
    off, top = volumes["A"].values - truth.volumes["A"], float(truth.volumes["A"].max())
    there = (slice(7, 9), slice(7, 9), slice(4, 7))
    assert off[there].mean() > 0.4 * top
    assert found.pull[there].mean() == pytest.approx(off[there].mean(), rel=0.35)
    assert np.corrcoef(found.pull.ravel(), off.ravel())[0, 1] > 0.4
    np.testing.assert_allclose(found.error.values, np.hypot(found.sd, found.pull), rtol=1e-5)
    assert not found.within(np.zeros(off.shape, bool)).error.values.any()


# ---------------------------------------------------------------- stop and go on


def test_stopped_between_or_within_replicates_and_resumed(tmp_path, solved):
    series, volumes = solved
    expected = uncertainty(series, volumes, 4, figures=lambda e, v: {"sum": float(v.sum())}, device="cpu")["Co"]

    def checkpoints(interrupts):
        out = Checkpoints(tmp_path / "out", Identity({}, {}), interrupts=interrupts)
        out.schedule = Schedule(lambda: 1e9, share=1e9, shortest=0.0)
        return out

    for wish, after in (("leave", "Co replicate 2"), ("keep", "Co replicate 3"), (None, "")):
        interrupts = Interrupts()

        def progress(name, record, interrupts=interrupts, wish=wish, after=after):
            if name == after:
                interrupts.wish, interrupts.cause = wish, "SIGTERM"

        def run(progress=progress, interrupts=interrupts):
            return uncertainty(
                series, volumes, 4, figures=lambda e, v: {"sum": float(v.sum())}, device="cpu", progress=progress,
                checkpoints=checkpoints(interrupts),
            )  # fmt: skip

        if wish == "leave":
            with pytest.raises(SuspendedError):
                run()
        elif wish == "keep":
            found = run()["Co"]
            assert (found.replicates, found.asked) == (2, 4)
            assert np.array_equal(found.figures["sum"], expected.figures["sum"][:2])
        else:
            found = run()["Co"]
            assert np.array_equal(found.sd, expected.sd)
            assert np.array_equal(found.figures["sum"], expected.figures["sum"])
            assert found.iterations == expected.iterations


# ---------------------------------------------------------------- whole jobs

JOB = """regions = "none"
[input]
maps = { Co = "Co.npy", Zn = "Zn.npy" }
tilts = "tilts.rawtlt"
pixel_size_nm = 5.0
[align]
method = "none"
[reconstruct]
strength = 1.0
tolerance = 0.05
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    series, _ = simulate(size=16, seed=0, drift=0, rotation_deg=0, axis_offset=0)
    for name, counts in zip(series.elements, series.counts, strict=True):
        np.save(tmp_path / f"{name}.npy", counts)
    np.savetxt(tmp_path / "tilts.rawtlt", series.tilts_deg)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(text):
    Path("job.toml").write_text(text)
    return CliRunner().invoke(cli, ["run", "job.toml"])


def test_a_job_writes_uncertainties(folder):
    done = run(JOB + "uncertainty = 3\n[mask]\napply = true\n")
    assert done.exit_code == 0, done.output
    out = folder / "job-recon"
    inside = read_volume(out / "mask.tif")[0] > 0
    record = json.loads((out / "job.json").read_text())
    for element in ("Co", "Zn"):
        sd, voxel = read_volume(out / f"{element}-uncertainty.tif")
        assert voxel == pytest.approx(5.0)
        assert sd.dtype == f32
        assert not sd[~inside].any()
        assert (sd[inside] >= 0).all()
        assert sd[inside].max() > 0
        error = read_volume(out / f"{element}-error.tif")[0]
        assert (error >= sd - 1e-6).all()
        assert not error[~inside].any()
        found = record["analysis"]["uncertainty"][element]
        assert found["replicates"] == found["asked"] == 3
        assert found["seed"] == 0
        assert len(found["drawn"]["total"]) == 3
        interval = found["intervals"]["total"]
        assert interval["low"] < record["analysis"]["elements"][element]["total"] < interval["high"]
    page = (out / "report.html").read_text()
    assert "<h3>Repeatability</h3>" in page
    for words in ("smoothing by the regulariser", "missing wedge", "alignment, exposure and background"):
        assert words in page
    assert CliRunner().invoke(cli, ["report", str(out)]).exit_code == 0


def test_scaled_maps_get_gaussian_noise(folder):
    text = JOB.replace("[align]", "scaled = true\n[align]") + 'data_term = "least-squares"\nuncertainty = 2\n'
    assert run(text).exit_code == 0
    record = json.loads((folder / "job-recon" / "job.json").read_text())
    assert record["analysis"]["uncertainty"]["Co"]["noise"] == "gaussian"
    assert "Gaussian noise" in (folder / "job-recon" / "report.html").read_text()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("uncertainty = 1", "is 1; it must be 0 (none), or 2 to 10000 replicates"),
        ("uncertainty = -3", "is -3; it must be"),
        ("uncertainty = 2.5", "must be a whole number of replicates"),
        ("uncertainty = true", "must be a whole number of replicates"),
        ('method = "sirt"\nuncertainty = 20', "reconstruct.method is 'sirt'; use tgv, tv or none"),
    ],
)
def test_wrong_input(folder, extra, words):
    done = run(JOB + extra + "\n")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "reconstruct.uncertainty" in done.stderr


def test_volumes_that_will_not_do():
    series = one_element(known())
    with pytest.raises(InputError, match="was not made by reconstruct with one of tgv, tv, none"):
        uncertainty(series, reconstruct(series, "sirt", max_iterations=2, device="cpu"))
    volumes = reconstruct(series, strength=STRENGTH, max_iterations=2, device="cpu")
    with pytest.raises(JobError, match="at least 2 replicates"):
        uncertainty(series, volumes, 1)
    with pytest.raises(InputError, match=r"has shape \(16, 16, 16\), the series gives \(24, 24, 24\)"):
        uncertainty(one_element(known(24)), volumes)
