"""From a coarse grid to a fine one."""

from __future__ import annotations

import numpy as np

from recon.backend import Array, namespace


def enlarged(a: Array, shape: tuple[int, ...], factor: int) -> Array:
    """An array about the same centre on pixels `factor` times smaller, linear; beyond its edge, the edge."""
    if factor == 1 and a.shape == shape:
        return a
    if namespace(a) is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    offset = [(m - 1) / 2 - (n - 1) / 2 / factor for m, n in zip(a.shape, shape, strict=True)]
    matrix = namespace(a).asarray([1 / factor] * a.ndim)
    return ndimage.affine_transform(a, matrix, offset, output_shape=shape, order=1, mode="nearest")
