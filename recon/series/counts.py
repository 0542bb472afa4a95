"""Whether maps can be counts: what rules it out, element by element, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH = 12  # pixels above 0 before anything is said of a map
HIGH = 30  # counts, above which maxima of maps that differ do not agree by chance


def count_doubts(stack: NDArray[Any], name: str, tilts_deg: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Why the maps of one element ``(tilt, y, x)`` cannot be raw counts, one line for each reason; empty if they can.

    Raw counts are whole numbers of which none is missing, whose maxima differ from map to map, and which scatter as
    much as Poisson statistics ask. Multiples of a number, gaps, fractions, a common maximum, a plateau at the maximum
    and values that scatter too little tell of scaling, bytes in the wrong order, averages, clipping and smoothing.
    """
    if stack.dtype.kind == "f":
        stack = np.nan_to_num(stack, posinf=0, neginf=0)  # such pixels are left out
    values = stack[stack > 0]
    out = list[str]()
    if values.size >= ENOUGH:
        if stack.dtype == bool or (values[0] > 1 and (values == values[0]).all()):
            return [
                f"{name}: all values are 0 or {values[0]:g}, so this is a mask; name the file that holds the counts"
            ]
        whole = bool((values == np.round(values)).all())
        out = _of_whole(stack, values, name) if whole else _of_fractions(stack, values, name)
        out += _of_maxima(stack, name, whole)
        if not out:
            out = _of_scatter(stack, name)
    return out + _of_maps(stack, name, tilts_deg)


def alike(stacks: Sequence[NDArray[Any]], names: Sequence[str]) -> list[str]:
    """Elements that hold the very same maps."""
    return [
        f"{names[j]} and {names[i]} hold the same maps, value by value; is one of them the other's file?"
        for i in range(len(stacks))
        for j in range(i)
        if stacks[i].shape == stacks[j].shape and np.array_equal(stacks[i], stacks[j])
    ]


def _of_whole(stack: NDArray[Any], values: NDArray[Any], name: str) -> list[str]:
    swapped = _swapped(stack)
    if swapped:
        return [f"{name}: {swapped}; export it again, or byteswap it"]
    whole = np.unique(values).astype(np.int64) if values.max() < 2**62 else np.array([1])
    divisor = int(np.gcd.reduce(whole))
    if divisor > 1:
        how = "the bytes may be in the wrong order, or counts fill the upper bits" if divisor in (16, 256, 65536) else (
            "counts were multiplied")  # fmt: skip
        return [f"{name}: all values are multiples of {divisor}: {how}; divide by {divisor}, or say scaled = true"]
    gaps, neighbours = np.sum([_gaps(m) for m in stack], axis=0)
    if gaps >= 5 and gaps > 0.15 * neighbours:
        return [
            f"{name}: whole numbers are missing between ones that are frequent ({gaps} gaps in {neighbours}), so "
            "counts were stretched and rounded; use the counts themselves, or say scaled = true"
        ]
    return []


def _swapped(stack: NDArray[Any]) -> str:
    """Whether the bytes of integers stand in the wrong order: put right, they are far smaller."""
    if stack.dtype.kind not in "iu" or stack.dtype.itemsize == 1:
        return ""
    top, other = int(stack.max()), int(stack.byteswap().max())
    if 0 < other < 2**12 and top > 8 * other and int(stack.byteswap().min()) >= 0:
        return f"its bytes stand in the wrong order, the largest value is {top} and would be {other}"
    return ""


def _gaps(image: NDArray[Any]) -> tuple[int, int]:
    """How many frequent values of a map are neighbours, and of these how many have a gap between them.

    Of counts that vary smoothly a number between two that occur 8 times is missing with a chance of about exp(-8).
    """
    values, often = np.unique(image[image > 0], return_counts=True)
    frequent = (often[1:] >= 8) & (often[:-1] >= 8)
    return int((np.diff(values)[frequent] > 1).sum()), int(frequent.sum())


def _of_fractions(stack: NDArray[Any], values: NDArray[Any], name: str) -> list[str]:
    if values.max() < 1e-30 or values.max() > 1e30:
        return [f"{name}: the largest value is {values.max():g}; its bytes may stand in the wrong order"]
    least = float(values.min())
    ratio = values.astype(np.float64) / least
    tolerance = 1e-5 * ratio + 1e-4
    steps = bool((np.abs(ratio - np.round(ratio)) < tolerance).all()) and ratio.max() < 1e5 and ratio.max() > 1.5
    told = f"{name}: values are not whole numbers"
    if steps and abs(1 / least - round(1 / least)) < 1e-3 / least and 1 / least < 1e6:
        n = round(1 / least)
        if abs(values.max() - 1) < 1e-6:
            return [f"{told} but multiples of 1/{n} up to 1, divided by their maximum; multiply by {n} to get counts"]
        return [f"{told} but multiples of 1/{n}, a mean of {n}; multiply by {n} to get counts"]
    if steps:
        return [f"{told} but multiples of {least:g}; divide by it to get counts, or say scaled = true"]
    top = " and the largest is 1" if abs(values.max() - 1) < 1e-6 else ""
    return [f"{told}{top}, so Poisson statistics do not hold; use raw counts, or say scaled = true"]


def _of_maxima(stack: NDArray[Any], name: str, whole: bool) -> list[str]:
    tops = stack.max(axis=(1, 2))
    lit = tops[tops > 0]
    if lit.size < 3:
        return []
    top = float(stack.max())
    near = top - 1 if whole else 0.9 * top
    at, below = int((stack == top).sum()), int(((stack >= near) & (stack < top)).sum())
    if at > lit.size + 4 and at > 3 * below + 10 and top >= 4:
        return [
            f"{name}: {at} pixels share the largest value {top:g}, {below} come close, so it is clipped there; record "
            "or export it unclipped"
        ]
    if (lit == top).all() and (top >= HIGH or not whole):
        return [
            f"{name}: the brightest pixel of every map is {top:g}, so each map was stretched by itself and maps at "
            "different tilts cannot be compared; export counts"
        ]
    limit = np.iinfo(stack.dtype).max if stack.dtype.kind in "iu" else 0
    if whole and top in (255, 4095, 16383, 32767, 65535) and at > 1 and (top == limit or top < 2**15):
        return [f"{name}: {at} pixels hold {top:g}, the most that its type can, and may be clipped; export more bits"]
    return []


def _of_scatter(stack: NDArray[Any], name: str) -> list[str]:
    """Variance over mean from second differences, which structure can raise but not lower."""
    f = stack.astype(np.float64)
    if min(f.shape[1:]) < 8:
        return []
    cross = f[:, 1:, 1:] - f[:, :-1, 1:] - f[:, 1:, :-1] + f[:, :-1, :-1]
    mean = (f[:, 1:, 1:] + f[:, :-1, 1:] + f[:, 1:, :-1] + f[:, :-1, :-1]) / 4
    lit = mean > 0.5
    if lit.sum() < 500:
        return []
    ratio = float((cross[lit] ** 2).sum() / (4 * mean[lit].sum()))
    if ratio < 0.5:
        return [
            f"{name}: values scatter {1 / max(ratio, 1e-3):.0f} times less than counts do (variance over mean "
            f"{ratio:.2g}), so they were smoothed, denoised or scaled down; use raw counts, or say scaled = true"
        ]
    return []


def _of_maps(stack: NDArray[Any], name: str, tilts_deg: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Maps that are empty, or the same twice."""
    out = []
    empty = [f"{t:g}" for t, m in zip(tilts_deg, stack, strict=True) if not m.any()]
    if empty and len(empty) < len(stack):
        out.append(f"{name}: the map at {', '.join(empty)} degrees is empty")
    seen: dict[bytes, float] = {}
    for tilt, image in zip(tilts_deg, stack, strict=True):
        if np.count_nonzero(image) < ENOUGH:
            continue
        key = image.tobytes()
        if key in seen:
            out.append(f"{name}: the maps at {seen[key]:g} and {tilt:g} degrees are the same, value by value")
        seen.setdefault(key, float(tilt))
    return out
