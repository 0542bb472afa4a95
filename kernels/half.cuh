#pragma once
// Numbers stored in 16 bits, IEEE half precision, and computed with in float32: as cpu_half.py. The instructions
// are named here, since cuda_fp16.h is not there wherever the run-time compiler is.

struct Half {
    unsigned short bits;
};

__device__ inline float load(const float& a) { return a; }

__device__ inline void store(float& a, float value) { a = value; }

#ifdef __CUDACC__
__device__ inline float load(const Half& a) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(a.bits));
    return value;
}

__device__ inline void store(Half& a, float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(a.bits) : "f"(value)); }
#else  // the same on a CPU, for tests
inline float load(const Half& a) {
    _Float16 value;
    memcpy(&value, &a.bits, sizeof value);
    return value;
}

inline void store(Half& a, float value) {
    const _Float16 rounded = value;
    memcpy(&a.bits, &rounded, sizeof rounded);
}
#endif
