"""One file for each map, as microscopes' programs export them: text, TIFF of any compression, pictures."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from files import fails
from files import silent as silent  # a fixture
from PIL import Image
from stack_files import MAPS, OTHER, write_hspy

import recon
from recon.errors import InputError, JobError
from recon.io.stacks import load_stack
from recon.job.file import load_job
from recon.job.inputs import input_hashes, read_job

TILTS = (-40, -20, 0, 15, 30)
NAMES = ("Fe_m40", "Fe_m20", "Fe_0", "Fe_p15", "Fe_p30")


def text(separator, decimal=".", head="", end="", numbered=False, scale=1):
    def write(path, image):
        rows = [[f"{v / scale:g}".replace(".", decimal) for v in row] for row in image]
        if numbered:
            rows = [[str(i), *row] for i, row in enumerate(rows, 1)]
            rows.insert(0, ["", *map(str, range(1, image.shape[1] + 1))] if numbered == "words" else
                        list(map(str, range(image.shape[1] + 1))))  # fmt: skip
        path.write_text(head + "".join(separator.join(r) + end + "\n" for r in rows))

    return write


def tif(**options):
    def write(path, image):
        tifffile.imwrite(path, image, photometric="minisblack", **options)

    return write


def lzw(path, image):
    Image.fromarray(image).save(path, compression="tiff_lzw")


def npy(path, image):
    np.save(path, image)


EXPORTS = {
    "commas.csv": text(","),
    "semicolons.csv": text(";"),
    "semicolons and decimal commas.csv": text(";", ",", scale=2),
    "commas at the end.csv": text(",", end=","),
    "tabs.txt": text("\t"),
    "blanks.txt": text("  "),
    "a heading.csv": text(",", head="Fe K series\nmap, counts\n\n"),
    "pixels numbered.txt": text("\t", numbered="numbers"),
    "rows and columns numbered.txt": text("\t", numbered="words"),
    "byte order mark.csv": text(",", head="\ufeff"),
    "plain.tif": tif(),
    "imagej.tif": lambda p, a: tifffile.imwrite(p, a, imagej=True),
    "ome.tif": lambda p, a: tifffile.imwrite(p, a, ome=True),
    "float.tif": lambda p, a: tifffile.imwrite(p, a.astype(np.float32)),
    "lzw.tif": lzw,
    "deflate.tif": tif(compression="zlib"),
    "packbits.tif": tif(compression="packbits"),
    "zstd.tif": tif(compression="zstd"),
    "lzw with predictor.tif": tif(compression="lzw", predictor=True),
    "tiled.tif": tif(tile=(16, 16)),
    "big-endian.tif": tif(byteorder=">"),
    "bigtiff.tif": tif(bigtiff=True),
    "grey.png": lambda p, a: Image.fromarray(a.astype(np.uint8)).save(p),
    "16 bits.png": lambda p, a: Image.fromarray(a).save(p),
    "array.npy": npy,
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_of_single_maps(tmp_path, kind):
    suffix = "." + kind.rpartition(".")[2]
    for name, image in zip(NAMES, MAPS, strict=True):
        EXPORTS[kind](tmp_path / (name + suffix), image)
    series = recon.read({"Fe": f"Fe_*{suffix}"}, pixel_size_nm=2.0, base_dir=tmp_path)
    scale = 2 if "decimal" in kind else 1
    np.testing.assert_array_equal(series.counts[0] * scale, MAPS)
    assert series.tilts_deg.tolist() == list(TILTS)
    assert series.origins[0] == tuple(n + suffix for n in NAMES)
    assert "tilts from the files' names" in series.history[-1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1,2,3\n4,5\n", ":2: this row has 2 numbers, the first has 3"),
        ("1,2,3\n4,x,6\n", ":2: '4,x,6' is no row of numbers"),
        ("nothing\nhere\n", "no rows of numbers"),
        ("1,2,none\n", "no rows of numbers"),
    ],
)
def test_text_that_is_no_map(tmp_path, content, says):
    (tmp_path / "a.csv").write_text(content)
    fails(InputError, load_stack, tmp_path / "a.csv", image=True, says=says)


def test_colour_pictures_are_no_maps(tmp_path):
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(tmp_path / "a.png")
    fails(InputError, load_stack, tmp_path / "a.png", image=True, says="colour picture")


@pytest.fixture
def folder(tmp_path):
    """In a folder whose name looks like a pattern."""
    inside = tmp_path / "[2024] series*"
    inside.mkdir()
    for name, image in zip(NAMES, MAPS, strict=True):
        tifffile.imwrite(inside / f"{name}.tif", image)
    return inside


def test_patterns_lists_and_single_paths(folder):
    files = [folder / f"{n}.tif" for n in NAMES]
    by_pattern = recon.read({"Fe": "Fe_*.tif"}, pixel_size_nm=2.0, base_dir=folder)
    absolute = recon.read({"Fe": str(folder / "Fe_*.tif")}, pixel_size_nm=2.0)
    listed = recon.read({"Fe": files[::-1]}, pixel_size_nm=2.0)
    assert absolute.counts.tobytes() == by_pattern.counts.tobytes() == listed.counts[:, ::-1].tobytes()
    assert listed.tilts_deg.tolist() == list(TILTS[::-1])
    alone = recon.read(folder / "Fe_*.tif", pixel_size_nm=2.0)
    assert alone.elements == ("Fe",)
    tifffile.imwrite(folder / "Co.ome.tif", MAPS, ome=True)
    assert recon.read(str(folder / "Co.ome.tif"), TILTS, 2.0).elements == ("Co",)
    fails(InputError, recon.read, {"Fe": "Zn_*.tif"}, base_dir=folder, says="no file matches Zn_*.tif")


def test_given_tilts_meet_the_names(folder):
    """A range goes from the lowest tilt to the highest, whatever the alphabet says; another order is refused."""
    read = {"maps": {"Fe": "Fe_*.tif"}, "pixel_size_nm": 2.0, "base_dir": folder}
    series = recon.read(tilts=TILTS, **read)
    assert (series.tilts_deg.tolist(), series.remarks) == (list(TILTS), ())
    fails(InputError, recon.read, tilts=sorted(TILTS, key=abs), **read, says="another order")
    shifted = recon.read(tilts=np.array(TILTS) + 4, **read)
    assert "Fe_m40.tif is at -36 degrees by the tilts given and at -40 by the files' names" in shifted.remarks[0]


def test_names_without_tilts(tmp_path):
    for i, image in enumerate(MAPS, 8):
        tifffile.imwrite(tmp_path / f"Fe_{i}.tif", image)
    fails(InputError, recon.read, {"Fe": "Fe_*.tif"}, None, 2.0, base_dir=tmp_path, says=("no tilts", "Fe_8"))
    series = recon.read({"Fe": "Fe_*.tif"}, TILTS, 2.0, base_dir=tmp_path)
    np.testing.assert_array_equal(series.counts[0], MAPS)  # 8, 9, 10: as people count


def test_files_that_do_not_fit_together(tmp_path):
    for name, image in zip(NAMES, MAPS, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, imagej=True, resolution=(0.5, 0.5), metadata={"unit": "nm"})
    read = {"maps": {"Fe": "Fe_*.tif"}, "base_dir": tmp_path}
    assert recon.read(**read).pixel_size_nm == 2.0
    files = [tmp_path / f"{n}.tif" for n in NAMES]
    fails(InputError, recon.read, {"Fe": [*files, files[0]]}, says="Fe_m40.tif is listed more than once")
    tifffile.imwrite(files[1], MAPS[1], imagej=True, resolution=(0.4, 0.4), metadata={"unit": "nm"})
    fails(InputError, recon.read, **read, says=(".tif has 2 nm", "Fe_m20.tif has 2.5 nm"))
    tifffile.imwrite(files[1], MAPS[1, 1:])
    fails(InputError, recon.read, **read, says=("Fe_m20.tif", "6 x 6", "7 x 6"))
    tifffile.imwrite(files[1], MAPS[:2])
    fails(InputError, recon.read, **read, says=("Fe_m20.tif holds 2 maps", "one map"))


def test_stages_of_single_files(tmp_path):
    """HyperSpy's single maps carry the stage's tilt; their names say another."""
    for name, image, t in zip(NAMES, MAPS, (-39.5, -20, 0.2, 15, 38), strict=True):
        write_hspy(tmp_path / f"{name}.hspy", image, "yx", stage=t)
    series = recon.read({"Co": "Fe_*.hspy"}, base_dir=tmp_path)
    assert series.tilts_deg.tolist() == [-39.5, -20, 0.2, 15, 38]
    assert "Fe_p30.hspy is at 38 degrees by the files and at 30 by their names" in series.remarks[0]


def test_a_job_with_patterns(folder):
    for name, image in zip(NAMES, OTHER, strict=True):
        tifffile.imwrite(folder / f"{name.replace('Fe', 'Zn')}.tif", image)
    job = folder / "job.toml"
    listed = ", ".join(f'"{n.replace("Fe", "Zn")}.tif"' for n in NAMES)
    job.write_text(f'[input]\nmaps = {{ Fe = "Fe_*.tif", Zn = [{listed}] }}\npixel_size_nm = 2.0\n')
    read = load_job(job)
    series = read_job(read)
    np.testing.assert_array_equal(series.counts, [MAPS, OTHER])
    assert series.tilts_deg.tolist() == list(TILTS)
    assert len(input_hashes(read)) == 10
    job.write_text('[input]\nmaps = { Fe = "Co_*.tif" }\npixel_size_nm = 2.0\n')
    fails(JobError, load_job, job, says=("job.toml:2: input.maps.Fe", "Co_*.tif matches no file"))
