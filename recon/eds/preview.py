"""What was found in a raw series, before anything is reconstructed: a table, and one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.maps import LineMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def table(maps: LineMaps) -> list[str]:
    """Tilts with their source, time, times, dose and counts per pixel and line; then windows, detectors, warnings."""
    first = maps.recordings[0]
    size = "unknown" if first.pixel_size_nm is None else f"{first.pixel_size_nm:g} nm"
    lines = [
        f"{len(maps.recordings)} spectrum images of {first.frame[0]} x {first.frame[1]} pixels of {size}, "
        f"{first.channels} channels, {first.range_kev[0]:.2f} to {first.range_kev[1]:.2f} keV; "
        + (f"{first.voltage_kv:g} kV" if first.voltage_kv else "voltage unknown")
        + (f", scan rotation {first.scan_rotation_deg:.1f} degrees" if first.scan_rotation_deg is not None else "")
        + (f"; maps of {maps.binning} x {maps.binning} pixels added up" if maps.binning > 1 else ""),
        "detectors: " + ("; ".join(_detector(d) for d in first.detectors) or "not described"),
        f"resolution: {maps.resolution.source}; {maps.resolution.fwhm(5.8988) * 1e3:.0f} eV at Mn Ka",
    ]
    when = _when(maps)
    width = max(len(r.path.name) for r in maps.recordings)
    width = max(width, 4)
    names = list(maps.counts)
    lines.append(
        f"  {'tilt':>7}  {'source':<15} {'file':<{width}} {'order':>5} {'begin':>19} {'real s':>7} {'live s':>7} "
        f"{'nA':>6} {'e/nm2':>9}" + "".join(f"{n:>16}" for n in names) + "   (counts per pixel, background in brackets)"
    )
    for i, r in enumerate(maps.recordings):
        cells = "".join(
            f"{maps.counts[n][i].mean():9.3f} ({maps.background[n][i].mean():.2f})".rjust(16) for n in names
        )
        begin = r.time.isoformat(sep=" ", timespec="seconds") if r.time else "-"
        dose = "-" if r.dose_per_nm2 is None else f"{r.dose_per_nm2:.3g}"
        lines.append(
            f"  {maps.tilts_deg[i]:7.2f}  {maps.tilt_sources[i]:<15} {r.path.name:<{width}} {when[i]:>5} {begin:>19} "
            f"{_cell(r.real_time_s)} {_cell(r.live_time_s)} {_cell(r.beam_current_na, 6, 3)} {dose:>9}{cells}"
        )
    for name, windows in maps.windows.items():
        w = windows[len(windows) // 2]
        lines.append(
            f"{name}: {w.low_kev:.3f} to {w.high_kev:.3f} keV (channels {w.first} to {w.last - 1} of "
            f"{maps.recordings[len(windows) // 2].path.name})"
        )
    return lines + [f"warning: {w}" for w in maps.warnings]


def _cell(value: float | None, width: int = 7, digits: int = 1) -> str:
    return "-".rjust(width) if value is None else f"{value:{width}.{digits}f}"


def _detector(d: Any) -> str:
    angles = [
        "elevation unknown" if d.elevation_deg is None else f"elevation {d.elevation_deg:g}",
        "azimuth unknown" if d.azimuth_deg is None else f"azimuth {d.azimuth_deg:g} degrees",
    ]
    return f"{d.name} {', '.join(angles)}"


def _when(maps: LineMaps) -> list[str]:
    """Place of each tilt in the order of acquisition."""
    times = [r.time for r in maps.recordings]
    known = [t for t in times if t is not None]
    if len(known) < len(times) or len(set(known)) < len(known):
        return ["-"] * len(times)
    order = sorted(known)
    return [str(order.index(t) + 1) for t in known]


def picture(maps: LineMaps) -> Figure:
    """The summed spectrum with its lines named, and a thumbnail of each map at low, middle and high tilt."""
    from matplotlib.figure import Figure

    names = list(maps.counts)
    shown = sorted({0, int(np.argmin(np.abs(maps.tilts_deg))), len(maps.tilts_deg) - 1})
    columns = max(4, len(names))
    figure = Figure(figsize=(max(12, 1.9 * columns), 5.2 + 1.9 * len(shown)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[5.2, 1.9 * len(shown)])
    top, bottom = parts
    axis, residual = top.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _spectrum(maps, axis, residual)
    grid = bottom.subplots(len(shown), columns, squeeze=False)
    for column in range(columns):
        for row, i in enumerate(shown):
            cell = grid[row, column]
            cell.set_xticks([])
            cell.set_yticks([])
            if column >= len(names):
                cell.set_axis_off()
                continue
            image = _thumbnail(maps.counts[names[column]][i], few=bool(maps.counts[names[column]].mean() < 2))
            cell.imshow(image, cmap="inferno", vmin=0, vmax=max(float(np.percentile(image, 99.5)), 1e-6))
            if row == 0:
                cell.set_title(names[column], fontsize=10)
            if column == 0:
                cell.set_ylabel(f"{maps.tilts_deg[i]:g} degrees", fontsize=9)
    return figure


def _spectrum(maps: LineMaps, axis: Any, residual: Any) -> None:
    first = maps.spectra[0]
    energies = first.energies_kev
    same = [s for s in maps.spectra if len(s.energies_kev) == len(energies)]
    counts = np.sum([s.counts for s in same], axis=0)
    model = np.sum([s.model for s in same], axis=0)
    axis.semilogy(energies, np.maximum(counts, 0.5), color="0.2", linewidth=0.7, label="all tilts and pixels")
    axis.semilogy(energies, np.maximum(model, 0.5), color="tab:orange", linewidth=0.9, label="fit")
    axis.semilogy(energies, np.maximum(np.sum([s.continuum for s in same], axis=0), 0.5), color="tab:blue",
                  linewidth=0.9, label="continuum")  # fmt: skip
    for windows in maps.windows.values():
        axis.axvspan(windows[0].low_kev, windows[0].high_kev, color="tab:green", alpha=0.2, linewidth=0)
    amounts = np.sum([s.amounts for s in same], axis=0)
    errors = np.sqrt(np.sum([s.errors**2 for s in same], axis=0))
    wanted = {w[0].line.family.name for w in maps.windows.values()}
    labels = []
    for family, amount, error in zip(first.families, amounts, errors, strict=True):
        if amount < 10 * error and family.name not in wanted:
            continue
        for energy, weight, label in zip(family.energies_kev, family.weights, family.labels, strict=True):
            apart = energy - family.strongest() > 3 * maps.resolution.fwhm(energy)
            first_of = label in ("Ka1", "La1", "Ma") and amount > 2e-3 * amounts.max()
            if first_of or (label in ("Kb1", "Lb1") and apart and amount * weight > 0.01 * amounts.max()):
                labels.append((energy, f"{family.element} {label.rstrip('1')}"))
    last, level = -1.0, 0
    for energy, text in sorted(set(labels)):
        if not energies[0] < energy < energies[-1]:
            continue
        height = float(np.interp(energy, energies, np.maximum(counts, 1)))
        level = level + 1 if energy - last < 0.012 * (energies[-1] - energies[0]) else 0
        last = energy
        axis.annotate(text, (energy, height), xytext=(0, 4 + 11 * level), textcoords="offset points", fontsize=8,
                      ha="center", rotation=0)  # fmt: skip
    axis.set_ylim(top=float(counts.max()) * 8, bottom=max(float(np.percentile(counts, 1)) / 3, 0.5))
    axis.set_ylabel(f"counts per {1e3 * (energies[1] - energies[0]):.0f} eV")
    axis.legend(fontsize=8, loc="upper right")
    axis.set_title(
        f"{int(counts.sum())} counts in {len(same)} spectrum images; green: windows of the maps", fontsize=10
    )
    residual.plot(energies, (counts - model) / np.sqrt(np.maximum(model, 1)), color="0.3", linewidth=0.6)
    residual.axhline(0, color="tab:orange", linewidth=0.8)
    residual.set_ylabel("misfit (sigma)")
    residual.set_xlabel("energy (keV)")
    residual.margins(x=0)


def _thumbnail(image: NDArray[Any], few: bool) -> NDArray[np.float64]:
    """At most about 128 pixels wide, added up, and smoothed a little where counts are few."""
    from scipy.ndimage import gaussian_filter

    from recon.eds.components import binned

    small = binned(image.astype(np.float64), max(1, max(image.shape) // 128))
    return np.asarray(gaussian_filter(small, 1.0) if few else small)
