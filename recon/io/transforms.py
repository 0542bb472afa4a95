"""Alignments of other programs: IMOD's transforms and lists of shifts, in and out.

Coordinates
    ``x`` is a column and ``y`` a row, both from the centre of the frame, as stored in the file of the maps; so
    is IMOD's y in an MRC file, whose first row it shows at the bottom. Programs that turn an image over
    while they read it, as IMOD does with a TIFF, count y from the last row up: then `upside_down` is True.
    ``u`` and ``v`` are column and row of our series, whose tilt axis is vertical: rows and columns of the
    recorded maps are swapped where their tilt axis is x (see `recon.io.read`).
Transforms
    A line ``A11 A12 A21 A22 DX DY`` of an ``.xf`` or ``.prexg`` takes a recorded map to the aligned one about
    the centres of both: ``x' = A11 x + A12 y + DX``, ``y' = A21 x + A22 y + DY`` (IMOD's xf2rotmagstr(1)). In
    the aligned map of an ``.xf`` the tilt axis is vertical and through the centre; a ``.prexg`` only shifts. A
    ``.prexf`` takes each map to the one before it.
Shifts
    ``[y, x]`` is what is added to a map's coordinates to align it, as SciPy's `shift`, scikit-image and ETSpy have it.
Handedness
    Which end of the axis is up is not taken from a file: 180 degrees more would mirror the volume, and the
    signs of the tilts say already what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.files import read_text
from recon.series.alignment import Alignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

XF_TYPES = (".xf", ".prexg", ".prexf")
# what one rotation for all tilts leaves out of an .xf: told of, and refused
ROTATION_LIMITS, SCALE_LIMITS = (0.2, 3.0), (0.005, 0.05)  # degrees; relative
_PAIRS = (("y", "x"), ("shifts_y", "shifts_x"), ("shift_y", "shift_x"), ("yshift", "xshift"), ("dy", "dx"))


def to_series(tilt_axis: str = "y", upside_down: bool = False) -> NDArray[np.float64]:
    """The matrix that takes a file's ``(x, y)`` to our ``(u, v)``."""
    turn = np.diag([1.0, -1.0 if upside_down else 1.0])
    return turn[::-1] if tilt_axis == "x" else turn


# ---------------------------------------------------------------- IMOD


def read_xf(path: Path) -> NDArray[np.float64]:
    """Transforms ``(tilt, 6)`` of an ``.xf``, ``.prexg`` or ``.prexf``, as they stand in the file.

    Raises:
        InputError: a line is not six numbers, or turns the map over or squeezes it flat.
    """
    rows = []
    for number, line in enumerate(read_text(path, "give the file that the other program wrote").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != 6 or not np.isfinite(row).all():
            raise InputError(
                f"{path}:{number}: {line.strip()[:40]!r} is not six numbers; a line is A11 A12 A21 A22 DX DY, one for "
                "each tilt"
            )
        if row[0] * row[3] - row[1] * row[2] < 0.1:
            raise InputError(f"{path}:{number}: this transform mirrors or flattens the map; only rotate and shift it")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no transforms; a line is A11 A12 A21 A22 DX DY, one for each tilt")
    return np.array(rows)


def from_xf(path: Path, tilts_deg: NDArray[np.float64], tilt_axis: str, upside_down: bool) -> Alignment:
    """The alignment of an IMOD file; see the module for what its numbers mean."""
    rows = read_xf(path)
    check_number(path, len(rows), len(tilts_deg))
    matrices, moves = rows[:, :4].reshape(-1, 2, 2), rows[:, 4:]
    kind = path.suffix.lower()
    if kind == ".prexf":
        matrices, moves = _chained(matrices, moves, int(np.argmin(np.abs(tilts_deg))))
    inverse = np.linalg.inv(matrices)
    turn = to_series(tilt_axis, upside_down)
    centre = -np.einsum("tij,tj->ti", inverse, moves) @ turn.T  # what lies at the aligned centre, (u, v)
    doubts = []
    if kind == ".xf":
        axis = inverse[:, :, 1] @ turn.T
        angles = np.degrees(np.arctan(-axis[:, 0] / np.where(axis[:, 1] == 0, 1e-12, axis[:, 1])))
        rotation = float(np.median(angles))
        if abs(rotation) > 45:
            other = "y" if tilt_axis == "x" else "x"
            raise InputError(
                f"{path} has the tilt axis {abs(rotation):.0f} degrees from the maps' {tilt_axis} direction; set "
                f"tilt_axis = '{other}'"
            )
        doubts += _left_out(path, matrices, angles - rotation)
    else:
        rotation = 0.0
        doubts += _left_out(path, matrices, np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])))
        doubts.append(f"{path.name} says nothing of the tilt axis; its rotation and offset are taken as 0")
    return _alignment(path, centre[:, ::-1], rotation, doubts)


def _chained(
    matrices: NDArray[np.float64], moves: NDArray[np.float64], middle: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Transforms to the preceding map as transforms to the map `middle`."""
    full = np.tile(np.eye(3), (len(matrices), 1, 1))
    full[:, :2, :2], full[:, :2, 2] = matrices, moves
    for i in range(1, len(full)):
        full[i] = full[i - 1] @ full[i]
    full = np.linalg.inv(full[middle]) @ full
    return full[:, :2, :2], full[:, :2, 2]


def _left_out(path: Path, matrices: NDArray[np.float64], angles: NDArray[np.float64]) -> list[str]:
    """What the model of one rotation and a shift for each tilt does not hold."""
    turned = int(np.argmax(np.abs(angles)))
    stretch = np.abs(np.linalg.svd(matrices, compute_uv=False) - 1).max(axis=1)
    scaled = int(np.argmax(stretch))
    if abs(angles[turned]) > ROTATION_LIMITS[1]:
        raise InputError(
            f"{path}: transform {turned + 1} turns its map by {angles[turned]:+.1f} degrees against the others; one "
            "rotation serves all tilts here, so solve for one rotation (tiltalign: RotOption -1)"
        )
    if stretch[scaled] > SCALE_LIMITS[1]:
        raise InputError(
            f"{path}: transform {scaled + 1} stretches its map by {stretch[scaled]:.1%}; maps are not stretched here, "
            "so solve without magnification and distortion (tiltalign: MagOption 0)"
        )
    out = []
    if abs(angles[turned]) > ROTATION_LIMITS[0]:
        out.append(f"{path.name} turns single maps by up to {abs(angles[turned]):.1f} degrees, which was left out")
    if stretch[scaled] > SCALE_LIMITS[0]:
        out.append(f"{path.name} stretches maps by up to {stretch[scaled]:.1%}, which was left out")
    return out


def xf_rows(alignment: Alignment, tilt_axis: str = "y", upside_down: bool = False) -> NDArray[np.float64]:
    """Lines ``(tilt, 6)`` of an ``.xf`` that aligns the recorded maps with the tilt axis vertical."""
    turn = to_series(tilt_axis, upside_down)
    # IMOD turns and never mirrors: where `turn` mirrors, y of the aligned map points against our v
    upright = np.diag([1.0, np.linalg.det(turn)])
    c, s = np.cos(np.radians(alignment.rotation_deg)), np.sin(np.radians(alignment.rotation_deg))
    straighten = upright @ np.array([[c, s], [-s, c]])
    moves = -alignment.displacements[:, ::-1] @ straighten.T
    matrix = np.broadcast_to((straighten @ turn).ravel(), (len(moves), 4))
    return np.hstack([matrix, moves])


def shift_rows(alignment: Alignment, tilt_axis: str = "y", upside_down: bool = False) -> NDArray[np.float64]:
    """Shifts ``(tilt, 2)``, ``[y, x]`` to be added to the recorded maps' coordinates; the axis stays as it is."""
    turn = to_series(tilt_axis, upside_down)
    return np.asarray(-(alignment.displacements[:, ::-1] @ turn)[:, ::-1])  # turn is orthogonal


def xf_text(rows: NDArray[np.float64]) -> str:
    """The text of an ``.xf`` file, in IMOD's columns."""
    return "".join("".join(f"{a:12.7f}" for a in r[:4]) + "".join(f"{d:12.3f}" for d in r[4:]) + "\n" for r in rows)


# ---------------------------------------------------------------- lists of shifts


def from_shifts(path: Path, raw: Any, tilts_deg: NDArray[np.float64], tilt_axis: str, upside_down: bool) -> Alignment:
    """The alignment of a list of shifts, parsed from JSON.

    Accepted: a list of ``[y, x]``; an object with such a list under ``"shifts"``, or under ``"displacements"`` with
    the opposite sign (where the object lies, as HyperSpy's `estimate_shift2D` gives it); an object with lists ``"y"``
    and ``"x"`` (or ``"shifts_y"``, ``"yshift"``, ``"dy"``, ...); tomviz's operator TranslateAlign, or a state file that
    holds one.
    """
    try:
        shifts = np.array(_pairs(raw), dtype=np.float64)
        if shifts.ndim != 2 or shifts.shape[1] != 2:
            raise ValueError
    except (ValueError, TypeError) as exc:
        raise InputError(
            f"{path} holds no shifts that can be read; give a list [[y, x], ...] in pixels, an object with it under "
            "'shifts', or an alignment.json"
        ) from exc
    check_number(path, len(shifts), len(tilts_deg))
    if not np.isfinite(shifts).all():
        raise InputError(f"{path} holds values that are not finite; every shift must be a number of pixels")
    centre = -shifts[:, ::-1] @ to_series(tilt_axis, upside_down).T
    doubts = [f"{path.name} says nothing of the tilt axis; its rotation and offset are taken as 0"]
    return _alignment(path, centre[:, ::-1], 0.0, doubts)


def _pairs(raw: Any) -> Any:
    """The list of ``[y, x]`` in a parsed file, or something that is none."""
    if isinstance(raw, list):
        return raw
    if not isinstance(raw, Mapping):
        return None
    if "shifts" in raw:
        return _pairs(raw["shifts"])
    if "displacements" in raw:
        return (-np.array(raw["displacements"], dtype=np.float64)).tolist()
    for y, x in _PAIRS:
        if y in raw and x in raw:
            return np.stack([np.array(raw[y], dtype=np.float64), np.array(raw[x], dtype=np.float64)], axis=-1).tolist()
    found = _tomviz(raw)
    return None if len(found) != 1 else np.array(found[0], dtype=np.float64).reshape(-1, 2)[:, ::-1].tolist()


def _tomviz(raw: Any) -> list[Any]:
    """The offsets ``[x, y, x, y, ...]`` of every TranslateAlign in a state."""
    if isinstance(raw, Mapping):
        inner = [raw["offsets"]] if isinstance(raw.get("offsets"), list) else []
        return inner + [found for value in raw.values() for found in _tomviz(value)]
    return [found for value in raw for found in _tomviz(value)] if isinstance(raw, list) else []


# ---------------------------------------------------------------- both


def check_number(path: Path, given: int, wanted: int) -> None:
    """One line for each tilt, or an InputError."""
    if given != wanted:
        raise InputError(f"{path} aligns {given} tilts, the series has {wanted}; the numbers must agree")


def _alignment(path: Path, centre: NDArray[np.float64], rotation: float, doubts: list[str]) -> Alignment:
    offset = float(np.median(centre[:, 1]))
    return Alignment(centre - [0.0, offset], rotation, offset, f"from {path.name}", doubts=tuple(doubts))
