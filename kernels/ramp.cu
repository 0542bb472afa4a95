// The data term's dual step in a metric that is a ramp along the detector; one thread per line along u. The formulas are
// those of cpu_ramp.py. Neighbouring threads have neighbouring y, so that loads coalesce; `__restrict__` lets those of the
// next pixels go ahead of the recursion.
#include "index.cuh"

// A line of (n_tilts, nu, ny): where its first pixel lies; from one to the next it is ny.
struct Line : Element {
    __device__ Line(int n_tilts, int nu, int ny) : Element(1, n_tilts, ny) { at = Index(row) * nu * ny + y; }
};

__global__ void ramp_filter(float* stack, const float* kept, const float* __restrict__ scale, float* __restrict__ room,
                            const float* __restrict__ factors, int n_tilts, int nu, int ny, float rest, float less) {
    const Line line(n_tilts, nu, ny);
    if (!line.inside) return;
    float x = 0;
    for (int i = 0; i < nu; i++) {
        const Index at = line.at + Index(i) * ny;
        x = factors[i] * (scale[at] * stack[at] - less * kept[at]) + factors[nu + i] * x;
        room[at] = x;
    }
    x = 0;
    for (int i = nu - 1; i >= 0; i--) {
        const Index at = line.at + Index(i) * ny;
        x = room[at] + factors[nu + i] * x;
        if (scale[at] > 0) stack[at] -= rest * x / scale[at];
    }
}

__global__ void ramp_dual(float* __restrict__ y, float* __restrict__ kept, float* __restrict__ ahead,
                          const float* __restrict__ stack, const float* __restrict__ scale,
                          const float* __restrict__ factors, int n_tilts, int nu, int ny, float rest, float sigma,
                          float rho) {
    const Line line(n_tilts, nu, ny);
    if (!line.inside) return;
    float x = 0;
    for (int i = 0; i < nu; i++) {
        const Index at = line.at + Index(i) * ny;
        const float back = y[at] - ahead[at];
        const float move = scale[at] * stack[at] - kept[at] + back / sigma;
        kept[at] += rho * move;
        y[at] -= rho * back;
        x = factors[i] * move + factors[nu + i] * x;
        ahead[at] = x;
    }
    x = 0;
    for (int i = nu - 1; i >= 0; i--) {
        const Index at = line.at + Index(i) * ny;
        x = ahead[at] + factors[nu + i] * x;
        if (scale[at] > 0) y[at] += rho * rest * sigma * x;
    }
}
