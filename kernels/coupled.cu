// Norms and projections of the gradients of several channels together, one thread per voxel, see cpu_coupled.py. Of a
// field, channel c and component k lie (c * components + k) n voxels from its beginning.
#include "index.cuh"
#include "reduce.cuh"

// M M^T of a voxel, whose rows are the channels.
template <int channels, class Real>
__device__ inline void gram_of(const float* v, int components, Index n, Real (&gram)[channels][channels]) {
    for (int a = 0; a < channels; ++a)
        for (int b = 0; b <= a; ++b) {
            Real sum = 0;
            for (int k = 0; k < components; ++k)
                sum += Real(v[(a * components + k) * n]) * Real(v[(b * components + k) * n]);
            gram[a][b] = gram[b][a] = sum;
        }
}

__device__ inline float root(float a) { return sqrtf(fmaxf(a, 0.0f)); }
__device__ inline double root(double a) { return sqrt(fmax(a, 0.0)); }

template <class Real>
__device__ inline void turn(Real& one, Real& two, Real s, Real c) {
    const Real a = one, b = two;
    one = c * a - s * b;
    two = s * a + c * b;
}

// gram = V diag V^T by Jacobi's rotations; the diagonal is left in gram.
template <int channels, class Real>
__device__ inline void diagonalise(Real (&gram)[channels][channels], Real (&vectors)[channels][channels]) {
    for (int i = 0; i < channels; ++i)
        for (int j = 0; j < channels; ++j) vectors[i][j] = i == j;
    const int sweeps = channels == 2 ? 1 : 5;
    for (int sweep = 0; sweep < sweeps; ++sweep)
        for (int a = 0; a < channels; ++a)
            for (int b = a + 1; b < channels; ++b) {
                const Real d = gram[b][b] - gram[a][a], m = gram[a][b];
                const Real size = (d >= 0 ? d : -d) + root(d * d + 4 * m * m), least = Real(1e-30f);
                const Real t = 2 * (d >= 0 ? m : -m) / (size > least ? size : least);
                const Real c = 1 / root(1 + t * t), s = t * c;
                gram[a][a] -= t * m;
                gram[b][b] += t * m;
                gram[a][b] = gram[b][a] = 0;
                for (int r = 0; r < channels; ++r) {
                    if (r != a && r != b) {
                        turn(gram[r][a], gram[r][b], s, c);
                        gram[a][r] = gram[r][a];
                        gram[b][r] = gram[r][b];
                    }
                    turn(vectors[r][a], vectors[r][b], s, c);
                }
            }
}

// dual <- dual + rho (P(ahead) - dual), P the projection onto the ball of the dual norm.
template <int channels>
__global__ void coupled_dual(float* __restrict__ dual, const float* __restrict__ ahead, int components, int nz, int nx,
                             int ny, int nuclear, float radius, float rho) {
    const Element here(nz, nx, ny);
    if (!here.inside) return;
    const Index n = Index(nz) * nx * ny, i = here.at;
    float gram[channels][channels], vectors[channels][channels], factors[channels][channels];
    gram_of<channels>(ahead + i, components, n, gram);
    if (nuclear) {
        diagonalise<channels>(gram, vectors);
        for (int k = 0; k < channels; ++k) gram[k][k] = radius / fmaxf(radius, root(gram[k][k]));
        for (int a = 0; a < channels; ++a)
            for (int b = 0; b < channels; ++b) {
                factors[a][b] = 0;
                for (int k = 0; k < channels; ++k) factors[a][b] += vectors[a][k] * vectors[b][k] * gram[k][k];
            }
    } else {
        float square = 0;
        for (int a = 0; a < channels; ++a) square += gram[a][a];
        for (int a = 0; a < channels; ++a)
            for (int b = 0; b < channels; ++b) factors[a][b] = a == b ? radius / fmaxf(radius, root(square)) : 0.0f;
    }
    for (int k = 0; k < components; ++k)
        for (int a = 0; a < channels; ++a) {
            float next = 0;
            for (int b = 0; b < channels; ++b) next += factors[a][b] * ahead[(b * components + k) * n + i];
            float& old = dual[(a * components + k) * n + i];
            old += rho * (next - old);
        }
}

// sums[z] = (sum of the norms, largest dual norm) of a plane, zero before.
template <int channels>
__global__ void coupled_norms(const float* v, double* sums, int components, int nz, int nx, int ny, int nuclear) {
    const Element here(nz, nx, ny);
    double total = 0, largest = 0;
    if (here.inside) {
        double gram[channels][channels], vectors[channels][channels];
        gram_of<channels>(v + here.at, components, Index(nz) * nx * ny, gram);
        if (nuclear) diagonalise<channels>(gram, vectors);
        double square = 0;
        for (int a = 0; a < channels; ++a) {
            square += gram[a][a];
            total += root(gram[a][a]);
            largest = fmax(largest, root(gram[a][a]));
        }
        if (!nuclear) total = largest = root(square);
    }
    add_block_sum(total, sums + 2 * here.plane);
    raise_to_block_maximum(largest, sums + 2 * here.plane + 1);
}
