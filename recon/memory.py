"""How much memory a reconstruction takes, known from shape, tilts and method before it starts.

`benchmarks/memory.py` compares this with measured peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recon.geometry import Shape2, Shape3
from recon.operators.warp import ROTATED

WORD = 4  # bytes of a float32

# Arrays of the volume's size, in words a voxel. State: u; w 3; p 3; q 6. Halpern's method keeps the state's
# anchor beside it. p and q may have 16 bits. Scratch: u_bar, g and the sensitivity A^T s; on a GPU w_bar 3.
_STATE = {"tgv": 13, "tv": 4, "none": 1}
_DUALS = {"tgv": 9, "tv": 3, "none": 0}
_SCRATCH = {"tgv": 3, "tv": 3, "none": 3}
_W_BAR = {"tgv": 3, "tv": 0, "none": 0}
# What a check of the certificate holds on top while it sorts out where a bound on u decides; measured.
_CHECK = {"tgv": 4, "tv": 3, "none": 2}
# The coarser grid that a run starts from leaves holes between arrays that glibc does not map one by one.
_MAPPED = 1 << 25  # bytes, the largest that its threshold becomes
_COARSER = 1 / 8
# Arrays of the stack's size: counts, scale, offset; y, its anchor and A u; four in float64 in a check. FBP pads
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
) -> Memory:
    """Memory of reconstructing `n_elements`, one after the other, on a volume ``(z, y, x)`` from frames ``(y, x)``."""
    voxels, pixels = math.prod(volume), n_tilts * math.prod(frame)
    ideal = n_tilts * volume[1] * ROTATED * frame[1]
    if method in _BASELINE:
        words = _BASELINE[method] * voxels
    else:
        per_voxel: float = 2 * _STATE[method] + _SCRATCH[method] + _CHECK[method]
        if half_precision:
            per_voxel -= _DUALS[method]
        if device == "cuda":
            per_voxel += _W_BAR[method]
        elif WORD * voxels < _MAPPED:
            per_voxel *= 1 + _COARSER
        words = math.ceil(per_voxel * voxels)
    solver = WORD * (words + _STACKS[method] * pixels + ideal)
    results = WORD * math.prod(volume) * n_elements
    if device == "cuda":
        return Memory(host=results + WORD * (voxels + 4 * pixels), device=solver)
    return Memory(host=solver + results - WORD * voxels, device=0)
