"""Background, totals and "is the object wholly in view?", found by `recon.normalise` in simulated series.

    python benchmarks/background.py [--series 200] [--seed 0] [--peak 40] [--shares 0 0.3] [--kind flat] [--output FILE]

Two elements, 64 x 64 pixels, 15 tilts, drift of +-3 pixels, up to 45 % shadowing (of the background too), shapes drawn
anew for each series: ellipsoids and boxes, whose line integrals are exact, so that no projector of this project is
used. Six are wholly in view (sphere, rod, cluster, shell, plate, box), five are not (a sphere at the edge, slabs that
leave on one side or on two, a chain of dots on a film, a section that fills the frame). Series whose object leaves the
frame by next to nothing are drawn again: nobody could say what is right. The film is part of the background, which
grows with the tilt there.

`--kind`: the background is "flat", "uneven" (a slope of up to 30 % from the middle to the border) or "tilting" (it
changes by a factor of two over the tilts). Printed for each shape: how often `isolated` is right; relative error of the
totals, worst element of a series, where the object leaves part of the frame empty: median, 95th percentile; relative
error of the background. `--held-out` draws shapes that the method was not tuned on (a torus of balls, a needle, a
flake across a corner, a raft of small balls), for one look at the end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from recon.preparation.normalise import normalise
from recon.series.tilt_series import TiltSeries
from recon.simulate import Ellipsoid, Particle

TILTS = np.arange(-70.0, 71, 10)
N = 64
IN_VIEW = ("sphere", "rod", "cluster", "shell", "plate", "box")
LEAVING = ("edge", "slab-side", "slab-across", "chain", "section", "grain")
HELD_OUT = ("torus", "needle", "flake", "raft")
CLEAR, GONE = 0.002, 0.02  # share of the counts outside the frame up to which it is in view, from which it is not


def shape(kind: str, random: np.random.Generator) -> tuple[list[Ellipsoid], list[np.ndarray]]:
    """Ellipsoids, and boxes as ``(centre, half, angle about y, densities)`` rows; two elements; edges of the frame."""
    draw = random.uniform
    turn = tuple(draw(-90, 90, 3))
    centre = draw(-0.06, 0.06, 3)

    def ball(c, r, density, rotated=(0.0, 0.0, 0.0)):
        return Ellipsoid(tuple(map(float, c)), tuple(np.broadcast_to(r, 3).tolist()), density, tuple(rotated))

    one, other = (1.0, draw(0.2, 0.5)), (draw(0, 0.3), draw(0.5, 1.0))
    if kind == "sphere":
        r = draw(0.1, 0.28)
        return [ball(centre, r, one), ball(centre + draw(-0.4, 0.4, 3) * r, 0.5 * r, other)], []
    if kind == "rod":
        long = draw(0.2, 0.3)
        return [ball(centre, (long, draw(0.05, 0.1), draw(0.05, 0.1)), one, turn), ball(centre, 0.06, other)], []
    if kind == "cluster":
        places = centre + random.normal(0, 0.09, (7, 3)).clip(-0.2, 0.2)
        return [ball(p, draw(0.04, 0.1), one if k % 2 else other) for k, p in enumerate(places)], []
    if kind == "shell":
        r = draw(0.15, 0.28)
        return [ball(centre, r, one), ball(centre, r * draw(0.6, 0.85), other)], []
    if kind == "plate":
        return [
            ball(centre, (draw(0.03, 0.06), draw(0.2, 0.3), draw(0.15, 0.28)), one, turn),
            ball(centre, 0.05, other),
        ], []
    if kind == "box":
        half = draw(0.05, 0.22, 3)
        return [], [np.array([*centre, *half, draw(-45, 45), *one]), np.array([*centre, *(half / 2), 0.0, *other])]
    if kind == "edge":
        r = draw(0.15, 0.25)
        at = [draw(-0.05, 0.05), random.choice([-1, 1]) * draw(0.5 - 0.6 * r, 0.5), draw(-0.1, 0.1)]
        return [ball(at, r, one), ball(at, 0.6 * r, other)], []
    if kind in ("slab-side", "slab-across"):
        along, length = (draw(0.3, 1.0), 1.0) if kind == "slab-side" else (0.0, 1.5)
        half = np.array([draw(0.04, 0.12), length, draw(0.08, 0.2)])
        return [], [
            np.array(
                [0, along + (0.1 if along else 0) + (length - 0.9 if along else 0), 0, *half, draw(-20, 20), *one]
            ),
            np.array([0, 0.35 if along else 0.0, 0, *(half * [0.5, 0.2, 0.5]), 0.0, *other]),
        ]
    if kind == "chain":
        dots = [(0.0, draw(-0.35, 0.35), x) for x in np.arange(-0.9, 0.91, draw(0.12, 0.2))]
        return [ball(d, draw(0.03, 0.06), one if k % 2 else other) for k, d in enumerate(dots)], []
    if kind == "section":
        grains = zip(draw(-0.04, 0.04, 120), draw(-0.6, 0.6, 120), draw(-1.6, 1.6, 120), strict=True)
        film = np.array([0, 0, 0, 0.05, 3.0, 6.0, 0.0, 0.3, 0.2])
        return [], [
            film,
            *(np.array([*g, *draw(0.03, 0.1, 3), draw(-45, 45), *random.permutation(one)]) for g in grains),
        ]
    if kind == "grain":
        grain = np.array([*centre, *draw(0.08, 0.15, 3), draw(-45, 45), *(2 * np.array(one))])
        return [], [np.array([0, 0, 0, draw(0.03, 0.08), 3.0, 6.0, 0.0, 0.6, 0.5]), grain]
    if kind == "torus":
        angles, r = np.arange(0, 2 * np.pi, 0.35), draw(0.15, 0.26)
        places = centre + r * np.stack([0.3 * np.cos(angles), np.sin(angles), np.cos(angles)], axis=1)
        return [ball(p, 0.05, one if k % 3 else other) for k, p in enumerate(places)], []
    if kind == "needle":
        return [ball(centre, (0.03, 0.35, 0.03), one, (draw(-20, 20), draw(-90, 90), 0)), ball(centre, 0.04, other)], []
    if kind == "flake":
        return [], [
            np.array([0, 0.5, 0.4, 0.02, 0.35, 0.4, draw(-30, 30), *one]),
            np.array([0, 0.3, 0.2, *[0.08] * 3, 0, *other]),
        ]
    return [
        ball((draw(-0.02, 0.02), draw(-0.9, 0.9), draw(-1.5, 1.5)), 0.035, one if k % 2 else other) for k in range(60)
    ], []


def chords(box: np.ndarray, tilt: float, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Length of each ray inside a box turned about y."""
    t, a = np.radians(tilt), np.radians(box[6])
    ray = np.array([np.cos(t), 0.0, -np.sin(t)])
    start = np.stack([u * np.sin(t), v, u * np.cos(t)]) - box[:3, None, None]
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    ray, start = turn @ ray, np.tensordot(turn, start, 1)
    enter, leave = np.full(v.shape, -np.inf), np.full(v.shape, np.inf)
    for k in range(3):
        if abs(ray[k]) < 1e-9:
            leave = np.where(np.abs(start[k]) < box[3 + k], leave, -np.inf)
            continue
        near, far = (-box[3 + k] - start[k]) / ray[k], (box[3 + k] - start[k]) / ray[k]
        enter, leave = np.maximum(enter, np.minimum(near, far)), np.minimum(leave, np.maximum(near, far))
    length = leave - enter
    return np.where(np.isfinite(length), np.maximum(length, 0), 0.0)


def expected(particle: Particle, boxes: list, i: int, axis: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Line integrals ``(element, y, x)`` at tilt number i."""
    v, u = np.meshgrid(axis - drift[0], axis - drift[1], indexing="ij")
    maps = particle.projection(TILTS[i], v, u) if particle.shapes else np.zeros((2, N, N))
    return maps + sum(box[7:, None, None] * chords(box, TILTS[i], v, u) for box in boxes)


def simulate(kind: str, peak: float, share: float, uneven: str, seed: int) -> dict[str, object]:
    """A series, and what is true of it."""
    for attempt in range(100):
        random = np.random.default_rng([seed, attempt])
        balls, boxes = shape(kind, random)
        drift = random.uniform(-3, 3, (TILTS.size, 2)) / N
        shadow = 1 - 0.45 * random.uniform() * np.clip(0.5 + TILTS / 140, 0, 1)
        signal, lost = np.zeros((2, TILTS.size, N, N)), np.zeros(TILTS.size)
        near, far = ((np.arange(N) - (N - 1) / 2) * step / N for step in (1, 4))  # the frame, and four times as wide
        middle = np.abs(far) < 0.5

        particle = Particle(("A", "B"), tuple(balls), {})
        for i in range(TILTS.size):
            around = expected(particle, boxes, i, far, drift[i]).sum(axis=0) * 16
            around[np.ix_(middle, middle)] = 0
            signal[:, i] = expected(particle, boxes, i, near, drift[i])
            lost[i] = around.sum() / (around.sum() + signal[:, i].sum())
        away = (lost > GONE).mean()
        sure = ((lost < CLEAR) | (lost > GONE)).mean() > 0.9 and not 0.1 < away < 0.4
        wanted = kind in IN_VIEW or kind in ("torus", "needle")
        if sure and (away <= 0.1) == wanted:
            break
    else:
        raise SystemExit(f"no {kind} that is clearly in view or not")
    signal *= peak / signal.sum(axis=0).max()
    level = share * peak * np.array([0.6, 0.4])[:, None] * np.ones(TILTS.size)
    if kind in ("chain", "raft"):
        level = level / np.cos(np.radians(TILTS)) * 0.3
    if uneven == "tilting":
        level = level * np.exp2((TILTS - TILTS[0]) / np.ptp(TILTS) - 0.5)
    ground = np.broadcast_to(level[:, :, None, None], signal.shape).copy()
    if uneven == "uneven":
        slope = random.uniform(-0.3, 0.3, 2)
        y, x = np.meshgrid(*[np.linspace(-1, 1, N)] * 2, indexing="ij")
        ground *= 1 + slope[0] * y + slope[1] * x
    counts = random.poisson(shadow[None, :, None, None] * (signal + ground)).astype(np.float32)
    series = TiltSeries.create({"A": counts[0], "B": counts[1]}, TILTS, 2.0)
    return {
        "series": series,
        "isolated": bool(away <= 0.1),
        "totals": (shadow[None] * signal.sum(axis=(2, 3))),
        "level": (shadow[None] * ground.mean(axis=(2, 3))),
        "support": signal.sum(axis=0) > 0.003 * peak,
        "empty": float(np.median((signal.sum(axis=0) < 0.01 * peak).mean(axis=(1, 2)))),
    }


def judge(case: dict, found: TiltSeries) -> dict[str, float | bool]:
    """How far `normalise` is from the truth."""
    used = found.used
    offset = np.stack([np.broadcast_to(found.offset(e), found.counts[e].shape) for e in range(2)])
    above = (found.counts - offset).sum(axis=(2, 3))[:, used].sum(axis=1)
    total, level = case["totals"][:, used].sum(axis=1), case["level"][:, used].mean(axis=1)
    # what the counts allow: the empty pixels known
    out = ~case["support"]
    known = np.array(
        [[m[o].mean() if o.sum() > 16 else np.nan for m, o in zip(c, out, strict=True)] for c in found.counts]
    )
    best = (found.counts - known[:, :, None, None]).sum(axis=(2, 3))[:, used].sum(axis=1)
    return {
        "limit": float(np.abs(best / total - 1).max()),
        "right": bool(found.isolated) == case["isolated"],
        "total": float(np.abs(above / total - 1).max())
        * float(np.sign((above / total - 1)[np.abs(above / total - 1).argmax()])),
        "level": float(np.abs(offset.mean(axis=(2, 3))[:, used].mean(axis=1) - level).max() / max(level.max(), 1e-9)),
        "empty": case["empty"],
        "used": float(used.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--peak", type=float, nargs="+", default=[40.0], help="brightest pixel of the object; one is drawn"
    )
    parser.add_argument("--shares", type=float, nargs=2, default=(0.0, 0.3), help="background over peak, from and to")
    parser.add_argument("--kind", choices=("flat", "uneven", "tilting"), default="flat")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--show", action="store_true", help="print each series that is wrong")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    kinds = HELD_OUT if options.held_out else (*IN_VIEW, *LEAVING)
    rows: dict[str, list[dict]] = {}
    for k in range(options.series):
        random = np.random.default_rng([options.seed, k, 77])
        kind, peak = kinds[k % len(kinds)], float(random.choice(options.peak))
        share = float(random.uniform(*options.shares))
        case = simulate(kind, peak, share, options.kind, 1000 * options.seed + k)
        row = judge(case, normalise(case["series"]))
        rows.setdefault(kind, []).append(row)
        if options.show and (not row["right"] or (abs(row["total"]) > 0.05 and row["empty"] > 0.15)):
            print(f"  {k} {kind}: peak {peak:g}, share {share:.2f}: {row}", flush=True)
    summary = {}
    for kind, found in {**rows, "all": [r for v in rows.values() for r in v]}.items():
        errors = np.abs([r["total"] for r in found if r["empty"] > 0.15] or [np.nan])
        summary[kind] = {
            "series": len(found),
            "isolated_right": round(float(np.mean([r["right"] for r in found])), 3),
            "total_error_median": round(float(np.median(errors)), 4),
            "total_error_95": round(float(np.percentile(errors, 95)), 4),
            "limit_95": round(
                float(np.percentile([r["limit"] for r in found if r["empty"] > 0.15] or [np.nan], 95)), 4
            ),
            "totals_within_5_percent": round(float(np.mean(errors <= 0.05)), 3),
            "tilts_used": round(float(np.mean([r["used"] for r in found])), 3),
        }
        print(f"{kind:12}", summary[kind], flush=True)
    if options.output:
        settings = {k: v for k, v in vars(options).items() if k not in ("output", "show")}
        options.output.write_text(
            json.dumps({"settings": settings, "results": summary}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
