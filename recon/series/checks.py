"""What tilts and maps must be like before anything is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

MIN_TILTS = 3


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
    return tilts


def _radians(tilts: NDArray[np.float64]) -> bool:
    """Within half a turn in radians, whatever the steps; up to a full turn where they are round numbers of degrees."""
    reach, turned = max(np.ptp(tilts), np.abs(tilts).max()), np.degrees(tilts)
    round_ones = np.abs(turned - np.round(2 * turned) / 2).max() < 0.05
    return bool(reach <= np.pi + 1e-3 or (reach <= 2 * np.pi + 1e-3 and round_ones))


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
        raise InputError(
            f"{name} holds negative counts ({stack.min():g} at tilt {tilt + 1}, pixel ({y}, {x})); use raw counts "
            "without background subtraction, or set input.scaled = true and reconstruct.data_term = 'least-squares' "
            "(in Python: scaled=True)"
        )
    if not stack.any():
        raise InputError(f"{name} is zero everywhere; leave this element out")
    with np.errstate(over="ignore"):
        out = stack.astype(np.float32)
    if not np.isfinite(out).all():
        raise InputError(f"{name} holds values above {np.finfo(np.float32).max:.2g}, too large for float32")
    return out


def finite_in_all(stacks: Sequence[NDArray[Any]]) -> NDArray[np.float32] | None:
    """Weights ``(tilt, y, x)`` that leave out what is not finite in one of the stacks; None if all is."""
    real = [s for s in stacks if s.dtype.kind == "f" and s.shape == stacks[0].shape]
    if not real:
        return None
    kept = np.ones(real[0].shape, np.float32)
    for stack in real:
        kept[~np.isfinite(stack)] = 0
    return None if kept.all() else kept
