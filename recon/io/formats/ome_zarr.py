"""OME-Zarr: 0.5 (Zarr 3) when written, or 0.4 (Zarr 2) for programs that know no later one; both are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError
from recon.io.formats.axes import Axis, StackFile, arranged
from recon.io.formats.common import Cube, Read, choose, symbol

if TYPE_CHECKING:
    from numpy.typing import NDArray


LATEST, OLDER = "0.5", "0.4"


def write_ome_zarr(path: Path, cubes: list[Cube], version: str = LATEST) -> None:
    """OME-Zarr, multiscale: volumes of one shape as channels ``(c, z, y, x)``; a stack ``(tilt, y, x)``.

    Each level halves the one before by averaging blocks of 2 x 2 x 2 (a stack's tilts stay), until 64 are left.

    Args:
        path: folder to write.
        cubes: volumes of one shape, or one stack.
        version: of OME-Zarr, `LATEST` or `OLDER`.
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
    older = version == OLDER
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if older else 3)
    datasets, factor, level = [], np.ones(len(axes)), 0
    start = np.zeros(len(axes))
    start[-3 if not stack else -2 :] = [s / first.voxel_nm for s in first.start_nm][-2 if stack else -3 :]
    while True:
        chunks = (1, *(min(n, 128) for n in values.shape[1:]))
        name = str(level)
        # 0.4 wants a folder a dimension, and keeps the names of dimensions in its own axes only
        how: dict[str, Any] = {"dimension_names": [a["name"] for a in axes]}
        how = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if older else how
        array = root.create_array(name=name, shape=values.shape, dtype=values.dtype, chunks=chunks, **how)
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
    title = ", ".join(c.name for c in cubes)
    tops = [float(c.data.max(initial=0)) for c in cubes]
    colours = ("E6731A", "338CF2", "40BF66", "D973BF")
    image: dict[str, Any] = {"name": title, "axes": axes, "datasets": datasets, "type": "mean"}
    ome: dict[str, Any] = {"multiscales": [image]}
    if not stack:
        ome["omero"] = {
            "name": title,
            "channels": [
                {"label": c.name, "color": colours[i % 4], "active": True,
                 "window": {"min": 0.0, "start": 0.0, "max": max(t, 1e-6), "end": max(t, 1e-6)}}
                for i, (c, t) in enumerate(zip(cubes, tops, strict=True))
            ],
        }  # fmt: skip
    if older:  # the version stands in each part, and all of it at the top
        image["version"] = version
        if not stack:
            ome["omero"]["version"] = version
        root.attrs.update(ome)
    else:
        root.attrs["ome"] = {"version": version, **ome}
    root.attrs["recon"] = {
        "version": __version__,
        "names": [c.name for c in cubes],
        "provenance": {c.name: dict(c.provenance) for c in cubes},
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
    found = read_stack(path, name)
    return found.values, found.pixel_nm(path)


def read_stack(path: Path, element: str | None = None) -> StackFile:
    """The finest level of an OME-Zarr image (0.4 or 0.5), axes by name, the channel of the element's name.

    The scale of a level is that of its own times that of the whole image.

    Raises:
        InputError: no image, several channels of which none bears the name, or levels that contradict each other.
    """
    import zarr

    root = zarr.open_group(str(path), mode="r")
    attrs = json.loads(json.dumps(dict(root.attrs)))
    ome = attrs.get("ome", attrs)
    if not ome.get("multiscales"):
        raise InputError(f"{path} is not an OME-Zarr image, it has no multiscales; name the folder of one image")
    image = ome["multiscales"][0]
    described = [a if isinstance(a, dict) else {"name": str(a)} for a in image.get("axes") or _default(image)]
    levels = [_level(root, image, d, len(described)) for d in image["datasets"]]
    array, scale = max(levels, key=lambda level: level[0].size)
    _check_levels(path, levels, described)
    axes = [_axis(a, s) for a, s in zip(described, scale, strict=True)]
    at: list[Any] = [slice(None)] * array.ndim
    labels = [str(c.get("label")) for c in ome.get("omero", {}).get("channels", [])]
    name = ""
    channel = next((i for i, a in enumerate(described) if a.get("name") == "c" or a.get("type") == "channel"), None)
    if channel is not None:
        n = array.shape[channel]
        labels = labels if len(labels) == n else [f"channel {i + 1}" for i in range(n)]
        at[channel] = choose(labels, element, path, "channels") if n > 1 or symbol(labels[0]) else 0
        name = labels[at[channel]]
        axes.pop(channel)
    stored = attrs.get("recon") or {}
    found = arranged(np.asarray(array[tuple(at)]), axes, path, name)
    tilts = stored.get("tilts_deg")
    if tilts is not None and found.values.ndim == 3 and len(tilts) == len(found.values):
        found = replace(found, tilts_deg=np.asarray(tilts, dtype=np.float64))
    return found


def _default(image: dict[str, Any]) -> list[str]:
    raise InputError("an OME-Zarr image without axes is older than version 0.3; convert it")


def _level(root: Any, image: dict[str, Any], dataset: dict[str, Any], n: int) -> tuple[Any, list[float]]:
    """A level's array, and its scale with that of the image; 0 where there is none."""
    scale = [1.0] * n
    told = False
    for transforms in (dataset, image):
        for t in transforms.get("coordinateTransformations") or []:
            if t.get("type") == "scale" and len(t["scale"]) == n:
                scale, told = [a * float(b) for a, b in zip(scale, t["scale"], strict=True)], True
    return root[dataset["path"]], scale if told else [0.0] * n


def _check_levels(path: Path, levels: list[tuple[Any, list[float]]], axes: list[dict[str, Any]]) -> None:
    """Raise InputError where a coarse level's pixels do not cover as much as the finest level's."""
    array, scale = max(levels, key=lambda level: level[0].size)
    for other, coarse in levels:
        for axis, fine, size, n, m in zip(axes, scale, coarse, array.shape, other.shape, strict=True):
            if axis.get("type", "space") != "space" or not (fine and size) or m == n == 1:
                continue
            if abs(size * m - fine * n) > size + 0.01 * fine * n:  # less than one coarse pixel is cut off or added
                raise InputError(
                    f"{path} contradicts itself: along {axis.get('name')} its finest level has {n} pixels of {fine:g}, "
                    f"another {m} of {size:g}; correct the scales of its levels"
                )


def _axis(axis: dict[str, Any], scale: float) -> Axis:
    return Axis(str(axis.get("name") or ""), str(axis.get("unit") or ""), scale)
