"""The tilt of each spectrum image: given, or from the stage, an ``.mdoc``, or the file's name; never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.eds.recording import Recording
from recon.errors import InputError
from recon.io.names import tilts_from_names
from recon.io.tilts import TiltSpec, compare, read_mdoc, read_tilts


def find_tilts(
    recordings: Sequence[Recording], given: TiltSpec | None = None, base: str | Path = "."
) -> tuple[np.ndarray, list[str]]:
    """Tilts ``(file,)`` in degrees, and where each comes from.

    The first of these that serves all files: `given`; the stage, unless it says the same for every file; an
    ``.mdoc`` beside each file (``NAME.bcf.mdoc`` or ``NAME.mdoc``), or one in the folder that names them
    all; a number in each file's name (see `recon.io.names`).

    Raises:
        InputError: none serves, the number of `given` tilts is wrong, or a tilt appears twice.
    """
    paths = [r.path for r in recordings]
    if given is not None:
        return given_tilts(paths, given, base), ["given"] * len(paths)
    sources, reasons = _sources(recordings)
    if not sources:
        raise InputError(f"the tilt of {paths[0]} cannot be found: {'; '.join(reasons)}; {_how(paths)}")
    tilts, first = sources[0]
    return _once(tilts, paths), [first] * len(paths)


def given_tilts(paths: Sequence[Path], given: TiltSpec, base: str | Path = ".") -> np.ndarray:
    """Tilts ``(file,)`` in degrees that a user gives, one for each file.

    Raises:
        InputError: their number is wrong, or a tilt appears twice.
    """
    tilts = read_tilts(given, base)
    if len(tilts) != len(paths):
        raise InputError(f"{len(tilts)} tilts were given for {len(paths)} spectrum images; {_how(paths)}")
    return _once(tilts, paths)


def conflicts(recordings: Sequence[Recording], tilts: np.ndarray, source: str) -> list[str]:
    """Where stage, ``.mdoc`` or names contradict the tilts that are taken: one line for each that does.

    Raises:
        InputError: they hold the same tilts in another order, so that maps would get those of others.
    """
    labels = [r.path.name for r in recordings]
    found = [compare(tilts, own, source, other, labels) for own, other in _sources(recordings)[0] if other != source]
    return [line for line in found if line is not None]


def _sources(recordings: Sequence[Recording]) -> tuple[list[tuple[np.ndarray, str]], list[str]]:
    """Every source that has a tilt for each file, the most trusted first, and why others have none."""
    paths, stage = [r.path for r in recordings], [r.stage_tilt_deg for r in recordings]
    sources, reasons = list[tuple[np.ndarray, str]](), []
    if all(t is not None for t in stage):
        if len(paths) == 1 or len(set(stage)) > 1:
            sources.append((np.array(stage, dtype=np.float64), "stage"))
        else:
            reasons.append(f"the stage says {stage[0]:g} for every file")
    elif any(t is not None for t in stage):
        silent = next(p for p, t in zip(paths, stage, strict=True) if t is None)
        reasons.append(f"{silent.name} holds no stage tilt")
    else:
        reasons.append("no file holds a stage tilt")
    listed = _mdoc(paths)
    if listed is not None:
        sources.append((np.array(listed[0]), listed[1]))
    else:
        reasons.append("no .mdoc names them all")
    named = tilts_from_names([p.name for p in paths])
    if isinstance(named, np.ndarray):
        sources.append((named, "the file's name"))
    else:
        reasons.append(named)
    return sources, reasons


def _how(paths: Sequence[Path]) -> str:
    """The remedy, with the order in which tilts are to be given."""
    names = [p.name for p in paths]
    order = ", ".join(names if len(names) < 5 else [*names[:2], "...", names[-1]])
    return f"give tilts in the job file, [input] tilts = [..] or a .rawtlt file, one for each of {order} in this order"


def _once(tilts: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
    """The tilts, or an error that names two files with the same one."""
    for i, tilt in enumerate(tilts):
        for j in range(i):
            if abs(tilts[j] - tilt) < 1e-3:
                raise InputError(
                    f"{paths[j]} and {paths[i]} have the same tilt, {tilt:g} degrees; leave one out, or {_how(paths)}"
                )
    return tilts


def _mdoc(paths: Sequence[Path]) -> tuple[list[float], str] | None:
    own: list[float] = []
    for path in paths:
        beside = next((p for p in (Path(f"{path}.mdoc"), path.with_suffix(".mdoc")) if p.is_file()), None)
        angles = read_mdoc(beside) if beside is not None else []
        if len(angles) != 1:
            break
        own.append(angles[0][0])
    else:
        return own, ".mdoc"
    for candidate in sorted(paths[0].parent.glob("*.mdoc")):
        named = {name: angle for angle, name in read_mdoc(candidate) if name}
        if all(p.name in named for p in paths):
            return [named[p.name] for p in paths], candidate.name
    return None
