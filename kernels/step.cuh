#pragma once
#include "short.cuh"
// What all primal-dual steps share. A step computes the reflected point xbar = 2 T(x) - x, then
// x <- keep x + move xbar + anchor x0.

struct Relax {
    float keep, move, anchor;
};

// Relaxes x in place and returns (xbar - x)^2; x0 is read only if `anchored`. A short is in units of
// `unit`, and `inverse` is one over it.
template <bool anchored, class T>
__device__ inline float relax(T& x, float bar, const T* x0, const Relax& r, float unit = 1, float inverse = 1) {
    const float old = unit * load(x), moved = bar - old;
    float next = r.keep * old + r.move * bar;
    if constexpr (anchored) next += r.anchor * (unit * load(x0[0]));
    store(x, inverse * next);
    return moved * moved;
}
