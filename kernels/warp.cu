// Detector warp, bilinear. Recorded pixel (i, j) shows the ideal projection at (p, q) = A (i, j) + b; ideal pixel
// (k, l) enters with weight tent(p - k) tent(q - l). `affine` (tilt, 6) holds A00 A01 b0 A10 A11 b1, indices (u, y).
#include "index.cuh"

struct Affine {
    double a00, a01, b0, a10, a11, b1;

    __device__ explicit Affine(const double* a) : a00(a[0]), a01(a[1]), b0(a[2]), a10(a[3]), a11(a[4]), b1(a[5]) {}
    __device__ double p(int i, int j) const { return a00 * i + a01 * j + b0; }
    __device__ double q(int i, int j) const { return a10 * i + a11 * j + b1; }
};

__device__ inline float tent(double distance) { return fmax(0.0, 1.0 - fabs(distance)); }

// Ideal projections `stack` (n_tilts, nu, ny) as recorded, `out` (n_tilts, mu, my); zero outside.
__global__ void warp(const float* stack, float* out, const double* affine, int n_tilts, int nu, int ny, int mu,
                     int my) {
    const Element pixel(n_tilts, mu, my);
    if (!pixel.inside) return;
    const Affine a(affine + 6 * pixel.plane);
    const double p = a.p(pixel.row, pixel.y), q = a.q(pixel.row, pixel.y);
    const int first_k = int(fmax(0.0, floor(p))), last_k = int(fmin(nu - 1.0, floor(p) + 1));
    const int first_l = int(fmax(0.0, floor(q))), last_l = int(fmin(ny - 1.0, floor(q) + 1));
    float sum = 0;
    for (int k = first_k; k <= last_k; ++k)
        for (int l = first_l; l <= last_l; ++l)
            sum += tent(p - k) * tent(q - l) * stack[(Index(pixel.plane) * nu + k) * ny + l];
    out[pixel.at] = sum;
}

// The exact adjoint: each ideal pixel of `out` (n_tilts, nu, ny) gathers the recorded ones, `stack`
// (n_tilts, mu, my), that reach it: those in the preimage of its tent's square.
__global__ void warp_adjoint(const float* stack, float* out, const double* affine, int n_tilts, int nu, int ny,
                             int mu, int my) {
    const Element pixel(n_tilts, nu, ny);
    if (!pixel.inside) return;
    const Affine a(affine + 6 * pixel.plane);
    const double det = a.a00 * a.a11 - a.a01 * a.a10;
    const double dp = pixel.row - a.b0, dq = pixel.y - a.b1;
    const double centre_i = (a.a11 * dp - a.a01 * dq) / det, radius_i = (fabs(a.a11) + fabs(a.a01)) / fabs(det);
    const double centre_j = (a.a00 * dq - a.a10 * dp) / det, radius_j = (fabs(a.a10) + fabs(a.a00)) / fabs(det);
    const int first_i = int(fmax(0.0, ceil(centre_i - radius_i)));
    const int first_j = int(fmax(0.0, ceil(centre_j - radius_j)));
    const int last_i = int(fmin(mu - 1.0, floor(centre_i + radius_i)));
    const int last_j = int(fmin(my - 1.0, floor(centre_j + radius_j)));
    float sum = 0;
    for (int i = first_i; i <= last_i; ++i)
        for (int j = first_j; j <= last_j; ++j)
            sum += tent(a.p(i, j) - pixel.row) * tent(a.q(i, j) - pixel.y) *
                   stack[(Index(pixel.plane) * mu + i) * my + j];
    out[pixel.at] = sum;
}
