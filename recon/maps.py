"""From spectrum images to one map of counts for each X-ray line, with what is expected in it that is not the line.

A map holds the plain sum of the counts in a window about the line: whole numbers, Poisson distributed. Nothing is
subtracted from them. Continuum and lines of others are fitted in each tilt's summed spectrum (`recon.spectrum`),
spread over the pixels as smoothed estimates of each component tell, and go with the counts as `background_maps`, so
that they are a term of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.components import Components, beside, binned, condensed, spectrum_of, window_sums
from recon.errors import InputError, JobError
from recon.io.apart import Apart, CrashedError
from recon.io.metadata import Recording, agree
from recon.io.signals import is_signal, spectrum_images
from recon.io.spectra import SpectrumImage, find_spectra, read_spectra
from recon.io.tilt_sources import find_tilts
from recon.lines import TYPICAL_RESOLUTION_EV, Family, Line, Resolution, elements, families, find_line
from recon.spectrum import Spectrum, fit
from recon.tiltseries import MIN_TILTS, TiltSeries, check_tilts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.io.tilts import TiltSpec

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

    def check(self) -> None:
        if not 0.2 <= self.window <= 5:
            raise JobError(f"maps.window is {self.window:g} FWHM; it must be from 0.2 to 5, 1.2 serves most lines")
        if self.background not in BACKGROUNDS:
            raise JobError(f"maps.background {self.background!r} is unknown; use one of {', '.join(BACKGROUNDS)}")
        if self.detectors not in ("sum", "each"):
            raise JobError(f"maps.detectors {self.detectors!r} is unknown; use 'sum' or 'each'")
        if self.bin < 1:
            raise JobError(f"maps.bin is {self.bin}; it must be 1 pixel or more")
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


@dataclass(frozen=True, eq=False)
class LineMaps:
    """What was found in a series of spectrum images, tilts ascending.

    Attributes:
        counts: map's name to ``(tilt, y, x)`` uint32, or float32 if the files hold no whole numbers.
        background: map's name to ``(tilt, y, x)`` float32: counts in the window that are not the line's.
        tilts_deg, tilt_sources: of each tilt.
        pixel_size_nm: after binning; None if unknown.
        recordings: of each file.
        spectra: each tilt's fit.
        windows: line to its window in each file.
        resolution: that was used.
        warnings: one line each, for the user.
    """

    counts: dict[str, NDArray[Any]]
    background: dict[str, NDArray[np.float32]]
    tilts_deg: NDArray[np.float64]
    tilt_sources: tuple[str, ...]
    pixel_size_nm: float | None
    recordings: tuple[Recording, ...]
    spectra: tuple[Spectrum, ...]
    windows: dict[str, tuple[Window, ...]]
    resolution: Resolution
    warnings: tuple[str, ...]
    history: tuple[str, ...] = field(default=())

    def series(self, *, tilt_axis: str = "y", pixel_size_nm: float | None = None) -> TiltSeries:
        """The maps as a `TiltSeries`, background included; `pixel_size_nm` is that of the recorded pixels."""
        size = self.pixel_size_nm if pixel_size_nm is None else pixel_size_nm * self.binning
        if size is None:
            raise InputError(
                f"{self.recordings[0].path} does not say how large its pixels are; give pixel_size_nm, the edge of a "
                "recorded pixel in nm"
            )
        turn: Callable[[Any], Any] = (lambda a: a.swapaxes(1, 2)) if tilt_axis == "x" else (lambda a: a)
        where = {n: f"of {len(self.recordings)} spectrum images" for n in self.counts}
        series = TiltSeries.create({n: turn(c) for n, c in self.counts.items()}, self.tilts_deg, size, where=where)
        below = np.ascontiguousarray(np.stack([turn(self.background[n]) for n in self.counts]), dtype=np.float32)
        note = self.history[0] if self.history else "maps from spectrum images"
        if tilt_axis == "x":
            note += "; rows and columns swapped, since the tilt axis was x"
        return series.evolve(note, background_maps=below if below.any() else None)

    @property
    def binning(self) -> int:
        ny = self.recordings[0].frame[0]
        return max(1, int(ny / next(iter(self.counts.values())).shape[1]))


def line_maps(
    source: str | Path | Sequence[str | Path] | Iterable[SpectrumImage],
    lines: Sequence[str],
    *,
    tilts: TiltSpec | None = None,
    options: Options | None = None,
    base: str | Path = ".",
    log: Callable[[str], None] | None = None,
) -> LineMaps:
    """Maps of some lines from a folder, a pattern, a list of files, HyperSpy signals or `SpectrumImage`s.

    One spectrum image is in memory at a time.

    Args:
        source: see `find_spectra`; or signals ``(y, x | energy)``, one a tilt.
        lines: such as ``["Fe_Ka", "Si_Ka"]``.
        tilts: degrees, in the order of the files; by default what `find_tilts` finds.
        options: see `Options`.
        base: folder that relative paths start from.
        log: called with a line for each file.

    Raises:
        InputError: a file or a line that does not serve; the message names it and the remedy.
    """
    options = options or Options()
    options.check()
    wanted = [find_line(n) for n in lines]
    if not wanted:
        raise InputError('no lines were named; give lines = ["Fe_Ka", ...]')
    if len({w.name for w in wanted}) < len(wanted):
        raise InputError(f"lines names one twice ({', '.join(lines)}); leave one out")
    recordings: list[Recording] = []
    parts: list[_Tilt] = []
    names: tuple[str, ...] | None = None
    for recording, found, part in _tilts(source, base, wanted, options):
        recordings.append(recording)
        agree(recordings)
        if names is not None and found != names:
            raise InputError(
                f"{recording.path} has the detectors {', '.join(found)}, {recordings[0].path} has "
                f"{', '.join(names)}; use maps.detectors = 'sum'"
            )
        names = found
        parts.append(part)
        if log is not None:
            log(f"{recording.path.name}: {int(part.spectrum.counts.sum())} counts")
    if not recordings:
        raise InputError("there are no spectrum images; name a folder or a pattern")
    if len(recordings) < MIN_TILTS:
        raise InputError(
            f"{recordings[0].path} and the files with it are {len(recordings)} spectrum images; a tilt series needs at "
            f"least {MIN_TILTS}, so name a folder or a pattern that holds them all"
        )
    angles, sources = find_tilts(recordings, tilts, base)
    order = np.argsort(angles, kind="stable")
    check_tilts(angles)
    return _gather([parts[i] for i in order], [recordings[i] for i in order], angles[order],
                   [sources[i] for i in order], wanted, options)  # fmt: skip


def _tilts(
    source: Any, base: str | Path, wanted: list[Line], options: Options
) -> Iterator[tuple[Recording, tuple[str, ...], _Tilt]]:
    """What is kept of each spectrum image: recording, names of the detectors, maps."""
    if isinstance(source, str | Path):
        paths = find_spectra(source, base)
    else:
        items = [source] if is_signal(source) else list(source) if isinstance(source, list | tuple) else source
        if not (isinstance(items, list) and all(isinstance(i, str | Path) for i in items)):
            for image in spectrum_images(items):
                yield image.recording, image.parts, _one(image, wanted, options)
            return
        paths = [Path(base) / Path(i).expanduser() for i in items]
    with Apart() as reader:
        for path in paths:
            try:
                yield reader.call(_of_file, path, wanted, options)
            except CrashedError as exc:
                raise InputError(
                    f"{path} is damaged, the library that reads it crashes ({exc}); copy or export it again"
                ) from exc


def _of_file(path: Path, wanted: list[Line], options: Options) -> tuple[Recording, tuple[str, ...], _Tilt]:
    image = read_spectra(path, detectors=options.detectors)
    return image.recording, image.parts, _one(image, wanted, options)


# ---------------------------------------------------------------- one spectrum image


@dataclass(frozen=True)
class _Tilt:
    """What is kept of one spectrum image."""

    counts: dict[str, NDArray[Any]]
    background: dict[str, NDArray[np.float32]]
    spectrum: Spectrum
    windows: dict[str, Window]
    resolution: Resolution
    # for each line: counts in its window, and of these the line's own, the continuum's and each other family's
    shares: dict[str, dict[str, float]]


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


def _one(image: SpectrumImage, wanted: list[Line], options: Options) -> _Tilt:
    recording = image.recording
    resolution = resolution_of(recording, options)
    windows = {w.name: window_of(w, recording, resolution, options.window) for w in wanted}
    if min(recording.frame) // options.bin < 4:
        raise InputError(
            f"{recording.path} has {recording.frame[0]} x {recording.frame[1]} pixels; with maps.bin = {options.bin} "
            "fewer than 4 x 4 are left, so lower it"
        )
    whole = image.counts.dtype.kind in "iu"
    sparse = [condensed(data.reshape(-1, recording.channels)) for data in image.counts]
    total = np.sum([spectrum_of(part) for part in sparse], axis=0)
    if not total.any():
        raise InputError(f"{recording.path} holds no counts at all; leave this file out")
    counts: dict[str, NDArray[Any]] = {}
    for part, data in zip(image.parts, sparse, strict=True):
        sums = window_sums(data, [(w.first, w.last) for w in windows.values()]).reshape(-1, *recording.frame)
        for name, summed in zip(windows, binned(sums, options.bin), strict=True):
            counts[_named(name, part)] = _narrow(summed, whole, recording.path)
    counts = {_named(n, p): counts[_named(n, p)] for n in windows for p in image.parts}  # line by line
    low, high = _range(windows.values(), looked_for(wanted, recording, options), recording, resolution)
    energies = np.asarray(recording.energy_offset_kev + np.arange(low, high) * recording.energy_step_kev)
    spectrum = fit(total[low:high], energies, candidates(wanted, recording, options, energies), resolution)
    shares, background = _background(image, sparse, windows, spectrum, resolution, low, options)
    return _Tilt(counts, background, spectrum, windows, resolution, shares)


def _named(line: str, part: str) -> str:
    return f"{line}-{''.join(c if c.isalnum() else '_' for c in part)}" if part else line


def _narrow(summed: NDArray[Any], whole: bool, path: Path) -> NDArray[Any]:
    """The sums in the type they are kept in; never wrapped around."""
    if not whole:
        return summed.astype(np.float32)
    if summed.max(initial=0) > 2**24:
        raise InputError(
            f"{path} has {summed.max()} counts in one pixel and line, more than single precision holds exactly "
            f"({2**24}); bin less"
        )
    return summed.astype(np.uint32)


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


def _background(
    image: SpectrumImage,
    sparse: list[Any],
    windows: dict[str, Window],
    spectrum: Spectrum,
    resolution: Resolution,
    low: int,
    options: Options,
) -> tuple[dict[str, dict[str, float]], dict[str, NDArray[np.float32]]]:
    """What each window holds beside its line: counts by component, and per pixel."""
    shares = {name: _share(window, spectrum, low) for name, window in windows.items()}
    out: dict[str, NDArray[np.float32]] = {}
    estimates = None
    if options.background == "fit":
        needed = {n for s in shares.values() for n, c in s.items() if c > 2e-3 * s["counts"]}
        estimates = Components(sparse, image.recording.frame, spectrum, low, options.bin, needed)
    for name, window in windows.items():
        for number, part in enumerate(image.parts):
            if options.background == "none":
                shape = tuple(n // options.bin for n in image.recording.frame)
                below = np.zeros(shape, np.float32)
            elif estimates is None:
                span, fwhm = (window.first, window.last), resolution.fwhm(window.line.energy_kev)
                below = beside(image.counts[number], span, fwhm, image.recording, options.bin)
            else:
                below = estimates.below(number, shares[name])
            out[_named(name, part)] = below
    return shares, out


def _share(window: Window, spectrum: Spectrum, low: int) -> dict[str, float]:
    """Counts in a window: all of them, and as fitted the line's own, the continuum's and each other family's."""
    span = slice(window.first - low, window.last - low)
    inside = {f.name: float(a * p[span].sum())
              for f, a, p in zip(spectrum.families, spectrum.amounts, spectrum.peaks, strict=True)}  # fmt: skip
    return {
        "counts": float(spectrum.counts[span].sum()),
        "line": inside.pop(window.line.family.name),
        "continuum": float(spectrum.continuum[span].sum()),
        **{k: v for k, v in inside.items() if v > 0},
    }


# ---------------------------------------------------------------- the series


def _gather(
    parts: list[_Tilt],
    recordings: list[Recording],
    angles: NDArray[np.float64],
    sources: list[str],
    wanted: list[Line],
    options: Options,
) -> LineMaps:
    from recon.findings import findings

    names = list(parts[0].counts)
    counts = {n: np.stack([p.counts[n] for p in parts]) for n in names}
    background = {n: np.stack([p.background[n] for p in parts]) for n in names}
    pixel = next((r.pixel_size_nm for r in recordings if r.pixel_size_nm), None)
    warnings = findings(
        [p.spectrum for p in parts], [p.shares for p in parts], wanted, angles, recordings, sources,
        [p.resolution for p in parts],
    )  # fmt: skip
    note = (
        f"maps of {', '.join(w.name for w in wanted)} from {len(parts)} spectrum images ({recordings[0].path.name} ... "
        f"{recordings[-1].path.name}); tilts from {', '.join(dict.fromkeys(sources))}; window {options.window:g} FWHM, "
        f"background {options.background}, {options.bin} x {options.bin} pixels added up"
    )
    return LineMaps(
        counts, background, angles, tuple(sources), None if pixel is None else pixel * options.bin,
        tuple(recordings), tuple(p.spectrum for p in parts),
        {w.name: tuple(p.windows[w.name] for p in parts) for w in wanted}, parts[0].resolution,
        tuple(warnings), (note,),
    )  # fmt: skip
