"""The values that flow through the program: `TiltSeries` up to `reconstruct`, then `Volume`s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recon.errors import InputError, JobError
from recon.geometry.tilt_geometry import TiltGeometry
from recon.series.alignment import Alignment
from recon.series.checks import _check_stack, check_tilts, narrow, standardised
from recon.series.footprint import Footprint, on_grid
from recon.series.pictures import in_a_row
from recon.series.scene import Scene
from recon.series.union import element_weights, emptied, finite, placed, union, without_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

ExposureSource = Literal["assumed", "given", "totals", "open", "re-projections"]


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
        weights: ``(tilt, y, x)`` float32 or None; 0 excludes a pixel, 1 keeps it, of all elements.
        element_weights: ``(element, tilt, y, x)`` float32, or ``(element, tilt, 1, 1)``, or None; further weights of
            single elements, 0 for a map that was not recorded. What stands in a map without weight does not matter.
        footprints: where the pixels of each element's own maps lie, None where they are the series'; empty if all are.
        alignment: see `Alignment`.
        scaled: True if the maps are no longer counts (scaled or resampled): then Poisson statistics
            do not hold.
        isolated: True if the whole object was found in view at all tilts; None if not yet tested.
        history: one line per thing done.
        background_maps: ``(element, tilt, y, x)`` float32, counts expected in each pixel that are not the element's
            (continuum and lines of others, known from the spectra), or None; it adds to `background`.
        exposure_errors: ``(element, tilt)`` standard errors of `exposures`, nan where a tilt was left out, 0 where they
            were given; None where they were not estimated.
        exposures_from: where `exposures` come from: ``"assumed"`` (all 1, nobody looked), ``"given"``, ``"totals"`` of
            an object that is wholly in view, ``"open"`` (still 1: `recon.align` is to find them), or
            ``"re-projections"`` (it has found them).
        left_out: ``(position, reason)`` of each tilt that the program itself left out.
        scene: what of the maps is object, once it has been looked for (`recon.preparation.isolation`); it falls when
            `counts` are replaced.
        remarks: what was found odd about the maps, or where sources contradict each other, one line each; `recon.align`
            counts them among its doubts.
        tilt_axis: the side of the recorded maps that the tilt axis is parallel to; for "x" rows and columns were
            swapped when they were read, so that it is always parallel to y here.
        image: ``(tilt, y, x)`` float32 in any unit, recorded with the maps, such as HAADF: to align on, no element.
        image_tilts_deg: ``(image,)`` degrees, of an image with tilts of its own; None where they are those of the maps.
        image_shifts: ``(image, 2)`` pixels, (v, u), of an image with tilts of its own that was aligned; nan where one
            was left out. Axis and rotation are those of `alignment`.
        origins: for each element the file, and the image in it, that each map came from; empty where not known.
        scheme: how the maps were taken where that was not by tilting about y alone, its detectors the frames; None for
            a single axis. Then `tilts_deg` holds each beam's angle from z, for people.
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
    exposures_from: ExposureSource = "assumed"
    left_out: tuple[tuple[int, str], ...] = ()
    remarks: tuple[str, ...] = ()
    scene: Scene | None = None
    tilt_axis: str = "y"
    origins: tuple[tuple[str, ...], ...] = ()
    scheme: TiltGeometry | None = None
    image: NDArray[np.float32] | None = None
    element_weights: NDArray[np.float32] | None = None
    footprints: tuple[Footprint | None, ...] = ()
    image_tilts_deg: NDArray[np.float64] | None = None
    image_shifts: NDArray[np.float64] | None = None

    @classmethod
    def create(
        cls,
        maps: dict[str, ArrayLike],
        tilts_deg: ArrayLike | TiltGeometry | Mapping[str, ArrayLike],
        pixel_size_nm: float | Mapping[str, float],
        *,
        weights: ArrayLike | str | Mapping[str, ArrayLike] | None = None,
        scaled: bool = False,
        where: dict[str, str] | None = None,
    ) -> TiltSeries:
        """Check maps and tilts and put them together.

        Args:
            maps: element name to stack ``(tilt, y, x)``, counts.
            tilts_deg: ``(tilt,)``, degrees; or a `TiltGeometry` of any scheme, whose detector is the maps' frame and
                whose unit is a pixel; or a table of tilts by element, where elements have tilts of their own: the
                series has all of them, and a map that was not recorded has no weight.
            pixel_size_nm: nm; or a table by element, where pixels are not alike: frames may differ then, their centres
                being the same place, and the series has the finest pixels and the largest field of view
                (see `recon.series.footprint`).
            weights: ``(tilt, y, x)``, or ``(y, x)`` for all tilts, in 0..1; 0 for pixels to leave out, which may
                hold anything; or a table of these by element, ``(tilt,)`` also serving, for each element's own maps;
                ``"nan"`` leaves out the pixels that are not finite in some map, and a map of nothing else of its
                element only.
            scaled: True if the maps are not counts any more.
            where: element name to the file it came from, for messages.

        Raises:
            InputError: whatever would make a reconstruction meaningless; the message says which map.
        """
        if not maps:
            raise InputError("no element maps were given; name at least one, such as Co = 'Co.tif'")
        names = tuple(maps)
        for name in names:
            if not name.strip() or name != name.strip():
                raise InputError(f"an element is called {name!r}; name it without blanks around it, such as 'Co'")
        origin = {n: f"{n} ({where[n]})" if where and n in where else n for n in names}
        scheme = None
        arrays = {n: np.asarray(a) for n, a in maps.items()}
        if isinstance(tilts_deg, TiltGeometry):
            scheme = None if _is_plain(tilts_deg) else tilts_deg
            shown = nominal_tilts(tilts_deg) if scheme is not None else tilts_deg.tilts_deg
            tilts = shown if scheme is not None else check_tilts(shown)
        elif isinstance(tilts_deg, Mapping):
            tilts, at = union(tilts_deg, names)
        else:
            tilts = check_tilts(tilts_deg)
        if not isinstance(tilts_deg, Mapping):
            at = dict.fromkeys(names, np.arange(tilts.size))
        own: Mapping[str, ArrayLike] = {}
        if isinstance(weights, str):
            if weights != "nan":
                raise InputError(
                    f"weights is {weights!r}; it must be an array, or 'nan' for pixels that are not finite"
                )
            if isinstance(pixel_size_nm, Mapping):
                weights, own = None, {n: np.isfinite(a) for n, a in arrays.items() if a.dtype.kind == "f"}
            else:
                weights, own = finite(arrays, at, tilts.size)
        elif isinstance(weights, Mapping):
            own, weights = weights, None
        unused = {n: without_weight(own.get(n), weights, a, at[n]) for n, a in arrays.items()}
        arrays |= {n: emptied(arrays[n], unused[n]) for n in own if n in arrays}
        stacks = {n: _check_stack(a, origin[n], at[n].size, scaled, unused[n]) for n, a in arrays.items()}
        first, prints = names[0], dict.fromkeys(names)
        if isinstance(pixel_size_nm, Mapping):
            stacks, own, pixel_size_nm, prints = on_grid(stacks, own, pixel_size_nm, scaled=scaled)
        for name, stack in stacks.items():
            if stack.shape[1:] != stacks[first].shape[1:]:
                raise InputError(
                    f"{origin[name]} has shape {stack.shape}, {origin[first]} has {stacks[first].shape}; "
                    "all elements of a series need the same (y, x)"
                )
        if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
            raise InputError(f"pixel size is {pixel_size_nm} nm; it must be a positive number of nanometres")
        counts = np.ascontiguousarray(np.stack([placed(stacks[n], at[n], tilts.size) for n in names]))
        if isinstance(tilts_deg, TiltGeometry) and tilts_deg.detector != counts.shape[2:]:
            raise InputError(
                f"the geometry has a detector of {tilts_deg.detector} pixels, {origin[first]} maps of "
                f"{counts.shape[2:]}; they must agree (see TiltGeometry.on)"
            )
        w = None
        if weights is not None:
            w = np.asarray(weights, dtype=np.float32)
            if w.shape in (counts.shape[2:], (1, *counts.shape[2:])):
                w = np.broadcast_to(w, counts.shape[1:])
            w = np.ascontiguousarray(w)
            if w.shape != counts.shape[1:]:
                raise InputError(
                    f"weights or bad pixels have shape {w.shape}, the maps {counts.shape[1:]}; they must agree"
                )
            if not (np.isfinite(w).all() and w.min() >= 0 and w.max() <= 1):
                raise InputError("weights must lie between 0 and 1; 0 leaves a pixel out")
        n_tilts = tilts.size
        of_elements = element_weights(own, at, n_tilts, (counts.shape[2], counts.shape[3]))
        few = "" if of_elements is None else "".join(
            f", {n} at {k}" for n, k in zip(names, of_elements.any(axis=(2, 3)).sum(axis=1), strict=True) if k < n_tilts
        )  # fmt: skip
        remarks = narrow(tilts) if scheme is None else ()
        for name in names if scaled else ():
            remarks += standardised(stacks[name], name, unused[name])
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
            scheme=scheme,
            remarks=remarks,
            history=(f"read {', '.join(names)}: {n_tilts} tilts of {counts.shape[2]} x {counts.shape[3]} pixels{few}",),
            element_weights=of_elements,
            footprints=tuple(prints.values()) if any(prints.values()) else (),
        )

    @staticmethod
    def of(value: object, taker: str) -> TiltSeries:
        """The value, which must be a series; `taker` is the function that was called, for the InputError."""
        if not isinstance(value, TiltSeries):
            raise InputError(f"{taker} takes a TiltSeries, as recon.read makes it, not a {type(value).__name__}")
        return value

    @property
    def n_tilts(self) -> int:
        return self.tilts_deg.size

    @property
    def frame(self) -> tuple[int, int]:
        """``(ny, nx)`` of a map."""
        return self.counts.shape[2], self.counts.shape[3]

    @property
    def used(self) -> NDArray[np.bool_]:
        """``(tilt,)``; False for tilts of which no pixel of any map has weight: they were left out. See `present`."""
        if self.element_weights is not None:
            return np.asarray(self.present.any(axis=0))
        return np.ones(self.n_tilts, bool) if self.weights is None else np.asarray(self.weights.any(axis=(1, 2)))

    @property
    def present(self) -> NDArray[np.bool_]:
        """``(element, tilt)``; False where an element has no map, or none with weight, at a tilt."""
        own = self.element_weights
        if own is None:
            return np.broadcast_to(self.used, (len(self.elements), self.n_tilts))
        if self.weights is None:
            return np.asarray(own.any(axis=(2, 3)))
        if own.shape[2:] == (1, 1):
            return np.asarray(own.any(axis=(2, 3)) & self.weights.any(axis=(1, 2)))
        return np.stack([self.seen_by(e).any(axis=(1, 2)) for e in range(len(self.elements))])

    def seen_by(self, e: int) -> NDArray[np.float32]:
        """Weight of each pixel of an element by its position, ``(tilt, y, x)``; not to be written to."""
        if self.element_weights is None:
            return self.seen
        if self.weights is None:
            return np.broadcast_to(self.element_weights[e], self.counts.shape[1:])
        return np.asarray(self.weights * self.element_weights[e])

    @property
    def seen(self) -> NDArray[np.float32]:
        """Weight ``(tilt, y, x)`` that each pixel has for all elements, 1 where none was given; not to be written to.

        See `seen_by` for an element's.
        """
        if self.weights is not None:
            return self.weights
        return np.broadcast_to(np.float32(1), self.counts.shape[1:])

    def footprint(self, e: int) -> Footprint | None:
        """Where the recorded pixels of an element by its position lie, if they are not those of the series."""
        return self.footprints[e] if self.footprints else None

    def check_pixels(self, what: str, instead: str) -> None:
        """Raise JobError where elements have pixels of their own, which `what` does not serve."""
        names = [name for name, where in zip(self.elements, self.footprints, strict=False) if where is not None]
        if names:
            raise JobError(f"{what} takes elements with the same pixels, and {', '.join(names)} has its own; {instead}")

    def index(self, element: str) -> int:
        """Position of an element; InputError if the series has no such element."""
        if element not in self.elements:
            raise InputError(f"element {element!r} is not in the series; it has {', '.join(self.elements)}")
        return self.elements.index(element)

    def named(self, elements: Sequence[str] | str | None) -> tuple[str, ...]:
        """Elements that a caller means: one by its name, some, or by default all; InputError for an unknown one."""
        if elements is None:
            return self.elements
        if isinstance(elements, str):
            elements = (elements,)
        if not isinstance(elements, Iterable) or not (wanted := tuple(dict.fromkeys(elements))):
            raise InputError(
                f"elements are {elements!r}; name one or some of {', '.join(self.elements)}, or leave this out for all"
            )
        return tuple(self.elements[self.index(name)] for name in wanted)

    def offset(self, e: int) -> NDArray[np.float64]:
        """All background of an element by its position, counts per pixel: ``(tilt, y, x)``, or ``(tilt, 1, 1)``."""
        level: NDArray[np.float64] = self.background[e][:, None, None]
        return level if self.background_maps is None else level + self.background_maps[e]

    @property
    def geometry(self) -> TiltGeometry:
        """How the maps were taken, before any alignment; of a volume as high as the frame, and as wide and as deep."""
        return TiltGeometry.single_axis(self.tilts_deg, self.frame) if self.scheme is None else self.scheme

    def aligned_geometry(self, volume: Sequence[int]) -> TiltGeometry:
        """How the maps were taken as the alignment has it, of a volume ``(nz, ny, nx)``."""
        a = self.alignment
        whole = TiltGeometry.from_angles(self.tilts_deg, 0.0, self.frame) if self.scheme is None else self.scheme
        return whole.on(volume, self.frame).moved(a.displacements, a.rotation_deg)

    def evolve(self, note: str | None = None, **changes: Any) -> TiltSeries:
        """A copy with some fields replaced and a line added to the history.

        Exposures count as given unless `exposures_from` says otherwise.
        """
        if "exposures" in changes:
            changes.setdefault("exposures_from", "given")
        if "counts" in changes:
            changes.setdefault("scene", None)
        if note is not None:
            changes["history"] = (*changes.get("history", self.history), note)
        return replace(self, **changes)

    def __repr__(self) -> str:
        kind = "tilts" if self.scheme is None else "beams"
        return (
            f"TiltSeries({', '.join(self.elements)}; {self.n_tilts} {kind} {self.tilts_deg.min():g} to "
            f"{self.tilts_deg.max():g} deg; {self.frame[0]} x {self.frame[1]} pixels of {self.pixel_size_nm:g} nm)"
        )

    def _repr_html_(self) -> str:
        """For notebooks: each element's map nearest to zero tilt."""
        steep = np.abs(self.tilts_deg) + np.where(self.present | ~self.used, 0, np.inf)
        return in_a_row(
            repr(self), [m[i] for m, i in zip(self.counts, steep.argmin(axis=1), strict=True)], self.elements
        )


def _is_plain(geometry: TiltGeometry) -> bool:
    """Whether its tilts about y say all of it."""
    return geometry.is_single_axis and geometry.fineness == 1 and not geometry.offsets.any()


def nominal_tilts(geometry: TiltGeometry) -> NDArray[np.float64]:
    """The angle of each beam from z, degrees, ``(tilt,)``; its sign is the side to which the detector's columns dip."""
    angle = np.degrees(np.arccos(np.minimum(1.0, np.abs(geometry.ray[:, 0]))))
    u, v = geometry.u[:, 0], geometry.v[:, 0]
    dips = np.where(np.abs(u) >= np.abs(v), u, v) * np.where(geometry.ray[:, 0] < 0, -1, 1)
    return np.asarray(np.round(np.where(dips < 0, -angle, angle), 6) + 0.0)
