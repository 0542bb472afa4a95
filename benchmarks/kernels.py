"""Every kernel of the iteration against its rivals and the machine's own limit, in one process and in turns.

    python benchmarks/kernels.py [--device cpu|cuda] [--sizes 128 256 512] [--tilts 15 71] [--gap 128] [--quick]

One table, printed as ratios, and a JSON file with the device's name in benchmarks/results. Per cell (N^3 voxels,
tilts from -70 to 70 degrees):

- projector pair (forward and back): ASTRA (on the CPU its linear 2D projector slice by slice, timed on some slices
  and scaled; on a GPU its 3D projector), and its sparse matrix times all slices at once (SciPy, cupyx);
- TGV step: the same step in plain NumPy or CuPy (`plain.py`); the bytes that it must move, over its time, against
  the measured triad (a = b + s c on arrays larger than any cache, three words an element);
- full iteration, nanoseconds a voxel: ODL with ASTRA where ODL is installed (CPU, 15 tilts);
- time to a certified gap of 1e-2, for the sizes of --gap.

Times are the least of some rounds, in which everything runs in turn; the spread is in the JSON. On a GPU the time is
the device's, between events, launches included.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import plain
import psutil
from iteration import cpu_name, odl_iterations

from recon.backend import cuda_unavailable, kernels, to_device
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import make_projector
from recon.solvers.data_terms import Poisson
from recon.solvers.pdhg import PrimalDual

f32 = np.float32
RHO = f32(1.6)  # as nearly all iterations of the solver
# what the step must move of each voxel, in words: it reads u, w, p, q and g, and writes u, w, p, q and u_bar; with one
# kernel per step, the dual one reads p, q, u_bar and w_bar again, which the primal one writes
WORDS = {"cpu": 14 + 14, "cuda": 22 + 22}
TRIAD_WORDS = 1 << 27
SLICES = 8  # that ASTRA is timed on


class Clock:
    """Seconds of a call, on the CPU or between two events of the device."""

    def __init__(self, device: str) -> None:
        self.cupy = None
        if device == "cuda":
            import cupy

            self.cupy = cupy

    def __call__(self, f) -> float:
        if self.cupy is None:
            start = time.perf_counter()
            f()
            return time.perf_counter() - start
        first, last = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        first.record()
        f()
        last.record()
        last.synchronize()
        return self.cupy.cuda.get_elapsed_time(first, last) / 1e3


def device_name(device: str) -> str:
    if device == "cpu":
        import numba

        return f"{cpu_name()}, {numba.get_num_threads()} threads"
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def triad(xp, device: str):
    """A function that runs it; it moves `3 * 4 * TRIAD_WORDS` bytes."""
    a, b, c = (xp.ones((256, TRIAD_WORDS // 256), f32) for _ in range(3))
    if device == "cuda":
        kernel = xp.ElementwiseKernel("float32 b, float32 c, float32 s", "float32 a", "a = b + s * c", "triad")
        return lambda: kernel(b, c, f32(2), a)
    from recon.kernels.compiling import jit
    from recon.kernels.cpu_parallel import all_of, in_parallel

    @jit
    def run(k, a, b, c, s):
        if k < 0:
            in_parallel(k)
            return
        d, e, f = a[k], b[k], c[k]
        for i in range(d.size):
            d[i] = e[i] + s * f[i]

    return lambda: run(all_of(len(a)), a, b, c, f32(2))


def rounds_of(turns: dict, clock: Clock, seconds: float, least: int = 3) -> dict[str, list[float]]:
    """Runs each in turn for some time; a slow one only as often as `least` or its share allows."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for f in turns.values():
        f()  # compiles, and touches the memory
    start, done = time.perf_counter(), 0
    while done < least or time.perf_counter() - start < seconds:
        for name, f in turns.items():
            slow = sum(times[name]) > seconds / 2 and len(times[name]) >= 1
            if not slow:
                times[name].append(clock(f))
        done += 1
        if done >= 50:
            break
    return times


# ---------------------------------------------------------------- rivals


def astra_on_slices(n: int, tilts_deg: np.ndarray, slices: int):
    """(forward, back, delete) of ASTRA's linear 2D projector on some slices; objects are made once."""
    import astra

    volumes = np.random.default_rng(0).uniform(size=(slices, n, n)).astype(f32)
    stacks = np.empty((slices, tilts_deg.size, n), f32)
    volume_geometry = astra.create_vol_geom(n, n)
    projection_geometry = astra.create_proj_geom("parallel", 1.0, n, np.radians(tilts_deg))
    projector = astra.create_projector("linear", projection_geometry, volume_geometry)
    data, forward, back = [], [], []
    for volume, stack in zip(volumes, stacks, strict=True):
        v = astra.data2d.link("-vol", volume_geometry, volume)
        s = astra.data2d.link("-sino", projection_geometry, stack)
        data += [v, s]
        common = {"ProjectorId": projector, "ProjectionDataId": s}
        forward.append(astra.algorithm.create(astra.astra_dict("FP") | common | {"VolumeDataId": v}))
        back.append(astra.algorithm.create(astra.astra_dict("BP") | common | {"ReconstructionDataId": v}))

    def delete():
        astra.algorithm.delete(forward + back)
        astra.data2d.delete(data)
        astra.projector.delete(projector)

    return (
        lambda: [astra.algorithm.run(a) for a in forward],
        lambda: [astra.algorithm.run(a) for a in back],
        delete,
    )


def sparse_pair(geometry: TiltGeometry, like, volume, stack):
    """(forward, back): ASTRA's matrix times all slices at once, on the device of `like`."""
    matrix = make_projector(geometry, np.empty(0, f32), "astra")
    if isinstance(like, np.ndarray):
        return (lambda: matrix(volume, stack)), (lambda: matrix.adjoint(stack, volume))
    from cupyx.scipy.sparse import csr_matrix

    a, b = csr_matrix(matrix._forward), csr_matrix(matrix._adjoint)
    ny = volume.shape[-1]
    return (lambda: a @ volume.reshape(-1, ny)), (lambda: b @ stack.reshape(-1, ny))


# ---------------------------------------------------------------- one cell of the table


def measure_projectors(n: int, tilts: np.ndarray, device: str, clock: Clock, seconds: float, with_sparse: bool) -> dict:
    like = to_device(np.empty(0, f32), device)
    geometry = TiltGeometry.single_axis(tilts, (n, n))
    ours = make_projector(geometry, like, "native")
    volume = to_device(np.random.default_rng(0).random((n, n, n), dtype=f32), device)
    stack = to_device(np.random.default_rng(0).random(ours.range_shape, dtype=f32), device)
    turns = {"forward": lambda: ours(volume, stack), "back": lambda: ours.adjoint(stack, volume)}
    if with_sparse:
        turns["sparse forward"], turns["sparse back"] = sparse_pair(geometry, like, volume, stack)
    scale, clean = {}, None
    if device == "cpu":
        slices = min(n, SLICES)
        turns["astra forward"], turns["astra back"], clean = astra_on_slices(n, tilts, slices)
        scale = {"astra forward": n / slices, "astra back": n / slices}
    else:
        theirs = make_projector(geometry, like, "astra")
        turns["astra forward"] = lambda: theirs(volume, stack)
        turns["astra back"] = lambda: theirs.adjoint(stack, volume)
    times = rounds_of(turns, clock, seconds)
    if clean is not None:
        clean()
    return {name: [s * scale.get(name, 1) for s in t] for name, t in times.items()}


def problem(n: int, tilts: np.ndarray, device: str) -> PrimalDual:
    """A ball of uniform density, up to 40 counts a pixel with 1 % background."""
    u = (np.arange(n, dtype=f32) - (n - 1) / 2) / (0.35 * n)
    chord = np.sqrt(np.maximum(1 - u[:, None] ** 2 - u**2, 0)) * 40 + 0.4
    counts = np.random.default_rng(0).poisson(np.broadcast_to(chord, (tilts.size, n, n))).astype(f32)
    arrays = (counts, np.ones_like(counts), np.full_like(counts, 0.4))
    data = Poisson(*(to_device(a, device) for a in arrays))
    operator = make_projector(TiltGeometry.single_axis(tilts, (n, n)), data.counts)
    return PrimalDual(operator, data, a1=0.5, a0=1.0, upper=80.0)


def measure_iteration(
    n: int, tilts: np.ndarray, device: str, clock: Clock, seconds: float, with_plain: bool, limit
) -> tuple[dict, dict]:
    solver = problem(n, tilts, device)
    k, xp = kernels(solver.u), solver._xp
    step = f32(1e-3)
    state = (solver.u, solver.w, solver.u_bar, solver.w_bar, solver.p, solver.q, solver.g)
    turns = {
        "triad": limit,
        "tgv": lambda: k.tgv_step(*state, step, step, step, step, f32(0.5), f32(1), RHO),
        "iteration": solver.step,
    }
    if with_plain:
        arrays = (solver.u, solver.w, solver.p, solver.q, solver.g)
        turns["plain tgv"] = lambda: plain.step(xp, *arrays, step, step, f32(0.5), f32(1), RHO)
    solver.run(1e-9, 20, check_every=20)  # away from zeros
    times = rounds_of(turns, clock, seconds)
    return times, launch_overhead(solver, clock.cupy) if clock.cupy is not None else {}


def launch_overhead(solver: PrimalDual, cupy, steps: int = 200) -> dict:
    """An iteration as Python launches it against the same launches replayed as a CUDA graph, which have no gaps."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        solver.step()
        stream.begin_capture()
        solver.step()
        graph = stream.end_capture()

        def mean(f) -> float:
            stream.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                f()
            stream.synchronize()
            return (time.perf_counter() - start) / steps * 1e3

        launched, replayed = (min(mean(f) for _ in range(5)) for f in (solver.step, lambda: graph.launch(stream)))
    return {"launched_ms": launched, "replayed_ms": replayed, "overhead": launched / replayed - 1}


def time_to_gap(n: int, tilts: np.ndarray, device: str, tolerance: float = 1e-2) -> dict:
    solver = problem(n, tilts, device)
    start = time.perf_counter()
    solution = solver.run(tolerance, 5000)
    return {"seconds": time.perf_counter() - start, "iterations": solution.iterations, "gap": solution.gap}


def cell(n: int, n_tilts: int, device: str, clock: Clock, args, limit) -> dict:
    tilts = np.linspace(-70, 70, n_tilts)
    times = measure_projectors(n, tilts, device, clock, args.seconds, not args.no_sparse)
    # plain code holds about 40 arrays more of the volume's size
    free = psutil.virtual_memory().available if device == "cpu" else clock.cupy.cuda.Device().mem_info[0]
    needed = {"iteration": 21, "plain": 60}
    there = {k: words * 4 * n**3 < free for k, words in needed.items()}
    result: dict = {"n": n, "tilts": n_tilts}
    if there["iteration"]:
        more, launches = measure_iteration(n, tilts, device, clock, args.seconds, there["plain"], limit)
        times |= more
        if launches:
            result["launches"] = launches
    if device == "cpu" and n_tilts == 15 and n <= args.odl and importlib.util.find_spec("odl") is not None:
        times["odl iteration"] = odl_iterations(n, 3, lambda: None)
    best = {name: min(t) for name, t in times.items()}
    result["ms"] = {name: round(t * 1e3, 3) for name, t in best.items()}
    result["median_ms"] = {name: round(float(np.median(t)) * 1e3, 3) for name, t in times.items()}
    ours = best["forward"] + best["back"]
    rivals = [r for r in ("astra", "sparse") if f"{r} back" in best]
    ratio = {f"pair: {r} / ours": (best[f"{r} forward"] + best[f"{r} back"]) / ours for r in rivals}
    for r in rivals:
        ratio |= {f"{way}: {r} / ours": best[f"{r} {way}"] / best[way] for way in ("forward", "back")}
    if "tgv" in best:
        bandwidth = 12 * TRIAD_WORDS / best["triad"] / 1e9
        moved = 4 * WORDS[device] * n**3 / best["tgv"] / 1e9
        result["gb_per_s"] = {"triad": round(bandwidth, 1), "tgv": round(moved, 1)}
        ratio["tgv: of the triad"] = moved / bandwidth
        result["ns_per_voxel"] = {k: round(best[k] * 1e9 / n**3, 2) for k in ("tgv", "iteration")}
        if "plain tgv" in best:
            ratio["tgv: plain / ours"] = best["plain tgv"] / best["tgv"]
        if "odl iteration" in best:
            ratio["iteration: odl / ours"] = best["odl iteration"] / best["iteration"]
    else:
        result["left out"] = f"iteration: {needed['iteration'] * 4 * n**3 / 2**30:.1f} GiB are not free"
    result["ratio"] = {name: round(r, 2) for name, r in ratio.items()}
    if n in args.gap:
        result["to a certified gap of 1e-2"] = time_to_gap(n, tilts, device)
    return result


COLUMNS = (
    ("pair/ASTRA", "ratio", "pair: astra / ours", "{:.0f}x"),
    ("pair/sparse", "ratio", "pair: sparse / ours", "{:.1f}x"),
    ("TGV/plain", "ratio", "tgv: plain / ours", "{:.0f}x"),
    ("TGV/triad", "ratio", "tgv: of the triad", "{:.0%}"),
    ("TGV ns", "ns_per_voxel", "tgv", "{:.1f}"),
    ("iter. ns", "ns_per_voxel", "iteration", "{:.1f}"),
    ("iter./ODL", "ratio", "iteration: odl / ours", "{:.0f}x"),
    ("launching", "launches", "overhead", "{:.1%}"),
    ("to gap, s", "to a certified gap of 1e-2", "seconds", "{:.1f}"),
)


def line(result: dict | None = None) -> str:
    if result is None:
        return f"{'N':>5}{'tilts':>6}" + "".join(f"{name:>12}" for name, *_ in COLUMNS)
    cells = (form.format(result[part][key]) if key in result.get(part, {}) else "-" for _, part, key, form in COLUMNS)
    return f"{result['n']:>5}{result['tilts']:>6}" + "".join(f"{c:>12}" for c in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="kernels against their rivals and the machine's limit")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--tilts", type=int, nargs="+", default=[15, 71])
    parser.add_argument("--gap", type=int, nargs="*", default=[128], help="sizes to run to a certified gap")
    parser.add_argument("--odl", type=int, default=128, help="largest size that ODL is run at")
    parser.add_argument("--seconds", type=float, default=15, help="for each group of turns")
    parser.add_argument("--no-sparse", action="store_true", help="its matrix takes minutes to make at 512^3, 71 tilts")
    parser.add_argument("--quick", action="store_true", help="N = 64, 15 tilts, a second each")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.tilts, args.gap, args.seconds = [64], [15], [64], 1.0
    if args.device == "cuda" and (why := cuda_unavailable()) is not None:
        sys.exit(f"kernels.py: no CUDA: {why}")
    clock = Clock(args.device)
    xp = clock.cupy or np
    limit = triad(xp, args.device)
    name = device_name(args.device)
    result: dict = {"device": name, "cores": psutil.cpu_count(logical=True), "load_before": psutil.getloadavg()[0]}
    result["cells"] = []
    slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    output = args.output or Path(__file__).parent / "results" / f"kernels-{'quick-' * args.quick}{slug}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name}; rivals over ours, larger is better for ours\n{line()}", flush=True)
    for n in args.sizes:
        for n_tilts in args.tilts:
            result["cells"].append(cell(n, n_tilts, args.device, clock, args, limit))
            print(line(result["cells"][-1]), flush=True)
            result["load_after"] = psutil.getloadavg()[0]
            with contextlib.suppress(AttributeError):
                xp.get_default_memory_pool().free_all_blocks()
            output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
