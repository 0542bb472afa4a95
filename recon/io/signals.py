"""HyperSpy's and ETSpy's signals, taken as they are and given back. HyperSpy is imported only to give one back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import BackendError, InputError
from recon.io.formats.common import SAME_SIZE, Cube, unit_nm
from recon.io.formats.hspy import signal_dict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.series.tilt_series import TiltSeries
    from recon.series.volume import Volume


def is_signal(thing: Any) -> bool:
    """Whether something is a HyperSpy signal (ETSpy's stacks are)."""
    return hasattr(thing, "axes_manager") and hasattr(thing, "metadata") and hasattr(thing, "data")


def as_dict(signal: Any) -> dict[str, Any]:
    """A signal as rosettasciio's dictionary: data, axes in the order of the array, metadata."""
    axes = [
        {"name": str(a.name), "size": a.size, "scale": float(getattr(a, "scale", 0.0) or 0.0),
         "offset": float(getattr(a, "offset", 0.0) or 0.0), "units": _unit(a.units), "navigate": bool(a.navigate)}
        for a in signal.axes_manager._axes
    ]  # fmt: skip
    data = signal.data
    if hasattr(data, "compute"):  # a lazy signal
        data = data.compute()
    original = getattr(signal, "original_metadata", None)
    return {
        "data": np.asarray(data),
        "axes": axes,
        "metadata": signal.metadata.as_dictionary(),
        "original_metadata": original.as_dictionary() if original is not None else {},
    }


def _unit(unit: Any) -> str:
    return unit if isinstance(unit, str) else ""  # traits' Undefined


def stack_of(signal: Any, name: str) -> tuple[NDArray[Any], float | None, NDArray[np.float64] | None]:
    """``(tilt, y, x)``, pixel in nm or None, and tilts or None, of a Signal2D or an ETSpy TomoStack.

    Raises:
        InputError: it is not three-dimensional.
    """
    plain = as_dict(signal)
    data, axes = plain["data"], plain["axes"]
    if data.ndim != 3:
        raise InputError(f"{name} is a signal of shape {data.shape}; a stack of maps is (tilt, y, x)")
    edges = [abs(a["scale"]) * unit_nm(a["units"]) for a in axes[1:]]
    square = edges[1] > 0 and abs(edges[0] - edges[1]) <= SAME_SIZE * edges[1]
    return data, float(f"{edges[1]:.7g}") if square else None, _tilts(signal, plain)


def _tilts(signal: Any, plain: dict[str, Any]) -> NDArray[np.float64] | None:
    n = plain["data"].shape[0]
    own = getattr(signal, "tilts", None)  # ETSpy
    if own is not None and is_signal(own):
        values = np.asarray(own.data, dtype=np.float64).ravel()
        if values.size == n and np.unique(values).size == n:
            return values
    stored = (plain["original_metadata"].get("recon") or {}).get("tilts_deg")
    if stored is not None and len(stored) == n:
        return np.asarray(stored, dtype=np.float64)
    axis = plain["axes"][0]
    if axis["units"].casefold() in ("degrees", "degree", "deg", "°") and axis["scale"]:
        return np.asarray(axis["offset"] + axis["scale"] * np.arange(n))
    return None


def to_signals(result: TiltSeries | dict[str, Volume] | Volume, *, etspy: bool = False) -> Any:
    """HyperSpy signals with axes in nm: of a `Volume` one Signal2D ``(z | y, x)``, else one for each element.

    Args:
        result: what to convert; a series gives its counts ``(tilt | y, x)``.
        etspy: True for ETSpy's TomoStack and RecStack, which carry the tilts in their own way.

    Raises:
        BackendError: HyperSpy or ETSpy is not installed.
    """
    from recon.series.tilt_series import TiltSeries
    from recon.series.volume import Volume

    if isinstance(result, TiltSeries):
        return {
            n: _signal(Cube(n, result.counts[e], result.pixel_size_nm, result.tilts_deg), etspy)
            for e, n in enumerate(result.elements)
        }
    if isinstance(result, Volume):
        return _signal(Cube(result.element, result.values, result.voxel_size_nm), etspy)
    return {n: _signal(Cube(n, v.values, v.voxel_size_nm), etspy) for n, v in result.items()}


def _signal(cube: Cube, etspy: bool) -> Any:
    try:
        from hyperspy.signals import Signal2D

        if etspy:
            from etspy.base import RecStack, TomoStack
    except ImportError as exc:
        what = "etspy" if etspy else "hyperspy"
        raise BackendError(f"{what} is not installed; pip install {what}, or write a .hspy file instead") from exc
    plain = signal_dict(cube)
    for axis in plain["axes"]:
        axis.pop("_type")
    keep = ("data", "axes", "metadata", "original_metadata")
    signal = Signal2D(**{k: plain[k] for k in keep})
    if not etspy:
        return signal
    if cube.tilts_deg is None:
        return RecStack(signal)
    return TomoStack(signal, tilts=np.asarray(cube.tilts_deg, dtype=np.float64)[:, None])
