"""Lines to maps: against simulated spectra with known contents and plain sums."""

from __future__ import annotations

import eds
import numpy as np
import pytest
from scipy import ndimage
from tilted_spectra import CO, FE, ONES, SI, TILTS, N, write_series
from tilted_spectra import folder as folder  # a fixture

import recon
from recon.eds.components import binned
from recon.eds.maps import line_maps
from recon.eds.windows import Options
from recon.errors import InputError, JobError

pytestmark = pytest.mark.usefixtures("one_reader")

# ---------------------------------------------------------------- counts


def test_counts_are_plain_sums_over_the_window(folder):
    path, images = folder
    maps = line_maps(path, ["Fe_Ka", "Si_Ka"])
    assert maps.tilts_deg.tolist() == list(TILTS)
    assert set(maps.tilt_sources) == {"stage"}
    for name, counts in maps.counts.items():
        assert counts.dtype == np.uint32
        window = maps.windows[name][0]
        inside = (window.low_kev <= eds.ENERGIES + 1e-9) & (window.high_kev + 1e-9 >= eds.ENERGIES)
        assert inside.sum() == window.last - window.first
        for got, image in zip(counts, images, strict=True):
            assert np.array_equal(got, image[..., inside].sum(axis=-1, dtype=np.int64))


def test_sums_never_overflow(tmp_path):
    """Bytes that hold 200 in every channel."""
    for t in TILTS:
        eds.write_hspy(tmp_path / f"{t:g}deg.hspy", np.full((4, 4, eds.CHANNELS), 200, np.uint8), tilt=t)
    maps = line_maps(tmp_path, ["Fe_Ka"], options=Options(bin=1, background="none"))
    window = maps.windows["Fe_Ka"][0]
    assert (maps.counts["Fe_Ka"] == 200 * (window.last - window.first)).all()
    assert maps.counts["Fe_Ka"].min() > 255


def test_more_counts_than_single_precision_holds(tmp_path):
    for t in TILTS:
        eds.write_hspy(tmp_path / f"{t:g}deg.hspy", np.full((4, 4, eds.CHANNELS), 2_000_000, np.uint32), tilt=t)
    with pytest.raises(InputError, match="more than single precision holds"):
        line_maps(tmp_path, ["Fe_Ka"], options=Options(background="none"))


def test_binning_sums(folder):
    path, _ = folder
    fine, coarse = (line_maps(path, ["Fe_Ka"], options=Options(bin=b)) for b in (1, 5))
    assert coarse.counts["Fe_Ka"].shape == (5, 4, 4)  # 24 = 4 x 5, and a rim
    assert coarse.pixel_size_nm == 5 * fine.pixel_size_nm
    assert np.array_equal(coarse.counts["Fe_Ka"][0, 0, 0], fine.counts["Fe_Ka"][0, :5, :5].sum())
    assert np.array_equal(binned(np.arange(24).reshape(4, 6), 2), [[14, 22, 30], [62, 70, 78]])


def test_detectors_summed_or_kept(tmp_path):
    kept = {}
    for i, t in enumerate(TILTS):
        parts = [eds.spectrum_image({"Fe": FE / 4 * k}, 2 * ONES, seed=10 * i + k) for k in (1, 2)]
        eds.write_velox(tmp_path / f"v{i}.emd", parts, tilt=t)
        kept[t] = parts
    summed = line_maps(tmp_path, ["Fe_Ka"])
    each = line_maps(tmp_path, ["Fe_Ka"], options=Options(detectors="each"))
    assert list(each.counts) == ["Fe_Ka-SuperXG11", "Fe_Ka-SuperXG12"]
    assert np.array_equal(sum(each.counts.values()), summed.counts["Fe_Ka"])
    window = summed.windows["Fe_Ka"][0]
    assert np.array_equal(each.counts["Fe_Ka-SuperXG12"][0], kept[-40.0][1][..., window.first : window.last].sum(-1))
    below = sum(b.sum() for b in each.background.values())
    assert below == pytest.approx(summed.background["Fe_Ka"].sum(), rel=1e-3)


# ---------------------------------------------------------------- background and overlaps


def expected_in(window, element, counts):
    return counts.sum() * eds.line_shape(element)[window.first : window.last].sum()


@pytest.mark.parametrize("background", ["fit", "windows"])
def test_background_against_the_truth(tmp_path, background):
    write_series(tmp_path, {"Fe": FE, "Si": SI})
    maps = line_maps(tmp_path, ["Fe_Ka"], options=Options(background=background))
    windows = maps.windows["Fe_Ka"]
    for i, t in enumerate(TILTS):
        w = windows[i]
        truth = 8 / np.cos(np.radians(t)) * N * N * eds.continuum_shape()[w.first : w.last].sum()
        got = float(maps.background["Fe_Ka"][i].sum())
        # 47 to 60 counts are expected under the line: 15 % is their own noise
        assert got == pytest.approx(truth, abs=4 * np.sqrt(truth)), t
    net = sum(float(maps.counts["Fe_Ka"][i].sum() - maps.background["Fe_Ka"][i].sum()) for i in range(len(TILTS)))
    total = sum(expected_in(w, "Fe", FE) for w in windows)
    assert net == pytest.approx(total, abs=4 * np.sqrt(total))


def test_no_background():
    assert not Options(background="none").check()


def test_an_overlap_goes_into_the_background_where_it_is(tmp_path):
    """Fe K-beta lies in the window of Co K-alpha: where there is only Fe, the map of Co is background."""
    write_series(tmp_path)
    wide = Options(window=2.4)
    maps = line_maps(tmp_path, ["Co_Ka", "Fe_Ka"], options=wide)
    counts, below = (sum(a["Co_Ka"].astype(float)) for a in (maps.counts, maps.background))
    only_fe, only_co = (FE > 0) & (CO == 0), (CO > 0) & (FE == 0)
    inner = ndimage.binary_erosion(only_fe, iterations=2)
    window = maps.windows["Co_Ka"][0]
    leak, own = (eds.line_shape(e)[window.first : window.last].sum() * 5 for e in ("Fe", "Co"))  # of five tilts
    error = np.sqrt(counts[inner].mean() / inner.sum())
    assert leak * 6 > 8 * error  # the case is one: untold, the leak would stand out
    assert abs((counts - below)[inner].mean()) < 4 * error
    assert (counts - below)[only_co].mean() == pytest.approx(own * 5, rel=0.15)
    assert any("Co_Ka is overlapped by Fe_K" in w for w in maps.warnings)
    co = sum(float(s.amounts[[f.name for f in s.families].index("Co_K")]) for s in maps.spectra)
    assert co == pytest.approx(CO.sum() * len(TILTS), rel=0.05)


def test_background_is_a_term_of_the_model(folder):
    path, _ = folder
    series = line_maps(path, ["Co_Ka", "Fe_Ka"]).series()
    assert series.background_maps.shape == series.counts.shape
    assert not series.scaled
    assert np.array_equal(series.offset(0), series.background_maps[0])
    again = recon.normalise(series, "none")
    assert again.background_maps is series.background_maps
    turned = line_maps(path, ["Co_Ka", "Fe_Ka"]).series(tilt_axis="x")
    assert np.array_equal(turned.counts, series.counts.swapaxes(2, 3))
    assert np.array_equal(turned.background_maps, series.background_maps.swapaxes(2, 3))


def test_a_known_background_changes_the_volume_as_it_should():
    """A background that varies over the frame: told of it, the reconstruction leaves it out."""
    rng = np.random.default_rng(3)
    tilts = np.arange(-60, 61, 10.0)
    ramp = np.broadcast_to(np.linspace(0, 20, 16), (len(tilts), 16, 16)).astype(np.float32)
    clean = 30.0 * np.broadcast_to(eds.disc(16, 0.2), ramp.shape)
    drawn = rng.poisson(clean + ramp).astype(np.float32)
    series = recon.TiltSeries.create({"Fe": drawn}, tilts, 1.0)
    told = series.evolve(background_maps=ramp[None])
    outside = np.s_[:, :, 13:]
    values = [recon.reconstruct(s, "sirt")["Fe"].values for s in (told, series)]
    assert values[0][outside].mean() < 0.25 * values[1][outside].mean()


# ---------------------------------------------------------------- what is told


def told(maps, *words):
    return [w for w in maps.warnings if all(x in w for x in words)]


def test_a_line_that_is_only_background(folder):
    maps = line_maps(folder[0], ["Fe_Ka", "Zn_Ka"])
    assert told(maps, "Zn_Ka is only background")
    assert not told(maps, "Fe_Ka is only background")


def test_stray_lines_are_flagged(tmp_path, folder):
    write_series(tmp_path, stray=3.0)
    maps = line_maps(tmp_path, ["Fe_Ka", "Cu_Ka"])
    assert told(maps, "Cu_K grows", "do not reconstruct it")
    assert not told(maps, "Fe_K grows")
    assert not told(line_maps(folder[0], ["Fe_Ka"]), "grows")


def test_a_drift_of_the_energy_scale_is_told(tmp_path, folder):
    write_series(tmp_path, shift=0.012)
    maps = line_maps(tmp_path, ["Fe_Ka"], options=Options(elements=("Co",)))
    (warning,) = told(maps, "energy scale drifts by")
    drifted = float(warning.split(" eV")[0].split()[-1])
    assert drifted == pytest.approx(48, abs=6)
    assert "-40 and 40" in warning
    assert not told(line_maps(folder[0], ["Fe_Ka"], options=Options(elements=("Co",))), "drift")


def test_a_peak_that_nobody_named(tmp_path):
    write_series(tmp_path, {"Fe": FE, "Zn": 8 * ONES})
    maps = line_maps(tmp_path, ["Fe_Ka", "Cu_Ka"])
    assert told(maps, "at 8.6", "Zn_Ka", "[maps] elements")
    assert not told(line_maps(tmp_path, ["Fe_Ka"], options=Options(elements=("Zn",))), "belong to no element")


def test_times_that_differ_are_told(tmp_path):
    for i, t in enumerate(TILTS):
        image = eds.spectrum_image({"Fe": FE}, 4 * ONES, seed=i)
        eds.write_hspy(tmp_path / f"{i}.hspy", image, tilt=t, live_time=90.0 + 10 * (i == 3))
    assert told(line_maps(tmp_path, ["Fe_Ka"]), "live times differ: 90 s at tilt", "100 s at 20")


def test_the_resolution_is_assumed_aloud(tmp_path):
    for i, t in enumerate(TILTS):
        eds.write_velox(tmp_path / f"{i}.emd", [eds.spectrum_image({"Fe": FE}, 4 * ONES, seed=i)], tilt=t)
    assert told(line_maps(tmp_path, ["Fe_Ka"]), "assumed, 130 eV")
    assert not told(line_maps(tmp_path, ["Fe_Ka"], options=Options(resolution_ev=135)), "assumed")


# ---------------------------------------------------------------- what wrong input gets


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (["Fe_Ka", "Ag_Ka"], {}, ("deg.hspy", "Ag_Ka lies at 22", "leave this line out")),
        (["Fe_Kz"], {}, ("Fe_Kz", "unknown")),
        ([], {}, ("no lines",)),
        (["Fe_Ka", "Fe_Ka"], {}, ("twice",)),
        (["Fe_Ka"], {"bin": 8}, ("deg.hspy", "24 x 24", "lower it")),
        (["Fe_Ka"], {"window": 9}, ("maps.window", "9 FWHM")),
        (["Fe_Ka"], {"background": "some"}, ("maps.background", "'some'")),
        (["Fe_Ka"], {"elements": ("Xy",)}, ("'Xy'", "no element")),
    ],
)
def test_wrong_requests(folder, lines, options, says):
    with pytest.raises((InputError, JobError)) as caught:
        line_maps(folder[0], lines, options=Options(**options))
    message = str(caught.value)
    assert "\n" not in message
    assert all(s in message for s in says), message


def test_one_spectrum_image_is_no_series(folder):
    with pytest.raises(InputError, match=r"0deg\.hspy .* 1 spectrum images; a tilt series needs at least 3"):
        line_maps(folder[0] / "0deg.hspy", ["Fe_Ka"])


def test_mixed_series_and_doubled_tilts(tmp_path):
    write_series(tmp_path)
    eds.write_hspy(tmp_path / "x60deg.hspy", eds.spectrum_image({"Fe": FE}, ONES), tilt=60.0, pixel_nm=5.1)
    with pytest.raises(InputError, match=r"x60deg\.hspy has pixel sizes of 5\.1 nm"):
        line_maps(tmp_path, ["Fe_Ka"])
    eds.write_hspy(tmp_path / "x60deg.hspy", eds.spectrum_image({"Fe": FE}, ONES), tilt=20.0)
    with pytest.raises(InputError, match=r"20deg\.hspy and .*x60deg\.hspy have the same tilt, 20 degrees"):
        line_maps(tmp_path, ["Fe_Ka"])
    eds.write_hspy(tmp_path / "x60deg.hspy", np.zeros((N, N, eds.CHANNELS), np.uint8), tilt=60.0)
    with pytest.raises(InputError, match=r"x60deg\.hspy holds no counts"):
        line_maps(tmp_path, ["Fe_Ka"])


# ---------------------------------------------------------------- HyperSpy and ETSpy


def test_hyperspy_signals_as_they_are(folder):
    hs = pytest.importorskip("hyperspy.api")
    path, _ = folder
    files = sorted(path.glob("*.hspy"))
    signals = [hs.load(str(f)) for f in files]
    ours, theirs = line_maps([str(f) for f in files], ["Fe_Ka"]), line_maps(signals, ["Fe_Ka"])
    assert np.array_equal(ours.counts["Fe_Ka"], theirs.counts["Fe_Ka"])
    assert theirs.tilts_deg.tolist() == list(TILTS)
    assert theirs.pixel_size_nm == 5.0
    lazy = line_maps([hs.load(str(f), lazy=True) for f in files], ["Fe_Ka"])
    assert np.array_equal(lazy.counts["Fe_Ka"], ours.counts["Fe_Ka"])
    with pytest.raises(InputError, match=r"signal 1 .*no EDS spectrum image"):
        line_maps([signals[0].sum()], ["Fe_Ka"])


def test_stacks_as_signals_and_back():
    pytest.importorskip("hyperspy.api")
    maps = {n: np.random.default_rng(1).poisson(5, (5, 6, 8)).astype(np.float32) for n in ("Fe", "Si")}
    series = recon.TiltSeries.create(maps, TILTS, 2.5)
    signals = recon.to_signals(series)
    again = recon.read(signals)
    assert np.array_equal(again.counts, series.counts)
    assert (again.tilts_deg.tolist(), again.pixel_size_nm) == (list(TILTS), 2.5)
    uneven = recon.TiltSeries.create(maps, [-40, -10, 0, 20, 45], 2.5)
    assert recon.read(recon.to_signals(uneven)).tilts_deg.tolist() == [-40, -10, 0, 20, 45]
    volume = recon.Volume(maps["Fe"], 2.5, "Fe")
    signal = recon.to_signals(volume)
    assert np.array_equal(signal.data, maps["Fe"])
    assert [a.scale for a in signal.axes_manager._axes] == [2.5] * 3
    with pytest.raises(InputError, match="no tilts were given"):
        recon.read({"Fe": maps["Fe"]}, pixel_size_nm=1.0)


def test_etspy_stacks():
    pytest.importorskip("etspy")
    maps = {"Fe": np.random.default_rng(1).poisson(5, (5, 6, 8)).astype(np.float32)}
    series = recon.TiltSeries.create(maps, [-40, -10, 0, 20, 45], 2.5)
    stacks = recon.to_signals(series, etspy=True)
    assert type(stacks["Fe"]).__name__ == "TomoStack"
    again = recon.read(stacks)
    assert np.array_equal(again.counts, series.counts)
    assert (again.tilts_deg.tolist(), again.pixel_size_nm) == ([-40, -10, 0, 20, 45], 2.5)
    rec = recon.to_signals(recon.Volume(maps["Fe"], 2.5, "Fe"), etspy=True)
    assert type(rec).__name__ == "RecStack"
