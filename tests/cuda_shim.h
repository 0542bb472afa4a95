// Runs CUDA kernels on the CPU, for tests. The threads of a block are fibres that take turns and give way at
// __syncthreads, so shared memory and warp shuffles work; blocks run one after another.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__

struct Dim3 {
    unsigned x, y, z;
};
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

struct Fibre {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(32768);
    Dim3 thread;
    unsigned rank;
    bool done;
};

static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static Fibre* running;
static void (*body)(void*);
static void* body_data;
static double shuffled[1024];

static void enter() {
    body(body_data);
    running->done = true;
}

// Every thread of the block gets a turn, up to its next barrier. False: some have ended and others wait.
static bool run_block() {
    const unsigned n = blockDim.x * blockDim.y * blockDim.z;
    if (fibres.size() < n) fibres.resize(n);
    for (unsigned i = 0; i < n; ++i) {
        Fibre& f = fibres[i];
        f.rank = i;
        f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        f.done = false;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = &scheduler;
        makecontext(&f.context, enter, 0);
    }
    for (;;) {
        unsigned done = 0;
        for (unsigned i = 0; i < n; ++i) {
            running = &fibres[i];
            threadIdx = running->thread;
            swapcontext(&scheduler, &running->context);
            done += running->done;
        }
        if (done == n) return true;
        if (done > 0) return false;  // a barrier that not every thread reaches
    }
}

static bool run_grid() {
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
                if (!run_block()) return false;
    return true;
}

// Launches `kernel` with arguments by address, as the driver does. 0: it ran; -1: a barrier was not met by all
// threads; -2: wrong number of arguments; k > 0: argument k has the wrong size.
template <class... Args, size_t... I>
int launch(void (*kernel)(Args...), const unsigned* grid, const unsigned* block, int count, void** args,
           const size_t* sizes, std::index_sequence<I...>) {
    if (count != int(sizeof...(Args))) return -2;
    const size_t expected[] = {sizeof(Args)...};
    for (int i = 0; i < count; ++i)
        if (sizes[i] != expected[i]) return i + 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    auto call = [&] { kernel(*static_cast<Args*>(args[I])...); };
    body_data = &call;
    body = [](void* data) { (*static_cast<decltype(call)*>(data))(); };
    const bool met = run_grid();
    body_data = nullptr;
    return met ? 0 : -1;
}

template <class... Args>
int launch(void (*kernel)(Args...), const unsigned* grid, const unsigned* block, int count, void** args,
           const size_t* sizes) {
    return launch(kernel, grid, block, count, args, sizes, std::index_sequence_for<Args...>{});
}

}  // namespace shim

static void __syncthreads() {
    shim::Fibre* self = shim::running;
    swapcontext(&self->context, &shim::scheduler);
}

// All threads of the block take part, in step, as the kernels here do.
static double __shfl_down_sync(unsigned, double value, unsigned delta) {
    const unsigned self = shim::running->rank, other = self + delta;
    shim::shuffled[self] = value;
    __syncthreads();
    if (other / 32 == self / 32) value = shim::shuffled[other];
    __syncthreads();
    return value;
}

static int min(int a, int b) { return a < b ? a : b; }

static double atomicAdd(double* total, double value) {
    const double before = *total;
    *total += value;
    return before;
}

static unsigned long long atomicMax(unsigned long long* largest, unsigned long long value) {
    const unsigned long long before = *largest;
    if (value > before) *largest = value;
    return before;
}

static long long __double_as_longlong(double value) {
    long long bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
