"""What the figures of a report share: colours, sheets of axes, and pictures inside the page."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# orange, blue, green, pink: told apart by people with any kind of colour vision
COLOURS = ((0.90, 0.45, 0.10), (0.20, 0.55, 0.95), (0.25, 0.75, 0.40), (0.85, 0.45, 0.75))


def inline(figure: Figure, alt: str) -> str:
    """A figure as an ``img`` element that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def new_figure(rows: int, columns: int, size: float = 2.6, flat: float = 1.0) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes ``(rows, columns)``, each about `size` inches wide and `flat` times as high."""
    # no pyplot: it would keep figures and choose a backend with a screen
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size * columns, size * flat * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes
