"""Volumes and stacks in the formats that people's programs open: one writer and one reader for each.

All writers get a `Cube`; axis order, units and voxel size are stored as each format's own readers expect them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon._version import __version__
from recon.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSIC_LIMIT = 2**32 - 2**25  # bytes; beyond it a TIFF of ImageJ's kind describes only its first slice
Read = tuple["NDArray[Any]", "float | None"]


@dataclass(frozen=True)
class Cube:
    """What is written to one file.

    Attributes:
        name: of the element or line.
        values: ``(z, y, x)``, or ``(tilt, y, x)`` where `tilts_deg` is given; bool is written as 0 and 255 (8 bit),
            all else as float32.
        voxel_nm: edge of a voxel or pixel.
        tilts_deg: of the images of a stack.
    """

    name: str
    values: NDArray[Any]
    voxel_nm: float
    tilts_deg: NDArray[np.float64] | None = None

    @property
    def data(self) -> NDArray[Any]:
        """The values as they are written."""
        if self.values.dtype == bool:
            return np.asarray(self.values.astype(np.uint8) * np.uint8(255))
        return np.ascontiguousarray(self.values, dtype=np.float32)


# ---------------------------------------------------------------- TIFF and MRC


def write_tiff(path: Path, cube: Cube) -> None:
    """ImageJ's kind; a stack's slices are labelled with their tilts."""
    import tifffile

    data = cube.data
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "nm"}
    if cube.tilts_deg is None:
        metadata["spacing"] = cube.voxel_nm
    else:
        metadata["Labels"] = [f"{t:g} degrees" for t in cube.tilts_deg]
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(1 / cube.voxel_nm, 1 / cube.voxel_nm),
        metadata=metadata,
        truncate=data.nbytes > CLASSIC_LIMIT,
    )


def write_mrc(path: Path, cube: Cube) -> None:
    """MRC2014 mode 2, Angstrom."""
    import mrcfile

    with mrcfile.new(path) as mrc:
        mrc.set_data(np.asarray(cube.values, dtype=np.float32))
        if cube.tilts_deg is None:
            mrc.set_volume()
        else:
            mrc.set_image_stack()
        mrc.voxel_size = cube.voxel_nm * 10


# ---------------------------------------------------------------- HyperSpy


def write_hspy(path: Path, cube: Cube) -> None:
    """HyperSpy's HDF5: a Signal2D whose navigation axis is z, or the tilt."""
    from rsciio.hspy import file_writer

    file_writer(str(path), signal_dict(cube), compression=None)


def signal_dict(cube: Cube) -> dict[str, Any]:
    """The dictionary that rosettasciio and ``hyperspy.signals.Signal2D(**d)`` take."""
    n = cube.values.shape[0]
    if cube.tilts_deg is None:
        first = _axis("z", n, cube.voxel_nm, "nm", centred=True)
        extra: dict[str, Any] = {}
    else:
        tilts = np.asarray(cube.tilts_deg, dtype=np.float64)
        even = n > 1 and np.allclose(np.diff(tilts), tilts[1] - tilts[0], atol=1e-3) and tilts[1] != tilts[0]
        first = (
            {**_axis("tilt", n, float(tilts[1] - tilts[0]), "degrees"), "offset": float(tilts[0])}
            if even
            else _axis("tilt", n, 1.0, "")
        )
        extra = {"tilts_deg": tilts.tolist()}
    axes = [first, *(_axis(a, s, cube.voxel_nm, "nm", centred=True)
                     for a, s in zip("yx", cube.values.shape[1:], strict=True))]  # fmt: skip
    for i, axis in enumerate(axes):
        axis["navigate"] = i == 0
    return {
        "data": cube.data,
        "axes": axes,
        "metadata": {
            "General": {"title": cube.name},
            "Signal": {"signal_type": ""},
            "_HyperSpy": {},
        },
        "original_metadata": {"recon": {"version": __version__, "name": cube.name, **extra}},
        "attributes": {"_lazy": False},
        "package_info": {"package": "recon", "package_version": __version__},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


def _axis(name: str, size: int, scale: float, units: str, *, centred: bool = False) -> dict[str, Any]:
    offset = -(size - 1) / 2 * scale if centred else 0.0
    return {"_type": "UniformDataAxis", "name": name, "size": size, "scale": scale, "offset": offset, "units": units,
            "navigate": False}  # fmt: skip


def read_hspy(path: Path) -> Read:
    from rsciio.hspy import file_reader

    signal = next(iter(file_reader(str(path))))
    from recon.io.stacks import unit_nm

    scale = float(signal["axes"][-1].get("scale", 0) or 0) * unit_nm(str(signal["axes"][-1].get("units") or ""))
    return np.asarray(signal["data"]), scale or None


# ---------------------------------------------------------------- NCEM EMD


def write_emd(path: Path, cube: Cube) -> None:
    """NCEM's EMD 0.2 as tomviz reads it: volumes ``(x, y, z)``, tilt series ``(angles, y, x)``, dimensions named."""
    import h5py

    n = cube.values.shape
    centred = [(np.arange(s) - (s - 1) / 2) * cube.voxel_nm for s in n]
    if cube.tilts_deg is None:
        values = cube.data.transpose(2, 1, 0)
        dims = [("x", centred[2], "[n_m]"), ("y", centred[1], "[n_m]"), ("z", centred[0], "[n_m]")]
    else:
        values = cube.data
        dims = [("angles", np.asarray(cube.tilts_deg), "[deg]"), ("y", centred[1], "[n_m]"), ("x", centred[2], "[n_m]")]
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = np.int32(0), np.int32(2)
        group = file.create_group("data/tomography")
        group.attrs["emd_group_type"] = np.int32(1)
        group.create_dataset("data", data=np.ascontiguousarray(values)).attrs["name"] = cube.name
        for i, (name, positions, units) in enumerate(dims, start=1):
            dim = group.create_dataset(f"dim{i}", data=np.asarray(positions, dtype=np.float32))
            dim.attrs["name"], dim.attrs["units"] = name, units
        for other in ("microscope", "sample", "user", "comments"):
            file.create_group(other)
        file["comments"].attrs["recon"] = f"{cube.name}, written by recon {__version__}"


def read_emd(path: Path) -> Read:
    """The first three-dimensional group of an NCEM EMD, axes put into the order (z or tilt, y, x) by their names."""
    import h5py

    from recon.io.stacks import unit_nm

    with h5py.File(path) as file:
        found: list[Any] = []
        file.visititems(lambda _, g: found.append(g)
                        if isinstance(g, h5py.Group) and g.attrs.get("emd_group_type") == 1 else None)  # fmt: skip
        for group in found:
            data = group.get("data")
            if data is None or data.ndim != 3:
                continue
            names, scales = [], []
            for i in range(1, 4):
                dim = group[f"dim{i}"]
                names.append(_text(dim.attrs.get("name", "")).casefold())
                unit = _text(dim.attrs.get("units", "")).strip("[]").replace("_", "")
                positions = dim[:]
                step = float(positions[1] - positions[0]) if len(positions) > 1 else 0.0
                scales.append(abs(step) * unit_nm(unit))
            values, voxel = data[()], float(f"{scales[-1]:.7g}")
            if names == ["x", "y", "z"]:
                values, voxel = values.transpose(2, 1, 0), float(f"{scales[0]:.7g}")
            return np.ascontiguousarray(values), voxel or None
    raise InputError(f"{path} holds no three-dimensional EMD data; for Velox's spectrum images use [input] spectra")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# ---------------------------------------------------------------- VTK


def write_vti(path: Path, cube: Cube) -> None:
    """VTK's ImageData for ParaView: one array of points, raw binary after the header, nm."""
    data = np.asarray(cube.data)
    kind = "UInt8" if data.dtype == np.uint8 else "Float32"
    nz, ny, nx = data.shape
    step = (cube.voxel_nm, cube.voxel_nm, cube.voxel_nm if cube.tilts_deg is None else 1.0)
    origin = [-(n - 1) / 2 * s for n, s in zip((nx, ny, nz), step, strict=True)]
    extent = f"0 {nx - 1} 0 {ny - 1} 0 {nz - 1}"
    head = (
        '<?xml version="1.0"?>\n<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" '
        'header_type="UInt64">\n'
        f'<ImageData WholeExtent="{extent}" Origin="{" ".join(map(repr, origin))}" '
        f'Spacing="{" ".join(repr(float(s)) for s in step)}">\n<Piece Extent="{extent}">\n'
        f'<PointData Scalars="{cube.name}"><DataArray type="{kind}" Name="{cube.name}" format="appended" offset="0"/>'
        '</PointData><CellData/>\n</Piece>\n</ImageData>\n<AppendedData encoding="raw">\n_'
    )
    with path.open("wb") as stream:
        stream.write(head.encode())
        stream.write(np.uint64(data.nbytes).astype("<u8").tobytes())
        for plane in data:
            stream.write(np.ascontiguousarray(plane, dtype=data.dtype.newbyteorder("<")).tobytes())
        stream.write(b"\n</AppendedData>\n</VTKFile>\n")


def read_vti(path: Path) -> Read:
    """A file that `write_vti` wrote."""
    raw = path.read_bytes()
    start = raw.find(b'<AppendedData encoding="raw">\n_')
    head = raw[: max(start, 0)].decode("ascii", "replace")
    extent = re.search(r'WholeExtent="0 (\d+) 0 (\d+) 0 (\d+)"', head)
    spacing = re.search(r'Spacing="(\S+) ', head)
    kind = re.search(r'DataArray type="(UInt8|Float32)"', head)
    if start < 0 or not (extent and spacing and kind):
        raise InputError(f"{path} is not a .vti that recon wrote; export it as TIFF or MRC")
    nx, ny, nz = (int(n) + 1 for n in extent.groups())
    at = start + len(b'<AppendedData encoding="raw">\n_') + 8
    dtype = np.dtype("u1" if kind[1] == "UInt8" else "<f4")
    if len(raw) < at + nz * ny * nx * dtype.itemsize:
        raise InputError(f"{path} is cut short; copy it again")
    values = np.frombuffer(raw, dtype, nz * ny * nx, at).reshape(nz, ny, nx)
    return values.copy(), float(spacing[1])


# ---------------------------------------------------------------- OME-Zarr


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

    from recon.io.stacks import unit_nm

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
