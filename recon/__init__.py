"""recon: from an EDS (or any chemical-map) tilt series to one quantitative 3D volume per element.

Importing this package loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recon._version import __version__

if TYPE_CHECKING:
    from recon.align import align
    from recon.analyse import analyse, mask
    from recon.exclude import exclude
    from recon.geometry import TiltGeometry
    from recon.io import read, write
    from recon.io.signals import to_signals
    from recon.maps import line_maps
    from recon.normalise import normalise
    from recon.operators import backproject, project
    from recon.reconstruct import reconstruct
    from recon.tiltseries import Alignment, TiltSeries, Volume
    from recon.uncertainty import uncertainty

_WHERE = {
    "Alignment": "tiltseries",
    "TiltGeometry": "geometry",
    "TiltSeries": "tiltseries",
    "Volume": "tiltseries",
    "align": "align",
    "analyse": "analyse",
    "backproject": "operators",
    "exclude": "exclude",
    "line_maps": "maps",
    "mask": "analyse",
    "normalise": "normalise",
    "project": "operators",
    "read": "io",
    "reconstruct": "reconstruct",
    "to_signals": "io.signals",
    "uncertainty": "uncertainty",
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
    "exclude",
    "line_maps",
    "mask",
    "normalise",
    "project",
    "read",
    "reconstruct",
    "to_signals",
    "uncertainty",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'recon' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"recon.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """A package whose functions keep their names when the modules of those names are imported.

    Importing ``recon.align`` anywhere would otherwise put that module in the place of `recon.align`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
