"""The general projector beside the single-axis one and ASTRA, and what a change of layout costs the public functions.

    python benchmarks/geometry.py [--device cpu|cuda] [--size 128] [--tilts 15] [--rounds 20]

Everything runs in turn in one process; ratios are medians over the rounds of times taken one after the other, so that
they hold on a machine that is shared. Printed, and written as JSON into benchmarks/results:

- the general projector against the single-axis one, for the same numbers of voxels and pixels: tilts about an axis 1.3
  degrees beside y (`off axis`), a cone, and pixels not as wide as voxels (`columns`). Where pixels lie turned to
  the volume, either projector passes two rays a voxel, so the single-axis one is also given an axis that is turned in
  the maps (`turned`);
- ASTRA's 2D projector slice by slice, where both apply (CPU), or ASTRA's 3D one on the same vectors (GPU);
- `recon.project` and `recon.backproject` of NumPy arrays against their kernels alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from iteration import cpu_name

import recon
from recon.backend import namespace, to_device
from recon.geometry.tilt_geometry import TiltGeometry
from recon.operators import make_projector
from recon.operators.general import GeneralProjector

SLICES = 4  # that ASTRA is timed on


def seconds(f, xp) -> float:
    """Of the processor on a CPU, which others that use the machine lengthen less; passed, on a GPU."""
    clock = time.process_time if xp is np else time.perf_counter
    start = clock()
    f()
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()
    return clock() - start


def in_turn(calls, rounds, xp):
    """Seconds ``{name: [round]}``."""
    for f in calls.values():
        f()
    out = {name: [] for name in calls}
    for _ in range(rounds):
        for name, f in calls.items():
            out[name].append(seconds(f, xp))
    return out


def ratio(times, name, to):
    return round(float(np.median(np.array(times[name]) / np.array(times[to]))), 2)


def astra_slices(tilts, n):
    """Forward and back of `SLICES` slices by ASTRA's 2D CPU projector, as functions, scaled up to n slices."""
    import astra

    grid = astra.create_vol_geom(n, n)
    rays = astra.create_proj_geom("parallel", 1.0, n, np.radians(tilts))
    projector = astra.create_projector("linear", rays, grid)
    rng = np.random.default_rng(0)
    image, sinogram = (rng.random(shape, dtype=np.float32) for shape in ((n, n), (len(tilts), n)))

    def run(kind):
        ids = astra.data2d.create("-vol", grid, image), astra.data2d.create("-sino", rays, sinogram)
        config = astra.astra_dict(kind)
        names = ("VolumeDataId", "ProjectionDataId") if kind == "FP" else ("ReconstructionDataId", "ProjectionDataId")
        config |= dict(zip(names, ids, strict=True)) | {"ProjectorId": projector}
        algorithm = astra.algorithm.create(config)
        for _ in range(SLICES):
            astra.algorithm.run(algorithm)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete(list(ids))

    return {"astra forward": lambda: run("FP"), "astra back": lambda: run("BP")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--tilts", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    n, tilts = args.size, np.linspace(-70, 70, args.tilts)
    size = {"detector": (n, n)}
    single = TiltGeometry.single_axis(tilts, (n, n))
    still = np.zeros((args.tilts, 2))
    geometries = {
        "single": single,
        "turned": single.moved(still, 1.3),
        "off axis": TiltGeometry.from_angles(tilts, 1.3, **size),
        "cone": TiltGeometry.conical(55, np.linspace(0, 360, args.tilts, endpoint=False), **size),
        "columns": TiltGeometry.from_vectors(single.ray, single.centre, 1.001 * single.u, single.v, (n, n), (n, n, n)),
        "dual": TiltGeometry.dual_axis(tilts[: args.tilts // 2 + 1], tilts[: args.tilts // 2], **size),
    }
    like = to_device(np.zeros(0, np.float32), args.device)
    xp = namespace(like)
    rng = np.random.default_rng(0)
    calls = {}
    for name, g in geometries.items():
        a = GeneralProjector(g, 1, like) if name == "columns" else make_projector(g, like)
        x = to_device(rng.random(a.domain_shape, dtype=np.float32), args.device)
        y = to_device(rng.random(a.range_shape, dtype=np.float32), args.device)
        calls[f"{name} forward"] = lambda a=a, x=x, y=y: a(x, xp.empty_like(y))
        calls[f"{name} back"] = lambda a=a, x=x, y=y: a.adjoint(y, xp.empty_like(x))
        if args.device == "cuda" and name in ("off axis", "cone"):
            b = make_projector(g, like, "astra")
            calls[f"astra {name} forward"] = lambda b=b, x=x, y=y: b(x, xp.empty_like(y))
            calls[f"astra {name} back"] = lambda b=b, x=x, y=y: b.adjoint(y, xp.empty_like(x))
    if args.device == "cpu":
        calls |= astra_slices(tilts, n)
    volume = to_device(rng.random((n, n, n), dtype=np.float32), args.device)
    stack = to_device(rng.random(single.stack_shape, dtype=np.float32), args.device)
    calls["public forward"] = lambda: recon.project(volume, single)
    calls["public back"] = lambda: recon.backproject(stack, single)
    times = in_turn(calls, args.rounds, xp)
    if args.device == "cpu":
        for way in ("forward", "back"):
            times[f"astra {way}"] = [t * n / SLICES for t in times[f"astra {way}"]]
    ratios = {}
    for way in ("forward", "back"):
        for name, to in (("turned", "single"), ("columns", "single"), ("off axis", "turned"), ("off axis", "single"),
                         ("cone", "turned"), ("cone", "single"), ("dual", "single"), ("public", "single")):  # fmt: skip
            ratios[f"{name} / {to}, {way}"] = ratio(times, f"{name} {way}", f"{to} {way}")
        if args.device == "cpu":
            for name in ("single", "columns", "off axis", "public"):
                ratios[f"astra / {name}, {way}"] = ratio(times, f"astra {way}", f"{name} {way}")
        else:
            for name in ("off axis", "cone"):
                ratios[f"{name} / astra, {way}"] = ratio(times, f"{name} {way}", f"astra {name} {way}")
    where = cpu_name() if args.device == "cpu" else xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    for name, value in ratios.items():
        print(f"{name:32s} {value:8.2f}")
    least = {name: round(1e3 * min(t), 3) for name, t in times.items()}
    result = {
        "device": where,
        "size": n,
        "tilts": args.tilts,
        "rounds": args.rounds,
        "ratios": ratios,
        "least_ms": least,
    }
    path = Path(__file__).parent / "results" / f"geometry-{args.device}-{n}-{args.tilts}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
