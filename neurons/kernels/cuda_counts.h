// Counting in a block: each thread adds up what it finds, a block adds once to memory.
#pragma once

#include "cuda_elements.h"

namespace las::gpu {

constexpr unsigned WARP = 32, ALL_OF_WARP = 0xffffffffu;

// What a thread counts.
struct Found {
    unsigned spikes, outliers, beyond;
};

LAS_INLINE unsigned sum_over_warp(unsigned count) {
    for (int offset = WARP / 2; offset; offset /= 2) count += __shfl_xor_sync(ALL_OF_WARP, count, offset);
    return count;
}

LAS_INLINE void add_to(Index &sum, unsigned count) {
    if (count) atomicAdd(reinterpret_cast<unsigned long long *>(&sum), (unsigned long long)count);  // there is no signed one
}

// Of what is rarely found: called by all threads of a warp, the first of which adds.
LAS_INLINE void add_rare(Index &sum, unsigned count) {
    if (!__any_sync(ALL_OF_WARP, count)) return;
    count = sum_over_warp(count);
    if (threadIdx.x % WARP == 0) add_to(sum, count);
}

// Called by all threads of a block, once.
LAS_INLINE void add_up(Counts &counts, const Found &found) {
    __shared__ unsigned spikes, outliers, beyond;
    if (threadIdx.x == 0) spikes = outliers = beyond = 0;
    __syncthreads();
    const Found sums = {sum_over_warp(found.spikes), sum_over_warp(found.outliers), sum_over_warp(found.beyond)};
    if (threadIdx.x % WARP == 0) {
        if (sums.spikes) atomicAdd(&spikes, sums.spikes);
        if (sums.outliers) atomicAdd(&outliers, sums.outliers);
        if (sums.beyond) atomicAdd(&beyond, sums.beyond);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    add_to(counts.spikes, spikes);
    add_to(counts.outliers, outliers);
    add_to(counts.beyond, beyond);
}

}  // namespace las::gpu
