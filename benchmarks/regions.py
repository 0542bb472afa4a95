"""What `recon.composition` answers on simulated particles, against the truth: coverage, widths, verdicts, cost.

    python benchmarks/regions.py run [--kinds ...] [--seeds 0 1] [--doses 5 40 300] [--size 32] [--blind] [--likelihood]
                                       [--across 6 8] [--no-larger] --rows FILE
    python benchmarks/regions.py show --rows FILE ... [--output FILE]
    python benchmarks/regions.py cost [--size 32] [--output FILE]

Particles of five kinds (`recon.simulate.particles`), none of them the demo's. A run simulates, aligns if it is blind,
reconstructs with all defaults, finds the places by itself and asks about them; the truth of a place is the true mean
over the voxels that were asked about, over the true pure density, moved onto a blind reconstruction by rigid
registration. Each case adds its lines to FILE (JSON lines), so that a run may be stopped and go on. `show` prints and
writes figures: coverage of the intervals by dose, kind and element, median half-widths, verdicts that are wrong or
open, places found, and cost in processor time over that of the reconstruction. Places are 6 to 8 voxels wide, or
`--across`; wide ones are asked about on larger voxels, but with `--no-larger`. `cost` asks about four places of one
particle, likelihood ratios included: without intervals, and with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recon.alignment.align import align
from recon.analysis import coarser
from recon.analysis.answers import STEADY, ElementAnswer
from recon.analysis.box import looked_at
from recon.analysis.features import features
from recon.analysis.intervals import Errors
from recon.analysis.layout import lay_out
from recon.analysis.mask import mask
from recon.analysis.places import Ellipsoid, places
from recon.analysis.regions import REPLICATES, _asking, composition
from recon.job.demo import register
from recon.preparation.normalise import normalise
from recon.reconstruction.reconstruct import reconstruct
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.simulate import KINDS, Particle, Truth, random_particle, simulate

ACROSS = (6.0, 8.0)  # voxels, of a place
FOUND = 0.4  # Dice's coefficient of a place that was found with one that was painted
ENOUGH = 40  # counts in the brightest pixel: from here on places have to be found and verdicts are asked for
SAME = 0.02  # of the pure phase: truths of a place that differ by less are the same question


def known(series: TiltSeries, truth: Truth) -> TiltSeries:
    """The series with the alignment, exposures and background it was simulated with."""
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)


@dataclass(frozen=True)
class Case:
    """A particle, recorded and reconstructed.

    Attributes:
        about: kind, seed, dose, size, blind.
        particle, truth, series, volumes: what they say.
        cpu: processor time of alignment and of reconstruction, seconds.
    """

    about: dict[str, Any]
    particle: Particle
    truth: Truth
    series: TiltSeries
    volumes: dict[str, Volume]
    cpu: tuple[float, float]


def recorded(kind: str, seed: int, dose: float, size: int, blind: bool, across: tuple[float, float] = ACROSS) -> Case:
    """Simulate, align if it is blind, reconstruct."""
    particle = random_particle(kind, size, seed, across)
    series, truth = simulate(particle, size=size, dose=dose, seed=seed, drift=1.5 if size < 64 else 3.0)
    clock = [time.process_time()]
    series = align(normalise(series)) if blind else known(series, truth)
    clock.append(time.process_time())
    volumes = reconstruct(series, device="cpu")
    clock.append(time.process_time())
    about = {"kind": kind, "seed": seed, "dose": dose, "size": size, "blind": blind, "across": list(across)}
    return Case(about, particle, truth, series, volumes, (clock[1] - clock[0], clock[2] - clock[1]))


def asked_about(case: Case, likelihood: bool) -> list[dict[str, Any]]:
    """One row for each element of each place, and one for the particle."""
    size, blind, particle, volumes = case.about["size"], case.about["blind"], case.particle, case.volumes
    start = time.process_time()
    answers = composition(case.series, volumes, device="cpu", likelihood=likelihood)
    spent = time.process_time() - start
    painted = {n: particle.inside(n, size).astype(np.float32) for n in particle.regions}
    motion: dict[str, Any] = {}
    unit = 1.0
    if blind:  # the truth lies where the reconstruction lies, projected voxels of it anew rather than interpolated
        unit = float(case.truth.exposures.mean())
        true = {n: v * np.float32(unit) for n, v in case.truth.volumes.items()}
        found = register({n: v.values for n, v in volumes.items()}, true)
        motion = {"translation": found.translation, "turn_deg": found.turn_deg}
        painted = {n: found.follow(f) for n, f in painted.items()}
    true = dict(zip(particle.elements, particle.volume(size, **motion), strict=True))
    pure = {n: float(v.max()) for n, v in true.items()}
    density = {n: float(v.max()) * unit for n, v in case.truth.volumes.items()}
    asked = {p.name: p for p in places(list(features(volumes).values()), (size,) * 3)} if len(answers) else {}
    hit: dict[str, str] = {}
    rows = []
    for name, region in answers.regions.items():
        place = asked[name]
        dice = {n: float(2 * (place.fraction * f).sum() / (place.fraction.sum() + f.sum())) for n, f in painted.items()}
        best = max(dice, key=lambda n: dice[n]) if dice else ""
        if best and dice[best] > FOUND:
            hit[best] = name
        for element, answer in region.elements.items():
            expected = float(np.average(true[element], weights=place.weight)) / pure[element]
            rows.append(
                case.about
                | {"region": name, "painted": best if best in hit else "", "truth": expected, "voxels": region.voxels}
                | {"element_verdict": answer.verdict, "verdict": region.verdict, **asdict(answer)}
                | {"pure_error": answer.pure / density[element] - 1, "found_again": region.found_again}
                | {"inside": float(place.weight.sum())}
            )
    rows.append(
        case.about
        | {"region": None, "painted": len(painted), "found": len(hit), "asked": len(answers)}
        | {"cpu_align": case.cpu[0], "cpu_reconstruct": case.cpu[1], "cpu_composition": spent}
        | {"iterations": sum(answers.iterations.values()), "likelihood": likelihood, "factor": answers.factor}
    )
    return rows


def run(options: argparse.Namespace) -> None:
    options.rows.touch()
    if options.no_larger:
        coarser.DEEP = np.inf
    lines = [json.loads(line) for line in options.rows.read_text("utf-8").splitlines()]
    done = {(r["kind"], r["seed"], r["dose"], r["size"], r["blind"]) for r in lines if r["region"] is None}
    for seed, dose, kind in itertools.product(options.seeds, options.doses, options.kinds):
        if (kind, seed, dose, options.size, options.blind) in done:
            continue
        case = recorded(kind, seed, dose, options.size, options.blind, tuple(options.across))
        rows = asked_about(case, options.likelihood)
        with options.rows.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(r) + "\n" for r in rows)
        print(
            kind,
            seed,
            dose,
            {k: rows[-1][k] for k in ("painted", "found", "cpu_reconstruct", "cpu_composition")},
            flush=True,
        )


def anew(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the value, the intervals and the verdict that the present constants give it."""
    names = ElementAnswer.__dataclass_fields__
    answer = ElementAnswer(**{k: v for k, v in row.items() if k in names})
    pull = max(abs(answer.half_strength - answer.fraction), abs(answer.twice_strength - answer.fraction))
    errors = Errors(REPLICATES, answer.repeatability, answer.bias, pull, row["blind"])
    ends: dict[str, Any] = {}
    for level in (68, 95):
        half = errors.reach(level / 100)
        ends |= {f"low{level}": max(0.0, answer.fraction - half), f"high{level}": answer.fraction + half}
    unsteady = row["found_again"] is not None and row["found_again"] < STEADY
    return row | ends | {"element_verdict": "open" if unsteady else replace(answer, **ends).verdict}


def covered(rows: list[dict[str, Any]], level: int) -> float:
    """Share of the rows whose interval holds the truth."""
    return float(np.mean([r[f"low{level}"] <= r["truth"] <= r[f"high{level}"] for r in rows]))


def wrong(r: dict[str, Any]) -> bool:
    """A verdict on an element that the truth contradicts."""
    return (r["element_verdict"] == "absent" and r["truth"] > 0.25) or (
        r["element_verdict"] == "present" and r["truth"] < 0.25
    )


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some rows: how often intervals cover, how wide they are, and how verdicts turned out."""
    clear = [r for r in rows if r["truth"] < 0.1 or r["truth"] >= 0.45]
    return {
        "answers": len(rows),
        "covered_68": covered(rows, 68),
        "covered_95": covered(rows, 95),
        "rms_error": float(np.sqrt(np.mean([(r["fraction"] - r["truth"]) ** 2 for r in rows]))),
        "rms_error_of_the_volume": float(np.sqrt(np.mean([(r["shown"] - r["truth"]) ** 2 for r in rows]))),
        # the plain mean of the volume, were its interval as wide
        "covered_95_by_the_volume": float(
            np.mean([abs(r["shown"] - r["truth"]) <= (r["high95"] - r["fraction"]) for r in rows])
        ),
        "half_width_95": float(np.median([r["high95"] - r["fraction"] for r in rows])),
        "verdicts_wrong": float(np.mean([wrong(r) for r in rows])),
        "verdicts_open": float(np.mean([r["element_verdict"] == "open" for r in clear])) if clear else None,
    }


def found(particles: list[dict[str, Any]]) -> float:
    """Share of the places of particles that were found."""
    return sum(p["found"] for p in particles) / max(sum(p["painted"] for p in particles), 1)


def show(options: argparse.Namespace) -> None:
    lines = [json.loads(line) for path in options.rows for line in path.read_text("utf-8").splitlines()]
    rows, particles = [anew(r) for r in lines if r["region"] is not None], [r for r in lines if r["region"] is None]
    out: dict[str, Any] = {"particles": len(particles), "all": figures(rows)}
    for key in ("blind", "dose", "kind", "element"):
        for value in sorted({r[key] for r in rows}, key=str):
            out[f"{key} {value}"] = figures([r for r in rows if r[key] == value])
    many = [r for r in rows if r["dose"] >= ENOUGH]
    out["many_counts"] = figures(many)
    asked = [p for p in particles if p["painted"]]
    out["places_found"] = found(asked)
    out["places_found_at_many_counts"] = found([p for p in asked if p["dose"] >= ENOUGH])
    plain = [p for p in particles if not p["painted"]]
    out["plain_particles"], out["places_found_in_plain"] = len(plain), sum(p["asked"] for p in plain)
    cost = [p["cpu_composition"] / p["cpu_reconstruct"] for p in particles if p["asked"]]
    out["cost_over_reconstruction"] = {"median": float(np.median(cost)), "worst": float(np.max(cost))}
    for name, value in out.items():
        print(name, json.dumps(value))
    if options.output:
        options.output.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def cost(options: argparse.Namespace) -> None:
    """Processor time of four places of two elements over that of their reconstruction."""
    size = options.size
    case = recorded("inclusions", 0, 40.0, size, blind=False)
    shape, inside, found = (size,) * 3, mask(case.volumes), features(case.volumes)
    regions: list[tuple[str, Any]] = [(n, f) for n, f in list(found.items())[:4]]
    taken, rng = sum(f.fraction for f in found.values()), np.random.default_rng(0)
    while len(regions) < 4:
        ball = Ellipsoid.sphere(tuple(rng.uniform(0.3, 0.7, 3) * size), 2.0)
        field = ball.fraction(shape)
        if not (field * taken).any() and inside[field > 0].all():
            regions.append((f"ball {len(regions)}", ball))
            taken = taken + field
    clock = [time.process_time()]
    answers = composition(case.series, case.volumes, regions, device="cpu")
    clock.append(time.process_time())
    asked = places(regions, shape)
    laid = lay_out(case.volumes, inside, asked, found)
    for element in case.volumes:
        fields = [f.full for f in laid.fields]
        asking, _ = _asking(case.series, case.volumes, element, "cpu", looked_at(inside, fields), fields)
        asking.ask(laid.weights_of(element))
    clock.append(time.process_time())
    all_of_it, alone = (float(t) / case.cpu[1] for t in np.diff(clock))
    out = {"size": size, "places": 4, "cpu_reconstruct": case.cpu[1], "asking": alone, "with_intervals": all_of_it}
    out["iterations"] = sum(answers.iterations.values())
    print(json.dumps(out))
    if options.output:
        options.output.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def run_options(runs: argparse.ArgumentParser, seeds: list[int]) -> None:
    """Which cases are run, and where their lines go."""
    runs.add_argument("--kinds", nargs="+", default=list(KINDS))
    runs.add_argument("--seeds", nargs="+", type=int, default=seeds)
    runs.add_argument("--doses", nargs="+", type=float, default=[40.0])
    runs.add_argument("--size", type=int, default=32)
    runs.add_argument("--across", nargs=2, type=float, default=ACROSS, metavar="VOXELS")
    runs.add_argument("--no-larger", action="store_true")
    runs.add_argument("--blind", action="store_true")
    runs.add_argument("--rows", type=Path, required=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    run_options(runs, [0])
    runs.add_argument("--likelihood", action="store_true")
    costs = commands.add_parser("cost")
    costs.add_argument("--size", type=int, default=32)
    costs.add_argument("--output", type=Path)
    shows = commands.add_parser("show")
    shows.add_argument("--rows", nargs="+", type=Path, required=True)
    shows.add_argument("--output", type=Path)
    options = parser.parse_args()
    {"run": run, "show": show, "cost": cost}[options.command](options)


if __name__ == "__main__":
    main()
