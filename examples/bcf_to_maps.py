"""Make element maps from a folder of Bruker spectrum images: ``python bcf_to_maps.py FOLDER OUT --bin 2``.

Each file is named by its tilt, such as ``-40.bcf``. For each line, the counts of a window about its
energy are summed per pixel, one tilt in memory at a time; nothing is subtracted. Writes one TIFF stack
``(tilt, y, x)`` per element, ``tilts.rawtlt`` and a job file. Raw import proper is a later feature.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from rsciio.bruker import file_reader

# energy of the line and half the width of its window, keV
LINES = {"Fe": (6.404, 0.085), "Si": (1.740, 0.055), "O": (0.525, 0.045)}


def main() -> None:
    """Read, sum, bin, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bin", type=int, default=2, help="pixels summed along each edge")
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.bcf"), key=lambda p: float(p.stem))
    if not files:
        parser.error(f"{args.folder} holds no .bcf files")
    maps: dict[str, list[np.ndarray]] = {name: [] for name in LINES}
    pixel = 0.0
    for path in files:
        spectrum = next(s for s in file_reader(str(path)) if s["data"].ndim == 3)
        axes = {a["name"]: a for a in spectrum["axes"]}
        energy = axes["Energy"]
        scale = energy["scale"] * (1e-3 if energy["units"] == "eV" else 1)
        offset = energy["offset"] * (1e-3 if energy["units"] == "eV" else 1)
        data = spectrum["data"]  # (y, x, channel), small integers: sums need a wider type
        pixel = axes["width"]["scale"] * {"nm": 1.0, "µm": 1e3, "um": 1e3}[axes["width"]["units"]]
        for name, (centre, half) in LINES.items():
            first, last = (round((e - offset) / scale) for e in (centre - half, centre + half))
            image = data[..., first : last + 1].sum(axis=-1, dtype=np.uint32)
            ny, nx = (n // args.bin for n in image.shape)
            cut = image[: ny * args.bin, : nx * args.bin].reshape(ny, args.bin, nx, args.bin)
            maps[name].append(cut.sum(axis=(1, 3)).astype(np.float32))
    args.out.mkdir(parents=True, exist_ok=True)
    for name, stack in maps.items():
        tifffile.imwrite(args.out / f"{name}.tif", np.stack(stack), photometric="minisblack")
    (args.out / "tilts.rawtlt").write_text("".join(f"{float(p.stem):g}\n" for p in files), encoding="utf-8")
    listed = ", ".join(f'{n} = "{n}.tif"' for n in maps)
    (args.out / "job.toml").write_text(
        f'[input]\nmaps = {{ {listed} }}\ntilts = "tilts.rawtlt"\npixel_size_nm = {pixel * args.bin:.4f}\n',
        encoding="utf-8",
    )
    print(f"{len(files)} tilts, {', '.join(maps)}, pixels of {pixel * args.bin:.2f} nm: {args.out / 'job.toml'}")


if __name__ == "__main__":
    main()
