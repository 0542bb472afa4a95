"""How the Numba kernels are compiled, where they are kept, and the float32 constants they share."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from math import sqrt
from pathlib import Path

import numpy as np

# idle threads sleep instead of spinning: on a shared node a spinning team is many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from numba import config, njit
from numba.core.cpu import CPUTargetOptions
from numba.core.options import TargetOptions
from numba.misc.appdirs import AppDirs

# Numba has the compiler flag (it sets it for some of its own loops), but no keyword of `njit` for it
CPUTargetOptions.noalias = TargetOptions.Mapping("noalias")

_COMMON = {
    "fastmath": {"contract", "arcp", "nsz", "reassoc"},  # no infinities or NaNs are assumed away
    "error_model": "numpy",  # the test for a zero divisor would keep a loop from being vectorised
    "nogil": True,
}
_INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only, and cached with them
# an integer literal would lift a whole loop to float64
ONE, TWO, FOUR, ZERO = np.float32(1), np.float32(2), np.float32(4), np.float32(0)
HALF, ROOT_HALF, TINY = np.float32(0.5), np.float32(sqrt(0.5)), np.float32(1e-30)


# ---------------------------------------------------------------- where compiled kernels are kept


def folders():  # type: ignore[no-untyped-def]
    """Where compiled kernels may be kept, best first: Numba's own, beside the sources, the user's, temporary."""
    of_user = f"chemtomo-{os.getuid()}" if hasattr(os, "getuid") else "chemtomo"
    return (
        *([Path(config.CACHE_DIR)] if config.CACHE_DIR else []),
        Path(__file__).parent / "__pycache__",
        Path(AppDirs("chemtomo", appauthor=False).user_cache_dir),
        Path(tempfile.gettempdir()) / of_user,
    )


def first_usable(candidates):  # type: ignore[no-untyped-def]
    """The first of the folders that can be written and belongs to nobody else, or None.

    What is kept is run when it is read: a folder that another user has made in a temporary place must not be trusted.
    """
    for folder in candidates:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            if not hasattr(os, "getuid") or folder.stat().st_uid in (os.getuid(), 0):
                return folder
        except OSError:
            continue
    return None


def _sources():  # type: ignore[no-untyped-def]
    """A name for the state of all sources: Numba itself looks at the file of a kernel, not at those it calls into."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("cuda", "warm"):
            found.update(path.read_bytes())
    return f"recon-{found.hexdigest()[:16]}"


_BASE = first_usable(folders())
KEPT = None if _BASE is None else _BASE / _sources()
_changing = threading.Lock()  # of Numba's one setting: two threads may import modules with kernels at a time


# ---------------------------------------------------------------- how they are compiled


def jit(f):  # type: ignore[no-untyped-def]
    """A kernel, that runs on all cores, see `cpu_parallel`; its first argument is a part's number or `all_of` them."""
    with _changing:
        before, config.CACHE_DIR = config.CACHE_DIR, str(KEPT or "")
        try:
            return njit(f, cache=KEPT is not None, **_COMMON)
        finally:
            config.CACHE_DIR = before


def leaf(f):  # type: ignore[no-untyped-def]
    """A part of a kernel that allocates nothing and writes to no array that overlaps another of its arguments.

    Counting the references of thirty rows, or checking at run time which of them overlap, would take
    longer than the arithmetic on them.
    """
    return njit(f, _nrt=False, noalias=True, **_INSIDE, **_COMMON)


def inlined(f):  # type: ignore[no-untyped-def]
    """A part of an expression, put into its callers before they are compiled."""
    return njit(f, inline="always", **_COMMON)
