"""Small pictures for notebooks, made without matplotlib so that showing a value costs nothing."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGE = 180  # pixels of the screen along the longest edge of a picture


def in_a_row(text: str, images: Sequence[NDArray[np.floating]], titles: Sequence[str] = ()) -> str:
    """HTML: a line of text, and grey pictures ``(row, column)`` side by side, each black at 0 and white at its top."""
    cells = []
    for k, image in enumerate(images):
        title = f"<figcaption>{html.escape(titles[k])}</figcaption>" if k < len(titles) else ""
        cells.append(f"<figure style='margin:0 8px 0 0;display:inline-block'>{_img(image)}{title}</figure>")
    return f"<div><code>{html.escape(text)}</code></div><div>{''.join(cells)}</div>"


def _img(image: NDArray[np.floating]) -> str:
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, np.float32))
    top = float(np.percentile(values, 99.8)) or 1.0
    grey = (np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    zoom = EDGE / max(grey.shape)
    height, width = (max(1, round(n * zoom)) for n in grey.shape)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<img alt='slice' width={width} height={height} style='image-rendering:pixelated' "
        f"src='data:image/png;base64,{data}'>"
    )
