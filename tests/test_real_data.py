"""A real EDS tilt series (a focused-ion-beam section, shared/data beside the checkout); skips where it is absent."""

from pathlib import Path

import numpy as np
import pytest
import rsciio.bruker

import recon
from recon.alignment.align import cross_correlation
from recon.eds.maps import line_maps
from recon.eds.windows import Options
from recon.series.combine import combine

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "L2083-K-4-1"
LINES = ("Fe_Ka", "Si_Ka", "O_Ka", "Pt_La", "S_Ka", "Cu_Ka")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real tilt series is not here")


@pytest.fixture(scope="module")
def maps():
    return line_maps(DATA, LINES, options=Options(bin=8))


@pytest.fixture(scope="module")
def series(maps):
    whole = maps.series()
    pick = [whole.index(n) for n in ("Fe_Ka", "Si_Ka", "O_Ka")]
    few = whole.evolve(
        elements=("Fe_Ka", "Si_Ka", "O_Ka"),
        counts=whole.counts[pick],
        exposures=whole.exposures[pick],
        background=whole.background[pick],
        background_maps=whole.background_maps[pick],
    )
    return recon.normalise(few)


def test_what_the_files_say(maps):
    assert maps.tilts_deg.tolist() == list(range(-40, 36, 5))
    assert set(maps.tilt_sources) == {"the file's name"}  # the stage was not recorded
    assert maps.pixel_size_nm == pytest.approx(8 * 13.0814, rel=1e-5)
    order = np.argsort([r.time for r in maps.recordings])
    assert order.tolist() == list(range(16))  # acquired from -40 upwards
    assert all(r.live_time_s is None and 141 < r.real_time_s < 142 for r in maps.recordings)


@pytest.mark.parametrize("tilt", [-40, 0, 35])
def test_counts_equal_an_independent_sum(maps, tilt):
    """Bytes summed in a wide type over the same energies, by hand."""
    signal = next(s for s in rsciio.bruker.file_reader(str(DATA / f"{tilt}.bcf")) if s["data"].ndim == 3)
    axis = signal["axes"][2]
    energies = axis["offset"] + axis["scale"] * np.arange(axis["size"])
    i = maps.tilts_deg.tolist().index(tilt)
    for name in LINES:
        window = maps.windows[name][i]
        chosen = signal["data"][:, :, (energies >= window.low_kev) & (energies <= window.high_kev)]
        image = chosen.astype(np.int64).sum(axis=2)
        blocks = image.reshape(32, 8, 32, 8).sum(axis=(1, 3))
        assert np.array_equal(maps.counts[name][i], blocks), name


def test_net_counts_are_those_found_by_hand(maps):
    """shared/data/README.md: net counts per pixel and tilt Pt L 0.67, O 0.42, Fe 0.21, Si 0.19.

    Our window of 1.2 FWHM holds 84 % of a line, and Pt La is two thirds of Pt L.
    """
    for name, expected in (("Pt_La", 0.67), ("O_Ka", 0.42), ("Fe_Ka", 0.21), ("Si_Ka", 0.19)):
        net = (maps.counts[name].mean() - maps.background[name].mean()) / 64
        assert 0.6 * expected < net < 1.3 * expected, (name, net)


def test_what_a_user_is_told(maps):
    def told(*words):
        return any(all(x in w for x in words) for w in maps.warnings)

    assert told("S_Ka is only background")  # it is the tail of Pt M
    assert told("Cu_K grows", "do not reconstruct it")
    assert told("Ti_K grows")
    assert told("at 6.9", "Co_Ka")  # the pole piece, beside Fe K-beta
    for good in ("Fe_Ka", "Si_Ka", "O_Ka", "Pt_La"):
        assert not told(f"{good} is only background")
        assert not told(f"{good.split('_')[0]}_K grows")


def test_a_section_that_fills_the_frame_is_not_taken_for_an_isolated_particle(series):
    assert series.isolated is False
    assert (series.exposures == 1).all()


def test_the_jump_at_zero_degrees_is_found(series):
    """About 16 raw pixels, 2 here, against both neighbours; elsewhere a few raw pixels."""
    u = cross_correlation(combine(series))[:, 1]
    at = int(np.argmin(np.abs(series.tilts_deg)))
    jump = u[at] - (u[at - 1] + u[at + 1]) / 2
    assert abs(abs(jump) - 2) < 0.5
    rest = np.delete(u, at)
    assert np.abs(np.diff(rest)).max() < 1.5


@pytest.fixture(scope="module")
def still(series):
    """The series as it was recorded, aligned."""
    return recon.align(series)


def test_every_start_ends_at_the_same_alignment(series, still):
    """Maps moved by up to two pixels (16 raw ones), what comes in without weight: those moves are found again.

    Measured: 0.008 pixel rms and 0.4 degrees of the axis.
    """
    steps = np.random.default_rng(1).integers(-2, 3, (16, 2))
    counts, weights = np.zeros_like(series.counts), np.zeros(series.counts.shape[1:], np.float32)
    background = np.zeros_like(series.background_maps)
    for i, step in enumerate(steps):
        to, of = (tuple(slice(max(s, 0), 32 + min(s, 0)) for s in moved) for moved in (step, -step))
        counts[:, i][:, *to], background[:, i][:, *to] = (
            series.counts[:, i][:, *of],
            series.background_maps[:, i][:, *of],
        )
        weights[i][to] = 1
    still = still.alignment
    moved = recon.align(series.evolve(counts=counts, background_maps=background, weights=weights)).alignment
    t, one = np.radians(series.tilts_deg), np.ones(16)
    wrong = moved.displacements - steps - still.displacements
    along_u = np.stack([np.cos(t), np.sin(t)], axis=1)  # the object moved, about a nearly vertical axis
    wrong[:, 1] -= along_u @ np.linalg.lstsq(along_u, wrong[:, 1], rcond=None)[0]
    wrong[:, 0] -= one * wrong[:, 0].mean()
    assert np.sqrt(np.mean(wrong**2)) < 0.1
    assert abs(still.rotation_deg) < 4
    assert abs(moved.rotation_deg - still.rotation_deg) < 2


def test_the_sum_along_the_beam_shows_what_the_map_at_zero_tilt_shows(series, still):
    volumes = recon.reconstruct(still, "sirt", thickness=16)
    at = int(np.argmin(np.abs(series.tilts_deg)))
    dv, du = np.round(still.alignment.displacements[at]).astype(int)
    for e, name in enumerate(series.elements):
        projected = np.roll(volumes[name].values.sum(axis=0), (dv, du), axis=(0, 1))[4:-4, 4:-4]
        recorded = (series.counts[e, at] - series.background_maps[e, at])[4:-4, 4:-4]
        assert np.corrcoef(projected.ravel(), recorded.ravel())[0, 1] > 0.8, name
        # and as many counts: the volume holds what the map shows above its background
        assert projected.sum() == pytest.approx(recorded.sum(), rel=0.15), name
