// Projection of any parallel rays, Joseph's model in three dimensions; lines, rows and `rays` (tilt, 8) as in
// cpu_general.py. All rays of a line share their weights in a plane, so the threads of a row prepare them together;
// coordinates are float64, so that both directions see the same ones.
#include "index.cuh"

constexpr int chunk = 64, rows = 16;  // of taps that a block prepares at a time; at most `rows` rows in a block

struct alignas(16) Tap {  // two rows that are read from element `y` and the next one on
    Index near, far;      // where they start
    float weight_near, weight_far, between;
    int y;
};

struct Rays {
    int along;  // axis of the planes
    double across, across_line, across_plane, y, y_line, y_plane, length;

    __device__ explicit Rays(const double* r)
        : along(int(r[0])), across(r[1]), across_line(r[2]), across_plane(r[3]), y(r[4]), y_line(r[5]), y_plane(r[6]),
          length(r[7]) {}
};

// What the tap gives element `at` of a row of which elements 0 to `n` - 1 exist.
__device__ inline float read(const Tap& tap, const float* a, int at, int n) {
    const int y = at + tap.y;
    float sum = 0;
    if (0 <= y && y < n) sum += (1 - tap.between) * (tap.weight_near * a[tap.near + y] + tap.weight_far * a[tap.far + y]);
    if (0 <= y + 1 && y + 1 < n)
        sum += tap.between * (tap.weight_near * a[tap.near + y + 1] + tap.weight_far * a[tap.far + y + 1]);
    return sum;
}

// volume (np, nq, pad + ny + pad), out (n_tilts, nu, nv)
__global__ void project_rays(const float* volume, float* out, const double* rays, int np, int nq, int length,
                             int n_tilts, int nu, int nv, int pad) {
    __shared__ Tap taps[rows][chunk];
    const Element ray(n_tilts, nu, nv);
    const Rays r(rays + 8 * ray.plane);
    const int planes = r.along == 0 ? np : nq, n = r.along == 0 ? nq : np;
    const Index by_plane = r.along == 0 ? Index(nq) * length : length, by_row = r.along == 0 ? length : Index(nq) * length;
    float sum = 0;
    for (int first = 0; first < planes; first += chunk) {
        const int count = min(chunk, planes - first);
        for (int k = threadIdx.x; k < count; k += blockDim.x) {
            const int plane = first + k;
            const double position = r.across + r.across_line * ray.row + plane * r.across_plane;
            const double y = r.y + r.y_line * ray.row + plane * r.y_plane;
            const double before = floor(position), part = position - before;
            Tap tap;
            const bool near = 0 <= before && before < n, far = 0 <= before + 1 && before + 1 < n;
            tap.near = plane * by_plane + (near ? Index(before) : 0) * by_row + pad;
            tap.far = plane * by_plane + (far ? Index(before) + 1 : 0) * by_row + pad;
            tap.weight_near = near ? (1 - part) * r.length : 0;
            tap.weight_far = far ? part * r.length : 0;
            tap.y = int(floor(y));
            tap.between = y - floor(y);
            taps[threadIdx.y][k] = tap;
        }
        __syncthreads();
        if (ray.inside)
            for (int k = 0; k < count; ++k) {
                const Tap tap = taps[threadIdx.y][k];
                if (tap.weight_near == 0 && tap.weight_far == 0) continue;  // the same for all threads of a row
                sum += read(tap, volume, ray.y, length - 2 * pad);
            }
        __syncthreads();
    }
    if (ray.inside) out[ray.at] = sum;
}

// The exact adjoint: stack (n_tilts, nu, nv), out (np, nq, ny). Up to 2 `pairs` of lines pass within a voxel of one.
__global__ void backproject_rays(const float* stack, float* out, const double* rays, int np, int nq, int ny,
                                 int n_tilts, int nu, int nv, int pairs) {
    __shared__ Tap taps[rows][chunk];
    const Element voxel(np, nq, ny);
    float sum = 0;
    const int all = n_tilts * 2 * pairs;
    for (int first = 0; first < all; first += chunk) {
        const int count = min(chunk, all - first);
        for (int k = threadIdx.x; k < count; k += blockDim.x) {
            const int tilt = (first + k) / (2 * pairs);
            const Rays r(rays + 8 * tilt);
            const int plane = r.along == 0 ? voxel.plane : voxel.row, position = r.along == 0 ? voxel.row : voxel.plane;
            const double at = (position - r.across - r.across_plane * plane) / r.across_line;
            const double line = ceil(at - 1 / fabs(r.across_line)) + (first + k) % (2 * pairs);
            const double weight = (1 - fabs(line - at) * fabs(r.across_line)) * r.length;
            const double y = r.y + r.y_line * line + r.y_plane * plane;
            Tap tap;
            const bool meets = weight > 0 && 0 <= line && line < nu;
            tap.near = tap.far = meets ? (Index(tilt) * nu + Index(line)) * nv : 0;
            tap.weight_near = meets ? weight : 0;
            tap.weight_far = 0;
            // ray j gives to voxels j + floor(y) and the next one
            tap.y = -int(floor(y)) - 1;
            tap.between = 1 - (y - floor(y));
            taps[threadIdx.y][k] = tap;
        }
        __syncthreads();
        if (voxel.inside)
            for (int k = 0; k < count; ++k)
                if (taps[threadIdx.y][k].weight_near > 0) sum += read(taps[threadIdx.y][k], stack, voxel.y, nv);
        __syncthreads();
    }
    if (voxel.inside) out[voxel.at] = sum;
}
