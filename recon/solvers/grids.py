"""From a coarse grid to a fine one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.backend import Array, namespace
from recon.parallel import Range, Slab

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 1 << 19  # voxels of the fine grid


def enlarge(a: Array, out: Array, factor: int, there: Slab | None = None, here: Slab | None = None) -> Array:
    """An array about the same centre on pixels `factor` times smaller, linear; beyond its edge, the edge.

    Where they are spread over ranks, `there` is the part that `a` is, and `here` the part that `out` is.
    """
    if factor == 1 and a.shape == out.shape:
        out[...] = a
        return out
    spread = there is not None and here is not None and not here.whole
    sizes = (a.shape[-1], out.shape[-1])
    begin = first = 0
    if spread:
        assert there is not None
        assert here is not None
        sizes = (there.n, here.n)
        want = [_needed(here.held(rank), sizes, factor) for rank in range(here.ranks.size)]
        begin, first = here.held()[0], want[here.ranks.rank][0]
        end = want[here.ranks.rank][1]
        a = namespace(a).ascontiguousarray(a[..., first:end]) if there.whole else there.fetch(a, want)
    return _interpolate(a, out, factor, sizes, begin, first)


def enlarge_window(a: Array, out: Array, factor: int, n: int, begin: int) -> Array:
    """The same for `out` with the slices from `begin` on of an array with n of them."""
    return _interpolate(a, out, factor, (a.shape[-1], n), begin, 0)


def _interpolate(a: Array, out: Array, factor: int, sizes: tuple[int, int], begin: int, first: int) -> Array:
    """`a` has the slices from `first` on of the coarse array, `out` those from `begin` on of the fine one."""
    xp = namespace(a)
    places = [(np.arange(n) - (n - 1) / 2) / factor + (m - 1) / 2 for m, n in zip(a.shape, out.shape, strict=True)]
    of_all = (np.arange(begin, begin + out.shape[-1]) - (sizes[1] - 1) / 2) / factor + (sizes[0] - 1) / 2
    places[-1] = of_all - first
    # plane by plane along the first axis, some at a time, so that what comes and goes stays small
    some = max(1, AT_ONCE // max(1, out[0].size))
    for k in range(0, len(out), some):
        part = a
        for axis, at in enumerate((places[0][k : k + some], *places[1:])):
            part = _between(xp, part, axis, at)
        out[k : k + some] = part
    return out


def _between(xp: Any, a: Array, axis: int, at: NDArray[np.float64]) -> Array:
    """Linear between the values along an axis; beyond the first and the last, these."""
    n = a.shape[axis]
    at = np.clip(at, 0, n - 1)
    low = np.minimum(at.astype(np.intp), max(n - 2, 0))
    weight = xp.asarray((at - low).astype(np.float32)).reshape(-1, *(1,) * (a.ndim - axis - 1))
    found: Array = xp.take(a, xp.asarray(low), axis=axis)
    step = xp.take(a, xp.asarray(np.minimum(low + 1, n - 1)), axis=axis)
    step -= found
    step *= weight
    found += step
    return found


def _needed(wanted: Range, sizes: tuple[int, int], factor: int) -> Range:
    """Slices of the coarse array that fine ones lie between."""
    coarse, fine = sizes
    low, high = (((i - (fine - 1) / 2) / factor + (coarse - 1) / 2) for i in (wanted[0], wanted[1] - 1))
    begin = int(np.clip(np.floor(low) - 1, 0, coarse - 1))
    return begin, int(np.clip(np.ceil(high) + 2, begin + 1, coarse))
