"""`recon demo`: simulate the two-metal particle, run the whole pipeline blind, compare with the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.composition import TruthFigures, analyse, figures
from recon.backend import resolve_device
from recon.io import check_target
from recon.job.file import Job
from recon.job.pipeline import process
from recon.job.progress import Watcher
from recon.job.resources import check_resources, forecast
from recon.job.results import Result, write_result
from recon.reconstruction.uncertainty import uncertainty
from recon.series.volume import Volume
from recon.simulate import Truth, simulate

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """A blind reconstruction against the truth.

    Attributes:
        errors: element to relative RMS error after rigid registration.
        translation: ``(z, y, x)`` voxels by which the reconstruction was moved.
        turn_deg: rotation about the beam (z) by which it was turned, degrees.
        truth: true volumes, in units of the reconstruction, moved and turned to lie upon it.
    """

    errors: dict[str, float]
    translation: tuple[float, float, float]
    turn_deg: float
    truth: dict[str, NDArray[np.float32]]

    def follow(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """An image that belongs to the truth, moved likewise."""
        from scipy import ndimage

        centre, angle = (np.array(image.shape) - 1) / 2, np.radians(self.turn_deg)
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        offset = centre - matrix @ (centre + np.array(self.translation))
        return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1))


REACH = 6  # voxels by which a registration may move the object


def register(volumes: dict[str, NDArray[np.float32]], truth: dict[str, NDArray[np.float32]]) -> Comparison:
    """Rigid registration of true volumes onto reconstructed ones, one motion for all elements.

    An alignment leaves the object's translation free, and a rotation of the axis that it did not
    find turns the object about the beam. The motion minimises the summed squared difference; the error
    is ``|u - moved truth| / |truth|``.
    """
    from scipy import ndimage, optimize

    names = list(volumes)
    shape = volumes[names[0]].shape
    centre = (np.array(shape) - 1) / 2
    total = sum(volumes[n] for n in names), sum(truth[n] for n in names)
    mass = [np.array(ndimage.center_of_mass(v)) for v in total]
    scale = {n: float(np.square(truth[n], dtype=np.float64).sum()) for n in names}

    # while it is sought, only what the object may reach is looked at: the rest of the squares is constant
    filled = ndimage.find_objects(np.asarray(total[1] > 0, dtype=np.uint8))[0]
    near = tuple(slice(max(0, s.start - REACH), s.stop + REACH) for s in filled)
    first = np.array([s.start for s in near])

    def moved(
        image: NDArray[np.float32], motion: NDArray[np.float64], about: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        angle = np.radians(motion[3])
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        offset = about - matrix @ (about + motion[:3])
        return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1))

    def cost(motion: NDArray[np.float64]) -> float:
        return sum(
            float(np.square(volumes[n][near] - moved(truth[n][near], motion, centre - first), dtype=np.float64).sum())
            / scale[n]
            for n in names
        )

    start = np.array([*(mass[0] - mass[1]), 0.0])
    simplex = np.vstack([start, start + np.diag([1.0, 1.0, 1.0, 2.0])])
    found = optimize.minimize(
        cost, start, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-4}
    )
    best = {n: moved(truth[n], found.x, centre) for n in names}
    errors = {
        n: float(np.sqrt(np.square(volumes[n] - best[n], dtype=np.float64).sum() / scale[n])) for n in names
    }  # fmt: skip
    return Comparison(errors, (float(found.x[0]), float(found.x[1]), float(found.x[2])), float(found.x[3]), best)


def demo(
    size: int = 64, out: Path | None = None, *, device: str = "auto", overwrite: bool = False, seed: int = 0,
    replicates: int = 0, watch: Watcher | None = None,
) -> tuple[Result, Comparison, Truth]:  # fmt: skip
    """Simulate, reconstruct blind, register to the truth, ask the two protrusions, write the folder.

    With `replicates` the answers get intervals.
    """
    watch = watch or Watcher()
    if out is not None:
        check_target(out, overwrite=overwrite)
    job = Job.model_construct()
    needs = forecast((size, size, size), 15, (size, size), 2, job, resolve_device(device))
    check_resources(needs, out or Path())
    series, truth = simulate(size=size, seed=seed)
    watch.log(f"simulated {series}, brightest pixel {series.counts.max():.0f} counts")
    result = process(series, device=device, watch=watch)
    # exposures are relative to their mean; so is the truth in these units
    unit = np.float32(truth.exposures.mean())
    comparison = register(
        {n: v.values for n, v in result.volumes.items()}, {n: v * unit for n, v in truth.volumes.items()}
    )
    # the places to ask about, where the registration says they are in the reconstruction
    regions = {}
    for name in truth.particle.regions:
        inside = comparison.follow(truth.particle.inside(name, size).astype(np.float32))
        regions[name] = inside > 0.5 * inside.max()  # of a voxel or two, half may be left between voxels
    found = {}
    if replicates:
        found = uncertainty(
            result.series, result.volumes, replicates, device=device, progress=watch.step,
            figures=lambda element, values: figures(values, result.inside, regions),
        )  # fmt: skip
    analysis = analyse(result.volumes, result.inside, regions, found)
    known = TruthFigures(comparison.errors, truth.alignment.rotation_deg, truth.alignment.axis_offset)
    analysis = replace(analysis, truth=known)
    result = replace(result, analysis=analysis, uncertainties=found, replicates=replicates)
    if out is not None:
        moved = {n: Volume(v, series.pixel_size_nm, n) for n, v in comparison.truth.items()}
        write_result(result, out, overwrite=overwrite, truth=moved)
    return result, comparison, truth


def _between(result: Result, element: str, region: str) -> str:
    if element not in result.uncertainties:
        return ""
    interval = result.analysis.uncertainty[element].intervals[f"region {region}"]
    return f" [{interval.low:.2f} to {interval.high:.2f}]"


def summary(result: Result, comparison: Comparison) -> list[str]:
    """What the demo prints: errors, and whether the two protrusions are told apart."""
    lines = ["relative RMS error against the truth: " + ", ".join(f"{n} {e:.3f}" for n, e in comparison.errors.items())]
    for name, region in result.analysis.regions.items():
        parts = ", ".join(
            f"{n} {region.mean[n]:.2f} +- {region.spread[n]:.2f}{_between(result, n, name)}" for n in result.volumes
        )
        lines.append(f"protrusion '{name}': {parts} of the pure phase -> {region.verdict}")
    return lines
