"""Alignment, exposures and background as ``alignment.json``, and as files of other programs: written and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.files import plain, read_json
from recon.io.folder import whole_file
from recon.io.transforms import XF_TYPES, check_number, from_shifts, from_xf, shift_rows, xf_rows, xf_text
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_JSON_TYPES = (".json", ".tvsm")
_OURS = ("shifts_v_pixels", "shifts_u_pixels", "axis_offset_pixels")


# ---------------------------------------------------------------- out


def alignment_record(series: TiltSeries) -> dict[str, Any]:
    """What ``alignment.json`` holds: pixels, degrees, lists in tilt order; null where something is not known."""
    a = series.alignment
    return {
        "method": a.method,
        "tilts_deg": series.tilts_deg.tolist(),
        "frame_pixels": list(series.frame),
        "shifts_v_pixels": a.shifts[:, 0].round(4).tolist(),
        "shifts_u_pixels": a.shifts[:, 1].round(4).tolist(),
        "errors_v_pixels": None if a.errors is None else plain(a.errors[:, 0], 4),
        "errors_u_pixels": None if a.errors is None else plain(a.errors[:, 1], 4),
        "rotation_deg": round(float(a.rotation_deg), 4),
        "rotation_error_deg": None if a.rotation_error is None else plain([a.rotation_error], 4)[0],
        "axis_offset_pixels": round(float(a.axis_offset), 4),
        "residual_chi_square": None if a.residual is None else plain(a.residual, 4),
        "converged": a.converged,
        "doubts": list(a.doubts),
        "isolated": series.isolated,
        "left_out_deg": series.tilts_deg[~series.used].tolist(),
        "exposures": {n: series.exposures[e].round(6).tolist() for e, n in enumerate(series.elements)},
        "exposure_errors": None
        if series.exposure_errors is None
        else {n: plain(series.exposure_errors[e], 6) for e, n in enumerate(series.elements)},
        "background_counts_per_pixel": {
            n: series.background[e].round(6).tolist() for e, n in enumerate(series.elements)
        },
    }


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


def load_exposures(path: str | Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Exposures by element of an ``alignment.json``, and their standard errors; empty where a file holds none.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(path)
    raw = _load(path) if path.suffix.lower() == ".json" else None
    tables = [raw.get(key) if isinstance(raw, dict) else None for key in ("exposures", "exposure_errors")]
    values, errors = (table if isinstance(table, dict) else {} for table in tables)
    return values, {n: [np.nan if v is None else v for v in e] for n, e in errors.items() if isinstance(e, list)}


def load_left_out(path: str | Path) -> list[float]:
    """Tilts in degrees that the run behind an ``alignment.json`` left out; none for other files.

    Raises:
        InputError: it cannot be read, or holds something else there.
    """
    path = Path(path)
    raw = _load(path) if path.suffix.lower() == ".json" else None
    found = raw.get("left_out_deg") if isinstance(raw, dict) else None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(t, int | float) for t in found):
        raise InputError(f"{path}: left_out_deg must be a list of tilts in degrees")
    return found


def _load(path: Path) -> Any:
    return read_json(path, "name the alignment.json of a finished run, or a file with shifts")


def from_record(raw: dict[str, Any], method: str) -> Alignment:
    """The alignment of what `alignment_record` made, perhaps edited since.

    Raises:
        KeyError, TypeError, ValueError: something lacks, or is of another kind or length.
    """
    tilts = np.array(raw["tilts_deg"], dtype=np.float64)
    shifts = np.array([raw["shifts_v_pixels"], raw["shifts_u_pixels"]], dtype=np.float64).T
    if tilts.ndim != 1 or not np.isfinite(tilts).all():
        raise ValueError("tilts_deg must be a list of numbers")
    if shifts.shape != (len(tilts), 2):
        raise ValueError(f"{len(tilts)} tilts and {len(shifts)} shifts; the numbers must agree")
    return Alignment(
        shifts, float(raw["rotation_deg"]), float(raw["axis_offset_pixels"]), method, **_estimates(raw, len(tilts))
    )


def _ours(path: Path, raw: dict[str, Any], wanted: NDArray[np.float64]) -> Alignment:
    try:
        if isinstance(raw["tilts_deg"], list):
            check_number(path, len(raw["tilts_deg"]), len(wanted))
        found = from_record(raw, f"from {path.name}")
    except InputError:
        raise
    except KeyError as exc:
        raise InputError(f"{path} lacks {exc}; it must be an alignment.json of a finished run") from exc
    except (ValueError, TypeError) as exc:
        raise InputError(f"{path} is not an alignment.json of a finished run ({exc})".splitlines()[0]) from exc
    if not np.isfinite(found.shifts).all() or not np.isfinite([found.rotation_deg, found.axis_offset]).all():
        raise InputError(f"{path} holds values that are not finite; every shift must be a number of pixels")
    tilts = raw["tilts_deg"]
    if np.abs(np.array(tilts) - wanted).max() > 0.01:
        raise InputError(f"{path} was made for other tilts ({tilts[0]:g}, {tilts[1]:g}, ...); align anew")
    return found


def _estimates(raw: dict[str, Any], n_tilts: int) -> dict[str, Any]:
    """What an estimate said about itself; files of older versions and edited ones may lack any of it."""

    def row(key: str) -> NDArray[np.float64] | None:
        if raw.get(key) is None:
            return None
        values = np.array([np.nan if v is None else v for v in raw[key]], dtype=np.float64)
        if values.shape != (n_tilts,):
            raise ValueError(f"{key} must have one number for each tilt")
        return values

    v, u = row("errors_v_pixels"), row("errors_u_pixels")
    doubts, converged, turn = raw.get("doubts") or [], raw.get("converged"), raw.get("rotation_error_deg")
    if not isinstance(doubts, list) or not all(isinstance(d, str) for d in doubts):
        raise ValueError("doubts must be a list of lines")
    if converged is not None and not isinstance(converged, bool):
        raise ValueError("converged must be true, false or null")
    return {
        "residual": row("residual_chi_square"),
        "errors": None if v is None or u is None else np.stack([v, u], axis=1),
        "rotation_error": None if turn is None else float(turn),
        "converged": converged,
        "doubts": tuple(doubts),
    }
