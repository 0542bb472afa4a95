"""
71 HAADF and 15 EDS tilts
=========================

An EDS map takes minutes and an HAADF image a second, so many more tilts can have an image. All images serve the
alignment; the maps lie where the images lie that were recorded with them.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.simulate import simulate

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "48"))
tilts = np.arange(-70, 71, 2.0)
mapped = np.arange(0, 71, 5)  # of which every fifth has maps
full, truth = simulate(size=size, tilts_deg=tilts, dose=4000, seed=1)

# %%
# The image is no count and no element: its brightness is set anew at each tilt. The maps hold few counts, and Zn has
# none at two of its tilts, where the beam was lost.

rng = np.random.default_rng(0)
image = 500 + rng.uniform(0.7, 1.4, (len(tilts), 1, 1)) * full.counts.sum(axis=0)
maps = dict(zip(full.elements, rng.binomial(full.counts[:, mapped].astype(int), 1 / 400), strict=True))
with_zn = np.delete(np.arange(15), [3, 9])
series = recon.read(
    {"Co": maps["Co"], "Zn": maps["Zn"][with_zn]},
    {"Co": tilts[mapped], "Zn": tilts[mapped][with_zn]},
    pixel_size_nm=5.0,
    image=image,
    image_tilts=tilts,
)
print(series.history[0])
series = recon.normalise(series)

# %%
# Aligned on all images, and on the maps alone.

on_images = recon.align(series)
on_maps = recon.align(series, reference=["Co"])
t = np.radians(series.tilts_deg)
basis = np.stack([np.cos(t), np.sin(t)], axis=1)  # what a shift of the whole specimen does
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for name, found in (("71 images", on_images), ("15 maps", on_maps)):
    wrong = found.alignment.displacements[:, 1] - truth.alignment.displacements[mapped][:, 1]
    wrong -= basis @ np.linalg.lstsq(basis, wrong, rcond=None)[0]
    turned = found.alignment.rotation_deg - truth.alignment.rotation_deg
    print(f"on {name}: {np.sqrt(np.mean(wrong**2)):.3f} pixels rms, axis off by {turned:+.2f} degrees")
    axes[0].plot(series.tilts_deg, wrong, "o-", label=f"on {name}")
axes[0].set_xlabel("tilt / degrees")
axes[0].set_ylabel("error of the column / pixels")
axes[0].legend()

# %%
# Each element is reconstructed from the maps that it has.

volumes = recon.reconstruct(on_images, "tv", strength=1.0, max_iterations=300)
for place, (name, volume) in zip(axes[1:], volumes.items(), strict=True):
    place.imshow(volume.values[:, size // 2], cmap="inferno")
    place.set_title(f"{name}, {series.present[series.index(name)].sum()} tilts")
    place.axis("off")
plt.show()
