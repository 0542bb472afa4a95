"""recon: from an EDS (or any chemical-map) tilt series to one quantitative 3D volume per element.

Importing this package loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recon._version import __version__

if TYPE_CHECKING:
    from recon.alignment.align import align
    from recon.analysis.composition import analyse
    from recon.analysis.features import features
    from recon.analysis.mask import mask
    from recon.analysis.regions import composition
    from recon.analysis.resolution import resolution
    from recon.cluster.sweep import sweep
    from recon.eds.maps import LineMaps, line_maps
    from recon.errors import (
        BackendError,
        GeometryError,
        InputError,
        JobError,
        OutputError,
        ReconError,
        ReconWarning,
        ResourceError,
        StoppedError,
        SuspendedError,
    )
    from recon.geometry.tilt_geometry import TiltGeometry
    from recon.io import read, write
    from recon.io.signals import to_signals
    from recon.operators import backproject, project
    from recon.operators.own import LinearOperator
    from recon.preparation.exclude import exclude
    from recon.preparation.normalise import normalise
    from recon.reconstruction.reconstruct import reconstruct
    from recon.reconstruction.uncertainty import uncertainty
    from recon.report import plot
    from recon.series.alignment import Alignment
    from recon.series.tilt_series import TiltSeries
    from recon.series.volume import Solution, Status, Volume
    from recon.solvers.own import OwnDataTerm, Regulariser

_WHERE = {
    "Alignment": "series",
    "BackendError": "errors",
    "GeometryError": "errors",
    "InputError": "errors",
    "JobError": "errors",
    "LineMaps": "eds.maps",
    "LinearOperator": "operators.own",
    "OutputError": "errors",
    "OwnDataTerm": "solvers.own",
    "ReconError": "errors",
    "ReconWarning": "errors",
    "Regulariser": "solvers.own",
    "ResourceError": "errors",
    "Solution": "series.volume",
    "Status": "series.volume",
    "StoppedError": "errors",
    "SuspendedError": "errors",
    "TiltGeometry": "geometry",
    "TiltSeries": "series",
    "Volume": "series",
    "align": "alignment.align",
    "analyse": "analysis.composition",
    "backproject": "operators",
    "composition": "analysis.regions",
    "exclude": "preparation.exclude",
    "features": "analysis.features",
    "line_maps": "eds.maps",
    "mask": "analysis.mask",
    "normalise": "preparation.normalise",
    "plot": "report",
    "project": "operators",
    "read": "io",
    "reconstruct": "reconstruction.reconstruct",
    "resolution": "analysis.resolution",
    "sweep": "cluster.sweep",
    "to_signals": "io.signals",
    "uncertainty": "reconstruction.uncertainty",
    "write": "io",
}

__all__ = [
    "Alignment",
    "BackendError",
    "GeometryError",
    "InputError",
    "JobError",
    "LineMaps",
    "LinearOperator",
    "OutputError",
    "OwnDataTerm",
    "ReconError",
    "ReconWarning",
    "Regulariser",
    "ResourceError",
    "Solution",
    "Status",
    "StoppedError",
    "SuspendedError",
    "TiltGeometry",
    "TiltSeries",
    "Volume",
    "__version__",
    "align",
    "analyse",
    "backproject",
    "composition",
    "exclude",
    "features",
    "line_maps",
    "mask",
    "normalise",
    "plot",
    "project",
    "read",
    "reconstruct",
    "resolution",
    "sweep",
    "to_signals",
    "uncertainty",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'recon' has no attribute {name!r}")
    home = importlib.import_module(f"recon.{_WHERE[name]}")
    value = getattr(home, name, None) or importlib.import_module(f"{home.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
