"""
Schemes compared
================

What different schemes of the same number of maps cover of Fourier space: the scheme of Longley et al. (2018), tilts by
the golden ratio, two axes, a cone and directions at random.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.geometry.coverage import coverage

size = {"detector": (int(os.environ.get("RECON_EXAMPLE_SIZE", "64")),) * 2}
paper = np.arange(-70, 71, 10.0)  # 15 maps
schemes = {
    "paper": recon.TiltGeometry.from_angles(paper, 0, **size),
    "golden ratio": recon.TiltGeometry.golden_angle(15, **size),
    "two axes": recon.TiltGeometry.dual_axis(paper[::2], paper[1::2], **size),
    "cone": recon.TiltGeometry.conical(55, np.arange(0, 360, 24.0), **size),
    "random": recon.TiltGeometry.random(15, **size),
}
for name, geometry in schemes.items():
    print(f"{name:14s}{geometry}")

# %%
# The paper's scheme: beams, distance from what was measured, and the missing wedge.

schemes["paper"].plot()

# %%
# The share of all directions within some angle of a measured plane.

angles = np.arange(1, 16)
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
for name, geometry in schemes.items():
    axes.plot(angles, [100 * coverage(geometry, float(a)) for a in angles], label=name)
axes.set(xlabel="within this many degrees of a measured plane", ylabel="% of Fourier space", ylim=(0, 100))
axes.legend()
plt.show()
