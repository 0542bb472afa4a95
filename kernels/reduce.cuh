#pragma once
// Reductions over a block, in float64. All threads of the block call them, with or without an element of their
// own; their number is a multiple of 32, and at most 1024.

// The reduced value, in the block's first thread only.
template <class Combine>
__device__ inline double reduce_block(double value, Combine combine) {
    __shared__ double of_warp[32];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    for (int d = 16; d > 0; d /= 2) value = combine(value, __shfl_down_sync(0xffffffffu, value, d));
    __syncthreads();  // an earlier result has been read
    if (thread % 32 == 0) of_warp[thread / 32] = value;
    __syncthreads();
    if (thread == 0)
        for (int i = 1; i < int(blockDim.x * blockDim.y) / 32; ++i) value = combine(value, of_warp[i]);
    return value;
}

__device__ inline void add_block_sum(double value, double* total) {
    const double sum = reduce_block(value, [](double a, double b) { return a + b; });
    if (threadIdx.x == 0 && threadIdx.y == 0) atomicAdd(total, sum);
}

// No value is negative, so bits are ordered like values.
__device__ inline void raise_to_block_maximum(double value, double* largest) {
    const double top = reduce_block(value, [](double a, double b) { return fmax(a, b); });
    if (threadIdx.x == 0 && threadIdx.y == 0)
        atomicMax(reinterpret_cast<unsigned long long*>(largest),
                  static_cast<unsigned long long>(__double_as_longlong(top)));
}
