"""The memory that is stated, against the peak of a reconstruction in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recon.solvers.memory import needed

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("method", "half"), [("tgv", True), ("tv", False)])
def test_stated_memory_is_the_measured_peak_within_a_tenth(method, half):
    how = json.dumps([72, 15, method, "cpu", half])
    command = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), "--here", how]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured"] == pytest.approx(found["stated"], rel=0.1)


def test_memory_grows_with_each_of_its_causes():
    base = needed((32, 32, 32), 15, (32, 32), 1, "tgv").host
    assert needed((64, 32, 32), 15, (32, 32), 1, "tgv").host > 1.7 * base
    assert needed((32, 32, 32), 30, (32, 32), 1, "tgv").host > base
    assert needed((32, 32, 32), 15, (32, 32), 3, "tgv").host == base + 2 * 4 * 32**3
    assert needed((32, 32, 32), 15, (32, 32), 1, "tv").host < base


def test_half_precision_halves_the_duals_and_their_sample():
    full, half = (needed((256, 256, 256), 15, (256, 256), 1, "tgv", half_precision=h).host for h in (False, True))
    assert full - half == (3 + 6) * 2 * 256**3 * 9 // 8


def test_on_a_gpu_the_solver_is_on_the_device_and_the_results_are_on_the_host():
    on_cpu, on_gpu = (needed((256, 256, 256), 15, (256, 256), 4, "tgv", device) for device in ("cpu", "cuda"))
    assert on_cpu.device == 0
    # no three volumes of results, but w_bar; in it a check keeps what it has an array of its own for on the CPU, so
    # what the coarser grid left is the most that comes on top
    pairs = 2 * 12 * 15 * 2 * 256**2  # kept on the CPU: both ways, 12 bytes, tilts, columns on a voxel, rows
    assert on_cpu.host - on_gpu.device == (3 - 3 + 3 - 14 / 8) * 4 * 256**3 + pairs
    assert on_gpu.host < on_gpu.device
