"""Single maps as text, a row of pixels a line, as microscopes' programs and ImageJ export them; and as PNG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.io.formats.axes import StackFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def read_text_map(path: Path, element: str | None = None) -> StackFile:
    """A map ``(y, x)`` from columns separated by tabs, semicolons, commas or blanks.

    Lines of text before the numbers are headings. A comma is a decimal mark where something else separates columns.
    A first row and column that only number the pixels are left out, with a note.

    Raises:
        InputError: something between the numbers is none, or rows differ in length.
    """
    lines = [line.rstrip("\r\n") for line in _decoded(path).split("\n")]
    body = [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]
    separator = _separator([line for _, line in body])
    rows: list[list[float]] = []
    heading: list[str] = []
    for number, line in body:
        words = [w.strip() for w in (line.split(separator) if separator else line.split())]
        while len(words) > 1 and not words[-1]:  # a separator at the end of each line
            words.pop()
        if not all(_NUMBER.fullmatch(w) for w in words):
            if rows:
                raise InputError(
                    f"{path}:{number}: {line[:40]!r} is no row of numbers; export the map as plain numbers"
                )
            heading.append(line)
            continue
        rows.append([float(w.replace(",", ".")) for w in words])
        if len(rows[-1]) != len(rows[0]):
            raise InputError(
                f"{path}:{number}: this row has {len(rows[-1])} numbers, the first has {len(rows[0])}; export it again"
            )
    if not rows:
        raise InputError(f"{path} holds no rows of numbers; a map is a row of pixels a line")
    values = np.array(rows)
    values, notes = _without_numbers(values, heading)
    whole = (values == np.round(values)).all() and np.abs(values).max(initial=0) < 2**53
    return StackFile(values.astype(np.int64) if whole else values, None, None, notes)


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    for encoding in ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "latin-1"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path} is not text; export the map as numbers")


def _separator(lines: list[str]) -> str:
    """What stands between columns; "" for blanks."""
    sample = lines[len(lines) // 2] if lines else ""
    if "\t" in sample or ";" in sample:
        return "\t" if "\t" in sample else ";"
    return "," if "," in sample and not re.search(r"\d\s+\d", sample) else ""  # "1,5 2,5" is two decimals


def _without_numbers(values: NDArray[np.float64], heading: list[str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The map without a first row and column of pixel numbers."""
    ny, nx = values.shape
    if min(ny, nx) < 3:
        return values, ()
    row, column = values[0, 1:], values[1:, 0]
    counted = all((np.diff(v) == 1).all() and v[0] in (0, 1) for v in (row, column))
    if counted:
        return values[1:, 1:], ("first row and column number the pixels and are left out",)
    column = values[:, 0]
    words = [w for line in heading[-1:] for w in re.split(r"[\t;,\s]+", line.strip()) if w]
    if heading and (np.diff(column) == 1).all() and column[0] in (0, 1) and len(words) in (nx, nx - 1):
        return values[:, 1:], ("the first column numbers the rows and is left out",)
    return values, ()


def read_png(path: Path, element: str | None = None) -> StackFile:
    """A grey PNG ``(y, x)``.

    Raises:
        InputError: it is a colour picture, in which counts are lost.
    """
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode not in ("1", "L", "I", "I;16", "I;16B", "F"):
            raise InputError(f"{path} is a colour picture; export the counts as a grey-scale TIFF")
        return StackFile(np.asarray(picture))
