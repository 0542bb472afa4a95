"""From a coarse grid to a fine one."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, namespace
from recon.parallel import Range, Slab


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
    if namespace(a) is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    pairs = [*zip(a.shape[:-1], out.shape[:-1], strict=True), sizes]
    offset = [(m - 1) / 2 - (n - 1) / 2 / factor for m, n in pairs]
    offset[-1] += begin / factor - first
    matrix = namespace(a).asarray([1 / factor] * a.ndim)
    ndimage.affine_transform(a, matrix, offset, output_shape=out.shape, output=out, order=1, mode="nearest")
    return out


def _needed(wanted: Range, sizes: tuple[int, int], factor: int) -> Range:
    """Slices of the coarse array that fine ones lie between."""
    coarse, fine = sizes
    low, high = (((i - (fine - 1) / 2) / factor + (coarse - 1) / 2) for i in (wanted[0], wanted[1] - 1))
    begin = int(np.clip(np.floor(low) - 1, 0, coarse - 1))
    return begin, int(np.clip(np.ceil(high) + 2, begin + 1, coarse))
