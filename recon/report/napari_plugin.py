"""The plugin of napari: a run's folder as layers, a simulated particle, and drawn places as files for a job.

napari finds it through ``napari.yaml`` once the extra ``napari`` is installed; here it is imported by the widget only.
Layers are to scale in nm, elements add as light, and their metadata say how they were made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.io.volumes import write_volume
from recon.report.drawing import COLOURS
from recon.report.run_folder import RunFolder, read_run
from recon.simulate import two_metal_particle

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layer = tuple["NDArray[Any]", dict[str, Any], str]
Reader = Callable[[str], list[Layer]]
SAMPLE_SIZE, SAMPLE_VOXEL = 64, 5.0  # voxels along an edge, and nm


def reader(path: str | os.PathLike[str] | Sequence[str]) -> Reader | None:
    """What reads a path, or None if it is not the folder of a run, nor its ``job.json``."""
    if not isinstance(path, str | os.PathLike):
        return None  # several paths as one stack
    return read if (_folder(path) / "job.json").is_file() else None


def read(path: str | os.PathLike[str]) -> list[Layer]:
    """The layers of a run: volumes, and hidden the truth, standard deviations, the particle; places as labels.

    Raises:
        InputError: the folder is not a finished run.
    """
    folder = _folder(path)
    run = read_run(folder, folder.resolve().name)
    out = []
    for i, (name, values) in enumerate(run.volumes.items()):
        bright = run.typical(name) or float(values.max()) or 1.0
        out.append(_image(values, name, i, run.voxel_nm, bright, metadata=_about(run, name)))
        for kind, volumes in (("truth", run.truth), ("standard deviation", run.spread)):
            if name in volumes:
                top = bright if kind == "truth" else float(volumes[name].max()) or 1.0
                out.append(_image(volumes[name], f"{name}, {kind}", i, run.voxel_nm, top, visible=False))
    if not run.inside.all():
        out.append(_labels(run.inside.astype(np.uint8), "particle", run.voxel_nm, visible=False))
    if run.labels is not None:
        said = [f"{p.name}: {p.verdict}" for p in run.places]
        features = {"index": list(range(len(said) + 1)), "place": ["", *said]}
        out.append(_labels(run.labels, "places", run.voxel_nm, features=features))
    return out


def particle() -> list[Layer]:
    """The sample: true densities of the demo's particle."""
    volumes = two_metal_particle().volume(SAMPLE_SIZE, samples=2)
    return [
        _image(np.asarray(values), name, i, SAMPLE_VOXEL, float(values.max()))
        for i, (name, values) in enumerate(zip(("Co", "Zn"), volumes, strict=True))
    ]


def save_places(labels: NDArray[np.integer[Any]], folder: Path, voxel_nm: float, name: str = "place") -> list[str]:
    """Write each label as a mask file, and return the lines of a job file that ask about them.

    Args:
        labels: ``(z, y, x)``, 0 where nothing was drawn.
        folder: of the job file.
        voxel_nm: edge of a voxel.
        name: that the places begin with.

    Raises:
        InputError: nothing was drawn, it is no volume, or the name cannot be a file's.
        OutputError: a file cannot be written.
    """
    numbers = [int(n) for n in np.unique(labels) if n > 0]
    if labels.ndim != 3 or not numbers:
        raise InputError("there is no place in these labels; paint one in a labels layer over the volumes")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise InputError(f"the name {name!r} cannot begin a file's name; use letters and digits")
    lines = ["[regions]"]
    for number in numbers:
        path = folder / f"{name}-{number}.tif"
        write_volume(path, labels == number, voxel_nm)
        lines.append(f'{name}-{number} = "{path.name}"')
    return lines


def places() -> Any:
    """The widget: choose a labels layer and a folder; masks and the lines of a job file come out."""
    from magicgui import magicgui
    from napari.layers import Labels
    from napari.utils.notifications import show_info

    # `labels` and `name` are the widget's own
    def save(drawn: Labels, folder: Path = Path(), first: str = "place") -> str:
        """Save drawn places as masks, and show what a job file says to ask about them."""
        lines = save_places(np.asarray(drawn.data), folder, float(drawn.scale[-1]), first)
        show_info("\n".join(lines))
        return "\n".join(lines)

    # under postponed annotations magicgui cannot look up names of this function
    save.__annotations__ = {"drawn": Labels, "folder": Path, "first": str, "return": str}
    return magicgui(
        save, drawn={"label": "drawn places"}, folder={"mode": "d", "label": "folder of the job"},
        first={"label": "names begin with"}, call_button="save", result_widget=True,
    )  # fmt: skip


def _folder(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    return found.parent if found.name == "job.json" else found


def _about(run: RunFolder, name: str) -> dict[str, str]:
    element = run.job.elements[name]
    return {"unit": run.unit, "method": element.settings.method, "why it stopped": element.why, "run": run.name}


def _image(
    values: NDArray[Any], name: str, number: int, voxel_nm: float, top: float, *, visible: bool = True,
    metadata: dict[str, str] | None = None,
) -> Layer:  # fmt: skip
    colour = COLOURS[number % len(COLOURS)]
    options = {
        "name": name, "scale": (voxel_nm,) * 3, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x"),
        "blending": "additive", "contrast_limits": (0.0, top), "visible": visible, "metadata": metadata or {},
        "colormap": {"name": f"recon {number % len(COLOURS) + 1}", "colors": [(0.0, 0.0, 0.0), colour]},
    }  # fmt: skip
    return values, options, "image"


def _labels(values: NDArray[Any], name: str, voxel_nm: float, **options: Any) -> Layer:
    scale = {"scale": (voxel_nm,) * 3, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
    return values.astype(np.int32), {"name": name, **scale, **options}, "labels"


__all__ = ["particle", "places", "read", "reader", "save_places"]
