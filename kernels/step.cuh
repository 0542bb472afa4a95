#pragma once
#include "lanes.cuh"
// What all primal-dual steps share, with `next` for T(x): the reflected point 2 T(x) - x, and x + rho (T(x) - x).

template <int width>
__device__ inline Lanes<width> reflected(const Lanes<width>& old, const Lanes<width>& next) {
    return 2 * next - old;
}

template <int width>
__device__ inline Lanes<width> relaxed(const Lanes<width>& old, const Lanes<width>& next, float rho) {
    return old + rho * (next - old);
}
