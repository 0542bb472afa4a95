"""From a coarse grid to a fine one."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, namespace


def enlarge(a: Array, out: Array, factor: int) -> Array:
    """An array about the same centre on pixels `factor` times smaller, linear; beyond its edge, the edge."""
    if factor == 1 and a.shape == out.shape:
        out[...] = a
        return out
    if namespace(a) is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    offset = [(m - 1) / 2 - (n - 1) / 2 / factor for m, n in zip(a.shape, out.shape, strict=True)]
    matrix = namespace(a).asarray([1 / factor] * a.ndim)
    ndimage.affine_transform(a, matrix, offset, output_shape=out.shape, output=out, order=1, mode="nearest")
    return out
