"""What a Velox file says of its spectrum streams, one for each detector, whatever their ids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from recon.eds.recording import Detector, Recording


def with_stream_times(path: Path, recording: Recording) -> Recording:
    """The recording with each detector's live and real time from its own stream, in the order of their names.

    Every stream repeats the table of all detectors, but only its own entry is about its own counts.
    """
    times = _times(path)
    if not times:
        return recording
    detectors = tuple(
        replace(d, live_time_s=times[d.name][0], real_time_s=times[d.name][1]) if d.name in times else d
        for d in sorted(recording.detectors, key=lambda d: d.name)
    )
    return replace(
        recording,
        detectors=detectors,
        live_time_s=_mean(detectors, "live_time_s") or recording.live_time_s,
        real_time_s=_mean(detectors, "real_time_s") or recording.real_time_s,
    )


def _mean(detectors: tuple[Detector, ...], what: str) -> float | None:
    known = [getattr(d, what) for d in detectors if getattr(d, what)]
    return sum(known) / len(known) if known else None


def _times(path: Path) -> dict[str, tuple[float | None, float | None]]:
    """Detector to live and real time in seconds."""
    import h5py

    out: dict[str, tuple[float | None, float | None]] = {}
    try:
        with h5py.File(path) as file:
            for stream in file["Data/SpectrumStream"].values():
                about = json.loads(bytes(stream["Metadata"][:, -1]).rstrip(b"\0").decode())
                name = str(about["BinaryResult"]["Detector"])
                entries: list[Any] = [d for d in about["Detectors"].values() if d.get("DetectorName") == name]
                if len(entries) == 1:
                    out[name] = (_seconds(entries[0].get("LiveTime")), _seconds(entries[0].get("RealTime")))
    except Exception:  # files of other versions lack some of it; then times are those that the reader found
        return {}
    return out


def _seconds(value: Any) -> float | None:
    return float(value) if value is not None and float(value) > 0 else None
