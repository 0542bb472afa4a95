"""
Two tilt axes
=============

Half of the dose is spent on a second series, with the specimen turned by 90 degrees in its holder. Each half misses a
wedge of Fourier space, both together only a pyramid.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.geometry.coverage import coverage
from recon.simulate import simulate

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "48"))
tilts = np.arange(-60, 61, 15.0)
one = recon.TiltGeometry.from_angles(tilts, 0, (size, size))
two = one + recon.TiltGeometry.from_angles(tilts, 90, (size, size))  # geometries add
print(two)
print(f"covered within 8 degrees: {coverage(one, 8):.0%} by one axis, {coverage(two, 8):.0%} by two")
two.plot()

# %%
# The same particle and the same dose in all. Here the alignment is known; `recon.align` finds it for each axis, and the
# motion of the specimen between the two.


def reconstructed(geometry, dose):
    series, truth = simulate(
        size=size, geometry=geometry, dose=dose, drift=0, rotation_deg=0, axis_offset=0, shadowing=0, seed=1
    )
    series = series.evolve(background=np.full(series.background.shape, truth.background), isolated=True)
    return recon.reconstruct(series, "tv", strength=1.0, max_iterations=300), truth


volumes = {"one axis": reconstructed(one, 60.0), "two axes": reconstructed(two, 30.0)}

# %%
# A slice along the beam, where a missing wedge shows.

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
truth = volumes["two axes"][1].volumes["Zn"]
for place, (name, (found, own)) in zip(axes, volumes.items(), strict=False):
    error = np.linalg.norm(found["Zn"].values - own.volumes["Zn"]) / np.linalg.norm(own.volumes["Zn"])
    print(f"{name}: relative error of Zn {error:.3f}")
    place.imshow(found["Zn"].values[:, size // 2], cmap="inferno")
    place.set_title(f"{name}, error {error:.2f}")
axes[2].imshow(truth[:, size // 2], cmap="inferno")
axes[2].set_title("truth")
for place in axes:
    place.axis("off")
plt.show()
