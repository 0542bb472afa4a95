"""Alignment, exposures and background as ``alignment.json``, and as files of other programs: written and read."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import GeometryError, InputError
from recon.files import from_json, read_json, read_record, rounded
from recon.geometry.tilt_geometry import TiltGeometry
from recon.io.folder import whole_file
from recon.io.transforms import XF_TYPES, check_number, from_shifts, from_xf, shift_rows, xf_rows, xf_text
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

REMEDY = "name the alignment.json of a finished run, or a file with shifts"
_JSON_TYPES = (".json", ".tvsm")
MOST_PIXELS = 1e6  # that a shift may have
_OURS = ("shifts_v_pixels", "shifts_u_pixels", "axis_offset_pixels")


@dataclass(frozen=True)
class AgreementRecord:
    """How far each map lies from its re-projection, see `recon.analysis.agreement`; one number a tilt."""

    shifts_v_pixels: tuple[float | None, ...]
    shifts_u_pixels: tuple[float | None, ...]
    errors_v_pixels: tuple[float | None, ...]
    errors_u_pixels: tuple[float | None, ...]
    exposures: tuple[float | None, ...]
    exposure_errors: tuple[float | None, ...]
    noise: str
    chi_square: tuple[float | None, ...]
    chi_square_errors: tuple[float | None, ...]


@dataclass(frozen=True)
class AlignmentRecord:
    """What ``alignment.json`` holds: pixels, degrees, one entry a tilt; None where something is not known.

    What an estimate says about itself may be missing, in files of older versions and in edited ones.
    """

    method: str
    tilts_deg: tuple[float, ...]
    shifts_v_pixels: tuple[float, ...]
    shifts_u_pixels: tuple[float, ...]
    rotation_deg: float
    axis_offset_pixels: float
    frame_pixels: tuple[int, int] | None = None
    errors_v_pixels: tuple[float | None, ...] | None = None
    errors_u_pixels: tuple[float | None, ...] | None = None
    rotation_error_deg: float | None = None
    residual_chi_square: tuple[float | None, ...] | None = None
    converged: bool | None = None
    doubts: tuple[str, ...] = ()
    isolated: bool | None = None
    left_out_deg: tuple[float, ...] = ()
    exposures: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    exposure_errors: dict[str, tuple[float | None, ...]] | None = None
    background_counts_per_pixel: dict[str, tuple[float, ...]] = field(default_factory=dict)
    agreement: AgreementRecord | None = None
    vectors: tuple[tuple[float, ...], ...] | None = None

    def check(self, path: str | Path) -> None:
        """Raise InputError, naming `path`, unless it is about some tilts, with an entry for each in every list."""
        n = len(self.tilts_deg)
        if not n:
            raise InputError(f"{path}: tilts_deg is empty; {REMEDY}")
        for name, values in _lists(self):
            if len(values) != n:
                raise InputError(f"{path}: {name} has {len(values)} numbers for {n} tilts; the numbers must agree")
        if not all(abs(t) <= 360 for t in (*self.tilts_deg, self.rotation_deg)):
            raise InputError(f"{path}: tilts_deg or rotation_deg holds values that are no angles; they are in degrees")
        pixels = (*self.shifts_v_pixels, *self.shifts_u_pixels, self.axis_offset_pixels)
        if not all(abs(p) < MOST_PIXELS for p in pixels):
            raise InputError(f"{path} holds values that are not finite; every shift must be a number of pixels")
        if self.frame_pixels is not None and min(self.frame_pixels) < 1:
            raise InputError(f"{path}: frame_pixels is {list(self.frame_pixels)}; {REMEDY}")

    def alignment(self, path: str | Path, method: str) -> Alignment:
        """The alignment that it describes.

        Raises:
            InputError: see `check`.
        """
        self.check(path)
        shifts = np.array([self.shifts_v_pixels, self.shifts_u_pixels], dtype=np.float64).T
        v, u = by_tilt(self.errors_v_pixels), by_tilt(self.errors_u_pixels)
        return Alignment(
            shifts,
            self.rotation_deg,
            self.axis_offset_pixels,
            method,
            residual=by_tilt(self.residual_chi_square),
            errors=None if v is None or u is None else np.stack([v, u], axis=1),
            rotation_error=self.rotation_error_deg,
            converged=self.converged,
            doubts=self.doubts,
        )


def _lists(record: AlignmentRecord | AgreementRecord, where: str = "") -> Iterator[tuple[str, Sequence[object]]]:
    """Every list with an entry for each tilt, with its name."""
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, AgreementRecord):
            yield from _lists(value, f"{f.name}.")
        elif isinstance(value, dict):
            yield from ((f"{where}{f.name}.{key}", values) for key, values in value.items())
        elif isinstance(value, tuple) and f.name not in ("doubts", "left_out_deg", "frame_pixels"):
            yield where + f.name, value


@dataclass(frozen=True)
class _LeftOut:
    left_out_deg: tuple[float, ...]


def by_tilt(values: Sequence[float | None] | None) -> NDArray[np.float64] | None:
    """A list of a record as an array, nan for None."""
    return None if values is None else np.array([np.nan if v is None else v for v in values], dtype=np.float64)


# ---------------------------------------------------------------- out


def alignment_record(
    series: TiltSeries, *, agreement: AgreementRecord | None = None, doubts: Sequence[str] | None = None
) -> AlignmentRecord:
    """The record of an aligned series; `doubts` are those of its alignment unless they are given."""
    a = series.alignment

    def by_element(values: NDArray[np.float64] | None) -> dict[str, tuple[float | None, ...]] | None:
        return None if values is None else {n: rounded(values[e], 6) for e, n in enumerate(series.elements)}

    errors = (None, None) if a.errors is None else (rounded(a.errors[:, 0], 4), rounded(a.errors[:, 1], 4))
    return AlignmentRecord(
        method=a.method,
        tilts_deg=tuple(series.tilts_deg.tolist()),
        frame_pixels=series.frame,
        shifts_v_pixels=tuple(a.shifts[:, 0].round(4).tolist()),
        shifts_u_pixels=tuple(a.shifts[:, 1].round(4).tolist()),
        errors_v_pixels=errors[0],
        errors_u_pixels=errors[1],
        rotation_deg=round(float(a.rotation_deg), 4),
        rotation_error_deg=None if a.rotation_error is None else rounded([a.rotation_error], 4)[0],
        axis_offset_pixels=round(float(a.axis_offset), 4),
        residual_chi_square=None if a.residual is None else rounded(a.residual, 4),
        converged=a.converged,
        doubts=tuple(a.doubts if doubts is None else doubts),
        isolated=series.isolated,
        left_out_deg=tuple(series.tilts_deg[~series.used].tolist()),
        exposures=by_element(np.where(series.present | ~series.used, series.exposures, np.nan)) or {},
        exposure_errors=by_element(series.exposure_errors),
        background_counts_per_pixel={
            n: tuple(series.background[e].round(6).tolist()) for e, n in enumerate(series.elements)
        },
        agreement=agreement,
        vectors=None if series.scheme is None else tuple(map(tuple, series.scheme.to_astra().round(12).tolist())),
    )


def write_xf(path: str | Path, alignment: Alignment, *, tilt_axis: str = "y", upside_down: bool = False) -> Path:
    """Write IMOD's ``.xf``, which aligns the maps with the tilt axis vertical and through the centre.

    With a name ending in ``.prexg``, shifts only: the axis stays rotated from the vertical, by `rotation_deg`
    counter-clockwise as IMOD shows the maps (where they are neither swapped nor upside down).

    Args:
        path: of the file.
        alignment: of the series; one line for each of its maps.
        tilt_axis: of the recorded maps, as given to `recon.read`; a transform for "x" turns them by 90 degrees.
        upside_down: whether IMOD sees the maps' rows in the opposite order, as those of a TIFF.

    Raises:
        OutputError, ResourceError: it cannot be written.
    """
    path = Path(path)
    rows = xf_rows(alignment, tilt_axis, upside_down)
    if path.suffix.lower() == ".prexg":
        moves = shift_rows(alignment, tilt_axis, upside_down)[:, ::-1]
        rows = np.hstack([np.tile([1.0, 0.0, 0.0, 1.0], (len(moves), 1)), moves])
    return _write(path, xf_text(rows))


def write_shifts(path: str | Path, alignment: Alignment, *, tilt_axis: str = "y", upside_down: bool = False) -> Path:
    """Write shifts as a JSON list of ``[y, x]`` in pixels, to be added to the maps' coordinates (ETSpy, SciPy).

    The offset of the tilt axis is in them, its rotation is not. The arguments are those of `write_xf`.
    """
    shifts = shift_rows(alignment, tilt_axis, upside_down).round(4)
    lines = ",\n".join(f" [{y:g}, {x:g}]" for y, x in shifts)
    return _write(Path(path), f"[\n{lines}\n]\n")


def write_exports(
    folder: Path, alignment: Alignment, kinds: Sequence[str], *, tilt_axis: str = "y", upside_down: bool = False
) -> None:
    """``alignment.xf``, ``alignment.prexg`` and ``alignment-shifts.json`` in a folder, those that `kinds` names."""
    for kind in kinds:
        if kind == "shifts":
            write_shifts(folder / "alignment-shifts.json", alignment, tilt_axis=tilt_axis, upside_down=upside_down)
        else:
            write_xf(folder / f"alignment.{kind}", alignment, tilt_axis=tilt_axis, upside_down=upside_down)


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------- in


def load_alignment(
    path: str | Path, tilts_deg: np.ndarray, *, tilt_axis: str = "y", upside_down: bool = False
) -> Alignment:
    """The alignment in an ``alignment.json``, or in a file of another program.

    Args:
        path: ``alignment.json``; IMOD's ``.xf``, ``.prexg`` or ``.prexf``; or JSON with shifts, ``.json`` or tomviz's
            ``.tvsm``. See `recon.io.transforms` for the conventions.
        tilts_deg: of the series; a line or an entry for each is needed, in its order.
        tilt_axis: of the recorded maps, as given to `recon.read`; files of other programs are about these.
        upside_down: whether the other program saw the maps' rows in the opposite order.

    Returns:
        Shifts, rotation and offset; from an ``alignment.json`` errors, convergence and doubts as well.

    Raises:
        InputError: not such a file, or made for other tilts.
    """
    path = Path(path)
    kind = path.suffix.lower()
    tilts = np.asarray(tilts_deg, dtype=np.float64)
    if kind in XF_TYPES:
        return from_xf(path, tilts, tilt_axis, upside_down)
    if kind not in _JSON_TYPES:
        raise InputError(
            f"{path} has type {kind!r}, which is unknown; alignments are {', '.join((*_JSON_TYPES, *XF_TYPES))}"
        )
    raw = _load(path)
    if isinstance(raw, dict) and any(key in raw for key in _OURS):
        return _ours(path, raw, tilts)
    return from_shifts(path, raw, tilts, tilt_axis, upside_down)


def load_record(path: str | Path) -> AlignmentRecord:
    """The record in an ``alignment.json``.

    Raises:
        InputError: it cannot be read, or is none.
    """
    return read_record(AlignmentRecord, Path(path), REMEDY)


def load_exposures(path: str | Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Exposures by element of an ``alignment.json``, and their standard errors; empty where a file holds none.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(path)
    raw = _load(path) if path.suffix.lower() == ".json" else None
    tables = [raw.get(key) if isinstance(raw, dict) else None for key in ("exposures", "exposure_errors")]
    values, errors = (table if isinstance(table, dict) else {} for table in tables)
    found, sure = ({n: [np.nan if v is None else v for v in e] if isinstance(e, list) else e for n, e in t.items()}
                   for t in (values, errors))  # fmt: skip
    return found, {n: e for n, e in sure.items() if isinstance(e, list)}


def load_vectors(path: str | Path, scheme: TiltGeometry) -> TiltGeometry:
    """The scheme as an ``alignment.json`` has it, of the same maps as `scheme`, which it is where the file holds none.

    Raises:
        InputError: it cannot be read, or holds vectors of another number of projections.
    """
    raw = _load(Path(path))
    rows = raw.get("vectors") if isinstance(raw, dict) else None
    if rows is None:
        return scheme
    try:
        found = TiltGeometry.from_astra(rows, scheme.detector, scheme.volume)
    except (ValueError, TypeError, GeometryError) as exc:
        raise InputError(f"{path}: its vectors make no geometry ({exc}); align anew") from exc
    check_number(Path(path), len(found), len(scheme))
    return found


def load_left_out(path: str | Path) -> tuple[float, ...]:
    """Tilts in degrees that the run behind an ``alignment.json`` left out; none for other files.

    Raises:
        InputError: it cannot be read, or holds something else there.
    """
    path = Path(path)
    raw = _load(path) if path.suffix.lower() == ".json" else None
    if not isinstance(raw, dict) or raw.get("left_out_deg") is None:
        return ()
    return from_json(_LeftOut, raw, path, "left_out_deg must be a list of tilts in degrees").left_out_deg


def _load(path: Path) -> Any:
    return read_json(path, REMEDY)


def _ours(path: Path, raw: dict[str, Any], wanted: NDArray[np.float64]) -> Alignment:
    if isinstance(raw.get("tilts_deg"), list):
        check_number(path, len(raw["tilts_deg"]), len(wanted))
    record = from_json(AlignmentRecord, {"method": "", **raw}, path, "it is not an alignment.json of a finished run")
    found = record.alignment(path, f"from {path.name}")
    tilts = record.tilts_deg
    if np.abs(np.array(tilts) - wanted).max() > 0.01:
        raise InputError(f"{path} was made for other tilts ({tilts[0]:g}, {tilts[1]:g}, ...); align anew")
    return found
