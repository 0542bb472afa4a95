"""A simulated series of spectrum images."""

from __future__ import annotations

from pathlib import Path

import eds
import numpy as np
import pytest

N = 24


TILTS = (-40.0, -20.0, 0.0, 20.0, 40.0)


ONES = np.ones((N, N))


FE, CO, SI = 6.0 * eds.disc(N, 0.3, (0.4, 0.4)), 5.0 * eds.disc(N, 0.2, (0.65, 0.6)), 1.0 * ONES


def write_series(folder: Path, contents=None, writer=eds.write_hspy, suffix=".hspy", stray=0.0, shift=0.0, **kwargs):
    """A series of spectrum images, one file a tilt; `stray` counts of Cu grow with tilt, `shift` keV with number."""
    images = []
    for i, t in enumerate(TILTS):
        what = dict(contents or {"Fe": FE, "Co": CO, "Si": SI})
        if stray:
            what["Cu"] = stray * ONES * (0.2 + (t / 40) ** 2)
        image = eds.spectrum_image(what, 8 * ONES / np.cos(np.radians(t)), seed=i, shift_kev=shift * i)
        images.append(image)
        writer(folder / f"{t:g}deg{suffix}", image, tilt=t, **kwargs)
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("series")
    return path, write_series(path)
