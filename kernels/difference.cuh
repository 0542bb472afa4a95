#pragma once
#include "lanes.cuh"
// Differences: the boundary rule, as in cpu_difference.py.
//
// The gradient takes forward differences; at the last index of an axis there is none, and neither w's component
// along that axis nor p's exists there (both stay 0). The symmetrised gradient takes backward differences of the
// components that exist. Hence TGV is zero exactly on affine functions.
//
// Pointers point to the first voxel of a thread. Component k of a field lies k n elements further on; components are
// (z, x, y) and (zz, xx, yy, zx, zy, xy), the off-diagonal ones times sqrt(2). Adjoints take shorts, too.

namespace difference {

constexpr float root_half = 0.70710678f;

template <int width>
struct Across {  // an axis on which all lanes have the same index: z or x
    Index stride;
    bool first, last;

    __device__ Across(int i, int n, Index stride) : stride(stride), first(i == 0), last(i == n - 1) {}

    // The neighbours on either side of a, `outside` where there are none.
    template <class T>
    __device__ Lanes<width> after(const T* a, const Lanes<width>& outside) const {
        return last ? outside : load_lanes<width>(a + stride);
    }
    template <class T>
    __device__ Lanes<width> before(const T* a, const Lanes<width>& outside) const {
        return first ? outside : load_lanes<width>(a - stride);
    }
    // Zero at the first or last index.
    __device__ Lanes<width> unless_first(const Lanes<width>& a) const { return first ? Lanes<width>::all(0) : a; }
    __device__ Lanes<width> unless_last(const Lanes<width>& a) const { return last ? Lanes<width>::all(0) : a; }
};

template <int width>
struct Along {  // the axis of the lanes, y; the same functions
    bool first, last;  // of the first lane, of the last lane

    __device__ Along(int i, int n) : first(i == 0), last(i + width == n) {}

    template <class T>
    __device__ Lanes<width> after(const T* a, const Lanes<width>& outside) const {
        const Lanes<width> here = load_lanes<width>(a);
        Lanes<width> out;
        for (int i = 0; i + 1 < width; ++i) out.at[i] = here.at[i + 1];
        out.at[width - 1] = last ? outside.at[width - 1] : load(a[width]);
        return out;
    }
    template <class T>
    __device__ Lanes<width> before(const T* a, const Lanes<width>& outside) const {
        const Lanes<width> here = load_lanes<width>(a);
        Lanes<width> out;
        out.at[0] = first ? outside.at[0] : load(a[-1]);
        for (int i = 1; i < width; ++i) out.at[i] = here.at[i - 1];
        return out;
    }
    __device__ Lanes<width> unless_first(Lanes<width> a) const {
        if (first) a.at[0] = 0;
        return a;
    }
    __device__ Lanes<width> unless_last(Lanes<width> a) const {
        if (last) a.at[width - 1] = 0;
        return a;
    }
};

template <int width>
struct Voxels {
    Across<width> z, x;
    Along<width> y;
    Index n;  // voxels in the volume

    __device__ Voxels(const Group<width>& e, int nz, int nx, int ny)
        : z(e.plane, nz, Index(nx) * ny), x(e.row, nx, ny), y(e.y, ny), n(Index(nz) * nx * ny) {}
};

template <int width>
struct Factors {  // of the tensors at voxels and at the next ones along each axis
    Lanes<width> here = Lanes<width>::all(1), z = here, x = here, y = here;
};

template <int width, template <int> class Axis>
__device__ inline Lanes<width> forward(const float* a, const Axis<width>& k) {
    const Lanes<width> here = load_lanes<width>(a);
    return k.after(a, here) - here;
}

template <int width, template <int> class Axis>
__device__ inline Lanes<width> backward(const float* a, const Axis<width>& k) {
    const Lanes<width> here = load_lanes<width>(a);
    return here - k.before(a, here);
}

// Of a vector's component along its own axis, which does not exist at the last index.
template <int width, template <int> class Axis>
__device__ inline Lanes<width> backward_own(const float* a, const Axis<width>& k) {
    return k.unless_last(backward(a, k));
}

// a vanishes where the forward difference does.
template <class T, int width, template <int> class Axis>
__device__ inline Lanes<width> forward_adjoint(const T* a, const Axis<width>& k) {
    return k.before(a, Lanes<width>::all(0)) - load_lanes<width>(a);
}

// Adjoint of both backward differences: a vanishes at the last index of its own axis.
template <class T, int width, template <int> class Axis>
__device__ inline Lanes<width> backward_adjoint(const T* a, const Axis<width>& k, const Lanes<width>& here,
                                                const Lanes<width>& next) {
    return k.unless_first(here * load_lanes<width>(a)) - next * k.after(a, Lanes<width>::all(0));
}

template <int width>
__device__ inline void gradient(const float* u, const Voxels<width>& v, Lanes<width> (&out)[3]) {
    out[0] = forward(u, v.z);
    out[1] = forward(u, v.x);
    out[2] = forward(u, v.y);
}

template <class T, int width>
__device__ inline Lanes<width> gradient_adjoint(const T* p, const Voxels<width>& v) {
    return forward_adjoint(p, v.z) + forward_adjoint(p + v.n, v.x) + forward_adjoint(p + 2 * v.n, v.y);
}

template <int width>
__device__ inline void symmetrised_gradient(const float* w, const Voxels<width>& v, Lanes<width> (&out)[6]) {
    const float *z = w, *x = z + v.n, *y = x + v.n;
    out[0] = backward_own(z, v.z);
    out[1] = backward_own(x, v.x);
    out[2] = backward_own(y, v.y);
    out[3] = root_half * (backward(x, v.z) + backward(z, v.x));
    out[4] = root_half * (backward(y, v.z) + backward(z, v.y));
    out[5] = root_half * (backward(y, v.x) + backward(x, v.y));
}

// The adjoint where w exists, 0 where it does not.
template <class T, int width>
__device__ inline void symmetrised_gradient_adjoint(const T* q, const Voxels<width>& v, const Factors<width>& f,
                                                    Lanes<width> (&out)[3]) {
    const T *zz = q, *xx = zz + v.n, *yy = xx + v.n, *zx = yy + v.n, *zy = zx + v.n, *xy = zy + v.n;
    auto along_z = [&](const T* a) { return backward_adjoint(a, v.z, f.here, f.z); };
    auto along_x = [&](const T* a) { return backward_adjoint(a, v.x, f.here, f.x); };
    auto along_y = [&](const T* a) { return backward_adjoint(a, v.y, f.here, f.y); };
    out[0] = v.z.unless_last(along_z(zz) + root_half * (along_x(zx) + along_y(zy)));
    out[1] = v.x.unless_last(along_x(xx) + root_half * (along_z(zx) + along_y(xy)));
    out[2] = v.y.unless_last(along_y(yy) + root_half * (along_z(zy) + along_x(xy)));
}

}  // namespace difference
