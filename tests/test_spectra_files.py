"""Ripple's own keys and size, Velox's detectors by name with their own times, sums over ranges of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from files import fails
from files import silent as silent  # a fixture

from recon.eds.read import read_spectra, velox_frames
from recon.errors import InputError

FORMATS = Path(__file__).resolve().parents[2] / "shared" / "data" / "formats"  # of other programs, beside the checkout
real = pytest.mark.skipif(not FORMATS.is_dir(), reason="the small files of other programs are not here")
COUNTS = np.random.default_rng(2).poisson(1.0, (5, 6, 400)).astype(np.uint16)  # (y, x, channel)
KEYS = {"width": 6, "height": 5, "depth": 400, "offset": 0, "data-length": 2, "data-type": "unsigned",
        "byte-order": "little-endian", "record-by": "vector", "ev-per-chan": 20}  # fmt: skip


def write(path, counts=COUNTS, head=b"", **changes):
    keys = {**KEYS, **{k.replace("_", "-"): v for k, v in changes.items()}}
    path.write_text("key\tvalue\n" + "".join(f"{k}\t{v}\n" for k, v in keys.items() if v is not None))
    path.with_suffix(".raw").write_bytes(head + counts.tobytes())
    return path


@pytest.mark.parametrize(
    ("counts", "head", "changes"),
    [
        (COUNTS, b"", {}),
        (COUNTS, b"12345678", {"offset": 8}),
        (COUNTS.transpose(2, 0, 1), b"", {"record_by": "image"}),
        (COUNTS.astype(">u2"), b"", {"byte_order": "big-endian"}),
        (COUNTS.astype(np.uint8), b"", {"data_length": 1, "byte_order": "dont-care"}),
        (COUNTS.astype(np.int32), b"", {"data_length": 4, "data_type": "signed"}),
        (COUNTS.astype(np.float32), b"", {"data_length": 4, "data_type": "float"}),
        (COUNTS, b"", {"ev_per_chan": None, "depth_scale": 0.02, "depth_units": "keV", "depth_origin": 0.0}),
        (COUNTS, b"", {"detector_peak_width_ev": 132}),
    ],
)
def test_keys_of_ripple(tmp_path, counts, head, changes):
    image = read_spectra(write(tmp_path / "a.rpl", np.ascontiguousarray(counts), head, **changes))
    np.testing.assert_array_equal(image.counts[0], COUNTS)
    recording = image.recording
    assert (recording.frame, recording.channels, recording.energy_offset_kev) == ((5, 6), 400, 0.0)
    assert recording.energy_step_kev == pytest.approx(0.02)
    if "detector_peak_width_ev" in changes:
        assert recording.resolution.fwhm(5.8988) == pytest.approx(0.132, rel=0.01)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: write(p, COUNTS[:4]), "24000 bytes, but a.raw has 19200 bytes"),
        (lambda p: write(p, COUNTS, b"12345678"), "24000 bytes, but a.raw has 24008 bytes"),
        (lambda p: write(p, width=7), "5 x 7 pixels of 400 channels"),
        (lambda p: write(p, data_length=4), "48000 bytes, but"),
        (lambda p: write(p, depth=None), "lacks one of width"),
        (lambda p: write(p, height="five"), "lacks one of width"),
        (lambda p: write(p).with_suffix(".raw").unlink(), "no a.raw beside it"),
        (lambda p: write(p, ev_per_chan=None), "no EDS spectrum image"),
    ],
)
def test_ripple_that_contradicts_itself(tmp_path, change, says):
    change(tmp_path / "a.rpl")
    fails(InputError, read_spectra, tmp_path / "a.rpl", says=("a.rpl", says))


@real
def test_velox_detectors_have_names_and_times_of_their_own():
    image = read_spectra(FORMATS / "velox-16x16.emd", detectors="each")
    totals = dict(zip(image.parts, image.counts.sum(axis=(1, 2, 3)).tolist(), strict=True))
    assert totals == {"SuperXG21": 13945, "SuperXG22": 10177, "SuperXG23": 11538, "SuperXG24": 6437}
    times = {d.name: d.live_time_s for d in image.recording.detectors}
    assert list(times) == sorted(totals)
    assert times["SuperXG21"] == pytest.approx(0.49210381)  # after its second and last frame, by its own stream
    summed = read_spectra(FORMATS / "velox-16x16.emd")
    assert int(summed.counts.sum()) == sum(totals.values())
    assert {d.name: d.live_time_s for d in summed.recording.detectors} == times
    assert summed.recording.live_time_s == pytest.approx(np.mean(list(times.values())))


@real
def test_sums_over_ranges_of_frames():
    path = FORMATS / "velox-16x16.emd"
    n = velox_frames(path)
    each = [read_spectra(path, frames=(i, i + 1)).counts.astype(np.int64) for i in range(n)]
    assert np.array_equal(sum(each), read_spectra(path).counts)
    assert n == 2
    assert all(one.any() for one in each)
    fails(InputError, read_spectra, path, frames=(0, n + 1), says=f"has {n} frames")


@real
def test_a_pruned_velox_file():
    fails(InputError, read_spectra, FORMATS / "velox-16x16-pruned.emd", says=("velox-16x16-pruned.emd", "spectrum"))
