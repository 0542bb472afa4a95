"""Ripple's header: its size against that of the data beside it, and its own keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.files import explain_reading


def check_rpl(path: Path) -> None:
    """Raise InputError unless the ``.raw`` beside a ``.rpl`` is as long as this says."""
    with explain_reading(path, "name a .rpl file"):
        text = path.read_text(encoding="latin-1")
    keys = {
        m[1].casefold(): m[2] for m in re.finditer(r"^\W*(?:MLX::)?([A-Za-z-]+)[\s:]+([^\s)]+)", text, re.MULTILINE)
    }
    try:
        width, height, depth, length = (int(keys[k]) for k in ("width", "height", "depth", "data-length"))
        offset = int(keys.get("offset", 0))
    except (KeyError, ValueError):
        raise InputError(
            f"{path} lacks one of width, height, depth and data-length, or it is no whole number; export it again"
        ) from None
    raw = next((p for p in (path.with_suffix(s) for s in (".raw", ".RAW", ".Raw")) if p.is_file()), None)
    if raw is None:
        raise InputError(f"{path} has no {path.stem}.raw beside it, which holds its counts; copy both")
    declared, stored = offset + width * height * depth * length, raw.stat().st_size
    if declared != stored:
        raise InputError(
            f"{path} tells of {height} x {width} pixels of {depth} channels, {declared} bytes, but {raw.name} has "
            f"{stored} bytes; copy or export both again"
        )


def with_own_keys(signal: dict[str, Any]) -> dict[str, Any]:
    """A signal whose energy axis is calibrated by Ripple's own ``ev-per-chan``, where nothing else says it."""
    step = (signal.get("original_metadata") or {}).get("ev-per-chan")
    axes = signal["axes"]
    if not step or len(axes) != 3 or any(str(a.get("units") or "") for a in axes if a["name"] == "depth"):
        return signal
    axes = [{**a, "name": "Energy", "scale": float(step), "units": "eV", "navigate": False}
            if a["name"] == "depth" else a for a in axes]  # fmt: skip
    metadata = dict(signal.get("metadata") or {})
    metadata["Signal"] = {**(metadata.get("Signal") or {}), "signal_type": "EDS_TEM"}
    return {**signal, "axes": axes, "metadata": metadata}
