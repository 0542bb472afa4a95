"""VTK's ImageData, for ParaView."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import StackFile, edges
from recon.io.formats.common import Cube, Read


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
        f'Spacing="{" ".join(repr(float(s)) for s in step)}">\n{_field(cube.told)}<Piece Extent="{extent}">\n'
        f'<PointData Scalars="{cube.name}"><DataArray type="{kind}" Name="{cube.name}" format="appended" offset="0"/>'
        '</PointData><CellData/>\n</Piece>\n</ImageData>\n<AppendedData encoding="raw">\n_'
    )
    with path.open("wb") as stream:
        stream.write(head.encode())
        stream.write(np.uint64(data.nbytes).astype("<u8").tobytes())
        for plane in data:
            stream.write(np.ascontiguousarray(plane, dtype=data.dtype.newbyteorder("<")).tobytes())
        stream.write(b"\n</AppendedData>\n</VTKFile>\n")


def _field(text: str) -> str:
    """VTK's field data with one text in it; its letters are numbers in XML."""
    if not text:
        return ""
    letters = " ".join(map(str, text.encode("utf-8")))
    return (
        '<FieldData>\n<Array type="String" Name="recon" NumberOfTuples="1" format="ascii">'
        f"{letters} 0</Array>\n</FieldData>\n"
    )


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


def read_stack(path: Path, element: str | None = None) -> StackFile:
    values, size = read_vti(path)
    return StackFile(values, edges(size, size))
