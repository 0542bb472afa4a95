"""Input at the edge of what means something: one line with the limit and the remedy, or a line that tells."""

import warnings

import numpy as np
import pytest

import recon
from recon.alignment.align import align
from recon.alignment.doubts import _beyond_noise
from recon.alignment.start import check_alignable
from recon.analysis.composition import analyse, spread_densities
from recon.errors import InputError
from recon.preparation.normalise import normalise
from recon.series.checks import check_tilts, narrow, span
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume

TILTS = np.arange(-60.0, 61, 15)


def blob(frame, seed=0, tilts=TILTS):
    """Counts of a soft ball."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in frame], indexing="ij")
    mean = 200 * np.exp(-(x**2 + y**2) / 0.3) + 1
    return np.random.default_rng(seed).poisson(np.broadcast_to(mean, (len(tilts), *frame))).astype(np.float32)


def line(call, *args, **options):
    """The one line of the InputError that a call ends with."""
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tilts", "expected"),
    [([-60, 0, 60], 120), ([0, 60, 120], 120), ([-90, 0, 90], 90), ([88, 90, -88, -90], 4), ([60, 60.04, 60.1], 0.1)],
)
def test_span_of_beams(tilts, expected):
    assert span(np.array(tilts, float)) == pytest.approx(expected)


@pytest.mark.parametrize("tilts", [[60, 60.05, 60.1], [45.5, 45.7, 46, 46.4], [89.8, 90, -89.9]])
def test_tilts_within_a_degree_are_refused(tilts):
    told = line(check_tilts, tilts)
    assert "below 1 degree" in told
    assert "further apart" in told


@pytest.mark.parametrize("tilts", [np.linspace(-2, 3, 11), np.linspace(40, 45, 6), np.linspace(30, 49, 8)])
def test_tilts_that_tell_nothing_of_depth_are_told(tilts):
    tilts = tilts + 10 * (tilts[0] < 0)  # within pi they would be taken for radians
    made = TiltSeries.create({"Co": blob((8, 8), tilts=tilts)}, tilts, 1.0)
    assert f"tilts span {np.ptp(tilts):g} degrees only" in made.remarks[0]
    with pytest.warns(recon.ReconWarning, match="degrees only"):
        read = recon.read({"Co": blob((8, 8), tilts=tilts)}, tilts, 1.0)
    assert sum("degrees only" in r for r in read.remarks) == 1


def test_tilts_that_span_enough_are_not_told_of():
    assert narrow(TILTS) == ()
    assert narrow(np.array([-90.0, -30, 30, 90])) == ()


@pytest.mark.parametrize("frame", [(4, 4), (5, 5), (7, 7), (4, 40), (40, 4), (7, 12)])
@pytest.mark.parametrize("scaled", [False, True])
def test_frames_too_small_to_align(frame, scaled):
    series = normalise(TiltSeries.create({"Co": blob(frame) * (0.37 if scaled else 1)}, TILTS, 1.0, scaled=scaled))
    told = line(align, series)
    assert f"{frame[0]} x {frame[1]}" in told
    assert "at least 8" in told
    assert "'none'" in told
    assert not align(series, "none").alignment.displacements.any()


def test_the_least_frame_is_that_of_binned_maps():
    check_alignable((8, 96))
    assert "at least 16" in line(check_alignable, (15, 100))


@pytest.mark.parametrize("scaled", [False, True])
def test_the_smallest_frame_aligns(scaled):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = TiltSeries.create({"Co": blob((8, 8)) * (0.37 if scaled else 1)}, TILTS, 1.0, scaled=scaled)
        assert np.isfinite(align(normalise(made)).alignment.displacements).all()


def test_a_long_frame_without_room_for_a_sample():
    """Blobs of a frame so long are coarse, and their samples need more pixels than the frame is high."""
    series = normalise(TiltSeries.create({"Co": blob((9, 60))}, TILTS, 1.0))
    told = line(align, series, log=lambda _: None)
    assert "hold no place 10 pixels across" in told
    assert "'none'" in told


@pytest.mark.parametrize("shift", [0, 1])
def test_negative_throughout(shift):
    told = line(TiltSeries.create, {"Co": -blob((8, 8)) - shift}, TILTS, 1.0, scaled=True)
    assert "no value above 0" in told
    assert "change its sign" in told


def test_negative_throughout_where_pixels_have_weight():
    maps, weights = -blob((8, 8)), np.ones((8, 8))
    maps[:, 0, 0], weights[0, 0] = 5, 0
    assert "no value above 0" in line(TiltSeries.create, {"Co": maps}, TILTS, 1.0, scaled=True, weights=weights)


@pytest.mark.parametrize(("factor", "said"), [(1e-30, "less than one"), (1e-7, "less than one"), (1e13, "no detector")])
def test_values_that_can_be_no_counts(factor, said):
    """They gave volumes of zeros, or a traceback of the random numbers; as scaled maps they serve."""
    maps = blob((8, 8)).astype(np.float64) * factor
    told = line(TiltSeries.create, {"Co": maps}, TILTS, 1.0)
    assert said in told
    assert "input.scaled = true" in told
    assert TiltSeries.create({"Co": maps}, TILTS, 1.0, scaled=True).scaled


def test_one_count_is_a_count():
    maps = np.zeros((len(TILTS), 8, 8))
    maps[3, 4, 4] = 1
    assert TiltSeries.create({"Co": maps}, TILTS, 1.0).counts.sum() == 1


def test_maps_of_mean_zero_are_told():
    maps = blob((16, 16))
    maps = (maps - maps.mean(axis=(1, 2), keepdims=True)) / maps.std(axis=(1, 2), keepdims=True)
    assert "mean of every map is 0" in TiltSeries.create({"Co": maps}, TILTS, 1.0, scaled=True).remarks[0]
    noise = np.random.default_rng(1).normal(0, 1, maps.shape)  # of an element that is not there
    assert not TiltSeries.create({"Co": noise}, TILTS, 1.0, scaled=True).remarks


def test_noise_of_mean_zero_has_nothing_to_align_on():
    noise = np.random.default_rng(0).normal(0, 1, (len(TILTS), 16, 16))
    told = line(lambda: align(normalise(TiltSeries.create({"Co": noise}, TILTS, 1.0, scaled=True)), log=lambda _: None))
    assert "nothing in common" in told


def test_many_maps_above_their_noise_are_a_doubt():
    misfit, error = np.full(16, 0.98), np.full(16, 0.02)
    assert _beyond_noise(misfit, error) == []
    misfit[:5] = 1.1
    assert _beyond_noise(misfit, error) == []  # a third of 16 is more
    misfit[:9], misfit[15] = 1.1, np.nan
    (told,) = _beyond_noise(misfit, error)
    assert told.startswith("9 of 15 maps fit worse than the counts' noise allows (chi-square 1.10")
    assert _beyond_noise(np.full(3, np.nan), np.full(3, np.nan)) == []


def test_densities_that_spread_are_no_pure_phase():
    """A haze with a dense grain: its typical density is the haze's, and what counts as present is all of it."""
    inside = np.zeros((24, 24, 24), bool)
    inside[4:20, 4:20, 4:20] = True
    noise = np.random.default_rng(0).normal(1, 0.3, inside.shape)

    def told(values):
        return spread_densities(analyse({"Co": Volume((values * inside).astype(np.float32), 1.0, "Co")}, inside))

    assert told(noise) == []
    assert told(np.linspace(0, 1, 24) * np.ones(inside.shape)) == []
    assert told(np.zeros(inside.shape)) == []
    noise[8:11, 8:11, 8:10] = 15
    (line,) = told(noise)
    assert line.startswith("Co has no one pure phase: where it is densest it has ")
    assert "typical density" in line


@pytest.mark.parametrize("pattern", [np.full((24, 24), 7), np.indices((24, 24)).sum(0) % 2])
def test_maps_that_look_alike_however_they_are_moved(pattern):
    """They ended in a singular matrix."""
    series = normalise(TiltSeries.create({"Co": np.broadcast_to(pattern, (len(TILTS), 24, 24))}, TILTS, 1.0))
    told = line(align, series, log=lambda _: None)
    assert "nothing to align on" in told or "nothing in common" in told


def test_counts_in_pixels_that_are_left_out():
    """One bright pixel in all maps is taken for the camera's, and then there is nothing."""
    maps = np.zeros((len(TILTS), 24, 24))
    maps[:, 12, 12] = 50
    assert "all its counts are in pixels that are left out" in line(
        normalise, TiltSeries.create({"A": maps}, TILTS, 1.0)
    )


@pytest.mark.parametrize(("kind", "half"), [(np.int8, 128), (np.int16, 32768)])
def test_unsigned_numbers_saved_as_signed_ones(kind, half):
    maps = np.minimum(blob((16, 16)), 100) * (blob((16, 16)) > 20)
    told = line(TiltSeries.create, {"Co": (maps - half).astype(kind)}, TILTS, 1.0)
    assert f"begins at -{half}" in told
    assert "export it without a sign" in told


def test_an_element_of_three_counts_is_told():
    maps = np.zeros((len(TILTS), 8, 8))
    maps[[1, 3, 5], 4, 4] = 1
    with pytest.warns(recon.ReconWarning, match="Zn: 3 counts in all, which say next to nothing"):
        recon.read({"Co": blob((8, 8)), "Zn": maps}, TILTS, 1.0)
