"""The primal and dual steps of TGV and TV, one after the other and in one sweep; rows are in `cpu_tgv_rows`."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads

from recon.kernels.compiling import jit, leaf
from recon.kernels.cpu_difference import PAD, _edge_backward, _edge_forward
from recon.kernels.cpu_fetch import fetch
from recon.kernels.cpu_halo import _pack_p, _pack_q, _unpack_p, _unpack_q_along_x, _unpack_q_along_z
from recon.kernels.cpu_parallel import all_of, in_parallel
from recon.kernels.cpu_short import unit_of
from recon.kernels.cpu_tgv_rows import _copy, _fill_work, _p_row, _q_row, _take_off, _u_row, _w_row

# ---------------------------------------------------------------- one step, then the other


@leaf
def _read_bars(u_bar, w_bar, z, x, bars):  # type: ignore[no-untyped-def]
    _copy(u_bar[z, x], bars[0, PAD : PAD + u_bar.shape[2]])
    _edge_forward(bars[0])
    for k in range(w_bar.shape[0]):
        _copy(w_bar[k, z, x], bars[k + 1, PAD : PAD + u_bar.shape[2]])
        _edge_backward(bars[k + 1])


@leaf
def _primal_plane(z, primal, w_bar, dual, steps, rho, unit, bars, work):  # type: ignore[no-untyped-def]
    (u, w, u_bar, g), (p, q) = primal, dual
    _fill_work(work)
    for x in range(u.shape[1]):
        _u_row(z, x, u, u_bar, 0, bars[0], p, g, steps[0], rho, unit, work)
        if w.shape[0] > 0:
            _w_row(z, x, w, bars, p, q, steps[1], rho, unit, work)
            for k in range(3):
                _copy(bars[k + 1, PAD : PAD + u.shape[2]], w_bar[k, z, x])


@leaf
def _dual_plane(z, u_bar, w_bar, dual, steps, rho, unit, bars, work):  # type: ignore[no-untyped-def]
    (p, q), (sigma_p, sigma_q, a1, a0) = dual, steps
    nz, nx, _ = u_bar.shape
    _fill_work(work)
    for x in range(nx):
        here, left, right, before, after = bars[0], bars[1], bars[2], bars[3], bars[4]
        _read_bars(u_bar, w_bar, z, x, here)
        _read_bars(u_bar, w_bar, z, max(x - 1, 0), left)
        _read_bars(u_bar, w_bar, z, min(x + 1, nx - 1), right)
        _read_bars(u_bar, w_bar, max(z - 1, 0), x, before)
        _read_bars(u_bar, w_bar, min(z + 1, nz - 1), x, after)
        if p.shape[0] > 0:
            _p_row(z, x, p, here, right, after, sigma_p, a1, rho, unit, work)
        if w_bar.shape[0] > 0:
            _q_row(z, x, q, here, before, left, sigma_q, a0, rho, unit, work)


@jit
def _tgv_primal(z, primal, w_bar, dual, steps, rho, unit):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    ny = primal[0].shape[2]
    work, bars = np.empty((4, ny + 1), np.float32), np.empty((4, ny + 2 * PAD), np.float32)
    _primal_plane(z, primal, w_bar, dual, steps, rho, unit, bars, work)


@jit
def _tgv_dual(z, u_bar, w_bar, dual, steps, rho, unit):  # type: ignore[no-untyped-def]
    if z < 0:
        in_parallel(z)
        return
    ny = u_bar.shape[2]
    work, bars = np.empty((4, ny + 1), np.float32), np.empty((5, 1 + w_bar.shape[0], ny + 2 * PAD), np.float32)
    _dual_plane(z, u_bar, w_bar, dual, steps, rho, unit, bars, work)


def tgv_primal(u, w, u_bar, w_bar, p, q, g, tau_u, tau_w, a1, a0, rho):  # type: ignore[no-untyped-def]
    """u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p); u_bar = 2 u' - u, u <- u + rho (u' - u).

    `w`, `q` have no components for TV, `p` none without a regulariser. `p` and `q` may be int16, see `recon.kernels`.
    """
    _tgv_primal(all_of(len(u)), (u, w, u_bar, g), w_bar, (p, q), (tau_u, tau_w), rho, _units(p, q, a1, a0))


def tgv_dual(p, q, u_bar, w_bar, sigma_p, sigma_q, a1, a0, rho):  # type: ignore[no-untyped-def]
    """p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar); p <- p + rho (p' - p).

    P_a projects each voxel's vector onto the ball of radius a. `p` and `q` as in `tgv_primal`.
    """
    _tgv_dual(all_of(len(u_bar)), u_bar, w_bar, (p, q), (sigma_p, sigma_q, a1, a0), rho, _units(p, q, a1, a0))


# ---------------------------------------------------------------- both steps in one sweep
# After u and w of row (z, x), no primal row that is still to come needs q of (z, x) or p of (z - 1, x), and
# the dual steps of these two need no row beyond (z, x): they are taken at once, while everything is in cache, and
# wbar never goes to memory. Cores share the rows of all planes by x. What the first and last row of a share need of
# its neighbours is there when all cores have finished: these rows follow in `_seam`, from the ubar and wbar kept there.
# Rows are short, and processors do not foresee where the next ones are: they are asked for one step ahead, a few after
# each row; all at once would hold the computation up.

STEP_NEEDS_W_BAR = False  # room for a volume of it
_ROWS = 64  # at most, in a share: two planes' bars and p are to stay in a core's cache


@leaf
def _sweep(  # type: ignore[no-untyped-def]
    share, first, end, primal, dual, halo, steps, rho, unit, ring, kept, work
):  # fmt: skip
    (u, w, u_bar, g, exempt), (p, q) = primal, dual
    tau_u, tau_w, sigma_p, sigma_q, a1, a0 = steps
    nz, nx, _ = u.shape
    _fill_work(work)
    for x in range(first, min(end + 1, nx)):
        _unpack_q_along_z(0, x, q, halo)
    for z in range(nz + 1):
        now, last, after = ring[z % 2], ring[(z + 1) % 2], min(z + 1, nz - 1)
        for x in range(first, end):
            here, before, ahead = now[x - first], last[x - first], min(x + 1, nx - 1)
            if z < nz:
                if x == first:
                    _unpack_p(z, max(x - 1, 0), p, halo)
                    _unpack_q_along_x(z, x, q, halo)
                _unpack_p(z, x, p, halo)
                _u_row(z, x, u, u_bar, halo[6], here[0], p, g, tau_u, rho, unit, work)
                if exempt.shape[0] > 0:
                    _take_off(exempt[z, x], here[0])
                if w.shape[0] > 0:
                    fetch(w[0, z, ahead], w[1, z, ahead], w[2, z, ahead])
                    _unpack_q_along_x(z, ahead, q, halo)
                    _unpack_q_along_z(after, x, q, halo)
                    if x + 1 == end:
                        _unpack_q_along_z(z, ahead, q, halo)
                    _w_row(z, x, w, here, p, q, tau_w, rho, unit, work)
                    fetch(q[1, z, ahead], q[2, z, ahead], q[5, z, ahead])
                    if x > first or x == 0:
                        left = now[max(x - first - 1, 0)]
                        _q_row(z, x, q, here, before, left, sigma_q, a0, rho, unit, work)
                        _pack_q(z, x, q, halo)
                    fetch(q[0, z, ahead], q[3, z, ahead], q[4, z, ahead])
                    fetch(q[0, after, ahead], q[3, after, ahead], q[4, after, ahead])  # for differences along z
                if p.shape[0] > 0:
                    fetch(p[0, z, ahead], p[1, z, ahead], p[2, z, ahead])
                fetch(u[z, ahead], g[z, ahead], u_bar[z, ahead])
                for k in range(here.shape[0]):
                    if x == first:
                        _copy(here[k], kept[share, 0, z, k])
                    if x + 1 == end:
                        _copy(here[k], kept[share, 1, z, k])
            if z > 0 and p.shape[0] > 0 and (x + 1 < end or x + 1 == nx):
                right = last[min(x + 1, end - 1) - first]
                _p_row(z - 1, x, p, before, right, here, sigma_p, a1, rho, unit, work)
                _pack_p(z - 1, x, p, halo)


@leaf
def _seam(share, x, dual, halo, steps, rho, unit, kept, work):  # type: ignore[no-untyped-def]
    """The dual rows on both sides of the border between rows x - 1 and x."""
    p, q = dual
    _, _, sigma_p, sigma_q, a1, a0 = steps
    _fill_work(work)
    nz = kept.shape[2]
    for z in range(nz):
        left, here = kept[share, 1, z], kept[share + 1, 0, z]
        after, before = kept[share, 1, min(z + 1, nz - 1)], kept[share + 1, 0, max(z - 1, 0)]
        if p.shape[0] > 0:
            _p_row(z, x - 1, p, left, here, after, sigma_p, a1, rho, unit, work)
            _pack_p(z, x - 1, p, halo)
        if left.shape[0] > 1:
            _q_row(z, x, q, here, before, left, sigma_q, a0, rho, unit, work)
            _pack_q(z, x, q, halo)


@jit
def _tgv_step(share, shares, seams, primal, dual, halo, steps, rho, unit, rings, kept, works):  # type: ignore[no-untyped-def]
    if share < 0:
        in_parallel(share)
        return
    nx = primal[0].shape[1]
    first, end = share * nx // shares, (share + 1) * nx // shares
    if not seams:
        _sweep(share, first, end, primal, dual, halo, steps, rho, unit, rings[share], kept, works[share])
    elif end < nx:
        _seam(share, end, dual, halo, steps, rho, unit, kept, works[share])


def _shares(nx):  # type: ignore[no-untyped-def]
    """Into how many shares the rows are split: as many for each core."""
    threads = get_num_threads()
    return min(nx, threads * -(-nx // (_ROWS * threads)))


def tgv_step(  # type: ignore[no-untyped-def]
    u, w, u_bar, w_bar, p, q, g, tau_u, tau_w, sigma_p, sigma_q, a1, a0, rho, halo=None, exempt=None
):  # fmt: skip
    """`tgv_primal`, then `tgv_dual`, in one sweep through memory; `w_bar` is neither read nor written.

    The dual step is that of ``u_bar - exempt``, where `exempt` (z, x, y) is given.
    A `recon.kernels.halo.Halo` is unpacked before and packed after the step. With it, `u_bar` may be of its own slices
    only, and the rows of `g` longer than those of `u`.
    """
    nz, nx, ny = u.shape
    if halo is None:
        halo = (*[np.empty((0, 1, 1), p.dtype)] * 4, 0, ny)
    halo = (*halo, 0 if u_bar.shape[2] == ny else halo[4])  # and where u_bar begins
    shares, components = _shares(nx), 1 + w.shape[0]
    line = ny + 2 * PAD
    # scratch of the cores; rings are 0, since what lies before the first plane is read, and multiplied by 0
    rings = np.zeros((shares, 2, -(-nx // shares), components, line), np.float32)
    kept = np.empty((shares, 2, nz, components, line), np.float32)
    works = np.empty((shares, 4, ny + 1), np.float32)
    exempt = np.empty((0, 1, 1), np.float32) if exempt is None else exempt
    state, steps = ((u, w, u_bar, g, exempt), (p, q)), (tau_u, tau_w, sigma_p, sigma_q, a1, a0)
    for seams in (False, True) if shares > 1 else (False,):
        _tgv_step(all_of(shares), shares, seams, *state, halo, steps, rho, _units(p, q, a1, a0), rings, kept, works)


def _units(p, q, a1, a0):  # type: ignore[no-untyped-def]
    """The value of a step of p and of q as they are stored, and the inverses."""
    one, of_p, of_q = np.float32(1), unit_of(p, a1), unit_of(q, a0)
    return of_p, of_q, one / of_p, one / of_q
