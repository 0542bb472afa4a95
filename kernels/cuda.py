"""Launchers of the CUDA kernels for CuPy arrays: the functions of `recon.kernels.cpu`, same arguments.

Everything is written into arguments. A launch allocates nothing and does not wait; `cos`, `sin` and
`affine` may be NumPy arrays, but then each call copies them to the device. `values`, `sums` and `largest` are float64
arrays, all others float32; sums are accumulated in an order that differs from run to run in the last digits.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

from recon.errors import BackendError
from recon.kernels import MOST_CHANNELS, STEPS
from recon.kernels.halo import pack, unpack

_FOLDER = Path(__file__).parent
# threads along y, rows: the fastest tried on an H100; reduce.cuh needs a multiple of 32, joseph.cu at most 16 rows
_BLOCK = (64, 4, 1)
_BLOCKS = {"joseph.cu": (16, 8, 1), "tgv.cu": (32, 4, 1)}  # where a thread takes `_WIDTH` elements along y
_WIDTH = 4
_DUALS = ("float", "short")  # how p and q are stored

STEP_NEEDS_W_BAR = True  # between the kernels of its two steps; why there are two is said in tgv.cu
OPTIONS = ("--std=c++17",)
KERNELS = {
    "joseph.cu": tuple(f"{name}<{width}>" for name in ("project", "backproject") for width in (1, _WIDTH)),
    "general.cu": ("project_rays", "backproject_rays"),
    "warp.cu": ("warp", "warp_adjoint"),
    "tgv.cu": tuple(
        f"{name}<{order}, {dual}, {width}>"
        for name, orders in (("tgv_primal", (0, 1, 2)), ("tgv_dual", (1, 2)))
        for order in orders
        for dual in _DUALS
        for width in (1, _WIDTH)
    ),
    "certificate.cu": (
        *(f"{name}<{dual}>" for name in ("tgv_divergence", "gradient_adjoint") for dual in _DUALS),
        "tgv_value<1>",
        "tgv_value<2>",
        "excess_sums",
    ),
    "data.cu": ("poisson_dual", "least_squares_dual"),
    "ramp.cu": ("ramp_filter", "ramp_dual"),
    "coupled.cu": tuple(
        f"{name}<{n}>" for name in ("coupled_dual", "coupled_norms") for n in range(1, MOST_CHANNELS + 1)
    ),
}


def source(file: str) -> str:
    """`file` with its headers in the text, and `#line` directives so that errors point into the files.

    The headers travel in the text because CuPy keys its cache of compiled code by it: behind an include
    path, an edited header would be overlooked.
    """
    return _expand(file, set())


def _expand(file, seen):  # type: ignore[no-untyped-def]
    seen.add(file)
    lines = [f'#line 1 "{file}"']
    for number, line in enumerate((_FOLDER / file).read_text(encoding="utf-8").splitlines(), start=1):
        header = re.fullmatch(r'#include "(.+)"', line)
        if header and header[1] not in seen:
            lines += [_expand(header[1], seen), f'#line {number + 1} "{file}"']
        else:
            lines.append("" if header or line == "#pragma once" else line)
    return "\n".join(lines)


@cache
def _module(file):  # type: ignore[no-untyped-def]
    import cupy

    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=KERNELS[file])


def compile_file(file: str) -> None:
    """Compile one of `KERNELS` for the current device; what CuPy has kept is found again."""
    _module(file).compile()


@cache
def _kernel(file, name):  # type: ignore[no-untyped-def]
    return _module(file).get_function(name)


def _launch(file, name, over, floats, doubles, sizes, scalars=(), duals=(), width=1):  # type: ignore[no-untyped-def]
    """One thread per `width` elements of the shape `over`; a kernel takes its arguments in the order given here.

    `duals` are those of `floats` that may be int16, all of them or none.
    """
    short = bool(duals) and duals[0].dtype == np.int16
    for kind, arrays in ((np.float32, floats), (np.float64, doubles)):
        for a in arrays:
            dtype = np.int16 if short and any(a is d for d in duals) else kind
            if a.dtype != dtype or not a.flags.c_contiguous:
                raise BackendError(
                    f"{name.partition('<')[0]} takes C-contiguous {np.dtype(dtype)} arrays, not {a.dtype} of shape "
                    f"{a.shape} with strides {a.strides}"
                )
    planes, rows, ny = over
    block = _BLOCKS[file] if width > 1 else _BLOCK
    grid = (-(-rows // block[1]), planes, -(-ny // (block[0] * width)))
    scalars = (s if isinstance(s, np.float64) else np.float32(s) for s in scalars)
    arguments = (*floats, *doubles, *map(np.int32, sizes), *scalars)
    _kernel(file, name)(grid, block, arguments)


def _on_device(*arrays):  # type: ignore[no-untyped-def]
    import cupy

    return tuple(cupy.asarray(a, dtype=np.float64) for a in arrays)


def _dual_type(p):  # type: ignore[no-untyped-def]
    return _DUALS[int(p.dtype == np.int16)]


def _units(p, a1, a0):  # type: ignore[no-untyped-def]
    """The value of a step of p and of q as they are stored."""
    return (a1 / STEPS, a0 / STEPS) if p.dtype == np.int16 else (1, 1)


def _width(*arrays):  # type: ignore[no-untyped-def]
    """Elements along y that a thread can load at once: as rows and addresses allow."""
    whole = all(a.shape[-1] % _WIDTH == 0 and _address(a) % (a.itemsize * _WIDTH) == 0 for a in arrays)
    return _WIDTH if whole else 1


def _address(a):  # type: ignore[no-untyped-def]
    return a.data.ptr if hasattr(a.data, "ptr") else a.ctypes.data  # of NumPy's in tests without a GPU


def project(volume, out, rays, fineness):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (z, x, y) into `out` (tilt, u, y), in units of a voxel's edge."""
    sizes = (*volume.shape, *out.shape[:2], fineness)
    _joseph("project", volume, out, rays, sizes)


def backproject(stack, out, rays, fineness):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project`: `stack` (tilt, u, y) into `out` (z, x, y)."""
    sizes = (*out.shape, *stack.shape[:2], fineness)
    _joseph("backproject", stack, out, rays, sizes)


def _joseph(name, source, out, rays, sizes):  # type: ignore[no-untyped-def]
    width = _width(source, out)
    _launch("joseph.cu", f"{name}<{width}>", out.shape, (source, out), _on_device(rays), sizes, width=width)


def project_rays(volume, out, rays, pad, needed=None):  # type: ignore[no-untyped-def]
    """Line integrals of `volume` (p, q, pad + y + pad) into `out` (tilt, line, row), in units of a voxel's edge.

    All of them, whichever are `needed`.
    """
    sizes = (*volume.shape, *out.shape, pad)
    _launch("general.cu", "project_rays", out.shape, (volume, out), _on_device(rays), sizes)


def backproject_rays(stack, out, rays, pairs):  # type: ignore[no-untyped-def]
    """The exact adjoint of `project_rays`, without the zeros: `stack` (tilt, line, row) into `out` (p, q, y)."""
    sizes = (*out.shape, *stack.shape, pairs)
    _launch("general.cu", "backproject_rays", out.shape, (stack, out), _on_device(rays), sizes)


def exchange(source, out, axis, pad=0):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) with `axis`, 0 or 1, and the last one exchanged, into `out`, `pad` elements into its rows."""
    out[:, :, pad : pad + source.shape[axis]] = source.swapaxes(axis, 2)


def exchange_add(source, out, axis):  # type: ignore[no-untyped-def]
    """The same, added to `out`."""
    out += source.swapaxes(axis, 2)


def pad_rows(source, out, pad):  # type: ignore[no-untyped-def]
    """`source` (a, b, c) into the middle of `out` (a, b, pad + c + pad), whose ends stay as they are."""
    out[:, :, pad : pad + source.shape[2]] = source


def add(source, out):  # type: ignore[no-untyped-def]
    """out += source, arrays of three axes."""
    out += source


def warp(stack, out, affine):  # type: ignore[no-untyped-def]
    """Ideal projections `stack` (tilt, u, y) as recorded, into `out` (tilt, u, y); zero outside."""
    sizes = (*stack.shape, *out.shape[1:])
    _launch("warp.cu", "warp", out.shape, (stack, out), _on_device(affine), sizes)


def warp_adjoint(stack, out, affine):  # type: ignore[no-untyped-def]
    """The exact adjoint of `warp`: each ideal pixel gathers the recorded ones that it reaches."""
    sizes = (*out.shape, *stack.shape[1:])
    _launch("warp.cu", "warp_adjoint", out.shape, (stack, out), _on_device(affine), sizes)


def zeros(shape, dtype=np.float32):  # type: ignore[no-untyped-def]
    """Zeros in C order on the device."""
    import cupy

    return cupy.zeros(shape, dtype)


def tgv_primal(u, w, u_bar, w_bar, p, q, g, tau_u, tau_w, a1, a0, rho):  # type: ignore[no-untyped-def]
    """u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p); u_bar = 2 u' - u, u <- u + rho (u' - u).

    `w`, `q` have no components for TV, `p` none without a regulariser. `p` and `q` may be int16, see `recon.kernels`.
    """
    order = 2 if w.shape[0] else 1 if p.shape[0] else 0
    floats = (u, w, u_bar, w_bar, p, q, g)
    width = _width(*floats)
    scalars = (tau_u, tau_w, *_units(p, a1, a0), rho)
    name = f"tgv_primal<{order}, {_dual_type(p)}, {width}>"
    _launch("tgv.cu", name, u.shape, floats, (), u.shape, scalars, duals=(p, q), width=width)


def tgv_dual(p, q, u_bar, w_bar, sigma_p, sigma_q, a1, a0, rho):  # type: ignore[no-untyped-def]
    """p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar); p <- p + rho (p' - p).

    P_a projects each voxel's vector onto the ball of radius a. `p` and `q` as in `tgv_primal`.
    """
    order = 2 if w_bar.shape[0] else 1 if p.shape[0] else 0
    if order == 0:
        return
    floats = (p, q, u_bar, w_bar)
    width, shape = _width(*floats), u_bar.shape
    scalars = (sigma_p, sigma_q, a1, a0, *_units(p, a1, a0), rho)
    name = f"tgv_dual<{order}, {_dual_type(p)}, {width}>"
    _launch("tgv.cu", name, shape, floats, (), shape, scalars, duals=(p, q), width=width)


def tgv_step(  # type: ignore[no-untyped-def]
    u, w, u_bar, w_bar, p, q, g, tau_u, tau_w, sigma_p, sigma_q, a1, a0, rho, halo=None, exempt=None
):  # fmt: skip
    """`tgv_primal`, then `tgv_dual`; a `recon.kernels.halo.Halo` is unpacked before and packed after.

    The dual step is that of ``u_bar - exempt``, where `exempt` (z, x, y) is given; `g` then holds this.
    """
    if halo is not None:
        unpack(p, q, halo)
    tgv_primal(u, w, u_bar, w_bar, p, q, g, tau_u, tau_w, a1, a0, rho)
    if exempt is not None:
        np.subtract(u_bar, exempt, out=g)
    tgv_dual(p, q, u_bar if exempt is None else g, w_bar, sigma_p, sigma_q, a1, a0, rho)
    if halo is not None:
        pack(p, q, halo)


def poisson_dual(y, projection, counts, offset, scale, sigma, rho):  # type: ignore[no-untyped-def]
    """y <- y + rho (y' - y), y' = prox of sigma D* at y + sigma s A u_bar for D = Poisson.

    Arrays (tilt, u, y), `scale` is s. With v = y + sigma (s A u_bar + b):
    y' = (1 + v - sqrt((1 - v)^2 + 4 sigma counts)) / 2, computed as 1 - y' so that nothing cancels and y' <= 1. Pixels
    with scale 0 carry no data: y' = 0.
    """
    _launch("data.cu", "poisson_dual", y.shape, (y, projection, counts, offset, scale), (), y.shape, (sigma, rho))


def least_squares_dual(y, projection, counts, offset, scale, weight, sigma, rho):  # type: ignore[no-untyped-def]
    """The same for D = weight/2 |s A u + b - counts|^2: y' = (y + sigma r) / (1 + sigma / weight)."""
    floats = (y, projection, counts, offset, scale, weight)
    _launch("data.cu", "least_squares_dual", y.shape, floats, (), y.shape, (sigma, rho))


def ramp_filter(stack, kept, scale, room, factors, rest, less):  # type: ignore[no-untyped-def]
    """``stack -= rest smooth(scale stack - less kept) / scale``, 0 where the scale is 0.

    Arrays (tilt, u, y), `room` is overwritten; `factors` (2, u) are gain and pass, see `recon.kernels.cpu_ramp`.
    """
    tilts, _, ny = stack.shape
    floats = (stack, kept, scale, room, factors)
    _launch("ramp.cu", "ramp_filter", (1, tilts, ny), floats, (), stack.shape, (rest, less))


def ramp_dual(y, kept, ahead, stack, scale, factors, rest, sigma, rho):  # type: ignore[no-untyped-def]
    """``move = scale stack - kept + (y - ahead) / sigma``; ``kept += rho move``,
    ``y += rho (ahead - y + rest sigma smooth(move))``.

    Arrays (tilt, u, y), `ahead` is overwritten; `factors` (2, u) are gain and pass. All are 0 where the scale is.
    """
    tilts, _, ny = y.shape
    floats = (y, kept, ahead, stack, scale, factors)
    _launch("ramp.cu", "ramp_dual", (1, tilts, ny), floats, (), y.shape, (rest, sigma, rho))


def tgv_divergence(q, a0, out, largest):  # type: ignore[no-untyped-def]
    """out = E* P_a0(q) where w exists, 0 where it does not; ``largest[z]`` = max |out| of a plane.

    `q` may be int16.
    """
    largest.fill(0)
    name, unit = f"tgv_divergence<{_dual_type(q)}>", _units(q, a0, a0)[0]
    _launch("certificate.cu", name, q.shape[1:], (q, out), (largest,), q.shape[1:], (unit, a0), duals=(q,))


def gradient_adjoint(p, factor, out):  # type: ignore[no-untyped-def]
    """out += factor grad* p; p, maybe int16, vanishes where the gradient does not exist."""
    name = f"gradient_adjoint<{_dual_type(p)}>"
    _launch("certificate.cu", name, out.shape, (p, out), (), out.shape, (factor,), duals=(p,))


def tgv_value(u, w, values, within=None):  # type: ignore[no-untyped-def]
    """``values[z] = (sum |grad u - w|, sum |E w|)`` of each plane, over the slices ``within``, by default all."""
    values.fill(0)
    order = 2 if w.shape[0] else 1
    sizes = (*u.shape, *(within or (0, u.shape[2])))
    _launch("certificate.cu", f"tgv_value<{order}>", u.shape, (u, w), (values,), sizes)


def excess_sums(g, sensitivity, u, theta, price, least, above, most, sums):  # type: ignore[no-untyped-def]
    """``sums[z] = (sum h max(d - price a, 0), sum h a where d > price a, max d / a)`` of a plane, ``d = -theta g``.

    h is ``min(above + u, most)``. `sensitivity` is a; where it is at most `least`, a is 0 and takes no part in the
    maximum.
    """
    sums.fill(0)
    doubles = map(np.float64, (theta, price, least, above, most))
    _launch("certificate.cu", "excess_sums", g.shape, (g, sensitivity, u), (sums,), g.shape, doubles)


def coupled_dual(dual, ahead, radius, nuclear, rho):  # type: ignore[no-untyped-def]
    """dual <- dual + rho (P(ahead) - dual), P the projection onto the ball of the dual norm in each voxel.

    Arrays ``(channel, component, z, x, y)``. The ball is that of the Frobenius norm, or with `nuclear` that of the
    largest singular value.
    """
    channels, components, *shape = dual.shape
    sizes = (components, *shape, int(nuclear))
    _launch("coupled.cu", f"coupled_dual<{channels}>", shape, (dual, ahead), (), sizes, (radius, rho))


def coupled_norms(v, nuclear, sums):  # type: ignore[no-untyped-def]
    """``sums[z] = (sum of the norms, largest dual norm)`` of a plane, in float64; arrays as in `coupled_dual`."""
    sums.fill(0)
    channels, components, *shape = v.shape
    _launch("coupled.cu", f"coupled_norms<{channels}>", shape, (v,), (sums,), (components, *shape, int(nuclear)))
