"""One full TGV iteration on the CPU, ours against others, in one process and in turns; and its memory.

    python benchmarks/iteration.py [--quick] [--sizes 64 128] [--rounds 7] [--output FILE]
    python benchmarks/iteration.py --memory 384

The problem: N^3 voxels, 15 tilts from -70 to 70 degrees, Poisson counts, TGV. Others:

- ODL's `pdhg` with its own gradient, symmetrised gradient (six components), group norms and
  Kullback-Leibler functional. Its RayTransform has no 3D parallel beam on the CPU, so the 2D one
  (`astra_cpu`) is applied slice by slice, each slice contiguous. ODL gets the easier problem: no
  exposures, no background, one operator norm. NumPy and ASTRA's CPU code use one thread here, our
  kernels all that Numba has; the figures with one thread of ours are beside it.
- ASTRA's linear 2D projector on every slice, objects made beforehand; and its sparse matrix times all
  slices at once (SciPy), the honest simple baseline.

Ours is timed inside ODL's callback, so both see the same state of the machine. Figures are medians.
ODL must be installed for its part (`pip install odl`; with pytest 9 keep it out of the environment of
the tests, since its pytest plugin fails there); without it the rest is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import psutil

from recon.geometry.tilt_geometry import TiltGeometry
from recon.kernels import cpu
from recon.operators import make_projector
from recon.solvers.data_terms import Poisson
from recon.solvers.pdhg import PrimalDual

TILTS = np.arange(-70.0, 71.0, 10.0)
HOST = np.empty(0, np.float32)
GIB = 2.0**30


def cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def ball_counts(n: int) -> np.ndarray:
    """Counts (tilt, u, y) of a ball of uniform density, up to 40 a pixel, with 1 % background."""
    u = (np.arange(n, dtype=np.float32) - (n - 1) / 2) / (0.35 * n)
    chord = np.sqrt(np.maximum(1 - u[:, None] ** 2 - u**2, 0)) * 40 + 0.4
    return np.random.default_rng(0).poisson(np.broadcast_to(chord, (TILTS.size, n, n))).astype(np.float32)


def problem(n: int) -> PrimalDual:
    operator = make_projector(TiltGeometry.single_axis(TILTS, (n, n)), HOST)
    counts = ball_counts(n)
    data = Poisson(counts, np.ones_like(counts), np.full_like(counts, 0.4))
    return PrimalDual(operator, data, a1=0.5, a0=1.0, upper=80.0)


def seconds(f) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    return statistics.median(times)


# ---------------------------------------------------------------- ours and its parts


def parts(solver: PrimalDual) -> dict:
    """Name to a function without arguments."""
    f32, k, stack = np.float32, cpu, np.empty_like(solver.y)
    rho, step = f32(1.6), f32(1e-3)

    def tgv():
        k.tgv_step(
            solver.u, solver.w, solver.u_bar, solver.w_bar, solver.p, solver.q, solver.g, step, step, step, step,
            f32(0.5), f32(1), rho,
        )  # fmt: skip

    return {
        "iteration": solver.step,
        "forward": lambda: solver.operator(solver.u, stack),
        "back": lambda: solver.operator.adjoint(solver.y, solver.g),
        "tgv": tgv,
    }


# ---------------------------------------------------------------- others


def odl_iterations(n: int, iterations: int, in_between) -> list[float]:
    """Times of ODL's iterations; `in_between` is called after each."""
    import odl
    from odl.applications import tomo
    from odl.core.discr import uniform_discr, uniform_partition
    from odl.functionals import GroupL1Norm, IndicatorNonnegativity, KullbackLeibler, SeparableSum, ZeroFunctional

    half = n / 2
    kind = {"dtype": "float32"}
    plane = uniform_discr([-half, -half], [half, half], (n, n), **kind)
    ball = uniform_discr([-half] * 3, [half] * 3, (n, n, n), **kind)  # (y, z, x): slices lie contiguous
    angles = odl.core.discr.nonuniform_partition(np.radians(TILTS))
    geometry = tomo.Parallel2dGeometry(angles, uniform_partition(-half, half, n))
    ray = tomo.RayTransform(plane, geometry, impl="astra_cpu")
    stack = uniform_discr([0] * 3, [1] * 3, (n, *ray.range.shape), weighting=1.0, **kind)

    class Slices(odl.Operator):
        """A 2D ray transform on every slice."""

        def __init__(self, domain, target, one):
            super().__init__(domain, target, linear=True)
            self.one = one

        def _call(self, x, out):
            for i in range(n):
                out.data[i] = self.one(self.one.domain.element(x.data[i])).data

        @property
        def adjoint(self):
            return Slices(self.range, self.domain, self.one.adjoint)

    project = Slices(ball, stack, ray)
    gradient = odl.Gradient(ball, method="forward", pad_mode="symmetric")
    w = gradient.range
    d = [odl.PartialDerivative(ball, i, method="backward", pad_mode="symmetric") for i in range(3)]
    r = np.sqrt(0.5)
    rows = [[d[0], None, None], [None, d[1], None], [None, None, d[2]]]
    rows += [[r * d[1], r * d[0], None], [r * d[2], None, r * d[0]], [None, r * d[2], r * d[1]]]
    symmetrised = odl.ProductSpaceOperator(rows)
    first, second = (odl.ComponentProjection(odl.ProductSpace(ball, w), i) for i in range(2))
    operator = odl.BroadcastOperator(project * first, gradient * first - second, symmetrised * second)
    data = KullbackLeibler(stack, prior=stack.element(np.ascontiguousarray(ball_counts(n).transpose(2, 0, 1))))
    g = SeparableSum(data, 0.5 * GroupL1Norm(w), 1.0 * GroupL1Norm(symmetrised.range))
    f = SeparableSum(IndicatorNonnegativity(ball), ZeroFunctional(w))
    flat = ball.element(np.ones((n, n, n), np.float32))
    assert abs(np.asarray(project(flat).data).sum() / (TILTS.size * n**3) - 1) < 0.2  # the same lengths as ours
    times: list[float] = []
    resumed = time.perf_counter()

    def after(_):
        nonlocal resumed
        times.append(time.perf_counter() - resumed)
        in_between()
        resumed = time.perf_counter()

    norm = 1.1 * np.sqrt(TILTS.size * n + 12)
    odl.solvers.pdhg(
        operator.domain.zero(), f, g, operator, niter=iterations + 1, tau=1 / norm, sigma=1 / norm, callback=after
    )
    return times[1:]


def astra_slices(n: int) -> tuple:
    """(forward, back) of ASTRA's linear projector, one slice after the other; objects made once."""
    import astra

    volumes = np.random.default_rng(0).uniform(size=(n, n, n)).astype(np.float32)
    stacks = np.empty((n, TILTS.size, n), np.float32)
    volume_geometry = astra.create_vol_geom(n, n)
    projection_geometry = astra.create_proj_geom("parallel", 1.0, n, np.radians(TILTS))
    projector = astra.create_projector("linear", projection_geometry, volume_geometry)
    algorithms: dict[str, list[int]] = {"FP": [], "BP": []}
    numbers = []
    for volume, stack in zip(volumes, stacks, strict=True):
        v = astra.data2d.link("-vol", volume_geometry, volume)
        s = astra.data2d.link("-sino", projection_geometry, stack)
        numbers += [v, s]
        forward = astra.astra_dict("FP") | {"ProjectorId": projector, "VolumeDataId": v, "ProjectionDataId": s}
        back = astra.astra_dict("BP") | {
            "ProjectorId": projector, "ReconstructionDataId": v, "ProjectionDataId": s,
        }  # fmt: skip
        algorithms["FP"].append(astra.algorithm.create(forward))
        algorithms["BP"].append(astra.algorithm.create(back))

    def run(kind):
        for algorithm in algorithms[kind]:
            astra.algorithm.run(algorithm)

    def delete():
        astra.algorithm.delete(algorithms["FP"] + algorithms["BP"])
        astra.data2d.delete(numbers)
        astra.projector.delete(projector)

    return (lambda: run("FP")), (lambda: run("BP")), delete


# ---------------------------------------------------------------- time


def measure(n: int, rounds: int, with_odl: bool) -> dict:
    solver = problem(n)
    ours = parts(solver)
    threads = numba.get_num_threads()
    inner = max(1, int(2e7 / n**3))
    times: dict[str, list[float]] = {name: [] for name in (*ours, "iteration, 1 thread")}
    # an iteration costs more once voxels outside the object have shrunk to subnormal numbers
    solver.run(1e-9, min(400, int(400 * (128 / n) ** 3)), check_every=50)

    def turn():
        for name, f in ours.items():
            times[name].append(seconds(lambda f=f: [f() for _ in range(inner)]) / inner)
        numba.set_num_threads(1)
        times["iteration, 1 thread"].append(seconds(lambda: [solver.step() for _ in range(inner)]) / inner)
        numba.set_num_threads(threads)

    turn()  # warms the caches
    for t in times.values():
        t.clear()
    others: dict[str, list[float]] = {}
    if with_odl:
        others["odl iteration"] = odl_iterations(n, rounds, turn)
    sparse = make_projector(TiltGeometry.single_axis(TILTS, (n, n)), HOST, "astra")
    stack = np.empty(sparse.range_shape, np.float32)
    astra_forward, astra_back, delete = astra_slices(n)
    theirs = {
        "astra forward": astra_forward,
        "astra back": astra_back,
        "sparse forward": lambda: sparse(solver.u, stack),
        "sparse back": lambda: sparse.adjoint(solver.y, solver.g),
    }
    for name in theirs:
        others[name] = []
    for _ in range(max(3, rounds // 2)):
        turn()
        for name, f in theirs.items():
            others[name].append(seconds(f))
    delete()
    figures = {name: median(t) * 1e3 for name, t in {**times, **others}.items()}
    result = {
        "n": n,
        "rounds": rounds,
        "ms": {k: round(v, 3) for k, v in figures.items()},
        "ns_per_voxel": {k: round(v * 1e6 / n**3, 2) for k, v in figures.items() if "iteration" in k or k == "tgv"},
        "ratio": {
            "astra slices / ours, forward": figures["astra forward"] / figures["forward"],
            "astra slices / ours, back": figures["astra back"] / figures["back"],
            "sparse matrix / ours, forward": figures["sparse forward"] / figures["forward"],
            "sparse matrix / ours, back": figures["sparse back"] / figures["back"],
        },
    }
    if with_odl:
        result["ratio"]["odl / ours, iteration"] = figures["odl iteration"] / figures["iteration"]
        result["ratio"]["odl / ours with 1 thread, iteration"] = (
            figures["odl iteration"] / figures["iteration, 1 thread"]
        )
    result["ratio"] = {k: round(v, 2) for k, v in result["ratio"].items()}
    return result


# ---------------------------------------------------------------- memory


def allocated(solver: PrimalDual) -> int:
    """Bytes of the arrays that the solver keeps."""
    arrays = [*solver._state(), *solver.balance.before, solver.u_bar, solver.w_bar, solver.g, solver._stack]
    arrays += [solver._sensitivity]
    arrays += [solver.data.counts, solver.data.scale, solver.data.offset]
    return sum(a.nbytes for a in arrays)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(n: int) -> dict:
    """Peak resident memory of this process, after each stage; arrays of N^3 x 15 tilts."""
    problem(8).run(1e-9, 2, check_every=2)  # compiles
    empty = psutil.Process().memory_info().rss
    solver = problem(n)
    out = {"n": n, "before_gib": empty / GIB, "arrays_gib": allocated(solver) / GIB}
    out["constructed_gib"] = peak() / GIB
    solver.step()
    solver.step()
    out["two_iterations_gib"] = peak() / GIB
    solver.objective()
    solver.lower_bound()
    out["with_certificate_gib"] = peak() / GIB
    return {k: round(v, 3) for k, v in out.items()}


def memory_in_subprocess(n: int) -> dict:
    need = 170 * n**3  # bytes: 32 words a voxel kept, the rest in the certificate
    there = psutil.virtual_memory().available
    if need > there:
        return {"n": n, "skipped": f"needs about {need / GIB:.1f} GiB, {there / GIB:.1f} GiB are free"}
    command = [sys.executable, __file__, "--memory-here", str(n)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


# ---------------------------------------------------------------- the command


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of one TGV iteration, ours against others")
    parser.add_argument("--quick", action="store_true", help="N = 64 only, few rounds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--memory", type=int, nargs="*", metavar="N", help="memory at N^3 (384 and 512) instead of time"
    )
    parser.add_argument("--memory-here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.memory_here:
        print(json.dumps(memory(args.memory_here)))
        return
    result: dict = {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "numba_threads": numba.get_num_threads(),
        "load_before": psutil.getloadavg()[0],
        "tilts": TILTS.size,
    }
    if args.memory is not None:
        result["memory"] = [memory_in_subprocess(n) for n in args.memory or (384, 512)]
    else:
        with_odl = importlib.util.find_spec("odl") is not None
        if not with_odl:
            print("ODL is not installed: its part is left out (pip install odl)", file=sys.stderr)
        sizes, rounds = ([64], 3) if args.quick else (args.sizes, args.rounds)
        result["time"] = [measure(n, rounds, with_odl) for n in sizes]
    text = json.dumps(result, indent=1)
    print(text)
    slug = "-".join("".join(c if c.isalnum() else " " for c in result["cpu"].lower()).split())
    what = "memory" if args.memory is not None else "quick" if args.quick else "time"
    output = args.output or Path(__file__).parent / "results" / f"iteration-{what}-{slug}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n")


if __name__ == "__main__":
    main()
