"""recon: from an EDS (or any chemical-map) tilt series to one quantitative 3D volume per element.

Importing this package loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recon._version import __version__

if TYPE_CHECKING:
    from recon.align import align
    from recon.analyse import analyse, mask
    from recon.geometry import TiltGeometry
    from recon.io import read, write
    from recon.normalise import normalise
    from recon.operators import backproject, project
    from recon.reconstruct import reconstruct
    from recon.tiltseries import Alignment, TiltSeries, Volume

_WHERE = {
    "Alignment": "tiltseries",
    "TiltGeometry": "geometry",
    "TiltSeries": "tiltseries",
    "Volume": "tiltseries",
    "align": "align",
    "analyse": "analyse",
    "backproject": "operators",
    "mask": "analyse",
    "normalise": "normalise",
    "project": "operators",
    "read": "io",
    "reconstruct": "reconstruct",
    "write": "io",
}

__all__ = [
    "Alignment",
    "TiltGeometry",
    "TiltSeries",
    "Volume",
    "__version__",
    "align",
    "analyse",
    "backproject",
    "mask",
    "normalise",
    "project",
    "read",
    "reconstruct",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'recon' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"recon.{_WHERE[name]}"), name)
    globals()[name] = value  # a function such as `align` takes the place of its module of that name
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
