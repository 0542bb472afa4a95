// What the primal-dual gap needs of TGV, one thread per voxel.
#include "difference.cuh"
#include "reduce.cuh"

using Lane = Lanes<1>;

template <int count>
__device__ inline float norm(const Lane (&a)[count]) {
    float square = 0;
    for (int k = 0; k < count; ++k) square += a[k].at[0] * a[k].at[0];
    return sqrtf(square);
}

// min(1, radius / |q|) of the tensor at q, in units of `unit`, whose components lie n apart; times `unit`
template <class Dual>
__device__ inline Lane clip_factor(const Dual* q, Index n, float unit, float radius) {
    float square = 0;
    for (int k = 0; k < 6; ++k) square += load(q[k * n]) * load(q[k * n]);
    return Lane::all(unit * radius / fmaxf(radius, unit * sqrtf(square)));
}

// out = E* P_a0(q) where w exists, 0 where it does not; largest[z] = max |out| of a plane, zero before.
template <class Dual>
__global__ void tgv_divergence(const Dual* q, float* out, double* largest, int nz, int nx, int ny, float unit, float a0) {
    const Group<1> here(nz, nx, ny);
    float length = 0;
    if (here.inside) {
        const difference::Voxels<1> v(here, nz, nx, ny);
        const Index i = here.at;
        auto clip = [&](const Dual* at) { return clip_factor(at, v.n, unit, a0); };
        auto next = [&](bool last, Index stride) { return last ? Lane::all(0) : clip(q + i + stride); };
        const difference::Factors<1> f{clip(q + i), next(v.z.last, v.z.stride), next(v.x.last, v.x.stride),
                                       next(v.y.last, 1)};
        Lane divergence[3];
        difference::symmetrised_gradient_adjoint(q + i, v, f, divergence);
        for (int k = 0; k < 3; ++k) out[k * v.n + i] = divergence[k].at[0];
        length = norm(divergence);
    }
    raise_to_block_maximum(length, largest + here.plane);
}

// out += factor grad* p
template <class Dual>
__global__ void gradient_adjoint(const Dual* p, float* out, int nz, int nx, int ny, float factor) {
    const Group<1> here(nz, nx, ny);
    if (!here.inside) return;
    const difference::Voxels<1> v(here, nz, nx, ny);
    out[here.at] += factor * difference::gradient_adjoint(p + here.at, v).at[0];
}

// values[z] = (sum |grad u - w|, sum |E w|) of a plane, over begin <= y < end, zero before; order 1 is TV: there is no w.
template <int order>
__global__ void tgv_value(const float* u, const float* w, double* values, int nz, int nx, int ny, int begin,
                          int end) {
    const Group<1> here(nz, nx, ny);
    float first = 0, second = 0;
    if (here.inside && here.y >= begin && here.y < end) {
        const difference::Voxels<1> v(here, nz, nx, ny);
        Lane a[3], b[6];
        difference::gradient(u + here.at, v, a);
        if constexpr (order == 2) {
            for (int k = 0; k < 3; ++k) a[k].at[0] -= w[k * v.n + here.at];
            difference::symmetrised_gradient(w + here.at, v, b);
            second = norm(b);
        }
        first = norm(a);
    }
    add_block_sum(first, values + 2 * here.plane);
    if constexpr (order == 2) add_block_sum(second, values + 2 * here.plane + 1);
}

// sums[z] = (sum h max(d - price a, 0), sum h a where d > price a, max d / a) of a plane, zero before; d = -theta g and
// h = min(above + u, most). Where the sensitivity a is at most `least`, it is 0 and takes no part in the maximum.
__global__ void excess_sums(const float* g, const float* sensitivity, const float* u, double* sums, int nz, int nx,
                            int ny, double theta, double price, double least, double above, double most) {
    const Element here(nz, nx, ny);
    double excess = 0, total = 0, highest = 0;
    if (here.inside) {
        const double d = -theta * double(g[here.at]), s = sensitivity[here.at], a = s > least ? s : 0;
        const double over = d - price * a;
        if (over > 0) {
            const double highest_u = fmin(above + double(u[here.at]), most);
            excess = highest_u * over;
            total = highest_u * a;
        }
        highest = a > 0 ? fmax(d / a, 0.0) : 0;
    }
    add_block_sum(excess, sums + 3 * here.plane);
    add_block_sum(total, sums + 3 * here.plane + 1);
    raise_to_block_maximum(highest, sums + 3 * here.plane + 2);
}
