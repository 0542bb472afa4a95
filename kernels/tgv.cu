// The primal-dual steps of order 0 (no regulariser), 1 (TV) and 2 (TGV), one thread per voxel. `moved` has a
// line of `columns` per plane, whose first two have been zeroed. Dual is float or short, which holds p and q in
// units of `unit_p` and `unit_q`.
//
// Two kernels, not one sweep as on the CPU. Words of a voxel that pass through memory, with anchors: the primal step
// reads u, w, p, q, g, u0, w0 and writes u, w, u_bar, w_bar (18 + 8), the dual step reads p, q, u_bar, w_bar, p0, q0 and
// writes p, q (22 + 9): 57. One kernel could do with 41, since p, q, u_bar and w_bar would be at hand. But blocks run in
// no order, and none may overwrite what a neighbour still reads: u, w, p and q would be held twice, 13 words on top of 36,
// where the size of the device's memory decides what can be reconstructed at all. And a block would repeat the primal
// step around its tile: with 8 rows of 64 voxels, of which memory gives 8 at a time, (10 * 80) / (8 * 64) = 1.6 times the
// 18 words read, which leaves 52 of 57 where the second-level cache does not help. Numbers in 16 bits save more: 41 words are left.
#include "difference.cuh"
#include "reduce.cuh"
#include "step.cuh"

// u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.
template <int order, bool anchored, class Dual>
__global__ void tgv_primal(float* u, float* w, float* u_bar, float* w_bar, const Dual* p, const Dual* q,
                           const float* g, const float* u0, const float* w0, double* moved, int nz, int nx, int ny,
                           int columns, float tau_u, float tau_w, float unit_p, float unit_q, float keep, float move,
                           float anchor) {
    const Element here(nz, nx, ny);
    const Relax r{keep, move, anchor};
    float moved_u = 0, moved_w = 0;
    if (here.inside) {
        const difference::Voxel v(here, nz, nx, ny);
        const Index i = here.at;
        float step = g[i];
        if constexpr (order >= 1) step += unit_p * difference::gradient_adjoint(p + i, v);
        u_bar[i] = 2 * fmaxf(0.0f, u[i] - tau_u * step) - u[i];
        moved_u = relax<anchored>(u[i], u_bar[i], u0 + i, r);

        if constexpr (order == 2) {
            float divergence[3];
            difference::symmetrised_gradient_adjoint(q + i, v, difference::Factors{}, divergence);
            for (int k = 0; k < 3; ++k) {
                const Index j = k * v.n + i;
                w_bar[j] = w[j] - 2 * tau_w * (unit_q * divergence[k] - unit_p * load(p[j]));
                moved_w += relax<anchored>(w[j], w_bar[j], w0 + j, r);
            }
        }
    }
    add_block_sum(moved_u, moved + columns * here.plane);
    if constexpr (order == 2) add_block_sum(moved_w, moved + columns * here.plane + 1);
}

// a' = P_radius(a + sigma grad) for the vector a of one voxel, whose components lie n apart, reflected and relaxed.
// Returns sum (abar - a)^2.
template <bool anchored, int count, class Dual>
__device__ inline float ascend(Dual* a, const Dual* a0, const float (&grad)[count], float sigma, float radius, Index n,
                               float unit, const Relax& r) {
    float old[count], ahead[count], square = 0, moved = 0;
    for (int k = 0; k < count; ++k) {
        old[k] = unit * load(a[k * n]);
        ahead[k] = old[k] + sigma * grad[k];
        square += ahead[k] * ahead[k];
    }
    const float shrink = radius / fmaxf(radius, sqrtf(square)), inverse = 1 / unit;
    for (int k = 0; k < count; ++k)
        moved += relax<anchored>(a[k * n], 2 * shrink * ahead[k] - old[k], a0 + k * n, r, unit, inverse);
    return moved;
}

// p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), reflected and relaxed.
template <int order, bool anchored, class Dual>
__global__ void tgv_dual(Dual* p, Dual* q, const float* u_bar, const float* w_bar, const Dual* p0, const Dual* q0,
                         double* moved, int nz, int nx, int ny, int columns, float sigma_p, float sigma_q, float a1,
                         float a0, float unit_p, float unit_q, float keep, float move, float anchor) {
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
        moved_p = ascend<anchored>(p + i, p0 + i, first, sigma_p, a1, v.n, unit_p, r);
        if constexpr (order == 2) {
            float second[6];
            difference::symmetrised_gradient(w_bar + i, v, second);
            moved_q = ascend<anchored>(q + i, q0 + i, second, sigma_q, a0, v.n, unit_q, r);
        }
    }
    add_block_sum(moved_p, moved + columns * here.plane);
    if constexpr (order == 2) add_block_sum(moved_q, moved + columns * here.plane + 1);
}
