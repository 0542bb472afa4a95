"""Alignment and exposures found blind, against the truth and the limits of what the counts can tell.

    python benchmarks/alignment.py [--seeds 10] [--doses 40 5] [--volumes] [--large] [--real 64] [--output FILE]

Simulated: 64 x 64 pixels, 15 tilts, drift of +-3 pixels, the axis rotated by up to 5 degrees and off by up to 5
pixels, 45 % shadowing. Printed for each seed, then median and worst: rms error of shifts (offset included,
after the one translation that no data can fix), error of the rotation, rms error of exposures (each element's).
Beside each stand two limits: "stated", the standard error that the run gives itself, the object being unknown;
"known", the Cramer-Rao bound were the object known (for exposures: to the sum of the elements). ``--volumes``
adds the error of the blind volumes over that with the true alignment and exposures (a minute a seed),
``--large`` 15 tilts of 256 x 256, ``--real`` the real series in shared/data (beside the checkout): random
shifts of +-10 pixels added to each tilt. ``--doses`` with nothing behind it leaves the simulated ones out, ``--quick``
is two seeds. A run takes the place of what it measured in FILE, and the rest of FILE stays: delete it after a change of
the alignment.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from demo_quality import displacement_errors

from recon.alignment.align import align
from recon.alignment.joint import translation
from recon.job.demo import register
from recon.preparation.normalise import normalise
from recon.reconstruction.reconstruct import reconstruct
from recon.series.tilt_series import TiltSeries
from recon.simulate import Truth, simulate

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "L2083-K-4-1"


def rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(a))))


def particle(seed: int, dose: float, size: int = 64, **options: float) -> tuple[TiltSeries, Truth]:
    """The series of the bar: rotation and offset drawn anew for each seed."""
    rng = np.random.default_rng(100 + seed)
    scale = size / 64
    rotation, offset = rng.uniform(-5, 5), rng.uniform(-5, 5) * scale
    return simulate(
        size=size, dose=dose, seed=seed, drift=3 * scale, rotation_deg=rotation, axis_offset=offset, **options
    )


def limits(seed: int, dose: float, size: int = 64) -> dict[str, float]:
    """Cramer-Rao bounds with the object known: shifts (rms), rotation and exposures, all estimated together.

    Derivatives of the expected counts by central differences of the particle's exact projections: nothing of this
    project's estimators enters.
    """
    series, truth = particle(seed, dose, size)
    n = series.n_tilts
    unit = sum(v.sum(dtype=np.float64) for v in truth.volumes.values())

    def expected(i: int, dv: float = 0.0, du: float = 0.0, turn: float = 0.0) -> np.ndarray:
        samples = 3
        fine = (np.arange(size * samples) - (size * samples - 1) / 2) / samples
        angle = np.radians(truth.alignment.rotation_deg) + turn
        c, s = np.cos(angle), np.sin(angle)
        at = truth.alignment.displacements[i] + [dv, du]
        v, u = np.meshgrid(fine - at[0], fine - at[1], indexing="ij")
        ideal = truth.particle.projection(float(series.tilts_deg[i]), (v * c - u * s) / size, (v * s + u * c) / size)
        return ideal.sum(axis=0).reshape(size, samples, size, samples).mean(axis=(1, 3))

    plain = np.stack([expected(i) for i in range(n)])
    scale = unit / plain[n // 2].sum() * truth.exposures[:, None, None]  # every map holds the whole particle
    signal = plain * scale
    background = len(series.elements) * truth.exposures * truth.background
    mean = signal + background[:, None, None]
    h = 0.1
    dv, du, turn = (
        np.stack([expected(i, **{k: h * f}) - expected(i, **{k: -h * f}) for i in range(n)]) * scale / (2 * h * f)
        for k, f in (("dv", 1.0), ("du", 1.0), ("turn", 2 / size))
    )
    slopes = np.zeros((n, size, size, 3 * n + 1), np.float32)
    for i in range(n):
        slopes[i, ..., 3 * i], slopes[i, ..., 3 * i + 1], slopes[i, ..., 3 * i + 2] = dv[i], du[i], signal[i]
    slopes[..., -1] = turn
    flat = slopes.reshape(-1, 3 * n + 1) / np.sqrt(np.maximum(mean, background[:, None, None])).reshape(-1, 1)
    information = (flat.T @ flat).astype(np.float64)
    fixed = np.zeros((3 * n + 1, 4))
    along = translation(np.radians(series.tilts_deg), np.radians(truth.alignment.rotation_deg))
    fixed[0:-1:3, :3], fixed[1:-1:3, :3] = along
    fixed[2:-1:3, 3] = 1
    q = np.linalg.svd(fixed)[0][:, 4:]
    sd = np.sqrt(np.diag(q @ np.linalg.inv(q.T @ information @ q) @ q.T))
    shifts = np.stack([sd[0:-1:3], sd[1:-1:3]])
    return {"shift": rms(shifts), "rotation": float(np.degrees(sd[-1])), "exposure": rms(sd[2:-1:3])}


def timed(series: TiltSeries) -> tuple[TiltSeries, dict[str, float]]:
    """Normalised and aligned; seconds by the wall's clock and of all cores."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = align(normalise(series))
    clocks = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    return found, {k: round(v, 1) for k, v in clocks.items()}


def measure(seed: int, dose: float, size: int, volumes: bool) -> dict:
    series, truth = particle(seed, dose, size)
    found, clocks = timed(series)
    a = found.alignment
    wrong = displacement_errors(a, truth.alignment, series.tilts_deg)
    curve = truth.exposures / truth.exposures.mean()
    row = {
        "seed": seed,
        "dose": dose,
        "shift": rms(wrong),
        "rotation": float(a.rotation_deg - truth.alignment.rotation_deg),
        "exposure": rms(found.exposures / curve - 1),
        "known": limits(seed, dose, size),
        "stated": {"shift": rms(a.errors), "rotation": a.rotation_error, "exposure": rms(found.exposure_errors)},
        "z": {"shift": rms(wrong / a.errors), "exposure": rms((found.exposures - curve) / found.exposure_errors)},
        "converged": a.converged,
        "doubts": list(a.doubts),
        **clocks,
    }
    if volumes:
        unit = float(truth.exposures.mean())
        target = {n: (v * unit).astype(np.float32) for n, v in truth.volumes.items()}
        exposures = np.broadcast_to(curve, series.exposures.shape).copy()
        ideal = series.evolve(
            alignment=truth.alignment,
            exposures=exposures,
            background=exposures * unit * truth.background,
            isolated=True,
        )
        errors = [
            register({n: v.values for n, v in reconstruct(s, device="cpu").items()}, target).errors
            for s in (found, ideal)
        ]
        row["blind"], row["true"] = errors
        row["excess"] = {e: errors[0][e] / errors[1][e] - 1 for e in series.elements}
    return row


def real(pixels: int, seeds: int) -> list[dict]:
    """Shifts added to each tilt of the real series: how far the result is from the unperturbed one, in raw pixels."""
    from recon.eds.maps import line_maps
    from recon.eds.windows import Options

    factor = 256 // pixels
    series = normalise(line_maps(REAL, ("Fe_Ka", "Si_Ka", "O_Ka"), options=Options(bin=factor)).series())
    still = align(series, log=print)
    rows = [
        {"isolated": series.isolated, "rotation": still.alignment.rotation_deg, "doubts": list(still.alignment.doubts)}
    ]
    print(rows[0])
    for seed in range(seeds):
        steps = np.random.default_rng(seed).integers(-10, 11, (series.n_tilts, 2))
        moved = shifted(series, steps)
        found = align(moved).alignment
        t, n = np.radians(series.tilts_deg), series.n_tilts
        basis = np.concatenate(translation(t, np.radians(still.alignment.rotation_deg)))
        wrong = (found.displacements - steps - still.alignment.displacements).T.ravel()
        rest = (wrong - basis @ np.linalg.lstsq(basis, wrong, rcond=None)[0]).reshape(2, n).T
        rows.append(
            {"seed": seed, "rms": rms(rest), "worst": float(np.abs(rest).max()), "rotation": found.rotation_deg}
        )
        print(rows[-1], flush=True)
    return rows


def shifted(series: TiltSeries, steps: np.ndarray) -> TiltSeries:
    """Maps moved by whole pixels ``(tilt, 2)`` (v, u); what comes in has no weight."""
    weights = np.ones(series.counts.shape[1:], np.float32) if series.weights is None else series.weights.copy()
    counts = series.counts.copy()
    maps = None if series.background_maps is None else series.background_maps.copy()
    for i, (dv, du) in enumerate(steps):
        gone = np.zeros(series.frame, bool)
        gone[: max(dv, 0)] = gone[series.frame[0] + min(dv, 0) :] = True
        gone[:, : max(du, 0)] = gone[:, series.frame[1] + min(du, 0) :] = True
        for stack in (counts, maps):
            if stack is not None:
                stack[:, i] = np.where(gone, 0, np.roll(stack[:, i], (dv, du), axis=(1, 2)))
        weights[i] = np.where(gone, 0, np.roll(weights[i], (dv, du), axis=(0, 1)))
    return series.evolve(counts=counts, weights=weights, background_maps=maps)


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Median and worst of all seeds: shifts in pixels rms, rotation in degrees, exposures relative rms."""
    out = {}
    for key in ("shift", "rotation", "exposure"):
        values = np.abs([r[key] for r in rows])
        out[key] = {
            "median": float(np.median(values)),
            "worst": float(values.max()),
            "known": float(np.median([r["known"][key] for r in rows])),
            "stated": float(np.median([r["stated"][key] for r in rows])),
        }
    if "excess" in rows[0]:
        excess = np.array([list(r["excess"].values()) for r in rows])
        out["excess"] = {"median": float(np.median(excess)), "worst": float(excess.max())}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="errors of the blind alignment beside their limits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--doses", type=float, nargs="*", default=[40, 5])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--volumes", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--real", type=int, nargs="?", const=256, help="pixels of the real maps' edge: 256, 128, 64")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    seeds = 2 if args.quick else args.seeds
    output = args.output or Path(__file__).parent / "results" / "alignment.json"
    result: dict = json.loads(output.read_text()) if output.exists() else {}

    def keep(room: str, key: str, value: dict | list) -> None:
        """Into the file at once, so that a long run that is stopped has not run in vain."""
        result.setdefault(room, {})[key] = value
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")

    for dose in args.doses:
        room, key = "volumes" if args.volumes else "doses", f"{dose:g}"
        for seed in range(args.first, args.first + seeds):
            r = measure(seed, dose, args.size, args.volumes)
            before = result.get(room, {}).get(key, {"rows": []})["rows"]
            rows = sorted([x for x in before if x["seed"] != seed] + [r], key=lambda x: x["seed"])
            keep(room, key, {"size": args.size, "summary": summary(rows), "rows": rows})
            excess = "" if "excess" not in r else ", excess " + " ".join(f"{v:+.3f}" for v in r["excess"].values())
            print(
                f"{dose:g} counts, seed {seed}: shifts {r['shift']:.3f} (stated {r['stated']['shift']:.3f}, known "
                f"{r['known']['shift']:.3f}), rotation {r['rotation']:+.3f} ({r['stated']['rotation']:.3f}, "
                f"{r['known']['rotation']:.3f}), exposures {r['exposure']:.4f} ({r['stated']['exposure']:.4f}, "
                f"{r['known']['exposure']:.4f}){excess}; {r['seconds']:.0f} s {r['converged']} {r['doubts']}",
                flush=True,
            )
        for what, cells in result[room][key]["summary"].items():
            print(f"{dose:g} counts: {what:9s}: {', '.join(f'{k} {v:.4f}' for k, v in cells.items())}", flush=True)
    if args.large:
        align(normalise(particle(1, 40)[0]))  # compiles
        _, clocks = timed(particle(0, 5, 256, samples=1)[0])
        keep("large", "256", clocks)
        print(f"15 tilts of 256 x 256: {clocks['seconds']:.1f} s, {clocks['cpu_seconds']:.1f} s of all cores")
    if args.real:
        keep("real", str(args.real), real(args.real, min(seeds, 3)))


if __name__ == "__main__":
    main()
