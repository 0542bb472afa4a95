#pragma once
#include "short.cuh"
#include "index.cuh"
// Differences: the boundary rule, as in cpu_difference.py.
//
// The gradient takes forward differences; at the last index of an axis there is none, and neither w's component
// along that axis nor p's exists there (both stay 0). The symmetrised gradient takes backward differences of the
// components that exist. Hence TGV is zero exactly on affine functions.
//
// Pointers point to the voxel itself. Component k of a field lies k n elements further on; components are
// (z, x, y) and (zz, xx, yy, zx, zy, xy), the off-diagonal ones times sqrt(2). Adjoints take shorts, too.

namespace difference {

constexpr float root_half = 0.70710678f;

struct Axis {  // one axis of the volume, seen from a voxel
    Index stride;
    bool first, last;

    __device__ Axis(int i, int n, Index stride) : stride(stride), first(i == 0), last(i == n - 1) {}
};

struct Voxel {
    Axis z, x, y;
    Index n;  // voxels in the volume

    __device__ Voxel(const Element& e, int nz, int nx, int ny)
        : z(e.plane, nz, Index(nx) * ny), x(e.row, nx, ny), y(e.y, ny, 1), n(Index(nz) * nx * ny) {}
};

struct Factors {  // of the tensors at a voxel and at the next one along each axis
    float here = 1, z = 1, x = 1, y = 1;
};

__device__ inline float forward(const float* a, const Axis& k) { return k.last ? 0.0f : a[k.stride] - a[0]; }

__device__ inline float backward(const float* a, const Axis& k) { return k.first ? 0.0f : a[0] - a[-k.stride]; }

// Of a vector's component along its own axis, which does not exist at the last index.
__device__ inline float backward_own(const float* a, const Axis& k) { return k.last ? 0.0f : backward(a, k); }

// a vanishes where the forward difference does.
template <class T>
__device__ inline float forward_adjoint(const T* a, const Axis& k) {
    return (k.first ? 0.0f : load(a[-k.stride])) - load(a[0]);
}

// Adjoint of both backward differences: a vanishes at the last index of its own axis.
template <class T>
__device__ inline float backward_adjoint(const T* a, const Axis& k, float here, float next) {
    return (k.first ? 0.0f : here * load(a[0])) - (k.last ? 0.0f : next * load(a[k.stride]));
}

__device__ inline void gradient(const float* u, const Voxel& v, float (&out)[3]) {
    out[0] = forward(u, v.z);
    out[1] = forward(u, v.x);
    out[2] = forward(u, v.y);
}

template <class T>
__device__ inline float gradient_adjoint(const T* p, const Voxel& v) {
    return forward_adjoint(p, v.z) + forward_adjoint(p + v.n, v.x) + forward_adjoint(p + 2 * v.n, v.y);
}

__device__ inline void symmetrised_gradient(const float* w, const Voxel& v, float (&out)[6]) {
    const float *z = w, *x = z + v.n, *y = x + v.n;
    out[0] = backward_own(z, v.z);
    out[1] = backward_own(x, v.x);
    out[2] = backward_own(y, v.y);
    out[3] = root_half * (backward(x, v.z) + backward(z, v.x));
    out[4] = root_half * (backward(y, v.z) + backward(z, v.y));
    out[5] = root_half * (backward(y, v.x) + backward(x, v.y));
}

// The adjoint where w exists, 0 where it does not.
template <class T>
__device__ inline void symmetrised_gradient_adjoint(const T* q, const Voxel& v, const Factors& f, float (&out)[3]) {
    const T *zz = q, *xx = zz + v.n, *yy = xx + v.n, *zx = yy + v.n, *zy = zx + v.n, *xy = zy + v.n;
    auto along_z = [&](const T* a) { return backward_adjoint(a, v.z, f.here, f.z); };
    auto along_x = [&](const T* a) { return backward_adjoint(a, v.x, f.here, f.x); };
    auto along_y = [&](const T* a) { return backward_adjoint(a, v.y, f.here, f.y); };
    out[0] = v.z.last ? 0.0f : along_z(zz) + root_half * (along_x(zx) + along_y(zy));
    out[1] = v.x.last ? 0.0f : along_x(xx) + root_half * (along_z(zx) + along_y(xy));
    out[2] = v.y.last ? 0.0f : along_y(yy) + root_half * (along_z(zy) + along_x(xy));
}

}  // namespace difference
