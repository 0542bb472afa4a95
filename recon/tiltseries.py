"""The values that flow through the program: `TiltSeries` up to `reconstruct`, then `Volume`s."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.geometry import TiltGeometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

MIN_TILTS = 3


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where each recorded map sits on the detector of the model.

    A recorded pixel ``(v, u)``, measured from the centre of its frame, shows the ideal projection
    (tilt axis vertical, through the centre) at ``R(-rotation) (v - shift_v, u - shift_u - axis_offset)``:
    a feature of the ideal projection at ``(v, u)`` is recorded at
    ``v' = v cos r + u sin r + shift_v`` and ``u' = u cos r - v sin r + shift_u + axis_offset``.
    A positive rotation turns the recorded axis from +v (down) towards -u (left).

    Attributes:
        shifts: ``(tilt, 2)`` float64, ``(v, u)`` in pixels, residual drift of each map.
        rotation_deg: in-plane angle of the tilt axis, degrees.
        axis_offset: column of the tilt axis from the frame's centre, pixels.
        method: how it was found.
        residual: ``(tilt,)`` reduced chi-square of each map against its re-projection, if known.
        errors: ``(tilt, 2)`` standard errors of the displacements, ``(v, u)`` in pixels, less what a
            translation of the object explains; nan where a tilt was left out; None if not estimated.
        rotation_error: standard error of the rotation, degrees, if estimated.
        converged: whether the estimate settled; None where nothing was iterated.
        doubts: one line for each reason to doubt it; empty if it passed its own checks.
    """

    shifts: NDArray[np.float64]
    rotation_deg: float = 0.0
    axis_offset: float = 0.0
    method: str = "none"
    residual: NDArray[np.float64] | None = None
    errors: NDArray[np.float64] | None = None
    rotation_error: float | None = None
    converged: bool | None = None
    doubts: tuple[str, ...] = ()

    @classmethod
    def identity(cls, n_tilts: int) -> Alignment:
        return cls(np.zeros((n_tilts, 2)))

    @property
    def is_identity(self) -> bool:
        return not (self.shifts.any() or self.rotation_deg or self.axis_offset)

    @property
    def displacements(self) -> NDArray[np.float64]:
        """``(tilt, 2)``, ``(v, u)`` in pixels: shifts with the axis offset included."""
        return np.asarray(self.shifts + np.array([0.0, self.axis_offset]))


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """Element maps of one tilt series and everything known about how they were recorded.

    The model is ``counts[e, i] ~ Poisson(exposures[e, i] * W_i P_i u_e + background[e, i] + background_maps[e, i])``.
    Build one with `TiltSeries.create` (or `recon.read`), which checks the data.

    Attributes:
        elements: names, in the order of the first axis of `counts`.
        counts: ``(element, tilt, y, x)`` float32, counts per pixel as recorded; never rescaled.
        tilts_deg: ``(tilt,)`` float64, degrees.
        pixel_size_nm: edge of a pixel, nm.
        exposures: ``(element, tilt)`` float64, relative exposure including detector shadowing.
        background: ``(element, tilt)`` float64, counts per pixel.
        weights: ``(tilt, y, x)`` float32 or None; 0 excludes a pixel, 1 keeps it.
        alignment: see `Alignment`.
        scaled: True if the maps are no longer counts (scaled or resampled): then Poisson statistics
            do not hold.
        isolated: True if the whole object was found in view at all tilts; None if not yet tested.
        history: one line per thing done.
        background_maps: ``(element, tilt, y, x)`` float32, counts expected in each pixel that are not the element's
            (continuum and lines of others, known from the spectra), or None; it adds to `background`.
        exposure_errors: ``(element, tilt)`` standard errors of `exposures`, nan where a tilt was left out, 0 where they
            were given; None where they were not estimated.
    """

    elements: tuple[str, ...]
    counts: NDArray[np.float32]
    tilts_deg: NDArray[np.float64]
    pixel_size_nm: float
    exposures: NDArray[np.float64]
    background: NDArray[np.float64]
    alignment: Alignment
    weights: NDArray[np.float32] | None = None
    scaled: bool = False
    isolated: bool | None = None
    history: tuple[str, ...] = ()
    background_maps: NDArray[np.float32] | None = None
    exposure_errors: NDArray[np.float64] | None = None

    @classmethod
    def create(
        cls,
        maps: dict[str, ArrayLike],
        tilts_deg: ArrayLike,
        pixel_size_nm: float,
        *,
        weights: ArrayLike | None = None,
        scaled: bool = False,
        where: dict[str, str] | None = None,
    ) -> TiltSeries:
        """Check maps and tilts and put them together.

        Args:
            maps: element name to stack ``(tilt, y, x)``, counts.
            tilts_deg: ``(tilt,)``, degrees.
            pixel_size_nm: nm.
            weights: ``(tilt, y, x)`` in 0..1, 0 for pixels to leave out.
            scaled: True if the maps are not counts any more.
            where: element name to the file it came from, for messages.

        Raises:
            InputError: whatever would make a reconstruction meaningless; the message says which map.
        """
        if not maps:
            raise InputError("no element maps were given; name at least one, such as Co = 'Co.tif'")
        names = tuple(maps)
        origin = {n: f"{n} ({where[n]})" if where and n in where else n for n in names}
        tilts = check_tilts(tilts_deg)
        stacks = {n: _check_stack(np.asarray(a), origin[n], tilts.size, scaled) for n, a in maps.items()}
        first = names[0]
        for name, stack in stacks.items():
            if stack.shape != stacks[first].shape:
                raise InputError(
                    f"{origin[name]} has shape {stack.shape}, {origin[first]} has {stacks[first].shape}; "
                    "all elements of a series need the same (tilt, y, x)"
                )
        if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
            raise InputError(f"pixel size is {pixel_size_nm} nm; it must be a positive number of nanometres")
        counts = np.ascontiguousarray(np.stack([stacks[n] for n in names]))
        w = None
        if weights is not None:
            w = np.ascontiguousarray(weights, dtype=np.float32)
            if w.shape != counts.shape[1:]:
                raise InputError(f"weights have shape {w.shape}, the maps {counts.shape[1:]}; they must agree")
            if not (np.isfinite(w).all() and w.min() >= 0 and w.max() <= 1):
                raise InputError("weights must lie between 0 and 1; 0 leaves a pixel out")
        n_tilts = tilts.size
        return cls(
            elements=names,
            counts=counts,
            tilts_deg=tilts,
            pixel_size_nm=float(pixel_size_nm),
            exposures=np.ones((len(names), n_tilts)),
            background=np.zeros((len(names), n_tilts)),
            alignment=Alignment.identity(n_tilts),
            weights=w,
            scaled=scaled,
            history=(f"read {', '.join(names)}: {n_tilts} tilts of {counts.shape[2]} x {counts.shape[3]} pixels",),
        )

    @property
    def n_tilts(self) -> int:
        return self.tilts_deg.size

    @property
    def frame(self) -> tuple[int, int]:
        """``(ny, nx)`` of a map."""
        return self.counts.shape[2], self.counts.shape[3]

    @property
    def used(self) -> NDArray[np.bool_]:
        """``(tilt,)``; False for tilts that were left out, since no pixel of theirs has weight."""
        return np.ones(self.n_tilts, bool) if self.weights is None else np.asarray(self.weights.any(axis=(1, 2)))

    def index(self, element: str) -> int:
        """Position of an element; InputError if the series has no such element."""
        if element not in self.elements:
            raise InputError(f"element {element!r} is not in the series; it has {', '.join(self.elements)}")
        return self.elements.index(element)

    def offset(self, e: int) -> NDArray[np.float64]:
        """All background of an element by its position, counts per pixel: ``(tilt, y, x)``, or ``(tilt, 1, 1)``."""
        level: NDArray[np.float64] = self.background[e][:, None, None]
        return level if self.background_maps is None else level + self.background_maps[e]

    def geometry(self, volume: Sequence[int] | None = None) -> TiltGeometry:
        """Geometry of the ideal (aligned) projections; `volume` is ``(nz, ny, nx)``."""
        if volume is None:
            return TiltGeometry.single_axis(self.tilts_deg, self.frame)
        _, ny, nx = volume
        return TiltGeometry.single_axis(self.tilts_deg, (ny, nx), volume)

    def evolve(self, note: str | None = None, **changes: Any) -> TiltSeries:
        """A copy with some fields replaced and a line added to the history."""
        if note is not None:
            changes["history"] = (*self.history, note)
        return replace(self, **changes)

    def __repr__(self) -> str:
        return (
            f"TiltSeries({', '.join(self.elements)}; {self.n_tilts} tilts {self.tilts_deg.min():g} to "
            f"{self.tilts_deg.max():g} deg; {self.frame[0]} x {self.frame[1]} pixels of {self.pixel_size_nm:g} nm)"
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """One element's density.

    Attributes:
        values: ``(z, y, x)`` float32, counts per voxel length per unit exposure.
        voxel_size_nm: edge of a voxel, nm.
        element: name.
        solution: how it was computed and why it stopped (see `recon.solvers.Solution`), or None.
    """

    values: NDArray[np.float32]
    voxel_size_nm: float
    element: str
    solution: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Volume({self.element}, {self.values.shape} voxels of {self.voxel_size_nm:g} nm)"


def check_tilts(tilts_deg: ArrayLike) -> NDArray[np.float64]:
    """Tilts as float64 degrees, shape ``(tilt,)``, or an InputError that says what is wrong."""
    try:
        tilts = np.array(tilts_deg, dtype=np.float64).ravel()
    except (TypeError, ValueError) as exc:
        raise InputError("tilts must be numbers, in degrees") from exc
    if tilts.size < MIN_TILTS:
        raise InputError(f"there are {tilts.size} tilts; tomography needs at least {MIN_TILTS}")
    if not np.isfinite(tilts).all():
        raise InputError(f"tilt {int(np.argmin(np.isfinite(tilts))) + 1} is not a finite number")
    values, count = np.unique(tilts, return_counts=True)
    if (count > 1).any():
        twice = ", ".join(f"{t:g}" for t in values[count > 1])
        raise InputError(f"tilt {twice} appears more than once; leave one out, or add the two maps up first")
    if np.abs(tilts).max() > 180:
        raise InputError(f"tilt {tilts[np.abs(tilts).argmax()]:g} is beyond 180 degrees; tilts are in degrees")
    span = np.ptp(tilts)
    if span < np.pi and np.abs(tilts).max() <= np.pi / 2 + 1e-6 and np.diff(values).min() < 0.2:
        raise InputError(
            f"tilts from {tilts.min():.3g} to {tilts.max():.3g} look like radians; give degrees "
            f"({np.degrees(tilts.min()):.1f} to {np.degrees(tilts.max()):.1f})"
        )
    return tilts


def _check_stack(stack: NDArray[Any], name: str, n_tilts: int, scaled: bool) -> NDArray[np.float32]:
    if stack.dtype.kind not in "uifb":
        what = {"c": "complex numbers", "U": "text", "S": "text", "O": "Python objects"}.get(
            stack.dtype.kind, f"type {stack.dtype}"
        )
        raise InputError(f"{name} holds {what}; maps are real numbers of counts")
    if stack.ndim != 3:
        raise InputError(f"{name} has {stack.ndim} axes {stack.shape}; a stack of maps is (tilt, y, x)")
    if len(stack) != n_tilts:
        raise InputError(
            f"{name} has {len(stack)} maps but {n_tilts} tilts were given; the numbers must agree (the stack is "
            f"(tilt, y, x) = {stack.shape})"
        )
    if min(stack.shape[1:]) < 4:
        raise InputError(f"{name} has maps of {stack.shape[1]} x {stack.shape[2]} pixels; at least 4 x 4 are needed")
    finite = np.isfinite(stack)
    if not finite.all():
        tilt, y, x = np.unravel_index(np.argmin(finite), stack.shape)
        raise InputError(
            f"{name} holds {int(finite.size - finite.sum())} values that are not finite, the first at tilt "
            f"{tilt + 1}, pixel ({y}, {x}); set them to 0 and give those pixels weight 0"
        )
    if stack.size and stack.min() < 0 and not scaled:
        tilt, y, x = np.unravel_index(np.argmin(stack), stack.shape)
        raise InputError(
            f"{name} holds negative counts ({stack.min():g} at tilt {tilt + 1}, pixel ({y}, {x})); use raw counts "
            "without background subtraction, or say that the maps are scaled"
        )
    if not stack.any():
        raise InputError(f"{name} is zero everywhere; leave this element out")
    with np.errstate(over="ignore"):
        out = stack.astype(np.float32)
    if not np.isfinite(out).all():
        raise InputError(f"{name} holds values above {np.finfo(np.float32).max:.2g}, too large for float32")
    return out
