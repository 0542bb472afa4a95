"""Maps in other units, over 60 powers of ten: every method and data term, alignment, and with uncertainty.

    python benchmarks/units.py [--powers 30] [--output FILE]

Scaled maps times 10**p must give the volumes of p = 0 times 10**p, and the strength in their unit: printed is by how
much they differ at most, relatively; alignment in pixels. Maps that say they are counts are none at most powers, so
their volumes differ; they must be finite, or refused in one line. Nothing may end in another error.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
from pathlib import Path

import numpy as np

import recon
from recon.reconstruction.uncertainty import uncertainty
from recon.series.tilt_series import TiltSeries
from recon.simulate import simulate

METHODS = ("tgv", "tv", "none", "sirt", "fbp")


def volumes(series: TiltSeries, method: str, data_term: str, strength: object) -> dict[str, recon.Volume]:
    return recon.reconstruct(
        series, method, data_term=data_term, strength=strength, tolerance=5e-2, max_iterations=300, device="cpu"
    )


def why(exc: recon.ReconError) -> str:
    """A refusal without its numbers."""
    return re.sub(r"[-+]?\d[\d.e+-]*", "N", str(exc))[:80]


def difference(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def main() -> None:
    parser = argparse.ArgumentParser(description="maps in other units")
    parser.add_argument("--powers", type=int, default=30, help="from minus this to plus this")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", recon.ReconWarning)
    made, _ = simulate(size=16, seed=0, drift=1, tilts_deg=np.linspace(-60, 60, 9))
    counts = made.counts[0].astype(np.float64)
    worst: dict[str, float] = {}
    errors: list[str] = []
    refused: dict[str, list[int]] = {}
    tried = 0
    reference: dict[str, np.ndarray] = {}
    for power in sorted(range(-args.powers, args.powers + 1), key=abs):
        factor = 10.0**power
        maps = {"Co": (counts * factor).astype(np.float32)}
        for scaled in (True, False):
            try:
                series = recon.normalise(recon.read(maps, made.tilts_deg, 5.0, scaled=scaled))
                aligned = recon.align(series)
            except recon.ReconError as exc:
                refused.setdefault(f"{'scaled' if scaled else 'counts'}: {why(exc)}", []).append(power)
                continue
            except Exception as exc:  # what the script is after
                errors.append(f"1e{power} {scaled=} alignment: {exc!r}")
                continue
            key = f"alignment {'scaled' if scaled else 'counts'}"
            moved = reference.setdefault(key, aligned.alignment.displacements)
            if scaled:
                worst[key] = max(worst.get(key, 0.0), float(np.abs(aligned.alignment.displacements - moved).max()))
            for method in METHODS:
                terms = ("least-squares",) if scaled or method in ("sirt", "fbp") else ("poisson", "least-squares")
                for term in terms:
                    for strength in ("auto", 1.0 / factor) if method in ("tgv", "tv") else ("auto",):
                        given = "auto" if strength == "auto" else "given"
                        key = f"{method} {term} {given} {'scaled' if scaled else 'counts'}"
                        tried += 1
                        try:
                            found = volumes(series, method, term, strength)
                            if method == "tgv" and strength == "auto" and power % 5 == 0:
                                spread = uncertainty(series, found, 2, tolerance=5e-2, max_iterations=300, device="cpu")
                                assert np.isfinite(spread["Co"].sd).all()
                                sd = np.asarray(spread["Co"].sd, np.float64) / factor
                                if scaled:
                                    right = reference.setdefault(f"spread {key}", sd)
                                    worst[f"spread {key}"] = max(worst.get(f"spread {key}", 0.0), difference(sd, right))
                        except recon.ReconError as exc:
                            refused.setdefault(f"{key}: {why(exc)}", []).append(power)
                            continue
                        except Exception as exc:  # what the script is after
                            errors.append(f"1e{power} {key}: {exc!r}")
                            continue
                        values = np.asarray(found["Co"], np.float64) / factor
                        if not np.isfinite(values).all():
                            errors.append(f"1e{power} {key}: not finite")
                        if scaled:
                            right = reference.setdefault(key, values)
                            worst[key] = max(worst.get(key, 0.0), difference(values, right))
        print(power, {k: f"{v:.1e}" for k, v in worst.items() if v > 1e-2}, errors[-1:], flush=True)
    result = {
        "powers of ten": 2 * args.powers + 1,
        "reconstructions": tried,
        "errors": errors,
        "refused": refused,
        "largest relative difference": {k: float(f"{v:.3g}") for k, v in worst.items()},
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
