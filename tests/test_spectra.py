"""Spectrum images in: every format, what is read from it, where the tilt comes from, and what wrong files get."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import eds
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.eds.read import READERS, find_spectra, read_spectra
from recon.eds.recording import agree
from recon.eds.tilts import find_tilts
from recon.errors import InputError, ReconError
from recon.io.tilts import read_mdoc, read_tilts

COUNTS = eds.spectrum_image({"Fe": 8 * eds.disc(12), "Si": 3 + 0 * eds.disc(12)}, 4 + 0 * eds.disc(12))[:, :10]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "L2083-K-4-1"
WRITERS = {".hspy": eds.write_hspy, ".zspy": eds.write_zspy, ".rpl": eds.write_rpl}


def says(*words: str):
    return lambda message: "\n" not in message and all(w in message for w in words)


def fails(path: Path, *words: str, call=read_spectra) -> None:
    with pytest.raises(ReconError) as caught:
        call(path)
    assert says(*words)(str(caught.value)), str(caught.value)


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("suffix", WRITERS)
def test_counts_and_metadata(tmp_path, suffix):
    path = WRITERS[suffix](tmp_path / f"a{suffix}", COUNTS, tilt=-12.5, pixel_nm=4.0, kv=300.0)
    image = read_spectra(path)
    assert image.counts.shape == (1, 12, 10, eds.CHANNELS)
    assert np.array_equal(image.counts[0], COUNTS)
    r = image.recording
    assert (r.frame, r.channels, r.stage_tilt_deg, r.voltage_kv) == ((12, 10), eds.CHANNELS, -12.5, 300.0)
    assert (r.energy_offset_kev, r.energy_step_kev) == pytest.approx((eds.OFFSET, eds.STEP))
    assert (r.pixel_size_nm, r.live_time_s) == pytest.approx((4.0, 90.0))
    assert r.detectors[0].elevation_deg == 18.0
    assert r.resolution.fwhm(5.8988) == pytest.approx(0.130, rel=1e-3)
    if suffix != ".rpl":  # which has no place for it
        assert r.beam_current_na == 0.5
        # 0.5 nA for 100 s are 3.12e11 electrons, on 48 x 40 nm
        assert r.dose_per_nm2 == pytest.approx(0.5e-9 * 100 / 1.602177e-19 / (48 * 40), rel=1e-5)


@pytest.mark.parametrize(("energy", "length"), [("eV", "µm"), ("keV", "m")])
def test_units_are_converted_once(tmp_path, energy, length):
    r = read_spectra(eds.write_hspy(tmp_path / "a.hspy", COUNTS, energy_unit=energy, length_unit=length)).recording
    assert (r.energy_offset_kev, r.energy_step_kev) == pytest.approx((eds.OFFSET, eds.STEP))
    assert r.pixel_size_nm == pytest.approx(5.0)


def test_velox(tmp_path):
    parts = [COUNTS, COUNTS // 2, np.ones_like(COUNTS), 3 * COUNTS]
    path = eds.write_velox(tmp_path / "v.emd", parts, tilt=33.25, pixel_nm=2.0, scan_rotation_deg=-90, frames=3)
    whole = read_spectra(path)
    assert whole.counts.shape == (1, 12, 10, eds.CHANNELS)
    assert np.array_equal(whole.counts[0], sum(p.astype(int) for p in parts))
    r = whole.recording
    assert (r.stage_tilt_deg, r.pixel_size_nm, r.voltage_kv) == pytest.approx((33.25, 2.0, 200.0))
    assert r.scan_rotation_deg == pytest.approx(-90)
    assert [d.azimuth_deg for d in r.detectors] == pytest.approx([45, 135, 225, 315])
    assert [d.elevation_deg for d in r.detectors] == pytest.approx([18] * 4)
    assert [d.live_time_s for d in r.detectors] == [80, 81, 82, 83]
    assert (r.live_time_s, r.real_time_s) == (81.5, 100.0)
    each = read_spectra(path, detectors="each")
    assert each.parts == ("SuperXG11", "SuperXG12", "SuperXG13", "SuperXG14")
    for got, expected in zip(each.counts, parts, strict=True):
        assert np.array_equal(got, expected)


def test_velox_frames_can_be_read_apart(tmp_path):
    path = eds.write_velox(tmp_path / "v.emd", [COUNTS], frames=3)
    frames = [read_spectra(path, frames=(i, i + 1)).counts[0].astype(int) for i in range(3)]
    assert np.array_equal(sum(frames), COUNTS)
    assert all(0 < f.sum() < COUNTS.sum() for f in frames)
    fails(path, "3 frames", "0 to 3", call=lambda p: read_spectra(p, frames=(2, 9)))
    hspy = eds.write_hspy(tmp_path / "a.hspy", COUNTS)
    fails(hspy, "a.hspy", "frames", call=lambda p: read_spectra(p, frames=(0, 1)))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tilt series is not here")
def test_bruker():
    image = read_spectra(DATA / "-40.bcf")
    r = image.recording
    assert image.counts.shape == (1, 256, 256, 2048)
    assert image.counts.dtype == np.uint8
    assert (r.pixel_size_nm, r.energy_offset_kev, r.energy_step_kev) == pytest.approx(
        (13.08144, -0.470891225, 0.010003)
    )
    assert (r.real_time_s, r.live_time_s, r.stage_tilt_deg) == (pytest.approx(141.85, abs=0.01), None, None)
    assert "Pt" in r.elements
    assert 0.125 < r.resolution.fwhm(5.8988) < 0.140


# ---------------------------------------------------------------- which files


def test_a_folder_a_pattern_a_file(tmp_path):
    for t in (-10, -5, 0, 5, 10):
        eds.write_hspy(tmp_path / f"{t}.hspy", COUNTS[:4, :4])
    order = ["-10.hspy", "-5.hspy", "0.hspy", "5.hspy", "10.hspy"]
    assert [p.name for p in find_spectra(tmp_path)] == order
    assert [p.name for p in find_spectra("*.hspy", tmp_path)] == order
    assert [p.name for p in find_spectra("5.hspy", tmp_path)] == ["5.hspy"]
    (tmp_path / "a.bcf").touch()
    fails(tmp_path, "mixes .bcf and .hspy", "/*.bcf", call=find_spectra)
    fails(Path("no_*.bcf"), "no file matches", call=lambda p: find_spectra(p, tmp_path))
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "holds no spectrum images", ".emd", call=find_spectra)


# ---------------------------------------------------------------- tilts


@pytest.fixture
def recordings(tmp_path):
    one = read_spectra(eds.write_hspy(tmp_path / "a.hspy", COUNTS, tilt=None)).recording
    return lambda *names: [replace(one, path=tmp_path / n) for n in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("-40.bcf", "0.bcf", "35.5.bcf"), (-40, 0, 35.5)),
        (("x_-40deg_2.emd", "x_+10deg_7.emd", "x_20 deg.emd"), (-40, 10, 20)),
        (("a_tilt_-5_1.emd", "a_tilt_0_2.emd", "a_tilt_5.5_3.emd"), (-5, 0, 5.5)),
        (("s alpha=-30.emd", "s alpha=0.emd", "s alpha=30.emd"), (-30, 0, 30)),
    ],
)
def test_tilts_from_names(recordings, names, expected):
    tilts, sources = find_tilts(recordings(*names))
    assert tilts.tolist() == list(expected)
    assert set(sources) == {"the file's name"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("map1.bcf", "map7.bcf", "map9.bcf"), ("map1.bcf", "not a number of degrees")),
        (("1.bcf", "2.bcf", "3.bcf", "4.bcf"), ("run from 1 to 4", "may only count")),
        (("tilt-5.bcf", "tilt-15.bcf", "tilt-25.bcf"), ("minus or a hyphen",)),
        (("0.bcf", "10deg.bcf", "20.bcf"), ("0 and 10deg", "do not follow one pattern")),
        (("0.bcf", "10.bcf", "b/10.bcf"), ("10.bcf", "b/10.bcf", "same tilt, 10")),
    ],
)
def test_names_that_leave_a_doubt_are_not_used(recordings, names, words):
    with pytest.raises(InputError) as caught:
        find_tilts(recordings(*names))
    assert says(*words, "[input] tilts")(str(caught.value)), str(caught.value)


def test_the_stage_comes_first_unless_it_says_nothing(recordings):
    three = recordings("10.bcf", "20.bcf", "30.bcf")
    moved = [replace(r, stage_tilt_deg=t) for r, t in zip(three, (-1.5, 0.0, 2.5), strict=True)]
    assert find_tilts(moved)[0].tolist() == [-1.5, 0.0, 2.5]
    assert find_tilts(moved)[1] == ["stage"] * 3
    still = [replace(r, stage_tilt_deg=0.0) for r in three]
    assert find_tilts(still)[0].tolist() == [10, 20, 30]
    with pytest.raises(InputError, match="stage says 0 for every file"):
        find_tilts([replace(r, path=Path(f"map{i}x.bcf")) for i, r in enumerate(still)])
    assert find_tilts(moved, [5, 6, 7])[1] == ["given"] * 3
    with pytest.raises(InputError, match="4 tilts were given for 3 spectrum images"):
        find_tilts(moved, [1, 2, 3, 4])


MDOC = "PixelSpacing = 1.2\n\n[T = SerialEM]\n\n" + "".join(
    f"[ZValue = {i}]\nTiltAngle = {t}\nSubFramePath = D:\\data\\map{i}x.bcf\n\n"
    for i, t in enumerate((-20.5, 0.01, 19))
)


def test_an_mdoc(recordings, tmp_path):
    (tmp_path / "series.mdoc").write_text(MDOC)
    tilts, sources = find_tilts(recordings("map0x.bcf", "map1x.bcf", "map2x.bcf"))
    assert tilts.tolist() == [-20.5, 0.01, 19]
    assert set(sources) == {"series.mdoc"}
    assert read_tilts(tmp_path / "series.mdoc").tolist() == [-20.5, 0.01, 19]
    (tmp_path / "series.mdoc").unlink()
    for i, t in enumerate((3, 5, 9)):
        (tmp_path / f"map{i}x.bcf.mdoc").write_text(f"[ZValue = 0]\nTiltAngle = {t}\n")
    tilts, sources = find_tilts(recordings("map0x.bcf", "map1x.bcf", "map2x.bcf"))
    assert (tilts.tolist(), set(sources)) == ([3, 5, 9], {".mdoc"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ZValue = 0]\nTiltAngle = up\n", ("a.mdoc:2", "'up'")),
        ("[ZValue = 0]\nDefocus = 1\n", ("a.mdoc:1", "no TiltAngle")),
        ("nothing\n", ("a.mdoc", "no section")),
    ],
)
def test_a_wrong_mdoc(tmp_path, text, words):
    (tmp_path / "a.mdoc").write_text(text)
    fails(tmp_path / "a.mdoc", *words, call=read_mdoc)


# ---------------------------------------------------------------- series that disagree


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixel_size_nm": 5.05}, ("c.bcf", "pixel sizes of 5.05 nm", "5 nm", "pixel_size_nm")),
        ({"frame": (12, 11)}, ("c.bcf", "12 x 11", "12 x 10")),
        ({"voltage_kv": 80.0}, ("c.bcf", "voltages of 80 kV", "200 kV")),
        ({"scan_rotation_deg": 90.0}, ("c.bcf", "scan rotations of 90 degrees", "0 degrees")),
    ],
)
def test_a_mixed_series_is_told_by_name(recordings, change, words):
    four = [replace(r, scan_rotation_deg=0.0) for r in recordings("a.bcf", "b.bcf", "c.bcf", "d.bcf")]
    agree(four)
    agree([replace(r, scan_rotation_deg=s) for r, s in zip(four, (359.8, 0.1, 0.0, 0.2), strict=True)])
    agree([replace(r, pixel_size_nm=5.0 * (1 + 0.004 * (i == 2))) for i, r in enumerate(four)])
    four[2] = replace(four[2], **change)
    with pytest.raises(InputError) as caught:
        agree(four)
    assert says(*words)(str(caught.value)), str(caught.value)


# ---------------------------------------------------------------- wrong files


def test_files_that_are_not_what_they_say(tmp_path):
    (tmp_path / "no.bcf").touch()
    fails(tmp_path / "no.bcf", "no.bcf", "is empty")
    fails(tmp_path / "none.bcf", "does not exist")
    fails(tmp_path / "a.jpg", "'.jpg'", ".bcf")
    for suffix in READERS:
        path = tmp_path / f"text{suffix}"
        path.write_text("This is a letter, not a spectrum image.\n" * 50)
        fails(path, path.name)


def test_a_file_without_a_spectrum_in_every_pixel(tmp_path):
    only = eds.signal(COUNTS)
    from rsciio.hspy import file_writer

    image = {**only, "data": COUNTS.sum(-1), "axes": only["axes"][:2]}
    image["metadata"] = {**only["metadata"], "General": {"title": "HAADF"}, "Signal": {"signal_type": ""}}
    file_writer(str(tmp_path / "i.hspy"), image)
    fails(tmp_path / "i.hspy", "i.hspy", "no EDS spectrum image", "HAADF 12 x 10")
    eels = eds.signal(COUNTS)
    eels["metadata"]["Signal"]["signal_type"] = "EELS"
    file_writer(str(tmp_path / "e.hspy"), eels)
    fails(tmp_path / "e.hspy", "no EDS spectrum image")


def test_pixels_and_energies_that_cannot_be(tmp_path):
    from rsciio.hspy import file_writer

    def altered(**changes):
        wrong = eds.signal(changes.pop("data", COUNTS))
        for (i, key), value in changes.pop("axes", {}).items():
            wrong["axes"][i][key] = value
        file_writer(str(tmp_path / "a.hspy"), wrong)
        return tmp_path / "a.hspy"

    fails(altered(axes={(0, "scale"): 6.0}), "a.hspy", "5 x 6 nm", "square")
    fails(altered(axes={(2, "units"): ""}), "a.hspy", "no energy calibration")
    fails(altered(axes={(2, "scale"): -1.0}), "a.hspy", "no energy calibration")
    fails(altered(data=COUNTS.astype(float) - 1), "a.hspy", "negative")
    r = read_spectra(altered(axes={(0, "units"): "", (1, "units"): ""})).recording
    assert r.pixel_size_nm is None


def test_a_pruned_velox_file(tmp_path):
    path = eds.write_velox(tmp_path / "v.emd", [COUNTS])
    with h5py.File(path, "a") as file:
        del file["Data/SpectrumStream"]
    fails(path, "v.emd", "no EDS spectrum image")


def one_line_or_image(path):
    said = None
    try:
        return read_spectra(path)
    except ReconError as exc:
        said = str(exc)
    assert "\n" not in said
    assert str(path) in said
    return None


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    small = COUNTS[:6, :6]
    found = {
        ".hspy": eds.write_hspy(folder / "a.hspy", small),
        ".emd": eds.write_velox(folder / "a.emd", [small, small]),
        ".rpl": eds.write_rpl(folder / "a.rpl", small),
    }
    if DATA.is_dir():
        found[".bcf"] = DATA / "0.bcf"
    return found


@pytest.mark.parametrize("suffix", [".hspy", ".emd", ".rpl", ".bcf"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.97])
def test_a_file_cut_short_ends_in_one_line(tmp_path, valid, suffix, part):
    """It may still be whole where only padding went, but then the counts are all there."""
    if suffix not in valid:
        pytest.skip("the real tilt series is not here")
    source = valid[suffix]
    path = tmp_path / source.name
    raw = source.read_bytes()
    if suffix == ".rpl":  # the header is text; the counts are beside it
        shutil.copy(source, path)
        data = source.with_suffix(".raw").read_bytes()
        path.with_suffix(".raw").write_bytes(data[: int(part * len(data))])
    else:
        path.write_bytes(raw[: int(part * len(raw))])
    image = one_line_or_image(path)
    if image is not None:
        assert np.array_equal(image.counts, read_spectra(source).counts)


@pytest.mark.parametrize("suffix", [".hspy", ".emd", ".rpl"])
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_fuzzed_header_ends_in_one_line(tmp_path, valid, suffix, data):
    source = valid[suffix]
    raw = bytearray(source.read_bytes())
    # HDF5 keeps its structure in the first kilobytes; a .rpl is text throughout
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, min(len(raw), 6000) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"f{suffix}"
    path.write_bytes(raw)
    if suffix == ".rpl":
        shutil.copy(source.with_suffix(".raw"), path.with_suffix(".raw"))
    image = one_line_or_image(path)
    assert image is None or image.counts.ndim == 4
