// The data term's dual steps, one thread per detector pixel; arrays (n_tilts, nu, ny). With the model
// s A u + b (`scale` is s, `offset` b, `projection` A u_bar), each is the prox of sigma D* at y + sigma s A u_bar,
// relaxed: y + rho (y' - y).
#include "index.cuh"

// D = Poisson. With v = y + sigma (s A u_bar + b): y' = (1 + v - sqrt((1 - v)^2 + 4 sigma counts)) / 2,
// computed as 1 - y' so that nothing cancels and y' <= 1. Pixels with scale 0 carry no data: y' = 0.
__global__ void poisson_dual(float* y, const float* projection, const float* counts, const float* offset,
                             const float* scale, int n_tilts, int nu, int ny, float sigma, float rho) {
    const Element pixel(n_tilts, nu, ny);
    if (!pixel.inside) return;
    const Index i = pixel.at;
    const float d = 1 - y[i] - sigma * (scale[i] * projection[i] + offset[i]);
    const float r = fmaxf(fabsf(d) + sqrtf(d * d + 4 * sigma * counts[i]), 1e-30f);
    const float next = 1 - (d > 0 ? 0.5f * r : 2 * sigma * counts[i] / r);
    y[i] += rho * ((scale[i] > 0 ? next : 0.0f) - y[i]);
}

// D = weight/2 |s A u + b - counts|^2. With the residual r at u_bar: y' = (y + sigma r) / (1 + sigma / weight).
__global__ void least_squares_dual(float* y, const float* projection, const float* counts, const float* offset,
                                   const float* scale, const float* weight, int n_tilts, int nu, int ny, float sigma,
                                   float rho) {
    const Element pixel(n_tilts, nu, ny);
    if (!pixel.inside) return;
    const Index i = pixel.at;
    const float residual = scale[i] * projection[i] + offset[i] - counts[i];
    const float next = weight[i] * (y[i] + sigma * residual) / (weight[i] + sigma);
    y[i] += rho * ((scale[i] > 0 ? next : 0.0f) - y[i]);
}
