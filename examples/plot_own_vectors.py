"""
Vectors of one's own
====================

Any parallel-beam scheme is four vectors a map: the beam, the detector's centre, and the steps from one column and one
row to the next, in voxels and as (z, y, x). Here tilts about an axis that dips by ten degrees, maps whose pixels are as
wide as 1.25 voxels, and drift that is part of the geometry.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.simulate import two_metal_particle

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "48"))
tilts = np.arange(-65, 66, 13.0)
plain = recon.TiltGeometry.from_angles(tilts, 0, (size, size)).turned(10, "x")
drift = np.random.default_rng(0).uniform(-1, 1, (len(tilts), 2))
pixel = 1.25
geometry = recon.TiltGeometry.from_vectors(
    plain.ray, plain.centre, pixel * plain.u, pixel * plain.v, detector=(size, size), volume=(size, size, size)
).moved(drift)
print(geometry)
print("ASTRA's parallel3d_vec:", geometry.to_astra().shape)

# %%
# Projection and its exact adjoint, on NumPy or CuPy arrays.

volume = two_metal_particle().volume(size)[0]
stack = recon.project(volume, geometry)
other = np.random.default_rng(1).random(stack.shape, dtype=np.float32)
left, right = np.vdot(stack.astype(float), other), np.vdot(volume.astype(float), recon.backproject(other, geometry))
print(f"<A x, y> and <x, A* y> differ by {abs(left - right) / left:.1e}")

# %%
# The whole pipeline takes such maps; these are counts of the projections.

counts = np.random.default_rng(2).poisson(stack * 40 / stack.max()).astype(np.float32)
series = recon.read({"Co": counts}, pixel_size_nm=5.0, geometry=geometry).evolve(isolated=True)
found = recon.reconstruct(series, "tv", strength=1.0, max_iterations=300)["Co"]

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for place, values, name in zip(
    axes,
    (counts[len(tilts) // 2], found.values[size // 2], volume[size // 2]),
    ("a map", "found", "truth"),
    strict=True,
):
    place.imshow(values, cmap="inferno")
    place.set_title(name)
    place.axis("off")
plt.show()
