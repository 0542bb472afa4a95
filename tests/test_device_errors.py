"""Arrays that a kernel cannot address, and devices that fail: one typed line each, on a machine without a GPU."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from recon import backend
from recon.errors import BackendError, GeometryError, ReconError, ResourceError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import DetectorWarp, make_projector
from recon.series.alignment import Alignment

HOST = np.empty(0, np.float32)
GEOMETRY = TiltGeometry.single_axis([-30.0, 10.0], (5, 6))
PROJECTOR = make_projector(GEOMETRY, HOST)  # 6 x 5 x 6 voxels
VOLUME, STACK = np.zeros((6, 6, 5), np.float32), np.zeros((2, 6, 5), np.float32)
WARP = DetectorWarp(Alignment.identity(2), (5, 6), GEOMETRY, HOST)

WRONG = {
    "a list": (lambda a: a.tolist(), BackendError, "is a list; it must be a NumPy or CuPy array"),
    "precision": (lambda a: a.astype(np.float64), BackendError, "is float64; it must be float32"),
    "order": (lambda a: np.asfortranarray(a), BackendError, "it must be in C order"),
    "every other": (lambda a: np.repeat(a, 2, axis=2)[:, :, ::2], BackendError, "it must be in C order"),
    "shape": (lambda a: np.zeros((*a.shape[:2], 4), np.float32), GeometryError, "the geometry asks for"),
    "dimensions": (lambda a: a[0], GeometryError, "the geometry asks for"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    ("call", "source", "target"),
    [
        (PROJECTOR, VOLUME, STACK),
        (PROJECTOR.adjoint, STACK, VOLUME),
        (WARP, STACK, STACK),
        (WARP.adjoint, STACK, STACK),
    ],
)
def test_operators_refuse_what_kernels_cannot_address(call, source, target, wrong):
    spoil, error, message = WRONG[wrong]
    for arguments in ((spoil(source), target.copy()), (source, spoil(target))):
        with pytest.raises(error, match=message) as caught:
            call(*arguments)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(("volume (z, x, y)", "stack (tilt", "ideal stack", "recorded stack"))


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy whose device is what a test makes of it, with types that are named as the real ones."""
    module = ModuleType("cupy")
    module.ndarray = type("ndarray", (), {})
    failed = type("CUDARuntimeError", (RuntimeError,), {"__module__": "cupy_backends.cuda.api.runtime"})
    full = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})

    def no_device():
        raise failed("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    runtime = SimpleNamespace(getDeviceCount=no_device, runtimeGetVersion=lambda: 12090, driverGetVersion=lambda: 11040)
    module.cuda = SimpleNamespace(is_available=lambda: False, runtime=runtime)
    module.failed, module.full = failed, full
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: object())
    return module


def test_a_driver_that_is_too_old_is_named(cupy):
    with pytest.raises(BackendError, match=r"driver serves CUDA 11\.4, CuPy needs CUDA 12\.9; update the driver"):
        backend.resolve_device("cuda")
    assert backend.resolve_device("auto") == "cpu"


def test_no_device_is_said(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(BackendError, match="finds no CUDA device or driver"):
        backend.resolve_device("cuda")


@pytest.mark.parametrize(
    ("raised", "text", "error", "message"),
    [
        ("full", "Out of memory allocating 4,294,967,296 bytes", ResourceError, "GPU is out of memory"),
        ("failed", "cudaErrorMemoryAllocation: out of memory", ResourceError, "GPU is out of memory"),
        ("failed", "cudaErrorECCUncorrectable: uncorrectable ECC error", BackendError, "GPU failed .*ECC"),
        ("failed", "cudaErrorIllegalAddress: an illegal\nmemory access", BackendError, "start the job again"),
    ],
)
def test_failures_of_a_device_are_ours(cupy, raised, text, error, message):
    with pytest.raises(error, match=message) as caught, backend.device_errors():
        raise getattr(cupy, raised)(text)
    assert isinstance(caught.value, ReconError)
    assert "\n" not in str(caught.value)


def test_other_errors_pass_unchanged(cupy):
    with pytest.raises(ZeroDivisionError), backend.device_errors():
        raise ZeroDivisionError
