"""HyperSpy's EDS signals as spectrum images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.eds.read import SpectrumImage, axes_of, check_counts
from recon.eds.recording import recording_of
from recon.errors import InputError
from recon.io.signals import as_dict, is_signal

if TYPE_CHECKING:
    from collections.abc import Iterable


def spectrum_images(signals: Iterable[Any]) -> Iterable[SpectrumImage]:
    """EDS spectrum images ``(y, x | energy)`` from HyperSpy signals, one a tilt; lazy ones are computed in turn.

    Raises:
        InputError: one is no such signal; the message has its number and title.
    """
    for number, signal in enumerate(signals, start=1):
        if isinstance(signal, SpectrumImage):
            yield signal
            continue
        if not is_signal(signal):
            raise InputError(f"signal {number} is a {type(signal).__name__}; give HyperSpy signals or files")
        plain = as_dict(signal)
        where = Path(f"signal {number} ({signal.metadata.get_item('General.title', '') or 'untitled'})")
        axes = axes_of(plain)
        if axes is None:
            raise InputError(
                f"{where} has the shape {plain['data'].shape} and is no EDS spectrum image; give one signal a tilt, "
                "with two axes of pixels and one of energy in keV or eV"
            )
        energy, nav = axes
        data = plain["data"].transpose(*nav, energy)
        check_counts(where, data)
        yield SpectrumImage(data[None], ("",), recording_of(where, plain, energy, nav))
