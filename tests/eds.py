"""Simulated spectrum images with known contents, written as microscopes' files. No code of recon in here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# keV and relative weight, from the X-ray Data Booklet (LBNL 2009), tables 1-2 and 1-3
LINES = {
    "Fe": ((6.404, 1.0), (6.391, 0.50), (7.058, 0.20)),
    "Co": ((6.930, 1.0), (6.915, 0.51), (7.649, 0.20)),
    "Cu": ((8.048, 1.0), (8.028, 0.51), (8.905, 0.20)),
    "Zn": ((8.639, 1.0), (8.616, 0.51), (9.572, 0.20)),
    "Si": ((1.740, 1.0),),
    "O": ((0.525, 1.0),),
}
OFFSET, STEP, CHANNELS = -0.1, 0.010, 1024
ENERGIES = OFFSET + STEP * np.arange(CHANNELS)
RESOLUTION_EV = 130.0


def sigma(energy: float, fwhm_ev: float = RESOLUTION_EV) -> float:
    """Width of a line, keV, for silicon: Fiori and Newbury (1978)."""
    return float(np.sqrt((fwhm_ev * 1e-3) ** 2 + 2.5e-3 * (energy - 5.895)) / 2.3548)


def line_shape(element: str, shift_kev: float = 0.0) -> np.ndarray:
    """One count of an element, spread over the channels."""
    total = np.zeros(CHANNELS)
    for energy, weight in LINES[element]:
        s = sigma(energy)
        total += weight * np.exp(-0.5 * ((ENERGIES - energy - shift_kev) / s) ** 2) / (s * np.sqrt(2 * np.pi)) * STEP
    return total / sum(w for _, w in LINES[element])


def continuum_shape() -> np.ndarray:
    """A smooth background, one count in all."""
    e = np.maximum(ENERGIES, 0.05)
    shape = (np.exp(-e / 3) + 0.1) * (1 - np.exp(-((e / 0.6) ** 2))) * (ENERGIES > 0.1)
    return shape / shape.sum()


def spectrum_image(
    amounts: dict[str, np.ndarray], continuum: np.ndarray, seed: int = 0, shift_kev: float = 0.0, dtype: Any = np.uint16
) -> np.ndarray:
    """``(y, x, channel)`` Poisson counts; `amounts` and `continuum` are expected counts per pixel ``(y, x)``."""
    expected = continuum[..., None] * continuum_shape()
    for element, counts in amounts.items():
        expected = expected + counts[..., None] * line_shape(element, shift_kev)
    drawn = np.random.default_rng(seed).poisson(expected)
    return np.minimum(drawn, np.iinfo(dtype).max).astype(dtype)


def disc(n: int = 24, radius: float = 0.3, centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    y, x = np.mgrid[:n, :n] / n
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(float)


def axes(
    counts: np.ndarray, pixel_nm: float, *, energy_unit: str = "keV", length_unit: str = "nm"
) -> list[dict[str, Any]]:
    length = {"nm": 1.0, "µm": 1e-3, "m": 1e-9}[length_unit]
    factor = {"keV": 1.0, "eV": 1e3}[energy_unit]
    out: list[dict[str, Any]] = [
        {"name": n, "size": s, "offset": 0.0, "scale": pixel_nm * length, "units": length_unit, "navigate": True}
        for n, s in zip("yx", counts.shape[:2], strict=True)
    ]
    out.append({"name": "Energy", "size": counts.shape[2], "offset": OFFSET * factor, "scale": STEP * factor,
                "units": energy_unit, "navigate": False})  # fmt: skip
    return out


def signal(
    counts: np.ndarray,
    *,
    tilt: float | None = 0.0,
    pixel_nm: float = 5.0,
    kv: float = 200.0,
    elements: tuple[str, ...] = (),
    energy_unit: str = "keV",
    length_unit: str = "nm",
    **eds: Any,
) -> dict[str, Any]:
    """What rosettasciio's writers take."""
    tem: dict[str, Any] = {
        "beam_energy": kv,
        "beam_current": 0.5,
        "Detector": {"EDS": {"energy_resolution_MnKa": RESOLUTION_EV, "elevation_angle": 18.0, "azimuth_angle": 45.0,
                             "live_time": 90.0, "real_time": 100.0, **eds}},
    }  # fmt: skip
    if tilt is not None:
        tem["Stage"] = {"tilt_alpha": tilt}
    table = axes(counts, pixel_nm, energy_unit=energy_unit, length_unit=length_unit)
    for axis in table:
        axis["_type"] = "UniformDataAxis"
    return {
        "data": counts,
        "axes": table,
        "metadata": {
            "General": {"title": "EDS", "date": "2024-05-01", "time": "10:00:00"},
            "Signal": {"signal_type": "EDS_TEM"},
            "Acquisition_instrument": {"TEM": tem},
            "Sample": {"elements": list(elements)},
            "_HyperSpy": {},
        },
        "original_metadata": {},
        "attributes": {"_lazy": False},
        "package_info": {"package": "hyperspy", "package_version": "2"},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


def write_hspy(path: Path, counts: np.ndarray, **kwargs: Any) -> Path:
    from rsciio.hspy import file_writer

    file_writer(str(path), signal(counts, **kwargs))
    return path


def write_rpl(path: Path, counts: np.ndarray, **kwargs: Any) -> Path:
    from rsciio.ripple import file_writer

    file_writer(str(path), signal(counts, **kwargs))
    return path


def write_velox(
    path: Path,
    detectors: list[np.ndarray],
    *,
    tilt: float = 0.0,
    pixel_nm: float = 5.0,
    kv: float = 200.0,
    scan_rotation_deg: float = 0.0,
    frames: int = 2,
    stage: bool = True,
) -> Path:
    """An EMD as Velox writes it (version 11): one event stream for each detector, angles in radians, lengths in m.

    Events are channel numbers, 65535 ends a pixel; the counts are dealt out to the frames.
    """
    ny, nx, channels = detectors[0].shape
    names = [f"SuperXG1{i + 1}" for i in range(len(detectors))]
    described = {
        f"Detector-{i}": {
            "DetectorName": n, "DetectorType": "AnalyticalDetector", "Dispersion": str(STEP * 1e3),
            "OffsetEnergy": str(OFFSET * 1e3), "ElevationAngle": str(np.radians(18.0)),
            "AzimuthAngle": str(np.radians(45.0 + 90 * i)), "LiveTime": str(80.0 + i), "RealTime": "100.0",
        }
        for i, n in enumerate(names)
    }  # fmt: skip
    described["Detector-9"] = {"DetectorName": "HAADF", "DetectorType": "ScanningDetector"}
    common: dict[str, Any] = {
        "Detectors": described,
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1714557600"}},
        "Optics": {"AccelerationVoltage": str(kv * 1e3)},
        "Scan": {"ScanRotation": str(np.radians(scan_rotation_deg)), "FrameTime": "1.5"},
        "Instrument": {"InstrumentClass": "Titan"},
        "CustomProperties": {"StemMagnification": {"type": "double", "value": "20000"}},
    }
    if stage:
        common["Stage"] = {
            "AlphaTilt": str(np.radians(tilt)),
            "BetaTilt": "0",
            "Position": {"x": "0", "y": "0", "z": "0"},
        }

    def metadata(detector: str) -> dict[str, Any]:
        size = {"width": str(pixel_nm * 1e-9), "height": str(pixel_nm * 1e-9)}
        index = "9" if detector == "HAADF" else str(names.index(detector))
        binary = {"PixelSize": size, "Offset": {"x": "0", "y": "0"}, "PixelUnitX": "m", "PixelUnitY": "m",
                  "Detector": detector, "DetectorIndex": index}  # fmt: skip
        return {**common, "BinaryResult": binary}

    def text(group: h5py.Group, name: str, value: Any) -> None:
        group.create_dataset(name, data=[json.dumps(value).encode()], dtype=h5py.special_dtype(vlen=bytes))

    def padded(group: h5py.Group, value: Any) -> None:
        raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
        table = np.zeros((max(len(raw), 4096), frames), np.uint8)
        table[: len(raw)] = raw[:, None]
        group.create_dataset("Metadata", data=table)

    with h5py.File(path, "w") as file:
        text(file, "Version", {"format": "Velox", "version": "11"})
        image = file.create_group("Data/Image/aaaa")
        image.create_dataset("Data", data=np.zeros((ny, nx, 1), np.uint16))
        padded(image, metadata("HAADF"))
        settings = file.create_group("Data/SpectrumImage/bbbb")
        text(settings, "SpectrumImageSettings", {"endFramePosition": str(frames)})
        rng = np.random.default_rng(1)
        for i, (name, counts) in enumerate(zip(names, detectors, strict=True)):
            group = file.create_group(f"Data/SpectrumStream/{i:04d}")
            left, parts = counts.astype(np.int64), []
            for f in range(frames):
                part = left if f == frames - 1 else rng.binomial(left, 1 / (frames - f))
                left = left - part
                for spectrum in part.reshape(-1, channels):
                    parts += [np.repeat(np.arange(channels), spectrum), [65535]]
            stream = np.concatenate(parts).astype(np.uint16)
            group.create_dataset("Data", data=stream[:, None])
            text(group, "AcquisitionSettings", {"bincount": str(channels), "StreamEncoding": "uint16"})
            padded(group, metadata(name))
        file.create_group("Displays/ImageDisplay")
        file.create_group("SharedProperties")
    return path


def write_zspy(path: Path, counts: np.ndarray, **kwargs: Any) -> Path:
    """HyperSpy's hierarchy in Zarr 2, copied from its HDF5 twin: rosettasciio's own writer needs zarr 2."""
    import zarr

    twin = write_hspy(path.with_suffix(".twin.hspy"), counts, **kwargs)

    def plain(value: Any) -> Any:
        value = value.decode() if isinstance(value, bytes) else value
        return (
            value.item()
            if isinstance(value, np.generic)
            else value.tolist()
            if isinstance(value, np.ndarray)
            else value
        )

    with h5py.File(twin) as file:
        root = zarr.open_group(str(path), mode="w", zarr_format=2)
        root.attrs.update({"file_format": "ZSpy", "file_format_version": plain(file.attrs["file_format_version"])})

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = root.require_group(name)
            else:
                made = (
                    root.create_array(name=name, shape=item.shape, dtype=item.dtype)
                    if item.dtype.kind in "uif"
                    else None
                )
                if made is None:
                    return
                made[...] = item[()]
            made.attrs.update({k: plain(v) for k, v in item.attrs.items()})

        # not within the visit, which holds h5py's lock: a thread of zarr that collects garbage of h5py's waits for it
        items: list[tuple[str, Any]] = []
        file.visititems(lambda name, item: items.append((name, item)))
        for name, item in items:
            copy(name, item)
    twin.unlink()
    return path
