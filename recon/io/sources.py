"""The maps of one element: a file that holds them all, one file for each map, an array or a signal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.backend import to_host
from recon.errors import InputError
from recon.files import matching
from recon.io.formats.axes import StackFile
from recon.io.formats.common import SAME_SIZE
from recon.io.names import by_tilt, tilts_from_names
from recon.io.stacks import load_stack
from recon.io.tilts import compare, read_tilts

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Source:
    """The maps of one element and what their source says of them.

    Attributes:
        element: its name.
        where: the source in words, for messages; "" for an array.
        stack: values, pixels and tilts; see `StackFile`.
        origins: of each map, or empty.
        tilts_from: where the stack's tilts come from.
        beside: tilts of a file beside it, and its name.
        remarks: what a user should know, one line each.
    """

    element: str
    where: str
    stack: StackFile
    origins: tuple[str, ...] = ()
    tilts_from: str = ""
    beside: tuple[str, NDArray[np.float64]] | None = None
    remarks: tuple[str, ...] = ()


def source_of(element: str, source: Any, base: Path) -> Source:
    """The maps of an element from a file, a pattern or list of files with one map each, an array or a signal.

    Raises:
        InputError: nothing matches, a file cannot be read, or single maps do not fit together.
    """
    from recon.io.signals import is_signal, stack_of

    if isinstance(source, str | os.PathLike):
        path = base / Path(source).expanduser()
        if path.exists() or not any(c in str(source) for c in "*?["):
            return _one_file(element, path, str(source))
        found = matching(path)
        if not found:
            raise InputError(f"no file matches {source}; paths are relative to {base.absolute()}")
        return _one_file(element, found[0], found[0].name) if len(found) == 1 else _files(element, found, str(source))
    if isinstance(source, list | tuple) and source and all(isinstance(s, str | os.PathLike) for s in source):
        paths = [base / Path(s).expanduser() for s in source]
        return _files(element, paths, f"{paths[0].name} ... {paths[-1].name}", ordered=False)
    if is_signal(source):
        stack = stack_of(source, element)
        return Source(element, "a signal", stack, tilts_from="the signal")
    if np.ma.is_masked(source):
        raise InputError(
            f"{element} is a masked array, of which the values alone would be read; give the pixels to leave out as "
            "weights, ~numpy.ma.getmaskarray(maps), for all elements alike"
        )
    return Source(element, "", StackFile(np.asarray(to_host(source))))


def _one_file(element: str, path: Path, shown: str) -> Source:
    stack = load_stack(path, element)
    origins = tuple(f"{path.name}, {i}" for i in range(1, len(stack.values) + 1))
    beside = _tilts_beside(path)
    found = None if beside is None else (beside.name, read_tilts(beside))
    return Source(element, shown, stack, origins, path.name, found)


def _tilts_beside(path: Path) -> Path | None:
    beside = [path.with_suffix(s) for s in (".rawtlt", ".tlt", ".mdoc")] + [Path(f"{path}.mdoc")]
    return next((p for p in beside if p.is_file()), None)


def _files(element: str, paths: Sequence[Path], shown: str, *, ordered: bool = True) -> Source:
    """One map per file; files of a pattern are sorted by the tilts in their names where the names have them."""
    if len(set(paths)) < len(paths):
        twice = next(p for p in paths if list(paths).count(p) > 1)
        raise InputError(f"{element}: {twice.name} is listed more than once; name each file once")
    paths = by_tilt(paths) if ordered else paths
    named = tilts_from_names([p.name for p in paths])
    maps = list(_single(element, paths))
    shapes = [m.values.shape for m in maps]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0]:
            raise InputError(
                f"{path} holds a map of {shape[1]} x {shape[2]} pixels, {paths[0].name} one of {shapes[0][1]} x "
                f"{shapes[0][2]}; all maps of a series need the same shape"
            )
    sizes = [m.pixel_nm(p) for m, p in zip(maps, paths, strict=True)]
    known = [(s, p) for s, p in zip(sizes, paths, strict=True) if s is not None]
    if known and max(known)[0] > (1 + SAME_SIZE) * min(known)[0]:
        (low, first), (high, second) = min(known), max(known)
        raise InputError(
            f"pixel sizes differ by more than {SAME_SIZE:.1%}: {first.name} has {low:g} nm, {second.name} has {high:g} "
            "nm; record or export all maps of a series alike"
        )
    own, told, remarks = _tilts(maps, named, paths)
    size = known[0][0] if known else None
    values = np.concatenate([m.values for m in maps])
    notes = tuple(dict.fromkeys(n for m in maps for n in m.notes))
    stack = StackFile(values, None if size is None else (size, size), own, notes)
    return Source(element, shown, stack, tuple(p.name for p in paths), told, None, tuple(remarks))


def _tilts(
    maps: Sequence[StackFile], named: NDArray[np.float64] | str, paths: Sequence[Path]
) -> tuple[NDArray[np.float64] | None, str, list[str]]:
    """Tilts that single maps carry: the stage's unless it says the same everywhere, else those in their names."""
    stage = [m.tilts_deg for m in maps]
    held = np.array([t[0] for t in stage if t is not None])
    labels = [p.name for p in paths]
    if held.size == len(maps) and np.unique(held).size == held.size:
        line = compare(held, named, "the files", "their names", labels) if isinstance(named, np.ndarray) else None
        return held, "the files' stage", [] if line is None else [line]
    if isinstance(named, np.ndarray) and np.unique(named).size == named.size:
        return named, "the files' names", []
    if isinstance(named, np.ndarray):
        values, count = np.unique(named, return_counts=True)
        twice = [p.name for p, t in zip(paths, named, strict=True) if t == values[count > 1][0]]
        raise InputError(f"{twice[0]} and {twice[1]} have the same tilt in their names; leave one out")
    return None, "", [f"{paths[0].parent.name or '.'}: no tilts in the names of the files, since {named}"]


def _single(element: str, paths: Sequence[Path]) -> Iterator[StackFile]:
    for path in paths:
        found = load_stack(path, element, image=True)
        if len(found.values) != 1:
            raise InputError(
                f"{path} holds {len(found.values)} maps; of a list of files each is one map, or name one file with all"
            )
        yield found
