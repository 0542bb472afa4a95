"""OME-Zarr, 0.5 when written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError
from recon.io.formats.common import Cube, Read

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_ome_zarr(path: Path, cubes: list[Cube]) -> None:
    """OME-Zarr 0.5 (Zarr 3), multiscale: volumes of one shape as channels ``(c, z, y, x)``; a stack ``(tilt, y, x)``.

    Each level halves the one before by averaging blocks of 2 x 2 x 2 (a stack's tilts stay), until 64 are left.
    """
    import zarr

    first = cubes[0]
    stack = first.tilts_deg is not None
    values = first.data if stack else np.stack([c.data for c in cubes])
    space = "nanometer"
    if stack:
        axes: list[dict[str, str]] = [{"name": "tilt", "type": "tilt", "unit": "degree"}]
        scale, fixed = [1.0], 1
    else:
        axes = [{"name": "c", "type": "channel"}, {"name": "z", "type": "space", "unit": space}]
        scale, fixed = [1.0, first.voxel_nm], 1
    axes += [{"name": a, "type": "space", "unit": space} for a in "yx"]
    scale += [first.voxel_nm] * 2
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    datasets, factor, level = [], np.ones(len(axes)), 0
    start = np.zeros(len(axes))
    while True:
        chunks = (1, *(min(n, 128) for n in values.shape[1:]))
        name = str(level)
        array = root.create_array(name=name, shape=values.shape, dtype=values.dtype, chunks=chunks,
                                  dimension_names=[a["name"] for a in axes])  # fmt: skip
        array[...] = values
        datasets.append({
            "path": name,
            "coordinateTransformations": [
                {"type": "scale", "scale": [float(s * f) for s, f in zip(scale, factor, strict=True)]},
                {"type": "translation", "translation": [float(s * t) for s, t in zip(scale, start, strict=True)]},
            ],
        })  # fmt: skip
        if min(values.shape[-2:]) <= 64 or level == 8:
            break
        halved = [i for i in range(fixed, values.ndim) if values.shape[i] > 1]
        values = _halved(values, halved)
        for i in halved:  # the first coarse voxel is centred half a fine one further in
            start[i] += factor[i] / 2
            factor[i] *= 2
        level += 1
    title = path.name.removesuffix(".zarr").removesuffix(".ome")
    tops = [float(c.data.max(initial=0)) for c in cubes]
    colours = ("E6731A", "338CF2", "40BF66", "D973BF")
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": title, "axes": axes, "datasets": datasets, "type": "mean"}],
    }
    if not stack:
        ome["omero"] = {
            "name": title,
            "channels": [
                {"label": c.name, "color": colours[i % 4], "active": True,
                 "window": {"min": 0.0, "start": 0.0, "max": max(t, 1e-6), "end": max(t, 1e-6)}}
                for i, (c, t) in enumerate(zip(cubes, tops, strict=True))
            ],
        }  # fmt: skip
    root.attrs["ome"] = ome
    root.attrs["recon"] = {
        "version": __version__,
        "names": [c.name for c in cubes],
        **({"tilts_deg": np.asarray(first.tilts_deg).tolist()} if stack else {}),
    }


def _halved(values: NDArray[Any], axes: list[int]) -> NDArray[Any]:
    """Means of pairs along some axes; an odd last element stays alone."""
    for axis in axes:
        n = values.shape[axis]
        sums = np.add.reduceat(values.astype(np.float32), np.arange(0, n, 2), axis=axis)
        size = np.minimum(2, n - np.arange(0, n, 2)).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        values = (sums / size).astype(values.dtype if values.dtype == np.float32 else np.float32)
    return values


def read_ome_zarr(path: Path, name: str | None = None) -> Read:
    """The finest level of an OME-Zarr image (0.4 or 0.5): one channel ``(z, y, x)`` or a stack; the pixel in nm."""
    import zarr

    from recon.io.formats.common import unit_nm

    root = zarr.open_group(str(path), mode="r")
    attrs = json.loads(json.dumps(dict(root.attrs)))
    ome = attrs.get("ome", attrs)
    if not ome.get("multiscales"):
        raise InputError(f"{path} is not an OME-Zarr image, it has no multiscales; name the folder of one image")
    image = ome["multiscales"][0]
    axes = [a["name"] if isinstance(a, dict) else a for a in image["axes"]]
    dataset = image["datasets"][0]
    array: Any = root[dataset["path"]]
    at: list[Any] = [slice(None)] * array.ndim
    labels = [c.get("label") for c in ome.get("omero", {}).get("channels", [])]
    if "c" in axes:
        if name is None and array.shape[axes.index("c")] > 1:
            raise InputError(f"{path} holds the channels {', '.join(map(str, labels))}; give a file for each")
        if name is not None and name not in labels:
            raise InputError(f"{path} has no channel {name}; it has {', '.join(map(str, labels))}")
        at[axes.index("c")] = 0 if name is None else labels.index(name)
    scale = next((t["scale"] for t in dataset.get("coordinateTransformations", []) if t["type"] == "scale"), None)
    last = image["axes"][-1]
    size = scale[-1] * unit_nm(str(last.get("unit", ""))) if scale and isinstance(last, dict) else 0.0
    values = np.asarray(array[tuple(at)])
    return values.reshape([n for n in values.shape if n > 1] if values.ndim > 3 else values.shape), size or None
