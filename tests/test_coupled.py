"""Elements reconstructed together from Python and by a job: that it is done, said, and refused where it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from commands import fails, job
from commands import folder as folder  # fixtures
from commands import stacks as stacks
from job_text import INPUT, message
from job_text import folder as typed  # with the files that a job names

import recon
from recon.analysis.halves import halves, not_divisible
from recon.errors import InputError, JobError
from recon.files import to_json
from recon.job.file import load_job
from recon.job.pipeline import run_job
from recon.model.assembly import make_data_term, make_operator
from recon.model.grid import grid
from recon.reconstruction import coupled
from recon.reconstruction.coupled import IMAGE, Part
from recon.reconstruction.coupling_choice import change
from recon.reconstruction.keeper import Nothing
from recon.reconstruction.uncertainty import uncertainty
from recon.report.methods import paragraph
from recon.report.run_folder import read_run
from recon.series.settings import Settings
from recon.simulate import Ellipsoid, Particle, simulate
from recon.solvers import State
from recon.solvers.coupled import Channel, CoupledPrimalDual

__all__ = ["folder", "stacks", "typed"]

STRENGTHS = {"Co": 0.8, "Zn": 0.6}
N = 16


@pytest.fixture(scope="module")
def series():
    """A sphere of Co in a body of Zn, and an image of both."""
    body = Ellipsoid((0.0, 0.0, 0.0), (0.3, 0.25, 0.3), (0.0, 1.0))
    core = Ellipsoid((0.0, 0.0, 0.1), (0.12, 0.12, 0.12), (1.5, 0.0))
    made, truth = simulate(Particle(("Co", "Zn"), (body, core), {}), size=N, dose=40, drift=0, shadowing=0, seed=1)
    image = made.counts.sum(axis=0) + np.random.default_rng(0).normal(0, 1, made.counts.shape[1:])
    background = np.full_like(made.background, truth.background)
    return made.evolve(alignment=truth.alignment, background=background, isolated=True, image=image.astype(np.float32))


def test_it_is_the_coupled_minimum(series):
    """The volumes are those of the solver, given operators, data terms and strengths one by one."""
    volumes = recon.reconstruct(series, coupling="nuclear", strength=STRENGTHS, tolerance=2e-3)
    shape = grid(series).shape
    channels = []
    for name, a1 in STRENGTHS.items():
        data = make_data_term(series, name, "poisson")
        channels.append(Channel(make_operator(series, shape, data.counts), data, a1))
    solver = CoupledPrimalDual(channels, "nuclear")
    expected = solver.run(2e-3, 5000)
    for k, name in enumerate(STRENGTHS):
        made = volumes[name].made
        assert made.gap <= 2e-3
        assert made.objective == pytest.approx(expected.objective, rel=4e-3)
        np.testing.assert_allclose(
            volumes[name].values, expected.value[k].swapaxes(1, 2), atol=0.05 * expected.value[k].max()
        )
        assert made.parameters.a1 == pytest.approx(STRENGTHS[name])
        assert (made.coupling.norm, made.coupling.channels) == ("nuclear", ("Co", "Zn"))
        assert volumes[name].provenance["coupling"] == "nuclear norm, with Co, Zn"
    alone = recon.reconstruct(series, strength=STRENGTHS)
    assert alone["Co"].made.coupling is None
    assert np.abs(alone["Co"].values - volumes["Co"].values).max() > 0.05 * alone["Co"].values.max()


def test_scaled_maps_have_no_unit(series):
    """Maps divided by powers of two give volumes divided by them, to the bit: each channel has a unit of its own."""
    maps = {name: series.counts[series.index(name)] for name in series.elements}
    how = {"coupling": "frobenius", "data_term": "least-squares", "max_iterations": 30, "log": str}
    small = {"Co": maps["Co"] / 2**20, "Zn": maps["Zn"] * 2**6}
    volumes = []
    for given, strengths in ((maps, (0.8, 0.6)), (small, (0.8 * 2**20, 0.6 / 2**6))):
        made = recon.TiltSeries.create(given, series.tilts_deg, 5.0, scaled=True)
        volumes.append(recon.reconstruct(made, strength=dict(zip(("Co", "Zn"), strengths, strict=True)), **how))
    np.testing.assert_array_equal(volumes[1]["Co"].values * np.float32(2**20), volumes[0]["Co"].values)
    np.testing.assert_array_equal(volumes[1]["Zn"].values, volumes[0]["Zn"].values * np.float32(2**6))


def test_the_image_is_a_channel_and_no_volume(series):
    volumes = recon.reconstruct(
        series, elements="Co", coupling="frobenius", couple_image=True, strength=STRENGTHS, max_iterations=40, log=str
    )
    assert list(volumes) == ["Co"]
    assert volumes["Co"].made.coupling.channels == ("Co", "image")
    assert "both halves would share" in not_divisible(series, volumes)


def test_an_image_with_tilts_of_its_own_is_a_channel_at_all_of_them():
    """Its channel's model is that of the image: the truth projects onto it, where the alignment says it lies."""
    shape = Ellipsoid((0.1, 0.0, 0.05), (0.3, 0.2, 0.2), (1.0, 0.4))
    how = {"size": N, "drift": 2.0, "shadowing": 0.0, "seed": 3}
    made, _ = simulate(Particle(("Co", "Zn"), (shape,), {}), dose=40, **how)
    tilts = np.arange(-70.0, 71.0, 4)
    seen, truth = simulate(
        Particle(("image",), (replace(shape, density=(1.0,)),), {}), dose=1e4, tilts_deg=tilts, **how
    )
    shifts = truth.alignment.shifts.copy()
    shifts[5] = np.nan  # left out
    made = made.evolve(
        image=500 + seen.counts[0], image_tilts_deg=tilts, image_shifts=shifts, alignment=truth.alignment, isolated=True
    )
    problem = Part.of(made, IMAGE, Settings(), None, "cpu").problem
    data, operator = problem.data, problem.operator
    assert data.counts.shape == operator.range_shape == (36, N, N)
    assert not data.scale[5].any()
    expected = operator(np.ascontiguousarray(truth.volumes["image"].swapaxes(1, 2)), np.empty_like(data.counts))
    assert np.corrcoef(expected[data.scale > 0], data.counts[data.scale > 0])[0, 1] > 0.995
    away = Part.of(made.evolve(image_shifts=None), IMAGE, Settings(), None, "cpu").problem
    expected = away.operator(np.ascontiguousarray(truth.volumes["image"].swapaxes(1, 2)), np.empty_like(data.counts))
    assert np.corrcoef(expected.ravel(), away.data.counts.ravel())[0, 1] < 0.98


def test_halves_are_coupled_as_the_whole_was(series):
    volumes = recon.reconstruct(series, coupling="frobenius", strength=STRENGTHS, max_iterations=40, log=str)
    found = halves(series, volumes, iterations=20)
    for name in STRENGTHS:
        assert found.first[name].made.coupling.channels == ("Co", "Zn")
        assert found.first[name].made.parameters.a1 == pytest.approx(STRENGTHS[name] * 0.5**0.5)
        assert not np.array_equal(found.first[name].values, found.second[name].values)


REFUSED = [
    ({"elements": "Co"}, "needs two channels or more, and there is only Co"),
    ({"method": "sirt"}, "is for methods tgv and tv, which have gradients to couple, not sirt"),
    ({"method": "none"}, "is for methods tgv and tv"),
    ({"half_precision": True}, "half_precision does not go with coupling = 'nuclear'; leave one of them out"),
    ({"memory": 10**6}, "memory does not go with coupling = 'nuclear', which works on whole volumes"),
    ({"coupling": "nucular"}, "coupling 'nucular' is unknown; use one of none, frobenius, nuclear, auto"),
    ({"coupling": None, "couple_image": True}, "couple_image is for coupling = 'frobenius', 'nuclear' or 'auto'"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_does_not_go_with_it(series, options, said):
    with pytest.raises(JobError, match=said.replace("(", r"\(")):
        recon.reconstruct(series, **{"coupling": "nuclear", **options})


def test_an_image_that_is_not_there(series):
    with pytest.raises(JobError, match="no image was recorded with the maps; name one, or leave it out"):
        recon.reconstruct(series.evolve(image=None), coupling="nuclear", couple_image=True)


def test_channels_whose_grids_differ(series):
    """An object that leaves the frame, seen at low tilts by the image: it asks for a narrower volume."""
    tilts = np.linspace(-10, 10, 9)
    image = np.ones((9, N, N), np.float32) + np.arange(N)
    wide = series.evolve(isolated=False, image=image, image_tilts_deg=tilts)
    with pytest.raises(
        JobError, match=r"Co asks for a volume of 16 x 18 x 32 voxels, image for 16 x 18 x 22: coupled "
    ):
        recon.reconstruct(wide, coupling="nuclear", couple_image=True)


def test_parts_of_ones_own(series):
    with pytest.raises(JobError, match="coupling and checkpoints do not go with a regulariser"):
        recon.reconstruct(series, coupling="nuclear", data_term=lambda *a: None)


def test_replicates_are_of_elements_alone(series):
    volumes = recon.reconstruct(series, coupling="frobenius", strength=STRENGTHS, max_iterations=20, log=str)
    with pytest.raises(InputError, match="Co was reconstructed together with others"):
        uncertainty(series, volumes, 2)


# ---------------------------------------------------------------- chosen from the data


def test_the_choice_couples_what_shares_every_edge():
    """Of two densities of one body, the weak one has most to gain."""
    body = Ellipsoid((0.0, 0.05, 0.0), (0.3, 0.2, 0.25), (1.0, 0.25))
    made, truth = simulate(Particle(("Co", "Zn"), (body,), {}), size=N, dose=40, drift=0, shadowing=0, seed=2)
    background = np.full_like(made.background, truth.background)
    made = made.evolve(alignment=truth.alignment, background=background, isolated=True)
    told = []
    found = recon.reconstruct(made, coupling="auto", max_iterations=50, log=told.append)
    coupling = found["Zn"].made.coupling
    assert coupling.norm != "none"
    assert max(coupling.tried[coupling.norm]) < 0.5
    assert sum(coupling.tried[coupling.norm]) == min(map(sum, coupling.tried.values()))
    assert set(coupling.tried) == {"frobenius", "nuclear"}
    assert "coupling by the nuclear norm changes the held-out error, in its standard error, by: Co " in told[-1]


def test_a_choice_of_none_gives_each_element_alone(series, monkeypatch):
    monkeypatch.setattr(coupled, "choose_coupling", lambda *a: ("none", {"nuclear": (2.0, -1.0)}))
    found = recon.reconstruct(series, coupling="auto", strength=STRENGTHS, tolerance=3e-3)
    alone = recon.reconstruct(series, strength=STRENGTHS, tolerance=3e-3)
    for name in STRENGTHS:
        made = found[name].made
        assert not made.together
        assert made.coupling.tried == {"nuclear": (2.0, -1.0)}
        assert made.objective == pytest.approx(alone[name].made.objective, rel=5e-3)
        np.testing.assert_allclose(found[name].values, alone[name].values, atol=0.05 * alone[name].values.max())
    assert "coupling" not in found["Co"].provenance


def test_a_change_is_in_its_standard_error():
    before = np.random.default_rng(0).normal(5, 1, 400)
    shift = np.random.default_rng(1).normal(0.1, 1, 400)
    t = shift.mean() / (shift.std() / 20)
    assert change(before, before + shift) == pytest.approx(t, rel=1e-9)


# ---------------------------------------------------------------- stop and go on


class Kept(Nothing):
    """Keeps the state of a solver that it stops after some iterations."""

    def __init__(self, until):
        self.until, self.states = until, {}

    def has_state(self, name):
        return name in self.states

    def restore(self, name, solver):
        solver.restore(self.states[name])

    def control(self, name):
        def control(solver):
            if solver.iteration < self.until:
                return False
            state = solver.state()
            arrays = {n: a.copy() for n, a in state.arrays.items()}
            self.states[name] = State(arrays, json.loads(json.dumps(to_json(state.numbers))), state.history)
            raise KeyError("stopped")

        return control


def test_it_goes_on_where_it_was_stopped(series):
    how = {"coupling": "nuclear", "strength": STRENGTHS, "max_iterations": 130, "log": str}
    whole = recon.reconstruct(series, **how)
    keeper = Kept(70)
    with pytest.raises(KeyError):
        recon.reconstruct(series, checkpoints=keeper, **how)
    assert list(keeper.states) == ["Co+Zn"]
    keeper.until = 1000
    found = recon.reconstruct(series, checkpoints=keeper, **how)
    for name in STRENGTHS:
        np.testing.assert_array_equal(found[name].values, whole[name].values)
        assert found[name].made.gap == whole[name].made.gap


# ---------------------------------------------------------------- by a job


COUPLED = """[align]
method = "none"
[reconstruct]
coupling = "nuclear"
strength = { Co = 0.8, Zn = 0.8 }
max_iterations = 30
halves = false
"""


def test_a_job_says_what_it_coupled(folder):
    out = run_job(load_job(job(extra=COUPLED)), out=folder / "out")
    record = json.loads((out / "job.json").read_text())
    for name in ("Co", "Zn"):
        made = record["elements"][name]
        assert made["coupling"] == {"norm": "nuclear", "channels": ["Co", "Zn"], "tried": {}}
        assert made["settings"]["coupling"] == record["job"]["reconstruct"]["coupling"] == "nuclear"
    text, keys = paragraph(read_run(out, "out"))
    assert "Co was reconstructed with the Poisson likelihood and 3D total generalised variation" in text
    assert "together with Zn by the nuclear norm of their gradients in units of their strengths" in text
    assert {"bredies2014", "huber2019"} <= set(keys)
    told = tifffile.TiffFile(out / "Co.tif").imagej_metadata["Info"]
    assert "nuclear norm, with Co, Zn" in told


R = INPUT + "[reconstruct]\n"
JOBS = [
    (R + 'coupling = "nucular"', "job.toml:5: reconstruct.coupling: 'nucular' is not one of its values; did you mean"),
    (R + 'method = "sirt"\ncoupling = "nuclear"', "job.toml:6: reconstruct.coupling: cannot be: coupling = 'nuclear' "),
    (R + 'coupling = "auto"\nhalf_precision = true', "job.toml:5: reconstruct.coupling: cannot be: half_precision "),
    (R + 'coupling = "auto"\nuncertainty = 9', "job.toml:6: reconstruct.uncertainty: is for elements on their own, "),
    (R + "couple_image = true", "job.toml:5: reconstruct.couple_image: cannot be: couple_image is for coupling = "),
    (R + 'coupling = "auto"\ncouple_image = true', "job.toml:6: reconstruct.couple_image: is true, but no image was "),
    (
        R.replace(', Zn = "maps/Zn.mrc"', "") + 'coupling = "auto"',
        "job.toml:5: reconstruct.coupling: is 'auto', which needs two channels or more, and there is only Co; ",
    ),
]


@pytest.mark.parametrize(("text", "expected"), JOBS)
def test_a_job_that_cannot_be(typed, text, expected):
    assert message(text).startswith(expected)


def test_one_element_of_coupled_ones(folder):
    said = fails(folder, "run", job(extra=COUPLED), "--element", "Co")
    assert said.startswith("job.toml: coupling = 'nuclear' reconstructs all elements together; leave --element out")
