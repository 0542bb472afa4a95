"""What the kernels compute, in plain float64 NumPy: slow, short, written from the formulas alone.

Layouts are those of `recon.kernels`: volumes (z, x, y), stacks (tilt, u, y), vector fields (3, z, x, y),
symmetric tensors (6, z, x, y) with components (zz, xx, yy, zx, zy, xy), off-diagonal ones times sqrt(2).
"""

from __future__ import annotations

import numpy as np

Z, X, Y = 0, 1, 2  # axes of a volume


def matrix(f, shape):
    """The dense matrix of the linear map `f` on arrays of `shape`."""
    units = np.eye(int(np.prod(shape)))
    return np.stack([f(unit.reshape(shape)).ravel() for unit in units], axis=1)


def adjoint(f, shape, y):
    """The adjoint of the linear map `f` on arrays of `shape`, applied to `y`."""
    return (matrix(f, shape).T @ y.ravel()).reshape(shape)


# ---------------------------------------------------------------- differences


def forward(a, axis):
    """a[i + 1] - a[i], and 0 at the last index."""
    a = np.moveaxis(a, axis, 0)
    return np.moveaxis(np.concatenate([np.diff(a, axis=0), np.zeros_like(a[:1])]), 0, axis)


def backward(a, axis):
    """a[i] - a[i - 1], and 0 at the first index."""
    a = np.moveaxis(a, axis, 0)
    return np.moveaxis(np.concatenate([np.zeros_like(a[:1]), np.diff(a, axis=0)]), 0, axis)


def existing(field):
    """A vector field or a tensor without what does not exist: its z, x, y (zz, xx, yy) component at the
    last index along z, x, y."""
    out = np.array(field)
    if len(out):
        out[0, -1, :, :] = out[1, :, -1, :] = out[2, :, :, -1] = 0
    return out


def gradient(u):
    return np.stack([forward(u, axis) for axis in (Z, X, Y)])


def symmetrised(w):
    """E w, the symmetrised gradient of the components that exist."""
    w = existing(w)

    def mixed(a, b):
        return (backward(w[a], b) + backward(w[b], a)) / np.sqrt(2)

    diagonal = [backward(w[axis], axis) for axis in (Z, X, Y)]
    return existing(np.stack([*diagonal, mixed(Z, X), mixed(Z, Y), mixed(X, Y)]))


# ---------------------------------------------------------------- primal-dual steps


def relaxed(x, new, rho):
    """(relaxed x, reflected point)."""
    return x + float(rho) * (new - x), 2 * new - x


def primal(u, w, p, q, g, tau_u, tau_w):
    """u' and w'; `w` (and `q`) or `p` may have no components."""
    step = g + (adjoint(gradient, u.shape, p) if len(p) else 0)
    new_w = w - tau_w * (adjoint(symmetrised, w.shape, q) - existing(p)) if len(w) else w
    return np.maximum(0, u - tau_u * step), new_w


def onto_ball(v, radius):
    """Each voxel's vector v[:, z, x, y], projected onto the ball of `radius`."""
    return v / np.maximum(1, np.linalg.norm(v, axis=0) / radius)


def dual(p, q, u_bar, w_bar, sigma_p, sigma_q, a1, a0):
    """p' and q'."""
    residual = gradient(u_bar) - (existing(w_bar) if len(w_bar) else 0)
    new_q = onto_ball(q + sigma_q * symmetrised(w_bar), a0) if len(w_bar) else q
    return onto_ball(p + sigma_p * residual, a1), new_q


# ---------------------------------------------------------------- projection and warp


def tent(x):
    return np.maximum(0, 1 - np.abs(x))


def rays(tilts, nu, offsets=0.0, fineness=1):
    """Cosine, sine and u of pixel 0 (tilt, 3), for tilts in radians and a detector centred at `offsets`."""
    first = np.broadcast_to(offsets, tilts.shape) - (nu - 1) / 2 / fineness
    return np.stack([np.cos(tilts), np.sin(tilts), first], axis=1)


def joseph(volume_shape, nu, rays, fineness=1):
    """Weights (tilt, u, z, x) of Joseph's model."""
    nz, nx = volume_shape
    z = (np.arange(nz) - (nz - 1) / 2)[:, None]
    x = np.arange(nx) - (nx - 1) / 2
    weights = []
    for c, s, first in rays:
        u = (first + np.arange(nu) / fineness)[:, None, None]
        m = max(abs(c), abs(s))
        weights.append(tent((x * c + z * s - u) / m) / m)
    return np.stack(weights)


def bilinear(recorded, ideal, affine):
    """Weights (tilt, i, j, k, l): ideal pixel (k, l) in recorded pixel (i, j); shapes are (u, y)."""
    i, j, k, m = np.ogrid[tuple(slice(n) for n in (*recorded, *ideal))]
    return np.stack([tent(a[0] * i + a[1] * j + a[2] - k) * tent(a[3] * i + a[4] * j + a[5] - m) for a in affine])


# ---------------------------------------------------------------- random problems to compare on


class State:
    """Random float32 variables of the primal-dual steps on one volume; order 0 has no p, order 2 has w and q."""

    def __init__(self, shape, order, seed=0):
        random = np.random.default_rng(seed)

        def field(components=None):
            return random.normal(size=shape if components is None else (components, *shape)).astype(np.float32)

        vectors, tensors = 3 if order >= 1 else 0, 6 if order == 2 else 0
        gradients = 3 if order == 2 else 0
        self.u, self.u_bar = abs(field()), field()
        self.g = field()
        self.w, self.w_bar = (existing(field(gradients)) for _ in range(2))
        self.p, self.q = existing(field(vectors)), existing(field(tensors))


def in_16_bits(s, a1, a0):
    """The duals of a `State` in 16 bits; returns what 1 stands for in them, by name."""
    units = {name: np.float32(a / 8192) for name, a in {"p": a1, "q": a0}.items()}
    for name, unit in units.items():
        setattr(s, name, np.rint(getattr(s, name) / unit).clip(-32768, 32767).astype(np.int16))
    return units


def data_problem(shape, seed=0):
    """Random float32 stacks of the data term's dual steps; a tenth of the pixels has scale and weight 0."""
    random = np.random.default_rng(seed)
    used = random.uniform(size=shape) > 0.1
    stacks = {
        "y": random.normal(size=shape),
        "projection": random.uniform(0, 9, size=shape),
        "counts": random.poisson(3, size=shape),
        "offset": random.uniform(0, 0.5, size=shape),
        "scale": random.uniform(0.5, 2, size=shape) * used,
        "weight": random.uniform(0.2, 3, size=shape) * used,
    }
    return {name: a.astype(np.float32) for name, a in stacks.items()}


def smooth(width, length):
    """``(1 + length^2 D* D)^-1`` with D the differences of neighbours among so many pixels, in float64."""
    differences = np.diff(np.eye(width), axis=0)
    return np.linalg.inv(np.eye(width) + length**2 * differences.T @ differences)


def ramp(tilts, width, rows):
    """The metric of `recon.solvers.ramp` on stacks (tilt, u, y), without scale."""
    of_line = np.eye(width) - (1 - max(np.pi / tilts, 0.2)) * smooth(width, width / tilts)
    return np.kron(np.kron(np.eye(tilts), of_line), np.eye(rows))


def affine_maps(n_tilts, seed=0, shift=2.0):
    """Random detector warps (tilt, 6): small rotations, scalings and shifts."""
    random = np.random.default_rng(seed)
    maps = np.tile([1.0, 0, 0, 0, 1, 0], (n_tilts, 1)) + random.uniform(-0.15, 0.15, size=(n_tilts, 6))
    maps[:, [2, 5]] += random.uniform(-shift, shift, size=(n_tilts, 2))
    return maps
