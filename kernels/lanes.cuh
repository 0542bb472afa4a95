#pragma once
// `width` neighbours along y, held by one thread: loaded and stored at once, computed with in float32. What is stored
// is float, or short: fixed point, as cpu_short.py.
#include "index.cuh"

template <int width>
struct Lanes {
    float at[width];

    __device__ static Lanes all(float value) {
        Lanes a;
        for (int i = 0; i < width; ++i) a.at[i] = value;
        return a;
    }
};

template <int width, class F>
__device__ inline Lanes<width> map(const Lanes<width>& a, F f) {
    Lanes<width> out;
    for (int i = 0; i < width; ++i) out.at[i] = f(a.at[i]);
    return out;
}

template <int width, class F>
__device__ inline Lanes<width> map(const Lanes<width>& a, const Lanes<width>& b, F f) {
    Lanes<width> out;
    for (int i = 0; i < width; ++i) out.at[i] = f(a.at[i], b.at[i]);
    return out;
}

template <int width>
__device__ inline Lanes<width> operator+(const Lanes<width>& a, const Lanes<width>& b) {
    return map(a, b, [](float x, float y) { return x + y; });
}

template <int width>
__device__ inline Lanes<width> operator-(const Lanes<width>& a, const Lanes<width>& b) {
    return map(a, b, [](float x, float y) { return x - y; });
}

template <int width>
__device__ inline Lanes<width> operator*(const Lanes<width>& a, const Lanes<width>& b) {
    return map(a, b, [](float x, float y) { return x * y; });
}

template <int width>
__device__ inline Lanes<width> operator*(float factor, const Lanes<width>& a) {
    return map(a, [factor](float x) { return factor * x; });
}

// ---------------------------------------------------------------- in memory

template <class T, int width>
struct alignas(sizeof(T) * width) Stored {
    T at[width];
};

__device__ inline float load(float a) { return a; }

__device__ inline float load(short a) { return a; }

__device__ inline void store(float& a, float value) { a = value; }

__device__ inline void store(short& a, float value) {
    a = short(floorf(fminf(fmaxf(value, -32768.0f), 32767.0f) + 0.5f));
}

template <int width, class T>
__device__ inline Lanes<width> load_lanes(const T* a) {
    const auto stored = *reinterpret_cast<const Stored<T, width>*>(a);
    Lanes<width> out;
    for (int i = 0; i < width; ++i) out.at[i] = load(stored.at[i]);
    return out;
}

template <int width, class T>
__device__ inline void store_lanes(T* a, const Lanes<width>& values) {
    Stored<T, width> stored;
    for (int i = 0; i < width; ++i) store(stored.at[i], values.at[i]);
    *reinterpret_cast<Stored<T, width>*>(a) = stored;
}

// The elements of an array (planes, rows, ny) that a thread holds, `width` along y; ny is a multiple of `width`.
template <int width>
struct Group : Element {
    __device__ Group(int planes, int rows, int ny) : Element(planes, rows, ny / width) {
        y *= width;
        at *= width;
    }
};
