"""What the figures of a report share: colours, sheets of axes, and pictures inside the page."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# orange, blue, green, pink: told apart by people with any kind of colour vision
COLOURS = ((0.90, 0.45, 0.10), (0.20, 0.55, 0.95), (0.25, 0.75, 0.40), (0.85, 0.45, 0.75))
COLUMN_MM, PAGE_MM = 89.0, 183.0  # widths that journals print: one column, two
INCH_MM = 25.4
DPI = 200  # of pictures inside an SVG


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "recon"}):
        figure.savefig(buffer, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def inline(figure: Figure, alt: str, name: str, caption: str = "") -> str:
    """A figure as an element that needs no other file, with buttons that save it.

    Args:
        figure: to show.
        alt: what it shows, in a few words.
        name: of the files it is saved as.
        caption: a sentence that says what to look for.
    """
    data = base64.b64encode(svg(figure)).decode()
    wide, high = (round(inches * 96) for inches in figure.get_size_inches())  # of the page's pixels
    said = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    shown = html.escape(name)
    buttons = "".join(
        f"<button type=button data-kind={kind.lower()} data-mm={mm:g} aria-label='save {shown} as {kind}, {mm:g} mm "
        f"wide'>{kind} {mm:g} mm</button>"
        for kind in ("SVG", "PNG")
        for mm in (COLUMN_MM, PAGE_MM)
    )
    return (
        # on a narrow screen it scrolls sideways, or its letters would be too small; a browser draws what is far below
        # when it is scrolled to, and its room is kept until then
        f"<figure><div class=wide tabindex=0 role=group aria-label='{shown}'>"
        f'<img loading=lazy width={wide} height={high} alt="{html.escape(alt)}" '
        f'src="data:image/svg+xml;base64,{data}"></div>{said}</figure>'
        f"<div class=take data-name='{shown}'>{buttons}</div>"
    )


def table(heads: list[str], rows: list[list[str]], name: str, caption: str) -> str:
    """A table with a button that saves it as CSV. Cells are HTML already; the first of a row is its head.

    Args:
        heads: of the columns, HTML.
        rows: as many cells each.
        name: of the file it is saved as.
        caption: what it holds.
    """
    head = "".join(f"<th scope=col>{h}</th>" for h in heads)
    body = "".join(
        f"<tr><th scope=row>{row[0]}</th>{''.join(f'<td class=n>{cell}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    shown = html.escape(name)
    return (
        f"<div class=wide tabindex=0 role=region aria-label='{html.escape(caption)}'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<div class=take data-name='{shown}'>"
        f"<button type=button data-kind=csv aria-label='save {shown} as CSV'>CSV</button></div>"
    )


def new_figure(rows: int, columns: int, flat: float = 1.0, width_mm: float = PAGE_MM) -> tuple[Figure, NDArray[Any]]:
    """A figure `width_mm` wide and its axes ``(rows, columns)``, each about `flat` times as high as wide."""
    # no pyplot: it would keep figures and choose a backend with a screen
    from matplotlib.figure import Figure

    left, right, low, high, between = 0.55, 0.08, 0.42, 0.25, 0.6  # inches around and between axes
    width = width_mm / INCH_MM
    wide = (width - left - right - between * (columns - 1)) / columns
    tall = flat * wide
    height = rows * tall + (rows - 1) * between + low + high
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=low / height, top=1 - high / height,
        wspace=between / wide, hspace=between / tall,
    )  # fmt: skip
    for axis in axes.flat:
        axis.tick_params(which="both", labelsize=6)
        for item in (axis.title, axis.xaxis.label, axis.yaxis.label):
            item.set_fontsize(8)
    return figure, axes


def legend(axis: Axes) -> None:
    """What the curves are, in a row above the axes, where it hides none of them."""
    axis.legend(
        fontsize=7, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.1,
        handlelength=1.2, columnspacing=1.0,
    )  # fmt: skip


def one_axis(width_mm: float, height: float, place: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A figure `height` inches high with one axis at `place`: left, bottom, width, height, as parts of it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / INCH_MM, height))
    return figure, figure.add_axes(place)
