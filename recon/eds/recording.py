"""What a spectrum image says about how it was recorded, in our units.

rosettasciio brings the formats' metadata into HyperSpy's names (keV, nA, s, degrees; lengths in any unit);
here they become nm, degrees, keV, seconds, and nothing downstream converts again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recon.eds.lines import Resolution
from recon.errors import InputError
from recon.io.formats.common import SAME_SIZE, unit_nm
from recon.io.formats.digital_micrograph import stage_tilt
from recon.io.formats.metadata import mapped, value_at

ELECTRONS_PER_NA_S = 6.241509e9


@dataclass(frozen=True)
class Detector:
    """One EDS detector (a quadrant): angles in degrees, times in seconds, None where the file does not say."""

    name: str
    elevation_deg: float | None = None
    azimuth_deg: float | None = None
    live_time_s: float | None = None
    real_time_s: float | None = None


@dataclass(frozen=True)
class Recording:
    """How one spectrum image was recorded. None means that the file does not say.

    Attributes:
        path: the file (or "signal N" for one that came from Python).
        frame: ``(ny, nx)`` pixels.
        channels: of the spectrum.
        energy_offset_kev, energy_step_kev: channel k is centred at ``offset + k * step``.
        pixel_size_nm: edge of a (square) pixel.
        stage_tilt_deg: what the stage said.
        time: begin of the acquisition.
        live_time_s, real_time_s: of the whole map; means over the detectors where they differ.
        beam_current_na, voltage_kv, scan_rotation_deg: of the microscope.
        detectors: every detector the file describes.
        resolution: of the detector, or None.
        elements: symbols that the file lists.
    """

    path: Path
    frame: tuple[int, int]
    channels: int
    energy_offset_kev: float
    energy_step_kev: float
    pixel_size_nm: float | None = None
    stage_tilt_deg: float | None = None
    time: datetime | None = None
    live_time_s: float | None = None
    real_time_s: float | None = None
    beam_current_na: float | None = None
    voltage_kv: float | None = None
    scan_rotation_deg: float | None = None
    detectors: tuple[Detector, ...] = ()
    resolution: Resolution | None = None
    elements: tuple[str, ...] = ()

    @property
    def range_kev(self) -> tuple[float, float]:
        """Lowest and highest energy of the spectrum."""
        return (
            self.energy_offset_kev - self.energy_step_kev / 2,
            self.energy_offset_kev + (self.channels - 0.5) * self.energy_step_kev,
        )

    @property
    def dose_per_nm2(self) -> float | None:
        """Electrons per nm^2, from beam current, real (else live) time and the scanned area."""
        seconds = self.real_time_s or self.live_time_s
        if not (self.beam_current_na and seconds and self.pixel_size_nm):
            return None
        area = self.frame[0] * self.frame[1] * self.pixel_size_nm**2
        return self.beam_current_na * seconds * ELECTRONS_PER_NA_S / area


def recording_of(path: Path, signal: dict[str, Any], energy: int, nav: tuple[int, int]) -> Recording:
    """The recording of one of rosettasciio's signals.

    Args:
        path: its file.
        signal: dictionary with data, axes, metadata, original_metadata and perhaps a mapping.
        energy: number of its energy axis; `nav`: those of y and x.

    Raises:
        InputError: the energy axis is not calibrated.
    """
    axes, md, om = signal["axes"], mapped(signal), signal.get("original_metadata") or {}
    axis = axes[energy]
    scale, offset = _energy(path, axis)
    y, x = (axes[i] for i in nav)
    frame = (int(signal["data"].shape[nav[0]]), int(signal["data"].shape[nav[1]]))
    instrument = _first(md, "Acquisition_instrument.TEM", "Acquisition_instrument.SEM") or {}
    eds = value_at(instrument, "Detector.EDS") or {}
    detectors = _detectors(om) or _one_detector(eds)
    return Recording(
        path=path,
        frame=frame,
        channels=int(signal["data"].shape[energy]),
        energy_offset_kev=offset,
        energy_step_kev=scale,
        pixel_size_nm=_pixel_nm(path, y, x),
        stage_tilt_deg=_stage_tilt(instrument, signal),
        time=_when(md),
        live_time_s=_mean([d.live_time_s for d in detectors]) or _positive(eds.get("live_time")),
        real_time_s=_mean([d.real_time_s for d in detectors]) or _positive(eds.get("real_time")),
        beam_current_na=_positive(instrument.get("beam_current")),
        voltage_kv=_positive(instrument.get("beam_energy")),
        scan_rotation_deg=_scan_rotation(instrument, om),
        detectors=detectors,
        resolution=_resolution(eds, om),
        elements=tuple(str(e) for e in (value_at(md, "Sample.elements") or ())),
    )


def agree(recordings: list[Recording]) -> None:
    """Raise InputError, naming two files, where one series mixes frames, pixels, voltages or scan rotations."""
    table: tuple[tuple[str, Callable[[Recording], Any], Callable[[Any, Any], bool], str, str], ...] = (
        ("frames", lambda r: r.frame, lambda a, b: a == b, "pixels", "leave out the files that differ"),
        ("pixel sizes", lambda r: r.pixel_size_nm, lambda a, b: abs(a - b) <= SAME_SIZE * min(a, b), "nm",
         "leave out the files that differ, or give pixel_size_nm if they are wrong"),
        ("voltages", lambda r: r.voltage_kv, lambda a, b: abs(a - b) <= SAME_SIZE * min(a, b), "kV",
         "leave out the files that differ"),
        ("scan rotations", lambda r: r.scan_rotation_deg, lambda a, b: abs((a - b + 180) % 360 - 180) <= 0.5, "degrees",
         "leave out the files that differ"),
    )  # fmt: skip
    for what, value, same, unit, remedy in table:
        known = [(r, value(r)) for r in recordings if value(r) is not None]
        if not known:
            continue
        values = [v for _, v in known]
        usual = max(values, key=values.count)  # the file that differs is the one to name
        first = next(r for r, v in known if v == usual)
        odd = [(r, v) for r, v in known if not same(usual, v)]
        if odd:
            others = ", ".join(str(r.path) for r, _ in odd[1:4]) + (" ..." if len(odd) > 4 else "")
            raise InputError(
                f"{odd[0][0].path} has {what} of {_show(odd[0][1])} {unit}, {first.path} and others "
                f"{_show(usual)} {unit}"
                + (f" (so have {others})" if others else "")
                + f"; a series must not mix them: {remedy}"
            )


def _show(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


# ---------------------------------------------------------------- from HyperSpy's names


def _stage_tilt(instrument: dict[str, Any], signal: dict[str, Any]) -> float | None:
    found = _number(value_at(instrument, "Stage.tilt_alpha"))
    return stage_tilt(signal) if found is None else found


def _first(tree: Any, *paths: str) -> Any:
    return next((v for v in (value_at(tree, p) for p in paths) if v is not None), None)


def _number(value: Any) -> float | None:
    try:
        out = float(value)
    except (TypeError, ValueError):
        return None
    return out if math.isfinite(out) else None


def _positive(value: Any) -> float | None:
    out = _number(value)
    return out if out is not None and out > 0 else None


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v]
    return sum(known) / len(known) if known else None


def _energy(path: Path, axis: dict[str, Any]) -> tuple[float, float]:
    unit = str(axis.get("units") or "").strip().casefold()
    factor = {"kev": 1.0, "ev": 1e-3, "mev": 1e-6}.get(unit)
    scale, offset = _number(axis.get("scale")), _number(axis.get("offset"))
    if factor is None or not scale or scale <= 0 or offset is None or not 1e-5 < scale * factor < 1:
        raise InputError(
            f"{path} has no energy calibration (scale {axis.get('scale')}, offset {axis.get('offset')}, unit "
            f"{axis.get('units') or 'none'}); calibrate and save it again in the program that wrote it"
        )
    return scale * factor, offset * factor


def _pixel_nm(path: Path, y: dict[str, Any], x: dict[str, Any]) -> float | None:
    edges = []
    for axis in (y, x):
        edge, factor = _number(axis.get("scale")), unit_nm(str(axis.get("units") or ""))
        if edge is None or not factor or edge == 0:
            return None
        edges.append(abs(edge) * factor)
    if abs(edges[0] - edges[1]) > SAME_SIZE * min(edges):
        raise InputError(
            f"{path} has pixels of {edges[1]:g} x {edges[0]:g} nm; they must be square, so record or rebin it again"
        )
    return float(f"{edges[1]:.7g}")


def _when(md: dict[str, Any]) -> datetime | None:
    date, clock = (str(value_at(md, f"General.{k}") or "") for k in ("date", "time"))
    try:
        return datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=None) if clock else datetime.fromisoformat(date)
    except ValueError:
        return None


def _scan_rotation(instrument: Any, om: Any) -> float | None:
    stored = _number(value_at(instrument, "scan_rotation"))
    if stored is not None:
        return stored
    velox = _number(value_at(om, "Scan.ScanRotation"))
    if velox is not None:
        return math.degrees(velox)
    return _number(
        _first(om, "Microscope.ScanRotation", "ImageList.TagGroup0.ImageTags.DigiScan.Rotation", "DigiScan.Rotation")
    )


def _one_detector(eds: Any) -> tuple[Detector, ...]:
    if not eds:
        return ()
    name = str(eds.get("detector_type") or eds.get("detector") or "EDS")
    return (
        Detector(
            name,
            _number(eds.get("elevation_angle")),
            _number(eds.get("azimuth_angle")),
            _positive(eds.get("live_time")),
            _positive(eds.get("real_time")),
        ),
    )


def _detectors(om: Any) -> tuple[Detector, ...]:
    """Velox: every analytical detector, angles in radians."""
    out = []
    found = value_at(om, "Detectors")
    for entry in found.values() if isinstance(found, dict) else ():
        if not isinstance(entry, dict) or entry.get("DetectorType") != "AnalyticalDetector":
            continue
        elevation, azimuth = (_number(entry.get(k)) for k in ("ElevationAngle", "AzimuthAngle"))
        out.append(
            Detector(
                str(entry.get("DetectorName", "EDS")),
                None if elevation is None else round(math.degrees(elevation), 6),
                None if azimuth is None else round(math.degrees(azimuth), 6),
                _positive(entry.get("LiveTime")),
                _positive(entry.get("RealTime")),
            )
        )
    return tuple(out)


def _resolution(eds: Any, om: Any) -> Resolution | None:
    noise, slope = _number(value_at(om, "Spectrum.SigmaAbs")), _number(value_at(om, "Spectrum.SigmaLin"))
    if noise is not None and slope is not None and slope > 0 and noise >= 0:  # Bruker's own calibration
        return Resolution(noise, slope, "the file's calibration")
    stored = _positive(value_at(eds, "energy_resolution_MnKa"))
    if stored is not None and 50 < stored < 400:
        return Resolution.from_mnka(stored, f"the file, {stored:.0f} eV at Mn Ka")
    return None
