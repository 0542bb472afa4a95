"""Which channels hold a line, and what else may be in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.lines import TYPICAL_RESOLUTION_EV, Family, Line, Resolution, elements, families
from recon.eds.recording import Recording
from recon.errors import InputError, JobError

if TYPE_CHECKING:
    from numpy.typing import NDArray


BACKGROUNDS = ("fit", "windows", "none")
WINDOW_FWHM = 1.2  # whole width; close to the best signal to noise of a weak line
USUAL = ("C", "O", "Si", "Cu")  # film, oxide, detector, grid: looked for in every spectrum
SMALLEST_KEV = 0.1  # below it lies the strobe peak


@dataclass(frozen=True)
class Options:
    """How maps are made.

    Attributes:
        window: whole width of a line's window, in units of the line's FWHM.
        background: ``"fit"``, ``"windows"`` (a straight line between two windows beside the line's) or ``"none"``.
        elements: symbols that may be in the spectrum beside those of the lines and of the files.
        bin: pixels added up along each edge.
        detectors: ``"sum"`` or ``"each"``.
        resolution_ev: FWHM at Mn K-alpha, or None for the file's own, else a typical one.
    """

    window: float = WINDOW_FWHM
    background: str = "fit"
    elements: tuple[str, ...] = ()
    bin: int = 1
    detectors: str = "sum"
    resolution_ev: float | None = None

    @classmethod
    def of(cls, given: Options | Mapping[str, Any] | None) -> Options:
        """Options as they are, or of a dictionary of some of them.

        Raises:
            JobError: a name that is no option; the message has the nearest one.
        """
        if given is None or isinstance(given, Options):
            return given or cls()
        if not isinstance(given, Mapping):
            raise JobError(f'options are a dictionary such as {{"bin": 4}}, not {type(given).__name__}')
        known = tuple(f.name for f in fields(cls))
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                remedy = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
                raise JobError(f"options have no {name!r}; {remedy}")
        named = given.get("elements", ())
        return cls(**{**given, "elements": (named,) if isinstance(named, str) else tuple(named)})

    def check(self) -> None:
        if not 0.2 <= self.window <= 5:
            raise JobError(f"maps.window is {self.window:g} FWHM; it must be from 0.2 to 5, 1.2 serves most lines")
        if self.background not in BACKGROUNDS:
            raise JobError(f"maps.background {self.background!r} is unknown; use one of {', '.join(BACKGROUNDS)}")
        if self.detectors not in ("sum", "each"):
            raise JobError(f"maps.detectors {self.detectors!r} is unknown; use 'sum' or 'each'")
        if not isinstance(self.bin, int) or isinstance(self.bin, bool) or self.bin < 1:
            raise JobError(f"maps.bin is {self.bin!r}; it must be a whole number of pixels, 1 or more")
        for name in self.elements:
            if name not in elements():
                raise JobError(f"maps.elements names {name!r}, which is no element; use symbols such as Cu")


@dataclass(frozen=True)
class Window:
    """Channels ``first`` to ``last - 1`` of one file, about one line."""

    line: Line
    first: int
    last: int
    low_kev: float
    high_kev: float


def resolution_of(recording: Recording, options: Options) -> Resolution:
    """The detector's resolution: as given, else the file's, else a typical one."""
    if options.resolution_ev is not None:
        return Resolution.from_mnka(options.resolution_ev, f"given, {options.resolution_ev:g} eV at Mn Ka")
    if recording.resolution is not None:
        return recording.resolution
    return Resolution.from_mnka(TYPICAL_RESOLUTION_EV, f"assumed, {TYPICAL_RESOLUTION_EV:.0f} eV at Mn Ka")


def window_of(line: Line, recording: Recording, resolution: Resolution, width: float) -> Window:
    """The channels whose centres lie in the window about a line.

    Raises:
        InputError: the spectrum does not reach the line.
    """
    half = width * resolution.fwhm(line.energy_kev) / 2
    low, high = line.energy_kev - half, line.energy_kev + half
    begin, end = recording.range_kev
    begin = max(begin, SMALLEST_KEV)
    if low < begin or high > end:
        raise InputError(
            f"{recording.path} spans {begin:.2f} to {end:.2f} keV, {line.name} lies at {line.energy_kev:.2f} keV; "
            "leave this line out, or choose another of the element"
        )
    offset, step = recording.energy_offset_kev, recording.energy_step_kev
    first, last = int(np.ceil((low - offset) / step - 1e-9)), int(np.floor((high - offset) / step + 1e-9)) + 1
    if last - first < 2:
        raise InputError(
            f"{recording.path} has channels of {step * 1e3:.0f} eV, too wide for {line.name} (window "
            f"{(high - low) * 1e3:.0f} eV); export it with more channels"
        )
    return Window(line, first, last, low, high)


def _range(
    windows: Iterable[Window], symbols: Iterable[str], recording: Recording, resolution: Resolution
) -> tuple[int, int]:
    """Channels to fit: from where spectra begin to make sense to above the highest line, cutting no other line."""
    begin, end = recording.range_kev
    low = max(begin, SMALLEST_KEV, min(0.18, min(w.low_kev for w in windows)))
    top = max(w.high_kev for w in windows)
    high = max(top + 10 * resolution.fwhm(top), min(top + 1.5, 20.0), 2.5)
    for energy in sorted(f.strongest() for s in symbols for f in families(s)):
        if abs(energy - high) < 2 * resolution.fwhm(energy):
            high = energy + 2.5 * resolution.fwhm(energy)
    offset, step = recording.energy_offset_kev, recording.energy_step_kev
    last = int((min(end, high) - offset) / step) + 1
    return int(np.ceil((low - offset) / step)), min(recording.channels, last)


def looked_for(wanted: Sequence[Line], recording: Recording, options: Options) -> list[str]:
    """Elements that may be in the spectrum: of the lines, the file's, those named, the usual ones."""
    named = (e for e in (*recording.elements, *options.elements) if e in elements())
    return list(dict.fromkeys([w.family.element for w in wanted] + [*named, *USUAL]))


def candidates(
    wanted: Sequence[Line], recording: Recording, options: Options, energies: NDArray[np.float64]
) -> list[Family]:
    """Their families, as far as they can be seen in the fitted range."""
    most = (recording.voltage_kv or 200.0) * 0.95
    own = {w.family.name for w in wanted}

    def seen(family: Family) -> bool:
        """Whether enough of it lies in the fitted range to tell how much there is."""
        inside = sum(w for e, w in zip(family.energies_kev, family.weights, strict=True)
                     if energies[0] + 0.03 < e < energies[-1] - 0.1)  # fmt: skip
        return family.name in own or (inside > 0.3 and family.strongest() < most)

    return [f for s in looked_for(wanted, recording, options) for f in families(s) if seen(f)]
