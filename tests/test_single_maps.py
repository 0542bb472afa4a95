"""Single maps as programs of microscopes, spreadsheets and ImageJ export them: the right map, or the right refusal."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from files import fails

from recon.errors import InputError
from recon.io.stacks import load_stack

MAP = np.random.default_rng(0).poisson(5.0, (6, 9))


def rows(separator, end="", form="{}"):
    return "\n".join(separator.join(form.format(v) for v in row) + end for row in MAP)


def listed(separator, heads="", columns=("x", "y")):
    places = {"x": lambda y, x: 0.5 * x, "y": lambda y, x: 0.5 * y}
    lines = [[*(places[c](y, x) for c in columns), MAP[y, x]] for y in range(6) for x in range(9)]
    return heads + "\n".join(separator.join(map(str, line)) for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "Map Data 1,Co K\u03b11\nWidth,9\nHeight,6\n\n" + rows(","),
        rows(",", ","),
        rows(",").replace("\n", "\r\n") + "\r\n",
        rows(",").replace("\n", "\r"),
        "Co K\u03b11\n" + rows("\t", "\t"),
        rows(";", "", "{},00"),
        rows(";", ";"),
        rows(",", "", '"{}"'),
        "A long heading, with commas; and a semicolon, which is longer than any of the rows of numbers\n" + rows("\t"),
        ",".join(["", *map(str, range(9))]) + "\n" + "\n".join(f"{i},{r}" for i, r in enumerate(rows(",").split("\n"))),
        rows(",").replace("\n", "\n\n"),
        rows("", "", "{:5d}"),
        "# Co map\n# 9 x 6\n" + rows(" "),
        listed(",", "X,Y,Co\n"),
        listed("\t", '"Y (um)"\t"X (um)"\t"counts"\n', ("y", "x")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_the_map(tmp_path, text, encoding):
    (tmp_path / "Co.csv").write_bytes(text.encode(encoding))
    np.testing.assert_array_equal(load_stack(tmp_path / "Co.csv", image=True).values[0], MAP)


@pytest.mark.parametrize("missing", ["NaN", "nan", "inf"])
def test_a_value_that_is_none_takes_no_row_away(tmp_path, missing):
    """In the first row, too, which is no heading for that."""
    (tmp_path / "Co.csv").write_text(rows(",").replace("3", missing, 1))
    values = load_stack(tmp_path / "Co.csv", image=True).values[0]
    assert values.shape == MAP.shape
    assert not np.isfinite(values[0, 0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (rows(",").replace("3", "", 1), "between its numbers"),
        (rows(",").replace("3", "-", 1), "has '-' between its numbers"),
        (rows(",") + "\nTotal,301\n", ":7: 'Total,301' is no row of numbers"),
        ("9 6\n" + rows(" "), ":2: this row has 9 numbers, the first has 2"),
        ("Co\n" + rows(",") + "\nZn\n" + rows(","), ":8: 'Zn' is no row of numbers"),
        (listed(","), "lists pixels, two places and a value a line, and no heading says which is x"),
    ],
)
def test_what_is_refused(tmp_path, text, says):
    (tmp_path / "Co.csv").write_text(text)
    fails(InputError, load_stack, tmp_path / "Co.csv", image=True, says=(says,))


def test_counts_that_jpeg_has_changed_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "Co.tif", np.tile(MAP, (4, 4)).astype(np.uint8), compression="jpeg")
    fails(InputError, load_stack, tmp_path / "Co.tif", image=True, says=("JPEG", "changes counts"))


def test_pixels_of_a_tiff_of_velox(tmp_path):
    """Its resolution tag is a printer's; the scan's pixels stand in a tag of their own, in m."""
    said = "[Scan]\r\nPixelWidth=2.5e-09\r\nPixelHeight=2.5e-09\r\n".encode("ascii") + b"\0"
    extra = [(34682, 2, len(said), said, True)]
    tifffile.imwrite(tmp_path / "Co.tif", MAP.astype(np.uint16), resolution=(72, 72), extratags=extra)
    found = load_stack(tmp_path / "Co.tif", image=True)
    np.testing.assert_allclose(found.pixel_nm(tmp_path / "Co.tif"), 2.5)
