// Sums and largest values of rows on a GPU, in the order in which host_layers.h has them.
#pragma once

#include "cuda_counts.h"

namespace las::gpu {

constexpr int LANES = 16;  // of host_layers.h: sums that are added side by side
constexpr int MOST_WARPS = 32;

LAS_INLINE float root_of(float x) { return __fsqrt_rn(x); }
LAS_INLINE double root_of(double x) { return __dsqrt_rn(x); }

// The sum of numbers in shared memory; by a warp, all of whose threads return it.
template <class Real> LAS_INLINE Real sum_in_lanes(const Real *x, int count) {
    constexpr int AT_ONCE = 8;
    const int lane = threadIdx.x % WARP;
    Real sum = 0;
    if (lane < LANES) {
        int i = lane;
        for (; i + LANES * (AT_ONCE - 1) < count; i += LANES * AT_ONCE) {
            Real part[AT_ONCE];
            LAS_UNROLL for (int j = 0; j < AT_ONCE; j++) part[j] = x[i + LANES * j];
            LAS_UNROLL for (int j = 0; j < AT_ONCE; j++) sum += part[j];
        }
        for (; i < count; i += LANES) sum += x[i];
    }
    for (int half = LANES / 2; half; half /= 2) sum += __shfl_down_sync(ALL_OF_WARP, sum, half);
    return __shfl_sync(ALL_OF_WARP, sum, 0);
}

// The largest of a warp's numbers.
template <class Number> LAS_INLINE Number largest_of_warp(Number x) {
    for (int half = WARP / 2; half; half /= 2) {
        const Number other = __shfl_xor_sync(ALL_OF_WARP, x, half);
        x = other > x ? other : x;
    }
    return x;
}

// The largest of a block's numbers; `scratch` has room for one of each warp, and a barrier must come before its next use.
template <class Number> LAS_INLINE Number largest_of_block(Number x, Number *scratch) {
    x = largest_of_warp(x);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / WARP; warp++) x = scratch[warp] > x ? scratch[warp] : x;
    return x;
}

// Up to PACK values, `count` of which there are; in one piece where rows and packs fall together.
template <int PACK, class Element>
LAS_INLINE void read_some(const Element *from, int count, bool is_whole, RealFor<Element> *v) {
    if (is_whole) return unpack<PACK>(*reinterpret_cast<const Pack<Element, PACK> *>(from), v);
    LAS_EACH(i) v[i] = i < count ? value_of(from[i]) : RealFor<Element>(0);
}
template <int PACK, class Element>
LAS_INLINE void write_some(Element *to, int count, bool is_whole, const RealFor<Element> *v) {
    if (is_whole) return write_pack<PACK>(to, v);
    LAS_EACH(i) if (i < count) set(to[i], v[i]);
}

// Currents summed over their steps, in order.
template <int PACK, class Element>
LAS_INLINE void sum_some(const Element *from, Index steps, Index stride, int count, bool is_whole, RealFor<Element> *v) {
    if (is_whole) return sum_steps<PACK>(from, steps, stride, v);
    read_some<PACK>(from, count, false, v);
    for (Index t = 1; t < steps; t++) {
        RealFor<Element> step[PACK];
        read_some<PACK>(from + t * stride, count, false, step);
        LAS_EACH(i) v[i] += step[i];
    }
}

}  // namespace las::gpu
