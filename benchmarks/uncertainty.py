"""Whether the bootstrap's intervals hold: coverage on simulated particles with known alignment.

    python benchmarks/uncertainty.py [--size 32] [--doses 5 40 200] [--series 40] [--bootstraps 8] [--replicates 20]
                                     [--output FILE]
    python benchmarks/uncertainty.py --pull [--size 24] [--replicates 6] [--output FILE]

For each dose (counts in the brightest pixel) `series` independent recordings of the same particle are reconstructed
with the same strength. Their mean and standard deviation are what the bootstrap is about. The first `bootstraps`
of them are bootstrapped, and for each region and element the stated 68 % interval is compared with

- the mean of the independent reconstructions (``covers_mean``), the mean taken without the recording itself,
- the truth (``covers_truth``), which the bias of the regulariser and of the missing wedge lowers.

``sd_ratio`` is the bootstrap's standard deviation over that of the independent reconstructions. ``voxels`` compares
the same for every voxel of the element with ``value +- sd``. Regions: the demo's two protrusions, and balls of a
radius of 0.06 and 0.12 of the frame's edge in the middle of each element.

With ``--pull``: how often ``value +- error`` of a voxel covers the truth, error being repeatability and the
regulariser's pull, on particles of `PULLED`, all known but the object; of all voxels of the particle, and of those that
hold some of the element. Beside it the same with repeatability alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from recon.model.noise import automatic_strength
from recon.reconstruction.reconstruct import reconstruct
from recon.reconstruction.uncertainty import LEVEL, uncertainty
from recon.series.tilt_series import TiltSeries
from recon.simulate import random_particle, simulate

PULLED = (("inclusions", 40.0), ("core-shell", 300.0), ("grains", 40.0), ("protrusions", 5.0))


def recording(size: int, dose: float, seed: int) -> tuple[TiltSeries, dict[str, np.ndarray], object]:
    """A series with everything known, and the truth in its units; the alignment is the same for all seeds."""
    _, truth = simulate(size=size, dose=dose, seed=0)
    unit = float(truth.exposures.mean())
    series, _ = simulate(size=size, dose=dose, seed=0)
    exposures = np.broadcast_to(truth.exposures / unit, series.exposures.shape).copy()
    series = series.evolve(
        alignment=truth.alignment, exposures=exposures, background=exposures * unit * truth.background, isolated=True
    )
    return series, {n: v * np.float32(unit) for n, v in truth.volumes.items()}, truth


def expected_counts(series: TiltSeries, size: int, dose: float) -> np.ndarray:
    """What the detector would count on average ``(element, tilt, y, x)``: the particle projected in closed form.

    `simulate` draws counts from just this; at a very high dose they are it, but for a scale.
    """
    factor = 1e7
    bright, _ = simulate(size=size, dose=dose * factor, seed=0)
    return bright.counts.astype(np.float64) / factor


def regions_of(truth, values: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    out = {n: truth.particle.inside(n, size) for n in truth.particle.regions}
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"))
    for element, v in values.items():
        others = sum(values[o] for o in values if o != element)
        pure = v * (others == 0)
        centre = np.array([np.average(g, weights=pure) for g in grid])
        # the middle of the phase may lie outside it: the voxel of the phase nearest to it
        full = np.argwhere(pure > 0.99 * pure.max())
        middle = full[np.argmin(np.linalg.norm(full - centre, axis=1))]
        distance = np.linalg.norm(grid - middle[:, None, None, None], axis=0)
        for radius in (0.06, 0.12):
            out[f"{element} ball {radius:g}"] = distance <= radius * size
    return {n: np.asarray(r, bool) for n, r in out.items()}


def measure(size: int, dose: float, n_series: int, n_bootstraps: int, replicates: int) -> dict:
    clock = time.perf_counter()
    series, target, truth = recording(size, dose, 0)
    mean_counts = expected_counts(series, size, dose)
    regions = regions_of(truth, target, size)
    inside = sum(target.values()) > 0
    strength = {e: automatic_strength(series, e) for e in series.elements}

    def figures(element: str, values: np.ndarray) -> dict[str, float]:
        return {n: float(values[r].mean(dtype=np.float64)) for n, r in regions.items()}

    independent: dict[str, list[dict[str, float]]] = {e: [] for e in series.elements}
    total = {e: [np.zeros(inside.sum()), np.zeros(inside.sum())] for e in series.elements}
    found: dict[str, list] = {e: [] for e in series.elements}
    for k in range(n_series):
        counts = np.random.default_rng([7, k]).poisson(mean_counts).astype(np.float32)
        again = series.evolve(counts=counts)
        volumes = reconstruct(again, strength=strength, device="cpu")
        for e, volume in volumes.items():
            independent[e].append(figures(e, volume.values))
            voxels = volume.values[inside].astype(np.float64)
            total[e][0] += voxels
            total[e][1] += voxels**2
        if k < n_bootstraps:
            for e, u in uncertainty(again, volumes, replicates, figures=figures, seed=k, device="cpu").items():
                found[e].append((volumes[e].values[inside], u))
    out: dict = {"dose": dose, "regions": {}, "voxels": {}}
    for e in series.elements:
        for name, region in regions.items():
            values = np.array([f[name] for f in independent[e]])
            true = float(target[e][region].mean(dtype=np.float64))
            if true == 0 and values.mean() < 1e-3 * target[e].max():
                continue  # u >= 0 holds it at zero: there is no spread
            rows = []
            for k, (_, u) in enumerate(found[e]):
                i = u.interval(name, values[k])
                others = float(np.delete(values, k).mean())
                rows.append((i["low"] <= others <= i["high"], i["low"] <= true <= i["high"], i["sd"], i["bias"]))
            table = np.array(rows, float)
            out["regions"][f"{e}: {name}"] = {
                "truth": true,
                "mean": values.mean(),
                "sd": values.std(ddof=1),
                "sd_ratio": np.sqrt(np.mean(table[:, 2] ** 2)) / values.std(ddof=1),
                "covers_mean": table[:, 0].mean(),
                "covers_truth": table[:, 1].mean(),
                "bias": values.mean() - true,
                "bias_of_bootstrap": table[:, 3].mean(),
            }
        mean = total[e][0] / n_series
        sd = np.sqrt(np.maximum(total[e][1] / n_series - mean**2, 0) * n_series / (n_series - 1))
        some = target[e][inside] > 0
        covered = [np.abs(v - (n_series * mean - v) / (n_series - 1)) <= u.sd[inside] for v, u in found[e]]
        true = target[e][inside]
        covered_truth = [np.abs(v - true) <= u.sd[inside] for v, u in found[e]]
        out["voxels"][e] = {
            "covers_mean": float(np.mean([c[some].mean() for c in covered])),
            "covers_truth": float(np.mean([c[some].mean() for c in covered_truth])),
            "sd_ratio": float(np.sqrt(np.mean([np.mean(u.sd[inside][some] ** 2) for _, u in found[e]])
                                      / np.mean(sd[some] ** 2))),
        }  # fmt: skip
    out["iterations_a_replicate"] = float(np.mean([np.mean(u.iterations) for e in found for _, u in found[e]]))
    out["iterations_a_reconstruction"] = {e: v.solution.iterations for e, v in volumes.items()}
    out["seconds"] = round(time.perf_counter() - clock, 1)
    return out


def pulled(kind: str, dose: float, size: int, replicates: int, seed: int = 5) -> list[dict]:
    """Coverage of the errors of voxels, one row an element."""
    series, truth = simulate(random_particle(kind, size, seed), size=size, dose=dose, seed=seed, drift=1.0)
    exposures = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    series = series.evolve(
        alignment=truth.alignment, exposures=exposures, background=exposures * truth.background, isolated=True
    )
    volumes = reconstruct(series, device="cpu")
    found = uncertainty(series, volumes, replicates, device="cpu")
    inside = sum(truth.volumes.values()) > 0
    rows = []
    for e, u in found.items():
        true = truth.volumes[e]
        off, own = np.abs(volumes[e].values - true), inside & (true > 0)
        row: dict = {"kind": kind, "dose": dose, "element": e}
        for where, voxels in (("inside", inside), ("own", own)):
            for what, error in (("repeatability", u.sd), ("error", u.error.values)):
                row[f"{what}_covers_{where}"] = float((off <= error)[voxels].mean())
        for what, values in (("off", off), ("repeatability", u.sd), ("pull", u.pull)):
            row[f"rms_{what}"] = float(np.sqrt(np.mean(np.square(values[inside], dtype=np.float64))) / true.max())
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of the bootstrap's intervals")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--doses", type=float, nargs="+", default=[5, 40, 200])
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--bootstraps", type=int, default=8)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--pull", action="store_true")
    args = parser.parse_args()
    rows = []
    if args.pull:
        output = args.output or Path(__file__).parent / "results" / f"uncertainty-pull-{args.size}.json"
        for kind, dose in PULLED:
            rows += pulled(kind, dose, args.size, args.replicates)
            names = [n for n in rows[0] if n not in ("kind", "dose", "element")]
            summary = {n: float(np.mean([r[n] for r in rows])) for n in names}
            about = {"size": args.size, "replicates": args.replicates, "summary": summary, "rows": rows}
            output.write_text(json.dumps(about, indent=1) + "\n")
        return
    output = args.output or Path(__file__).parent / "results" / f"uncertainty-{args.size}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    for dose in args.doses:
        rows.append(measure(args.size, dose, args.series, args.bootstraps, args.replicates))
        print(f"dose {dose:g}, {rows[-1]['seconds']:.0f} s")
        for kind in ("regions", "voxels"):
            for name, r in rows[-1][kind].items():
                print(f"  {name:28s} mean {r['covers_mean']:5.0%}  truth {r['covers_truth']:5.0%}  sd ratio "
                      f"{r['sd_ratio']:.2f}", flush=True)  # fmt: skip
        flat = [r for row in rows for r in row["regions"].values()]
        summary = {
            "level": LEVEL,
            "regions_cover_mean": float(np.mean([r["covers_mean"] for r in flat])),
            "regions_cover_truth": float(np.mean([r["covers_truth"] for r in flat])),
            "voxels_cover_mean": float(np.mean([r["covers_mean"] for w in rows for r in w["voxels"].values()])),
            "voxels_cover_truth": float(np.mean([r["covers_truth"] for w in rows for r in w["voxels"].values()])),
        }
        print(summary)
        result = {k: v for k, v in vars(args).items() if k != "output"} | {"summary": summary, "doses": rows}
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
