"""Two elements reconstructed together against each alone, on simulated particles: error, borders, cross-talk.

    python benchmarks/coupled.py [--size 32] [--doses 5 40 300] [--particles ...] [--seed 1] [--image 15]
                                 [--output FILE]

Alignment, exposures and background are known. Each element's strength is that of its own search, in all ways alike:
alone, by the Frobenius norm, by the nuclear norm, and what ``coupling = "auto"`` chooses of these. With `--image` an
HAADF image of the same tilts, or of so many between the same ends, is a further channel: Poisson noise of `IMAGE_DOSE`
times the counts, of a signal to which the second element gives `HEAVIER` times as much as the first. Of each way:

- ``error``: relative RMS error of each element's volume; ``worse``: over that of the element alone;
- ``width``: of the border between the pure phases of the truth, from 10 to 90 % of the share, voxels;
- ``cross_talk``: mean density of each element where the truth has the other alone, over its density where it is alone;
- ``mixed``: mean share of the first element where the truth has both, and that of the truth.

The control is each alone with `CONTROL` of its strength: to regularise less is no gain of coupling.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from strength import PARTICLES, simulated

from recon.analysis.interfaces import border_width
from recon.analysis.pair_phases import EMPTY, FIRST, SECOND, Phases
from recon.reconstruction.coupled import IMAGE, Part
from recon.reconstruction.coupling_choice import choose_coupling
from recon.reconstruction.strength import A0_PER_A1, choose
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.simulate import KINDS, Particle, Truth, simulate
from recon.solvers import Status
from recon.solvers.coupled import COUPLINGS, Channel, CoupledPrimalDual

TOLERANCE, ITERATIONS = 1e-2, 1500
CONTROL = 0.8
IMAGE_DOSE, HEAVIER = 20.0, 1.3
WAYS = ("alone", "control", *COUPLINGS)


def with_image(series: TiltSeries, truth: Truth, dose: float, size: int, seed: int, tilts: int) -> TiltSeries:
    """The series with an HAADF image of each tilt, with the drift of the maps, or at tilts of its own; black level 100.

    It has the noise of one dose at each tilt, whatever their number.
    """
    shapes = tuple(replace(s, density=(s.density[0] + HEAVIER * s.density[1],)) for s in truth.particle.shapes)
    particle = Particle((IMAGE,), shapes, {})
    drift = min(3.0, size / 20)  # the same seed gives the same drift
    how = {"size": size, "dose": IMAGE_DOSE * dose, "drift": drift, "shadowing": 0.0, "seed": seed}
    if tilts == series.n_tilts:
        made, _ = simulate(particle, **how)
        return series.evolve(image=100 + made.counts[0])
    own = np.linspace(series.tilts_deg[0], series.tilts_deg[-1], tilts)
    made, known = simulate(particle, tilts_deg=own, **how)
    shifts = known.alignment.shifts
    return series.evolve(image=100 + made.counts[0], image_tilts_deg=own, image_shifts=shifts)


class Judge:
    """What a pair of volumes ``(z, x, y)`` is worth against the truth."""

    def __init__(self, truth: Truth, names: tuple[str, ...]) -> None:
        self.truth = [truth.volumes[n].swapaxes(1, 2).astype(np.float64) for n in names]
        a, b = (t / t.max() for t in self.truth)
        self.pure = [float(t.max()) for t in self.truth]
        self.matter = a + b > 0.5
        share = a / np.maximum(a + b, 1e-9)
        self.alone = [ndimage.binary_erosion(self.matter & (s > 0.999)) for s in (share, 1 - share)]
        self.both = ndimage.binary_erosion(self.matter & (share > 0.2) & (share < 0.8))
        self.share = share

    def error(self, volumes: np.ndarray) -> list[float]:
        return [float(np.linalg.norm(v - t) / np.linalg.norm(t)) for v, t in zip(volumes, self.truth, strict=True)]

    def figures(self, volumes: np.ndarray) -> dict:
        a, b = (np.clip(v / p, 0, None) for v, p in zip(volumes, self.pure, strict=True))
        share = (a / np.maximum(a + b, 1e-9)).astype(np.float32)
        labels = np.where(self.matter, np.where(self.share > 0.5, FIRST, SECOND), EMPTY).astype(np.uint8)
        width = border_width(Phases(labels, np.zeros(labels.shape, bool), share, 0.0))
        talk = [
            float(other[there].mean() / max(other[own].mean(), 1e-9)) if there.sum() > 20 and own.sum() > 20 else None
            for other, there, own in ((b, *self.alone), (a, *self.alone[::-1]))
        ]
        mixed = [float(s[self.both].mean()) for s in (share, self.share)] if self.both.sum() > 20 else None
        return {
            "error": self.error(volumes),
            "width": float(width.width) if width.profiles >= 20 and np.isfinite(width.width) else None,
            "cross_talk": talk,
            "mixed": mixed,
        }


def measure(name: str, dose: float, size: int, seed: int, image: int) -> dict:
    """One particle at one dose in all ways."""
    series, truth = simulated(name, dose, size, seed)
    names = series.elements
    if image:
        series = with_image(series, truth, dose, size, seed, image)
    parts = [Part.of(series, n, Settings(), None, "cpu") for n in (*names, *([IMAGE] if image else []))]
    judge, problems = Judge(truth, names), [p.problem for p in parts]
    a1 = []
    for problem in problems:
        choice = choose(problem)
        assert choice is not None
        a1.append(choice.strength)
    cell: dict = {"particle": name, "dose": dose, "seed": seed, "size": size, "image": image, "a1": a1, "ways": {}}
    begun, alone, control, seconds, iterations = time.process_time(), [], [], 0.0, 0
    for problem, a in zip(problems, a1, strict=True):
        clock = time.process_time()
        solver = problem.coarse_to_fine(a, A0_PER_A1 * a, TOLERANCE)
        certified = solver.run(TOLERANCE, ITERATIONS).status is Status.CONVERGED
        seconds, iterations = seconds + time.process_time() - clock, iterations + solver.iteration
        alone.append(np.array(solver.value()))
        if len(control) < 2:
            solver.change_strength(CONTROL * a, CONTROL * A0_PER_A1 * a)
            solver.run(TOLERANCE, solver.iteration + ITERATIONS)
            control.append(np.array(solver.value()))
    cell["ways"]["alone"] = judge.figures(np.stack(alone[:2])) | {"certified": certified}
    cell["ways"]["control"] = judge.figures(np.stack(control))
    cell["alone_seconds_per_iteration"] = seconds / iterations
    for norm in COUPLINGS:
        clock = time.process_time()
        channels = [Channel(p.operator, p.data, a) for p, a in zip(problems, a1, strict=True)]
        together = CoupledPrimalDual(channels, norm, start=alone)
        solution = together.run(TOLERANCE, ITERATIONS)
        cell["ways"][norm] = judge.figures(solution.value[:2]) | {
            "certified": solution.status is Status.CONVERGED,
            "iterations": solution.iterations,
            "seconds_per_iteration": (time.process_time() - clock) / solution.iterations / len(channels),
        }
    counted = [p.name != IMAGE for p in parts]
    norm, tried = choose_coupling(problems, a1, counted, lambda: False, lambda line: None) or ("none", {})
    cell |= {"chosen": norm, "tried": tried, "seconds": time.process_time() - begun}
    before = cell["ways"]["alone"]["error"]
    for way in WAYS:
        found = cell["ways"][way]
        found["worse"] = [e / b for e, b in zip(found["error"], before, strict=True)]
    cell["auto_worse"] = cell["ways"]["alone" if norm == "none" else norm]["worse"]
    return cell


def summary(cells: list[dict]) -> dict:
    """Medians and worst of what the ways do, of all cells and of each dose."""
    out: dict = {}
    for dose in (None, *sorted({c["dose"] for c in cells})):
        some = [c for c in cells if dose in (None, c["dose"])]
        of: dict = {}
        for way in (*WAYS, "auto"):
            found = [
                c["ways"][("alone" if c["chosen"] == "none" else c["chosen"]) if way == "auto" else way] for c in some
            ]
            worse = [w for f in found for w in f["worse"]]
            together = [float(np.mean(f["worse"])) for f in found]
            alone = [c["ways"]["alone"] for c in some]
            both = list(zip(found, alone, strict=True))
            wide = [f["width"] / a["width"] for f, a in both if f["width"] and a["width"]]
            talk = [
                (t, u) for f, a in both for t, u in zip(f["cross_talk"], a["cross_talk"], strict=True) if t is not None
            ]
            bias = [f["mixed"][0] - f["mixed"][1] for f in found if f["mixed"]]
            of[way] = {
                "median": float(np.median(worse)),
                "worst": max(worse),
                "best": min(worse),
                "worst_mean": max(together),
                "over_2_percent": sum(w > 1.02 for w in worse),
                "elements": len(worse),
                "width_over_alone": float(np.median(wide)) if wide else None,
                "cross_talk": {
                    "median": float(np.median([t for t, _ in talk])) if talk else None,
                    "largest": max((t for t, _ in talk), default=None),
                    "largest_rise": max((t - u for t, u in talk), default=None),
                },
                "mixed_off": float(np.mean(np.abs(bias))) if bias else None,
            }
        of["chosen"] = {n: sum(c["chosen"] == n for c in some) for n in ("none", *COUPLINGS)}
        out["all" if dose is None else f"{dose:g}"] = of
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="elements reconstructed together against each alone")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--doses", type=float, nargs="+", default=[5, 40, 300])
    parser.add_argument("--particles", nargs="+", choices=list({**PARTICLES, **KINDS}), default=["two-metal"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--image", type=int, default=0, metavar="TILTS", help="tilts of an HAADF image, 15 as the maps")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--again", type=Path, help="summarise the cells of a file anew, no more")
    args = parser.parse_args()
    if args.again:
        kept = json.loads(args.again.read_text())["cells"]
        args.again.write_text(json.dumps({"summary": summary(kept), "cells": kept}, indent=1) + "\n")
        return
    kept = json.loads(args.output.read_text())["cells"] if args.output and args.output.exists() else []
    for name in args.particles:
        for dose in args.doses:
            cell = measure(name, dose, args.size, args.seed, args.image)
            key = [cell[k] for k in ("particle", "dose", "seed", "size", "image")]
            kept = [c for c in kept if [c[k] for k in ("particle", "dose", "seed", "size", "image")] != key] + [cell]
            said = "  ".join(
                f"{w} {'/'.join(f'{r:.3f}' for r in cell['ways'][w]['worse'])}" for w in WAYS if w != "alone"
            )
            errors = "/".join(f"{e:.3f}" for e in cell["ways"]["alone"]["error"])
            print(f"{name:>12} {dose:5g} alone {errors}  {said}  auto {cell['chosen']}", flush=True)
            if args.output:
                args.output.write_text(json.dumps({"summary": summary(kept), "cells": kept}, indent=1) + "\n")
    if not args.output:
        print(json.dumps(summary(kept)["all"], indent=1))


if __name__ == "__main__":
    main()
