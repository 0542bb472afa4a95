"""What the volumes say: where the particle is, and whether two elements mix or only interlock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.phases import highest_density, typical_density
from recon.reconstruction.uncertainty import Interval
from recon.series.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.reconstruction.uncertainty import Uncertainty

TINY = float(np.finfo(np.float32).tiny)  # of volumes, or it would be 0 beside them
PRESENT = 0.25  # of an element's own typical density
SPREADS = 3.0  # times the typical density: an element that is denser somewhere has no one pure phase


@dataclass(frozen=True)
class ElementFigures:
    """One element in the particle.

    Attributes:
        total: counts.
        typical_density: of its pure phase, if it has one.
        fraction_of_particle: the share that holds it.
        highest_density: that holds over a few voxels; 0 where a run did not look for it.
    """

    total: float
    typical_density: float
    fraction_of_particle: float
    highest_density: float = 0.0

    @property
    def spreads(self) -> bool:
        """Whether its densities reach so far above the typical one that this is no pure phase's."""
        return self.highest_density > SPREADS * self.typical_density > 0


@dataclass(frozen=True)
class PairFigures:
    """Two elements: the share of the particle with one alone (by name), with both; correlation of their densities."""

    only: dict[str, float]
    both: float
    correlation: float


@dataclass(frozen=True)
class UncertaintyFigures:
    """What an `Uncertainty` says of the figures of one element; `drawn` are their values in each replicate."""

    replicates: int
    asked: int
    converged: int
    iterations: tuple[int, ...]
    seed: int
    noise: str
    intervals: dict[str, Interval]
    drawn: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class TruthFigures:
    """Of a simulated run: relative RMS error by element, the true axis, and what the regions hold.

    `fractions` is region -> element -> mean over the region's voxels, of the pure phase.
    """

    relative_rms_error: dict[str, float]
    axis_rotation_deg: float
    axis_offset_pixels: float
    fractions: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """What the volumes say.

    Attributes:
        mask_fraction: share of the volume that is particle.
        elements: by name.
        pairs: ``"Co-Zn"`` and so on.
        uncertainty: by element, where it was asked for.
        truth: of a simulated run.
    """

    mask_fraction: float
    elements: dict[str, ElementFigures]
    pairs: dict[str, PairFigures] = field(default_factory=dict)
    uncertainty: dict[str, UncertaintyFigures] = field(default_factory=dict)
    truth: TruthFigures | None = None


def spread_densities(analysis: Analysis) -> list[str]:
    """A line for each element whose densities spread so far that its fractions are not those of a pure phase."""
    return [
        f"{name} has no one pure phase: where it is densest it has {e.highest_density / e.typical_density:.0f} times "
        "its typical density, of which its fractions are, so 'present' and 'shared' count places that hold little of it"
        for name, e in analysis.elements.items()
        if e.spreads
    ]


def figures(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> dict[str, float]:
    """``total`` and ``typical density`` of one element, of which `analyse` gives intervals; volume ``(z, y, x)``."""
    return {"total": float(values.sum(dtype=np.float64)), "typical density": typical_density(values, inside)}


def analyse(
    volumes: Mapping[str, Volume],
    inside: NDArray[np.bool_],
    uncertainties: Mapping[str, Uncertainty] | None = None,
) -> Analysis:
    """Composition inside the mask, as a whole; `recon.composition` answers for places.

    An element's typical density is the median over the voxels where it exceeds half of its 95th
    percentile. It counts as present in a voxel above a quarter of that.

    Args:
        volumes: element to volume.
        inside: ``(z, y, x)``, the particle.
        uncertainties: element to its replicates, which `figures` were taken of.

    Returns:
        See `Analysis`.
    """
    relative, elements = {}, {}
    for name, volume in volumes.items():
        typical = typical_density(volume.values, inside)
        relative[name] = volume.values / max(typical, TINY)
        present = relative[name][inside] > PRESENT
        elements[name] = ElementFigures(
            total=float(volume.values.sum(dtype=np.float64)),
            typical_density=typical,
            fraction_of_particle=float(present.mean()) if present.size else 0.0,
            highest_density=highest_density(volume.values, inside),
        )
    return Analysis(
        mask_fraction=float(inside.mean()),
        elements=elements,
        pairs={f"{a}-{b}": _pair({n: relative[n][inside] for n in (a, b)}) for a, b in combinations(volumes, 2)},
        uncertainty={
            element: _sure(found, figures(volumes[element].values, inside))
            for element, found in (uncertainties or {}).items()
        },
    )


def _pair(relative: Mapping[str, NDArray[np.float32]]) -> PairFigures:
    (first, a), (second, b) = relative.items()
    has_a, has_b = a > PRESENT, b > PRESENT
    varied = a.size > 1 and a.std() > 0 and b.std() > 0
    return PairFigures(
        only={first: float((has_a & ~has_b).mean()), second: float((has_b & ~has_a).mean())},
        both=float((has_a & has_b).mean()),
        correlation=float(np.corrcoef(a, b)[0, 1]) if varied else 0.0,
    )


def _sure(found: Uncertainty, own: Mapping[str, float]) -> UncertaintyFigures:
    return UncertaintyFigures(
        replicates=found.replicates,
        asked=found.asked,
        converged=found.converged,
        iterations=tuple(found.iterations),
        seed=found.seed,
        noise=found.noise,
        intervals={n: found.interval(n, own[n]) for n in found.figures},
        drawn={n: tuple(v.tolist()) for n, v in found.figures.items()},
    )
