// The primal-dual steps of order 0 (no regulariser), 1 (TV) and 2 (TGV), one thread per `width` voxels along y.
// `moved` has a line of `columns` per plane, whose first two have been zeroed. Dual is float or short, which holds p
// and q in units of `unit_p` and `unit_q`. Anchors that are not read may be the state itself; nothing else overlaps.
//
// Two kernels, not one sweep as on the CPU. Words of a voxel that pass through memory, with anchors: the primal step
// reads u, w, p, q, g, u0, w0 and writes u, w, u_bar, w_bar (18 + 8), the dual step reads p, q, u_bar, w_bar, p0, q0 and
// writes p, q (22 + 9): 57. One kernel could do with 41, since p, q, u_bar and w_bar would be at hand. But blocks run in
// no order, and none may overwrite what a neighbour still reads: u, w, p and q would be held twice, 13 words on top of 36,
// where the size of the device's memory decides what can be reconstructed at all. And a block would repeat the primal
// step around its tile: with 8 rows of 64 voxels, of which memory gives 8 at a time, (10 * 80) / (8 * 64) = 1.6 times the
// 18 words read, which leaves 52 of 57 where the second-level cache does not help. Numbers in 16 bits save more: 41 words are left.
// Loads of 16 bytes and __restrict__, which lets loads pass earlier stores, bring both to memory's speed.
#include "difference.cuh"
#include "reduce.cuh"
#include "step.cuh"

// u' = max(0, u - tau_u (g + grad* p)), w' = w - tau_w (E* q - p), reflected and relaxed.
template <int order, bool anchored, class Dual, int width>
__global__ void tgv_primal(float* __restrict__ u, float* __restrict__ w, float* __restrict__ u_bar,
                           float* __restrict__ w_bar, const Dual* __restrict__ p, const Dual* __restrict__ q,
                           const float* __restrict__ g, const float* __restrict__ u0, const float* __restrict__ w0,
                           double* __restrict__ moved, int nz, int nx, int ny, int columns, float tau_u, float tau_w,
                           float unit_p, float unit_q, float keep, float move, float anchor) {
    const Group<width> here(nz, nx, ny);
    const Relax r{keep, move, anchor};
    float moved_u = 0, moved_w = 0;
    if (here.inside) {
        const difference::Voxels<width> v(here, nz, nx, ny);
        const Index i = here.at;
        Lanes<width> step = load_lanes<width>(g + i);
        if constexpr (order >= 1) step = step + unit_p * difference::gradient_adjoint(p + i, v);
        const Lanes<width> old = load_lanes<width>(u + i);
        const Lanes<width> bar = map(old, step, [=](float a, float b) { return 2 * fmaxf(0.0f, a - tau_u * b) - a; });
        store_lanes(u_bar + i, bar);
        moved_u = relax<anchored>(u + i, old, bar, u0 + i, r);

        if constexpr (order == 2) {
            Lanes<width> divergence[3];
            difference::symmetrised_gradient_adjoint(q + i, v, difference::Factors<width>{}, divergence);
            for (int k = 0; k < 3; ++k) {
                const Index j = k * v.n + i;
                const Lanes<width> old = load_lanes<width>(w + j);
                const Lanes<width> bar =
                    old - 2 * tau_w * (unit_q * divergence[k] - unit_p * load_lanes<width>(p + j));
                store_lanes(w_bar + j, bar);
                moved_w += relax<anchored>(w + j, old, bar, w0 + j, r);
            }
        }
    }
    add_block_sum(moved_u, moved + columns * here.plane);
    if constexpr (order == 2) add_block_sum(moved_w, moved + columns * here.plane + 1);
}

// a' = P_radius(a + sigma grad) for the vectors a of some voxels, whose components lie n apart, reflected and relaxed.
// Returns sum (abar - a)^2.
template <bool anchored, int count, class Dual, int width>
__device__ inline float ascend(Dual* a, const Dual* a0, const Lanes<width> (&grad)[count], float sigma, float radius,
                               Index n, float unit, const Relax& r) {
    Lanes<width> old[count], ahead[count], square = Lanes<width>::all(0);
    for (int k = 0; k < count; ++k) {
        old[k] = unit * load_lanes<width>(a + k * n);
        ahead[k] = old[k] + sigma * grad[k];
        square = square + ahead[k] * ahead[k];
    }
    const Lanes<width> twice = map(square, [=](float s) { return 2 * radius / fmaxf(radius, sqrtf(s)); });
    float moved = 0;
    for (int k = 0; k < count; ++k)
        moved += relax<anchored>(a + k * n, old[k], twice * ahead[k] - old[k], a0 + k * n, r, unit);
    return moved;
}

// p' = P_a1(p + sigma_p (grad u_bar - w_bar)), q' = P_a0(q + sigma_q E w_bar), reflected and relaxed.
template <int order, bool anchored, class Dual, int width>
__global__ void tgv_dual(Dual* __restrict__ p, Dual* __restrict__ q, const float* __restrict__ u_bar,
                         const float* __restrict__ w_bar, const Dual* __restrict__ p0, const Dual* __restrict__ q0,
                         double* __restrict__ moved, int nz, int nx, int ny, int columns, float sigma_p, float sigma_q,
                         float a1, float a0, float unit_p, float unit_q, float keep, float move, float anchor) {
    static_assert(order >= 1, "without a regulariser there is no dual step");
    const Group<width> here(nz, nx, ny);
    const Relax r{keep, move, anchor};
    float moved_p = 0, moved_q = 0;
    if (here.inside) {
        const difference::Voxels<width> v(here, nz, nx, ny);
        const Index i = here.at;
        Lanes<width> first[3];
        difference::gradient(u_bar + i, v, first);
        if constexpr (order == 2)
            for (int k = 0; k < 3; ++k) first[k] = first[k] - load_lanes<width>(w_bar + k * v.n + i);
        moved_p = ascend<anchored>(p + i, p0 + i, first, sigma_p, a1, v.n, unit_p, r);
        if constexpr (order == 2) {
            Lanes<width> second[6];
            difference::symmetrised_gradient(w_bar + i, v, second);
            moved_q = ascend<anchored>(q + i, q0 + i, second, sigma_q, a0, v.n, unit_q, r);
        }
    }
    add_block_sum(moved_p, moved + columns * here.plane);
    if constexpr (order == 2) add_block_sum(moved_q, moved + columns * here.plane + 1);
}
