// Runs CUDA kernels on the CPU, for tests. The threads of a block are fibres that take turns and give way at
// __syncthreads, so shared memory and warp shuffles work; blocks run one after another.
//
// A fibre begins by makecontext; from then on _setjmp and _longjmp switch, which ask the system nothing. It runs the
// body of one block after another.
#pragma once
#undef _FORTIFY_SOURCE  // its _longjmp refuses to go to another stack
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
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
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    Dim3 thread;
    unsigned rank;
    bool done;
};

static std::vector<Fibre> fibres;
static jmp_buf scheduler;
static Fibre* running;
static void (*body)(void*);
static void* body_data;
static double shuffled[1024];

// Gives way to the scheduler until it is this fibre's turn again.
__attribute__((noinline)) static void give_way() {
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        body(body_data);
        running->done = true;
        give_way();
    }
}

__attribute__((noinline)) static void turn(Fibre& f) {
    running = &f;
    threadIdx = f.thread;
    if (_setjmp(scheduler)) return;
    if (f.stack) _longjmp(f.place, 1);
    const size_t size = 32768;
    f.stack.reset(new char[size]);
    ucontext_t first;
    getcontext(&first);
    first.uc_stack.ss_sp = f.stack.get();
    first.uc_stack.ss_size = size;
    first.uc_link = nullptr;
    makecontext(&first, live, 0);
    setcontext(&first);
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
    }
    for (;;) {
        unsigned done = 0;
        for (unsigned i = 0; i < n; ++i) {
            turn(fibres[i]);
            done += fibres[i].done;
        }
        if (done == n) return true;
        if (done > 0) {  // a barrier that not every thread reaches
            fibres.clear();
            return false;
        }
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
    shim::give_way();
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
