"""How much memory a reconstruction takes, known from shape, tilts and method before it starts.

`benchmarks/memory.py` compares this with measured peaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from recon.backend import free_memory
from recon.errors import ResourceError
from recon.geometry.tilt_geometry import Shape2, Shape3
from recon.kernels import MOST_PAIRS, PAIR
from recon.operators.warp import ROTATED
from recon.operators.windows import spans
from recon.solvers.steps import DUALS, FIELDS, ORDER, SCRATCH, STATE
from recon.solvers.weights import SAMPLED

WORD = 4  # bytes of a float32

# What comes and goes on top: in a check of the certificate E* q, which w_bar takes in where there is one, or squares
# of p, which a GPU has two arrays of; what is left of the solver on the coarser grid, and a component of it.
_CHECK = {"cpu": {"tgv": 3, "tv": 1, "none": 1}, "cuda": {"tgv": 3, "tv": 2, "none": 1}}
_COARSER = 1 / 8
# Arrays of the stack's size: counts, scale, offset; y, y at the last balance, v, A u and the step of y; four in float64
# in a check. FBP pads rows to the double and more for its filter, and transforms in float64.
_STACKS = {"tgv": 16, "tv": 16, "none": 16, "sirt": 10, "fbp": 45}
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
    channels: int = 0,
) -> Memory:
    """Memory of reconstructing `n_elements`, one after the other, on a volume ``(z, y, x)`` from frames ``(y, x)``.

    Each further one that is done beside the first (`recon.parallel`) takes what `n_elements` of 1 takes. A `search` for
    the strength keeps an earlier volume. With `channels`, these are solved for together.
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
        check = _CHECK[device][method] - w_bar
        # a sample of the planes of the state is kept between balances
        per_voxel = (1 + 1 / SAMPLED) * state + words_of(SCRATCH) + max(check, _COARSER * (state + 1)) + w_bar
        per_voxel += search
        words = math.ceil(per_voxel * voxels)
    if channels:
        words, pixels = math.ceil(channels * _words_of_a_channel(method) * voxels), channels * pixels
    solved = WORD * (words + _STACKS[method] * pixels + ideal)
    results = WORD * math.prod(volume) * n_elements
    if device == "cuda":
        on_host = _STACKS[method] if method == "fbp" else 4  # filtered there
        return Memory(host=results + WORD * (voxels + on_host * pixels), device=solved)
    return Memory(host=solved + results - WORD * voxels + sum(_pairs(volume, n_tilts, frame)), device=0)


def _pairs(volume: Shape3, n_tilts: int, frame: Shape2) -> tuple[int, int]:
    """Bytes of the pairs of rows that the projector keeps on the CPU, of both directions."""
    nz, _, nx = volume
    each = PAIR * n_tilts * ROTATED
    return min(MOST_PAIRS, each * frame[1] * max(nz, nx)), min(MOST_PAIRS, each * nz * nx)


def _words_of_a_channel(method: str) -> float:
    """Of each voxel: state and the sample of its planes, duals before projection, bars, sensitivity, g, the result."""
    fields = FIELDS[ORDER[method]]
    state, duals = sum(fields[name] for name in STATE), sum(fields[name] for name in DUALS)
    return (1 + 1 / SAMPLED) * state + duals + fields["w_bar"] + 4.5


@dataclass(frozen=True)
class Streaming:
    """How a volume that is larger than memory is worked on.

    Attributes:
        windows: slabs.
        block: iterations on each at a time.
        halo: slices on each side of a slab.
        memory: bytes at the peak on the device that computes.
        store: bytes in a file, or on the host of a GPU.
        cost: time of an iteration, in that of one with all in memory, by a rough model.
    """

    windows: int
    block: int
    halo: int
    memory: int
    store: int
    cost: float


PLACING = 12  # words of a voxel: what disjoint fields cover, gradient and scratch, while a `RegionSolver` takes them
BLOCKS = (1, 2, 5, 10)  # iterations, which end where weights are balanced
# Time in which the state of a voxel is written and read, in that of an iteration: 104 bytes at 2 GB/s, 22 ns
_TRAVEL = 2.4
# Arrays of the stack's size: counts, scale, offset, a weight; y, the next and the last one; v and the next one; A u;
# four in float64
_STACKS_IN_WINDOWS = 18
_STACKS_OF_WINDOW = 8  # counts, scale, offset, a weight, y, v, the step of y, A u


def streaming(
    budget: int,
    volume: Shape3,
    n_tilts: int,
    frame: Shape2,
    method: str,
    device: str,
    halo: Callable[[int], int],
    half_precision: bool = False,
) -> Streaming:
    """The fastest way, by a rough model, to reconstruct one element on a volume ``(z, y, x)`` in a budget of bytes.

    Args:
        halo: slices on each side for so many iterations at a time, `WindowedProjector.halo`.

    Raises:
        ResourceError: the budget does not do for any.
    """
    nz, ny, nx = volume
    fields, plane, voxels, pixels = FIELDS[ORDER[method]], nz * nx, math.prod(volume), n_tilts * math.prod(frame)
    slots = 2 if device == "cuda" else 1
    state = sum(fields[n] for n in STATE) - (sum(fields[n] for n in DUALS) / 2 if half_precision else 0)
    scratch = 2 + (fields["w_bar"] if device == "cuda" or half_precision else 0)
    best: Streaming | None = None
    least = math.inf
    for block in BLOCKS:
        edge = halo(block)
        for windows in range(2, ny // max(edge, 1) + 1):
            found = spans(ny, windows, edge)
            held, total = max(h[1] - h[0] for _, h in found), sum(h[1] - h[0] for _, h in found)
            if min(own[1] - own[0] for own, _ in found) < max(own[0] - h[0] for own, h in found):
                break  # halos reach beyond the neighbour
            stacks = pixels * (_STACKS_IN_WINDOWS + ROTATED + (_STACKS_OF_WINDOW + ROTATED) * held / ny)
            working = (slots * state + scratch) * held * plane + edge * plane
            # a coarser grid's state and a component of it, and then the result, with next to nothing of a window
            start, end = _COARSER * (state + 2) * voxels + 3 * held * plane, voxels + held * plane
            bytes_ = WORD * math.ceil(stacks + max(working, start, end))
            least = min(least, bytes_)
            if bytes_ > budget:
                continue
            cost = total / ny * (1 + _TRAVEL / block * (windows - 1) / windows)
            if best is None or cost < best.cost:
                store = WORD * math.ceil(state * plane * (total + 2 * (total - ny)) + (state / SAMPLED + 5) * voxels)
                best = Streaming(windows, block, edge, bytes_, store, cost)
            break  # more windows cost more
    if best is None:
        raise ResourceError(
            f"{_gib(budget)} of memory do not do for a volume of {nz} x {ny} x {nx} voxels, not even in slabs"
            + (f", which take {_gib(math.ceil(least))}" if math.isfinite(least) else "")
            + "; raise reconstruct.memory, or bin the maps"
        )
    return best


def _gib(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**28 else f"{n / 2**20:.1f} MiB"


def needed_for_regions(
    volume: Shape3, n_tilts: int, frame: Shape2, fields: int, method: str, device: str, elements: int, recordings: int
) -> int:
    """Bytes on the device that it runs on of asking about regions with so many fields (`recon.analysis.asking`).

    The solver in full precision, its state at the fit, the fields, and while they are placed what they cover and their
    gradients, one at a time. On the host, which is the device without a GPU: what is reconstructed of simulated
    recordings, in 16 bits, and the fields found in it, which are 0 at most voxels, but may take two words where they
    are not.
    """
    solver = needed(volume, n_tilts, frame, 1, method, device)
    state = sum(FIELDS[ORDER[method]][name] for name in STATE)
    kept = 0.0 if device == "cuda" else recordings * (elements / 2 + 3)
    words = math.ceil((state + fields + PLACING + kept) * math.prod(volume))
    if device == "cuda":
        return solver.device + WORD * words
    # each recording has an alignment of its own, of which projections are made once
    return solver.host + WORD * words + _pairs(volume, n_tilts, frame)[0]


def available(device: str = "cpu") -> int:
    """Bytes free on the host (a cgroup's limit counts), or on the CUDA device."""
    if device == "cuda":
        import cupy

        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.Device().mem_info[0]) + int(pool.free_bytes())
    return free_memory()
