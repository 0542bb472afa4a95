"""How much memory a reconstruction takes, known from shape, tilts and method before it starts.

`benchmarks/memory.py` compares this with measured peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recon.backend import free_memory
from recon.geometry.tilt_geometry import Shape2, Shape3
from recon.operators.warp import ROTATED
from recon.solvers.steps import DUALS, FIELDS, ORDER, SCRATCH, STATE
from recon.solvers.weights import SAMPLED

WORD = 4  # bytes of a float32

# What comes and goes on top: in a check of the certificate E* q, which w_bar takes in where there is one, or squares
# of p; what is left of the solver on the coarser grid, and a component of it.
_CHECK = {"tgv": 3, "tv": 2, "none": 1}
# The coarser grid that a run starts from leaves holes between arrays that glibc does not map one by one.
_MAPPED = 1 << 25  # bytes, the largest that its threshold becomes
_COARSER = 1 / 8
# Arrays of the stack's size: counts, scale, offset; y, y at the last balance, A u; four in float64 in a check. FBP pads
# rows to the double and more for its filter, and transforms in float64.
_STACKS = {"tgv": 14, "tv": 14, "none": 14, "sirt": 10, "fbp": 45}
# SIRT: u, its step, the column sums and what makes them; FBP: the volume alone.
_BASELINE = {"sirt": 5, "fbp": 1}


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a reconstruction.

    Attributes:
        host: on the computer, beside the series itself.
        device: on the GPU; 0 where none is used.
    """

    host: int
    device: int


def needed(
    volume: Shape3,
    n_tilts: int,
    frame: Shape2,
    n_elements: int,
    method: str = "tgv",
    device: str = "cpu",
    half_precision: bool = False,
    search: bool = False,
) -> Memory:
    """Memory of reconstructing `n_elements`, one after the other, on a volume ``(z, y, x)`` from frames ``(y, x)``.

    A `search` for the strength keeps an earlier volume.
    """
    voxels, pixels = math.prod(volume), n_tilts * math.prod(frame)
    ideal = n_tilts * volume[1] * ROTATED * frame[1]
    if method in _BASELINE:
        words = _BASELINE[method] * voxels
    else:
        fields = FIELDS[ORDER[method]]

        def words_of(names: tuple[str, ...]) -> int:
            return sum(fields[name] for name in names)

        state = words_of(STATE) - (words_of(DUALS) / 2 if half_precision else 0)
        w_bar = fields["w_bar"] if device == "cuda" else 0
        check = _CHECK[method] - w_bar
        # a sample of the planes of the state is kept between balances
        per_voxel = (1 + 1 / SAMPLED) * state + words_of(SCRATCH) + max(check, _COARSER * (state + 1)) + w_bar
        per_voxel += search
        if device == "cpu" and WORD * voxels < _MAPPED:
            per_voxel *= 1 + _COARSER
        words = math.ceil(per_voxel * voxels)
    solved = WORD * (words + _STACKS[method] * pixels + ideal)
    results = WORD * math.prod(volume) * n_elements
    if device == "cuda":
        on_host = _STACKS[method] if method == "fbp" else 4  # filtered there
        return Memory(host=results + WORD * (voxels + on_host * pixels), device=solved)
    return Memory(host=solved + results - WORD * voxels, device=0)


def needed_for_regions(volume: Shape3, n_tilts: int, frame: Shape2, fields: int, method: str, device: str) -> int:
    """Bytes on the device that it runs on of asking about regions with so many fields (`recon.analysis.asking`).

    The solver in full precision, its state at the fit, the fields, and while they are placed their gradients.
    """
    solver = needed(volume, n_tilts, frame, 1, method, device)
    state = sum(FIELDS[ORDER[method]][name] for name in STATE)
    words = (state + 4 * fields) * math.prod(volume)
    return (solver.device if device == "cuda" else solver.host) + WORD * words


def available(device: str = "cpu") -> int:
    """Bytes free on the host (a cgroup's limit counts), or on the CUDA device."""
    if device == "cuda":
        import cupy

        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.Device().mem_info[0]) + int(pool.free_bytes())
    return free_memory()
