"""Intervals of what a place holds, by other ways than `recon.composition`'s: do they cover, and how wide are they?

    python benchmarks/region_rivals.py run [--kinds ...] [--seeds 300] [--doses 40] [--blind] --rows FILE
    python benchmarks/region_rivals.py show --rows FILE ... [--output FILE]

Beside the interval of `recon.composition`, for each element of each place that it found by itself:

- ``penalised``: the profile of the penalised objective. The place is held at one density after the other, everything
  else is fitted anew, and the interval is where the objective is less than 1.92 above its least value.
- ``deviance``: the same of the data term alone, with u >= 0 and no regulariser. There the theory of large samples does
  not hold, so the cut-off comes from simulated recordings of the fitted model: 3.84 times the mean of what the truth
  costs there, which is 1.92 where it does hold.
- ``mean``: the mean of the reconstructed volume with its parametric bootstrap: simulated recordings of that volume,
  reconstructed as it was.

Pure densities are those of `recon.composition` for all but the last. `cpu` is processor time over that of the
reconstruction. Each case adds its lines to FILE (JSON lines), so that a run may be stopped and go on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from regions import Case, asked_about, recorded, run_options

from recon.analysis.asking import Asking, _Without
from recon.analysis.box import Box, looked_at
from recon.analysis.features import features
from recon.analysis.layout import Layout, lay_out
from recon.analysis.mask import mask
from recon.analysis.places import places
from recon.analysis.regions import REPLICATES, _asking, _first
from recon.reconstruction.problem import Problem

LEVELS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.15)  # of the pure phase, at which a place is held
HALF_CHI2 = 1.92  # of the 95 % quantile of chi-squared with one degree of freedom
NEAR = (-0.2, -0.1, 0.0, 0.1, 0.2)  # of the pure phase, about the truth of a simulated recording
ITERATIONS = 150  # of each fit in which a place is held
SIMULATED = 6  # recordings behind the simulated cut-off
Part = tuple[Any, Any]  # where the weights of a place are not zero, and the weights, of sum 1
RIVALS = ("penalised", "deviance", "mean")


def held(asking: Asking, part: Part, density: float, fitted: Sequence[Any], penalised: bool) -> float:
    """The objective, or the data term alone, at the best fit in which a place holds one density."""
    at, share = part
    solver, problem = asking.solver, asking.problem
    fraction = np.zeros(solver.u.size, np.float32)
    fraction[at] = share / share.max()
    fraction = fraction.reshape(solver.u.shape)
    data, whole = solver.data, solver.operator
    of_place = problem.operator(fraction, np.empty_like(data.counts))
    solver.operator = _Without(problem.operator, fraction)
    try:
        solver.anew(replace(data, offset=data.offset + np.float32(density) * data.scale * of_place), fitted)
        solver.advance(ITERATIONS)
        if penalised:
            return solver.objective()
        return solver.data.value(solver.operator(solver.u, np.empty_like(data.counts)))
    finally:
        solver.operator, solver.data = whole, data


def curve(levels: Any, values: Sequence[float]) -> tuple[Any, Any]:
    """A profile between the levels at which it was taken."""
    from scipy.interpolate import PchipInterpolator

    fine = np.linspace(levels[0], levels[-1], 1151)
    return fine, PchipInterpolator(levels, values)(fine)


def lowest(levels: Any, values: Sequence[float]) -> float:
    return float(min(curve(levels, values)[1].min(), *values))


def interval(values: Sequence[float], cut_off: float) -> tuple[float, float]:
    """Where a convex profile, given at `LEVELS`, is less than `cut_off` above its least value."""
    fine, between = curve(LEVELS, values)
    inside = fine[between <= between.min() + cut_off]
    return float(inside[0]), float(inside[-1])


def unregularised(problem: Problem, box: Box, start: Any) -> Asking:
    """The element without a regulariser, solved from a volume on."""
    asking = Asking(problem, box, "none", 1.0, start, [])
    asking.solver.advance(3 * ITERATIONS)
    return asking


def of_element(case: Case, element: str, laid: Layout, looked: Any, pure: float) -> dict[str, Any]:
    """Rival to its intervals, one for each place, and to its processor time."""
    fields = [f.full for f in laid.fields]
    asking, volume = _asking(case.series, case.volumes, element, "cpu", looked, fields)
    weights = laid.weights_of(element)
    found = asking.ask(weights, likelihood=False)
    fitted, parts = asking.settle_again(), asking._parts(weights)
    start = time.process_time()
    ends: dict[str, Any] = {"penalised": []}
    for part in parts[:-1]:
        profile = [held(asking, part, level * pure, fitted, True) for level in LEVELS]
        ends["penalised"].append(interval(profile, HALF_CHI2))
    cpu = {"penalised": time.process_time() - start}
    start = time.process_time()
    free = unregularised(asking.problem, asking.box, found.model)
    counts, stands = free.solver.data, free.solver.snapshot()
    profiles = [[held(free, p, level * pure, stands, False) for level in LEVELS] for p in parts[:-1]]
    costs = np.array([cost_of_truth(free, found.model, parts[:-1], pure, stands, r) for r in range(SIMULATED)])
    free.solver.data = counts
    cut_offs = 2 * HALF_CHI2 * costs.mean(axis=0)
    ends["deviance"] = [interval(p, float(c)) for p, c in zip(profiles, cut_offs, strict=True)]
    cpu["deviance"] = time.process_time() - start
    start = time.process_time()
    ends["mean"] = bootstrapped(asking, volume, weights)
    cpu["mean"] = time.process_time() - start
    return {"ends": ends, "cpu": cpu}


def cost_of_truth(free: Asking, model: Any, parts: Sequence[Part], pure: float, stands: Any, r: int) -> list[float]:
    """How far a simulated recording's profile of each place is, at what it was made with, above its least value."""
    solver = free.solver
    solver.anew(free._recording(model, 1, r), stands)
    solver.advance(ITERATIONS)
    own, out = solver.snapshot(), []
    for at, share in parts:
        true = float((model.reshape(-1)[at] * share).sum())
        around = np.unique(np.maximum(true + pure * np.array(NEAR), 0.0))
        values = [held(free, (at, share), float(m), own, False) for m in around]
        out.append(float(values[np.flatnonzero(around == max(true, 0.0))[0]] - lowest(around, values)))
    return out


def bootstrapped(asking: Asking, volume: Any, weights: Sequence[Any]) -> list[tuple[float, float]]:
    """Mean over each place over that of the pure phase, with 1.96 standard deviations of simulated recordings."""

    def fractions(values: Any) -> Any:
        means = np.array([float(np.average(values, weights=asking.box.of(w))) for w in weights])
        return means[:-1] / max(means[-1], 1e-30)

    shown = fractions(volume)
    again = [fractions(v.astype(np.float64)) for v in asking.reconstructed(volume, volume, REPLICATES, 0)]
    reach = 1.96 * np.std(again, axis=0, ddof=1)
    return [(max(0.0, float(m - s)), float(m + s)) for m, s in zip(shown, reach, strict=True)]


def rows_of(case: Case) -> list[dict[str, Any]]:
    """The lines of `regions.py` for the elements of each place, with the rivals' ends beside them."""
    rows = [r for r in asked_about(case, likelihood=False) if r["region"] is not None]
    if not rows:
        return [case.about | {"region": None}]
    inside, found = mask(case.volumes), features(case.volumes)
    asked = _first(features(case.volumes, inside))
    laid = lay_out(case.volumes, inside, asked, found)
    looked = looked_at(inside, [f.full for f in laid.fields])
    assert [p.name for p in asked] == [p.name for p in places(list(found.values()), inside.shape)][: len(asked)]
    for element in case.volumes:
        own = [r for r in rows if r["element"] == element]
        result = of_element(case, element, laid, looked, own[0]["pure"] / unit(case, element))
        for row in own:
            k = [p.name for p in asked].index(row["region"])
            row["rivals"] = {name: result["ends"][name][k] for name in RIVALS}
            row["rival_cpu"] = {n: t / (case.cpu[1] / len(case.volumes)) for n, t in result["cpu"].items()}
    return rows


def unit(case: Case, element: str) -> float:
    from recon.series.units import unit_of

    return unit_of(case.series, element)


def run(options: argparse.Namespace) -> None:
    options.rows.touch()
    lines = [json.loads(line) for line in options.rows.read_text("utf-8").splitlines()]
    done = {(r["kind"], r["seed"], r["dose"], r["blind"]) for r in lines}
    for seed, dose, kind in itertools.product(options.seeds, options.doses, options.kinds):
        if (kind, seed, dose, options.blind) in done:
            continue
        rows = rows_of(recorded(kind, seed, dose, options.size, options.blind))
        with options.rows.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(r) + "\n" for r in rows)
        print(kind, seed, dose, len(rows), flush=True)


def summary(rows: Sequence[dict[str, Any]], ends: Callable[[dict[str, Any]], Sequence[float]]) -> dict[str, float]:
    """Share of the intervals that hold the truth, and half their width in the median."""
    pairs = [(ends(r), r["truth"]) for r in rows]
    return {
        "covered_95": float(np.mean([low <= truth <= high for (low, high), truth in pairs])),
        "half_width_95": float(np.median([(high - low) / 2 for (low, high), _ in pairs])),
    }


def show(options: argparse.Namespace) -> None:
    lines = [json.loads(line) for path in options.rows for line in path.read_text("utf-8").splitlines()]
    rows = [r for r in lines if r["region"] is not None]
    out: dict[str, Any] = {"answers": len(rows), "particles": len({(r["kind"], r["seed"], r["dose"]) for r in rows})}
    out["composition"] = summary(rows, lambda r: (r["low95"], r["high95"]))
    for name in RIVALS:
        out[name] = summary(rows, lambda r, name=name: r["rivals"][name])
        out[name]["cpu"] = float(np.median([r["rival_cpu"][name] for r in rows]))
    print(json.dumps(out, indent=1))
    if options.output:
        options.output.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run_options(commands.add_parser("run"), [300])
    shows = commands.add_parser("show")
    shows.add_argument("--rows", nargs="+", type=Path, required=True)
    shows.add_argument("--output", type=Path)
    options = parser.parse_args()
    {"run": run, "show": show}[options.command](options)


if __name__ == "__main__":
    main()
