"""Dual-axis and conical series aligned blind, against the known alignment, on simulated particles.

Dual-axis: seven tilts about each of two axes, between which the specimen moved by up to 2 degrees about each of its
axes and a pixel along each, the axis turned by 1 degree in the maps. Conical: 15 directions 55 degrees off the axis.
Maps drift by up to 1.5 pixels and are shadowed by up to 45 %. Blind means `normalise` and `align` without any of that;
beside it stands the same series with the true geometry, alignment, exposures and background. Both are reconstructed by
TV at one strength, that of the noise. Errors are relative to the truth, computed anew where the best rigid motion puts
it, so that it is not interpolated. For the dual-axis series there is also a single-axis one of as many tilts and
as much dose, its alignment known: what the second axis is worth.

    python benchmarks/schemes.py [--size 24] [--dose 40] [--cases 5] [--aside]

Writes ``results/schemes-SIZE.json``; with ``--aside`` the particles and seeds that nothing was tuned on.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

import recon
from recon.alignment.schemes import Motion
from recon.geometry.tilt_geometry import TiltGeometry
from recon.model.noise import automatic_strength
from recon.simulate import KINDS, Particle, random_particle, simulate, two_metal_particle

SAMPLES = 3  # along a voxel's edge, of the truth where it lies


def cases(n: int, aside: bool) -> list[tuple[str, int]]:
    """Kinds of particles and seeds."""
    kinds = ["two metals", *KINDS]
    first = 301 if aside else 1
    return [(kinds[k % len(kinds)], first + k // len(kinds)) for k in range(n)]


def schemes(size: int, rng: np.random.Generator) -> dict[str, tuple[TiltGeometry, TiltGeometry]]:
    """Name to what the maps were meant to be, and what they were."""
    frame, tilts = (size, size), np.arange(-66.0, 67, 22)
    first, second = (TiltGeometry.from_angles(tilts, axis, frame) for axis in (0, 90))
    motion = Motion(rng.uniform(-2, 2, 3), rng.uniform(-1, 1, 3))
    turned = [g.moved(np.zeros((tilts.size, 2)), 1.0) for g in (first, motion.of(second))]
    cone = TiltGeometry.conical(55, np.arange(0, 360, 24.0), detector=frame)
    return {"dual": (first + second, turned[0] + turned[1]), "cone": (cone, cone)}


def moved_truth(particle: Particle, size: int, p: np.ndarray) -> np.ndarray:
    """Densities ``(element, z, y, x)`` of the particle turned by the rotation vector p[:3], then shifted by p[3:]."""
    n = size * SAMPLES
    axis = (np.arange(n) - (n - 1) / 2) / SAMPLES
    back = Rotation.from_rotvec(p[:3], degrees=True).as_matrix()
    density = np.array([s.density for s in particle.shapes] + [(0.0,) * len(particle.elements)])
    y, x = np.meshgrid(axis, axis, indexing="ij")
    out = np.zeros((len(particle.elements), size, size, size))
    for k, z in enumerate(axis):
        at = (np.stack([np.full_like(y, z), y, x], axis=-1) - p[3:]) @ back / size
        last = np.full((n, n), -1)
        for i, shape in enumerate(particle.shapes):
            r = at - shape.centre
            last[np.einsum("abi,ij,abj->ab", r, shape.form(), r) <= 1] = i
        plane = np.moveaxis(density[last], -1, 0).reshape(-1, size, SAMPLES, size, SAMPLES)
        out[:, k // SAMPLES] += plane.mean(axis=(2, 4)) / SAMPLES
    return out


def errors(volumes: dict, truth, unit: float) -> tuple[dict[str, float], np.ndarray]:
    """Relative errors of volumes against the truth where it fits them best, and that motion."""
    names = list(volumes)
    found = np.stack([volumes[n].values for n in names]).astype(np.float64)
    plain = np.stack([truth.volumes[n] for n in names]).astype(np.float64) * unit
    size = found.shape[1]
    middle, scale = (size - 1) / 2, np.sqrt(np.square(plain).sum(axis=(1, 2, 3)))

    def apart(p: np.ndarray) -> np.ndarray:
        matrix = Rotation.from_rotvec(p[:3], degrees=True).as_matrix().T
        offset = middle - matrix @ (middle + p[3:])
        there = [ndimage.affine_transform(a, matrix, offset, order=1) for a in plain]
        return np.concatenate([((a - b) / s).ravel() for a, b, s in zip(found, there, scale, strict=True)])

    p = optimize.least_squares(apart, np.zeros(6), diff_step=1e-2, x_scale=[2, 2, 2, 0.5, 0.5, 0.5], max_nfev=12).x
    lit = moved_truth(truth.particle, size, p)
    lit *= (plain.sum(axis=(1, 2, 3)) / moved_truth(truth.particle, size, np.zeros(6)).sum(axis=(1, 2, 3)))[
        :, None, None, None
    ]
    return {n: float(np.linalg.norm(a - b) / np.linalg.norm(b)) for n, a, b in zip(names, found, lit, strict=True)}, p


def with_truth(series, truth, scheme=None):
    """The series with its true geometry, alignment, exposures and background; and the unit of its densities."""
    unit = float(truth.exposures.mean())
    s = np.broadcast_to(truth.exposures / unit, series.exposures.shape).copy()
    more = {} if scheme is None else {"scheme": scheme}
    known = series.evolve(
        alignment=truth.alignment, exposures=s, background=s * unit * truth.background, isolated=True, **more
    )
    return known, unit


def measure(kind: str, seed: int, size: int, dose: float) -> list[dict]:
    particle = two_metal_particle(seed) if kind == "two metals" else random_particle(kind, size, seed)
    rows = []
    still = {"drift": 1.5, "rotation_deg": 0.0, "axis_offset": 0.0, "seed": seed, "size": size}
    for name, (meant, actual) in schemes(size, np.random.default_rng([seed, 11])).items():
        series, truth = simulate(particle, geometry=meant, actual=actual, dose=dose, **still)
        known, unit = with_truth(series, truth, actual)
        strength = {n: automatic_strength(known, n) for n in series.elements}
        blind = recon.align(recon.normalise(series), log=lambda line: None)

        def solved(one, strength=strength):
            return recon.reconstruct(one, "tv", strength=strength, tolerance=3e-2, device="cpu")

        best, _ = errors(solved(known), truth, unit)
        found, motion = errors(solved(blind), truth, unit)
        row = {
            "scheme": name, "kind": kind, "seed": seed, "dose": dose, "known": best, "blind": found,
            "ratio": {n: found[n] / best[n] for n in best}, "motion": np.round(motion, 3).tolist(),
            "doubts": list(blind.alignment.doubts),
        }  # fmt: skip
        if name == "dual":  # as many counts from a voxel as in the maps of two axes
            tilts = np.linspace(-66, 66, len(meant))
            _, other = simulate(particle, tilts_deg=tilts, dose=dose, **still)
            same = dose * float(truth.volumes[series.elements[0]].sum() / other.volumes[series.elements[0]].sum())
            one, other = simulate(particle, tilts_deg=tilts, dose=same, **still)
            one, unit = with_truth(one, other)
            row["single"], _ = errors(solved(one), other, unit)
        rows.append(row)
        print(
            name, kind, seed, {n: (round(best[n], 3), round(found[n], 3)) for n in best}, row.get("single"), flush=True
        )
    return rows


def summary(rows: list[dict]) -> dict:
    """By scheme: errors blind over known, and how much less the error is with two axes than with one."""
    out = {}
    for name in dict.fromkeys(row["scheme"] for row in rows):
        mine = [row for row in rows if row["scheme"] == name]
        ratios = np.array([r for row in mine for r in row["ratio"].values()])
        out[name] = {
            "particles": len(mine),
            "blind_over_known": {"median": float(np.median(ratios)), "worst": float(ratios.max()),
                                 "within 5 %": int((ratios <= 1.05).sum()), "of": int(ratios.size)},
        }  # fmt: skip
        pairs = [row["single"][n] / row["known"][n] for row in mine if "single" in row for n in row["known"]]
        if pairs:
            out[name]["single_axis_over_this"] = {"median": float(np.median(pairs)), "least": float(min(pairs))}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--dose", type=float, default=40.0)
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--aside", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    path = Path(__file__).parent / "results" / f"schemes-{args.size}{'-aside' if args.aside else ''}.json"
    rows: list[dict] = []
    for kind, seed in cases(args.cases, args.aside):
        rows += measure(kind, seed, args.size, args.dose)
        result = {"size": args.size, "dose": args.dose, "summary": summary(rows), "rows": rows}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
