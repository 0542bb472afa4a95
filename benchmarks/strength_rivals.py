"""Ways to choose the strength, compared on simulated particles: which one leaves the least error?

    python benchmarks/strength_rivals.py [--doses 5 40 300] [--from FILE] [--output FILE] [--figure FILE]

Errors are those of benchmarks/strength.py (its results, `--from`), read off between its multiples of the noise rule.

- rule: the noise in the gradient of the data term, multiple 1.
- discrepancy: the strongest that fits the data as well as the noise allows (V. A. Morozov, 1966), the expected deviance
  computed from the true volume: the noise level could not be known better.
- L-curve: the corner of log deviance over log penalty (P. C. Hansen, SIAM Rev. 34, 561 (1992)).
- thinned, deviance: half of the counts held out, split off by thinning; the least deviance of these.
- thinned, + ramp; + means: the same with the two parts of `held_out_error` one by one: the ramp filter
  on plain residuals, and the deviance of projections corrected for voxels that are means.
- thinned, error: both, as `recon.reconstruction.strength` has it, here with halves and a fixed ladder of strengths.
- tilts, deviance: every fifth tilt held out, as leave-one-tilt-out has them one by one at 15 times the cost.
- tilts, error: the same judged by `held_out_error`.
- chosen: what `choose` found in the results.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from odd_from_even import of_the_object
from scipy import stats
from scipy.interpolate import CubicSpline, PchipInterpolator
from strength import curve, simulated

from recon.model.noise import automatic_strength
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import (
    StrengthPath,
    _least,
    bright_counts,
    held_out_error,
    noise_and_model,
    thinned,
)
from recon.solvers.data_terms import DataTerm

LADDER = (4.0, 2.0, 1.0, 0.5, 0.25)
HELD_OUT = 5  # every so many tilts
RESULTS = Path(__file__).parent / "results"


def deviance(held: DataTerm, projection: np.ndarray) -> np.ndarray:
    """Of held-out pixels; a hundredth of the mean count keeps it finite where nothing is predicted."""
    used = held.scale > 0
    floor = np.float32(0.01 * held.counts[used].mean())
    bounded = replace(held, offset=np.where(used, np.maximum(held.offset, floor), np.float32(0)))
    return 2 * bounded.terms(np.maximum(projection, 0))


def ramp(held: DataTerm, projection: np.ndarray) -> np.ndarray:
    """`held_out_error` without the correction for means."""
    used = held.scale > 0
    root = np.sqrt(np.where(used, held.scale, 1))
    residual = np.where(used, held.counts - held.scale * projection - held.offset, 0) / root
    n = 2 * residual.shape[1]
    return np.fft.rfftfreq(n)[None, :, None] * np.abs(np.fft.rfft(residual, n, axis=1)) ** 2 / n


JUDGES = {
    "deviance": deviance,
    "+ ramp": ramp,
    "+ means": lambda held, projection: deviance(held, of_the_object(projection)),
    "error": held_out_error,
}


def judged(kept: Problem, held: DataTerm, unit: float, judges: list[str]) -> dict[str, float]:
    """The multiple of `unit` that each judge prefers."""
    path = StrengthPath(kept, unit)
    terms: dict[str, list[np.ndarray]] = {name: [] for name in judges}
    for factor in LADDER:
        projection = path.projection(factor)
        for name in judges:
            terms[name].append(JUDGES[name](held, projection).ravel())
    return {name: _least(np.array(LADDER[::-1]), np.stack(t[::-1]))[0] for name, t in terms.items()}


def expected_deviance(mean: np.ndarray) -> float:
    """Of Poisson counts from their own means."""
    m = np.maximum(mean.astype(np.float64).ravel(), 1e-9)[:, None]
    if m.max() > 100:  # nearly Gaussian: 1 + 1 / (6 m) a pixel
        large = m[:, 0] > 100
        return float(np.sum(1 + 1 / (6 * m[large]))) + (expected_deviance(m[~large, 0]) if (~large).any() else 0.0)
    c = np.arange(220)[None, :]
    log = np.where(c > 0, c * np.log(np.maximum(c, 1) / m), 0)
    return float(np.sum(stats.poisson.pmf(c, m) * 2 * (m - c + log)))


def discrepancy(multiples: np.ndarray, deviances: np.ndarray, level: float) -> float:
    """The strongest multiple whose deviance is at most `level`; the weakest if none is."""
    x = np.linspace(np.log(multiples[0]), np.log(multiples[-1]), 1001)
    below = x[PchipInterpolator(np.log(multiples), deviances)(x) <= level]
    return float(np.exp(below.max() if below.size else x[0]))


def l_curve(multiples: np.ndarray, deviances: np.ndarray, penalties: np.ndarray) -> float:
    """The multiple at the largest curvature of (log deviance, log penalty)."""
    x = np.log(multiples)
    curves = [CubicSpline(x, np.log(v)) for v in (deviances, penalties)]
    t = np.linspace(x[1], x[-2], 1001)
    (a1, b1), (a2, b2) = ([f(t, n) for f in curves] for n in (1, 2))
    return float(np.exp(t[np.argmax((a1 * b2 - b1 * a2) / (a1**2 + b1**2) ** 1.5)]))


def choices(cell: dict, multiples: np.ndarray, size: int, seed: int) -> dict[str, float]:
    """The multiple of the rule that each way chooses for a cell."""
    series, truth = simulated(cell["particle"], cell["dose"], size, seed)
    element = cell["element"]
    problem, unit = Problem.of(series, element), automatic_strength(series, element)
    data, volume = problem.data, np.ascontiguousarray(truth.volumes[element].swapaxes(1, 2))
    projection = problem.operator(volume, np.empty(problem.operator.range_shape, np.float32))
    mean = (data.scale * of_the_object(projection) + data.offset)[data.scale > 0]
    fits = cell if "deviance" in cell else curve(problem, volume, unit)
    deviances, penalties = np.array(fits["deviance"]), np.array(fits["penalty"])
    found = {
        "rule": 1.0,
        "discrepancy": discrepancy(multiples, deviances, expected_deviance(mean)),
        "L-curve": l_curve(multiples, deviances, penalties),
    }
    kept, held = thinned(series, element, 0.5, seed)
    bright = bright_counts(series, element)
    part = noise_and_model(unit, bright, 0.5)
    for name, factor in judged(problem.on(kept), problem.on(held).data, part, list(JUDGES)).items():
        found[f"thinned, {name}"] = factor * noise_and_model(unit, bright, 1.0) / unit
    out = (np.arange(series.n_tilts) % HELD_OUT == HELD_OUT // 2).astype(np.float32)[:, None, None]
    kept, held = (series.evolve(weights=np.broadcast_to(w, series.counts.shape[1:])) for w in (1 - out, out))
    part = unit * (1 - 1 / HELD_OUT) ** 0.5
    for name, factor in judged(problem.on(kept), problem.on(held).data, part, ["deviance", "error"]).items():
        found[f"tilts, {name}"] = factor
    return found | {"chosen": cell["chosen"]}


def over_the_least(multiples: np.ndarray, errors: list[float], at: float) -> float:
    """Error at a multiple over the least, between the measured ones in the logarithm."""
    curve = PchipInterpolator(np.log(multiples), np.log(errors))
    x = np.linspace(np.log(multiples[0]), np.log(multiples[-1]), 1001)
    return float(np.exp(curve(np.clip(np.log(at), x[0], x[-1])) - curve(x).min()))


def draw(rows: list[dict], path: Path) -> None:
    """Error over the least in each cell, a column for each way."""
    from matplotlib.figure import Figure

    ways = list(rows[0]["ratio"])
    axis = Figure(figsize=(9, 4.5), layout="constrained").subplots()
    doses = sorted({row["dose"] for row in rows})
    for k, dose in enumerate(doses):
        for i, way in enumerate(ways):
            ratios = [row["ratio"][way] for row in rows if row["dose"] == dose]
            x = i + (k - (len(doses) - 1) / 2) * 0.2
            axis.plot([x] * len(ratios), ratios, ".", color=f"C{k}", label=f"{dose:g} counts" if i == 0 else None)
    for i, way in enumerate(ways):
        axis.plot([i - 0.35, i + 0.35], [np.median([row["ratio"][way] for row in rows])] * 2, color="0.2")
    axis.axhline(1.1, color="0.6", linewidth=0.8, linestyle=":")
    axis.set_xticks(range(len(ways)), ways, rotation=30, ha="right")
    axis.set_ylabel("error over that of the best strength")
    axis.set_ylim(0.98, 2.5)
    axis.legend()
    axis.figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="ways to choose the strength, compared")
    parser.add_argument("--doses", type=float, nargs="+", default=[5, 40, 300])
    parser.add_argument("--from", dest="source", type=Path, default=RESULTS / "strength-32.json")
    parser.add_argument("--output", type=Path, default=RESULTS / "strength-rivals.json")
    parser.add_argument("--figure", type=Path, default=RESULTS / "strength-rivals.png")
    args = parser.parse_args()
    source = json.loads(args.source.read_text())
    multiples, rows = np.array(source["constants"]), []
    for cell in source["cells"]:
        if cell["dose"] not in args.doses:
            continue
        errors = cell["errors"][: len(multiples)]
        found = choices(cell, multiples, source["size"], source["seed"])
        ratio = {way: over_the_least(multiples, errors, m) for way, m in found.items()}
        rows.append({k: cell[k] for k in ("particle", "element", "dose")} | {"multiple": found, "ratio": ratio})
        text = ", ".join(f"{way} {found[way]:.2f} ({r:.2f})" for way, r in ratio.items())
        print(f"{cell['particle']} {cell['element']} {cell['dose']:g}: {text}", flush=True)
    summary = {}
    for way in rows[0]["ratio"]:
        ratios = [row["ratio"][way] for row in rows]
        summary[way] = {"median": float(np.median(ratios)), "worst": max(ratios)}
        print(f"{way:>20}: median {summary[way]['median']:.3f}, worst {summary[way]['worst']:.3f}")
    result = {"size": source["size"], "seed": source["seed"], "doses": args.doses, "summary": summary, "cells": rows}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    draw(rows, args.figure)


if __name__ == "__main__":
    main()
