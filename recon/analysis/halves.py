"""Two reconstructions of each element from independent halves of its counts: what they share is not noise.

The counts are divided by binomial thinning: each goes to one half or the other by chance, so both are Poisson data of
the same object at half the exposure, and independent. Each half is reconstructed like the whole, but for at most
`ITERATIONS`; the strength is the whole's times the root of one half, as the noise asks for. What the two halves have
in common tells the resolution (`recon.analysis.resolution`), what they differ in tells how sure the statistics of
elements are (`recon.analysis.pair_figures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from recon import backend
from recon.analysis.mask import apply_mask
from recon.errors import InputError
from recon.model.grid import grid
from recon.parallel import side_by_side
from recon.reconstruction.coupled import IMAGE
from recon.reconstruction.reconstruct import Progress, reconstruct_with
from recon.reconstruction.strength import is_counts, thinned
from recon.series.settings import PRIMAL_DUAL, Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.solvers.memory import needed
from recon.solvers.progress import watching

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Solve = Callable[..., dict[str, Volume]]  # as `reconstruct_with`
ITERATIONS = 200  # at most, on the grid of the result; benchmarks/resolution.py says what more would change


@dataclass(frozen=True, eq=False)
class Halves:
    """Each element twice, from independent halves of its counts, in the unit of the whole.

    Attributes:
        first, second: element to volume.
        seed: of the division.
    """

    first: Mapping[str, Volume]
    second: Mapping[str, Volume]
    seed: int

    def masked(self, inside: NDArray[np.bool_]) -> Halves:
        """The same with 0 outside `inside` ``(z, y, x)``."""
        return Halves(apply_mask(self.first, inside), apply_mask(self.second, inside), self.seed)


def halves(
    series: TiltSeries,
    volumes: Mapping[str, Volume],
    *,
    seed: int = 0,
    iterations: int = ITERATIONS,
    device: str = "auto",
    progress: Progress | bool | None = None,
    solve: Solve = reconstruct_with,
) -> Halves:
    """Reconstruct each element from independent halves of its counts: two reconstructions an element.

    Args:
        series: what `volumes` were reconstructed from.
        volumes: from `recon.reconstruct`.
        seed: of the division.
        iterations: of each half at most, for the methods with a certificate; others run as the whole did.
        device, progress: as `recon.reconstruct`.
        solve: what reconstructs, one after the other if it is another than `reconstruct_with`; several ranks share it.

    Raises:
        InputError: maps that are no counts, which cannot be divided, or a volume that was not reconstructed here.
    """
    if why := not_divisible(series, volumes):
        raise InputError(why)
    device = backend.resolve_device(device)
    found: tuple[dict[str, Volume], dict[str, Volume]] = ({}, {})
    parted: list[Callable[..., dict[str, Volume]]] = []
    settings = Settings()
    voxels, need, alone = 0, 0, solve is not reconstruct_with
    for names in _together(volumes):
        settings, strength = Settings(), dict[str, float]()
        parts: tuple[TiltSeries, ...] = (series, series)
        for name in names:
            made = volumes[name].made
            if made.settings is None:
                raise InputError(
                    f"nothing is known of how {name} was reconstructed; take volumes from recon.reconstruct"
                )
            settings = replace(made.settings, coupling=made.coupling.norm if made.coupling is not None else "none")
            if made.parameters is not None and settings.method != "none":
                strength[name] = made.parameters.a1 * 0.5**0.5
            halved = thinned(series, name, 0.5, seed)
            parts = tuple(_with_counts(p, h, name) for p, h in zip(parts, halved, strict=True))
        if settings.method in PRIMAL_DUAL:
            settings = replace(settings, max_iterations=min(iterations, settings.iterations))
        # that a half stops at its number of iterations is as it should be, and not told
        how = {"elements": names, "device": device, "log": _unsaid}
        parted += [partial(solve, half, settings, strength, **how) for half in parts]
        shape, together = grid(series, settings.thickness).shape, len(names) if settings.coupling != "none" else 0
        of_these = needed(shape, series.n_tilts, series.frame, len(names), settings.method, channels=together).host
        voxels, need, alone = max(voxels, math.prod(shape)), max(need, of_these), alone or settings.memory is not None
    with watching(progress, settings.tolerance) as step:
        pieces = [partial(part, progress=step) for part in parted]
        solved = [piece() for piece in pieces] if alone else side_by_side(pieces, voxels, need, device)
    for n, half in enumerate(solved):
        found[n % 2].update(half)
    return Halves(*found, seed)


def _together(volumes: Mapping[str, Volume]) -> list[list[str]]:
    """The names of what is reconstructed at a time."""
    coupled = [name for name, volume in volumes.items() if volume.made.together]
    return [*([coupled] if coupled else []), *([name] for name in volumes if name not in coupled)]


def _with_counts(series: TiltSeries, half: TiltSeries, element: str) -> TiltSeries:
    """`half`, with the counts of `series` for all other elements."""
    counts = series.counts.copy()
    counts[series.index(element)] = half.counts[series.index(element)]
    return half.evolve(counts=counts)


def not_divisible(series: TiltSeries, volumes: Mapping[str, Volume]) -> str:
    """Why the maps cannot be divided into independent halves, in one line; empty where they can."""
    for name, volume in volumes.items():
        how = None if volume.solution is None else volume.solution.coupling
        if how is not None and how.norm != "none" and IMAGE in how.channels:
            return f"{name} was reconstructed with an image, which both halves would share"
        if not is_counts(series, name):
            return (
                f"the maps of {name} are scaled or no whole numbers, so they cannot be divided into independent halves"
            )
    return ""


def _unsaid(line: str) -> None:
    pass


__all__ = ["ITERATIONS", "Halves", "halves", "not_divisible"]
