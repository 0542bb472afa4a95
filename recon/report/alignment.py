"""The alignment in the report: maps before and after, errors, exposures, sinograms, and what speaks against it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.errors import InputError
from recon.files import reason
from recon.io.alignment import AlignmentRecord, by_tilt
from recon.report.drawing import COLOURS, inline, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FRAMES = "alignment-frames.npz"
PANELS = {"before": "as recorded", "after": "aligned, per exposure", "model": "re-projection of the result"}
Row = Sequence[float | None] | None
Colour = str | tuple[float, float, float]


def alignment_section(alignment: AlignmentRecord, folder: Path) -> str:
    """The section's HTML, from ``alignment.json`` and the pictures beside it, if there are any."""
    turn, method = alignment.rotation_error_deg, alignment.method
    found = "taken" if method.startswith("from ") else "found by"
    sure = "" if turn is None else f" &plusmn; {turn:.2f}"
    parts = [
        f"<p>Tilt axis {alignment.axis_offset_pixels:+.2f} pixels from the frame's centre, rotated by "
        f"{alignment.rotation_deg:+.2f}{sure} degrees; {found} {html.escape(method)}.</p>",
        doubts_box(alignment),
    ]
    frames: dict[str, NDArray[np.uint8]] = {}
    try:
        frames = load_frames(folder, len(alignment.tilts_deg))
    except InputError as exc:
        parts.append(f"<p class=warn>{html.escape(str(exc))}.</p>")
    if frames:
        parts.append(flip_book(frames, alignment))
    said = (
        "Bars are one standard error, as far as counts go; the grey band holds 95 % of the misfits of a right "
        "model. What "
        "a map is off is measured against the re-projection of the result, which was made from the same maps and "
        "follows "
        "them: a tilt that stands out is wrong, but all may be off by more than they show. Good is: shifts left over "
        "within their bars of zero, exposures that vary smoothly with tilt, misfits in the band."
    )
    parts.append(inline(alignment_figure(alignment), "shifts, exposures and agreement by tilt", "alignment", said))
    if frames:
        said = (
            "One row across the axis at all tilts. In a good alignment every detail follows a smooth curve, and the "
            "re-projection shows the same ones with less noise."
        )
        figure = sinogram_figure(frames, alignment)
        parts.append(inline(figure, "sinograms before and after, and of the result", "sinograms", said))
    return "".join(parts)


def load_frames(folder: Path, n_tilts: int) -> dict[str, NDArray[np.uint8]]:
    """The pictures of a finished run ``(tilt, y, x)``; none where there is no file.

    Raises:
        InputError: the file is damaged, or of another run.
    """
    path = folder / FRAMES
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            frames = {name: archive[name] for name in PANELS}
    except Exception as exc:  # a damaged archive makes NumPy raise nearly any type
        raise InputError(f"{path} cannot be read ({reason(exc)}); without it the report has no such pictures") from exc
    shapes = {f.shape for f in frames.values()}
    if len(shapes) != 1 or len(frames["before"]) != n_tilts or frames["before"].ndim != 3:
        raise InputError(f"{path} does not fit alignment.json; without it the report has no such pictures")
    return frames


# ---------------------------------------------------------------- what speaks against it


def doubts_box(alignment: AlignmentRecord) -> str:
    """What would make a person doubt the alignment, in a box."""
    found = alignment.doubts
    never = (
        "<p class=note>Two things no alignment can tell: where the object as a whole lies, and, from these maps alone, "
        "its handedness, which is as the signs of the tilts say.</p>"
    )
    if not found:
        agreement = alignment.agreement
        compared = agreement is not None and any(v is not None for v in agreement.shifts_u_pixels)
        checked = "; every tilt agrees with its re-projection" if compared else ""
        return f"<div class='doubts none'>What would make a person doubt it: nothing was found{checked}.</div>{never}"
    lines = "".join(f"<li>{html.escape(line[:1].upper() + line[1:])}.</li>" for line in found)
    return f"<div class=doubts>What would make a person doubt it:<ul>{lines}</ul></div>{never}"


# ---------------------------------------------------------------- tilt by tilt


def flip_book(frames: dict[str, NDArray[np.uint8]], alignment: AlignmentRecord) -> str:
    """Maps before and after with a slider, tilts ascending; a circle where the volume's centre was recorded."""
    tilts = np.array(alignment.tilts_deg)
    order = np.argsort(tilts)
    n, ny, nx = frames["before"].shape
    gap = max(2, nx // 24)
    sheet = np.full((n * ny, 3 * nx + 2 * gap), 255, np.uint8)
    for k, name in enumerate(PANELS):
        at = k * (nx + gap)
        sheet[:, at : at + nx] = np.minimum(frames[name][order], 254).reshape(n * ny, nx)
    width = sheet.shape[1]
    moved = np.stack(
        [
            _row(alignment.shifts_v_pixels, tilts),
            _row(alignment.shifts_u_pixels, tilts) + alignment.axis_offset_pixels,
        ]
    )
    recorded = alignment.frame_pixels or (ny, nx)
    told = []
    for i in order:
        left = 100 * (nx / width) * (0.5 + moved[1, i] / recorded[1])
        top = 100 * (0.5 + moved[0, i] / recorded[0])
        told.append({"text": _words(alignment, int(i)), "left": round(left, 2), "top": round(top, 2)})
    start = int(np.argmin(np.abs(tilts[order])))
    heads = "".join(f"<span>{html.escape(text)}</span>" for text in PANELS.values())
    lines = "".join(f"<i style='left:{100 * (k * (nx + gap) + nx / 2) / width:.3f}%'></i>" for k in range(3))
    return (
        f"<div class=flip data-tilts='{html.escape(json.dumps(told))}'><div class=heads>{heads}</div>"
        f"<div class=window style='aspect-ratio:{width}/{ny}'>"
        f"<img alt='maps by tilt' src='data:image/png;base64,{_png(sheet)}' "
        f"style='transform:translateY(-{100 * start / n:.4f}%)'>{lines}<b></b></div>"
        f"<div class=bar><button type=button>play</button><input type=range min=0 max={n - 1} value={start} "
        f"aria-label='tilt'></div><output>{html.escape(str(told[start]['text']))}</output></div>"
    )


def _words(alignment: AlignmentRecord, i: int) -> str:
    """What is known of one tilt."""
    tilts = np.array(alignment.tilts_deg)

    def value(values: Row, errors: Row, digits: int) -> str:
        number, error = _row(values, tilts)[i], _row(errors, tilts)[i]
        sure = f" \u00b1 {error:.{digits}f}" if np.isfinite(error) else ""
        return f"{number:+.{digits}f}{sure}".replace("-", "\u2212")

    said = [f"tilt {tilts[i]:g}\u00b0".replace("-", "\u2212")]
    if tilts[i] in alignment.left_out_deg:
        said[0] += ", left out"
    v = value(alignment.shifts_v_pixels, alignment.errors_v_pixels, 2)
    u = value(alignment.shifts_u_pixels, alignment.errors_u_pixels, 2)
    said.append(f"shift along the axis {v}, across it {u} pixels")
    for name, curve in alignment.exposures.items():
        number = value(curve, (alignment.exposure_errors or {}).get(name), 3)
        said += [f"no map of {name}" if curve[i] is None else f"exposure of {name} {number.removeprefix('+')}"]
    found = alignment.agreement
    if found is not None and np.isfinite(_row(found.shifts_v_pixels, tilts)[i]):
        v = value(found.shifts_v_pixels, found.errors_v_pixels, 2)
        u = value(found.shifts_u_pixels, found.errors_u_pixels, 2)
        said.append(f"still off by {v}, {u} pixels; misfit {_row(found.chi_square, tilts)[i]:.2f}")
    return "; ".join(said)


def _png(sheet: NDArray[np.uint8]) -> str:
    """A picture in 255 colours and white, base64."""
    import matplotlib as mpl
    from PIL import Image

    colours = (mpl.colormaps["inferno"](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8)
    picture = Image.fromarray(sheet)
    picture.putpalette(np.vstack([colours, [[255, 255, 255]]]).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


# ---------------------------------------------------------------- figures


def _row(values: Row, tilts: NDArray[np.float64]) -> NDArray[np.float64]:
    """A list by tilt, nan where it is not known."""
    found = by_tilt(values)
    return np.full(len(tilts), np.nan) if found is None or len(found) != len(tilts) else found


def alignment_figure(alignment: AlignmentRecord) -> Figure:
    """Shifts and exposures, and what is left of both against the re-projections, by tilt, with standard errors."""
    figure, axes = new_figure(2, 2, 0.62)
    tilts = np.array(alignment.tilts_deg)
    order = np.argsort(tilts)
    found = alignment.agreement
    along, across = "0.25", COLOURS[3]

    def draw(axis: Axes, values: Row, errors: Row, colour: Colour, label: str | None = None) -> bool:
        row, error = _row(values, tilts)[order], _row(errors, tilts)[order]
        if not np.isfinite(row).any():
            return False
        bars = np.where(np.isfinite(error), error, 0) if np.isfinite(error).any() else None
        axis.errorbar(
            tilts[order], row, bars, fmt="o-", markersize=3, linewidth=1, elinewidth=1.2, capsize=2, color=colour,
            label=label,
        )  # fmt: skip
        return True

    (moved, still), (dose, misfit) = axes
    for axis, table, words in ((moved, alignment, "shift (pixels)"), (still, found, "still off (pixels)")):
        drawn = table is not None and [
            draw(axis, table.shifts_v_pixels, table.errors_v_pixels, along, "along the axis"),
            draw(axis, table.shifts_u_pixels, table.errors_u_pixels, across, "across the axis"),
        ]
        axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axis.set_ylabel(words)
        if drawn and any(drawn):
            legend(axis)
    for i, (name, values) in enumerate(alignment.exposures.items()):
        draw(dose, values, (alignment.exposure_errors or {}).get(name), COLOURS[i % len(COLOURS)], name)
    dose.set_ylim(bottom=0)
    dose.set_ylabel("relative exposure")
    legend(dose)
    if found is not None and draw(misfit, found.chi_square, found.chi_square_errors, "0.25"):
        scatter = _row(found.chi_square_errors, tilts)[order]
        misfit.fill_between(tilts[order], 1 - 2 * scatter, 1 + 2 * scatter, color="0.9", zorder=0, label="expected")
        legend(misfit)
    else:
        draw(misfit, alignment.residual_chi_square, None, "0.25")
    misfit.set_ylabel("misfit of re-projection (chi-square)")
    for axis in axes.flat:
        for tilt in alignment.left_out_deg:
            axis.axvline(tilt, color="0.6", linewidth=0.8, linestyle=":")
        axis.set_xlabel("tilt (degrees)")
    return figure


def sinogram_figure(frames: dict[str, NDArray[np.uint8]], alignment: AlignmentRecord) -> Figure:
    """One row across the axis at all tilts: before, after, and re-projected."""
    figure, axes = new_figure(1, 3, 0.8)
    tilts = np.array(alignment.tilts_deg)
    order = np.argsort(tilts)
    _, ny, nx = frames["model"].shape
    half = max(1, ny // 32)
    inner = frames["model"].sum(axis=(0, 2), dtype=np.float64)[half : ny - half]
    row = int(np.argmax(inner)) + half
    names = [f"{t:g}" for t in tilts[order]]
    for axis, (name, title) in zip(axes[0], PANELS.items(), strict=True):
        lines = frames[name][order, row - half : row + half + 1].mean(axis=1)
        axis.imshow(
            lines, cmap="inferno", aspect="auto", interpolation="none", vmin=0, vmax=lines.max() or 1,
            extent=(-nx / 2, nx / 2, len(tilts) - 0.5, -0.5),
        )  # fmt: skip
        axis.axvline(0, color="white", linewidth=0.6, alpha=0.6)
        axis.set_title(title, fontsize=8)
        axis.set_xticks([])
        step = max(1, len(tilts) // 8)
        axis.set_yticks(range(0, len(tilts), step), names[::step], fontsize=7)
    axes[0][0].set_ylabel("tilt (degrees)")
    return figure
