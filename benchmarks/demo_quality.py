"""How good the blind demo is, seed by seed: volumes and alignment against the truth.

    python benchmarks/demo_quality.py [--seeds 3] [--size 64] [--dose 40] [--output FILE]

For each seed the demo's series goes through the whole pipeline blind. Errors are relative RMS after
`recon.job.demo.register`. Beside TGV stand SIRT at its best number of iterations on the same blind series, and TGV
with the true alignment, exposures and background. Alignment errors are those of the displacements after the
free translation of the object is removed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from recon.job.demo import register
from recon.job.pipeline import process
from recon.reconstruction.reconstruct import reconstruct
from recon.series.alignment import Alignment
from recon.simulate import simulate

SIRT_ITERATIONS = (5, 10, 20, 30, 50)


def displacement_errors(found: Alignment, true: Alignment, tilts_deg: np.ndarray) -> np.ndarray:
    """``(tilt, 2)`` pixels, (v, u): what no translation of the object explains.

    An object moved by (z, y, x) moves its ideal projection by ``(y, x cos t + z sin t)``, and this turned by
    the axis rotation in the recorded frame.
    """
    t, r = np.radians(tilts_deg), np.radians(true.rotation_deg)
    along = np.ones_like(t)
    v = np.stack([np.cos(r) * along, np.sin(r) * np.cos(t), np.sin(r) * np.sin(t)], axis=1)
    u = np.stack([-np.sin(r) * along, np.cos(r) * np.cos(t), np.cos(r) * np.sin(t)], axis=1)
    basis = np.concatenate([v, u])
    difference = (found.displacements - true.displacements).T.ravel()
    rest = difference - basis @ np.linalg.lstsq(basis, difference, rcond=None)[0]
    return rest.reshape(2, -1).T


def measure(seed: int, size: int, dose: float) -> dict:
    clock = time.perf_counter()
    series, truth = simulate(size=size, dose=dose, seed=seed)
    result = process(series, device="cpu")
    blind = round(time.perf_counter() - clock, 1)
    unit = float(truth.exposures.mean())
    target = {n: (v * unit).astype(np.float32) for n, v in truth.volumes.items()}

    def errors(volumes) -> dict[str, float]:
        return register({n: v.values for n, v in volumes.items()}, target).errors

    tgv = register({n: v.values for n, v in result.volumes.items()}, target)
    sirt = {n: errors(reconstruct(result.series, "sirt", max_iterations=n, device="cpu")) for n in SIRT_ITERATIONS}
    exposures = np.broadcast_to(truth.exposures / unit, series.exposures.shape).copy()
    ideal = series.evolve(
        alignment=truth.alignment, exposures=exposures, background=exposures * unit * truth.background, isolated=True
    )
    rest = displacement_errors(result.series.alignment, truth.alignment, series.tilts_deg)
    return {
        "seed": seed,
        "tgv": tgv.errors,
        "sirt": {e: min(s[e] for s in sirt.values()) for e in series.elements},
        "sirt_iterations": {e: min(sirt, key=lambda n, e=e: sirt[n][e]) for e in series.elements},
        "true_alignment": errors(reconstruct(ideal, device="cpu")),
        "rotation_error_deg": float(result.series.alignment.rotation_deg - truth.alignment.rotation_deg),
        "shift_rms_pixels": dict(zip("vu", np.sqrt(np.mean(rest**2, axis=0)).tolist(), strict=True)),
        "turn_deg": tgv.turn_deg,
        "exposure_rms": float(np.sqrt(np.mean((result.series.exposures / exposures - 1) ** 2))),
        "blind_seconds": blind,
        "timings_s": result.timings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="errors of the blind demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--dose", type=float, default=40.0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    elements: list[str] = []
    for seed in range(args.seeds):
        row = measure(seed, args.size, args.dose)
        rows.append(row)
        if not elements:
            elements = list(row["tgv"])
            titles = [f"{w} {e}" for w in ("TGV", "SIRT", "known") for e in elements]
            print("seed" + "".join(f"{t:>9}" for t in titles) + "  rotation  rms v  rms u  exposure   time")
        cells = [row[k][e] for k in ("tgv", "sirt", "true_alignment") for e in elements]
        shift = row["shift_rms_pixels"]
        print(
            f"{seed:4d}" + "".join(f"{c:9.3f}" for c in cells)
            + f"{row['rotation_error_deg']:+10.2f}{shift['v']:7.3f}{shift['u']:7.3f}{row['exposure_rms']:10.4f}"
            + f"{row['blind_seconds']:6.0f}s",
            flush=True,
        )  # fmt: skip
    worst = {k: {e: max(r[k][e] for r in rows) for e in elements} for k in ("tgv", "sirt", "true_alignment")}
    print("worst " + "; ".join(f"{k} " + ", ".join(f"{e} {v:.3f}" for e, v in w.items()) for k, w in worst.items()))
    result = {"size": args.size, "dose": args.dose, "worst": worst, "seeds": rows}
    output = args.output or Path(__file__).parent / "results" / f"demo-quality-{args.size}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
