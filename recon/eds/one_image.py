"""What is kept of one spectrum image: its maps and its fitted spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.components import Components, beside, binned, condensed, spectrum_of, window_sums
from recon.eds.images import read_image
from recon.eds.lines import Line, Resolution
from recon.eds.read import SpectrumImage, read_spectra
from recon.eds.recording import Recording
from recon.eds.spectrum import Spectrum, fit
from recon.eds.windows import Options, Window, _range, candidates, looked_for, resolution_of, window_of
from recon.errors import InputError
from recon.series.combine import fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _of_file(
    path: Path, wanted: list[Line], options: Options, name: str | None = None
) -> tuple[Recording, tuple[str, ...], _Tilt]:
    """Recording, parts and maps of a file, and the image called `name` in it."""
    image = read_spectra(path, detectors=options.detectors)
    tilt = _one(image, wanted, options)
    if name is not None:
        ny, nx = (n // options.bin * options.bin for n in image.recording.frame)
        seen = fitted(read_image(path, name)[None], image.recording.frame)[:, :ny, :nx]
        tilt = replace(tilt, image=fitted(seen, (ny // options.bin, nx // options.bin))[0])
    return image.recording, image.parts, tilt


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
    image: NDArray[np.float32] | None = None


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
