"""`recon demo`: simulate the two-metal particle, run the whole pipeline blind, compare with the truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.composition import TruthFigures
from recon.backend import resolve_device
from recon.io import check_target
from recon.job.file import Job
from recon.job.file.sections import Reconstruct
from recon.job.pipeline import process
from recon.job.progress import Watcher
from recon.job.resources import check_resources, forecast
from recon.job.results import Result, write_result
from recon.job.stages import compile_ahead
from recon.series.volume import Volume
from recon.simulate import Truth, simulate, two_metal_particle

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
        image: NDArray[np.float32], motion: NDArray[np.float64], about: NDArray[np.float64], step: int = 1
    ) -> NDArray[np.float32]:
        """The image moved, every so many voxels of it."""
        angle = np.radians(motion[3])
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        offset, few = about - matrix @ (about + motion[:3]), tuple(-(-n // step) for n in image.shape)
        return np.asarray(ndimage.affine_transform(image, step * matrix, offset, output_shape=few, order=1))

    def square(name: str, motion: NDArray[np.float64], step: int) -> float:
        every, there = (slice(None, None, step),) * 3, moved(truth[name][near], motion, centre - first, step)
        return step**3 * float(np.square(volumes[name][near][every] - there, dtype=np.float64).sum()) / scale[name]

    found = np.array([*(mass[0] - mass[1]), 0.0])
    with ThreadPoolExecutor(len(names)) as pool:
        for step, size in ((2, 1.0), (1, 0.1)):  # most of the way on an eighth of the voxels
            found = optimize.minimize(
                lambda motion, step: sum(pool.map(square, names, repeat(motion), repeat(step))),
                found,
                (step,),
                method="Nelder-Mead",
                options={
                    "initial_simplex": np.vstack([found, found + size * np.diag([1.0, 1.0, 1.0, 2.0])]),
                    "xatol": 0.02,
                    "fatol": 1e-4,
                },
            ).x
    best = {n: moved(truth[n], found, centre) for n in names}
    errors = {
        n: float(np.sqrt(np.square(volumes[n] - best[n], dtype=np.float64).sum() / scale[n])) for n in names
    }  # fmt: skip
    return Comparison(errors, (float(found[0]), float(found[1]), float(found[2])), float(found[3]), best)


def demo(
    size: int = 64, out: Path | None = None, *, device: str = "auto", overwrite: bool = False, seed: int = 0,
    replicates: int = 0, watch: Watcher | None = None,
) -> tuple[Result, Comparison, Truth]:  # fmt: skip
    """Simulate, reconstruct blind, ask about what is found, compare with the truth, write the folder.

    `seed` changes the particle, its noise and its drift. `replicates` are of the repeatability of each voxel.
    """
    watch = watch or Watcher()
    if out is not None:
        check_target(out, overwrite=overwrite)
    job = Job.model_construct(reconstruct=Reconstruct(uncertainty=replicates))
    device = resolve_device(device)
    needs = forecast((size, size, size), 15, (size, size), 2, job, device)
    check_resources(needs, out or Path())
    compile_ahead(job, device, watch.log)
    series, truth = simulate(two_metal_particle(seed), size=size, seed=seed)
    watch.log(f"simulated {series}, brightest pixel {series.counts.max():.0f} counts")
    result = process(series, job, device=device, watch=watch)
    # exposures are relative to their mean; so is the truth in these units
    unit = np.float32(truth.exposures.mean())
    comparison = register(
        {n: v.values for n, v in result.volumes.items()}, {n: v * unit for n, v in truth.volumes.items()}
    )
    fractions = {}
    if result.composition is not None:  # voxels of the particle where it lies: interpolated ones would blur its borders
        moved = truth.particle.volume(size, translation=comparison.translation, turn_deg=comparison.turn_deg)
        true = {n: v / v.max() for n, v in zip(truth.particle.elements, moved, strict=True)}
        for label, name in enumerate(result.composition.regions, 1):
            there = result.composition.labels == label
            fractions[name] = {n: float(v[there].mean()) for n, v in true.items()}
    axis = truth.alignment
    known = TruthFigures(comparison.errors, axis.rotation_deg, axis.axis_offset, fractions)
    result = replace(result, analysis=replace(result.analysis, truth=known))
    if out is not None:
        shown = {n: Volume(v, series.pixel_size_nm, n) for n, v in comparison.truth.items()}
        write_result(result, out, overwrite=overwrite, truth=shown)
    return result, comparison, truth


def summary(result: Result, comparison: Comparison) -> list[str]:
    """What the demo prints: errors, each answer beside the truth, and how many intervals held."""
    lines = ["relative RMS error against the truth: " + ", ".join(f"{n} {e:.3f}" for n, e in comparison.errors.items())]
    truth = result.analysis.truth
    regions = {} if result.composition is None else result.composition.regions
    held = []
    for name, region in regions.items():
        parts = []
        for element, answer in region.elements.items():
            true = 0.0 if truth is None else truth.fractions[name][element]
            held.append(answer.low95 <= true <= answer.high95)
            parts.append(
                f"{element} {answer.fraction:.2f} [{answer.low95:.2f} to {answer.high95:.2f}], truth {true:.2f}"
                + ("" if held[-1] else " OUTSIDE")
            )
        lines.append(f"{name}: {'; '.join(parts)} of the pure phase -> {region.verdict}")
    if held:
        lines.append(f"{sum(held)} of {len(held)} intervals (95 %) hold the truth")
    else:
        lines.append("no place was found where one element reaches into the other")
    return lines
