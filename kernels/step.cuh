#pragma once
// What all primal-dual steps share. A step computes the reflected point xbar = 2 T(x) - x, then
// x <- keep x + move xbar + anchor x0.

struct Relax {
    float keep, move, anchor;
};

// Relaxes x in place and returns (xbar - x)^2; x0 is read only if `anchored`.
template <bool anchored>
__device__ inline float relax(float& x, float bar, const float* x0, const Relax& r) {
    const float moved = bar - x;
    x = r.keep * x + r.move * bar;
    if constexpr (anchored) x += r.anchor * x0[0];
    return moved * moved;
}
