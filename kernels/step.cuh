#pragma once
#include "lanes.cuh"
// What all primal-dual steps share. A step computes the reflected point xbar = 2 T(x) - x, then
// x <- keep x + move xbar + anchor x0.

struct Relax {
    float keep, move, anchor;
};

// Relaxes x in place, which held `old`, and returns sum (xbar - x)^2; x0 is read only if `anchored`. Shorts are in
// units of `unit`.
template <bool anchored, int width, class T>
__device__ inline float relax(T* x, const Lanes<width>& old, const Lanes<width>& bar, const T* x0, const Relax& r,
                              float unit = 1) {
    Lanes<width> next = r.keep * old + r.move * bar;
    if constexpr (anchored) next = next + (r.anchor * unit) * load_lanes<width>(x0);
    store_lanes(x, (1 / unit) * next);
    const Lanes<width> moved = bar - old;
    return sum(moved * moved);
}
