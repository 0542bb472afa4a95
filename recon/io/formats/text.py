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

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


def read_text_map(path: Path, element: str | None = None) -> StackFile:
    """A map ``(y, x)`` from columns separated by tabs, semicolons, commas or blanks.

    Lines of text before the numbers are headings. A comma is a decimal mark where something else separates columns.
    A first row and column that only number the pixels are left out, with a note. Three columns with the headings x, y
    and any third are a list of pixels.

    Raises:
        InputError: something between the numbers is none, or rows differ in length.
    """
    lines = re.split(r"\r\n|\r|\n", _decoded(path))
    body = [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]
    separator = _separator([line for _, line in body])
    rows: list[list[float]] = []
    heading: list[str] = []
    headed: list[str] = []  # the last heading's words
    for number, line in body:
        words = [w.strip().strip('"') for w in (line.split(separator) if separator else line.split())]
        while len(words) > 1 and not words[-1]:  # a separator at the end of each line
            words.pop()
        if not all(_NUMBER.fullmatch(w) for w in words):
            if rows:
                raise InputError(
                    f"{path}:{number}: {line[:40]!r} is no row of numbers; export the map as plain numbers"
                )
            heading.append(line)
            headed = words
            continue
        rows.append([float(w.replace(",", ".")) for w in words])
        if len(rows[-1]) != len(rows[0]):
            raise InputError(
                f"{path}:{number}: this row has {len(rows[-1])} numbers, the first has {len(rows[0])}; export it again"
            )
    if not rows:
        raise InputError(f"{path} holds no rows of numbers; a map is a row of pixels a line")
    values = np.array(rows)
    _check_heading(path, headed, values.shape[1])
    if _is_list(values):
        values = _from_list(path, values, [w.casefold() for w in headed])
    values, notes = _without_numbers(values, heading)
    whole = np.isfinite(values).all() and (values == np.round(values)).all() and np.abs(values).max(initial=0) < 2**53
    return StackFile(values.astype(np.int64) if whole else values, None, None, notes)


def _check_heading(path: Path, words: list[str], columns: int) -> None:
    """Raise InputError if the last heading may be a row of the map in which a value is missing or misspelt."""
    numbers = [float(w.replace(",", ".")) for w in words[1:] if _NUMBER.fullmatch(w)]
    if len(words) != columns or len(numbers) < 0.5 * columns:
        return
    if len(numbers) == columns - 1 and (np.diff(numbers) == 1).all():
        return  # it numbers the columns
    odd = next((w for w in words if not _NUMBER.fullmatch(w)), "")
    raise InputError(f"{path}: the line before the first row has {odd!r} between its numbers; export the map again")


def _is_list(values: NDArray[np.float64]) -> bool:
    """Whether each line is a pixel: two columns are the places of a full grid."""
    if values.shape[1] != 3 or len(values) < 9 or not np.isfinite(values[:, :2]).all():
        return False
    first, second = np.unique(values[:, 0]), np.unique(values[:, 1])
    pairs = np.unique(values[:, :2], axis=0)
    return min(first.size, second.size) > 1 and first.size * second.size == len(values) == len(pairs)


def _from_list(path: Path, values: NDArray[np.float64], heads: list[str]) -> NDArray[np.float64]:
    """The map of a list of pixels, whose headings say which column is x."""
    named = [h[:1] for h in heads[:2]]
    if sorted(named) != ["x", "y"]:
        raise InputError(
            f"{path} lists pixels, two places and a value a line, and no heading says which is x; add one, such as "
            "x,y,counts"
        )
    x, y = (values[:, named.index(axis)] for axis in "xy")
    order = np.lexsort((x, y))
    return np.asarray(values[order, 2].reshape(np.unique(y).size, np.unique(x).size))


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
    of_numbers = [line for line in lines if sum(c.isalpha() for c in line) < 0.2 * len(line)]
    sample = max(of_numbers or lines, key=len, default="")
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
