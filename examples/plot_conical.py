"""
A cone of beams
===============

One tilt, and the specimen turned about the beam's axis between the maps: what is missing is a cone, the same in every
direction of the specimen's plane.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.simulate import simulate

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "48"))
cone = recon.TiltGeometry.conical(55, np.arange(0, 360, 20.0), detector=(size, size))
print(cone)
cone.plot()

# %%
# The series carries its geometry from here on; a job file would say ``[geometry] scheme = "conical"``.

series, truth = simulate(size=size, geometry=cone, dose=50, drift=0, rotation_deg=0, axis_offset=0, seed=2)
series = recon.normalise(series)
print(series.geometry == cone, series)
volumes = recon.reconstruct(series, "tv", strength=1.0, max_iterations=300)

# %%
# Slices across the beam, in which no direction stands out.

figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for place, values, name in zip(axes, (volumes["Co"].values, truth.volumes["Co"]), ("Co", "Co, truth"), strict=True):
    place.imshow(values[size // 2], cmap="inferno")
    place.set_title(name)
    place.axis("off")
plt.show()
