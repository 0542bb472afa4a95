"""15 EDS tilts with 71 HAADF tilts against the 15 alone, blind, on simulated particles whose truth is known.

The image of a tilt is a weighted sum of what the elements project (their atomic number to the power of 1.7), with noise
and with a gain of its own at each tilt; every fifth tilt has maps. The same maps are aligned on all images, and on
themselves, and reconstructed; beside both stands the true alignment. Errors are those of the displacements, of tilts
that take part, that no translation of the object explains, of the axis's rotation, and of the volumes after the true
ones were moved onto them (which smooths these a little, so that the two blind volumes compare with each other, and less
with the third). All three are reconstructed by TV at one strength, that of the noise: only the alignment differs.

    python benchmarks/channels.py [--size 32] [--doses 5 40] [--cases 6] [--aside]

Writes ``results/channels-SIZE.json``; with ``--aside`` the particles and seeds that nothing was tuned on.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from demo_quality import displacement_errors

import recon
from recon.job.demo import register
from recon.model.noise import automatic_strength
from recon.series.alignment import Alignment
from recon.simulate import KINDS, random_particle, simulate, two_metal_particle

TILTS = np.arange(-70.0, 71.0, 2.0)
PICK = np.arange(0, 71, 5)
BRIGHT = 4000.0  # counts of the image's brightest pixel, above which its noise is Poisson's
POWER = np.array([27.0, 30.0]) ** 1.7


def cases(n: int, aside: bool) -> list[tuple[str, int]]:
    """Kinds of particles and seeds."""
    kinds = ["two metals", *KINDS]
    first = 100 if aside else 1
    return [(kinds[k % len(kinds)], first + k // len(kinds)) for k in range(n)]


def recorded(kind: str, seed: int, size: int, dose: float):
    """The series of 15 maps with its image, the truth, and the same with the true alignment and exposures."""
    particle = two_metal_particle(seed) if kind == "two metals" else random_particle(kind, size, seed)
    full, truth = simulate(particle, size=size, tilts_deg=TILTS, dose=BRIGHT, seed=seed)
    rng = np.random.default_rng([seed, 7])
    clean = np.tensordot(POWER / POWER.max(), full.counts[:2], 1)  # noise of 4000 counts
    image = 500 + rng.uniform(0.7, 1.4, (TILTS.size, 1, 1)) * clean
    maps = {
        n: rng.binomial(c[PICK].astype(int), dose / BRIGHT) for n, c in zip(full.elements, full.counts, strict=True)
    }
    series = recon.read(maps, TILTS[PICK], full.pixel_size_nm, image=image, image_tilts=TILTS)
    at = replace(truth.alignment, shifts=truth.alignment.shifts[PICK])
    exposures = truth.exposures[PICK]
    unit = float(exposures.mean())
    s = np.broadcast_to(exposures / unit, series.exposures.shape).copy()
    scale = dose / BRIGHT
    known = series.evolve(alignment=at, exposures=s, background=s * unit * truth.background * scale, isolated=True)
    target = {n: (v * np.float32(unit * scale)).astype(np.float32) for n, v in truth.volumes.items()}
    return series, known, at, target


def measure(kind: str, seed: int, size: int, dose: float, by_images: Alignment | None) -> tuple[dict, Alignment]:
    """One case, and its alignment by the images, which is the same at every dose."""
    series, known, at, target = recorded(kind, seed, size, dose)
    ready = recon.normalise(series)
    with_images = recon.align(ready) if by_images is None else ready.evolve(alignment=by_images)
    aligned = {
        "with images": with_images,
        "without": recon.align(ready, reference=series.elements),
        "known": known,
    }
    out: dict = {"kind": kind, "seed": seed, "dose": dose}
    strength = {n: automatic_strength(known, n) for n in series.elements}  # the same, so that only alignments differ
    for name, one in aligned.items():
        volumes = recon.reconstruct(one, "tv", strength=strength, tolerance=3e-2, device="cpu")
        found = register({n: v.values for n, v in volumes.items()}, target)
        part = one.used  # what drifted out of the frame is left out
        both = [replace(a, shifts=a.shifts[part]) for a in (one.alignment, at)]
        rest = displacement_errors(*both, series.tilts_deg[part])
        out[name] = {
            "shift_rms_pixels": float(np.sqrt(np.mean(rest**2))),
            "rotation_error_deg": float(one.alignment.rotation_deg - at.rotation_deg),
            "volume_errors": found.errors,
        }
    print(kind, seed, dose, {n: (round(out[n]["shift_rms_pixels"], 3), round(out[n]["rotation_error_deg"], 2),
          {e: round(x, 3) for e, x in out[n]["volume_errors"].items()}) for n in aligned}, flush=True)  # fmt: skip
    return out, with_images.alignment


def summary(rows: list[dict]) -> dict:
    """By dose: medians, how often the images helped, and volume errors over those of the known alignment."""
    out = {}
    for dose in sorted({row["dose"] for row in rows}):
        mine = [row for row in rows if row["dose"] == dose]
        table: dict = {"cases": len(mine)}
        for name in ("with images", "without"):
            ratios = [row[name]["volume_errors"][e] / row["known"]["volume_errors"][e] for row in mine
                      for e in row["known"]["volume_errors"]]  # fmt: skip
            table[name] = {
                "shift_rms_pixels": float(np.median([row[name]["shift_rms_pixels"] for row in mine])),
                "rotation_rms_deg": float(np.sqrt(np.mean([row[name]["rotation_error_deg"] ** 2 for row in mine]))),
                "volume_error_over_known": float(np.median(ratios)),
                "worst_over_known": float(np.max(ratios)),
            }
        better = [row["with images"]["volume_errors"][e] / row["without"]["volume_errors"][e] for row in mine
                  for e in row["known"]["volume_errors"]]  # fmt: skip
        table["with_over_without"] = {"median": float(np.median(better)), "worst": float(np.max(better)),
                                      "better": int(np.sum(np.array(better) < 1)), "of": len(better)}  # fmt: skip
        out[f"{dose:g}"] = table
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--doses", type=float, nargs="+", default=[5.0, 40.0])
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--aside", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    path = Path(__file__).parent / "results" / f"channels-{args.size}{'-aside' if args.aside else ''}.json"
    rows = []
    for kind, seed in cases(args.cases, args.aside):
        by_images: Alignment | None = None
        for dose in args.doses:
            row, by_images = measure(kind, seed, args.size, dose, by_images)
            rows.append(row)
            result = {"size": args.size, "tilts": [PICK.size, TILTS.size], "summary": summary(rows), "rows": rows}
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
