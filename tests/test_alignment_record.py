"""`alignment.json` gives back what was written, and a wrong one is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon.errors import InputError
from recon.files import json_text, to_json
from recon.io.alignment import alignment_record, load_alignment
from recon.preparation.normalise import normalise
from recon.series.alignment import Alignment

# ---------------------------------------------------------------- alignment.json


@pytest.fixture
def record(small):
    series = normalise(small[0])
    rng = np.random.default_rng(0)
    a = Alignment(rng.uniform(-5, 5, (15, 2)), -3.25, 1.125, "somehow", rng.uniform(0.9, 1.1, 15))
    return series.evolve(alignment=a)


def test_an_alignment_survives_its_file(record, tmp_path):
    path = tmp_path / "alignment.json"
    path.write_text(json_text(alignment_record(record)))
    found = load_alignment(path, record.tilts_deg)
    np.testing.assert_allclose(found.shifts, record.alignment.shifts, atol=6e-5)
    assert (found.rotation_deg, found.axis_offset) == (-3.25, 1.125)
    assert found.method == "from alignment.json"
    raw = json.loads(path.read_text())
    assert raw["isolated"] is True
    np.testing.assert_allclose(raw["exposures"]["Zn"], record.exposures[1], atol=1e-6)
    np.testing.assert_allclose(raw["background_counts_per_pixel"]["Co"], record.background[0], atol=1e-6)
    np.testing.assert_allclose(raw["residual_chi_square"], record.alignment.residual, atol=1e-4)
    np.testing.assert_array_equal(raw["tilts_deg"], record.tilts_deg)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shifts_u_pixels": None}, "shifts_u_pixels"),
        ({"rotation_deg": None}, "rotation_deg"),
        ({"shifts_v_pixels": [0.0] * 14}, "agree"),
        ({"shifts_v_pixels": [0.0] * 14, "shifts_u_pixels": [0.0] * 14}, "agree"),
        ({"tilts_deg": [0.0] * 14}, "14 tilts, the series has 15"),
        ({"tilts_deg": list(range(15))}, "other tilts"),
        ({"shifts_v_pixels": [float("nan")] * 15}, "not finite"),
        ({"axis_offset_pixels": float("inf")}, "not finite"),
        ({"axis_offset_pixels": "far"}, "not an alignment.json"),
        ({"shifts_v_pixels": ["a"] * 15}, "not an alignment.json"),
        ({"rotation_deg": [1, 2]}, "not an alignment.json"),
        ({"tilts_deg": 5}, "tilts_deg does not fit"),
        ({"tilts_deg": [[t] for t in range(15)]}, "tilts_deg.0 does not fit"),
        ({"tilts_deg": [float("nan")] * 15}, "NaN is not finite"),
        ({"tilts_deg": [500.0] * 15}, "no angles"),
    ],
)
def test_a_wrong_alignment_file(record, tmp_path, change, word):
    raw = to_json(alignment_record(record)) | change
    path = tmp_path / "alignment.json"
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    with pytest.raises(InputError) as caught:
        load_alignment(path, record.tilts_deg)
    said = str(caught.value)
    assert str(path) in said
    assert word in said.replace(str(path), "")
    assert "\n" not in said


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1, 2]", b"3", b"\xff\xfe\x00", b"null"])
def test_a_file_that_is_no_alignment(record, tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json"):
        load_alignment(path, record.tilts_deg)
