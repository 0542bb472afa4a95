"""What a user should know about a series of spectra before trusting its maps: one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.eds.lines import Line, Resolution, elements
from recon.eds.recording import Recording
from recon.eds.spectrum import Spectrum, strongest, unexplained

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAP = 0.05  # counts of another family, relative to the line's own, that are told
ALIKE = 0.85  # cosine between two families' shapes beyond which the fit cannot be trusted to tell them apart
STRAY = 1.8  # growth with tilt, relative to 1/cos, of what does not come from the sample


def findings(
    spectra: Sequence[Spectrum],
    shares: Sequence[dict[str, dict[str, float]]],
    wanted: Sequence[Line],
    tilts: NDArray[np.float64],
    recordings: Sequence[Recording],
    sources: Sequence[str],
    resolutions: Sequence[Resolution],
) -> list[str]:
    """Warnings, the most important first; tilts ascending."""
    out = []
    if resolutions[0].source.startswith("assumed"):
        out.append(f"the files do not tell the detector's resolution; {resolutions[0].source} ([maps] resolution_ev)")
    out += _lines(spectra, shares, wanted)
    out += _stray(spectra, tilts, wanted)
    out += drift(spectra, tilts, resolutions[0])
    out += _nameless(spectra, resolutions[0])
    out += _times(recordings, tilts)
    return out


def _lines(
    spectra: Sequence[Spectrum], shares: Sequence[dict[str, dict[str, float]]], wanted: Sequence[Line]
) -> list[str]:
    out = []
    for line in wanted:
        sums: dict[str, float] = {}
        for tilt in shares:
            for name, counts in tilt[line.name].items():
                sums[name] = sums.get(name, 0.0) + counts
        total, own = sums.pop("counts"), sums.pop("line")
        index = [[f.name for f in s.families].index(line.family.name) for s in spectra]
        amount = sum(float(s.amounts[i]) for s, i in zip(spectra, index, strict=True))
        error = float(np.sqrt(sum(float(s.errors[i]) ** 2 for s, i in zip(spectra, index, strict=True))))
        # the continuum under a line is known to a percent or two at best, however many counts there are
        error = float(np.hypot(error, 0.02 * total * amount / own if own > 0 else 0.02 * total))
        if own <= 0 or amount < 3 * error:
            out.append(
                f"{line.name} is only background: {own:.0f} of {total:.0f} counts in its window are fitted to the "
                "line; leave it out"
            )
            continue
        for name, counts in sorted(sums.items(), key=lambda item: -item[1]):
            if name != "continuum" and counts > OVERLAP * own:
                out.append(
                    f"{line.name} is overlapped by {name}: {counts:.0f} counts beside {own:.0f} of its own; both are "
                    "fitted together, and what is not the line's goes into the background"
                )
        out += _alike(spectra[len(spectra) // 2], line)
    return out


def _alike(spectrum: Spectrum, line: Line) -> list[str]:
    names = [f.name for f in spectrum.families]
    i = names.index(line.family.name)
    out = []
    for j, name in enumerate(names):
        a, b = spectrum.peaks[i], spectrum.peaks[j]
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        if i != j and size > 0 and float(a @ b) / size > ALIKE:
            out.append(
                f"{line.name} and {name} look alike to this detector; if the sample holds both, choose another line"
            )
    return out


def _stray(spectra: Sequence[Spectrum], tilts: NDArray[np.float64], wanted: Sequence[Line]) -> list[str]:
    """Families that grow with tilt far more than a section's path length does."""
    path = 1 / np.cos(np.radians(np.minimum(np.abs(tilts), 75)))
    order = np.argsort(path)
    third = max(1, len(tilts) // 4)
    flat, steep = order[:third], order[-third:]
    growth = path[steep].mean() / path[flat].mean()
    if growth < 1.05:
        return []
    out = []
    mapped = {w.family.name for w in wanted}
    for i, family in enumerate(spectra[0].families):
        amounts = np.array([s.amounts[i] for s in spectra])
        errors = np.array([s.errors[i] for s in spectra])
        low, high = amounts[flat].mean(), amounts[steep].mean()
        spread = np.hypot(errors[flat].mean(), errors[steep].mean())
        if high > 20 * errors[steep].mean() and high - low * growth * STRAY > 5 * spread:
            what = f"{family.name} grows {high / max(low, 1e-9):.1f} times from low to high tilt, the path only "
            what += f"{growth:.1f} times: from holder or grid rather than the sample"
            out.append(what + ("; do not reconstruct it" if family.name in mapped else ""))
    return out


def drift(spectra: Sequence[Spectrum], tilts: NDArray[np.float64], resolution: Resolution) -> list[str]:
    """The energy scale, on the strongest line of the whole series."""
    total = np.sum([s.amounts for s in spectra], axis=0)
    if not total.any():
        return []
    best, energy = strongest(spectra[0].families, total)
    shifts = np.array([s.shift(energy) for s in spectra])
    known = np.array([s.amounts[best] > 20 * s.errors[best] for s in spectra])
    if not known.any():
        return []
    label = spectra[0].families[best].name
    fwhm = resolution.fwhm(energy)
    out = []
    span = float(np.ptp(shifts[known]))
    if span > max(0.1 * fwhm, 2e-3):
        low, high = (tilts[known][f(shifts[known])] for f in (np.argmin, np.argmax))
        out.append(
            f"the energy scale drifts by {span * 1e3:.0f} eV between tilts {low:g} and {high:g} (on {label}, "
            f"{energy:.2f} keV, FWHM {fwhm * 1e3:.0f} eV); windows do not follow it"
        )
    worst = float(shifts[known][np.abs(shifts[known]).argmax()])
    if abs(worst) > fwhm / 6:
        out.append(
            f"lines lie {worst * 1e3:+.0f} eV off the table on {label}; calibrate the spectra, or widen [maps] window"
        )
    return out


def _nameless(spectra: Sequence[Spectrum], resolution: Resolution) -> list[str]:
    alike = all(
        len(s.energies_kev) == len(spectra[0].energies_kev)
        and np.allclose(s.energies_kev, spectra[0].energies_kev, atol=1e-3)
        for s in spectra
    )
    if not alike:
        return []
    first = spectra[0]
    summed = Spectrum(
        first.energies_kev,
        np.sum([s.counts for s in spectra], axis=0),
        first.families,
        first.peaks,
        np.sum([s.amounts for s in spectra], axis=0),
        np.sqrt(np.sum([s.errors**2 for s in spectra], axis=0)),
        np.sum([s.model for s in spectra], axis=0) - np.sum([s.amounts for s in spectra], axis=0) @ first.peaks,
        float(np.mean([s.offset_kev for s in spectra])),
        float(np.mean([s.gain for s in spectra])),
    )
    out = []
    for energy, counts in unexplained(summed, resolution)[:5]:
        near = nearest(energy - summed.shift(energy))
        out.append(
            f"{counts:.0f} counts at {energy:.2f} keV belong to no element of the fit ({', '.join(near)}?); name it in "
            "[maps] elements"
        )
    return out


def nearest(energy_kev: float, count: int = 3) -> list[str]:
    """The strong lines next to an energy."""
    import xraydb

    found = []
    for symbol in elements():
        for label, line in xraydb.xray_lines(symbol).items():
            if label in ("Ka1", "La1", "Ma"):
                found.append((abs(line.energy * 1e-3 - energy_kev), f"{symbol}_{label[:2]}"))
    return [name for _, name in sorted(found)[:count]]


def _times(recordings: Sequence[Recording], tilts: NDArray[np.float64]) -> list[str]:
    for what in ("live_time_s", "real_time_s"):
        times = [getattr(r, what) for r in recordings]
        if all(times):
            low, high = int(np.argmin(times)), int(np.argmax(times))
            if times[high] > 1.05 * times[low]:
                word = what.partition("_")[0]
                return [
                    f"{word} times differ: {times[low]:.0f} s at tilt {tilts[low]:g}, {times[high]:.0f} s at "
                    f"{tilts[high]:g}; exposures must take that up (normalise)"
                ]
            return []
    return []
