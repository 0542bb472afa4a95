"""What the tests of files share: a stack, volumes, what a wrong file gets, and silence."""

from __future__ import annotations

import numpy as np
import pytest

from recon.series.volume import Volume

RNG = np.random.default_rng(7)
STACK = RNG.poisson(5.0, (6, 9, 8)).astype(np.float32)
TILTS = [-40, -20, 0, 10, 30, 50]
VALUES = RNG.normal(size=(5, 7, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def silent(capfd):
    """Nothing here may print: neither we nor a library we call."""
    yield
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def fails(kind, call, *args, says=(), **kwargs):
    """`call` raises `kind` with one line that contains every one of `says`."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    for word in (says,) if isinstance(says, str) else says:
        assert word in text, text
    return text


def two_volumes(scale=1.0):
    return {e: Volume(VALUES * np.float32(scale * k), 2.5, e) for k, e in enumerate(("Co", "Zn"), 1)}
