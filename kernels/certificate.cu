// What the primal-dual gap needs of TGV, one thread per voxel.
#include "difference.cuh"
#include "reduce.cuh"

template <int count>
__device__ inline float norm(const float (&a)[count]) {
    float square = 0;
    for (int k = 0; k < count; ++k) square += a[k] * a[k];
    return sqrtf(square);
}

// min(1, radius / |q|) of the tensor at q, in units of `unit`, whose components lie n apart; times `unit`
template <class Dual>
__device__ inline float clip_factor(const Dual* q, Index n, float unit, float radius) {
    float square = 0;
    for (int k = 0; k < 6; ++k) square += load(q[k * n]) * load(q[k * n]);
    return unit * radius / fmaxf(radius, unit * sqrtf(square));
}

// out = E* P_a0(q) where w exists, 0 where it does not; largest[z] = max |out| of a plane, zero before.
template <class Dual>
__global__ void tgv_divergence(const Dual* q, float* out, double* largest, int nz, int nx, int ny, float unit, float a0) {
    const Element here(nz, nx, ny);
    float length = 0;
    if (here.inside) {
        const difference::Voxel v(here, nz, nx, ny);
        const Index i = here.at;
        auto clip = [&](const Dual* at) { return clip_factor(at, v.n, unit, a0); };
        auto next = [&](const difference::Axis& k) { return k.last ? 0.0f : clip(q + i + k.stride); };
        const difference::Factors f{clip(q + i), next(v.z), next(v.x), next(v.y)};
        float divergence[3];
        difference::symmetrised_gradient_adjoint(q + i, v, f, divergence);
        for (int k = 0; k < 3; ++k) out[k * v.n + i] = divergence[k];
        length = norm(divergence);
    }
    raise_to_block_maximum(length, largest + here.plane);
}

// out += factor grad* p
template <class Dual>
__global__ void gradient_adjoint(const Dual* p, float* out, int nz, int nx, int ny, float factor) {
    const Element here(nz, nx, ny);
    if (!here.inside) return;
    const difference::Voxel v(here, nz, nx, ny);
    out[here.at] += factor * difference::gradient_adjoint(p + here.at, v);
}

// values[z] = (sum |grad u - w|, sum |E w|) of a plane, zero before; order 1 is TV: there is no w.
template <int order>
__global__ void tgv_value(const float* u, const float* w, double* values, int nz, int nx, int ny) {
    const Element here(nz, nx, ny);
    float first = 0, second = 0;
    if (here.inside) {
        const difference::Voxel v(here, nz, nx, ny);
        float a[3], b[6];
        difference::gradient(u + here.at, v, a);
        if constexpr (order == 2) {
            for (int k = 0; k < 3; ++k) a[k] -= w[k * v.n + here.at];
            difference::symmetrised_gradient(w + here.at, v, b);
            second = norm(b);
        }
        first = norm(a);
    }
    add_block_sum(first, values + 2 * here.plane);
    if constexpr (order == 2) add_block_sum(second, values + 2 * here.plane + 1);
}
