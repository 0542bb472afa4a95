// The data term's dual steps, one thread per detector pixel; arrays (n_tilts, nu, ny). With the model
// s A u + b (`scale` is s, `offset` b, `projection` A u_bar), each is the prox of sigma D* at y + sigma s A u_bar,
// reflected and relaxed. `moved` (n_tilts, 2) has had its first column zeroed.
#include "index.cuh"
#include "reduce.cuh"
#include "step.cuh"

// D = Poisson. With v = y + sigma (s A u_bar + b): y' = (1 + v - sqrt((1 - v)^2 + 4 sigma counts)) / 2,
// computed as 1 - y' so that nothing cancels and y' <= 1. Pixels with scale 0 carry no data: y' = 0.
template <bool anchored>
__global__ void poisson_dual(float* y, const float* projection, const float* counts, const float* offset,
                             const float* scale, const float* y0, double* moved, int n_tilts, int nu, int ny,
                             float sigma, float keep, float move, float anchor) {
    const Element pixel(n_tilts, nu, ny);
    const Index i = pixel.at;
    float moved_y = 0;
    if (pixel.inside) {
        const float d = 1 - y[i] - sigma * (scale[i] * projection[i] + offset[i]);
        const float r = fmaxf(fabsf(d) + sqrtf(d * d + 4 * sigma * counts[i]), 1e-30f);
        const float next = 1 - (d > 0 ? 0.5f * r : 2 * sigma * counts[i] / r);
        const float bar = (scale[i] > 0 ? 2 * next : 0.0f) - y[i];
        moved_y = relax<anchored>(y + i, Lanes<1>{y[i]}, Lanes<1>{bar}, y0 + i, Relax{keep, move, anchor});
    }
    add_block_sum(moved_y, moved + 2 * pixel.plane);
}

// D = weight/2 |s A u + b - counts|^2. With the residual r at u_bar: y' = (y + sigma r) / (1 + sigma / weight).
template <bool anchored>
__global__ void least_squares_dual(float* y, const float* projection, const float* counts, const float* offset,
                                   const float* scale, const float* y0, const float* weight, double* moved,
                                   int n_tilts, int nu, int ny, float sigma, float keep, float move, float anchor) {
    const Element pixel(n_tilts, nu, ny);
    const Index i = pixel.at;
    float moved_y = 0;
    if (pixel.inside) {
        const float residual = scale[i] * projection[i] + offset[i] - counts[i];
        const float next = weight[i] * (y[i] + sigma * residual) / (weight[i] + sigma);
        const float bar = (scale[i] > 0 ? 2 * next : 0.0f) - y[i];
        moved_y = relax<anchored>(y + i, Lanes<1>{y[i]}, Lanes<1>{bar}, y0 + i, Relax{keep, move, anchor});
    }
    add_block_sum(moved_y, moved + 2 * pixel.plane);
}
