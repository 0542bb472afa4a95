"""Elements with tilts, masks and maps of their own, on one list of projections: what one has not has no weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError
from recon.series.checks import check_tilts, finite_in_all

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SAME = 0.05  # degrees within which tilts of two elements are one projection


def union(
    tilts: Mapping[str, ArrayLike], names: tuple[str, ...]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.intp]]]:
    """All tilts of some elements, and where those of each stand among them.

    Tilts closer than `SAME` are one projection, whose maps were recorded together and share an alignment.

    Args:
        tilts: of each element ``(tilt,)``, degrees.
        names: the elements.

    Returns:
        ``(projection,)`` ascending, or in the elements' own order where they all have the same; and the positions.

    Raises:
        InputError: an element without tilts, or tilts that are none; the line names the element.
    """
    own: dict[str, NDArray[np.float64]] = {}
    for name in names:
        if name not in tilts:
            raise InputError(f"no tilts were given for {name}; give some for each of {', '.join(names)}")
        try:
            own[name] = check_tilts(tilts[name])
        except InputError as exc:
            raise InputError(f"{name}: {exc}") from exc
    for name in tilts:
        if name not in names:
            raise InputError(f"tilts were given for {name}, which has no maps; there are {', '.join(names)}")
    first = own[names[0]]
    if all(t.shape == first.shape and (np.abs(t - first) < SAME).all() for t in own.values()):
        return first, dict.fromkeys(names, np.arange(first.size))
    every = np.sort(np.concatenate(list(own.values())))
    found = every[np.concatenate([[True], np.diff(every) >= SAME])]
    at = {name: np.abs(found[:, None] - t).argmin(axis=0) for name, t in own.items()}
    for name, index in at.items():
        twice = np.flatnonzero(np.bincount(index) > 1)
        if twice.size:
            raise InputError(f"{name} has two maps within {SAME:g} degrees of tilt {found[twice[0]]:g}; leave one out")
    return found, at


def placed(stack: NDArray[np.float32], at: NDArray[np.intp], n: int) -> NDArray[np.float32]:
    """Maps at their positions among `n` projections, 0 elsewhere."""
    if stack.shape[0] == n and np.array_equal(at, np.arange(n)):
        return stack
    out = np.zeros((n, *stack.shape[1:]), stack.dtype)
    out[at] = stack
    return out


def element_weights(
    given: Mapping[str, ArrayLike], at: Mapping[str, NDArray[Any]], n: int, frame: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Weights ``(element, tilt, y, x)``, or ``(element, tilt, 1, 1)`` where single pixels have none; None if all is 1.

    Args:
        given: of some elements, for their own maps ``(tilt, y, x)``; ``(y, x)`` for all of these, or ``(tilt,)``.
        at: positions of each element's maps among `n` projections.
        n: projections.
        frame: ``(ny, nx)``.

    Raises:
        InputError: an unknown element, a shape that does not fit, or a value outside 0..1.
    """
    tables = []
    for name in given:
        if name not in at:
            raise InputError(f"weights were given for {name}, which has no maps; there are {', '.join(at)}")
    for name, index in at.items():
        own = np.ones((index.size, 1, 1), np.float32)
        if name in given:
            try:
                w = np.asarray(given[name], dtype=np.float32)
            except (TypeError, ValueError) as exc:
                raise InputError(f"weights of {name} must be numbers between 0 and 1") from exc
            shapes = {(index.size,): (index.size, 1, 1), frame: (1, *frame), (1, *frame): (1, *frame)}
            if w.shape not in shapes and w.shape != (index.size, *frame):
                raise InputError(
                    f"weights of {name} have shape {w.shape}, its maps {(index.size, *frame)}; they must agree, or be "
                    "(y, x) for all its maps, or one number for each"
                )
            if not (np.isfinite(w).all() and w.min() >= 0 and w.max() <= 1):
                raise InputError(f"weights of {name} must lie between 0 and 1; 0 leaves a pixel out")
            own = own * w.reshape(shapes.get(w.shape, w.shape))
        tables.append(placed(own, index, n))
    fine = any(t.shape[1:] != (1, 1) for t in tables)
    out = np.stack([np.broadcast_to(t, (n, *frame)) if fine else t for t in tables])
    return None if out.all() and out.min() == 1 else out


def finite(
    arrays: Mapping[str, NDArray[Any]], at: Mapping[str, NDArray[np.intp]], n: int
) -> tuple[NDArray[np.float32] | None, dict[str, NDArray[np.bool_]]]:
    """Weights that leave out what is not finite: of all elements, pixels; of one, its maps that hold nothing else.

    Args:
        arrays: the maps of each element.
        at: where they stand among `n` projections.
    """
    own, rest = {}, []
    for name, stack in arrays.items():
        if stack.ndim == 3 and stack.dtype.kind == "f" and len(stack) == at[name].size:
            there = np.isfinite(stack).any(axis=(1, 2))
            if not there.all():
                own[name] = there
                stack = np.where(there[:, None, None], stack, 0)
            rest.append(placed(stack, at[name], n))
    return finite_in_all(rest) if rest else None, own


def without_weight(
    own: ArrayLike | None, shared: ArrayLike | None, stack: NDArray[Any], at: NDArray[np.intp]
) -> NDArray[np.bool_] | None:
    """Pixels of an element's maps that may hold anything, in their shape; None where there are none, or no such shape.

    Args:
        own: weights of the element's own maps.
        shared: of all projections.
        stack: the maps.
        at: where they stand among the projections.
    """
    out = np.zeros(stack.shape, bool)
    for given, of_all in ((own, False), (shared, True)):
        if given is None:
            continue
        none = np.asarray(given) == 0
        if none.ndim == 1:
            none = none[:, None, None]
        elif of_all and none.ndim == 3 and at.size and at.max() < len(none):
            none = none[at]
        try:
            out |= none
        except ValueError:  # told when the weights themselves are checked
            continue
    return out if out.any() else None


def emptied(stack: NDArray[Any], unused: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The maps with 0 in those of which no pixel has weight: they were not recorded."""
    if unused is None or not unused.all(axis=(1, 2)).any():
        return stack
    return np.where(unused.all(axis=(1, 2), keepdims=True), np.zeros((), stack.dtype), stack)
