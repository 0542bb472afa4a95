#pragma once
// Numbers stored in 16 bits, fixed point, and computed with in float32: as cpu_short.py.

__device__ inline float load(float a) { return a; }

__device__ inline float load(short a) { return a; }

__device__ inline void store(float& a, float value) { a = value; }

__device__ inline void store(short& a, float value) {
    a = short(floorf(fminf(fmaxf(value, -32768.0f), 32767.0f) + 0.5f));
}
