"""The CUDA kernels run on the CPU through `cuda_shim.h`.

The launchers of `recon.kernels.cuda` run too, in front of a CuPy that knows `asarray` and `RawModule`
only: it compiles the same source with g++ and checks number, order and size of the arguments.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import (
    PASSING,
    RHOS,
    SHAPES,
    check_certificate,
    check_coupled,
    check_data_steps,
    check_projection,
    check_tgv_steps,
    check_warp,
    f32,
    sizes,
)

from recon.errors import BackendError
from recon.kernels import cuda

# ---------------------------------------------------------------- bodies and launchers, on the CPU

COMPLAINTS = {-1: "a barrier is not reached by all threads", -2: "wrong number of arguments"}


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory):
    """A function from source and kernel names to the library g++ makes of them."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed, so the kernels cannot run on the CPU")
    folder = tmp_path_factory.mktemp("shim")

    @cache
    def build(code, names):
        library = folder / f"kernels_{abs(hash((code, names)))}"
        calls = [
            f'extern "C" int call_{i}(const unsigned* grid, const unsigned* block, int count, void** args, '
            f"const size_t* sizes) {{ return shim::launch({name}, grid, block, count, args, sizes); }}"
            for i, name in enumerate(names)
        ]
        text = "\n".join(['#include "cuda_shim.h"', code, *calls])
        library.with_suffix(".cpp").write_text(text)
        flags = [
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wno-unused",
            "-Werror",
            f"-I{Path(__file__).parent}",
        ]
        subprocess.run(["g++", *flags, "-o", library.with_suffix(".so"), library.with_suffix(".cpp")], check=True)
        return ctypes.CDLL(str(library.with_suffix(".so")))

    return build


@pytest.fixture
def shim(shim_library, monkeypatch):
    """`recon.kernels.cuda` in front of a CuPy whose arrays are NumPy's and whose device is the shim."""

    class RawModule:
        def __init__(self, code, options, name_expressions):
            self.library = shim_library(code, name_expressions)
            self.names = name_expressions

        def get_function(self, name):
            function = getattr(self.library, f"call_{self.names.index(name)}")

            def launch(grid, block, args):
                values = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else scalar(a) for a in args]
                addresses = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
                sizes = (ctypes.c_size_t * len(values))(*[ctypes.sizeof(v) for v in values])
                dims = [(ctypes.c_uint * 3)(*d) for d in (grid, block)]
                status = function(*dims, len(values), addresses, sizes)
                assert status == 0, f"{name}: {COMPLAINTS.get(status, f'argument {status} has the wrong size')}"

            return launch

    def scalar(a):
        return {np.int32: ctypes.c_int32, np.float32: ctypes.c_float, np.float64: ctypes.c_double}[type(a)](a)

    def forget():
        cuda._module.cache_clear()
        cuda._kernel.cache_clear()

    forget()
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(asarray=np.asarray, RawModule=RawModule))
    yield cuda
    forget()


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_tgv_steps(shim, shape, order, rho):
    check_tgv_steps(shim, shape, order, rho)


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_tgv_steps_in_16_bits(shim, shape, order, rho):
    check_tgv_steps(shim, shape, order, rho, short=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_certificate(shim, shape):
    check_certificate(shim, shape)


@pytest.mark.parametrize("components", [3, 6])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_coupled(shim, channels, components):
    check_coupled(shim, channels, components, RHOS[1])


@pytest.mark.parametrize(("shape", "nu"), [*[(shape, 5) for shape in SHAPES], ((7, 4, 3), 1), ((5, 9, 3), 20)])
@pytest.mark.parametrize("fineness", [1, 2])
def test_projection(shim, shape, nu, fineness):
    check_projection(shim, shape, nu, fineness=fineness)


@pytest.mark.parametrize("n_tilts", [1, 63, 64, 65, 130])
def test_projection_in_chunks_of_taps(shim, n_tilts):
    """More tilts, and more voxels along a ray, than a block prepares at a time."""
    check_projection(shim, (67, 70, 2), 9, np.random.default_rng(n_tilts).uniform(-np.pi, np.pi, n_tilts), 2)


@pytest.mark.parametrize(("recorded", "ideal"), [((6, 70), (5, 66)), ((1, 9), (4, 1)), ((3, 1), (1, 3))])
def test_warp(shim, recorded, ideal):
    check_warp(shim, recorded, ideal)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(sizes, sizes, st.integers(1, 70)),
    nu=sizes,
    order=st.integers(0, 2),
    rho=st.sampled_from(RHOS),
    recorded=st.tuples(sizes, sizes),
)
def test_any_shape(shim, shape, nu, order, rho, recorded):
    """Size-1 axes, odd sides, multiples of nothing; all kernels."""
    check_tgv_steps(shim, shape, order, rho)
    check_certificate(shim, shape)
    check_projection(shim, shape, nu)
    check_warp(shim, recorded, shape[1:])
    check_data_steps(shim, shape, rho)


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("shape", SHAPES)
def test_data_steps(shim, shape, rho):
    check_data_steps(shim, shape, rho)


def test_a_dual_step_without_a_regulariser_does_nothing(shim):
    s = reference.State((2, 3, 4), 0)
    before = s.u_bar.copy()
    shim.tgv_dual(s.p, s.q, s.u_bar, s.w_bar, *PASSING, f32(1), f32(1), f32(1))
    assert np.array_equal(s.u_bar, before)


@pytest.mark.parametrize("spoil", [lambda a: a.astype(float), lambda a: a[:, ::2], lambda a: a.transpose(2, 1, 0)])
def test_launchers_refuse_what_the_kernels_cannot_address(shim, spoil):
    volume, out = np.zeros((3, 4, 5), f32), np.zeros((1, 4, 5), f32)
    with pytest.raises(BackendError, match="project takes C-contiguous float32 arrays"):
        shim.project(spoil(volume), out, reference.rays(np.zeros(1), 5), 1)
