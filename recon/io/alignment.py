"""Alignment, exposures and background as ``alignment.json``: written, read, edited by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import InputError
from recon.tiltseries import Alignment, TiltSeries


def alignment_record(series: TiltSeries) -> dict[str, Any]:
    """What ``alignment.json`` holds: shifts in pixels, rotation in degrees, per-tilt lists in tilt order."""
    a = series.alignment
    return {
        "method": a.method,
        "tilts_deg": series.tilts_deg.tolist(),
        "shifts_v_pixels": a.shifts[:, 0].round(4).tolist(),
        "shifts_u_pixels": a.shifts[:, 1].round(4).tolist(),
        "rotation_deg": round(float(a.rotation_deg), 4),
        "axis_offset_pixels": round(float(a.axis_offset), 4),
        "residual_chi_square": None if a.residual is None else a.residual.round(4).tolist(),
        "isolated": series.isolated,
        "exposures": {n: series.exposures[e].round(6).tolist() for e, n in enumerate(series.elements)},
        "background_counts_per_pixel": {
            n: series.background[e].round(6).tolist() for e, n in enumerate(series.elements)
        },
    }


def load_alignment(path: str | Path, tilts_deg: np.ndarray) -> Alignment:
    """Shifts, rotation and offset of an ``alignment.json``.

    Raises:
        InputError: not such a file, or made for other tilts.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        shifts = np.array([raw["shifts_v_pixels"], raw["shifts_u_pixels"]], dtype=np.float64).T
        tilts = np.array(raw["tilts_deg"], dtype=np.float64)
        if tilts.ndim != 1 or not np.isfinite(tilts).all():
            raise ValueError("tilts_deg must be a list of numbers")
        found = Alignment(
            shifts, float(raw["rotation_deg"]), float(raw["axis_offset_pixels"]), f"from {path.name}"
        )  # fmt: skip
    except OSError as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror})") from exc
    except KeyError as exc:
        raise InputError(f"{path} lacks {exc}; it must be an alignment.json of a finished run") from exc
    except (ValueError, TypeError) as exc:
        raise InputError(f"{path} is not an alignment.json of a finished run ({exc})".splitlines()[0]) from exc
    if shifts.ndim != 2 or len(shifts) != len(tilts_deg) or len(tilts) != len(tilts_deg):
        raise InputError(f"{path} aligns {len(tilts)} tilts, the series has {len(tilts_deg)}; the numbers must agree")
    if not np.isfinite(shifts).all() or not np.isfinite([found.rotation_deg, found.axis_offset]).all():
        raise InputError(f"{path} holds values that are not finite; every shift must be a number of pixels")
    if np.abs(tilts - tilts_deg).max() > 0.01:
        raise InputError(f"{path} was made for other tilts ({tilts[0]:g}, {tilts[1]:g}, ...); align anew")
    return found
