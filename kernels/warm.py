"""Compiles the CPU kernels in processes side by side, so that whoever comes next finds them in the cache.

    python -m recon.kernels.warm [all | NAME ...]

Numba compiles one function at a time in a process. Names are those of `CALLS`; without one, it compiles what most jobs
need.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys

import numpy as np
from numba import types

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from recon.kernels import (
    compiling,
    cpu,
    cpu_certificate,
    cpu_coupled,
    cpu_general,
    cpu_joseph,
    cpu_kept,
    cpu_layout,
    cpu_ramp,
    cpu_tgv,
    cpu_warp,
)

_X = np.float32(0.1)


def _volume(*components, dtype=np.float32):  # type: ignore[no-untyped-def]
    return np.zeros((*components, 3, 4, 5), dtype)


def _stack():  # type: ignore[no-untyped-def]
    return np.zeros((2, 4, 5), np.float32)


def _stacks(n):  # type: ignore[no-untyped-def]
    return [_stack() for _ in range(n)]


_SUMS = (1.0, 1.0, 0.0, 1.0, 1.0)
_RAYS, _AFFINE = np.array([[1.0, 0.0, -2.0]] * 2), np.array([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]] * 2)
_KEPT = cpu_kept.Kept((3, 4), 4, _RAYS, 1)

_FACTORS = np.zeros((2, 4), np.float32)


def _step(dtype):  # type: ignore[no-untyped-def]
    p, q = _volume(3, dtype=dtype), _volume(6, dtype=dtype)
    cpu.tgv_step(_volume(), _volume(3), _volume(), _volume(0), p, q, _volume(), *[_X] * 7)


def _primal(dtype):  # type: ignore[no-untyped-def]
    p, q = _volume(3, dtype=dtype), _volume(6, dtype=dtype)
    cpu.tgv_primal(_volume(), _volume(3), _volume(), _volume(3), p, q, _volume(), *[_X] * 5)


def _dual(dtype):  # type: ignore[no-untyped-def]
    cpu.tgv_dual(_volume(3, dtype=dtype), _volume(6, dtype=dtype), _volume(), _volume(3), *[_X] * 5)


def _divergence(dtype):  # type: ignore[no-untyped-def]
    cpu.tgv_divergence(_volume(6, dtype=dtype), _X, _volume(3), np.zeros(3))


def _adjoint(dtype):  # type: ignore[no-untyped-def]
    cpu.gradient_adjoint(_volume(3, dtype=dtype), _X, _volume())


def _turned(axes):  # type: ignore[no-untyped-def]
    return np.ascontiguousarray(_volume().transpose(axes))


# name -> (kernel, seconds that compiling it took on one core, a call)
PROJECTION = {
    "find_rays": (cpu_kept._find_rays, 1.2, lambda: cpu_kept._rays((3, 4), 4, _RAYS, 1)),
    "find_voxels": (cpu_kept._find_voxels, 0.5, lambda: cpu_kept._voxels((3, 4), 4, _RAYS, 1)),
    "project_kept": (cpu_kept._project_kept, 1, lambda: _KEPT.project(_volume(), _stack())),
    "backproject_kept": (cpu_kept._backproject_kept, 0.6, lambda: _KEPT.backproject(_stack(), _volume())),
    "warp": (cpu_warp._warp, 3, lambda: cpu.warp(_stack(), _stack(), _AFFINE)),
    "warp_adjoint": (cpu_warp._warp_adjoint, 1.5, lambda: cpu.warp_adjoint(_stack(), _stack(), _AFFINE)),
}
SOLVER = {
    "poisson_dual": (cpu._poisson_dual, 0.4, lambda: cpu.poisson_dual(*_stacks(5), _X, _X)),
    "ramp_filter": (cpu_ramp._ramp_filter, 1, lambda: cpu.ramp_filter(*_stacks(4), _FACTORS, _X, _X)),
    "ramp_dual": (cpu_ramp._ramp_dual, 1, lambda: cpu.ramp_dual(*_stacks(5), _FACTORS, _X, _X, _X)),
    "tgv_step": (cpu_tgv._tgv_step, 8, lambda: _step(np.float32)),
    "tgv_divergence": (cpu_certificate._tgv_divergence, 2.2, lambda: _divergence(np.float32)),
    "gradient_adjoint": (cpu_certificate._gradient_adjoint, 0.4, lambda: _adjoint(np.float32)),
    "tgv_value": (cpu_certificate._tgv_value, 2.5, lambda: cpu.tgv_value(_volume(), _volume(3), np.zeros((3, 2)))),
    "excess_sums": (
        cpu_certificate._excess_sums,
        0.4,
        lambda: cpu.excess_sums(*[_volume() for _ in "abc"], *_SUMS, np.zeros((3, 3))),
    ),
}
SELDOM = {
    "project": (cpu_joseph._project, 2, lambda: cpu.project(_volume(), _stack(), _RAYS, 1)),
    "backproject": (cpu_joseph._backproject, 1, lambda: cpu.backproject(_stack(), _volume(), _RAYS, 1)),
    "least_squares_dual": (
        cpu._least_squares_dual,
        0.5,
        lambda: cpu.least_squares_dual(*[_stack() for _ in range(6)], _X, _X),
    ),
    "tgv_primal": (cpu_tgv._tgv_primal, 2, lambda: _primal(np.float32)),
    "tgv_dual": (cpu_tgv._tgv_dual, 2, lambda: _dual(np.float32)),
    "tgv_primal:int16": (cpu_tgv._tgv_primal, 2, lambda: _primal(np.int16)),
    "tgv_dual:int16": (cpu_tgv._tgv_dual, 2, lambda: _dual(np.int16)),
}
SHORT = {
    "tgv_step:int16": (cpu_tgv._tgv_step, 9, lambda: _step(np.int16)),
    "tgv_divergence:int16": (cpu_certificate._tgv_divergence, 2, lambda: _divergence(np.int16)),
    "gradient_adjoint:int16": (cpu_certificate._gradient_adjoint, 1, lambda: _adjoint(np.int16)),
}
_A3, _A2, _I3, _INT = types.float32[:, :, ::1], types.float64[:, ::1], types.int32[:, :, ::1], types.intp
GENERAL = {  # of schemes that are no single axis: only compiled, as a call would need rays that fit
    "project_rays": (
        cpu_general._project,
        3,
        lambda: cpu_general._project.compile((_INT, _INT, _A3, _A3, _A2, _I3, _INT)),
    ),
    "backproject_rays": (
        cpu_general._backproject,
        4,
        lambda: cpu_general._backproject.compile((_INT, _INT, _A3, _A3, _A2, _INT, _INT)),
    ),
    "exchange_last": (cpu_layout._exchange_last_two, 1, lambda: cpu.exchange(_volume(), _turned((0, 2, 1)), 1)),
    "exchange_outer": (cpu_layout._exchange_outer_two, 1, lambda: cpu.exchange(_volume(), _turned((2, 1, 0)), 0)),
    "pad_rows": (cpu_layout._pad_rows, 0.5, lambda: cpu.pad_rows(_volume(), np.zeros((3, 4, 9), np.float32), 2)),
    "add": (cpu_layout._add, 0.5, lambda: cpu.add(_volume(), _volume())),
}
COUPLED = {  # of several elements together, beside those of one
    "coupled_dual": (
        cpu_coupled._coupled_dual,
        5,
        lambda: cpu.coupled_dual(_volume(2, 3), _volume(2, 3), _X, True, _X),
    ),
    "coupled_norms": (cpu_coupled._coupled_norms, 4, lambda: cpu.coupled_norms(_volume(2, 3), True, np.zeros((3, 2)))),
}
CALLS = PROJECTION | SOLVER | SHORT | SELDOM | GENERAL | COUPLED


def missing(names=tuple(CALLS)):  # type: ignore[no-untyped-def]
    """Those of the kernels that are not in the cache for this processor."""
    return [name for name in names if not _is_kept(name)]


def _is_kept(name):  # type: ignore[no-untyped-def]
    # Numba has no public question for this; the key holds the processor, for nodes of several kinds may share a home
    kernel, short = CALLS[name][0], name.endswith(":int16")
    if compiling.KEPT is None:
        return False
    processor = kernel.targetctx.codegen().magic_tuple()
    kept = [key[0] for key in kernel._cache._cache_file._load_index() if key[1] == processor]
    return any(("int16" in str(signature)) == short for signature in kept)


class Helpers:
    """Processes that compile. They end with this one; `wait` is for all of them, and may be called again."""

    def __init__(self, names=(*PROJECTION, *SOLVER), processes=None):  # type: ignore[no-untyped-def]
        left = missing(names) if compiling.KEPT is not None else []
        command = [sys.executable, "-m", "recon.kernels.warm", "--here"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        one_core = os.environ | {"NUMBA_NUM_THREADS": "1"}
        shares = _shares(left, min(processes or _cores(), len(left)))
        self.processes = [subprocess.Popen([*command, *share], env=one_core, **quiet) for share in shares]
        atexit.register(self.end)

    def wait(self):  # type: ignore[no-untyped-def]
        try:
            for process in self.processes:
                process.wait()  # what one could not do is compiled by the first call
        finally:
            self.end()

    def end(self):  # type: ignore[no-untyped-def]
        atexit.unregister(self.end)
        for process in self.processes:
            process.kill()
            process.wait()


def warm(names=(*PROJECTION, *SOLVER), processes=None):  # type: ignore[no-untyped-def]
    """Compile what is missing of `names`, in as many processes as there are cores, none of which is this one.

    A process that has compiled a kernel itself calls the parts of it as they were compiled alone, and one that finds it
    in the cache as they were compiled with the kernel: results differ by rounding. So that a first run gives the
    bits of all later ones, it takes its kernels from the cache, too.
    """
    Helpers(names, processes).wait()


def _compile(names):  # type: ignore[no-untyped-def]
    """Compile kernels, each once for all processes that share the cache: the tasks of an array often begin together."""
    for name in names:
        with _alone(name):
            if not _is_kept(name):
                CALLS[name][2]()


@contextlib.contextmanager
def _alone(name):  # type: ignore[no-untyped-def]
    """Wait for other processes that compile this kernel. Where files cannot be locked, they all compile it, as well."""
    with contextlib.ExitStack() as stack:
        # a lock that its holder's end releases, however it ends; unlinked by nobody, since others may wait for it
        with contextlib.suppress(OSError, AttributeError, TypeError):
            compiling.KEPT.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(compiling.KEPT / f"{name.replace(':', '-')}.lock", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _shares(names, n):  # type: ignore[no-untyped-def]
    """Names in n lists of about the same time, the longest first."""
    shares, times = [[] for _ in range(n)], [0.0] * n
    for name in sorted(names, key=lambda name: -CALLS[name][1]):
        least = times.index(min(times))
        shares[least].append(name)
        times[least] += CALLS[name][1]
    return shares


def _cores():  # type: ignore[no-untyped-def]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments):  # type: ignore[no-untyped-def]
    here = arguments[:1] == ["--here"]
    names = tuple(arguments[1:] if here else arguments) or (*PROJECTION, *SOLVER)
    names = tuple(CALLS) if names == ("all",) else names
    if unknown := [name for name in names if name not in CALLS]:
        sys.exit(f"recon.kernels.warm: there is no kernel {unknown[0]!r}; use all, {', '.join(CALLS)}")
    if here:
        _compile(names)
    elif compiling.KEPT is None:
        sys.exit("recon.kernels.warm: no folder for compiled kernels can be written; let NUMBA_CACHE_DIR name one")
    else:
        warm(names)


if __name__ == "__main__":
    main(sys.argv[1:])
