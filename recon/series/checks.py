"""What tilts and maps must be like before anything is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.series.counts import count_doubts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

MIN_TILTS = 3
NARROWEST, NARROW = 1.0, 20.0  # degrees; tilts that span less are refused, tell nearly nothing of depth
MOST_COUNTS = 1e12  # of a pixel: at a million a second, eleven days
NO_MEAN = 1e-4  # standard deviations of the pixels: a mean so near 0 in every map was taken off


def check_tilts(tilts_deg: ArrayLike) -> NDArray[np.float64]:
    """Tilts as float64 degrees, shape ``(tilt,)``, or an InputError that says what is wrong."""
    try:
        tilts = np.array(tilts_deg, dtype=np.float64).ravel()
    except (TypeError, ValueError) as exc:
        raise InputError("tilts must be numbers, in degrees") from exc
    if tilts.size < MIN_TILTS:
        raise InputError(f"there are {tilts.size} tilts; tomography needs at least {MIN_TILTS}")
    if not np.isfinite(tilts).all():
        raise InputError(f"tilt {int(np.argmin(np.isfinite(tilts))) + 1} is not a finite number")
    values, count = np.unique(tilts, return_counts=True)
    if (count > 1).any():
        twice = ", ".join(f"{t:g}" for t in values[count > 1])
        raise InputError(f"tilt {twice} appears more than once; leave one out, or add the two maps up first")
    if np.abs(tilts).max() > 180:
        raise InputError(f"tilt {tilts[np.abs(tilts).argmax()]:g} is beyond 180 degrees; tilts are in degrees")
    if _radians(tilts):
        raise InputError(
            f"tilts from {tilts.min():.3g} to {tilts.max():.3g} look like radians; give degrees "
            f"({np.degrees(tilts.min()):.1f} to {np.degrees(tilts.max()):.1f}): as degrees they are too close together "
            "for tomography"
        )
    if span(tilts) < NARROWEST:
        raise InputError(
            f"tilts span {span(tilts):.2g} degrees only ({tilts.min():g} to {tilts.max():g}), and below {NARROWEST:g} "
            "degree nothing is known of depth; give maps at tilts further apart, +-70 degrees if the holder allows it"
        )
    return tilts


def span(tilts_deg: NDArray[np.float64]) -> float:
    """Degrees that tilts about one axis span: what the widest gap leaves of half a turn, after which beams repeat."""
    beams = np.sort(np.mod(tilts_deg, 180))
    return float(180 - max(np.diff(beams).max(initial=0), 180 - np.ptp(beams)))


def narrow(tilts_deg: NDArray[np.float64]) -> tuple[str, ...]:
    """A line about tilts about one axis that span too little for depth; none if they span enough."""
    if span(tilts_deg) >= NARROW:
        return ()
    return (
        f"tilts span {span(tilts_deg):g} degrees only ({tilts_deg.min():g} to {tilts_deg.max():g}), which tells nearly "
        "nothing of depth: what lies where along the beam is a guess",
    )


def standardised(stack: NDArray[np.float32], name: str, unused: NDArray[np.bool_] | None = None) -> tuple[str, ...]:
    """A line about scaled maps ``(tilt, y, x)`` of which each has mean zero; none if they do not."""
    pixels = stack.reshape(len(stack), -1).astype(np.float64)
    if unused is not None and unused.any():
        return ()
    spread = pixels.std(axis=1)
    if not spread.all() or (np.abs(pixels.mean(axis=1)) > NO_MEAN * spread).any():
        return ()
    return (
        f"{name}: the mean of every map is 0, so it was taken off and the amount of the element with it; export maps "
        "without that",
    )


def remaining(tilts_deg: NDArray[np.float64], used: NDArray[np.bool_], single: bool, advice: str) -> tuple[str, ...]:
    """A line about tilts that remain after others were left out and span too little for depth; none if they serve.

    Args:
        tilts_deg: all ``(tilt,)``.
        used: which of them remain.
        single: whether they are about one axis, where their span says something.
        advice: the end of an error.

    Raises:
        InputError: too few remain, or their span tells nothing of depth.
    """
    left = tilts_deg[used]
    if left.size < MIN_TILTS:
        raise InputError(
            f"only {left.size} of {tilts_deg.size} tilts can be used, tomography needs at least {MIN_TILTS} {advice}"
        )
    if not single:
        return ()
    if span(left) < NARROWEST:
        raise InputError(
            f"the {left.size} tilts that can be used span {span(left):.2g} degrees only ({left.min():g} to "
            f"{left.max():g}), which tells nothing of depth {advice}"
        )
    before = narrow(tilts_deg)
    return tuple(f"without the tilts left out, {line}" for line in narrow(left) if not before)


def _radians(tilts: NDArray[np.float64]) -> bool:
    """Within half a turn in radians, whatever the steps; up to a full turn where they are round numbers of degrees."""
    reach, turned = max(np.ptp(tilts), np.abs(tilts).max()), np.degrees(tilts)
    round_ones = np.abs(turned - np.round(2 * turned) / 2).max() < 0.05
    return bool(reach <= np.pi + 1e-3 or (reach <= 2 * np.pi + 1e-3 and round_ones))


def _inverted(values: NDArray[Any]) -> bool:
    """Whether maps lie at or below 0 throughout and reach further down than up from their middle."""
    if not values.size or values.max() > 0:
        return False
    middle = float(np.median(values))
    return middle - float(values.min()) > float(values.max()) - middle


def _check_stack(
    stack: NDArray[Any], name: str, n_tilts: int, scaled: bool, unused: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """The stack as float32, or an InputError; pixels that are left out, True in `unused`, may hold anything."""
    if stack.dtype.kind not in "uifb":
        what = {"c": "complex numbers", "U": "text", "S": "text", "O": "Python objects"}.get(
            stack.dtype.kind, f"type {stack.dtype}"
        )
        raise InputError(f"{name} holds {what}; maps are real numbers of counts")
    if stack.ndim != 3:
        raise InputError(f"{name} has {stack.ndim} axes {stack.shape}; a stack of maps is (tilt, y, x)")
    if len(stack) != n_tilts:
        raise InputError(
            f"{name} has {len(stack)} maps but {n_tilts} tilts were given; the numbers must agree (the stack is "
            f"(tilt, y, x) = {stack.shape})"
        )
    if min(stack.shape[1:]) < 4:
        raise InputError(f"{name} has maps of {stack.shape[1]} x {stack.shape[2]} pixels; at least 4 x 4 are needed")
    if unused is not None and unused.shape == stack.shape and not np.isfinite(stack[unused]).all():
        stack = np.where(unused & ~np.isfinite(stack), 0, stack)
    finite = np.isfinite(stack)
    if not finite.all():
        tilt, y, x = np.unravel_index(np.argmin(finite), stack.shape)
        raise InputError(
            f"{name} holds {int(finite.size - finite.sum())} values that are not finite, the first at tilt "
            f"{tilt + 1}, pixel ({y}, {x}); leave these pixels out with input.bad_pixels = 'nan' (in Python: "
            "weights='nan'), or export the maps without them"
        )
    if stack.size and stack.min() < 0 and not scaled:
        tilt, y, x = np.unravel_index(np.argmin(stack), stack.shape)
        low, half = float(stack.min()), next((h for h in (2**7, 2**15, 2**31) if stack.min() == -h), 0)
        if half and stack.dtype.kind == "i" and np.median(stack) < 0:
            raise InputError(
                f"{name} begins at {low:g}, its least signed number, so {half} seem to have been taken off; "
                "export it without a sign, or add them"
            )
        raise InputError(
            f"{name} holds negative counts ({low:g} at tilt {tilt + 1}, pixel ({y}, {x})); use raw counts without "
            "background subtraction, or set input.scaled = true and reconstruct.data_term = 'least-squares' "
            "(in Python: scaled=True)"
        )
    if not stack.any():
        raise InputError(f"{name} is zero everywhere; leave this element out")
    if not scaled and not (total := float(stack.sum(dtype=np.float64))) >= 0.5:
        raise _no_counts(f"{name} holds {total:.2g} counts in all, less than one", stack)
    if not scaled and stack.max() > MOST_COUNTS:
        raise _no_counts(f"{name} holds {float(stack.max()):.2g} counts in a pixel, which no detector counts", stack)
    if scaled and _inverted(stack if unused is None or unused.shape != stack.shape else stack[~unused]):
        raise InputError(
            f"{name} has no value above 0 (the largest is {stack.max():g}); a map rises where the element is: change "
            "its sign, or leave this element out"
        )
    with np.errstate(over="ignore"):
        out = stack.astype(np.float32)
    if not np.isfinite(out).all():
        raise InputError(f"{name} holds values above {np.finfo(np.float32).max:.2g}, too large for float32")
    return out


def _no_counts(what: str, stack: NDArray[Any]) -> InputError:
    """The error for values that nobody counted, with what became of them where that can be told."""
    why = next((d for d in count_doubts(stack, "the file", range(len(stack))) if "wrong order" in d), "")
    if why:
        return InputError(f"{what}; {why.removeprefix('the file: ')}")
    return InputError(
        f"{what}; export counts, or set input.scaled = true and reconstruct.data_term = 'least-squares' (in Python: "
        "scaled=True)"
    )


def finite_in_all(stacks: Sequence[NDArray[Any]]) -> NDArray[np.float32] | None:
    """Weights ``(tilt, y, x)`` that leave out what is not finite in one of the stacks; None if all is."""
    real = [s for s in stacks if s.dtype.kind == "f" and s.shape == stacks[0].shape]
    if not real:
        return None
    kept = np.ones(real[0].shape, np.float32)
    for stack in real:
        kept[~np.isfinite(stack)] = 0
    return None if kept.all() else kept
