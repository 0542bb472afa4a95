"""Statistics of two elements on simulated particles whose phases are known: fractions, areas, widths, connectivity.

    python benchmarks/pair_statistics.py [--size 48] [--seeds 2] [--kinds lobes,ring] [--aside] [--out FILE]

Truth is taken from the shapes themselves, sampled at four points along each edge of a voxel. The series have 15 tilts
and 40 counts in the brightest pixel; alignment is known, exposures and background are estimated as in any run. Figures
are those of the volumes, and the estimates with their intervals from two halves of the counts; the summary says how
often an interval holds the truth. `--aside` takes other shapes, on which nothing was tuned.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import recon
from recon.analysis.connectivity import connectivity
from recon.analysis.halves import halves
from recon.analysis.interfaces import area
from recon.analysis.pair_estimates import pair_estimates
from recon.analysis.pair_phases import BOTH, FIRST, PURE, SECOND
from recon.analysis.pairs import pair_statistics
from recon.files import json_text
from recon.simulate import Ellipsoid, Particle, simulate

A, B, MIX, NONE = (1.0, 0.0), (0.0, 0.8), (0.5, 0.4), (0.0, 0.0)
FINE = 4


def lobes() -> Particle:
    """Two bodies that interlock: a protrusion of the first into the second, inclusions of each in the other."""
    shapes = (
        Ellipsoid((0.0, 0.0, 0.10), (0.27, 0.30, 0.24), B, (10, 0, 15)),
        Ellipsoid((0.02, -0.02, -0.13), (0.25, 0.28, 0.18), A),
        Ellipsoid((0.0, -0.08, 0.08), (0.08, 0.08, 0.16), A),
        Ellipsoid((0.02, 0.12, 0.16), (0.08, 0.08, 0.08), A),
    )
    return Particle(("A", "B"), shapes, {})


def layers() -> Particle:
    """A pure core, a mixed layer around it, a pure shell."""
    shapes = (
        Ellipsoid((0.0, 0.0, 0.0), (0.34, 0.36, 0.33), B),
        Ellipsoid((0.0, 0.0, 0.0), (0.25, 0.26, 0.24), MIX),
        Ellipsoid((0.0, 0.0, 0.0), (0.15, 0.15, 0.15), A),
    )
    return Particle(("A", "B"), shapes, {})


def ring() -> Particle:
    """A ring of the first that runs through a body of the second, so that neither can be pulled out."""
    turns = np.arange(12) * np.pi / 6
    beads = [
        Ellipsoid((0.02, 0.19 * np.sin(t), 0.19 * np.cos(t)), (0.10, 0.105, 0.105), A) for t in turns
    ]  # fmt: skip
    return Particle(("A", "B"), (Ellipsoid((0.0, 0.0, 0.0), (0.26, 0.36, 0.36), B), *beads), {})


def blends() -> Particle:
    """A body with one pure and two mixed inclusions, one of them at the surface."""
    shapes = (
        Ellipsoid((0.0, 0.0, 0.0), (0.30, 0.36, 0.34), B),
        Ellipsoid((0.0, -0.15, -0.10), (0.11, 0.11, 0.11), A),
        Ellipsoid((0.0, 0.14, -0.08), (0.11, 0.12, 0.12), MIX),
        Ellipsoid((0.02, 0.0, 0.28), (0.15, 0.15, 0.15), MIX),
    )
    return Particle(("A", "B"), shapes, {})


def graded() -> Particle:
    """A core of the first that turns into the second over a wide border, in steps of a twelfth."""
    parts = np.linspace(1, 0, 13)[1:-1][::-1]
    radii = 0.14 + 0.14 * (1 - parts)
    shells = [
        Ellipsoid((0.0, 0.0, 0.0), (r, r, r), (float(p), 0.8 * float(1 - p))) for p, r in zip(parts, radii, strict=True)
    ]
    body = Ellipsoid((0.0, 0.0, 0.0), (0.36, 0.40, 0.38), B)
    return Particle(("A", "B"), (body, *shells, Ellipsoid((0.0, 0.0, 0.0), (0.14, 0.14, 0.14), A)), {})


def bars() -> Particle:
    """Two bars of the first, one of them bent by a bead, through a flat body of the second."""
    shapes = (
        Ellipsoid((0.0, 0.0, 0.0), (0.22, 0.38, 0.34), B, (0, 20, 0)),
        Ellipsoid((0.03, -0.16, 0.0), (0.10, 0.09, 0.40), A, (0, 0, 12)),
        Ellipsoid((-0.03, 0.14, 0.02), (0.11, 0.10, 0.36), A, (15, 0, 0)),
    )
    return Particle(("A", "B"), shapes, {})


def halo() -> Particle:
    """A pure body with a mixed cap on one side, and a free ball of the other beside it."""
    shapes = (
        Ellipsoid((0.0, -0.10, 0.04), (0.25, 0.26, 0.30), A),
        Ellipsoid((0.05, -0.08, 0.22), (0.17, 0.18, 0.15), MIX),
        Ellipsoid((0.0, 0.26, -0.10), (0.16, 0.16, 0.18), B),
    )
    return Particle(("A", "B"), shapes, {})


ASIDE = {"bars": bars, "halo": halo}
KINDS = {"lobes": lobes, "layers": layers, "ring": ring, "blends": blends, "graded": graded}
WIDTHS = {"bars": 0.0, "lobes": 0.0, "ring": 0.0, "graded": 0.8 * 0.14}  # true 10 to 90 %, parts of the edge


NAMES = {"only_first": "first", "only_second": "second"}


def truth_of(particle: Particle, size: int) -> dict[str, object]:
    """The same figures from the shapes, at `FINE` points along each edge of a voxel."""
    first, second = particle.volume(size * FINE, samples=1)
    second = second / 0.8
    share = first / np.maximum(first + second, 1e-9)
    labels = np.select([share > PURE, share > 1 - PURE], [FIRST, BOTH], SECOND).astype(np.uint8)
    labels[first + second == 0] = 0
    counts = np.bincount(labels.ravel(), minlength=4)[1:4]
    shares = counts / counts.sum()
    found: dict[str, object] = dict(zip(("first", "second", "both"), map(float, shares), strict=True))
    touching, one_side, other_side = area(labels, FIRST, SECOND), area(labels, FIRST, BOTH), area(labels, SECOND, BOTH)
    found["interface"] = (touching + (one_side + other_side) / 2) / FINE**2
    for name, phase in (("first", FIRST), ("second", SECOND)):
        c = connectivity(labels == phase, 20 * FINE**3)
        found[f"{name} connected"] = (c.pieces, c.handles)
    return found


def one(kind: str, size: int, seed: int) -> dict[str, Any]:
    """Simulate, reconstruct, measure."""
    particle = (KINDS | ASIDE)[kind]()
    series, _ = simulate(particle, size=size, drift=0, rotation_deg=0, axis_offset=0, seed=seed)
    series = recon.normalise(series)
    volumes = recon.reconstruct(series, max_iterations=600)
    stats = pair_statistics(volumes["A"].values, volumes["B"].values)
    pair = pair_estimates(volumes, None, halves(series, volumes))["A-B"]
    found = {
        "first": stats.only_first, "second": stats.only_second, "both": stats.both,
        "interface": stats.interface,
        "first connected": (stats.first.pieces, stats.first.handles),
        "second connected": (stats.second.pieces, stats.second.handles),
        "width": stats.width.width, "edge": stats.edge.width, "true width": stats.true_width,
        "both before": stats.both_before, "pure": stats.pure,
    }  # fmt: skip
    truth = truth_of(particle, size)
    if kind in WIDTHS:  # what the true border looks like where a sharp one looks as the particle's surface does
        truth["width"] = float(np.hypot(WIDTHS[kind] * size, stats.edge.width))
    sure = {NAMES.get(name, name): asdict(e) for name, e in pair.figures.items() if NAMES.get(name, name) in truth}
    return {"kind": kind, "size": size, "seed": seed, "found": found, "truth": truth, "sure": sure}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest error of each figure, of the volumes and of the estimates, and how often intervals hold the truth."""
    out: dict[str, Any] = {}
    held: dict[str, list[bool]] = {"68": [], "95": []}
    for name in ("first", "second", "both", "interface", "width"):
        shown, value, near, far = [], [], [], []
        for row in rows:
            if name not in row["sure"]:
                continue
            true, e = row["truth"][name], row["sure"][name]
            if not np.isfinite(e["value"]):
                continue  # no border was found
            unit = true if name == "interface" else 1.0
            shown.append(abs(e["shown"] - true) / unit)
            value.append(abs(e["value"] - true) / unit)
            near.append(e["low68"] <= true <= e["high68"])
            far.append(e["low95"] <= true <= e["high95"])
        if value:
            out[name] = {"largest error": {"of the volumes": max(shown), "of the estimates": max(value)},
                         "held by 68 %": float(np.mean(near)), "held by 95 %": float(np.mean(far))}  # fmt: skip
            held["68"] += near
            held["95"] += far
    right = [tuple(r["truth"][k]) == tuple(r["found"][k]) for r in rows for k in r["truth"] if "connected" in k]
    return {
        **out,
        "intervals": {k: float(np.mean(v)) for k, v in held.items()},
        "connectivity right": float(np.mean(right)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--aside", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pair_statistics.json")
    args = parser.parse_args()
    rows = []
    kinds = args.kinds.split(",") if args.kinds else list(ASIDE if args.aside else KINDS)
    for kind in kinds:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            rows.append(one(kind, args.size, seed))
            found, truth = rows[-1]["found"], rows[-1]["truth"]
            print(kind, seed, *(f"{k} {found[k]}" for k in ("edge", "width", "both before", "pure")))
            for key, value in truth.items():
                e = rows[-1]["sure"].get(key)
                sure = "" if e is None else "estimate {value:.4g} [{low95:.4g} to {high95:.4g}]".format(**e)
                print(f"   {key:18s} truth {value!s:22s} found {found[key]} {sure}", flush=True)
            record = {"summary": summary(rows), "cases": rows}
            args.out.write_text(json_text(record), encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
