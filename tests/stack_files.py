"""Stacks of maps as other programs write them."""

from __future__ import annotations

import h5py
import numpy as np
import zarr

RNG = np.random.default_rng(5)
MAPS = RNG.poisson(6.0, (5, 7, 6)).astype(np.uint16)  # (tilt, y, x)
OTHER = MAPS[::-1] + np.uint16(1)
TILTS = np.array([-40.0, -20, 0, 15, 30])


def write_emd(path, groups, names="tyx", unit="[n_m]", angle=("angles", "[deg]"), edges=(2.0, 2.0), tilts=TILTS):
    """NCEM's EMD: groups of data whose axes stand in an order, named so."""
    with h5py.File(path, "w") as f:
        for group, maps in groups.items():
            g = f.create_group(f"data/{group}")
            g.attrs["emd_group_type"] = 1
            g["data"] = np.ascontiguousarray(maps.transpose(["tyx".index(n) for n in names]))
            for i, n in enumerate(names, 1):
                _, ny, nx = maps.shape
                positions = {"t": tilts, "y": np.arange(ny) * edges[0], "x": np.arange(nx) * edges[1] + 5}[n]
                dim = g.create_dataset(f"dim{i}", data=positions)
                dim.attrs["name"], dim.attrs["units"] = angle if n == "t" else (n, unit)


def write_zarr(path, maps, names="tyx", scales=None, levels=1, units="nanometer", factors=(1, 2, 4)):
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    datasets = []
    scales = scales or {"t": 1.0, "y": 2.0, "x": 2.0}
    for level in range(levels):
        f = 2**level
        small = maps[:, ::f, ::f].transpose(["tyx".index(n) for n in names])
        root.create_array(name=str(level), data=np.ascontiguousarray(small))
        scale = [scales[n] * (1 if n == "t" else factors[level]) for n in names]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": {"t": "z"}.get(n, n), "type": "space", **({} if n == "t" else {"unit": units})} for n in names]
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def write_hspy(path, stored, order, tilts=None, edges=(2.0, 2.0), units="nm", angle="degrees", more=(), stage=None):
    """HyperSpy's own file, or its NCEM EMD."""
    axes = []
    for n, size in zip(order, stored.shape, strict=True):
        if n == "t" and tilts is not None:
            axes.append({"_type": "DataAxis", "name": "tilt", "axis": tilts, "units": angle, "navigate": True})
            continue
        scale, offset, unit = {"t": (10.0, -20.0, angle), "y": (edges[0], 0.0, units), "x": (edges[1], 3.0, units)}[n]
        axes.append({"_type": "UniformDataAxis", "name": "tilt" if n == "t" else n, "size": size, "scale": scale,
                     "offset": offset, "units": unit, "navigate": n == "t"})  # fmt: skip
    metadata = {"General": {"title": "Co"}, "Signal": {"signal_type": ""}, "_HyperSpy": {}}
    if stage is not None:
        metadata["Acquisition_instrument"] = {"TEM": {"Stage": {"tilt_alpha": stage}}}
    signal = {"data": stored, "axes": axes, "metadata": metadata, "original_metadata": {}, "package_info": {},
              "attributes": {"_lazy": False}, "tmp_parameters": {}, "learning_results": {}, "models": {}}  # fmt: skip
    if path.suffix == ".emd":
        from rsciio.emd import file_writer
    else:
        from rsciio.hspy import file_writer
    file_writer(str(path), signal)
