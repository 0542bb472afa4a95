// Projection, Joseph's linear model. A voxel at u = x cos t + z sin t gives detector pixel d the weight
// tent(|u - d| / m) / m, m = max(|cos|, |sin|). Coordinates are float64, so that both directions see the same weights.
#include "index.cuh"

__device__ inline float tent(double distance, double m) { return fmax(0.0, 1.0 - fabs(distance) / m) / m; }

struct Axis {  // one axis of the volume
    int n;
    double slope;  // du per voxel
    Index stride;

    __device__ double u(int i) const { return (i - 0.5 * (n - 1)) * slope; }
};

// The ray at detector position u steps through the voxels of `along` and meets two neighbours in `across`.
__device__ inline float line(const float* volume, double u, const Axis& along, const Axis& across) {
    const double m = fabs(across.slope);
    float sum = 0;
    for (int i = 0; i < along.n; ++i) {
        const double rest = u - along.u(i);
        const int j = int(floor(rest / across.slope + 0.5 * (across.n - 1)));
        const float* a = volume + i * along.stride;
        if (0 <= j && j < across.n) sum += tent(rest - across.u(j), m) * a[j * across.stride];
        if (0 <= j + 1 && j + 1 < across.n) sum += tent(rest - across.u(j + 1), m) * a[(j + 1) * across.stride];
    }
    return sum;
}

// volume (nz, nx, ny), out (n_tilts, nu, ny), cosine and sine (n_tilts)
__global__ void project(const float* volume, float* out, const double* cosine, const double* sine, int nz, int nx,
                        int ny, int n_tilts, int nu) {
    const Element ray(n_tilts, nu, ny);
    if (!ray.inside) return;
    const double c = cosine[ray.plane], s = sine[ray.plane];
    const double u = ray.row - 0.5 * (nu - 1);
    const Axis z{nz, s, Index(nx) * ny}, x{nx, c, ny};
    out[ray.at] = fabs(c) >= fabs(s) ? line(volume + ray.y, u, z, x) : line(volume + ray.y, u, x, z);
}

// The exact adjoint: stack (n_tilts, nu, ny), out (nz, nx, ny). A voxel meets at most two detector pixels.
__global__ void backproject(const float* stack, float* out, const double* cosine, const double* sine, int nz, int nx,
                            int ny, int n_tilts, int nu) {
    const Element voxel(nz, nx, ny);
    if (!voxel.inside) return;
    float sum = 0;
    for (int t = 0; t < n_tilts; ++t) {
        const double c = cosine[t], s = sine[t];
        const double m = fmax(fabs(c), fabs(s));
        const Axis z{nz, s, Index(nx) * ny}, x{nx, c, ny};
        const double u = x.u(voxel.row) + z.u(voxel.plane) + 0.5 * (nu - 1);
        const int d = int(floor(u));
        const float* a = stack + Index(t) * nu * ny + voxel.y;
        if (0 <= d && d < nu) sum += tent(u - d, m) * a[Index(d) * ny];
        if (0 <= d + 1 && d + 1 < nu) sum += tent(u - (d + 1), m) * a[Index(d + 1) * ny];
    }
    out[voxel.at] = sum;
}
