// Runs the kernels of cuda.cu on a processor. The threads of a block are coroutines that meet at barriers and exchange
// values within their warp; they take turns in one order or the other, so that a missing barrier shows.
#include <fenv.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

struct Coordinate {
    unsigned x;
};
static Coordinate threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t STACK = 1 << 16;
constexpr unsigned WARP_SIZE = 32, MOST_WARPS = 32;

struct Thread {
    jmp_buf place;
    ucontext_t start;
    bool is_started, is_done;
};
std::vector<Thread> threads;
std::vector<char> stacks, dynamic_memory;
jmp_buf scheduler;
unsigned current;
bool moved;  // whether anybody got further in this round
std::function<void()> body;

void to_scheduler() { _longjmp(scheduler, 1); }

void begin() {
    body();
    threads[current].is_done = moved = true;
    to_scheduler();
}

void let_others_run() {
    if (_setjmp(threads[current].place) == 0) to_scheduler();
}

// Where so many threads meet.
struct Barrier {
    unsigned arrived, generation;
    void meet(unsigned count) {
        const unsigned mine = generation;
        moved = true;
        if (++arrived == count)
            arrived = 0, generation++;
        else
            while (generation == mine) let_others_run();
    }
};
Barrier of_block, of_warps[MOST_WARPS];

template <class T> T exchange(T mine, const std::function<unsigned(unsigned)> &source) {
    static T values[MOST_WARPS][WARP_SIZE];
    const unsigned warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    values[warp][lane] = mine;
    of_warps[warp].meet(WARP_SIZE);
    const T theirs = values[warp][source(lane)];
    of_warps[warp].meet(WARP_SIZE);
    return theirs;
}

void start_threads(unsigned count) {
    threads.assign(count, Thread());
    stacks.resize(STACK * count);
    of_block = {};
    std::memset(of_warps, 0, sizeof of_warps);
    for (unsigned i = 0; i < count; i++) {
        getcontext(&threads[i].start);
        threads[i].start.uc_stack.ss_sp = &stacks[STACK * i];
        threads[i].start.uc_stack.ss_size = STACK;
        makecontext(&threads[i].start, begin, 0);
    }
}

void run_until_it_waits(unsigned thread) {
    current = threadIdx.x = thread;
    if (_setjmp(scheduler) != 0) return;
    Thread &one = threads[thread];
    if (one.is_started) _longjmp(one.place, 1);
    one.is_started = true;
    setcontext(&one.start);
}

// Whether all threads of a block came to their end.
bool run_block(unsigned count, bool backwards) {
    start_threads(count);
    for (unsigned left = count; left;) {
        moved = false;
        left = 0;
        for (unsigned i = 0; i < count; i++) {
            const unsigned thread = backwards ? count - 1 - i : i;
            if (threads[thread].is_done) continue;
            run_until_it_waits(thread);
            left += !threads[thread].is_done;
        }
        if (!moved) return false;  // some wait for others who are gone
    }
    return true;
}

template <class Result> __attribute__((noinline)) Result rounded(int direction, Result (*compute)(Result, Result, Result), Result a, Result b, Result c) {
    fesetround(direction);
    const volatile Result result = compute(a, b, c);
    fesetround(FE_TONEAREST);
    return result;
}
float sum_of_two(float a, float b, float) {
    const volatile float x = a, y = b;
    return x + y;
}
float fused(float a, float b, float c) {
    const volatile float x = a, y = b, z = c;
    return __builtin_fmaf(x, y, z);
}

}  // namespace

#define __global__
#define __shared__ static
#define __launch_bounds__(...)
static void __syncthreads() { of_block.meet(blockDim.x); }
template <class T> T __shfl_down_sync(unsigned, T x, int by) {
    return exchange<T>(x, [by](unsigned lane) { return lane + by < WARP_SIZE ? lane + by : lane; });
}
template <class T> T __shfl_xor_sync(unsigned, T x, int by) {
    return exchange<T>(x, [by](unsigned lane) { return lane ^ by; });
}
template <class T> T __shfl_sync(unsigned, T x, int from) {
    return exchange<T>(x, [from](unsigned) { return unsigned(from); });
}
static bool __any_sync(unsigned mask, bool x) {
    int any = x;
    for (int half = WARP_SIZE / 2; half; half /= 2) any |= __shfl_xor_sync(mask, any, half);
    return any;
}
template <class T> void atomicAdd(T *sum, T x) { *sum += x; }
static float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static float __fmaf_ru(float a, float b, float c) { return rounded(FE_UPWARD, fused, a, b, c); }
static float __fadd_rz(float a, float b) { return rounded(FE_TOWARDZERO, sum_of_two, a, b, 0.0f); }
static float __fadd_rd(float a, float b) { return rounded(FE_DOWNWARD, sum_of_two, a, b, 0.0f); }
static float __frcp_rn(float a) { return 1 / a; }
static float __fdiv_rn(float a, float b) { return a / b; }
static float __fsqrt_rn(float a) { return std::sqrt(a); }
static double __dsqrt_rn(double a) { return std::sqrt(a); }

#include "cuda.cu"

char *las::gpu::shared_memory() {
    const size_t address = reinterpret_cast<size_t>(dynamic_memory.data());
    return reinterpret_cast<char *>((address + 15) / 16 * 16);
}

// Returns whether all threads came to their end.
extern "C" int launch(void (*kernel)(const void *), unsigned blocks, unsigned threads_of_block, unsigned shared_bytes,
                      const void *parameter, int backwards) {
    gridDim.x = blocks;
    blockDim.x = threads_of_block;
    dynamic_memory.assign(shared_bytes + 16, char(0x5a));
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        body = [=] { kernel(parameter); };
        if (!run_block(threads_of_block, backwards)) return 0;
    }
    return 1;
}
