// The primal-dual steps of order 0 (no regulariser), 1 (TV) and 2 (TGV), one thread per `width` voxels along y.
// Dual is float or short, which holds p and q in units of `unit_p` and `unit_q`. No arrays overlap.
//
// Two kernels, not one sweep as on the CPU. Words of a voxel that pass through memory: the primal step reads u, w, p, q,
// g and writes u, w, u_bar, w_bar (14 + 8), the dual step reads p, q, u_bar, w_bar and writes p, q (13 + 9): 44. One
// kernel could do with 28, since p, q, u_bar and w_bar would be at hand. But blocks run in no order, and none may
// overwrite what a neighbour still reads: u, w, p and q would be held twice, 13 words on top of 20, where the size of
// the device's memory decides what can be reconstructed at all. And a block would repeat the primal step around its
// tile: with 8 rows of 64 voxels, of which memory gives 8 at a time, (10 * 80) / (8 * 64) = 1.6 times the 14 words read.
// Numbers in 16 bits save more: 31 words are left.
// Loads of 16 bytes and __restrict__, which lets loads pass earlier stores, bring both to memory's speed.
#include "difference.cuh"
#include "step.cuh"

// u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.
template <int order, class Dual, int width>
__global__ void tgv_primal(float* __restrict__ u, float* __restrict__ w, float* __restrict__ u_bar,
                           float* __restrict__ w_bar, const Dual* __restrict__ p, const Dual* __restrict__ q,
                           const float* __restrict__ g, int nz, int nx, int ny, float tau_u, float tau_w, float unit_p,
                           float unit_q, float rho) {
    const Group<width> here(nz, nx, ny);
    if (!here.inside) return;
    const difference::Voxels<width> v(here, nz, nx, ny);
    const Index i = here.at;
    Lanes<width> step = load_lanes<width>(g + i);
    if constexpr (order >= 1) step = step + unit_p * difference::gradient_adjoint(p + i, v);
    const Lanes<width> old = load_lanes<width>(u + i);
    const Lanes<width> next = map(old, step, [=](float a, float b) { return fmaxf(0.0f, a - tau_u * b); });
    store_lanes(u_bar + i, reflected(old, next));
    store_lanes(u + i, relaxed(old, next, rho));

    if constexpr (order == 2) {
        Lanes<width> divergence[3];
        difference::symmetrised_gradient_adjoint(q + i, v, difference::Factors<width>{}, divergence);
        for (int k = 0; k < 3; ++k) {
            const Index j = k * v.n + i;
            const Lanes<width> old = load_lanes<width>(w + j);
            const Lanes<width> next = old - tau_w * (unit_q * divergence[k] - unit_p * load_lanes<width>(p + j));
            store_lanes(w_bar + j, reflected(old, next));
            store_lanes(w + j, relaxed(old, next, rho));
        }
    }
}

// a' = P_radius(a + sigma grad) for the vectors a of some voxels, whose components lie n apart, relaxed.
template <int count, class Dual, int width>
__device__ inline void ascend(Dual* a, const Lanes<width> (&grad)[count], float sigma, float radius, Index n,
                              float unit, float rho) {
    Lanes<width> old[count], ahead[count], square = Lanes<width>::all(0);
    for (int k = 0; k < count; ++k) {
        old[k] = unit * load_lanes<width>(a + k * n);
        ahead[k] = old[k] + sigma * grad[k];
        square = square + ahead[k] * ahead[k];
    }
    const Lanes<width> shrink = map(square, [=](float s) { return radius / fmaxf(radius, sqrtf(s)); });
    for (int k = 0; k < count; ++k)
        store_lanes(a + k * n, (1 / unit) * relaxed(old[k], shrink * ahead[k], rho));
}

// p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), relaxed.
template <int order, class Dual, int width>
__global__ void tgv_dual(Dual* __restrict__ p, Dual* __restrict__ q, const float* __restrict__ u_bar,
                         const float* __restrict__ w_bar, int nz, int nx, int ny, float sigma_p, float sigma_q,
                         float a1, float a0, float unit_p, float unit_q, float rho) {
    static_assert(order >= 1, "without a regulariser there is no dual step");
    const Group<width> here(nz, nx, ny);
    if (!here.inside) return;
    const difference::Voxels<width> v(here, nz, nx, ny);
    const Index i = here.at;
    Lanes<width> first[3];
    difference::gradient(u_bar + i, v, first);
    if constexpr (order == 2)
        for (int k = 0; k < 3; ++k) first[k] = first[k] - load_lanes<width>(w_bar + k * v.n + i);
    ascend(p + i, first, sigma_p, a1, v.n, unit_p, rho);
    if constexpr (order == 2) {
        Lanes<width> second[6];
        difference::symmetrised_gradient(w_bar + i, v, second);
        ascend(q + i, second, sigma_q, a0, v.n, unit_q, rho);
    }
}
