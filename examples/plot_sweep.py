"""
A sweep over the strength
=========================

Every combination of a grid of values, each a run of a job file; the same call runs them on a cluster with another
executor. The truth is known here, so that the automatic strength can be placed among them.
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import recon
from recon.io import read_volume
from recon.simulate import simulate

size = int(os.environ.get("RECON_EXAMPLE_SIZE", "32"))
folder = Path(tempfile.mkdtemp())
series, truth = simulate(size=size, dose=40, drift=0, rotation_deg=0, axis_offset=0, seed=1)
np.save(folder / "Co.npy", series.counts[series.index("Co")])
np.savetxt(folder / "tilts.rawtlt", series.tilts_deg)
(folder / "particle.toml").write_text("""
regions = "none"
[input]
maps = { Co = "Co.npy" }
tilts = "tilts.rawtlt"
pixel_size_nm = 5.0
[align]
method = "none"
[reconstruct]
halves = false
[output]
report = false
""")

# %%
# One row for each set of values and element, also in ``summary.csv`` of the sweep's folder. Finished runs are not
# repeated.

strengths = [0.125, 0.5, 2.0, 8.0, "auto"]
with ThreadPoolExecutor(1) as executor:
    rows = recon.sweep(
        folder / "particle.toml", {"reconstruct.strength": strengths}, out=folder / "sweep", executor=executor
    )
for row in rows:
    print(row.parameters, row.state, row.iterations, "iterations")

# %%
# The error of each against the truth. Strong regularisers lose the small parts, weak ones keep the noise.

errors = []
for number in range(len(strengths)):
    values, _ = read_volume(folder / "sweep" / f"particle-{number}-recon" / "Co.tif")
    errors.append(np.linalg.norm(values - truth.volumes["Co"]) / np.linalg.norm(truth.volumes["Co"]))
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.semilogx(strengths[:-1], errors[:-1], "o-")
axes.axhline(errors[-1], linestyle="--", label="automatic")
axes.set_xticks(strengths[:-1], [f"{s:g}" for s in strengths[:-1]], minor=False)
axes.minorticks_off()
axes.set(xlabel="strength", ylabel="relative RMS error of Co")
axes.legend()
plt.show()
