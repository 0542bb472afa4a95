"""The tilt of each spectrum image: given, or from the stage, an ``.mdoc``, or the file's name; never a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.eds.recording import Recording
from recon.errors import InputError
from recon.io.tilts import TiltSpec, read_mdoc, read_tilts

_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_PATTERNS = (
    re.compile(rf"({_NUMBER})"),  # "-40.bcf"
    re.compile(rf".*?(?<![\d.])({_NUMBER})\s*(?:deg(?:rees?)?|°)(?![A-Za-z]).*", re.IGNORECASE),
    re.compile(rf".*?(?:tilt|alpha)[\s_=]*({_NUMBER})(?![\d.]).*", re.IGNORECASE),
)


def find_tilts(
    recordings: Sequence[Recording], given: TiltSpec | None = None, base: str | Path = "."
) -> tuple[np.ndarray, list[str]]:
    """Tilts ``(file,)`` in degrees, and where each comes from.

    The first of these that serves all files: `given`; the stage, unless it says the same for every file; an
    ``.mdoc`` beside each file (``NAME.bcf.mdoc`` or ``NAME.mdoc``), or one in the folder that names them
    all; a number in each file's name that is the whole name, or is marked by "deg" or "tilt".

    Raises:
        InputError: none serves, the number of `given` tilts is wrong, or a tilt appears twice.
    """
    paths = [r.path for r in recordings]
    if given is not None:
        tilts = read_tilts(given, base)
        if len(tilts) != len(paths):
            raise InputError(f"{len(tilts)} tilts were given for {len(paths)} spectrum images; {_how(paths)}")
        return _once(tilts, paths), ["given"] * len(paths)
    reasons = []
    stage = [r.stage_tilt_deg for r in recordings]
    if all(t is not None for t in stage):
        if len(paths) == 1 or len(set(stage)) > 1:
            return _once(np.array(stage, dtype=np.float64), paths), ["stage"] * len(paths)
        reasons.append(f"the stage says {stage[0]:g} for every file")
    elif any(t is not None for t in stage):
        silent = next(p for p, t in zip(paths, stage, strict=True) if t is None)
        reasons.append(f"{silent.name} holds no stage tilt")
    else:
        reasons.append("no file holds a stage tilt")
    listed = _mdoc(paths)
    if listed is not None:
        return _once(np.array(listed[0]), paths), [listed[1]] * len(paths)
    reasons.append("no .mdoc names them all")
    named = _from_names(paths)
    if isinstance(named, np.ndarray):
        return _once(named, paths), ["the file's name"] * len(paths)
    reasons.append(named)
    raise InputError(f"the tilt of {paths[0]} cannot be found: {'; '.join(reasons)}; {_how(paths)}")


def _how(paths: Sequence[Path]) -> str:
    """The remedy, with the order in which tilts are to be given."""
    names = [p.name for p in paths]
    order = ", ".join(names if len(names) < 5 else [*names[:2], "...", names[-1]])
    return f"give tilts in the job file, [input] tilts = [..] or a .rawtlt file, one for each of {order} in this order"


def _from_names(paths: Sequence[Path]) -> np.ndarray | str:
    """Tilts from the names, or why they do not serve."""
    for pattern in _PATTERNS:
        matches = [pattern.fullmatch(p.stem) for p in paths]
        found = [(m[1], m.start(1)) for m in matches if m]
        if len(found) < len(paths):
            continue
        tilts = np.array([float(text) for text, _ in found])
        ordered = np.sort(tilts)
        if len(tilts) > 2 and ordered[0] in (0, 1) and (np.diff(ordered) == 1).all():
            return f"the numbers in the names run from {ordered[0]:g} to {ordered[-1]:g} and may only count the files"
        glued = [text.startswith("-") and at > 0 and p.stem[at - 1].isalnum()
                 for (text, at), p in zip(found, paths, strict=True)]  # fmt: skip
        if all(glued):
            return f"the '-' in {paths[0].name} and in all others may be a minus or a hyphen"
        return tilts
    odd = next((p for p in paths if not any(x.fullmatch(p.stem) for x in _PATTERNS)), None)
    if odd is None:
        return f"the names, such as {paths[0].name} and {paths[-1].name}, do not follow one pattern"
    return f"the name {odd.name} is not a number of degrees nor marks one with 'deg' or 'tilt'"


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
