// The primal-dual steps of order 0 (no regulariser), 1 (TV) and 2 (TGV), one thread per voxel. `moved` has a
// line of `columns` per plane, whose first two have been zeroed.
#include "difference.cuh"
#include "reduce.cuh"
#include "step.cuh"

// u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.
template <int order, bool anchored>
__global__ void tgv_primal(float* u, float* w, float* u_bar, float* w_bar, const float* p, const float* q,
                           const float* g, const float* u0, const float* w0, double* moved, int nz, int nx, int ny, int columns,
                           float tau_u, float tau_w, float keep, float move, float anchor) {
    const Element here(nz, nx, ny);
    const Relax r{keep, move, anchor};
    float moved_u = 0, moved_w = 0;
    if (here.inside) {
        const difference::Voxel v(here, nz, nx, ny);
        const Index i = here.at;
        float step = g[i];
        if constexpr (order >= 1) step += difference::gradient_adjoint(p + i, v);
        u_bar[i] = 2 * fmaxf(0.0f, u[i] - tau_u * step) - u[i];
        moved_u = relax<anchored>(u[i], u_bar[i], u0 + i, r);

        if constexpr (order == 2) {
            float divergence[3];
            difference::symmetrised_gradient_adjoint(q + i, v, difference::Factors{}, divergence);
            for (int k = 0; k < 3; ++k) {
                const Index j = k * v.n + i;
                w_bar[j] = w[j] - 2 * tau_w * (divergence[k] - p[j]);
                moved_w += relax<anchored>(w[j], w_bar[j], w0 + j, r);
            }
        }
    }
    add_block_sum(moved_u, moved + columns * blockIdx.z);
    if constexpr (order == 2) add_block_sum(moved_w, moved + columns * blockIdx.z + 1);
}

// a' = P_radius(a + sigma grad) for the vector a of one voxel, whose components lie n apart, reflected and relaxed.
// Returns sum (abar - a)^2.
template <bool anchored, int count>
__device__ inline float ascend(float* a, const float* a0, const float (&grad)[count], float sigma, float radius,
                               Index n, const Relax& r) {
    float square = 0, moved = 0;
    for (int k = 0; k < count; ++k) {
        const float ahead = a[k * n] + sigma * grad[k];
        square += ahead * ahead;
    }
    const float shrink = radius / fmaxf(radius, sqrtf(square));
    for (int k = 0; k < count; ++k) {
        const float bar = 2 * shrink * (a[k * n] + sigma * grad[k]) - a[k * n];
        moved += relax<anchored>(a[k * n], bar, a0 + k * n, r);
    }
    return moved;
}

// p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), reflected and relaxed.
template <int order, bool anchored>
__global__ void tgv_dual(float* p, float* q, const float* u_bar, const float* w_bar, const float* p0, const float* q0,
                         double* moved, int nz, int nx, int ny, int columns, float sigma_p, float sigma_q, float a1,
                         float a0, float keep, float move, float anchor) {
    static_assert(order >= 1, "without a regulariser there is no dual step");
    const Element here(nz, nx, ny);
    const Relax r{keep, move, anchor};
    float moved_p = 0, moved_q = 0;
    if (here.inside) {
        const difference::Voxel v(here, nz, nx, ny);
        const Index i = here.at;
        float first[3];
        difference::gradient(u_bar + i, v, first);
        if constexpr (order == 2)
            for (int k = 0; k < 3; ++k) first[k] -= w_bar[k * v.n + i];
        moved_p = ascend<anchored>(p + i, p0 + i, first, sigma_p, a1, v.n, r);
        if constexpr (order == 2) {
            float second[6];
            difference::symmetrised_gradient(w_bar + i, v, second);
            moved_q = ascend<anchored>(q + i, q0 + i, second, sigma_q, a0, v.n, r);
        }
    }
    add_block_sum(moved_p, moved + columns * blockIdx.z);
    if constexpr (order == 2) add_block_sum(moved_q, moved + columns * blockIdx.z + 1);
}
