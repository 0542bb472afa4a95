"""The part of the page in which volumes are turned, cut and read: packed voxels and what the scripts need."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.report.drawing import COLOURS
from recon.report.run_folder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGE = 128  # voxels along the longest edge of what is shown
LEVELS = 1023
# whatever the page holds, a browser fetches nothing for it
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SCRIPTS = ("data.js", "slices.js", "volume.js", "viewer.js")


def asset(name: str) -> str:
    """The text of a style sheet or script of the page."""
    return (files("recon.report") / "assets" / name).read_text(encoding="utf-8")


def page(title: str, body: str, scripts: Sequence[str]) -> str:
    """A whole page that needs no other file: head, style, `body` and scripts.

    Args:
        title: HTML, escaped already.
        body: HTML.
        scripts: names of the page's scripts, in the order in which they run.
    """
    code = "\n".join(asset(n).replace("'use strict';\n", "") for n in scripts)
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<link rel=icon href='data:,'><title>{title}</title><style>{asset('page.css')}</style></head><body>"
        f"{body}<script>'use strict';\n{code}</script></body></html>\n"
    )


def reduced(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means of blocks of `factor`^3 voxels ``(z, y, x)``; blocks at the far edges hold what is left."""
    out = values.astype(np.float32, copy=False)
    for axis in range(out.ndim if factor > 1 else 0):
        n = out.shape[axis]
        starts = np.arange(0, n, factor)
        size = np.minimum(factor, n - starts).reshape([-1 if i == axis else 1 for i in range(out.ndim)])
        out = (np.add.reduceat(out, starts, axis=axis) / size).astype(np.float32)
    return out


def viewer_section(run: RunFolder) -> str:
    """The viewer's HTML with its voxels; scripts are added at the end of the page."""
    factor = -(-max(run.inside.shape) // EDGE)
    about, block = _packed(run, factor)
    return _html(run, about, factor) + (
        f'<script type="application/json" id="about">{_embedded(about)}</script>'
        f'<script type="application/octet-stream" id="voxels">{block}</script>'
    )


def _embedded(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(run: RunFolder, factor: int) -> tuple[dict[str, Any], str]:
    """What the scripts need to know, and the voxels as base64 of gzip: planes of levels, high bits before low ones."""
    planes: list[dict[str, Any]] = []
    blocks: list[bytes] = []

    def add(name: str, values: NDArray[np.float32], bits: int) -> None:
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        bottom, top = min(0.0, float(values.min())), float(values.max())
        top = top if top > bottom else bottom + 1.0
        levels = np.rint((values - bottom) / (top - bottom) * LEVELS).astype(np.uint16)
        planes.append({"name": name, "bits": bits, "top": top, "bottom": bottom})
        blocks.append((levels >> 2).astype(np.uint8).tobytes())
        if bits == 10:
            blocks.append((levels & 3).astype(np.uint8).tobytes())

    small = {n: reduced(v, factor) for n, v in run.volumes.items()}
    names = list(small)
    sets = {"result": small, "truth": {n: reduced(v, factor) for n, v in run.truth.items()}}
    sets["sd"] = {n: reduced(v, factor) for n, v in run.spread.items()}
    for key, volumes in sets.items():
        for name, values in volumes.items():
            add(f"{key}/{names.index(name)}", values, 8 if key == "sd" else 10)
    regions = []
    if run.labels is not None and run.places:
        labels = _reduced_labels(run.labels, factor)
        planes.append({"name": "labels", "bits": 8, "top": 255, "bottom": 0})
        blocks.append(labels.tobytes())
        for place in run.places:
            where = np.argwhere(labels == place.label)
            centre = where[np.argmin(np.abs(where - where.mean(axis=0)).sum(axis=1))] if len(where) else [0, 0, 0]
            regions.append({
                "text": f"{place.name}: {place.verdict}", "sentence": f"{place.name}: {place.verdict}",
                "centre": [int(v) for v in centre],
            })  # fmt: skip
    shape = next(iter(small.values())).shape
    seen = reduced(run.inside, factor) > 0
    within = np.argwhere(seen if seen.any() else np.ones(shape, bool))
    middle = np.round(within.mean(axis=0))
    reach = float(np.sqrt(np.square(within - middle).sum(axis=1).max())) + 1
    elements = []
    for i, (name, values) in enumerate(small.items()):
        typical = run.typical(name)
        bright = typical if typical > 0 else float(values.max()) or 1.0
        elements.append({"name": name, "colour": COLOURS[i % len(COLOURS)], "typical": typical, "bright": bright})
    about = {
        "shape": list(shape), "voxel_nm": run.voxel_nm * factor, "planes": planes, "elements": elements,
        "regions": regions, "start": [int(v) for v in middle], "reach": reach,
        "spread": "repeatability" if run.spread else "",
        "words": {"result": "reconstruction", "truth": "truth"},
    }  # fmt: skip
    packed = gzip.compress(b"".join(blocks), compresslevel=6, mtime=0)
    return about, base64.b64encode(packed).decode()


def _reduced_labels(labels: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    """Labels of the voxels nearest to the middles of the blocks."""
    cut = tuple(np.minimum(np.arange(0, n, factor) + factor // 2, n - 1) for n in labels.shape)
    return np.where(labels > 255, 0, labels)[np.ix_(*cut)].astype(np.uint8)


# ---------------------------------------------------------------- the skeleton that the scripts fill


def _html(run: RunFolder, about: dict[str, Any], factor: int) -> str:
    names = [html.escape(e["name"]) for e in about["elements"]]
    rows = [("result", "Reconstruction")] + ([("truth", "Truth")] if len(run.truth) == len(run.volumes) else [])
    small = ""
    if factor > 1:
        full, shown = " &times; ".join(map(str, run.inside.shape)), " &times; ".join(map(str, about["shape"]))
        small = (
            f"<p class=note>The volumes have {full} voxels (z, y, x). To keep this page small it shows means of "
            f"{factor}&sup3; of them, {shown}; the values under the cursor are such means. "
            "The files beside this page hold every voxel.</p>"
        )
    numbers = range(1, len(about["regions"]) + 1)
    pins = "".join(
        f"<button type=button class=pin aria-pressed=false "
        f"aria-label='show feature {k}: {html.escape(place.name)}'>{k}</button>"
        for k, place in zip(numbers, run.places, strict=False)
    )
    return (
        "<div id=viewer>"
        "<p class=failed hidden>The volumes cannot be shown here: this browser lacks what they need. The pictures "
        "below hold the same slices.</p>"
        "<noscript><p class=note>The volumes need JavaScript, which is off here. The pictures below hold the same "
        "slices.</p></noscript>"
        "<p class='note flat' hidden>This browser has no WebGL2, so the view in three dimensions is left out; the "
        "slices work without.</p>"
        "<div class=space><div class=stage>"
        f"<canvas class=rays tabindex=0 role=application aria-label='{' and '.join(names)} in three dimensions: arrow "
        "keys turn it, plus and minus zoom, Home puts it back'></canvas>"
        f"<canvas class=over aria-hidden=true></canvas>{pins}</div>"
        f"<div class=panel>{_panel(about, names, len(rows) > 1)}</div></div>"
        "<p class=chosen aria-live=polite></p>"
        "<p class='note hint'>Drag to turn; click into the picture, then the wheel zooms (two fingers on a touch "
        "screen); arrow keys turn, + and &minus; zoom, a double click puts it back. Colours add like light: "
        f"{_legend(about, names)}. Below its threshold, a fraction of the pure phase, "
        "an element is not drawn.</p>"
        f"<h3>Slices through the crosshair</h3>{_planes(about, rows)}"
        "<div class=values></div>"
        f"<p class='note hint'>The values are those of the voxel below the pointer, else of the crosshair: "
        f"{_unit(run)}, "
        "and as a fraction of the element's pure phase. Click or drag to move the crosshair; with a slice in focus, "
        "arrow keys move it and Page Up and Page Down go through the slices."
        f"{_spread(run)} Levels are rounded to a thousandth of the largest value.</p>{small}</div>"
    )


def _unit(run: RunFolder) -> str:
    return html.escape(run.unit)


def _spread(run: RunFolder) -> str:
    if not run.spread:
        return ""
    return (
        " &plusmn; is the repeatability, one standard deviation: how far a voxel would move if the same object were "
        "recorded again. It does not include what the regulariser pulls."
    )


def _legend(about: dict[str, Any], names: list[str]) -> str:
    words = ("orange", "blue", "green", "pink")
    said = [f"{name} {words[i % len(words)]}" for i, name in enumerate(names)]
    both = f", where {names[0]} and {names[1]} share a place nearly white" if len(names) > 1 else ""
    return ", ".join(said) + both


def _panel(about: dict[str, Any], names: list[str], truth: bool) -> str:
    parts = []
    for i, (element, name) in enumerate(zip(about["elements"], names, strict=True)):
        red, green, blue = (round(255 * c) for c in element["colour"])
        parts.append(
            f"<fieldset><legend>{name}</legend><label class=box><input type=checkbox data-element={i} data-key=on "
            f"checked>"
            f"<span class=swatch style='background:rgb({red},{green},{blue})'></span>show {name}</label>"
            f"<label><span>opacity</span><input type=range min=0 max=1 step=.02 data-element={i} data-key=opacity "
            f"aria-label='opacity of {name}'></label>"
            f"<label><span>threshold</span><input type=range min=0 max=1 step=.01 data-element={i} data-key=threshold "
            f"aria-label='threshold of {name}, as a fraction of its pure phase'></label></fieldset>"
        )
    side = "<label class=box><input type=checkbox name=side>truth beside it</label>" if truth else ""
    parts.append(
        "<fieldset><legend>cut</legend><label><span>across</span><select name=cut aria-label='cut across'>"
        "<option value=none>nothing<option value=z>z (beam)<option value=y>y (tilt axis)<option value=x>x"
        "<option value=view>the line of sight</select></label>"
        "<label><span>depth</span><input type=range name=depth min=0 max=1 step=.01 value=.5 disabled "
        f"aria-label='depth of the cut'></label></fieldset>{side}<p><button type=button name=home>put it "
        f"back</button></p>"
    )
    return "".join(parts)


def _planes(about: dict[str, Any], rows: list[tuple[str, str]]) -> str:
    out = []
    words = {
        "z": "across the beam: y down, x right",
        "y": "across the tilt axis: z down, x right",
        "x": "across x: y down, z right",
    }
    for key, title in rows:
        figures = "".join(
            f"<figure><canvas data-plane={plane} data-set={key} tabindex=0 role=application "
            f"aria-label='{title}, slice {text}; arrow keys move the crosshair'></canvas>"
            f"<figcaption>{title}, {text}</figcaption></figure>"
            for plane, text in words.items()
        )
        out.append(f"<div class=planes>{figures}</div>")
    sliders = "".join(
        f"<label><span>{name}</span><input type=range data-axis={axis} min=0 max={n - 1} step=1 "
        f"aria-label='crosshair along {name}'></label>"
        for axis, (name, n) in enumerate(zip("zyx", about["shape"], strict=True))
    )
    return f"{''.join(out)}<div class=at>{sliders}</div>"
