"""DM3 and DM4: tilts of the stage and of the tomography plug-in, and what a stored number means."""

from __future__ import annotations

import numpy as np
import pytest
from files import fails

import recon
from recon.eds.recording import recording_of
from recon.errors import InputError
from recon.io.formats import microscope
from recon.io.formats.digital_micrograph import calibrated, stage_tilt, tilts_of

COUNTS = np.random.default_rng(0).poisson(5.0, (5, 7, 6))
TILTS = np.array([-40.0, -20, 0, 20, 40])


def signal(values, *, tags=None, brightness=None):
    """As rosettasciio gives it; the names of tags are those of a real file."""
    names = ("z", "y", "x")[-values.ndim :]
    group = {"ImageTags": tags or {}, "ImageData": {"Calibrations": {"Brightness": brightness or {}}}}
    axes = [{"name": n, "size": s, "scale": 2.0, "offset": 0.0, "units": "nm", "navigate": n == "z"}
            for n, s in zip(names, values.shape, strict=True)]  # fmt: skip
    return {"data": values, "axes": axes, "metadata": {}, "original_metadata": {"ImageList": {"TagGroup0": group}}}


def stage(alpha):
    return {"Microscope Info": {"Stage Position": {"Stage Alpha": alpha, "Stage X": 1.0}}}


def plug_in(low, high, step):
    angles = {"Minimum tilt angle (deg)": low, "Maximum tilt angle (deg)": high, "Tilt angle step (deg)": step}
    return {"Tomography": {"Tomography setup": {"Tilt angles": angles}}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write "DM files": what is read from each is the signal given for its name."""
    held = {}
    monkeypatch.setattr(microscope, "signals_of", lambda path: [held[path.name]])

    def write(name, made):
        held[name] = made
        (tmp_path / name).write_bytes(b"x" * 64)
        return tmp_path / name

    return write


def test_one_map_per_file_at_the_stages_tilt(files):
    paths = [files(f"map{i}.dm4", signal(c, tags=stage(t))) for i, (c, t) in enumerate(zip(COUNTS, TILTS, strict=True))]
    series = recon.read({"Co": paths})
    assert series.tilts_deg.tolist() == TILTS.tolist()
    np.testing.assert_array_equal(series.counts[0], COUNTS)
    with pytest.warns(recon.ReconWarning, match=r"map1\.dm4 is at -15 degrees by the tilts given and at -20"):
        recon.read({"Co": paths}, [-40, -15, 0, 20, 40])
    fails(InputError, recon.read, {"Co": paths}, [-20, -40, 0, 20, 40], says="same tilts in another order")


def test_a_stack_at_the_tilts_that_the_plug_in_was_set_to(files):
    path = files("a.dm3", signal(COUNTS, tags=plug_in(-40.0, 40.0, 20.0)))
    assert recon.read({"Co": path}).tilts_deg.tolist() == TILTS.tolist()
    for wrong in (plug_in(-40.0, 40.0, 10.0), plug_in(-40.0, 40.0, 0.0), plug_in("a", 40.0, 20.0), {}, stage(3.0)):
        assert tilts_of(signal(COUNTS, tags=wrong), 5) is None


def test_the_stages_tilt_is_that_of_a_single_image_only():
    one = signal(COUNTS[0], tags=stage(-20.0))
    assert tilts_of(one, 1).tolist() == [-20.0]
    assert stage_tilt({"original_metadata": {"ImageList": 3}}) is None
    assert stage_tilt(signal(COUNTS[0], tags=stage("n/a"))) is None


def test_the_stages_tilt_of_a_spectrum_image(tmp_path):
    made = signal(np.ones((4, 4, 9)), tags=stage(35.0))
    made["axes"][2] |= {"units": "keV", "scale": 0.01}
    assert recording_of(tmp_path / "a.dm4", made, 2, (0, 1)).stage_tilt_deg == 35.0


@pytest.mark.parametrize(
    ("stored", "origin", "scale"),
    [
        ((COUNTS - 32768).astype(np.int16), -32768.0, 1.0),
        ((COUNTS * 4).astype(np.int32), 0.0, 0.25),
        ((COUNTS * 2.0 + 7).astype(np.float32), 7.0, 0.5),
        (COUNTS.astype(np.uint16), 0.0, 1.0),
        (COUNTS.astype(np.uint16), 0.0, 0.0),  # nothing is said
    ],
)
def test_what_a_stored_number_means(files, stored, origin, scale):
    path = files("a.dm3", signal(stored, brightness={"Origin": origin, "Scale": scale, "Units": "counts"}))
    series = recon.read({"Co": path}, TILTS)
    np.testing.assert_array_equal(series.counts[0], COUNTS)
    said = any("intensity calibration" in line for line in series.history)
    assert said == ((origin, scale or 1.0) != (0.0, 1.0))


def test_values_stay_as_they_are_where_nothing_is_said():
    values, notes = calibrated(COUNTS, {"original_metadata": {}})
    assert values is COUNTS
    assert notes == ()
