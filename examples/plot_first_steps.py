"""
First steps
===========

From arrays of counts to volumes, each stage a function. The series is simulated, so that the truth can be shown beside
the result.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.simulate import simulate

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "64"))
recorded, truth = simulate(size=size, seed=0)

# %%
# Maps are arrays ``(tilt, y, x)`` of counts as they were recorded, one for each element, with the tilts in degrees.

maps = dict(zip(recorded.elements, recorded.counts, strict=True))
series = recon.read(maps, tilts=recorded.tilts_deg, pixel_size_nm=5.0)
print(series)

# %%
# Background and exposures come from the maps; the counts stay as they are. So do they when the series is aligned:
# the alignment goes into the model.

series = recon.align(recon.normalise(series))
print(series.alignment.method)
for line in series.alignment.doubts:
    print("doubt:", line)

# %%
# Each element is reconstructed on its own, until a bound on the error of the optimisation is certified.

volumes = recon.reconstruct(series)
for name, volume in volumes.items():
    print(name, volume.solution.status.value, f"strength {volume.solution.parameters.a1:.2f}")

# %%
# The middle slice of each, the truth below. An alignment leaves open where the object as a whole lies.

figure, axes = plt.subplots(2, len(volumes), figsize=(3 * len(volumes), 6), layout="constrained")
for column, (name, volume) in enumerate(volumes.items()):
    top = np.percentile(truth.volumes[name], 99.8)
    for row, (values, what) in enumerate(((volume.values, name), (truth.volumes[name], f"{name}, truth"))):
        axes[row, column].imshow(values[size // 2], cmap="inferno", vmin=0, vmax=top)
        axes[row, column].set_title(what)
        axes[row, column].axis("off")
plt.show()
