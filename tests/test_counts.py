"""Maps that cannot be counts are told, each element by itself; raw counts never are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import recon
from recon.errors import InputError
from recon.series.counts import count_doubts

TILTS = np.arange(-70, 71, 10.0)


def expected(n=32, peak=40.0, background=0.3):
    """An ellipsoid that turns, in counts."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    maps = [1 - ((x - 3 * np.cos(t)) / (n / 4)) ** 2 - (y / (n / 3.5)) ** 2 for t in np.radians(TILTS)]
    return np.sqrt(np.clip(maps, 0, None)) * peak + background


COUNTS = np.random.default_rng(0).poisson(expected())
FEW = np.random.default_rng(1).poisson(expected(peak=3.0))
TOPS = COUNTS.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("n", [16, 48])
@pytest.mark.parametrize("peak", [0.05, 1, 10, 200, 5000, 1e5])
@pytest.mark.parametrize("background", [0, 0.3, 30])
@pytest.mark.parametrize("kind", [np.uint32, np.float32, ">i4"])
def test_counts_pass(n, peak, background, kind):
    counts = np.random.default_rng(int(n + peak)).poisson(expected(n, peak, background)).astype(kind)
    assert [d for d in count_doubts(counts, "Co", TILTS) if "is empty" not in d] == []


CANNOT = {
    "12 bits in the upper bits of 16": (COUNTS * 16, "multiples of 16"),
    "few counts in the upper bits": (FEW * 16, "multiples of 16"),
    "8 bits in the upper bits of 16": (COUNTS * 256, "multiples of 256"),
    "three times": (COUNTS * 3, "multiples of 3"),
    "byte order of 16 bits": (COUNTS.astype(np.uint16).byteswap(), "bytes stand in the wrong order"),
    "byte order of 32 bits": (COUNTS.astype(np.int32).byteswap(), "bytes stand in the wrong order"),
    "each map stretched to 255": (np.round(COUNTS / TOPS * 255).astype(np.uint8), "stretched by itself"),
    "each map stretched to 65535": (np.round(COUNTS / TOPS * 65535).astype(np.uint16), "stretched by itself"),
    "each map divided by its maximum": ((COUNTS / TOPS).astype(np.float32), "stretched by itself"),
    "all maps stretched to 255": (np.round(COUNTS / COUNTS.max() * 255).astype(np.uint8), "missing between"),
    "times 1.7, rounded": (np.round(COUNTS * 1.7), "missing between"),
    "mean of 37 frames": ((COUNTS / 37).astype(np.float32), "multiples of 1/37"),
    "mean of 16 pixels": (COUNTS / 16, "multiples of 1/16"),
    "divided by the maximum": ((COUNTS / COUNTS.max()).astype(np.float32), f"multiply by {COUNTS.max()}"),
    "counts per second": ((COUNTS / 141.8).astype(np.float32), "multiples of 0.00705"),
    "smoothed": (gaussian_filter(COUNTS.astype(float), (0, 1, 1)), "not whole numbers"),
    "smoothed and rounded": (np.round(gaussian_filter(COUNTS.astype(float), (0, 1, 1))), "scatter"),
    "a third, rounded": (np.round(COUNTS / 3), "scatter"),
    "32768 added": (COUNTS + 32768, "scatter"),
    "a mask of 255": ((COUNTS > 9) * 255, "this is a mask"),
    "true and false": (COUNTS > 9, "this is a mask"),
    "square root": (np.sqrt(COUNTS), "not whole numbers"),
    "clipped at 30": (np.minimum(COUNTS, 30), "clipped"),
    "clipped at 255": (np.minimum(COUNTS * 6 + FEW, 255).astype(np.uint8), "clipped"),
    "an empty map": (COUNTS * (TILTS != 20)[:, None, None], "map at 20 degrees is empty"),
    "a map twice": (COUNTS[[0, 1, 2, 2, *range(4, 15)]], "-50 and -40 degrees are the same"),
}


@pytest.mark.parametrize("what", CANNOT)
@pytest.mark.parametrize("others", [False, True])
def test_what_cannot_be_counts_is_told(what, others):
    """Alone, and beside an element whose maps are good: each is tested by itself."""
    maps, says = CANNOT[what]
    series = recon.read({"Zn": FEW, "Co": maps} if others else {"Co": maps}, TILTS, 2.0)
    told = [r for r in series.remarks if r.startswith("Co")]
    assert any(says in r for r in told), series.remarks
    assert not [r for r in series.remarks if r.startswith("Zn")]
    scaled = recon.read({"Co": maps}, TILTS, 2.0, scaled=True)
    assert not [r for r in scaled.remarks if "maps at" not in r]


def test_floats_in_the_wrong_byte_order_are_refused():
    """They come out as next to nothing, of which nothing could be reconstructed."""
    with pytest.raises(InputError, match=r"Co holds [\d.]+e-37 counts in all, less than one; .*in the wrong order"):
        recon.read({"Co": COUNTS.astype(np.float32).byteswap()}, TILTS, 2.0)


def test_two_elements_that_are_one():
    assert "hold the same maps" in recon.read({"Co": COUNTS, "Zn": COUNTS}, TILTS, 2.0).remarks[0]
    assert recon.read({"Co": COUNTS, "Zn": FEW}, TILTS, 2.0).remarks == ()


def test_tilts_that_hardly_differ():
    assert "span 14 degrees only" in recon.read({"Co": COUNTS}, np.arange(50, 65), 2.0).remarks[0]
