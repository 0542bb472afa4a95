"""What the volumes say: where the particle is, and whether two elements mix or only interlock."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.reconstruction.uncertainty import Uncertainty

PRESENT = 0.25  # of an element's own typical density


def typical_density(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Density of an element's pure phase: the median over the voxels inside above half of their 95th percentile."""
    within = values[inside]
    high = within[within > 0.5 * np.percentile(within, 95)] if within.size else within
    return float(np.median(high)) if high.size else 0.0


def figures(
    values: NDArray[np.float32], inside: NDArray[np.bool_], regions: Mapping[str, NDArray[np.bool_]] | None = None
) -> dict[str, float]:
    """The figures of one element that `analyse` can give intervals for, from a volume ``(z, y, x)``.

    ``total``, ``typical density`` and, for each region, the mean relative to the typical density.
    """
    typical = typical_density(values, inside)
    out = {"total": float(values.sum(dtype=np.float64)), "typical density": typical}
    for name, region in (regions or {}).items():
        out[f"region {name}"] = float(values[region].mean(dtype=np.float64)) / max(typical, 1e-30)
    return out


def analyse(
    volumes: Mapping[str, Volume],
    inside: NDArray[np.bool_],
    regions: Mapping[str, NDArray[np.bool_]] | None = None,
    uncertainties: Mapping[str, Uncertainty] | None = None,
) -> dict[str, Any]:
    """Composition inside the mask, and of named regions.

    An element's typical density is the median over the voxels where it exceeds half of its 95th
    percentile. It counts as present in a voxel above a quarter of that.

    Args:
        volumes: element to volume.
        inside: ``(z, y, x)``, the particle.
        regions: name to ``(z, y, x)``, places to ask about, such as two protrusions.
        uncertainties: element to its replicates, which `figures` were taken of.

    Returns:
        ``elements`` (total, typical density, volume fraction), ``pairs`` (fraction of the particle with
        the first alone, the second alone, both; correlation), ``regions`` (for each element the mean
        relative to its typical density and the standard deviation between voxels, and a verdict). With
        `uncertainties` also ``uncertainty``: for each element its replicates and the intervals of `figures`.
    """
    out: dict[str, Any] = {"mask_fraction": float(inside.mean()), "elements": {}, "pairs": {}, "regions": {}}
    relative = {}
    for name, volume in volumes.items():
        values = volume.values[inside]
        typical = typical_density(volume.values, inside)
        relative[name] = volume.values / max(typical, 1e-30)
        out["elements"][name] = {
            "total": float(volume.values.sum(dtype=np.float64)),
            "typical_density": typical,
            "fraction_of_particle": float((relative[name][inside] > PRESENT).mean()) if values.size else 0.0,
        }
    for a, b in combinations(volumes, 2):
        ra, rb = relative[a][inside], relative[b][inside]
        has_a, has_b = ra > PRESENT, rb > PRESENT
        varied = ra.size > 1 and ra.std() > 0 and rb.std() > 0
        out["pairs"][f"{a}-{b}"] = {
            f"only_{a}": float((has_a & ~has_b).mean()),
            f"only_{b}": float((has_b & ~has_a).mean()),
            "both": float((has_a & has_b).mean()),
            "correlation": float(np.corrcoef(ra, rb)[0, 1]) if varied else 0.0,
        }
    for name, region in (regions or {}).items():
        if region.shape != inside.shape or not region.any():
            raise InputError(f"region {name!r} has shape {region.shape} or is empty; it must be {inside.shape}")
        means = {n: float(r[region].mean(dtype=np.float64)) for n, r in relative.items()}
        spread = {n: float(r[region].std(dtype=np.float64)) for n, r in relative.items()}
        present = [n for n in means if means[n] > PRESENT]
        verdict = {0: "empty", 1: f"{present[0] if present else ''} alone"}.get(len(present), " and ".join(present))
        out["regions"][name] = {"mean": means, "spread": spread, "verdict": verdict}
    if uncertainties:
        out["uncertainty"] = {}
    for element, found in (uncertainties or {}).items():
        own = figures(volumes[element].values, inside, regions)
        out["uncertainty"][element] = {
            "replicates": found.replicates,
            "asked": found.asked,
            "converged": found.converged,
            "iterations": list(found.iterations),
            "seed": found.seed,
            "noise": found.noise,
            "intervals": {n: found.interval(n, own[n]) for n in found.figures},
            "drawn": {n: v.tolist() for n, v in found.figures.items()},
        }
    return out
