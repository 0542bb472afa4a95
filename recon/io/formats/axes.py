"""A stack of maps put in order by what its file says of its axes: names, units, positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.formats.common import SAME_SIZE, tidy, unit_nm
from recon.io.formats.digital_micrograph import tilts_of
from recon.io.formats.metadata import mapped, value_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = ("y", "height", "row", "rows")
_COLUMNS = ("x", "width", "column", "columns", "col")
_TILTS = ("tilt", "tilts", "angle", "angles", "alpha", "tilt_angle", "tilt angle", "tiltangle", "theta")
_TO_DEGREES = {
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "\u00b0", "\u00ba"), 1.0),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), math.degrees(1)),
    **dict.fromkeys(("mrad", "mrads"), math.degrees(1e-3)),
}


@dataclass(frozen=True, eq=False)
class StackFile:
    """What one file holds.

    Attributes:
        values: ``(tilt, y, x)``, dtype as stored.
        edges_nm: of a pixel, ``(y, x)``, or None where the file does not say.
        tilts_deg: ``(tilt,)`` degrees, or None where the file does not say.
        notes: what was done to the stored values to get these, one line each.
        name: what the file calls the data, or "".
    """

    values: NDArray[Any]
    edges_nm: tuple[float, float] | None = None
    tilts_deg: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    name: str = ""

    def pixel_nm(self, path: str | Path) -> float | None:
        """The edge of a pixel in nm, or None; `path` is for messages.

        Raises:
            InputError: pixels are not square.
        """
        if self.edges_nm is None:
            return None
        dy, dx = self.edges_nm
        if abs(dy - dx) > SAME_SIZE * min(dy, dx):
            raise InputError(
                f"{path} has pixels of {dy:g} x {dx:g} nm (y, x), which are not square; resample the maps to square "
                "pixels, or correct the sizes in the file"
            )
        return dx


SMALLEST_NM, LARGEST_NM = 1e-4, 1e5  # a hundredth of an atom, a tenth of a millimetre: beyond, a unit is wrong


def check_size(size_nm: float, said: str) -> None:
    """Raise InputError for a pixel that no microscope has; `said` begins the message, as in ``"Co.tif says"``."""
    if not SMALLEST_NM <= size_nm <= LARGEST_NM:
        raise InputError(
            f"{said} {size_nm:g} nm wide, which no microscope records; correct the unit (sizes here are in nm, from "
            f"{SMALLEST_NM:g} to {LARGEST_NM:g})"
        )


def edges(dy: float | None, dx: float | None) -> tuple[float, float] | None:
    """``(y, x)`` edges of a pixel in nm if both are known."""
    ok = dy is not None and dx is not None and np.isfinite([dy, dx]).all() and dy != 0 and dx != 0
    return (tidy(abs(dy)), tidy(abs(dx))) if ok else None  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an array: `positions` along it in `unit`, or only their `scale`; 0 where not known."""

    name: str = ""
    unit: str = ""
    scale: float = 0.0
    positions: NDArray[np.float64] | None = None

    @property
    def angle(self) -> bool:
        return self.unit.strip().casefold() in _TO_DEGREES

    @property
    def nm(self) -> float | None:
        """Step in nm."""
        return abs(self.scale) * unit_nm(self.unit) or None

    def is_called(self, names: Sequence[str]) -> bool:
        return self.name.strip().casefold() in names

    def degrees(self) -> NDArray[np.float64] | None:
        """Positions as tilts; None where they may be mere numbers of images."""
        if self.positions is None:
            return None
        factor = _TO_DEGREES.get(self.unit.strip().casefold())
        if factor is None:
            numbered = np.allclose(np.diff(self.positions), 1.0)
            if numbered or not self.is_called(_TILTS) or unit_nm(self.unit):
                return None
        return np.asarray(np.round(self.positions * (factor or 1.0), 4), dtype=np.float64)


def arranged(values: NDArray[Any], axes: Sequence[Axis], path: str | Path = "", name: str = "") -> StackFile:
    """A three-dimensional array as ``(tilt, y, x)`` by the names and units of its axes.

    An axis in degrees or radians, or called tilt or angle, is the first; x and y are put in order where both are
    named; nameless axes stay as they are stored.

    Raises:
        InputError: more than one axis is an angle, or two axes bear one name.
    """
    axes = [a for a, n in zip(axes, values.shape, strict=True) if n > 1 or values.ndim <= 3]
    if values.ndim > 3:
        values = values.reshape([n for n in values.shape if n > 1])
    if values.ndim == 2:
        order = _plane(axes, (0, 1))
        return StackFile(values.transpose(order), edges(axes[order[0]].nm, axes[order[1]].nm), None, (), name)
    if values.ndim != 3:
        return StackFile(values, name=name)
    angles = [i for i, a in enumerate(axes) if a.angle] or [i for i, a in enumerate(axes) if a.is_called(_TILTS)]
    if len(angles) > 1:
        raise InputError(f"{path} has {len(angles)} axes of angles; a stack of maps is (tilt, y, x)")
    for names in (_ROWS, _COLUMNS):
        if sum(a.is_called(names) for a in axes) > 1:
            raise InputError(f"{path} calls two axes {names[0]}; name them tilt, y and x, or export it as TIFF")
    if angles:
        first = angles[0]
    else:
        others = [i for i, a in enumerate(axes) if not a.is_called(_ROWS) and not a.is_called(_COLUMNS)]
        first = others[0] if len(others) == 1 else 0
    y, x = _plane(axes, [i for i in range(3) if i != first])
    notes: tuple[str, ...] = ()
    if (first, y, x) != (0, 1, 2):
        told = ", ".join(a.name.strip() or "?" for a in axes)
        notes = (f"axes ({told}) put in the order (tilt, y, x)",)
    values = values.transpose(first, y, x)
    tilts = axes[first].degrees()
    if tilts is not None and (tilts.size != len(values) or np.unique(tilts).size < tilts.size):
        tilts = None
    return StackFile(values, edges(axes[y].nm, axes[x].nm), tilts, notes, name)


def _plane(axes: Sequence[Axis], pair: Sequence[int]) -> tuple[int, int]:
    """The axes of rows and columns among two."""
    a, b = pair
    swapped = axes[a].is_called(_COLUMNS) and not axes[b].is_called(_COLUMNS)
    swapped = swapped or (axes[b].is_called(_ROWS) and not axes[a].is_called(_ROWS))
    return (b, a) if swapped else (a, b)


def of_signal(signal: dict[str, Any], path: str | Path) -> StackFile:
    """A stack from one of rosettasciio's dictionaries, or of the same form."""
    meta = signal.get("metadata") or {}
    title = str((meta.get("General") or {}).get("title") or "")
    values = np.asarray(signal["data"])
    axes = [_axis(a, n) for a, n in zip(signal["axes"], values.shape, strict=True)]
    found = arranged(values, axes, path, title)
    tilts = _own_tilts(signal, len(found.values) if found.values.ndim == 3 else 1)
    return found if tilts is None else replace(found, tilts_deg=tilts)


def _axis(axis: dict[str, Any], size: int) -> Axis:
    unit = axis.get("units")
    unit = unit if isinstance(unit, str) else ""
    name = axis.get("name")
    name = name if isinstance(name, str) else ""
    stored = axis.get("axis")  # of an axis that is not uniform
    if stored is not None and np.size(stored) == size:
        positions = np.asarray(stored, dtype=np.float64).ravel()
        step = float(positions[1] - positions[0]) if size > 1 else 0.0
        even = size > 1 and np.allclose(np.diff(positions), step, rtol=1e-3)
        return Axis(name, unit, step if even else 0.0, positions)
    scale, offset = float(axis.get("scale") or 0), float(axis.get("offset") or 0)
    positions = np.asarray(offset + scale * np.arange(size), dtype=np.float64)
    return Axis(name, unit, scale, positions if scale else None)


def _own_tilts(signal: dict[str, Any], n: int) -> NDArray[np.float64] | None:
    """Tilts that a signal holds beside its axes: recon's, ETSpy's, those of DM's tags, the stage's of a single map."""
    stored: Any = (signal.get("original_metadata") or {}).get("recon") or {}
    meta = signal.get("metadata") or {}
    tomography: Any = meta.get("Tomography") or {}
    candidates = [stored.get("tilts_deg")]
    candidates += [tomography.get(k) for k in ("tilts", "_sig_tilts", "_tilts")] if hasattr(tomography, "get") else []
    if n == 1:
        stage = value_at(mapped(signal), "Acquisition_instrument.TEM.Stage.tilt_alpha")
        candidates.append(None if stage is None else [stage])
    candidates.append(tilts_of(signal, n))
    for values in candidates:
        values = values.get("data") if isinstance(values, dict) else values
        try:
            tilts = np.asarray(values, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            continue
        if tilts.size == n and np.isfinite(tilts).all() and np.unique(tilts).size == n:
            return tilts
    return None
