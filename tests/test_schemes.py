"""Schemes of more than one axis through the pipeline: series, grids, reconstruction, jobs, checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

import recon
from recon.errors import InputError, JobError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.alignment import alignment_record, load_vectors
from recon.job.checkpoint import Checkpoints, Identity
from recon.job.file import load_job
from recon.job.inputs import read_job
from recon.job.pipeline import process, run_job
from recon.job.resources import describe, plan
from recon.model.grid import grid
from recon.operators import make_projector
from recon.operators.composed import scratch_words
from recon.series.binning import binned
from recon.series.tilt_series import TiltSeries, nominal_tilts
from recon.simulate import simulate

N = 20
TILTS = np.arange(-66.0, 67, 22)
DUAL = TiltGeometry.dual_axis(TILTS, detector=(N, N))
CONE = TiltGeometry.conical(55, np.arange(0, 360, 40.0), detector=(N, N))


def known(series, truth):
    """The series with its true alignment, exposures and background."""
    shape = len(series.elements), 1
    return series.evolve(
        alignment=truth.alignment,
        exposures=np.tile(truth.exposures, shape),
        background=np.tile(truth.exposures * truth.background, shape),
        isolated=True,
    )


def made(geometry, **how):
    return simulate(size=N, geometry=geometry, samples=2, **how)


def error(volumes, truth):
    return {
        e: np.linalg.norm(v.values - truth.volumes[e]) / np.linalg.norm(truth.volumes[e]) for e, v in volumes.items()
    }


# ---------------------------------------------------------------- the series


def test_a_series_carries_its_geometry():
    series, _ = made(DUAL)
    assert series.scheme == DUAL
    assert series.geometry == DUAL
    assert np.allclose(series.tilts_deg, np.concatenate([TILTS, TILTS]))
    assert "14 beams" in repr(series)
    single = TiltSeries.create({"A": np.ones((7, N, N))}, TiltGeometry.single_axis(TILTS, (N, N)), 1.0)
    assert single.scheme is None
    assert np.allclose(single.tilts_deg, TILTS)
    assert np.allclose(nominal_tilts(CONE), np.where(nominal_tilts(CONE) < 0, -55, 55))


def test_read_takes_a_geometry_or_what_makes_one():
    maps = {"A": np.ones((14, N, N), np.float32)}
    made_of_frame = recon.read(
        maps, pixel_size_nm=1, geometry=lambda frame: TiltGeometry.dual_axis(TILTS, detector=frame)
    )
    assert made_of_frame.scheme == recon.read(maps, pixel_size_nm=1, geometry=DUAL).scheme == DUAL


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"tilts": TILTS, "geometry": DUAL}, "both tilts and a geometry"),
        ({"geometry": DUAL[:5]}, "14 maps but 5 tilts"),
        ({"geometry": TiltGeometry.dual_axis(TILTS, detector=(N, N + 1))}, r"detector of \(20, 21\) pixels"),
    ],
)
def test_a_geometry_that_does_not_fit_the_maps_is_refused(how, message):
    with pytest.raises(InputError, match=message):
        recon.read({"A": np.ones((14, N, N), np.float32)}, pixel_size_nm=1, **how)


def test_binned_maps_are_projections_of_the_binned_volume():
    """Where the lattice of the finer ones is exact, summed pixels of a smooth object agree with larger ones."""
    series, truth = made(DUAL, dose=1e6, drift=2, rotation_deg=1, axis_offset=0.5)
    series = known(series, truth)
    small, bins = binned(series, 2)
    small = small.evolve(alignment=bins.down(truth.alignment))
    volume = truth.volumes["Co"].reshape(N // 2, 2, N // 2, 2, N // 2, 2).mean(axis=(1, 3, 5))
    g = small.aligned_geometry(volume.shape)
    expected = (small.counts[0] - small.background[0][:, None, None]) / small.exposures[0][:, None, None]
    stack = recon.project(volume.astype(np.float32), g) * 2 * 4  # voxels twice as long, four pixels in one
    assert np.linalg.norm(stack - expected) <= 0.15 * np.linalg.norm(
        expected
    )  # sharp edges on pixels this large; measured: 0.123
    assert abs(stack.sum() / expected.sum() - 1) <= 0.01


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("geometry", [DUAL, CONE], ids=["dual", "cone"])
def test_grids_hold_what_the_frames_show(geometry, isolated):
    series, _ = made(geometry)
    where = grid(series.evolve(isolated=isolated))
    assert where.shape[1] - 2 * where.margin[0] == N
    assert (where.margin == (0, 0)) == isolated
    tall = TiltSeries.create({"A": np.ones((14, 30, N))}, DUAL.on((N, 30, N), (30, N)), 1.0).evolve(isolated=True)
    assert grid(tall).shape == (N, 30, 30)  # one half shows y along 30 rows, the other x


def test_two_axes_at_the_same_dose_are_better_than_one():
    errors = {}
    for name, geometry, dose in (("single", None, 80.0), ("dual", DUAL, 40.0)):
        how = {"tilts_deg": TILTS} if geometry is None else {"geometry": geometry}
        series, truth = simulate(size=N, samples=2, dose=dose, seed=3, **how)
        volumes = recon.reconstruct(known(series, truth), strength=1.0, max_iterations=300)
        errors[name] = error(volumes, truth)
    for element in ("Co", "Zn"):
        assert errors["dual"][element] < errors["single"][element]


@pytest.mark.parametrize("geometry", [CONE, DUAL.transformed(np.eye(3), (0, 0.4, 0.3))[::2]], ids=["cone", "moved"])
def test_a_scheme_is_reconstructed_with_a_certificate(geometry):
    series, truth = made(geometry, dose=300, drift=1)
    volumes = recon.reconstruct(known(series, truth), "tv", strength=1.0)
    for element, volume in volumes.items():
        assert volume.solution.gap <= 1e-2
        assert error(volumes, truth)[element] <= 0.4


def test_the_forecast_knows_what_the_projector_holds():
    for g in (DUAL, CONE, DUAL.turned(1, "x")):
        a = make_projector(g, np.empty(0, np.float32))
        arrays = [a._volume, a._stack]
        for piece in a.pieces:
            inner = piece.operator
            arrays += [getattr(inner, name, None) for name in ("_padded", "_stack", "_ideal")]
        held = sum(x.size for x in arrays if x is not None)
        assert 0.9 * held <= scratch_words(g) <= 2.5 * held


# ---------------------------------------------------------------- jobs

JOB = """
[input]
maps = {{ Co = "Co.npy", Zn = "Zn.npy" }}
pixel_size_nm = 5.0
{tilts}
[geometry]
{geometry}
[align]
method = "none"
[reconstruct]
method = "tv"
strength = 1.0
max_iterations = 40
{more}
"""
RANGE = "tilts = { start = -66, stop = 66, step = 22 }"


def job_of(folder, series, geometry, tilts="", more=""):
    for element, counts in zip(series.elements, series.counts, strict=True):
        np.save(folder / f"{element}.npy", counts)
    path = folder / "job.toml"
    path.write_text(JOB.format(geometry=geometry, tilts=tilts, more=more))
    return path


@pytest.mark.parametrize("kind", ["dual-axis", "conical", "vectors"])
def test_a_job_file_names_the_scheme(tmp_path, kind):
    geometry, text, tilts = {
        "dual-axis": (DUAL, 'scheme = "dual-axis"', RANGE),
        "conical": (CONE, 'scheme = "conical"\ntilt_deg = 55.0\nazimuths = { start = 0, stop = 320, step = 40 }', ""),
        "vectors": (CONE, 'scheme = "vectors"\nvectors = "own.txt"', ""),
    }[kind]
    from recon.io.geometry import write_vectors

    write_vectors(CONE, tmp_path / "own.txt")
    job = load_job(job_of(tmp_path, made(geometry)[0], text, tilts))
    series = read_job(job)
    assert np.allclose(series.geometry.to_astra(), geometry.to_astra())
    shown = "\n".join(describe(job, series, plan(job, series), tmp_path))
    assert f"geometry: TiltGeometry({len(geometry)} projections" in shown


def test_a_dual_axis_job_runs_from_file_to_report(tmp_path, undrawn):
    series, _ = made(DUAL)
    out = run_job(load_job(job_of(tmp_path, series, 'scheme = "dual-axis"', RANGE)), device="cpu")
    record = json.loads((out / "alignment.json").read_text())
    assert np.allclose(record["vectors"], DUAL.to_astra())
    assert (out / "report.html").exists()
    again = job_of(tmp_path, series, 'scheme = "dual-axis"', RANGE).read_text().replace('method = "none"', "", 1)
    (tmp_path / "again.toml").write_text(again.replace("[align]\n", f'[align]\nfile = "{out.name}/alignment.json"\n'))
    result = process(read_job(load_job(tmp_path / "again.toml")), load_job(tmp_path / "again.toml"), device="cpu")
    assert np.allclose(result.series.scheme.to_astra(), DUAL.to_astra())


BAD_JOBS = [
    ('scheme = "helical"', RANGE, "", "scheme"),
    ('scheme = "single-axis"\naxis_deg = 80.0', RANGE, "", "axis_deg: is not of scheme 'single-axis'"),
    ('scheme = "conical"', "", "", "needs geometry.tilt_deg"),
    ('scheme = "conical"\ntilt_deg = 50.0\nazimuths = [0.0, 120.0, 240.0]', RANGE, "", "leave them out"),
    ('scheme = "vectors"', "", "", "needs geometry.vectors"),
    ('scheme = "dual-axis"', "", "", "input.tilts: is missing"),
    ('scheme = "dual-axis"', RANGE, "[output]\naligned = true", "aligned: serves a single axis"),
    ('scheme = "dual-axis"', RANGE + "\nleave_out = [22.0]", "", "not sure to name one map"),
]


@pytest.mark.parametrize(("geometry", "tilts", "more", "message"), BAD_JOBS)
def test_what_a_job_cannot_do_is_said_before_the_run(tmp_path, geometry, tilts, more, message):
    path = job_of(tmp_path, made(DUAL)[0], geometry, tilts, more)
    with pytest.raises(JobError, match=message) as caught:
        load_job(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_keeps_the_scheme_that_the_alignment_found(tmp_path):
    series, _ = made(DUAL)
    found = series.evolve(scheme=DUAL.turned(0.5, "x"))
    kept = Checkpoints(tmp_path / "out", Identity({}, {}), on=True, log=lambda line: None, staged=True)
    kept.open(resume=False, overwrite=False)
    kept.keep_series(series, found, {})
    back = kept.series(series)
    assert back is not None
    assert back[0].scheme == found.scheme


def test_an_alignment_file_of_other_maps_is_refused(tmp_path):
    series, _ = made(DUAL)
    (tmp_path / "alignment.json").write_text(json.dumps(asdict(alignment_record(series))))
    assert np.allclose(load_vectors(tmp_path / "alignment.json", DUAL).to_astra(), DUAL.to_astra())
    with pytest.raises(InputError, match="14 tilts, the series has 5"):
        load_vectors(tmp_path / "alignment.json", DUAL[:5])
