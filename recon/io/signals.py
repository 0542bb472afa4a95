"""HyperSpy's and ETSpy's signals, taken as they are and given back. HyperSpy is imported only to give one back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import BackendError, InputError
from recon.io.formats.axes import StackFile, of_signal
from recon.io.formats.common import Cube
from recon.io.formats.hspy import signal_dict

if TYPE_CHECKING:
    from recon.series.tilt_series import TiltSeries
    from recon.series.volume import Volume


def is_signal(thing: Any) -> bool:
    """Whether something is a HyperSpy signal (ETSpy's stacks are)."""
    return hasattr(thing, "axes_manager") and hasattr(thing, "metadata") and hasattr(thing, "data")


def as_dict(signal: Any) -> dict[str, Any]:
    """A signal as rosettasciio's dictionary: data, axes in the order of the array, metadata."""
    axes = [
        {"name": str(a.name), "size": a.size, "scale": float(getattr(a, "scale", 0.0) or 0.0),
         "offset": float(getattr(a, "offset", 0.0) or 0.0), "units": _unit(a.units), "navigate": bool(a.navigate),
         "axis": None if getattr(a, "is_uniform", True) else np.asarray(a.axis)}
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


def stack_of(signal: Any, name: str) -> StackFile:
    """The stack ``(tilt, y, x)`` of a Signal2D or an ETSpy TomoStack, axes by their names.

    Raises:
        InputError: it is not three-dimensional.
    """
    plain = as_dict(signal)
    if plain["data"].ndim != 3:
        raise InputError(f"{name} is a signal of shape {plain['data'].shape}; a stack of maps is (tilt, y, x)")
    found = of_signal(plain, "the signal")
    own = getattr(signal, "tilts", None)  # ETSpy
    if own is not None and is_signal(own):
        values = np.asarray(own.data, dtype=np.float64).ravel()
        if values.size == len(found.values) and np.unique(values).size == values.size:
            return replace(found, tilts_deg=values)
    return found


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
        return _signal(Cube(result.element, result.values, result.voxel_size_nm, provenance=result.provenance), etspy)
    return {n: _signal(Cube(n, v.values, v.voxel_size_nm, provenance=v.provenance), etspy) for n, v in result.items()}


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
    made = {k: plain[k] for k in ("data", "axes", "metadata", "original_metadata")}
    if not etspy:
        return Signal2D(**made)
    if cube.tilts_deg is None:
        return RecStack(**made)  # of a signal ETSpy would take the values alone
    return TomoStack(**made, tilts=np.asarray(cube.tilts_deg, dtype=np.float64)[:, None])
