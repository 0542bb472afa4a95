"""Maps and images with tilts, pixels and masks of their own, as ``{ files = .., tilts = .., pixel_size_nm = .. }``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo

from recon.job.file import values
from recon.job.file.values import describe, nearest

Files = Path | tuple[Path, ...]
Tilts = Path | tuple[float, ...] | dict[str, float]


class OwnMaps(BaseModel):
    """Of one element; what is not given is as for all.

    `files` are its maps, `tilts` theirs, `pixel_size_nm` the edge of their pixels; `bad_pixels` an image, or one for
    each map, other than 0 where a pixel has no weight; `leave_out` tilts of which its map has none.
    """

    model_config = ConfigDict(frozen=True)
    files: Files
    tilts: Tilts | None = None
    pixel_size_nm: float | None = None
    bad_pixels: Path | None = None
    leave_out: tuple[float, ...] = ()


class Image(BaseModel):
    """To align on: `image` names its files, or what it is called in those of the spectra; see `OwnMaps`."""

    model_config = ConfigDict(frozen=True)
    image: str
    tilts: Tilts | None = None
    pixel_size_nm: float | None = None


Check = Callable[[Any, ValidationInfo], object]
MAPS: dict[str, Check] = {
    "files": values.maps_of,
    "tilts": values.tilts,
    "pixel_size_nm": lambda value, _: values.pixel_size(value),
    "bad_pixels": values.existing,
    "leave_out": lambda value, _: _degrees(value),
}
IMAGE: dict[str, Check] = {
    "image": lambda value, info: values.reference(value, info),
    "tilts": values.tilts,
    "pixel_size_nm": lambda value, _: values.pixel_size(value),
}


def maps_of(value: Any, info: ValidationInfo) -> Files | OwnMaps:
    """The maps of an element: files, or a table of what is its own."""
    if not isinstance(value, dict):
        return values.maps_of(value, info)
    return OwnMaps.model_construct(**_table(value, info, MAPS, "files", '{ files = "Co.tif", tilts = "Co.rawtlt" }'))


def reference(value: Any, info: ValidationInfo) -> tuple[str, ...] | str | Image:
    """Names of elements, or an image, as `values.reference`; or a table of an image that has tilts of its own."""
    if not isinstance(value, dict):
        return values.reference(value, info)
    if not isinstance(value.get("image"), str | None):
        raise ValueError(f"image must be the file of an image, not {describe(value['image'])}")
    return Image.model_construct(**_table(value, info, IMAGE, "image", '{ image = "haadf.mrc", tilts = "h.rawtlt" }'))


def _degrees(value: Any) -> tuple[float, ...]:
    found = values.leave_out(value)
    if isinstance(found, dict):
        raise ValueError("of one element must be a list of tilts in degrees")
    return found


def _table(
    value: dict[str, Any], info: ValidationInfo, checks: Mapping[str, Check], first: str, example: str
) -> dict[str, Any]:
    for key in value:
        if key not in checks:
            raise ValueError(f"has the unknown key '{key}'; {nearest(key, tuple(checks))}")
    if first not in value:
        raise ValueError(f"lacks {first}; give it as in {example}")
    out: dict[str, Any] = {}
    for key, one in value.items():
        try:
            out[key] = checks[key](one, info)
        except ValueError as exc:
            raise ValueError(f"{key} {exc}" if key != first else str(exc)) from exc
    return out


def files_of(maps: Files | OwnMaps) -> Files:
    """The files of an element's maps."""
    return maps.files if isinstance(maps, OwnMaps) else maps


def own(maps: Mapping[str, Files | OwnMaps] | None) -> dict[str, OwnMaps]:
    """The elements that have something of their own."""
    return {name: given for name, given in (maps or {}).items() if isinstance(given, OwnMaps)}


def image_of(reference: object) -> Image | None:
    """The image that is aligned on, if it is one."""
    if isinstance(reference, str):
        return Image.model_construct(image=reference)
    return reference if isinstance(reference, Image) else None


def is_file(image: Image) -> bool:
    """Whether an image is a file, whose path is absolute by now, and no name in the files of spectra."""
    return os.path.isabs(image.image)


def paths_of(maps: Mapping[str, Files | OwnMaps] | None, reference: object) -> dict[str, object]:
    """What else these tables name that may be files, by what it is."""
    out: dict[str, object] = {}
    for name, given in own(maps).items():
        out |= {f"tilts of {name}": given.tilts, f"bad_pixels of {name}": given.bad_pixels}
    image = image_of(reference)
    return out | ({} if image is None else {"tilts of the image": image.tilts})
