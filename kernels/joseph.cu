// Projection, Joseph's linear model. A voxel at u = x cos t + z sin t gives a pixel at u_d the weight
// tent(|u - u_d| / m) / m, m = max(|cos|, |sin|); `rays` (tilt, 3) holds cos t, sin t and u of pixel 0; there are
// `fineness` pixels on a voxel's edge. Coordinates are float64, so that both directions see the same weights; where
// float64 is slow they would cost more than the sums, so the threads of a row share them.
//
// A thread sums `width` neighbouring slices.
#include "lanes.cuh"

constexpr int chunk = 64, rows = 16;  // of taps that a block prepares at a time; at most `rows` rows in a block

struct alignas(16) Tap {  // two neighbours and their weights
    int before, after;
    float near, far;

    // The neighbours of `position` among n, with weights near and far; one that does not exist weighs nothing.
    __device__ void set(int j, int n, double near, double far) {
        before = j < 0 ? 0 : j < n ? j : n - 1;
        after = j + 1 < 0 ? 0 : j + 1 < n ? j + 1 : n - 1;
        this->near = 0 <= j && j < n && near > 0 ? near : 0;
        this->far = 0 <= j + 1 && j + 1 < n && far > 0 ? far : 0;
    }
};

// Adds the taps of one chunk; tap k reads line k of `a`, lines and neighbours being strides apart.
template <int width>
__device__ inline void gather(Lanes<width>& sum, const Tap* taps, int count, const float* a, Index line,
                              Index neighbour) {
    for (int k = 0; k < count; ++k, a += line) {
        const Tap tap = taps[k];
        if (tap.near == 0 && tap.far == 0) continue;  // the same for all threads of a row
        sum = sum + tap.near * load_lanes<width>(a + tap.before * neighbour);
        sum = sum + tap.far * load_lanes<width>(a + tap.after * neighbour);
    }
}

struct Axis {  // one axis of the volume
    int n;
    double slope;  // du per voxel
    Index stride;

    __device__ double u(int i) const { return (i - 0.5 * (n - 1)) * slope; }
};

// volume (nz, nx, ny), out (n_tilts, nu, ny)
template <int width>
__global__ void project(const float* volume, float* out, const double* rays, int nz, int nx, int ny,
                        int n_tilts, int nu, int fineness) {
    __shared__ Tap taps[rows][chunk];
    const Group<width> ray(n_tilts, nu, ny);
    const double *of_tilt = rays + 3 * ray.plane, c = of_tilt[0], s = of_tilt[1];
    const double u = of_tilt[2] + double(ray.row) / fineness;
    const Axis z{nz, s, Index(nx) * ny}, x{nx, c, ny};
    const bool steep = fabs(c) >= fabs(s);  // the ray steps along z and meets two neighbours across, in x
    const Axis along = steep ? z : x, across = steep ? x : z;
    const double m = fabs(across.slope);
    Lanes<width> sum = Lanes<width>::all(0);
    for (int first = 0; first < along.n; first += chunk) {
        const int count = min(chunk, along.n - first);
        for (int k = threadIdx.x; k < count; k += blockDim.x) {
            const double position = (u - along.u(first + k)) / across.slope + 0.5 * (across.n - 1);
            const double j = floor(position);
            taps[threadIdx.y][k].set(int(j), across.n, (1 - (position - j)) / m, (position - j) / m);
        }
        __syncthreads();
        if (ray.inside)
            gather(sum, taps[threadIdx.y], count, volume + ray.y + first * along.stride, along.stride, across.stride);
        __syncthreads();
    }
    if (ray.inside) store_lanes(out + ray.at, sum);
}

// The exact adjoint: stack (n_tilts, nu, ny), out (nz, nx, ny). A voxel meets at most 2 / step detector pixels, which
// are gathered in pairs of neighbours.
template <int width>
__global__ void backproject(const float* stack, float* out, const double* rays, int nz, int nx, int ny,
                            int n_tilts, int nu, int fineness) {
    __shared__ Tap taps[rows][chunk];
    const Group<width> voxel(nz, nx, ny);
    const Index tilt = Index(nu) * ny;
    Lanes<width> sum = Lanes<width>::all(0);
    for (int pair = 0; pair < fineness; ++pair) {
        const int before = fineness - 1 - 2 * pair;
        for (int first = 0; first < n_tilts; first += chunk) {
            const int count = min(chunk, n_tilts - first);
            for (int k = threadIdx.x; k < count; k += blockDim.x) {
                const double *of_tilt = rays + 3 * (first + k), c = of_tilt[0], s = of_tilt[1];
                const double m = fmax(fabs(c), fabs(s));
                const Axis z{nz, s, Index(nx) * ny}, x{nx, c, ny};
                const double u = (x.u(voxel.row) + z.u(voxel.plane) - of_tilt[2]) * fineness;
                const double d = floor(u) - before, scale = 1 / (m * fineness);
                taps[threadIdx.y][k].set(int(d), nu, (1 - fabs(u - d) * scale) / m, (1 - fabs(u - d - 1) * scale) / m);
            }
            __syncthreads();
            if (voxel.inside) gather(sum, taps[threadIdx.y], count, stack + voxel.y + first * tilt, tilt, Index(ny));
            __syncthreads();
        }
    }
    if (voxel.inside) store_lanes(out + voxel.at, sum);
}
