"""Which arrays and which kernels: NumPy and Numba, or CuPy and CUDA.

The backend follows the array that is handed in. Nothing here imports CuPy or Numba before it is
needed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recon.errors import BackendError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

THREADS = "RECON_THREADS"  # how many threads a user wants, Numba's and BLAS's alike
_blas: Any = None  # limits hold as long as this does

Array = NDArray[Any]  # or a CuPy array: the two share one interface and no common base


def cores() -> int:
    """Cores that this process was given, never the machine's: its affinity, a cgroup's quota, what Slurm says, and what
    the user allows Numba or OpenMP."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows, macOS
        found = os.cpu_count() or 1
    for folder in _cgroups():
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                quota, period = " ".join(Path(f"{folder}/{name}").read_text() for name in files).split()
                if float(quota) > 0:
                    found = min(found, math.ceil(float(quota) / float(period)))
            except (OSError, ValueError):  # no such cgroup, or "max"
                continue
    ranks = os.environ.get("MPI_LOCALNRANKS", os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", ""))
    if ranks.isdigit() and found == os.cpu_count():  # of several ranks that no launcher has bound to cores
        found //= max(int(ranks), 1)
    for name in (THREADS, "SLURM_CPUS_PER_TASK", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            found = min(found, int(text))
    return max(found, 1)


def _cgroups() -> Iterator[str]:
    """Folders of this process's cgroup and of those around it, each of which may have a quota; of both versions."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    of_process = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    for names, path in [("", "/"), ("cpu", "/"), *of_process]:  # a container sees its own as the root
        if names and "cpu" not in names.split(","):
            continue
        parts = path.strip("/").split("/")
        for n in range(len(parts) + 1):
            yield "/".join(["/sys/fs/cgroup" + "/cpu" * bool(names), *parts[:n]]).rstrip("/")


def use_threads(threads: int | None = None) -> int:
    """Let Numba and the BLAS of NumPy and SciPy use so many threads, by default `cores`; returns how many."""
    global _blas
    allowed = cores()
    number = allowed if threads is None else min(threads, allowed)
    from threadpoolctl import threadpool_limits

    _blas = threadpool_limits(limits=number)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # of those that are loaded later, such as SciPy's
        os.environ[name] = str(number)
    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(number)
    return number


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """In here BLAS has one thread: for products that are done before its threads have met.

    Those of NumPy's and of SciPy's own BLAS wait for each other by turning, and for cores that others have.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def is_device_array(a: object) -> bool:
    """True for a CuPy array, without importing CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(a, cupy.ndarray)


def namespace(a: Array) -> ModuleType:
    """The module (numpy or cupy) that `a` belongs to."""
    return sys.modules["cupy"] if is_device_array(a) else np


def kernels(a: Array) -> ModuleType:
    """The kernels for `a`: `recon.kernels.cuda` or `recon.kernels.cpu`, same names and arguments."""
    if is_device_array(a):
        return importlib.import_module("recon.kernels.cuda")
    with _COMPILING:  # threads that come meanwhile wait, too
        while _HELPERS:
            _HELPERS.pop().wait()
    return importlib.import_module("recon.kernels.cpu")


_COMPILING = threading.Lock()
_HELPERS: list[Any] = []  # of kernels, whose modules import Numba and have no types


def compile_kernels(
    log: Callable[[str], None], *, solver: bool = True, half_precision: bool = False, coupled: bool = False
) -> None:
    """Begin to compile the CPU kernels that this machine has not kept from an earlier run, on all cores, and say so.

    Other processes do it while this one goes on, until it asks for `kernels`: then it waits for them.

    Args:
        log: takes a line where something is compiled, or where nothing can be kept.
        solver: those of the regularised solver, too, not only projections.
        half_precision: its duals are kept in 16 bits.
        coupled: those of elements together.
    """
    compiling = importlib.import_module("recon.kernels.compiling")
    if compiling.KEPT is None:
        log(
            "compiled kernels cannot be kept, so that each run compiles them again: "
            f"none of {', '.join(map(str, compiling.folders()))} can be written; let NUMBA_CACHE_DIR name a folder"
        )
        return
    warm = importlib.import_module("recon.kernels.warm")
    names = (*warm.PROJECTION, *(warm.SOLVER if solver else ()), *(warm.SHORT if solver and half_precision else ()))
    names += (*warm.COUPLED, "tgv_primal", "tgv_dual") if coupled else ()
    with _COMPILING:
        if not _HELPERS and warm.missing(names):
            log(f"compiling the kernels for this processor; later runs find them in {compiling.KEPT}")
            _HELPERS.append(warm.Helpers(names))


def compile_all(log: Callable[[str], None], device: str) -> list[str]:
    """Compile every kernel for this machine, for ``"cuda"`` the CUDA ones, too; returns where they are kept."""
    warm = importlib.import_module("recon.kernels.warm")
    compiling = importlib.import_module("recon.kernels.compiling")
    left = warm.missing()
    log(f"{len(left)} of {len(warm.CALLS)} CPU kernels to compile")
    warm.warm(tuple(warm.CALLS))
    kept = [] if compiling.KEPT is None else [f"CPU kernels: {compiling.KEPT}"]
    if device == "cuda":
        cuda = importlib.import_module("recon.kernels.cuda")
        with device_errors():
            for file, names in cuda.KERNELS.items():
                log(f"{file}: {len(names)} kernels")
                cuda.compile_file(file)
        kept.append(f"CUDA kernels: {os.environ.get('CUPY_CACHE_DIR', '~/.cupy/kernel_cache')}")
    if not kept:
        raise ResourceError("no folder for compiled kernels can be written; let NUMBA_CACHE_DIR name one that can")
    return kept


def place_cuda_cache() -> None:
    """Let CuPy keep compiled code in a temporary folder where the home cannot be written, unless the user names one."""
    if os.environ.get("CUPY_CACHE_DIR"):
        return
    try:
        home = Path.home() / ".cupy" / "kernel_cache"
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK | os.X_OK):
            return
    except (OSError, RuntimeError):  # no home at all
        pass
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    os.environ["CUPY_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"chemtomo-{owner}" / "cupy")


def cuda_unavailable() -> str | None:
    """Why CUDA cannot be used, or None if it can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; install the extra cuda12 or cuda13"
    try:
        import cupy

        if not cupy.cuda.is_available():
            return _why_no_device(cupy)
    except Exception as exc:  # a broken driver raises types that only CuPy knows
        return f"CuPy does not load: {exc}".splitlines()[0]
    return None


def _why_no_device(cupy: ModuleType) -> str:
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception as exc:  # CUDARuntimeError, which only CuPy knows
        if "InsufficientDriver" in str(exc):
            built, driver = (
                f"{version // 1000}.{version % 1000 // 10}"
                for version in (cupy.cuda.runtime.runtimeGetVersion(), cupy.cuda.runtime.driverGetVersion())
            )
            return (
                f"the NVIDIA driver serves CUDA {driver}, CuPy needs CUDA {built}; update the driver or install "
                "CuPy for an older CUDA (the extra cuda12)"
            )
    return "CuPy finds no CUDA device or driver"


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """What a CUDA device raises, as errors that a user can act on.

    Raises:
        ResourceError: the device has no memory left.
        BackendError: the device was lost or failed; nothing on it can be used any more in this process.
    """
    try:
        yield
    except Exception as exc:
        kind = f"{type(exc).__module__}.{type(exc).__name__}"
        text = " ".join(str(exc).split())
        if not kind.startswith(("cupy", "cupy_backends")):
            raise
        if "OutOfMemory" in kind or "MemoryAllocation" in text:
            raise ResourceError(f"the GPU is out of memory ({text}); bin the maps or use device = 'cpu'") from exc
        if kind.endswith(("CUDARuntimeError", "CUDADriverError")):
            raise BackendError(
                f"the GPU failed ({text}); see dmesg or nvidia-smi, then start the job again, with --resume where "
                "it left checkpoints"
            ) from exc
        raise


def resolve_device(device: str = "auto") -> str:
    """``"cpu"`` or ``"cuda"`` for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        BackendError: an unknown name, or CUDA asked for where it cannot be used.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BackendError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cpu":
        return "cpu"
    why = cuda_unavailable()
    if device == "cuda" and why is not None:
        raise BackendError(f"device 'cuda' cannot be used: {why}, or use device = 'cpu'")
    if why is None:
        place_cuda_cache()
    return "cpu" if why is not None else "cuda"


def to_device(a: Array, device: str) -> Array:
    """`a` on ``"cpu"`` or ``"cuda"``; no copy where it is there already."""
    if device == "cuda":
        import cupy

        moved: Array = cupy.asarray(a)
        return moved
    return to_host(a)


def to_host(a: ArrayLike) -> NDArray[Any]:
    """`a` as a NumPy array; no copy where it is one already."""
    return np.asarray(sys.modules["cupy"].asnumpy(a) if is_device_array(a) else a)


def free_memory() -> int:
    """Bytes free on the host; a cgroup's limit counts."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    return max(free, 0)
